"""A folder in, rows out; what changed is redone and nothing else; what is bad is said and stops nothing else."""

from __future__ import annotations

import gzip
import json
import re
import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest

from mrmyo import process_study, read_dicom, read_nifti, segment, study, write_nifti
from mrmyo.labels import is_muscle
from mrmyo.measure import dice
from mrmyo.settings import Settings
from mrmyo.study import StudyError, load_maps
from mrmyo.validation import error_by_stage, tolerances

STAGE_FILES = {
    "segment": "labels_structural.nii.gz",
    "align": "labels_t2.nii.gz",
    "fit": "T2map.nii.gz",
    "measure": "rows.csv",
}


@pytest.fixture(scope="module")
def processed(processed_study):
    return processed_study


def whole(rows):
    return rows[(rows.muscle == "whole muscle") & (rows.side == "both")].t2_ms.item()


def stamps(out):
    return {name: (out / file).stat().st_mtime_ns for name, file in STAGE_FILES.items() if (out / file).exists()}


def test_true_mask_gives_the_true_t2(synthetic_study, tmp_path):
    study, truth, _ = synthetic_study
    rows = process_study(study, tmp_path / "P1", labels=truth / "labels_in_phase.nii.gz", progress=False)
    expected = json.loads((truth / "truth.json").read_text())["t2_apparent_ms"]
    # what is left is noise, and half a millimetre of the patient's movement between the series
    assert whole(rows) == pytest.approx(expected, abs=0.3)
    assert set(rows.subject) == {"P1"}
    assert rows["mask"].str.startswith("reviewed").all()
    parts = error_by_stage(tmp_path / "P1", truth)
    assert parts["dice_whole"] == 1
    assert abs(parts["error_mask_ms"]) < 0.05
    assert parts["error_ms"] == pytest.approx(whole(rows) - expected, abs=1e-3)


def test_parts_of_the_error_add_up(processed, synthetic_study):
    parts = error_by_stage(processed[0], synthetic_study[1])
    total = parts["error_fit_ms"] + parts["error_alignment_ms"] + parts["error_mask_ms"]
    assert total == pytest.approx(parts["error_ms"], abs=1e-9)
    assert parts["dice_whole"] > 0.9  # an untrained or mirrored network stays far below
    table = tolerances(pd.DataFrame([parts, {**parts, "group": "IIM", "error_ms": parts["error_ms"] + 1}]))
    gap = table.set_index("group").loc["IIM minus HC"]
    assert gap.error_mean_ms == pytest.approx(1.0)
    assert not gap.within_goal and gap.water_within_goal is None
    assert abs(parts["error_water_ms"]) < 0.6
    four = pd.DataFrame([{**parts, "error_water_ms": e, "group": g} for g in ("HC", "IIM") for e in (-0.2, 0.3)])
    found = tolerances(four).set_index("group")
    assert found.water_within_goal.tolist() == [True, True, True, True]
    assert found.error_water_mean_ms["all"] == pytest.approx(0.05) and found.error_water_mean_ms["IIM minus HC"] == 0
    assert not tolerances(four.assign(error_water_ms=[0.0, 0.0, 0.9, 0.9])).set_index("group").water_within_goal["all"]


def test_nothing_is_redone_without_need(processed, synthetic_study):
    out, rows = processed
    before = stamps(out)
    again = process_study(synthetic_study[0], out, progress=False)
    assert stamps(out) == before
    pd.testing.assert_frame_equal(again, rows)


def test_a_reviewed_mask_reruns_alignment_and_measurement_only(processed, synthetic_study, tmp_path):
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    before = stamps(out)
    mask = read_nifti(out / "mask.nii.gz")
    smaller = np.where(mask.array == 1, 0, mask.array).astype(np.uint8)  # the reviewer erases the left vastus lateralis
    rows = process_study(synthetic_study[0], out, labels=mask.with_array(smaller), progress=False)
    changed = {name for name, stamp in stamps(out).items() if stamp != before[name]}
    assert changed == {"align", "measure"}
    assert not ((rows.side == "left") & (rows.abbreviation == "VL")).any()
    # it stays in force, until it is set aside; even then it is not lost
    pd.testing.assert_frame_equal(process_study(synthetic_study[0], out, progress=False), rows)
    automatic = process_study(synthetic_study[0], out, labels="automatic", progress=False)
    pd.testing.assert_frame_equal(automatic, processed[1])
    np.testing.assert_array_equal(read_nifti(out / "labels_set_aside.nii.gz").array, smaller)


