"""One review in this kernel: checks what the browser asks for, changes the mask through its journal, tells every view.

A message is a dict with a ``kind`` and, of an edit, an ``op`` (a word that the browser makes up, so that one which was
sent twice is applied once) and the revision on which it is ``base``d. The answers are dicts with binary buffers; what
changed goes to all views, for a page may show the review twice.
"""

from __future__ import annotations

import logging
from pathlib import Path
from zlib import crc32

import numpy as np

from mrmyo import editor_tools as tools
from mrmyo.editor_messages import check_comment, check_index, check_place, check_pose, check_reviewer, check_voxels
from mrmyo.editor_t2 import T2Side, moved
from mrmyo.editor_targets import EditError, target
from mrmyo.journal import Journal, JournalError, check_belongs, image_hash
from mrmyo.journal_screen import changed_runs, screen_affine, to_screen
from mrmyo.labels import is_muscle
from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["DECISIONS", "Session", "open_session"]

DECISIONS = ("accepted", "rejected", "second reader", "open")
DRAWN = ("brush", "eraser", "polygon", "fill")  # tools whose voxels the browser finds
_OPEN: dict[Path, Session] = {}  # a cell that is run again goes on with the session that it had opened


class Session:
    """A mask under review.

    Parameters
    ----------
    volume : Volume
        The image that the mask belongs to, 3-D.
    labels : Volume or None
        The mask to begin with, on the grid of the image.
    journal : path
    reviewer : str
        A name or key for the journal.
    t2 : T2Side, optional

    Raises
    ------
    GridError
        When image and mask are not on one grid.
    JournalError
        As `Journal` raises it.
    """

    def __init__(self, volume: Volume, labels: Volume | None, journal, reviewer: str = "", t2: T2Side | None = None):
        labels = _checked(volume, labels)
        self.image = _grey(to_screen(volume))
        self.image_range = _range(volume.array)
        self.affine = screen_affine(volume)
        self.journal = Journal(journal, labels, image=image_hash(volume))
        if not same_grid(volume, self.review.base):  # the hash of an image knows no place
            self.journal.close()
            raise GridError("This journal was begun on an image at another place, or of other voxels; nothing was "
                            "changed.")
        self.reviewer, self.t2 = reviewer, t2
        self._base = to_screen(self.review.base)
        self._slices: list = [None] * len(self._base)
        self._refused: dict[str, dict] = {}  # what was answered to an op that was refused
        self.views: list = []  # functions that take an answer and its buffers

    @property
    def review(self):
        """Where the review stands (`mrmyo.journal.Review`)."""
        return self.journal.review

    def handle(self, message: dict, buffers=(), answer=None) -> None:
        """Do what one message of a browser asks for.

        Parameters
        ----------
        message : dict
        buffers : sequence of bytes
        answer : callable
            Takes an answer (a dict) and its buffers; answers that are of interest to all views go to `views`.
        """
        kind = message.get("kind") if isinstance(message, dict) else None
        try:
            if kind == "hello":
                answer(self.state(), [])
            elif kind == "slices":
                for index in message["want"]:
                    answer(*self._slice(self._index(index)))
            elif kind == "t2":
                answer(*self._t2_slice(message))
            elif kind == "overlap":
                answer(*self._overlap())
            elif kind in ("edit", "decide"):
                self._edit(message, buffers, answer)
            else:
                raise EditError(f"Found a message of the kind {kind!r}.")
        except (EditError, JournalError, GridError) as error:
            answer(self._refusal(message, str(error)), [])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            words = f"Found a message that is none ({type(error).__name__}: {error}). Nothing was changed."
            answer(self._refusal(message, words), [])

    def _refusal(self, message, words):
        """The answer to a message that was refused; the same one, should it come again."""
        op = message.get("op") if isinstance(message, dict) else None
        told = {"kind": "refused", "op": op, "message": words, "revision": self.review.revision}
        if isinstance(op, str) and op not in self.review.ops:
            self._refused[op] = told
        return told

    def state(self) -> dict:
        """What a view has to know of the review, besides voxels."""
        review = self.review
        told = [self._told(index) for index in range(len(review.screen))]
        return {
            "kind": "state", "revision": review.revision, "edited": review.changed, "can_undo": bool(review.done),
            "can_redo": bool(review.undone), "reviewer": self.reviewer, "pose": list(review.pose),
            "changed": [index for index, (_, _, changed) in enumerate(told) if changed],
            "decision": review.decision, "slice_decisions": {
                str(index): {**told, "stands": told["seq"] > review.touched[index]}
                for index, told in review.decisions.items() if index is not None},
            "crc": [crc for _, crc, _ in told],
            "link": None if self.t2 is None else self.t2.from_structural(review.pose, self.affine).tolist(),
        }

    def _told(self, index):
        """The last entry that changed a slice, its checksum, and whether it differs from the first mask."""
        touched, here = self.review.touched[index], self.review.screen[index]
        if self._slices[index] is None or self._slices[index][0] != touched:
            self._slices[index] = touched, crc32(here), bool((here != self._base[index]).any())
        return self._slices[index]

    def _index(self, value) -> int:
        return check_index(value, len(self.review.screen))

    def _slice(self, index):
        head = {"kind": "slice", "slice": index, "revision": self.review.revision}
        return head, [self.image[index].tobytes(), self.review.screen[index].tobytes()]

    def _t2_slice(self, message):
        if self.t2 is None:
            raise EditError("This review has no T2 map.")
        index = check_index(message["slice"], len(self.t2.screen))
        labels = self.t2.slice_labels(self.review.screen, self.affine, index, self.review.pose)
        values = [self.t2.screen[index].tobytes()] if message.get("values", True) else []
        return {"kind": "t2", "slice": index, "revision": self.review.revision}, [labels.tobytes(), *values]

    def _overlap(self):
        if self.t2 is None:
            raise EditError("This review has no T2 map.")
        found = self.t2.overlap(self.t2.labels(self.review.labels, self.review.pose))
        return {"kind": "overlap", "revision": self.review.revision, **found}, []

    def _edit(self, message, buffers, answer):
        """Journal one edit or decision, let it count and tell all views."""
        op, base, review = message["op"], message["base"], self.review
        if not isinstance(op, str) or not 0 < len(op) <= 64 or not isinstance(base, int):
            raise EditError("Found an edit without a word of its own or without the revision it is based on.")
        if op in review.ops:  # its acknowledgement was lost: it counted already
            answer({**self.state(), "kind": "change", "op": op, "tool": "again", "slices": [], "n_voxels": 0}, [])
            return
        if op in self._refused:
            answer(self._refused[op], [])
            return
        reviewer = check_reviewer(message.get("reviewer", self.reviewer))
        if message["kind"] == "decide":
            facts, tool = self._decision(message, base), "decide"
        else:
            tool = message["tool"]
            facts = self._change(tool, message, buffers, base)
            if facts is None:
                answer({"kind": "nothing", "op": op, "revision": review.revision}, [])
                return
        entry, runs = self.journal.append(tool, reviewer, op=op, **facts)
        self.reviewer = reviewer
        told = {**self.state(), "kind": "change", "op": op, "tool": tool, "label": entry.get("label", ""),
                "slices": np.unique(runs[:, 0]).tolist(), "n_voxels": int(runs[:, 2].sum())}
        voxels = np.ascontiguousarray(runs[:, [0, 1, 2, 4]], np.int32).tobytes()
        for tell in list(self.views):
            try:
                tell(told, [voxels])
            except Exception:  # it counts, whatever keeps a view from hearing of it
                logging.getLogger(__name__).exception("A view of the review could not be told of entry %d.",
                                                      entry["seq"])

    def _decision(self, message, base):
        if base != self.review.revision:
            raise EditError("The mask was changed elsewhere since this view last heard of it; look again, then decide.")
        decision, index = message["decision"], message.get("slice")
        if decision not in DECISIONS:
            raise EditError(f"Found the decision {decision!r}; expected one of {', '.join(DECISIONS)}.")
        return {"decision": decision, "slice": None if index is None else self._index(index),
                "comment": check_comment(message.get("comment", "")), "mask": self.review.version}

    def _change(self, tool, message, buffers, base):
        """What the journal is to hold of an edit; None where it changes nothing."""
        review = self.review
        if tool in ("undo", "redo"):
            if base != review.revision:
                raise EditError(f"The mask was changed elsewhere in the meantime; look again, then {tool}.")
            stack = review.done if tool == "undo" else review.undone
            return {"of": stack[-1]} if stack else None
        if tool == "nudge":
            return self._nudge(message, base)
        changed, label = self._use(tool, message, buffers)
        looked_at = [self._index(message[name]) for name in ("source", "first", "last") if name in message]
        stale = [index for index in [*changed, *looked_at] if review.touched[index] > base]
        if stale or base > review.revision:
            raise EditError(f"Slice {(stale or ['?'])[0]} was changed elsewhere since this view last heard of it. Your "
                            "edit was not applied; the slice as it is now is shown.")
        parts = [changed_runs(review.screen[index][None], new[None], first_slice=index)
                 for index, new in sorted(changed.items())]
        runs = np.concatenate([np.zeros((0, 5), np.int32), *parts])
        return {"label": label, "runs": runs} if runs.size else None

    def _nudge(self, message, base):
        if self.t2 is None:
            raise EditError("This review has no T2 map to move the mask on.")
        if not self.review.posed <= base <= self.review.revision:
            raise EditError("The mask was moved elsewhere since this view last heard of it; look again, then move it.")
        pose = check_pose(message["pose"])
        old = list(self.review.pose)
        if pose == old:
            return None
        return {"pose": [old, pose], "before_hand": self.t2.transform.tolist(),
                "transform": moved(self.t2.transform, pose, self.t2.centre).tolist(),
                "runs": np.zeros((0, 5), np.int32)}

    def _use(self, tool, message, buffers):
        """The slices that a tool changes, and the label that the journal names."""
        screen = self.review.screen
        chosen = target(message["label"])
        options = {"only_empty": bool(message.get("only_empty", False))}
        if tool in DRAWN:
            index = self._index(message["slice"])
            where = check_voxels(buffers, screen.shape[1:])
            if message.get("erase", tool == "eraser"):
                return tools.erase(screen, index, where, chosen), chosen.key
            return tools.draw(screen, index, where, chosen, **options), chosen.key
        if tool == "interpolate":
            first, last = self._index(message["first"]), self._index(message["last"])
            return tools.interpolate(screen, first, last, chosen, **options), chosen.key
        slices = range(len(screen)) if message.get("everywhere") else [self._index(message["slice"])]
        if tool in ("grow", "shrink", "fill holes"):
            use = {"grow": tools.grow, "shrink": tools.shrink, "fill holes": tools.fill_holes}[tool]
            changed = {}
            for index in slices:
                if chosen.within(screen[index]).any():
                    changed |= use(screen, index, chosen)
            return changed, chosen.key
        if tool == "copy":
            return tools.copy_slice(screen, self._index(message["source"]), slices[0], chosen, **options), chosen.key
        if tool == "relabel":
            into = target(message["into"])
            around = check_place(message.get("around"), screen.shape[1:])
            return tools.relabel(screen, slices, chosen, into, around=around), f"{chosen.key} into {into.key}"
        if tool == "swap sides":
            return tools.swap_sides(screen, slices), chosen.key
        raise EditError(f"Found the tool {tool!r}, which the editor does not have. Nothing was changed.")

    def close(self) -> None:
        """End the session: the journal may then be written by another kernel."""
        self.journal.close()
        self.views.clear()
        if _OPEN.get(self.journal.path) is self:
            del _OPEN[self.journal.path]


