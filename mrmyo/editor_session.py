"""One review in this kernel: checks what the browser asks for, changes the mask through its journal, tells every view.

A message is a dict with a ``kind`` and, of an edit, an ``op`` (a word that the browser makes up, so that one which was
sent twice is applied once) and the revision on which it is ``base``d. The answers are dicts with binary buffers; what
changed goes to all views, for a page may show the review twice.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from zlib import crc32

import numpy as np

from mrmyo import editor_tools as tools
from mrmyo.editor_t2 import LIMITS, T2Side, moved
from mrmyo.editor_targets import EditError, target
from mrmyo.journal import Journal, JournalError, check_belongs
from mrmyo.journal_screen import changed_runs, screen_affine, to_screen
from mrmyo.labels import is_muscle
from mrmyo.volume import GridError, Volume, same_grid

__all__ = ["DECISIONS", "Session", "image_hash", "open_session"]

DECISIONS = ("accepted", "rejected", "second reader", "open")
DRAWN = ("brush", "eraser", "polygon", "fill", "keys")  # tools whose voxels the browser finds
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
        self.reviewer, self.t2 = reviewer, t2
        self._base = to_screen(self.review.base)
        self._slices: list = [None] * len(self._base)
        self._seen: dict[str, dict] = {}  # what was answered to each op
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
            answer({"kind": "refused", "op": message.get("op"), "message": str(error),
                    "revision": self.review.revision} if isinstance(message, dict) else {"kind": "refused"}, [])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            answer({"kind": "refused", "op": message.get("op") if isinstance(message, dict) else None,
                    "message": f"Found a message that is none ({type(error).__name__}: {error}). Nothing was changed.",
                    "revision": self.review.revision}, [])

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
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(self.review.screen):
            raise EditError(f"Found the slice {value!r}; expected 0 to {len(self.review.screen) - 1}. "
                            "Nothing was changed.")
        return value

    def _slice(self, index):
        head = {"kind": "slice", "slice": index, "revision": self.review.revision}
        return head, [self.image[index].tobytes(), self.review.screen[index].tobytes()]

    def _t2_slice(self, message):
        if self.t2 is None:
            raise EditError("This review has no T2 map.")
        index = message["slice"]
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.t2.screen):
            raise EditError(f"Found the slice {index!r} of the T2 map; expected 0 to {len(self.t2.screen) - 1}.")
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
        if op in self._seen:  # its acknowledgement was lost: it counted already
            answer(self._seen[op], [])
            return
        if not isinstance(op, str) or not 0 < len(op) <= 64 or not isinstance(base, int):
            raise EditError("Found an edit without a word of its own or without the revision it is based on.")
        reviewer = self._reviewer(message)
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
        self._seen[op] = told
        for tell in list(self.views):
            tell(told, [np.ascontiguousarray(runs[:, [0, 1, 2, 4]], np.int32).tobytes()])

    def _reviewer(self, message):
        reviewer = str(message.get("reviewer", self.reviewer)).strip()
        if not 0 < len(reviewer) <= 40 or not reviewer.isprintable():
            raise EditError("Enter who you are (reviewer: a name or key of at most 40 characters); the journal keeps "
                            "who changed what. Nothing was changed.")
        return reviewer

    def _decision(self, message, base):
        if base != self.review.revision:
            raise EditError("The mask was changed elsewhere since this view last heard of it; look again, then decide.")
        decision, index = message["decision"], message.get("slice")
        if decision not in DECISIONS:
            raise EditError(f"Found the decision {decision!r}; expected one of {', '.join(DECISIONS)}.")
        comment = str(message.get("comment", ""))
        if len(comment) > 2000:
            raise EditError("The comment has more than 2000 characters.")
        return {"decision": decision, "slice": None if index is None else self._index(index), "comment": comment,
                "mask": self.review.version}

    def _change(self, tool, message, buffers, base):
        """What the journal is to hold of an edit; None where it changes nothing."""
        review = self.review
        if tool in ("undo", "redo"):
            if base != review.revision:
                raise EditError(f"The mask was changed elsewhere in the meantime; look again, then {tool}.")
            stack = review.done if tool == "undo" else review.undone
            return {"of": stack[-1]} if stack else None
        if tool == "nudge":
            return self._nudge(message)
        changed, label = self._use(tool, message, buffers)
        stale = [index for index in changed if review.touched[index] > base]
        if stale or base > review.revision:
            raise EditError(f"Slice {(stale or ['?'])[0]} was changed elsewhere since this view last heard of it. Your "
                            "edit was not applied; the slice as it is now is shown.")
        parts = [changed_runs(review.screen[index][None], new[None], first_slice=index)
                 for index, new in sorted(changed.items())]
        runs = np.concatenate([np.zeros((0, 5), np.int32), *parts])
        return {"label": label, "runs": runs} if runs.size else None

    def _nudge(self, message):
        if self.t2 is None:
            raise EditError("This review has no T2 map to move the mask on.")
        pose = [round(float(value), 4) for value in message["pose"]]
        if len(pose) != len(LIMITS) or not np.isfinite(pose).all() or (np.abs(pose) > LIMITS).any():
            raise EditError("Found a move of the mask beyond 30 mm or 15°: check that both series are of this patient. "
                            "Nothing was changed.")
        old = list(self.review.pose)
        if pose == old:
            return None
        return {"pose": [old, pose], "transform": moved(self.t2.transform, pose, self.t2.centre).tolist(),
                "runs": np.zeros((0, 5), np.int32)}

    def _use(self, tool, message, buffers):
        """The slices that a tool changes, and the label that the journal names."""
        screen = self.review.screen
        chosen = target(message["label"])
        options = {"only_empty": bool(message.get("only_empty", False))}
        if tool in DRAWN:
            index = self._index(message["slice"])
            where = self._where(buffers)
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
            around = message.get("around")
            return tools.relabel(screen, slices, chosen, into, around=around), f"{chosen.key} into {into.key}"
        if tool == "swap sides":
            return tools.swap_sides(screen, slices), chosen.key
        raise EditError(f"Found the tool {tool!r}, which the editor does not have. Nothing was changed.")

    def _where(self, buffers):
        """The voxels of a drawn message: pairs of start and length in one slice."""
        shape = self.review.screen.shape[1:]
        n = shape[0] * shape[1]
        if len(buffers) != 1 or len(bytes(buffers[0])) % 8:
            raise EditError("Found an edit without its voxels. Nothing was changed.")
        runs = np.frombuffer(buffers[0], np.uint32).reshape(-1, 2).astype(np.int64)
        if len(runs) > n or (runs[:, 0] + runs[:, 1] > n).any():
            raise EditError("Found an edit of voxels outside the slice. Nothing was changed.")
        where = np.zeros(n + 1, np.int32)
        np.add.at(where, runs[:, 0], 1)
        np.add.at(where, runs.sum(axis=1), -1)
        return (np.cumsum(where[:-1]) > 0).reshape(shape)

    def close(self) -> None:
        """End the session: the journal may then be written by another kernel."""
        self.journal.close()
        self.views.clear()
        _OPEN.pop(self.journal.path, None)


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
    low, high = _range(array)
    return np.round((np.nan_to_num(array, nan=low, posinf=high, neginf=low) - low) / (high - low) * 65535).astype("<u2")


def image_hash(volume: Volume) -> str:
    """A hash of voxels and place, by which a journal knows its image."""
    voxels = np.ascontiguousarray(volume.array, dtype=np.float32)
    return hashlib.sha256(voxels.tobytes() + np.round(volume.affine, 3).tobytes()).hexdigest()[:16]
