"""A reviewed mask goes back into its study: only alignment and measurement are redone; every row says whose it is."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from reviews import View, small_review

import mrmyo
from mrmyo.editor_session import Session
from mrmyo.study import StudyError, _key_before, process_study
from mrmyo.study_review import _unused, review_inputs

STAGE_FILES = {"segment": "labels_structural.nii.gz", "align": "labels_t2.nii.gz", "fit": "T2map.nii.gz",
               "measure": "rows.csv"}


@pytest.fixture(scope="module")
def processed(processed_study):
    return processed_study


def whole(rows):
    return rows[(rows.muscle == "whole muscle") & (rows.side == "both")].t2_ms.item()


def test_a_review_counts_once_it_is_given_back(processed, synthetic_study, tmp_path):
    study, (first_out, automatic) = synthetic_study[0], processed
    assert (automatic.mask_journal == "").all() and (automatic.reviewer == "").all()
    out = tmp_path / "P1"
    shutil.copytree(first_out, out)
    before = {name: (out / file).stat().st_mtime_ns for name, file in STAGE_FILES.items()}
    editor = mrmyo.review(**review_inputs(out), reviewer="R1")
    view = View(editor.session)
    screen = editor.session.review.screen
    for index in range(len(screen)):  # the left vastus lateralis is given up
        view.edit("eraser", screen[index] == 1, slice=index, label="1")
    rows = process_study(study, out, labels=editor, progress=False)
    changed = {name for name, file in STAGE_FILES.items() if (out / file).stat().st_mtime_ns != before[name]}
    assert changed == {"align", "measure"}
    review = editor.session.review
    assert not ((rows.side == "left") & (rows.abbreviation == "VL")).any()
    assert (rows["mask"] == f"reviewed {review.version[:8]}").all() and (rows.reviewer == "R1").all()
    assert (rows.mask_journal == f"{review.header['id']}:{review.revision}").all()
    assert any("not accepted" in flag for flag in json.loads((out / "study.json").read_text())["flags"])

    view.decide("rejected", comment="motion")
    with pytest.raises(StudyError, match="rejected by R1"):
        process_study(study, out, labels=editor.journal, progress=False)
    editor.session.reviewer = view.reviewer = "R2"
    view.edit("undo")
    view.decide("accepted")
    accepted = process_study(study, out, labels=str(editor.journal), progress=False)
    assert (accepted.reviewer == "R1; R2").all()
    assert not any("accepted" in flag for flag in json.loads((out / "study.json").read_text())["flags"])
    pd.testing.assert_frame_equal(process_study(study, out, progress=False), accepted)  # it stays in force
    assert "R1; R2" in (out / "report.html").read_text()

    view.edit("nudge", pose=[6.0, 0, 0, 0])
    moved = process_study(study, out, labels=editor, progress=False)
    assert abs(whole(moved) - whole(accepted)) > 0.1
    facts = json.loads((out / "study.json").read_text())
    assert any("by hand" in flag for flag in facts["flags"]) and facts["alignment"]["method"] == "given transform"
    np.testing.assert_allclose(json.loads((out / "alignment.json").read_text())["transform"],
                               editor.session.review.transform)
    np.testing.assert_allclose(review_inputs(out, second=True)["transform"], editor.session.review.before_hand)
    assert "moved by hand" in pd.read_csv(out / "t2_steps.csv").step.tolist()
    view.edit("undo")
    assert editor.session.review.transform is None
    editor.close()
    back = process_study(study, out, labels="automatic", progress=False)
    pd.testing.assert_frame_equal(back, automatic)


def test_an_accepted_review_that_does_not_count_is_told(tmp_path):
    image, labels = small_review()
    session = Session(image, labels, tmp_path / "review.jsonl", "R1")
    view = View(session)
    assert _unused(tmp_path / "review.jsonl") == () == _unused(tmp_path / "none.jsonl")
    view.decide("accepted")
    assert "accepted review that was not used" in _unused(tmp_path / "review.jsonl")[0]
    view.edit("eraser", np.ones((7, 9), bool), slice=0, label="any")
    assert _unused(tmp_path / "review.jsonl") == ()  # changed since
    session.close()


def test_the_key_of_a_subject_stays(tmp_path):
    assert _key_before(tmp_path) is None
    (tmp_path / "study.json").write_text('{"subject": "P01"}')
    assert _key_before(tmp_path) == "P01"
    (tmp_path / "study.json").write_text("torn")
    assert _key_before(tmp_path) is None


def test_a_second_reader_begins_where_the_first_began(processed, tmp_path):
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    first = mrmyo.review(**review_inputs(out), reviewer="R1")
    View(first.session).edit("eraser", np.ones(first.session.review.screen.shape[1:], bool), slice=3, label="any")
    second = mrmyo.review(**review_inputs(out, second=True), reviewer="R2")
    assert first.journal != second.journal and (first.labels.array != second.labels.array).any()
    np.testing.assert_array_equal(second.labels.array, mrmyo.read_nifti(out / "labels_structural.nii.gz").array)
    for editor in (first, second):
        editor.close()