def test_the_automatic_mask_is_made_from_all_dixon_images(processed, synthetic_study, tmp_path):
    def told(out):
        beside = json.loads((out / "study.json").read_text())["inputs"].get("beside")
        return None if beside is None else [number for number, _ in beside]

    assert told(processed[0]) == [3, 5]  # opposed-phase and fat
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    before = stamps(out)
    # which of them shows fat is known by its role alone, and decides what is trimmed
    process_study(synthetic_study[0], out, settings=Settings(roles={"opposed_phase": 5, "fat": 3}), progress=False)
    assert (out / STAGE_FILES["segment"]).stat().st_mtime_ns != before["segment"]
    process_study(synthetic_study[0], out, settings=Settings(segment_beside=()), progress=False)
    assert {name for name, stamp in stamps(out).items() if stamp != before[name]} == {"segment", "align", "measure"}
    assert told(out) == []
    alone, together = (read_nifti(folder / STAGE_FILES["segment"]).array for folder in (out, processed[0]))
    assert (alone != together).any() and dice(alone > 0, together > 0) > 0.95
    process_study(synthetic_study[0], out, labels=synthetic_study[1] / "labels_in_phase.nii.gz", progress=False)
    assert told(out) is None  # a person's mask


def test_fat_beside_the_muscles_is_trimmed_off(processed, synthetic_study):
    series = read_dicom(synthetic_study[0])
    roles = ("in_phase", "opposed_phase", "fat")
    in_phase, opposed, fat = (series.volume(series.key[series.role == role].item()) for role in roles)
    taken = segment(in_phase, progress=False, beside=[opposed, fat]).array
    kept = read_nifti(processed[0] / STAGE_FILES["segment"]).array
    gone = taken != kept
    assert (kept[gone] == 0).all() and 0 < gone.sum() < 0.02 * (taken > 0).sum()
    share = fat.array / np.maximum(in_phase.array, 1.0)
    assert share[gone].mean() > 0.6 > 0.2 > share[kept > 0].mean()
    taken, kept, true = (is_muscle(array) for array in (
        taken, kept, read_nifti(synthetic_study[1] / "labels_in_phase.nii.gz").array))
    assert dice(kept, true) > dice(taken, true)


def test_rows_do_not_depend_on_the_truth(processed, synthetic_study, tmp_path):
    study, truth, _ = synthetic_study
    hidden = truth.with_name("hidden")
    truth.rename(hidden)
    try:
        rows = process_study(study, tmp_path / "P1", progress=False)
    finally:
        hidden.rename(truth)
    assert (tmp_path / "P1" / "rows.csv").read_bytes() == (processed[0] / "rows.csv").read_bytes()
    assert len(rows) == len(processed[1])


def test_maps_come_back_in_milliseconds(processed):
    maps = load_maps(processed[0])
    stored = read_nifti(processed[0] / "T2map.nii.gz")
    assert stored.meta["Units"] == "s"
    np.testing.assert_allclose(maps.t2_ms, stored.array * 1000, rtol=1e-6)


def test_outputs_name_no_identity(synthetic_study, tmp_path):
    planted = {
        "PatientName": "Doe^Jane",
        "PatientID": "ID-4711",
        "AccessionNumber": "ACC-0815",
        "PatientBirthDate": "19700102",
        "InstitutionName": "St. Elsewhere",
        "SeriesDescription": "thigh of Jane",
        "StudyDescription": "Jane again",
    }
    shutil.copytree(synthetic_study[0], tmp_path / "study")
    for path in (tmp_path / "study").rglob("*.dcm"):
        image = pydicom.dcmread(path)
        for keyword, value in planted.items():
            setattr(image, keyword, value)
        image.save_as(path)
    labels = synthetic_study[1] / "labels_in_phase.nii.gz"
    process_study(tmp_path / "study", tmp_path / "P1", labels=labels, progress=False)
    for path in (tmp_path / "P1").iterdir():
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for value in planted.values():
            assert value.encode() not in content, (path.name, value)
    assert any(planted["PatientID"].encode() in path.read_bytes() for path in (tmp_path / "study").rglob("*.dcm"))


