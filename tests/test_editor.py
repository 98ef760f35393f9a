"""A session of review without a browser: what messages do, what is refused, what comes back to every view."""

from __future__ import annotations

import errno
import json
from zlib import crc32

import numpy as np
import pytest
from reviews import AFFINE, View, small_review

import mrmyo
from mrmyo.editor_session import Session
from mrmyo.editor_t2 import T2Side, moved
from mrmyo.journal import JournalError, replay
from mrmyo.journal_screen import to_screen
from mrmyo.labels import carry
from mrmyo.volume import GridError, Volume


@pytest.fixture()
def session(tmp_path):
    image, labels = small_review()
    made = Session(image, labels, tmp_path / "j.jsonl", "R1")
    yield made
    made.close()


WHERE = np.zeros((7, 9), bool)
WHERE[2:4, 3:6] = True


def test_a_stroke_is_answered_with_revision_checksum_and_voxels(session):
    view, other = View(session), View(session)
    told = view.edit("brush", WHERE, slice=1, label="12")
    assert told["kind"] == "change" and told["revision"] == 1 and told["slices"] == [1] and told["n_voxels"] == 6
    expected = to_screen(session.review.base)
    expected[1][WHERE] = 12
    np.testing.assert_array_equal(session.review.screen, expected)
    assert told["crc"] == [crc32(part) for part in expected] and told["changed"] == [1]
    assert other.changes[-1][0] is told  # a second view hears of it
    rows = np.frombuffer(other.changes[-1][1][0], np.int32).reshape(-1, 4)
    mirror = to_screen(session.review.base).reshape(4, -1)
    for index, start, length, new in rows:
        mirror[index, start:start + length] = new
    np.testing.assert_array_equal(mirror.reshape(expected.shape), expected)


def test_slices_come_as_16_bit_grey_and_labels(session):
    view = View(session)
    view.send("slices", want=[2, 0])
    (head, (grey, labels)), (second, _) = view.answers
    assert head["slice"] == 2 and second["slice"] == 0
    low, high = session.image_range
    image = np.frombuffer(grey, np.uint16).reshape(7, 9) / 65535 * (high - low) + low
    np.testing.assert_allclose(image, to_screen(small_review()[0])[2], atol=(high - low) / 65535)
    np.testing.assert_array_equal(np.frombuffer(labels, np.uint8).reshape(7, 9), session.review.screen[2])


def test_a_message_that_came_twice_counts_once(session):
    view = View(session)
    first = view.edit("brush", WHERE, slice=0, label="1", op="same")
    again = view.edit("brush", WHERE, slice=0, label="1", op="same")
    assert again["kind"] == "change" and again["op"] == "same" and again["crc"] == first["crc"]
    assert session.review.revision == 1
    view.edit("brush", WHERE, slice=1, label="12")
    assert view.edit("brush", WHERE, slice=0, label="1", op="same")["revision"] == 2  # what is so now, not what was


def test_an_op_is_known_again_after_the_kernel_was_restarted(tmp_path):
    image, labels = small_review()
    for _ in range(2):
        session = Session(image, labels, tmp_path / "j.jsonl", "R1")
        assert View(session).edit("brush", WHERE, slice=0, label="12", op="same", base=0)["kind"] == "change"
        assert session.review.revision == 1
        session.close()


def test_what_was_refused_stays_refused(session, monkeypatch):
    view = View(session)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        first = view.edit("brush", WHERE, slice=0, label="12", op="same")
    assert first["kind"] == "refused" and "No space" in first["message"]
    assert view.edit("brush", WHERE, slice=0, label="12", op="same") == first  # the copy that was still on its way
    assert session.review.revision == 0


def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_is_no_journal_is_told_and_left_alone(tmp_path):
    image, labels = small_review()
    t2 = image.with_array(np.full(image.shape, 40.0))
    path = tmp_path / "review.jsonl"
    path.write_text('{"my": "file"}\n')
    for mask in (None, labels):
        with pytest.raises(JournalError, match="no journal"):
            mrmyo.review(image, mask, path, t2=t2)
    assert path.read_text() == '{"my": "file"}\n'
    path.write_text("")  # a crash before the first line: nothing was acknowledged
    mrmyo.review(image, labels, path, t2=t2).close()
    assert replay(path).revision == 0


def test_a_view_that_cannot_be_told_harms_no_other(session, caplog):
    def deaf(told, buffers):
        raise ValueError("the comm is closed")

    session.views.append(deaf)
    view = View(session)
    assert view.edit("brush", WHERE, slice=0, label="12")["kind"] == "change" and "could not be told" in caplog.text
    assert replay(session.journal.path).revision == 1