def open_session(volume, labels, journal, reviewer="", t2=None) -> Session:
    """The session of a journal in this kernel: the one that is open, for this image and mask, or a new one."""
    path = Path(journal).resolve()
    found = _OPEN.get(path)
    if found is None:
        found = _OPEN[path] = Session(volume, labels, path, reviewer, t2)
        return found
    check_belongs(found.review, _checked(volume, labels), image_hash(volume))
    found.reviewer, found.t2 = reviewer or found.reviewer, t2 or found.t2
    return found


def _checked(volume, labels):
    """The mask as bytes, once it is sure that it fits the image."""
    if volume.array.ndim != 3:
        raise GridError(f"The image has 3 axes; found shape {volume.array.shape}. Take one echo first.")
    if labels is None:
        return None
    if not same_grid(labels, volume):
        raise GridError(
            f"The labels have shape {labels.shape}, the image {volume.shape}, or they lie apart; expected a mask drawn "
            "on this image. Carry it over first (mrmyo.align), or pass the image it was drawn on."
        )
    is_muscle(labels.array)  # refuses values that the table does not know
    return Volume(labels.array.astype(np.uint8), labels.affine)


def _range(array):
    """The values that the darkest and the brightest grey of an image stand for."""
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high if high > low else low + 1


def _grey(array):
    """An image as 16-bit grey between its extremes; what is not finite is black."""
    array = np.asarray(array, float)
    low, high = _range(array)
    return np.round((np.nan_to_num(array, nan=low, posinf=high, neginf=low) - low) / (high - low) * 65535).astype("<u2")
