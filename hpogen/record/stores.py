"""Where the files of a trial are kept: a folder, or any place that fsspec reaches (`s3://…`).

Names in, bytes out; a file is there whole or not at all. Checkpoints are kept in one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from hpogen.errors import UserError, shortened, text_of
from hpogen.record.lock import Owner

PROBE = "hpogen-probe"
WITHOUT_FOLDERS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "oss", "oci")
"""Where making a folder would make a bucket, which nobody asked for."""


def checkpoint_prefix(study: str) -> str:
    """How the names of a study's checkpoints begin; those of a study without id have none in it."""
    return f"checkpoint-{study}-" if study else "checkpoint-"


class Store(Protocol):
    """Raises OSError, or what the place's own library raises, where it cannot be reached."""

    def names(self) -> list[str]:
        """The files that are there, sorted; none where there is no such place yet."""
        ...

    def write(self, name: str, data: bytes | memoryview) -> None: ...

    def read(self, name: str) -> bytes: ...

    def delete(self, name: str) -> None:
        """Nothing happens where there is no such file."""
        ...


class Folder:
    """A folder of this machine's file system; made when needed in one that is there.

    So nothing is written where a study's folder has been deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner = Owner(path)

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.glob("*"))

    def write(self, name: str, data: bytes | memoryview) -> None:
        self._owner.check()
        self._path.mkdir(exist_ok=True)
        temporary = self._path / f"{name}.{os.uname().nodename}-{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path / name)
        except BaseException:
            temporary.unlink(missing_ok=True)  # it may be what fills the disk
            raise

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


class Remote:
    """A place with a URL. An object store writes a file whole or not at all, others may not."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files: Any
        self._files, path = url_to_fs(url, use_listings_cache=False)
        self._path: str = str(path).rstrip("/")
        self._owner = Owner(url)
        self._has_folders = url.partition("://")[0] not in WITHOUT_FOLDERS

    def names(self) -> list[str]:
        try:
            found = self._files.ls(self._path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def write(self, name: str, data: bytes | memoryview) -> None:
        self._owner.check()
        if self._has_folders:
            self._files.makedirs(self._path, exist_ok=True)
        self._files.pipe_file(f"{self._path}/{name}", bytes(data))

    def read(self, name: str) -> bytes:
        data: bytes = self._files.cat_file(f"{self._path}/{name}")
        return data

    def delete(self, name: str) -> None:
        try:
            self._files.rm_file(f"{self._path}/{name}")
        except FileNotFoundError:
            return


def is_url(place: str) -> bool:
    return "://" in place


def store_at(place: str) -> Store:
    """The store of a URL, or of a folder's path."""
    return Remote(place) if is_url(place) else Folder(Path(place))


def check_writable(place: str) -> None:
    """Raise UserError, one line, where no file can be written."""
    try:
        if not is_url(place):
            Path(place).mkdir(parents=True, exist_ok=True)
        store, probe = store_at(place), f"{PROBE}-{os.uname().nodename}-{os.getpid()}"
        store.write(probe, b"hpogen")  # other studies may look at the same place now
        found = store.read(probe)
        store.delete(probe)
    except Exception as error:  # each of fsspec's file systems raises its own
        raise UserError(f"cannot be written: {shortened(text_of(error))}") from error
    if found != b"hpogen":
        raise UserError("what is written there does not come back")
