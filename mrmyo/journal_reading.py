"""Reading the journal of a review: its lines, what they lead to, and whether they are still what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from mrmyo.journal_review import JournalError, Review, mask_version
from mrmyo.journal_screen import to_screen, unpack
from mrmyo.volume import Volume, same_grid

__all__ = [
    "FORMAT", "check_belongs", "image_hash", "is_journal", "read_entries", "read_history", "replay", "replay_content",
    "seal",
]

FORMAT = "mrmyo mask review 1"
CHECK = ',"check":"'  # and 16 hexadecimal digits, a quotation mark and a brace end every line
START = b'{"seq":0,"format":'


def _begin(header) -> Review:
    """The review that a journal's first entry begins."""
    if header.get("format") != FORMAT:
        raise JournalError(f"Found a journal of the format {header.get('format')!r}; this mrmyo reads {FORMAT!r}.")
    base = Volume(unpack(header["mask"], np.uint8, header["shape"]), np.array(header["affine"]))
    screen = to_screen(base)
    return Review(header, base, screen, touched=[0] * len(screen))


def seal(entry: dict, before: str) -> bytes:
    """One line: an entry with a hash of itself and, by the hash of the line before, of all before it."""
    body = json.dumps(entry, separators=(",", ":"), ensure_ascii=True)
    check = hashlib.sha256((before + body).encode()).hexdigest()[:16]
    return f'{body[:-1]}{CHECK}{check}"}}\n'.encode()


def _open(line: bytes, before):
    """The entry of one line and its hash; None where it is not whole."""
    try:
        body, _, check = line.decode("ascii").rpartition(CHECK)
        body += "}"
        if check == hashlib.sha256((before + body).encode()).hexdigest()[:16] + '"}':
            return json.loads(body), check[:16]
    except ValueError:
        pass
    return None


def read_entries(content: bytes) -> tuple[list[dict], str, int]:
    """Entries of a journal, the hash of the last, and how many bytes hold them (one more than there are where only the
    end of the last line is missing); what follows is torn.

    Raises
    ------
    JournalError
        When a line that was once whole is not what was written.
    """
    entries, check, length = [], "", 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        found = _open(line, check)
        if found is None:
            if number == 1 and not START.startswith(line[:len(START)]):
                raise JournalError("Found no journal of a review in this file: it begins otherwise.")
            if number < len(lines):  # it has its end, so no crash cut it short
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
    return replay_content(content, until)[0]


def replay_content(content: bytes, until: int | None = None) -> tuple[Review, str, int]:
    """As `replay`, of bytes, with what `read_entries` tells of the last line."""
    entries, check, length = read_entries(content)
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
            return file.read(len(START)) == START
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
    review, entries = replay_content(content)[0], read_entries(content)[0]
    rows = [{"seq": entry["seq"], "time": entry["time"], "reviewer": entry["reviewer"], "tool": entry["tool"],
             "label": str(entry.get("label", "")), "slices": ", ".join(map(str, entry.get("slices", []))),
             "n_voxels": entry.get("n_voxels", 0), "decision": entry.get("decision", ""),
             "comment": entry.get("comment", ""),
             "undone": entry["seq"] in review.edits and entry["seq"] not in review.done} for entry in entries[1:]]
    return pd.DataFrame(rows, columns=["seq", "time", "reviewer", "tool", "label", "slices", "n_voxels", "decision",
                                       "comment", "undone"])


def check_belongs(review: Review, labels: Volume | None, image: str) -> None:
    """Refuse an image or a mask (None: any) that a journal was not begun on.

    Raises
    ------
    JournalError
    """
    if image and review.header["image"] not in ("", image):
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


def image_hash(volume: Volume) -> str:
    """A hash of an image's voxels, whatever the order of its axes, by which a journal knows its image."""
    return hashlib.sha256(to_screen(volume).astype("<f4").tobytes()).hexdigest()[:16]