def test_an_old_widget_takes_nothing_from_a_new_one(tmp_path):
    image, labels = small_review()
    path = tmp_path / "j.jsonl"
    first = mrmyo.review(image, labels, path, reviewer="R1")
    second = mrmyo.review(image, labels, path)
    first.close()
    assert View(second.session).edit("brush", WHERE, slice=0, label="12")["kind"] == "change"
    second.session.close()
    third = mrmyo.review(image, labels, path)
    first.session.close()  # an old session, closed once more
    assert mrmyo.review(image, labels, path).session is third.session
    third.session.close()


def test_a_move_by_hand_counts_once(tmp_path):
    """Measured with it, reopened with what was measured: it lies where it lay."""
    image, labels = small_review()
    t2, base = image.with_array(np.full(image.shape, 40.0)), np.eye(4)
    base[0, 3] = 0.75
    first = mrmyo.review(image, labels, tmp_path / "j.jsonl", reviewer="R1", t2=t2, transform=base)
    View(first.session).edit("nudge", pose=[2.0, 0, 0, 0])
    found = np.array(first.session.review.transform)
    assert found[0, 3] == pytest.approx(0.75 - 2)
    np.testing.assert_allclose(first.session.review.before_hand, base)
    first.close()
    again = mrmyo.review(image, None, tmp_path / "j.jsonl", t2=t2, transform=found)
    side = again.session.t2
    np.testing.assert_allclose(moved(side.transform, again.session.review.pose, side.centre), found)
    View(again.session).edit("nudge", pose=[2.5, 0, 0, 0])
    assert np.array(again.session.review.transform)[0, 3] == pytest.approx(0.75 - 2.5)
    again.close()


def test_moves_and_sources_that_are_stale_are_refused(tmp_path):
    image, labels = small_review()
    session = Session(image, labels, tmp_path / "j.jsonl", "R1", T2Side(image, labels))
    view = View(session)
    assert view.edit("nudge", pose=[1, 0, 0, 0])["kind"] == "change"
    for base in (0, -99, 10**6):
        assert view.edit("nudge", pose=[5, 0, 0, 0], base=base)["kind"] == "refused"
    for pose in ("1234", [1, 2, 3], [True, 0, 0, 0], [10**400, 0, 0, 0], None, [0, 0, 0, "1"]):
        assert view.edit("nudge", pose=pose)["kind"] == "refused"
    seen = session.review.revision
    view.edit("brush", WHERE, slice=0, label="12")
    assert view.edit("copy", label="12", source=0, slice=1, base=seen)["kind"] == "refused"
    assert view.edit("interpolate", label="12", first=0, last=2, base=seen)["kind"] == "refused"
    for place in ([-1, -1], [3], [0, 99], ["a", 0], [0.5, 1], 3):
        assert view.edit("relabel", label="12", into="13", slice=0, around=place)["kind"] == "refused"
    assert view.decide("accepted", comment="x\ud83d")["kind"] == "refused"
    session.close()


@pytest.mark.parametrize(("facts", "where", "words"), [
    ({"label": "77"}, WHERE, "label_table"), ({"label": "any"}, WHERE, "Choose a label"),
    ({"slice": 4}, WHERE, "0 to 3"), ({"slice": -1}, WHERE, "0 to 3"), ({"slice": True}, WHERE, "0 to 3"),
    ({"slice": "0; rm"}, WHERE, "0 to 3"), ({}, np.ones(64, bool), "outside the slice"),
    ({}, None, "without its voxels"), ({"tool": "magic"}, WHERE, "does not have"),
    ({"base": 7}, WHERE, "changed elsewhere"), ({"base": None}, WHERE, "base"), ({"op": ""}, WHERE, "word of its own"),
    ({"op": 3}, WHERE, "word of its own"), ({"reviewer": " "}, WHERE, "who you are"),
    ({"reviewer": "x" * 41}, WHERE, "who you are"), ({"reviewer": "a\nb"}, WHERE, "who you are"),
    ({"tool": "nudge", "pose": [1, 0, 0, 0]}, None, "no T2 map"), ({"tool": "copy", "source": 9}, None, "0 to 3"),
    ({"tool": "relabel", "into": "anterior"}, None, "single label"), ({"label": None}, WHERE, "label_table"),
    ({"tool": "relabel", "into": "2", "around": [99, 0]}, None, "row and column"),
])
def test_hostile_messages_are_refused_and_change_nothing(session, facts, where, words):
    view = View(session)
    before, content = session.review.screen.copy(), session.journal.path.read_bytes()
    told = view.edit(**{"tool": "brush", "where": where, "slice": 0, "label": "1", **facts})
    assert told["kind"] == "refused" and words in told["message"], told
    np.testing.assert_array_equal(session.review.screen, before)
    assert session.journal.path.read_bytes() == content
    assert view.edit("brush", WHERE, slice=0, label="1", op="good")["kind"] == "change"


