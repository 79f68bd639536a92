"""The documented path of `hpogen.record.history`."""

from hpogen.record.history import History, Record, read

__all__ = ["History", "Record", "read"]
