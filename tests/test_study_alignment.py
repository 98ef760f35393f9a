"""Alignment, regions, pages and DICOM of a whole study."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest

from mrmyo import export_study, process_study, read_nifti
from mrmyo.__main__ import main
from mrmyo.dicom import DicomError
from mrmyo.dicom_maps import read_dicom_map
from mrmyo.dicom_report import read_dicom_sr
from mrmyo.dicom_segmentation import read_dicom_seg
from mrmyo.figures.patient import patient_table
from mrmyo.labels import carry, is_muscle
from mrmyo.nifti import read_t2map, write_nifti
from mrmyo.registration import RegistrationError
from mrmyo.settings import Settings
from mrmyo.study import StudyError
from mrmyo.study_export import EXPORTED
from mrmyo.volume import Volume

NARROW = Settings(alignment="slicewise", erode_mm=2.0, max_fat_fraction=0.3)


@pytest.fixture(scope="module")
def measured(synthetic_study, tmp_path_factory):
    """The study under its true mask, narrowed: (study, truth folder, output folder, rows)."""
    study, truth, _ = synthetic_study
    out = tmp_path_factory.mktemp("measured") / "P1"
    rows = process_study(study, out, labels=truth / "labels_in_phase.nii.gz", settings=NARROW, progress=False)
    return study, truth, out, rows


def whole(rows):
    return rows[(rows.muscle == "whole muscle") & (rows.side == "both")].iloc[0]


def test_the_transform_is_kept_and_carries_what_was_measured(measured):
    _, truth, out, _ = measured
    report = json.loads((out / "alignment.json").read_text())
    transform, inverse = np.array(report["transform"]), np.array(report["inverse"])
    np.testing.assert_allclose(inverse @ transform, np.broadcast_to(np.eye(4), transform.shape), atol=1e-9)
    labels = read_nifti(out / "labels_t2.nii.gz")
    like = Volume(labels.array, labels.affine, meta={"SliceThickness": 5.0})
    again = carry(read_nifti(out / "mask.nii.gz"), like, transform=transform)
    assert (again.array != labels.array).mean() < 1e-4  # the affine of a file is rounded
    shift = np.linalg.norm(np.array(json.loads((truth / "truth.json").read_text())["motion"])[:3, 3])
    assert report["misalignment_mm"] == pytest.approx(shift, abs=1.0)  # and a little rotation
    assert len(report["slices"]) == labels.shape[2] and "NaN" not in (out / "alignment.json").read_text()


def test_the_steps_tell_what_they_do_to_t2(measured):
    _, _, out, rows = measured
    steps = pd.read_csv(out / "t2_steps.csv").set_index("step")
    assert steps.index[0] == "alignment by the headers alone" and steps.index[1] == "rigid refinement"
    narrow = ["without 2 mm at the border", "without voxels of more than 30% fat", "without both"]
    assert list(steps.index[-3:]) == narrow and steps.counts[narrow].all()
    t2_ms = read_t2map(out / "T2map.nii.gz").array
    files = ("labels_measured.nii.gz", "labels_t2.nii.gz")
    counted, carried = (is_muscle(read_nifti(out / name).array) for name in files)
    assert counted.sum() < carried.sum() and not (counted & ~carried).any()
    assert steps.t2_ms["without both"] == pytest.approx(np.nanmean(t2_ms[counted], dtype=float), abs=1e-3)
    assert steps.t2_ms["without both"] == pytest.approx(whole(rows).t2_ms, abs=1e-3)
    assert whole(rows).n_voxels == counted.sum() == steps.n_voxels["without both"]
    aligned = np.nanmean(t2_ms[carried], dtype=float)
    assert steps.change_ms["without both"] == pytest.approx(whole(rows).t2_ms - aligned, abs=2e-3)
    page = (out / "quality.html").read_text()
    assert "Alignment to the T2 images" in page and "without both" in page


def test_another_region_redoes_the_region_alone(measured):
    study, _, out, rows = measured
    before = json.loads((out / "stages.json").read_text())
    wide = process_study(study, out, settings=Settings(alignment="slicewise"), progress=False)
    after = json.loads((out / "stages.json").read_text())
    assert {name for name in before if before[name] != after[name]} == {"region", "measure"}
    assert whole(wide).n_voxels > whole(rows).n_voxels
    steps = pd.read_csv(out / "t2_steps.csv").set_index("step")
    assert not steps.counts[["without 2 mm at the border", "without voxels of more than 30% fat"]].any()
    assert "without both" not in steps.index
    again = process_study(study, out, settings=NARROW, progress=False)
    pd.testing.assert_frame_equal(again, rows)


def test_the_patient_gets_a_page(measured):
    _, _, out, rows = measured
    page = (out / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", page)
    for word in ("Research use only", "synthetic", "vastus lateralis", "± ", "Look at", "Alignment:", "Mask: reviewed"):
        assert word in text
    assert f"T2 {whole(rows).t2_ms:.1f} ±" in text and "SYNTHETIC^" not in page and "http" not in page
    pdf = (out / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", pdf)) == 1 and b"SYNTHETIC^" not in pdf
    assert b"Research use only" in pdf or "Research use only".encode("utf-16-be") in pdf


def test_the_table_of_a_patient_says_what_there_is(measured):
    rows = measured[3]
    table = patient_table(rows).set_index("muscle")
    assert table.index[0] == "whole muscle" and "vastus lateralis" in table.index
    left = rows[(rows.muscle == "gracilis") & (rows.side == "left")].iloc[0]
    cell = table.loc["gracilis", "T2 left (ms)"]
    assert cell == f"{left.t2_ms:.1f} ± {max(left.t2_mean_sd_ms, 0.01):.2f} ({left.t2_sd_ms:.1f})"
    one_side = rows[~((rows.muscle == "gracilis") & (rows.side == "right"))]
    assert patient_table(one_side).set_index("muscle").loc["gracilis", "T2 right (ms)"] == "–"
    tiny = rows.assign(volume_ml=rows.volume_ml.where(rows.muscle != "gracilis", 1.0))
    assert "gracilis" not in set(patient_table(tiny).muscle)
    dry = rows.drop(columns=[name for name in rows if name.startswith("water") or name == "fat_fraction"])
    assert not [name for name in patient_table(dry) if "water" in name or "fat" in name]


def test_results_go_out_as_dicom_and_come_back(measured, tmp_path, capsys):
    study, _, out, rows = measured
    assert main(["export", str(out), str(study), str(tmp_path / "out")]) in (0, None)
    assert "name the patient" in capsys.readouterr().out
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == set(EXPORTED)
    for name, file in (("mask_structural.dcm", "mask.nii.gz"), ("mask_t2.dcm", "labels_measured.nii.gz")):
        np.testing.assert_array_equal(read_dicom_seg(folder / name).array, read_nifti(out / file).array)
    for name, file in (("t2_map.dcm", "T2map.nii.gz"), ("water_t2_map.dcm", "water_T2map.nii.gz")):
        np.testing.assert_allclose(read_dicom_map(folder / name).array, read_t2map(out / file).array, rtol=1e-6)
    found = read_dicom_sr(folder / "measurements.dcm").set_index(["side", "muscle"])
    expected = rows.set_index(["side", "muscle"]).loc[found.index]
    assert len(found) == len(rows)
    for column in ("t2_ms", "water_t2_ms", "fat_fraction", "volume_ml"):
        np.testing.assert_allclose(found[column], expected[column], atol=1e-4)
    seg = pydicom.dcmread(folder / "mask_t2.dcm", stop_before_pixels=True)
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"SEMIAUTOMATIC"}  # a person's mask
    assert pydicom.dcmread(folder / "mask_structural.dcm", stop_before_pixels=True).PatientID == "SYN-HC-03"


def test_what_cannot_go_out_is_refused(measured, synthetic_study, tmp_path):
    _, _, out, _ = measured
    with pytest.raises(StudyError, match="holds no study that was measured"):
        export_study(tmp_path, synthetic_study[0], tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(synthetic_study[0] / "02_in_phase", elsewhere)  # not what T2 was measured on
    with pytest.raises(DicomError, match="No series of the study lies where"):
        export_study(out, elsewhere, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_frame_of_reference_needs_an_explicit_word(synthetic_study, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(synthetic_study[0], study)
    for path in (study / "10_multi_echo").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.FrameOfReferenceUID = "1.2.3.4"
        dataset.save_as(path)
    labels = synthetic_study[1] / "labels_in_phase.nii.gz"
    with pytest.raises(RegistrationError, match="different frames of reference"):
        process_study(study, tmp_path / "no", labels=labels, progress=False)
    told = Settings(ignore_frame_of_reference=True)
    process_study(study, tmp_path / "yes", labels=labels, settings=told, progress=False)
    flags = json.loads((tmp_path / "yes" / "study.json").read_text())["flags"]
    assert any("different frames of reference" in flag for flag in flags)


def test_a_mask_of_another_patient_is_flagged(synthetic_study, tmp_path):
    """The mask of a thigh 14 mm aside and a tenth smaller, as that of someone else may be."""
    true = read_nifti(synthetic_study[1] / "labels_in_phase.nii.gz")
    other = np.diag([0.9, 0.9, 1.0, 1.0])
    other[:3, 3] = 10.0, 10.0, 0.0
    labels = carry(Volume(true.array, other @ true.affine), true)
    write_nifti(labels, tmp_path / "other.nii.gz")
    rows = process_study(synthetic_study[0], tmp_path / "P1", labels=tmp_path / "other.nii.gz",
                         settings=Settings(alignment="off"), progress=False)
    flags = json.loads((tmp_path / "P1" / "study.json").read_text())["flags"]
    assert any("is it a mask of this patient" in flag for flag in flags) and len(rows)
