"""Files that are complete or absent: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["FolderInUseError", "is_full", "locked", "remove_leftovers", "replacing", "reserved"]

PARTIAL = ".partial-"  # every temporary name begins so; what a kill leaves behind is known by it


class FolderInUseError(ValueError):
    """A folder that another run is writing to."""


@contextmanager
def replacing(path, *, private: bool = False) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` when the block ends well and vanishes otherwise.

    Parameters
    ----------
    path : path
    private : bool
        Readable by its owner alone, from the first byte.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}")
    try:
        if private:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())  # a full disk may tell only now
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def remove_leftovers(folder, *, deep: bool = False) -> None:
    """Remove what a killed run left under temporary names; only where no other run is at work."""
    folder = Path(folder)
    for path in list(folder.rglob(f"{PARTIAL}*") if deep else folder.glob(f"{PARTIAL}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def reserved(folder, size: int) -> Iterator[Callable]:
    """Hold room on a disk, so that what has to be written in the end can be, however full it gets meanwhile.

    Gives the function that sets the room free; a disk that is too full already is an OSError at once.
    """
    path = Path(folder) / f"{PARTIAL}{secrets.token_hex(4)}-room"
    try:
        with open(path, "wb") as file:
            for _ in range(0, size, 4096):
                file.write(b"\1" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield lambda: path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def locked(folder, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a folder for oneself; the operating system lets go of it when the process ends, however it ends.

    Parameters
    ----------
    folder : path
    patience_s : float
        How long to wait for another run that holds it.

    Raises
    ------
    FolderInUseError
        When another run holds the folder all that time.
    """
    try:
        import fcntl
    except ImportError:  # Windows: there one has to take care oneself
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise FolderInUseError(
                        "Another run of mrmyo is writing to this output folder; wait until it ends, or stop it."
                    ) from None
                time.sleep(0.2)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a process that was forked meanwhile would hold it on
        os.close(handle)


def is_full(error: BaseException) -> bool:
    """Whether an error says that there was no room to write: disk full, quota or limit of file size reached."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
