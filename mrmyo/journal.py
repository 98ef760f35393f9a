"""The append-only record of a mask review: who changed which voxels of which slice, when, and with what tool.

One line of JSON an entry. The first line holds the mask that the review began with, so that the file alone gives every
later mask; each line carries a hash of all that stands before it, so that none can be changed, left out or exchanged
unnoticed. Undoing is an entry too. A last line that a crash cut short is set aside when the journal is next opened.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mrmyo.files import FolderInUseError, locked, replacing
from mrmyo.journal_reading import (
    FORMAT,
    START,
    check_belongs,
    image_hash,
    is_journal,
    read_entries,
    read_history,
    replay,
    replay_content,
    seal,
)
from mrmyo.journal_review import JournalError, Review, mask_version
from mrmyo.journal_screen import pack
from mrmyo.volume import Volume

__all__ = [
    "FORMAT", "Journal", "JournalError", "Review", "check_belongs", "image_hash", "is_journal", "mask_version",
    "read_history", "replay",
]


class Journal:
    """A journal that is being written; no other process can write to it meanwhile.

    Parameters
    ----------
    path : path
        Begun where there is no file; gone on with where there is one.
    labels : Volume, optional
        The mask to begin with. A journal that exists may go on with that, or with the mask it led to, or without.
    image : str
        A hash of the image that the mask belongs to; a journal is of one image.

    Attributes
    ----------
    review : Review
    recovered : pathlib.Path or None
        Where a torn last line was set aside.

    Raises
    ------
    JournalError
        When another kernel writes to the journal, it belongs to another mask or image, was changed, or cannot be
        written.
    """

    def __init__(self, path, labels: Volume | None = None, *, image: str = ""):
        self.path = Path(path).resolve()
        self.recovered = None
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(self._open(labels is not None))
                stack.enter_context(locked(self.path))
                if not self._in_place():  # somebody put another file there in this very moment
                    raise FolderInUseError
                content = self._begun(self._file.read(), labels, image)
            except FolderInUseError as error:
                raise JournalError(
                    "This journal is being written by another kernel. Shut that one down (or close its review), then "
                    "run this cell again; nothing was changed."
                ) from error
            except OSError as error:
                raise JournalError(
                    f"The journal {self.path.name} cannot be written: {error.strerror}. Without it no stroke would be "
                    "kept; give a path on a disk that can be written."
                ) from error
            self.review, self._check, length = replay_content(content)
            check_belongs(self.review, labels, image)
            if length < len(content):
                self._set_aside(content[length:], length)
            elif length > len(content):  # the last line is whole but for its end
                self._file.seek(len(content))
                self._write(b"\n")
            self._length = length
            self._stack = stack.pop_all()

    def _open(self, may_begin):
        """The file, made where there is none and a mask to begin with."""
        if may_begin:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        elif not self.path.exists():
            raise JournalError("Found no journal and no mask to begin one with; pass labels.")
        return os.fdopen(os.open(self.path, os.O_RDWR | (os.O_CREAT if may_begin else 0), 0o666), "r+b", buffering=0)

    def _in_place(self):
        """Whether the path still leads to the file that is open."""
        try:
            there, here = os.stat(self.path), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _begun(self, content, labels, image):
        """The content of the file; a new one where it is empty, or was cut short before the first entry was whole."""
        if labels is None or b"\n" in content or not START.startswith(content[:len(START)]) or read_entries(content)[0]:
            return content  # a file of another kind is left alone
        self._set_aside(content, 0)
        header = {"seq": 0, "format": FORMAT, "time": _now(), "id": secrets.token_hex(6), "image": image,
                  "shape": list(labels.shape), "affine": np.asarray(labels.affine).tolist(),
                  "mask": pack(np.asarray(labels.array, np.uint8))}
        content = seal(header, "")
        try:
            self._write(content)
        except OSError:
            with suppress(OSError):
                self.path.unlink()
            raise
        return content

    def _set_aside(self, torn, length):
        """Keep what a crash left of a line beside the journal, and cut it off."""
        if torn:
            self.recovered = self.path.with_name(f"{self.path.name}.torn-{int(time.time())}-{secrets.token_hex(2)}")
            self.recovered.write_bytes(torn)
        self._rewind(length)

    def _rewind(self, length):
        self._file.truncate(length)
        self._file.seek(length)

    def _write(self, line):
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file.fileno())

    def append(self, tool: str, reviewer: str, **facts) -> tuple[dict, np.ndarray]:
        """Write one entry to the disk and then let it count. An interrupt waits until that is done.

        Parameters
        ----------
        tool : str
        reviewer : str
        **facts
            What else the entry holds; ``runs`` (an array in the order of `COLUMNS`) is packed into ``voxels``.

        Returns
        -------
        entry : dict
        runs : numpy.ndarray
            What `Review.apply` gives.

        Raises
        ------
        JournalError
            When the entry could not be written; it does not count then, and the journal is as before.
        """
        runs = facts.pop("runs", None)
        if runs is not None:
            facts |= {"slices": np.unique(runs[:, 0]).tolist(), "n_voxels": int(runs[:, 2].sum()),
                      "voxels": pack(np.asarray(runs, np.int32))}
        entry = {"seq": self.review.revision + 1, "time": _now(), "reviewer": reviewer, "tool": tool, **facts}
        line = seal(entry, self._check)
        with _uninterrupted():
            try:
                self._restore()
                self._rewind(self._length)  # what a write that failed may have left is no part of it
                self._write(line)
                changed = self.review.apply(entry)
            except (OSError, ValueError) as error:  # ValueError: the file is closed, or the entry does not follow
                with suppress(OSError, ValueError):
                    self._rewind(self._length)
                if isinstance(error, JournalError):
                    raise
                raise JournalError(
                    f"This could not be saved: {getattr(error, 'strerror', None) or error}. It was not applied; the "
                    "mask is as it was."
                ) from error
            self._length += len(line)
            self._check = line[-19:-3].decode()
        return entry, changed

    def _restore(self):
        """Bring the file back where somebody took it away while it was open: what was acknowledged is to be found."""
        if self._in_place():
            return
        self._file.seek(0)
        content = self._file.read(self._length)
        kept = self.path.with_name(f"{self.path.stem}.kept-{int(time.time())}{self.path.suffix}") \
            if self.path.exists() else self.path
        with replacing(kept) as partial:
            partial.write_bytes(content)
        if kept is not self.path:
            raise JournalError(
                f"Another file was put in the place of this journal. What was done so far is kept in {kept.name}; go "
                "on with that one, or move the other file away. The last edit was not applied."
            )
        self._file = self._stack.enter_context(self._open(False))
        self._stack.enter_context(locked(self.path))

    def close(self) -> None:
        """Let go of the file; another kernel may then write to it."""
        self._stack.close()


@contextmanager
def _uninterrupted():
    """Let an interrupt (the notebook's stop button) wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *_: waiting.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _now():
    return datetime.now(UTC).isoformat(timespec="milliseconds")
