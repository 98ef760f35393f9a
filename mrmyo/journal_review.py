"""Where a review of a mask stands: the mask, what can be undone and what was decided, entry by entry of its journal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from mrmyo.journal_screen import COLUMNS, apply_runs, from_screen, unpack
from mrmyo.volume import Volume

__all__ = ["POSE", "JournalError", "Review", "mask_version"]

POSE = ("right_mm", "anterior_mm", "superior_mm", "turn_deg")  # how the mask was moved on the T2 map by hand


class JournalError(ValueError):
    """A journal that cannot be read, written or applied."""


def mask_version(labels) -> str:
    """A hash (16 hexadecimal digits) of a label array: the version of a mask that tables name."""
    return hashlib.sha256(np.ascontiguousarray(labels, dtype=np.uint8)).hexdigest()[:16]


@dataclass
class Review:
    """Where a review stands after some entries of its journal.

    Attributes
    ----------
    header : dict
        The journal's first entry.
    base : Volume
        The mask that the review began with.
    screen : numpy.ndarray
        The mask now, in the order of `mrmyo.journal_screen`.
    pose : tuple of float
        How the mask was moved on the T2 map by hand, in the order of `POSE`.
    done, undone : list of int
        The entries that undo and redo come to next, last first out.
    revision : int
        The number of the last entry.
    changed : int
        The number of the last entry that changed the mask or the pose.
    posed : int
        The number of the last entry that changed the pose.
    touched : list of int
        For every slice the number of the last entry that changed it.
    decisions : dict
        The last decision on each slice, and on the whole study under None.
    reviewers : list of str
        Who changed or decided anything, in order of first appearance.
    """

    header: dict
    base: Volume
    screen: np.ndarray
    pose: tuple = (0.0,) * len(POSE)
    done: list = field(default_factory=list)
    undone: list = field(default_factory=list)
    revision: int = 0
    changed: int = 0
    posed: int = 0
    touched: list = field(default_factory=list)
    decisions: dict = field(default_factory=dict)
    reviewers: list = field(default_factory=list)
    ops: dict = field(default_factory=dict)  # the browser's word for an edit: its entry number
    edits: dict = field(default_factory=dict)  # entry number: its runs, its poses and its transform

    @property
    def labels(self) -> Volume:
        """The mask now, on its own grid."""
        return from_screen(self.screen, self.base)

    @property
    def version(self) -> str:
        """The version of the mask now, as `mask_version` gives it."""
        return mask_version(self.labels.array)

    @property
    def decision(self) -> dict:
        """The last decision on the study, with ``stands``: whether nothing was changed since."""
        last = self.decisions.get(None, {"decision": "open", "reviewer": "", "comment": "", "seq": 0})
        return {**last, "stands": last["seq"] > self.changed}

    @property
    def transform(self) -> list | None:
        """The alignment with the mask as it was moved by hand, as `mrmyo.align` takes it; None where it was not."""
        return self._move(0) if any(self.pose) else None

    @property
    def before_hand(self) -> list | None:
        """The alignment that the mask was moved from by hand; None where it never was."""
        return self._move(1)

    def _move(self, which):
        moves = [self.edits[seq][2][which] for seq in self.edits if self.edits[seq][1] and (which or seq in self.done)]
        return moves[-1] if moves else None

    def apply(self, entry: dict) -> np.ndarray:
        """Take one entry in; gives the runs of voxels that it changed (`COLUMNS`), with their values before and after.

        Raises
        ------
        JournalError
            When the entry does not follow from what stands before it; nothing is changed then.
        """
        tool, seq = entry["tool"], entry["seq"]
        if seq != self.revision + 1:
            raise JournalError(f"Found entry {seq} after entry {self.revision} of a journal.")
        runs = np.zeros((0, len(COLUMNS)), np.int32)
        if tool in ("undo", "redo"):
            runs = self._turn(tool, entry.get("of"))
            self.changed = seq
        elif tool == "decide":
            told = {key: entry[key] for key in ("decision", "reviewer", "comment", "time", "seq")}
            self.decisions[entry["slice"]] = told
        else:
            runs = unpack(entry["voxels"], np.int32, (-1, len(COLUMNS)))
            poses = [tuple(pose) for pose in entry.get("pose", ())]
            self._change(runs, poses, backwards=False)
            self.edits[seq] = runs, poses, (entry.get("transform"), entry.get("before_hand"))
            self.posed = seq if poses else self.posed
            self.done.append(seq)
            self.undone.clear()
            self.changed = seq
        self.revision = seq
        for index in np.unique(runs[:, 0]):
            self.touched[index] = seq
        if "op" in entry:
            self.ops[entry["op"]] = seq
        if entry["reviewer"] not in self.reviewers:
            self.reviewers.append(entry["reviewer"])
        return runs

    def _turn(self, tool, of):
        """Undo or redo one entry."""
        here, there = (self.done, self.undone) if tool == "undo" else (self.undone, self.done)
        if not here or here[-1] != of:
            raise JournalError(f"Found the entry {of} to {tool}; expected {here[-1] if here else 'none'}.")
        runs, poses, _ = self.edits[of]
        self.posed = self.revision + 1 if poses else self.posed
        self._change(runs, poses, backwards=tool == "undo")
        there.append(here.pop())
        return runs[:, [0, 1, 2, 4, 3]] if tool == "undo" else runs

    def _change(self, runs, poses, backwards):
        try:
            apply_runs(self.screen, runs, backwards=backwards)
        except ValueError as error:
            raise JournalError(str(error)) from error
        if poses:
            self.pose = poses[0] if backwards else poses[1]
