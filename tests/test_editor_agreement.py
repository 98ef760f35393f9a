"""Two readers of one mask: blind to each other until both have decided, then compared against numbers known here."""

from __future__ import annotations

import numpy as np
import pytest
from reviews import AFFINE, View, small_review

import mrmyo
from mrmyo.editor_session import Session
from mrmyo.journal import JournalError, replay
from mrmyo.labels import is_muscle
from mrmyo.lessons_review import simulated_reader
from mrmyo.t2 import T2Maps, fit_t2
from mrmyo.volume import Volume

SHAPE = (40, 30, 4)


@pytest.fixture()
def two(tmp_path):
    """Two reviews of one mask, the second with one more row of the left vastus lateralis."""
    image, labels = small_review(SHAPE)
    labels = labels.with_array(np.where(labels.array == 1, 1, 0).astype(np.uint8))
    labels.array[5:12, 5:15, 1] = 1
    views = [View(Session(image, labels, tmp_path / f"{name}.jsonl"), name) for name in ("A", "B")]
    yield labels, views
    for view in views:
        view.session.close()


def test_agreement_waits_until_both_have_decided(two):
    _, (one, other) = two
    paths = [view.session.journal.path for view in (one, other)]
    one.decide("accepted")
    with pytest.raises(JournalError, match="Reader 2 has not decided"):
        mrmyo.reader_agreement(*paths)
    where = np.zeros(one.session.review.screen.shape[1:], bool)
    where[3:6, 3:9] = True
    other.edit("brush", where, slice=2, label="1")
    other.decide("accepted")
    assert mrmyo.reader_agreement(*paths).iloc[-1].dice < 1
    other.edit("undo")
    with pytest.raises(JournalError, match="Reader 2 has not decided"):
        mrmyo.reader_agreement(*paths)
    other.reviewer = "A"
    other.decide("accepted")
    with pytest.raises(JournalError, match="A wrote in both"):
        mrmyo.reader_agreement(*paths)


def test_dice_and_t2_are_those_of_the_two_masks(two):
    labels, (one, other) = two
    where = np.zeros(one.session.review.screen.shape[1:], bool)
    where[10:13, 20:30] = True
    other.edit("brush", where, slice=1, label="1")
    for view in (one, other):
        view.decide("accepted")
    second = replay(other.session.journal.path).labels.array == 1
    first = labels.array == 1
    rng = np.random.default_rng(0)
    t2 = rng.uniform(30, 60, SHAPE).astype(np.float32)
    signal = np.exp(-np.array([10.0, 20, 30, 40]) / t2[..., None])
    maps = fit_t2(Volume(signal, AFFINE), (10, 20, 30, 40))
    assert isinstance(maps, T2Maps)
    row = mrmyo.reader_agreement(one.session.journal.path, other.session.journal.path, t2=maps).iloc[0]
    assert row.dice == pytest.approx(2 * (first & second).sum() / (first.sum() + second.sum()))
    assert row.delta_t2_ms == pytest.approx(t2[second].mean() - t2[first].mean(), abs=2e-3)
    assert row.volume_2_ml == pytest.approx(second.sum() * 1.5 * 2 * 8 / 1000)
    assert (row.reader_1, row.reader_2) == ("A", "B")


def test_reviews_of_different_masks_are_not_compared(two, tmp_path):
    labels, (one, _) = two
    image, _ = small_review(SHAPE)
    session = Session(image, labels.with_array(np.zeros_like(labels.array)), tmp_path / "C.jsonl")
    with pytest.raises(JournalError, match="same mask"):
        mrmyo.reader_agreement(one.session.journal.path, tmp_path / "C.jsonl")
    session.close()


def test_a_simulated_reader_draws_near_the_truth_and_is_called_simulated(tmp_path):
    x, y, _ = np.indices((80, 80, 3))
    truth = Volume(np.where(np.hypot(x - 40, y - 40) < 25, np.where(y > 40, 1, 9), 0).astype(np.uint8),
                   np.diag([-1.0, -1.0, 6.0, 1.0]))
    start = truth.with_array(np.where(np.hypot(x - 44, y - 40) < 20, 1, 0).astype(np.uint8))
    image = truth.with_array(truth.array.astype(np.float32))
    areas = {}
    for bias in (-1.0, 0.0, 1.0):
        session = Session(image, start, tmp_path / f"{bias}.jsonl")
        assert simulated_reader(session, truth, reviewer="A", seed=3, bias_mm=bias) >= 6
        review = session.review
        assert review.reviewers == ["simulated A"] and review.decision["decision"] == "accepted"
        areas[bias] = is_muscle(review.labels.array).sum() / is_muscle(truth.array).sum()
        session.close()
    assert areas[0.0] == pytest.approx(1, abs=0.03) and areas[-1.0] < 0.96 and areas[1.0] > 1.04
    found = replay(tmp_path / "0.0.jsonl").labels.array
    both = (found == 1) & (truth.array == 1)
    assert 0.9 < 2 * both.sum() / ((found == 1).sum() + (truth.array == 1).sum()) < 0.999
