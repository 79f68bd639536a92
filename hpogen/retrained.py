"""The documented path of `hpogen.study.retrained`."""

from hpogen.study.retrained import Choice, Retrained, Run, results

__all__ = ["Choice", "Retrained", "Run", "results"]
