"""The record of a review: it replays to the very mask, survives being cut anywhere, and cannot be changed unnoticed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reviews import AFFINE, View, small_review

from mrmyo.editor_session import Session
from mrmyo.journal import Journal, JournalError, mask_version, read_history, replay
from mrmyo.journal_screen import apply_runs, changed_runs, from_screen, screen_affine, slice_places, to_screen
from mrmyo.volume import GridError, Volume

ORDERS = ["RAS", "LPS", "LAI", "ASR", "SPL", "PIR"]


def stored_as(volume, code):
    """The same voxels at the same places in another order of axes, by nibabel."""
    image = nibabel.Nifti1Image(volume.array, volume.affine)
    now = nibabel.io_orientation(volume.affine)
    turn = nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(code))
    image = image.as_reoriented(turn)
    return Volume(np.asarray(image.dataobj), image.affine)


@pytest.mark.parametrize("code", ORDERS)
def test_the_screen_shows_the_same_however_the_file_is_ordered(code):
    volume = Volume(np.arange(7 * 5 * 3, dtype=np.int16).reshape(7, 5, 3), np.diag([1.5, 2, 6, 1]))  # R, A, S
    other = stored_as(volume, code)
    screen = to_screen(other)
    # radiological display: rows from front to back, columns from the patient's right to left, slices upwards
    np.testing.assert_array_equal(screen, volume.array.transpose(2, 1, 0)[:, ::-1, ::-1])
    np.testing.assert_array_equal(from_screen(screen, other).array, other.array)
    for place in [(0, 0, 0), (2, 3, 5), (1, 4, 6)]:
        (index,) = np.argwhere(volume.array == screen[place])
        np.testing.assert_allclose((screen_affine(other) @ [*place, 1])[:3], (volume.affine @ [*index, 1])[:3])
    axis, places = slice_places(other)
    for k, index in enumerate(places):
        assert set(other.array.take(index, axis).ravel()) == set(screen[k].ravel())


def test_coronal_slices_lie_upright():
    volume = Volume(np.arange(5 * 3 * 4).reshape(5, 3, 4), np.diag([1, 9, 1, 1]))
    np.testing.assert_array_equal(to_screen(volume)[1], volume.array[:, 1].T[::-1, ::-1])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_runs_lead_from_one_mask_to_the_other_and_back(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    draw = st.lists(st.integers(0, 2), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    old, new = (np.array(data.draw(draw), np.uint8).reshape(shape) for _ in range(2))
    runs, there = changed_runs(old, new), old.copy()
    assert runs[:, 2].sum() == (old != new).sum()
    apply_runs(there, runs)
    np.testing.assert_array_equal(there, new)
    apply_runs(there, runs, backwards=True)
    np.testing.assert_array_equal(there, old)


def test_runs_that_do_not_fit_change_nothing():
    mask = np.zeros((2, 3, 3), np.uint8)
    for runs in ([[2, 0, 1, 0, 1]], [[0, 8, 2, 0, 1]], [[0, -1, 1, 0, 1]]):
        with pytest.raises(ValueError, match="outside"):
            apply_runs(mask, np.array(runs))
    with pytest.raises(ValueError, match="does not hold"):
        apply_runs(mask, np.array([[0, 0, 1, 0, 1], [1, 0, 1, 5, 1]]))
    assert not mask.any()


STEPS = st.lists(st.one_of(
    st.tuples(st.just("draw"), st.integers(0, 3), st.integers(0, 62), st.integers(1, 12), st.sampled_from([1, 2, 29])),
    st.tuples(st.just("erase"), st.integers(0, 3), st.integers(0, 62), st.integers(1, 12), st.sampled_from([1, 9, 21])),
    st.just(("undo",)), st.just(("redo",)), st.just(("swap",)), st.tuples(st.just("nudge"), st.integers(-5, 5)),
), max_size=14)


@pytest.fixture(scope="module")
def quick_disk():
    """No waiting for the disk where nothing is killed: a thousand reviews in a reasonable time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_thousand_reviews_replay_undo_and_redo(steps, quick_disk, tmp_path_factory):
    image, labels = small_review()
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    session = Session(image, labels, path, "R1", t2=NoMap())
    view = View(session)
    masks, poses, at = [to_screen(labels)], [0.0], 0  # an independent record: whole masks
    for step in steps:
        mask, pose = masks[at].copy(), poses[at]
        if step[0] in ("undo", "redo"):
            at = min(max(at + (1 if step[0] == "redo" else -1), 0), len(masks) - 1)
            view.edit(step[0])
        else:
            if step[0] == "swap":
                pairs = {1: 21, 2: 22, 9: 29, 52: 51}
                both = pairs | {b: a for a, b in pairs.items()}
                mask = np.vectorize(lambda v, both=both: both.get(v, v), otypes=[np.uint8])(mask)
                view.edit("swap sides", label="any", slice=0, everywhere=True)
            elif step[0] == "nudge":
                pose = float(step[1])
                view.edit("nudge", pose=[pose, 0, 0, 0])
            else:
                tool, index, start, length, value = step
                where = np.zeros(63, bool)
                where[start:start + length] = True
                flat = mask[index].reshape(-1)
                flat[where if tool == "draw" else where & (flat == value)] = value if tool == "draw" else 0
                view.edit("brush" if tool == "draw" else "eraser", where, slice=index, label=str(value))
            if pose != poses[at] or (mask != masks[at]).any():
                masks, poses, at = [*masks[:at + 1], mask], [*poses[:at + 1], pose], at + 1
        np.testing.assert_array_equal(session.review.screen, masks[at])
        assert session.review.pose[0] == poses[at]
    session.close()
    again = replay(path)
    np.testing.assert_array_equal(again.screen, masks[at])
    assert again.pose[0] == poses[at] and len(again.done) == at and again.version == mask_version(again.labels.array)
    np.testing.assert_array_equal(replay(path, until=0).labels.array, labels.array)