def test_messages_that_are_none(session):
    answers = []
    for message in (None, 3, "x", [], {}, {"kind": "edit"}, {"kind": "slices"}, {"kind": "slices", "want": 5},
                    {"kind": "t2"}, {"kind": "overlap"}, {"kind": "decide", "op": "a", "base": 0},
                    {"kind": "slices", "want": [None]}):
        session.handle(message, [], lambda told, parts: answers.append(told))
        assert answers.pop()["kind"] == "refused" and session.review.revision == 0


def test_runs_that_wrap_around_are_refused(session):
    view = View(session)
    for runs in ([[2**32 - 1, 2]], [[0, 2**32 - 1]], [[62, 2]]):
        told = view.send("edit", [np.array(runs, np.uint32).tobytes()], op=str(runs), base=0, tool="brush", slice=0,
                         label="1")
        assert told["kind"] == "refused" and "outside" in told["message"]
    assert view.send("edit", [b"123"], op="x", base=0, tool="brush", slice=0, label="1")["kind"] == "refused"


def test_an_edit_on_what_another_view_changed_is_refused_and_other_slices_are_free(session):
    one, other = View(session), View(session)
    one.edit("brush", WHERE, slice=0, label="12", op="first")
    stale = other.edit("brush", WHERE, slice=0, label="11", op="second", base=0)
    assert stale["kind"] == "refused" and "changed elsewhere" in stale["message"]
    assert (session.review.screen[0][WHERE] == 12).all()
    assert other.edit("brush", WHERE, slice=1, label="11", op="third", base=0)["kind"] == "change"
    assert other.edit("undo", op="fourth", base=1)["kind"] == "refused"


def test_undo_and_redo_have_an_end(session):
    view = View(session)
    assert view.edit("undo")["kind"] == "nothing" and view.edit("redo")["kind"] == "nothing"
    view.edit("brush", WHERE, slice=0, label="12")
    assert view.edit("brush", WHERE, slice=0, label="12")["kind"] == "nothing"
    assert view.edit("undo")["can_redo"] and not view.edit("redo")["can_redo"]


def test_decisions_stand_until_something_changes(session):
    view = View(session)
    view.edit("brush", WHERE, slice=0, label="12")
    assert view.decide("accepted", base=0)["kind"] == "refused"  # not what this view has seen
    told = view.decide("accepted", comment="fine")
    found = told["decision"]
    assert (found["decision"], found["stands"], found["reviewer"], found["comment"]) == ("accepted", True, "R1", "fine")
    assert session.review.decision["stands"]
    view.decide("second reader", slice=2, comment="?")
    assert session.review.decision["stands"]  # a note on one slice changes no mask
    told = view.edit("undo")
    assert not told["decision"]["stands"] and told["slice_decisions"]["2"]["stands"]
    view.edit("brush", WHERE, slice=2, label="12")
    assert not session.state()["slice_decisions"]["2"]["stands"]
    assert view.decide("perhaps")["kind"] == "refused"
    assert view.decide("open", comment="x" * 2001)["kind"] == "refused"


def test_every_tool_goes_through_the_journal(session):
    view, path = View(session), session.journal.path
    for index in range(3):
        view.edit("eraser", np.ones((7, 9), bool), slice=index, label="any")
    view.edit("brush", WHERE, slice=0, label="12")
    for tool, facts in (("grow", {"label": "12"}), ("fill holes", {"label": "whole muscle"}),
                        ("shrink", {"label": "12"}),
                        ("copy", {"label": "12", "source": 0, "slice": 3}),
                        ("interpolate", {"label": "12", "first": 0, "last": 3}),
                        ("relabel", {"label": "12", "into": "13"}), ("swap sides", {"label": "any"}),
                        ("relabel", {"label": "whole muscle", "into": "12", "around": [3, 3]})):
        told = view.edit(tool, **({} if tool == "interpolate" else {"slice": 0}) | facts)
        assert told["kind"] == "change" or tool == "fill holes", (tool, told)
        np.testing.assert_array_equal(replay(path).screen, session.review.screen)


