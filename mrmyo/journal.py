"""The append-only record of a mask review: who changed which voxels of which slice, when, and with what tool.

One line of JSON an entry. The first line holds the mask that the review began with, so that the file alone gives every
later mask; each line carries a hash of all that stands before it, so that none can be changed, left out or exchanged
unnoticed. Undoing is an entry too. A last line that a crash cut short is set aside when the journal is next opened.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mrmyo.files import FolderInUseError, locked, replacing
from mrmyo.journal_review import JournalError, Review, mask_version
from mrmyo.journal_screen import pack, to_screen, unpack
from mrmyo.volume import Volume, same_grid

__all__ = [
    "FORMAT", "Journal", "JournalError", "Review", "check_belongs", "is_journal", "mask_version", "read_history",
    "replay",
]

FORMAT = "mrmyo mask review 1"
CHECK = ',"check":"'  # and 16 hexadecimal digits, a quotation mark and a brace end every line


def _begin(header) -> Review:
    """The review that a journal's first entry begins."""
    if header.get("format") != FORMAT:
        raise JournalError(f"Found a journal of the format {header.get('format')!r}; this mrmyo reads {FORMAT!r}.")
    base = Volume(unpack(header["mask"], np.uint8, header["shape"]), np.array(header["affine"]))
    screen = to_screen(base)
    return Review(header, base, screen, touched=[0] * len(screen))


def _seal(entry, before) -> bytes:
    """One line: an entry with a hash of itself and of all before it."""
    body = json.dumps(entry, separators=(",", ":"), ensure_ascii=True)
    check = hashlib.sha256((before + body).encode()).hexdigest()[:16]
    return f'{body[:-1]}{CHECK}{check}"}}\n'.encode()


def _open_seal(line: bytes, before):
    """The entry of one line and its hash; None where it is not whole."""
    try:
        body, _, check = line.decode("ascii").rpartition(CHECK)
        body += "}"
        if check == hashlib.sha256((before + body).encode()).hexdigest()[:16] + '"}':
            return json.loads(body), check[:16]
    except ValueError:
        pass
    return None


def _read(content: bytes):
    """Entries of a journal with the hash of the last, and how many bytes hold them; what follows is torn."""
    entries, check, length = [], "", 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        found = _open_seal(line, check)
        if found is None:
            if any(lines[number:]):
                raise JournalError(
                    f"Line {number} of the journal was changed, or one before it is missing; the {number - 1} entries "
                    "before it are intact. Bring back an unchanged copy, or begin another journal with the mask as you "
                    "have it."
                )
            break
        entries.append(found[0])
        check = found[1]
        length += len(line) + 1
    return entries, check, length