class NoMap:
    """A T2 side that is not looked at."""

    transform, centre = np.eye(4), np.zeros(3)

    def from_structural(self, pose, affine):
        return np.eye(4)


@pytest.fixture()
def written(tmp_path):
    """A review of some edits: image, labels, journal and the mask after every entry."""
    image, labels = small_review()
    session = Session(image, labels, tmp_path / "j.jsonl", "R1")
    view, masks = View(session), [to_screen(labels)]
    for k in range(4):
        where = np.zeros((7, 9), bool)
        where[2:5, k:k + 3] = True
        view.edit("brush", where, slice=k, label="1")
        masks.append(session.review.screen.copy())
    view.edit("undo")
    masks.append(session.review.screen.copy())
    view.decide("accepted", comment="well")
    masks.append(masks[-1])
    session.close()
    return image, labels, tmp_path / "j.jsonl", masks


def test_cut_at_every_byte_a_journal_recovers(written, tmp_path):
    _, labels, path, masks = written
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        piece = tmp_path / "cut" / "j.jsonl"
        piece.parent.mkdir(exist_ok=True)
        piece.write_bytes(content[:cut])
        journal = Journal(piece, labels)
        whole = sum(cut >= end - 1 for end in ends)  # a line that lacks nothing but its end is whole
        np.testing.assert_array_equal(journal.review.screen, masks[max(whole - 1, 0)])
        torn = content[ends[whole - 1] if whole else 0:cut]
        assert (journal.recovered is not None) == bool(torn)
        if torn:
            assert journal.recovered.read_bytes() == torn  # nothing is thrown away
            journal.recovered.unlink()
        journal.append("decide", "R1", decision="open", slice=None, comment="")
        journal.close()
        assert replay(piece).revision == max(whole - 1, 0) + 1
        piece.unlink()