def test_labels_of_another_grid_or_with_unknown_values(tmp_path):
    image, labels = small_review()
    with pytest.raises(GridError, match="drawn on this image"):
        Session(image, Volume(labels.array[1:], AFFINE), tmp_path / "j.jsonl")
    with pytest.raises(GridError, match="one echo"):
        Session(Volume(np.zeros((9, 7, 4, 2)), AFFINE), labels, tmp_path / "j.jsonl")
    with pytest.raises(ValueError, match=r"\[99\]"):
        Session(image, labels.with_array(np.where(labels.array == 1, 99, 0)), tmp_path / "j.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_cell_that_is_run_again_goes_on_with_its_session(tmp_path):
    image, labels = small_review()
    first = mrmyo.review(image, labels, tmp_path / "j.jsonl", reviewer="R1")
    View(first.session).edit("brush", WHERE, slice=0, label="12")
    second = mrmyo.review(image, labels, tmp_path / "j.jsonl")
    assert second.session is first.session and (second.labels.array == 12).any() and second.session.reviewer == "R1"
    with pytest.raises(JournalError, match="another image"):
        mrmyo.review(image.with_array(image.array * 2), labels, tmp_path / "j.jsonl")
    second.close()
    again = mrmyo.review(image, None, tmp_path / "j.jsonl")
    assert (again.labels.array == 12).any() and len(again.history) == 1
    again.close()
    with pytest.raises(ValueError, match="journal"):
        mrmyo.review(image, labels)
    with pytest.raises(ValueError, match="pass labels"):
        mrmyo.review(image, journal=tmp_path / "none.jsonl")


def test_the_widget_holds_no_voxels_and_leaves_a_picture(tmp_path):
    image, labels = small_review((64, 48, 5))
    widget = mrmyo.review(image, labels, tmp_path / "j.jsonl", t2=image.with_array(np.full(image.shape, 40.0)))
    state = {key: value for key, value in widget.get_state().items() if not key.startswith("_")}
    assert len(json.dumps(state, default=str)) < 20_000
    data = widget._repr_mimebundle_()[0]
    assert data["image/png"].startswith("iVBOR") and "application/vnd.jupyter.widget-view+json" in data
    widget.close()


def test_a_pose_moves_the_mask_on_the_map_the_way_it_says():
    _, labels = small_review()
    grid = AFFINE @ np.diag([0.25, 0.25, 1, 1])
    grid[:3, 3] += 4.5, 5, 0  # room all around
    fine = Volume(np.zeros((60, 48, 4), np.float32), grid)
    side = T2Side(fine, labels)
    at_rest = np.argwhere(side.labels(labels, (0, 0, 0, 0)).array > 0) @ fine.affine[:3, :3].T
    shifted = np.argwhere(side.labels(labels, (1.5, -1.0, 0, 0)).array > 0) @ fine.affine[:3, :3].T
    step = shifted.mean(axis=0) - at_rest.mean(axis=0)
    assert step[0] == pytest.approx(1.5, abs=0.3) and step[1] == pytest.approx(-1.0, abs=0.3)
    # a quarter turn brings what lies to the right of the centre to the front of it
    turned = np.linalg.inv(moved(np.eye(4), (0, 0, 0, 90), (10, 20, 30)))
    np.testing.assert_allclose(turned @ [15, 20, 30, 1], [10, 25, 30, 1], atol=1e-9)


def test_the_map_shows_the_mask_as_it_is_carried(tmp_path):
    image, labels = small_review()
    t2 = Volume(np.random.default_rng(0).uniform(30, 60, (6, 5, 3)).astype(np.float32),
                np.array([[-2.0, 0, 0, 19], [0, 0, 2.5, 20], [0, -9, 0, -12], [0, 0, 0, 1]]))  # another order of axes
    transform = np.eye(4)
    transform[:3, 3] = 1, -1, 2
    session = Session(image, labels, tmp_path / "j.jsonl", "R1", T2Side(t2, labels, transform=transform))
    view = View(session)
    view.edit("nudge", pose=[1, 0.5, 0, 3])
    assert view.edit("nudge", pose=[31, 0, 0, 0])["kind"] == "refused"
    assert view.edit("nudge", pose=[float("nan"), 0, 0, 0])["kind"] == "refused"
    whole = to_screen(carry(labels, t2, transform=moved(transform, (1, 0.5, 0, 3), session.t2.centre)))
    for index in range(len(whole)):
        view.send("t2", slice=index)
        (_, (shown, values)), = view.answers
        np.testing.assert_array_equal(np.frombuffer(shown, np.uint8).reshape(whole.shape[1:]), whole[index])
        np.testing.assert_array_equal(np.frombuffer(values, np.float32), to_screen(t2)[index].ravel())
    link = np.array(session.state()["link"])  # from the image to the map, on the screen
    place = session.affine @ [1, 3, 4, 1]
    there = np.linalg.inv(moved(transform, (1, 0.5, 0, 3), session.t2.centre)) @ place
    np.testing.assert_allclose(session.t2.affine @ link @ [1, 3, 4, 1], there, atol=1e-6)
    muscle = (whole > 0) & (whole < 50)
    told = view.send("overlap")
    assert told["t2_ms"] == pytest.approx(to_screen(t2)[muscle].mean(), abs=1e-3) and told["covered"] == 1
    assert view.edit("undo")["pose"] == [0, 0, 0, 0]
    session.close()