def replay(path, *, until: int | None = None) -> Review:
    """What a journal leads to, from the file alone, which is not changed.

    Parameters
    ----------
    path : path
    until : int, optional
        The last entry to count; all when None.

    Returns
    -------
    Review
        Its ``labels`` are the mask, ``decision`` what was decided on it, ``pose`` how it was moved on the T2 map.

    Raises
    ------
    JournalError
        When the file is no journal, or was changed.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise JournalError(f"The journal cannot be read: {error.strerror}.") from error
    return _replay(content, until)[0]


def _replay(content, until=None):
    entries, check, length = _read(content)
    if not entries:
        raise JournalError("Found no journal of a review in this file: its first line is not whole.")
    try:
        review = _begin(entries[0])
        for entry in entries[1:]:
            if until is not None and entry["seq"] > until:
                break
            review.apply(entry)
    except (KeyError, TypeError, IndexError) as error:
        raise JournalError(f"Found an entry in the journal that this mrmyo does not understand ({error!r}).") from error
    return review, check, length


def is_journal(path) -> bool:
    """Whether a file begins as a journal does; not for what is no file."""
    try:
        with open(path, "rb") as file:
            return file.read(20).startswith(b'{"seq":0,"format":')
    except (OSError, TypeError, ValueError):
        return False


def read_history(path):
    """What was done in a review: a table with a row for every entry.

    Returns
    -------
    pandas.DataFrame
        ``seq``, ``time`` (UTC), ``reviewer``, ``tool``, ``label``, ``slices``, ``n_voxels``, ``decision``, ``comment``
        and ``undone``, whether the entry does not count any more.
    """
    import pandas as pd

    content = Path(path).read_bytes()
    review, entries = _replay(content)[0], _read(content)[0]
    rows = [{"seq": entry["seq"], "time": entry["time"], "reviewer": entry["reviewer"], "tool": entry["tool"],
             "label": str(entry.get("label", "")), "slices": ", ".join(map(str, entry.get("slices", []))),
             "n_voxels": entry.get("n_voxels", 0), "decision": entry.get("decision", ""),
             "comment": entry.get("comment", ""),
             "undone": entry["seq"] in review.edits and entry["seq"] not in review.done} for entry in entries[1:]]
    return pd.DataFrame(rows, columns=["seq", "time", "reviewer", "tool", "label", "slices", "n_voxels", "decision",
                                       "comment", "undone"])


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
                begun = not self.path.exists() and self._begin_file(labels, image)
                stack.enter_context(locked(self.path))
                self._file = stack.enter_context(open(self.path, "r+b", buffering=0))
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
            content = self._file.read()
            if not begun and labels is not None and not _read(content)[0]:  # cut short before the first entry was whole
                self._set_aside(content, 0)
                content = self._first_line(labels, image)
                self._write(content)
            self.review, self._check, length = _replay(content)
            check_belongs(self.review, labels, image)
            if length < len(content):
                self._set_aside(content[length:], length)
            elif length > len(content):  # the last line is whole but for its end
                self._file.seek(len(content))
                self._write(b"\n")
            self._length = length
            self._file.seek(length)
            self._stack = stack.pop_all()

    def _first_line(self, labels, image):
        if labels is None:
            raise JournalError("Found no journal and no mask to begin one with; pass labels.")
        header = {"seq": 0, "format": FORMAT, "time": _now(), "id": secrets.token_hex(6), "image": image,
                  "shape": list(labels.shape), "affine": np.asarray(labels.affine).tolist(),
                  "mask": pack(np.asarray(labels.array, np.uint8))}
        return _seal(header, "")

    def _begin_file(self, labels, image):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = self._first_line(labels, image)
        with replacing(self.path) as partial:
            partial.write_bytes(line)
        return True

    def _set_aside(self, torn, length):
        """Keep what a crash left of a line beside the journal, and cut it off."""
        if torn:
            self.recovered = self.path.with_name(f"{self.path.name}.torn-{int(time.time())}-{secrets.token_hex(2)}")
            self.recovered.write_bytes(torn)
        self._file.truncate(length)
        self._file.seek(length)

    def _write(self, line):
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file.fileno())

    def append(self, tool: str, reviewer: str, **facts) -> tuple[dict, np.ndarray]:
        """Write one entry to the disk and then let it count.

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
        line = _seal(entry, self._check)
        try:
            self._write(line)
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            with suppress(OSError, ValueError):
                self._file.truncate(self._length)
                self._file.seek(self._length)
            raise JournalError(
                f"This could not be saved: {getattr(error, 'strerror', None) or error}. It was not applied; the mask "
                "is as it was."
            ) from error
        try:
            changed = self.review.apply(entry)
        except JournalError:  # never written by the tools; the file must not hold it either
            self._file.truncate(self._length)
            self._file.seek(self._length)
            raise
        self._length += len(line)
        self._check = line[-19:-3].decode()
        return entry, changed

    def close(self) -> None:
        """Let go of the file; another kernel may then write to it."""
        self._stack.close()


def check_belongs(review: Review, labels: Volume | None, image: str) -> None:
    """Refuse an image or a mask (None: any) that a journal was not begun on.

    Raises
    ------
    JournalError
    """
    if image and review.header["image"] and image != review.header["image"]:
        raise JournalError(
            "This journal was begun on another image. Give it that image, or give another path for the journal of this "
            "one; nothing was changed."
        )
    if labels is None:
        return
    if not same_grid(labels, review.base):
        raise JournalError(
            f"This journal was begun on a mask of {review.base.shape} voxels at another place or in another order; "
            f"found one of {labels.shape}. Give another path for its journal; nothing was changed."
        )
    if mask_version(labels.array) not in (mask_version(review.base.array), review.version):
        raise JournalError(
            "This journal was begun on another mask of this image. To go on with the journal, pass the mask it began "
            "with, or labels=None; to correct this mask, give another path for its journal. Nothing was changed."
        )


def _now():
    return datetime.now(UTC).isoformat(timespec="milliseconds")