def test_what_was_changed_afterwards_is_noticed(written):
    *_, path, _ = written
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (
        [*lines[:2], lines[2].replace(b'"R1"', b'"R2"'), *lines[3:]], [*lines[:2], *lines[3:]],
        [*lines[:2], lines[3], lines[2], *lines[4:]],
    ):
        path.write_bytes(b"".join(changed))
        with pytest.raises(JournalError, match="Line 3 of the journal was changed"):
            replay(path)
    path.write_bytes(b"hello\n")
    with pytest.raises(JournalError, match="no journal"):
        replay(path)


def test_a_journal_belongs_to_one_image_and_one_mask(written):
    image, labels, path, masks = written
    brighter = image.with_array(image.array + 1)
    with pytest.raises(JournalError, match="another image"):
        Session(brighter, labels, path)
    with pytest.raises(JournalError, match="another mask"):
        Session(image, labels.with_array(np.zeros_like(labels.array)), path)
    with pytest.raises(JournalError, match="another place"):
        Journal(path, Volume(labels.array, AFFINE @ np.diag([1, 1, 2, 1])))
    elsewhere = Volume(image.array, AFFINE @ np.diag([1, 1, 2, 1]))  # the same voxels at another place
    with pytest.raises(GridError, match="another place"):
        Session(elsewhere, None, path)
    for mask in (labels, None, replay(path).labels):  # the first, the journal's own, the last
        session = Session(image, mask, path)
        np.testing.assert_array_equal(session.review.screen, masks[-1])
        session.close()
    with pytest.raises(JournalError, match="no mask to begin"):
        Journal(path.with_name("new.jsonl"))


def test_two_kernels_cannot_write_to_one_journal(written):
    _, labels, path, _ = written
    journal = Journal(path, labels)
    code = f"from mrmyo.journal import Journal\nJournal({str(path)!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode and "another kernel" in other.stderr
    journal.close()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_disk_that_cannot_be_written_loses_nothing(written, monkeypatch):
    image, labels, path, masks = written
    session = Session(image, labels, path)
    view, before = View(session), path.read_bytes()
    where = np.ones((7, 9), bool)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        told = view.edit("brush", where, slice=0, label="1")
    assert told["kind"] == "refused" and "No space left" in told["message"]
    np.testing.assert_array_equal(session.review.screen, masks[-1])
    assert path.read_bytes() == before
    assert view.edit("brush", where, slice=0, label="1")["kind"] == "change"  # there is room again
    session.close()
    assert (replay(path).screen[0] == 1).all()


