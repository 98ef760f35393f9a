"""Small masks to review, and a view without a browser, for the tests of journal and editor."""

from __future__ import annotations

import secrets

import numpy as np

from mrmyo.editor_session import Session
from mrmyo.journal_screen import runs_where
from mrmyo.volume import Volume

AFFINE = np.array([[-1.5, 0, 0, 20], [0, -2, 0, 30], [0, 0, 8, -40], [0, 0, 0, 1.0]])  # stored as LPS


def small_review(shape=(9, 7, 4), seed=0):
    """An image and labels of both sides on one grid."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    half = shape[0] // 2
    labels[1:half, 1:-1] = rng.choice([1, 2, 9], (half - 1, shape[1] - 2, shape[2]))
    labels[half:-1, 1:-1] = rng.choice([21, 22, 29, 52], (shape[0] - half - 1, shape[1] - 2, shape[2]))
    image = Volume(rng.uniform(0, 900, shape).astype(np.float32), AFFINE)
    return image, image.with_array(labels)


class View:
    """What a browser would send to a session and what came back."""

    def __init__(self, session: Session, reviewer="R1"):
        self.session, self.reviewer, self.answers, self.changes = session, reviewer, [], []
        self.count = 0
        session.views.append(lambda told, buffers: self.changes.append((told, buffers)))

    def word(self):
        """A word of its own for an edit, as the browser makes one up."""
        self.count += 1
        return f"{self.count} {secrets.token_hex(4)}"

    def send(self, kind, buffers=(), **facts):
        """The answer to one message."""
        self.answers.clear()
        n = len(self.changes)
        self.session.handle({"kind": kind, **facts}, buffers, lambda told, parts: self.answers.append((told, parts)))
        return (self.changes[n:] or self.answers)[-1][0]

    def edit(self, tool, where=None, **facts):
        """An edit; `where` a boolean slice."""
        buffers = [] if where is None else [runs_where(where).astype(np.uint32).tobytes()]
        usual = {"op": self.word(), "base": self.session.review.revision, "tool": tool, "reviewer": self.reviewer}
        return self.send("edit", buffers, **{**usual, **facts})

    def decide(self, decision, **facts):
        """A decision."""
        usual = {"op": self.word(), "base": self.session.review.revision, "reviewer": self.reviewer}
        return self.send("decide", decision=decision, **{**usual, **facts})