def test_a_page_for_the_reader(processed):
    page = (processed[0] / "quality.html").read_text()
    assert "Research use only" in page
    assert "synthetic: no patient was measured" in page
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)|url\(|<script', page)  # nothing is fetched


def test_incomplete_study_is_refused_in_words(synthetic_study, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(synthetic_study[0] / "02_in_phase", study / "02_in_phase")
    with pytest.raises(StudyError, match=r"in_phase.*multi-echo"):
        process_study(study, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "rows.csv").exists()


def test_mask_of_another_grid_is_refused(synthetic_study, tmp_path):
    labels = read_nifti(synthetic_study[1] / "labels_t2.nii.gz")
    with pytest.raises(StudyError, match="structural"):
        process_study(synthetic_study[0], tmp_path / "out", labels=labels, progress=False)


def test_a_kill_within_a_stage_leaves_it_undone(processed, synthetic_study, tmp_path, monkeypatch):
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    mask = read_nifti(out / "mask.nii.gz")
    one_leg = mask.with_array(np.where(mask.array > 20, 0, mask.array).astype(np.uint8))

    def killed(*_):
        study.align_as_it_was(*_)
        raise KeyboardInterrupt  # all outputs are written, the note is not

    monkeypatch.setattr(study, "align_as_it_was", study.align_study, raising=False)
    monkeypatch.setattr(study, "align_study", killed)
    with pytest.raises(KeyboardInterrupt):
        process_study(synthetic_study[0], out, labels=one_leg, progress=False)
    monkeypatch.undo()
    rows = process_study(synthetic_study[0], out, labels="automatic", progress=False)
    assert whole(rows) == whole(processed[1])
    assert len(rows) == len(processed[1])


def test_other_code_redoes_everything(processed, synthetic_study, tmp_path, monkeypatch):
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    before = stamps(out)
    monkeypatch.setattr("mrmyo.study_stages.code_digest", lambda: "another version")
    process_study(synthetic_study[0], out, progress=False)
    assert {name for name, stamp in stamps(out).items() if stamp != before[name]} == set(STAGE_FILES)


def test_a_mask_edited_in_place_is_neither_used_nor_lost(processed, synthetic_study, tmp_path):
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    path = out / "labels_structural.nii.gz"
    edited = read_nifti(path)
    write_nifti(edited.with_array(np.where(edited.array == 1, 0, edited.array).astype(np.uint8)), path)
    content = path.read_bytes()
    with pytest.raises(StudyError, match="--labels"):
        process_study(synthetic_study[0], out, progress=False)
    assert path.read_bytes() == content


@pytest.mark.parametrize("file", ["labels_structural.nii.gz", "T2map.nii.gz", "stages.json"])
def test_a_torn_output_is_made_anew(file, processed, synthetic_study, tmp_path):
    out = tmp_path / "P1"
    shutil.copytree(processed[0], out)
    path = out / file
    path.write_bytes(b"[]" if file == "stages.json" else path.read_bytes()[:500])
    rows = process_study(synthetic_study[0], out, progress=False)
    pd.testing.assert_frame_equal(rows, processed[1])


def test_two_patients_in_one_folder_are_refused(synthetic_study, tmp_path):
    shutil.copytree(synthetic_study[0] / "02_in_phase", tmp_path / "study" / "in_phase")
    shutil.copytree(synthetic_study[0] / "10_multi_echo", tmp_path / "study" / "multi_echo")
    for path in (tmp_path / "study" / "multi_echo").iterdir():
        image = pydicom.dcmread(path)
        image.StudyInstanceUID = "1.2.3.4"
        image.save_as(path)
    with pytest.raises(StudyError, match="2 studies"):
        process_study(tmp_path / "study", tmp_path / "out", progress=False)


def test_results_and_dicom_stay_apart_and_keys_are_plain_words(synthetic_study, tmp_path):
    before = sorted(path.name for path in synthetic_study[0].iterdir())
    with pytest.raises(StudyError, match="output folder is the study's own"):
        process_study(synthetic_study[0], synthetic_study[0], progress=False)
    with pytest.raises(StudyError, match="subject key that is no plain word"):
        process_study(synthetic_study[0], tmp_path / "out", subject="Max Müller", progress=False)
    assert sorted(path.name for path in synthetic_study[0].iterdir()) == before and not (tmp_path / "out").exists()