def test_an_interrupt_during_a_stroke_waits_until_it_counts(written, monkeypatch):
    """Jupyter's stop button."""
    image, labels, path, _ = written
    session = Session(image, labels, path)
    view, revision, sync = View(session), session.review.revision, os.fsync

    def stopped(number):
        signal.raise_signal(signal.SIGINT)
        sync(number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", stopped)
        view.edit("brush", np.ones((7, 9), bool), slice=0, label="1", op="interrupted")
    told = view.edit("brush", np.ones((7, 9), bool), slice=0, label="1", op="interrupted")  # the browser asks again
    assert told["kind"] == "change" and told["revision"] == revision + 1
    assert view.edit("brush", np.ones((7, 9), bool), slice=1, label="1")["kind"] == "change"
    session.close()
    assert replay(path).revision == revision + 2 and (replay(path).screen[:2] == 1).all()


def test_what_a_failed_write_left_is_cut_off_before_the_next(written, monkeypatch):
    image, labels, path, _ = written
    session = Session(image, labels, path)
    view, revision, file = View(session), session.review.revision, session.journal._file

    class Broken:
        def write(self, line):
            return file.write(line[:20])

        def truncate(self, length):
            raise OSError(errno.EIO, "Input/output error")

        def __getattr__(self, name):
            return getattr(file, name)

    session.journal._file = Broken()
    for _ in range(2):
        assert view.edit("brush", np.ones((7, 9), bool), slice=0, label="1")["kind"] == "refused"
    session.journal._file = file
    file.write(b"what the broken disk left")
    assert view.edit("brush", np.ones((7, 9), bool), slice=0, label="1")["kind"] == "change"
    session.close()
    assert replay(path).revision == revision + 1


def test_a_journal_that_is_taken_away_while_it_is_open_comes_back(written):
    image, labels, path, _ = written
    session = Session(image, labels, path)
    view, revision = View(session), session.review.revision
    path.unlink()
    assert view.edit("brush", np.ones((7, 9), bool), slice=0, label="1")["kind"] == "change"
    assert replay(path).revision == revision + 1
    with pytest.raises(JournalError, match="another kernel"):
        Journal(path, labels)
    path.rename(path.with_name("moved.jsonl"))
    path.write_text("another file")
    told = view.edit("brush", np.ones((7, 9), bool), slice=1, label="1")
    assert told["kind"] == "refused" and "Another file was put" in told["message"]
    (kept,) = path.parent.glob("j.kept-*.jsonl")
    assert replay(kept).revision == revision + 1 and path.read_text() == "another file"
    session.close()


@pytest.mark.parametrize("content", [b'{"my": "settings"}\n', b"no end of line", b'{"seq":0,"format":"another"}\n'])
def test_a_file_of_another_kind_is_left_alone(content, tmp_path):
    image, labels = small_review()
    (tmp_path / "j.jsonl").write_bytes(content)
    with pytest.raises(JournalError, match=r"no journal|was changed"):
        Session(image, labels, tmp_path / "j.jsonl")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_a_last_line_that_was_altered_is_not_taken_for_torn(written):
    *_, path, _ = written
    path.write_bytes(path.read_bytes().replace(b'"accepted"', b'"rejected"'))
    with pytest.raises(JournalError, match="Line 7"):
        replay(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    image, labels = small_review()
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be written"):
        Session(image, labels, tmp_path / "file" / "j.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        Session(image, labels, tmp_path / "folder.jsonl")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="mounts a small disk, which only root may")
def test_a_disk_that_is_really_full_and_one_that_is_read_only(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount here")
    try:
        image, labels = small_review()
        session = Session(image, labels, disk / "j.jsonl", "R1")
        view, masks = View(session), [to_screen(labels)]
        rng = np.random.default_rng(0)
        for k in range(200):
            told = view.edit("brush", rng.random((7, 9)) > 0.5, slice=k % 4, label=str(rng.choice([1, 2, 21])))
            if told["kind"] == "refused":
                break
            masks.append(session.review.screen.copy())
        session.close()
        assert "No space left" in told["message"] and len(masks) > 5
        np.testing.assert_array_equal(replay(disk / "j.jsonl").screen, masks[-1])
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for name in ("j.jsonl", "new.jsonl"):  # to be read, not to be written
            with pytest.raises(JournalError, match=r"cannot be written: Read-only file system"):
                Session(image, labels, disk / name, "R1")
        np.testing.assert_array_equal(replay(disk / "j.jsonl").screen, masks[-1])
    finally:
        subprocess.run(["umount", str(disk)])


def test_the_history_is_a_table(written):
    *_, path, _ = written
    table = read_history(path)
    assert table.tool.tolist() == ["brush"] * 4 + ["undo", "decide"]
    assert table.undone.tolist() == [False, False, False, True, False, False]
    assert table.slices.tolist()[:4] == ["0", "1", "2", "3"] and (table.reviewer == "R1").all()
    assert table.decision.iloc[-1] == "accepted" and table.comment.iloc[-1] == "well"
    entries = [json.loads(line) for line in path.read_text().splitlines()]  # any program reads it
    assert [entry["seq"] for entry in entries] == list(range(7))
    assert replay(path).decision["stands"]
