"""Masks, maps and measurements as DICOM objects: held against dciodvfy, dcmqi and dsrdump, which know nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_enhanced import write_enhanced
from dicom_samples import MESE, STUDY

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.dicom_codes import FMA
from mrmyo.dicom_maps import read_dicom_map, write_dicom_map
from mrmyo.dicom_objects import source_images
from mrmyo.dicom_report import MEASURED, read_dicom_sr, write_dicom_sr
from mrmyo.dicom_segmentation import read_dicom_seg, write_dicom_seg
from mrmyo.dicom_writing import write_dicom_series
from mrmyo.labels import MUSCLES, label_table
from mrmyo.measure import t2_by_muscle
from mrmyo.nifti import read_nifti
from mrmyo.t2 import fit_t2
from mrmyo.volume import Volume, same_grid

OBLIQUE = np.array([[-1.9, 0.3, 0.6, 20.0], [0.3, -2.3, 0.5, 10.0], [0.32, 0.25, 6.0, -30.0], [0, 0, 0, 1.0]])
OBLIQUE[:3, 0] /= np.linalg.norm(OBLIQUE[:3, 0]) / 2
OBLIQUE[:3, 1] -= OBLIQUE[:3, 0] * (OBLIQUE[:3, 0] @ OBLIQUE[:3, 1]) / 4
OBLIQUE[:3, 2] = np.cross(OBLIQUE[:3, 0], OBLIQUE[:3, 1])
OBLIQUE[:3, 2] *= 6 * np.sign(OBLIQUE[2, 2]) / np.linalg.norm(OBLIQUE[:3, 2])
SHAPE = (24, 20, 6)
TIMES = tuple(10.0 * n for n in range(1, 7))


@pytest.fixture(scope="module", params=["axial", "oblique"])
def study(request, tmp_path_factory):
    """Echoes of a T2 that varies, an in-phase image on another grid, and labels of every value on the echoes' grid."""
    folder = tmp_path_factory.mktemp("study") / "dicom"
    affine = np.diag([-2.0, -2.4, 6.0, 1.0]) if request.param == "axial" else OBLIQUE
    t2 = np.linspace(25, 60, int(np.prod(SHAPE))).reshape(SHAPE)
    echoes = Volume(1000 * np.exp(-np.array(TIMES) / t2[..., None]), affine, TIMES)
    write_dicom_series(echoes, folder / "echoes", study=STUDY, series=MESE,
                       image_type=("ORIGINAL", "PRIMARY", "M", "SE"))
    finer = affine @ np.diag([0.5, 0.5, 1, 1])
    other = Volume(np.full((48, 40, 6), 500.0), finer)
    write_dicom_series(other, folder / "structural", study=STUDY, series={**MESE, "SeriesNumber": 3},
                       image_type=("ORIGINAL", "PRIMARY", "DIXON", "IN_PHASE"))
    values = [*label_table().value]
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:22, 2:18, 1:5] = np.resize(values, (20, 16, 4))  # the first and the last slice are empty
    grid = read_dicom(folder).grid("multi_echo")
    return folder, Volume(labels, grid.affine), fit_t2(read_dicom(folder).volume("multi_echo"))


@pytest.fixture(scope="module")
def objects(study, tmp_path_factory):
    """The three objects of the study, by kind."""
    folder, labels, maps = study
    out = tmp_path_factory.mktemp("objects")
    paths = {kind: out / f"{kind}.dcm" for kind in ("seg", "map", "sr")}
    write_dicom_seg(labels, folder, paths["seg"])
    t2 = maps.volume("t2_ms")
    write_dicom_map(t2.with_array(np.where(labels.array > 0, t2.array, np.nan)), folder, paths["map"])
    write_dicom_sr(t2_by_muscle(maps, labels), paths["seg"], folder, paths["sr"], like=labels)
    return paths


def run(*command):
    found = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return found.returncode, found.stdout + found.stderr


def dcmqi(name):
    """A program of dcmqi, which pip puts beside Python."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), "dcmqi belongs to the extra 'dev'"
    return path


@pytest.mark.parametrize("kind", ["seg", "map", "sr"])
def test_the_objects_are_valid(objects, kind, system_tool):
    _, told = run(system_tool("dciodvfy"), objects[kind])
    assert {"seg": "Segmentation", "map": "ParametricMap", "sr": "3DSR"}[kind].lower() in told.lower()
    assert "Error" not in told, told


def test_what_was_written_is_read_back(study, objects):
    _, labels, maps = study
    found = read_dicom_seg(objects["seg"])
    assert same_grid(found, labels)
    np.testing.assert_array_equal(found.array, labels.array)
    found = read_dicom_map(objects["map"])
    assert same_grid(found, labels)
    np.testing.assert_array_equal(found.array, np.where(labels.array > 0, maps.t2_ms, np.nan))
    rows = t2_by_muscle(maps, labels).set_index(["side", "muscle"])
    found = read_dicom_sr(objects["sr"]).set_index(["side", "muscle"])
    assert set(found.index) == set(rows.index)
    for column in MEASURED:
        if column in rows and rows[column].notna().any():  # echoes without noise give no SD of the mean
            np.testing.assert_allclose(found[column], rows.loc[found.index, column], atol=6e-5)


def test_dcmqi_reads_the_same_mask(study, objects, tmp_path):
    _, labels, _ = study
    code, told = run(dcmqi("segimage2itkimage"), "--inputDICOM", objects["seg"], "--outputDirectory", tmp_path,
                     "--mergeSegments", "-t", "nii")
    assert code == 0, told
    theirs = read_nifti(tmp_path / "1.nii.gz")
    told = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"][0]
    names = {f"{row['side']} {row['name']}": row["value"] for row in label_table().to_dict("records")}
    values = {segment["labelID"]: names[segment["SegmentLabel"]] for segment in told}
    ours = labels.array
    index = np.argwhere(theirs.array > 0)
    assert len(index) == (ours > 0).sum()
    there = np.linalg.inv(labels.affine) @ theirs.affine @ np.vstack([index.T, np.ones(len(index))])
    np.testing.assert_allclose(there, np.rint(there), atol=0.01)
    i, j, k = np.rint(there[:3]).astype(int)
    np.testing.assert_array_equal(ours[i, j, k], [values[int(v)] for v in theirs.array[tuple(index.T)]])
    first = next(segment for segment in told if segment["SegmentLabel"] == "left vastus lateralis")
    assert first["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == "102292000"
    assert first["AnatomicRegionModifierSequence"]["CodeMeaning"] == "Left"
    assert len({tuple(segment["recommendedDisplayRGBValue"]) for segment in told}) > 10


def test_dcmqi_reads_the_same_map(study, objects, tmp_path):
    _, labels, maps = study
    code, told = run(dcmqi("paramap2itkimage"), "--inputDICOM", objects["map"], "--outputDirectory", tmp_path,
                     "-t", "nii")
    assert code == 0, told
    theirs = read_nifti(tmp_path / "pmap.nii.gz")
    assert json.loads((tmp_path / "meta.json").read_text())["MeasurementUnitsCode"]["CodeValue"] == "ms"
    i, j, k = np.nonzero(labels.array)
    there = np.linalg.inv(theirs.affine) @ labels.affine @ np.vstack([i, j, k, np.ones(i.size)])
    x, y, z = np.rint(there[:3]).astype(int)
    np.testing.assert_allclose(theirs.array[x, y, z], maps.t2_ms[i, j, k], rtol=1e-6)


def test_other_programs_read_the_report(study, objects, system_tool, tmp_path):
    _, labels, maps = study
    code, told = run(dcmqi("tid1500reader"), "--inputDICOM", objects["sr"], "--outputMetadata", tmp_path / "sr.json")
    assert code == 0, told
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    rows = t2_by_muscle(maps, labels).set_index(["side", "muscle"])
    mine = next(group for group in groups if group["TrackingIdentifier"] == "right gracilis")
    assert mine["ReferencedSegment"] and mine["FindingSite"]["CodeValue"] == "FMA43882"
    mean = next(item for item in mine["measurementItems"] if item["quantity"]["CodeValue"] == "113065"
                and item["derivationModifier"]["CodeMeaning"] == "Mean")
    assert float(mean["value"]) == pytest.approx(rows.t2_ms["right", "gracilis"], abs=1e-4)
    _, told = run(system_tool("dsrdump"), objects["sr"])
    assert '"Imaging Measurement Report"' in told and told.count('"Measurement Group"') == len(rows)


def test_the_objects_refer_to_the_images_they_were_made_from(study, objects):
    folder = study[0]
    echoes = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((folder / "echoes").iterdir())]
    first = {float(d.ImagePositionPatient[2]): d.SOPInstanceUID for d in echoes if d.EchoNumbers == 1}
    for kind in ("seg", "map"):
        found = pydicom.dcmread(objects[kind])
        assert found.StudyInstanceUID == echoes[0].StudyInstanceUID and found.PatientID == echoes[0].PatientID
        assert found.FrameOfReferenceUID == echoes[0].FrameOfReferenceUID
        assert found.SeriesInstanceUID != echoes[0].SeriesInstanceUID
        for frame in found.PerFrameFunctionalGroupsSequence:
            z = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
            source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            nearest = min(first, key=lambda place, z=z: abs(place - z))
            assert abs(nearest - z) < 0.01 and source == first[nearest]
        assert "research use only" in found.ContentDescription
    report = pydicom.dcmread(objects["sr"])
    seg = pydicom.dcmread(objects["seg"], stop_before_pixels=True)
    referred = {item.ReferencedSOPInstanceUID for study_ in report.CurrentRequestedProcedureEvidenceSequence
                for series in study_.ReferencedSeriesSequence for item in series.ReferencedSOPSequence}
    assert seg.SOPInstanceUID in referred and set(first.values()) <= referred


def test_every_muscle_has_a_code_of_its_own():
    named = [short for _, short, _ in MUSCLES if short != "OTH"]
    assert set(FMA) == set(named) and len({code for code, _ in FMA.values()}) == len(named)
    long = {short: name for name, short, _ in MUSCLES}
    for short, (_, meaning) in FMA.items():
        assert set(meaning.lower().split()) - {"of"} == set(long[short].split())


def test_a_mask_in_another_order_of_axes_is_taken(study, tmp_path):
    folder, labels, _ = study
    turned = labels.with_array(labels.array[::-1, ::-1].transpose(1, 0, 2),
                               affine=(labels.affine @ flip(SHAPE))[:, [1, 0, 2, 3]])
    found = read_dicom_seg(write_dicom_seg(turned, folder, tmp_path / "turned.dcm"))
    np.testing.assert_array_equal(found.array, labels.array)


def flip(shape):
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:2, 3] = np.array(shape[:2]) - 1
    return matrix


def test_the_series_decides_between_images_of_one_place(study, tmp_path):
    folder, labels, _ = study
    images, grid = source_images(folder, labels)
    assert {image.SeriesNumber for image in images} == {5} and len(images) == SHAPE[2] and same_grid(grid, labels)
    with pytest.raises(DicomError, match=r"No series of the study lies where .* found series 3 \(in_phase\)"):
        write_dicom_seg(labels, folder, tmp_path / "no.dcm", series=3)
    assert not list(tmp_path.iterdir())


def test_multi_frame_images_are_referred_to(tmp_path):
    volume = Volume(np.random.default_rng(0).integers(0, 900, (16, 12, 4)).astype(np.uint16), np.diag([-2.0, -2, 6, 1]))
    (tmp_path / "study").mkdir()
    write_enhanced(volume, tmp_path / "study" / "enhanced.dcm")
    labels = read_dicom(tmp_path / "study").grid(5)
    labels = Volume(np.random.default_rng(1).integers(0, 3, labels.shape).astype(np.uint8), labels.affine)
    path = write_dicom_seg(labels, tmp_path / "study", tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_dicom_seg(path).array, labels.array)
    frame = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[0]
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == pydicom.dcmread(tmp_path / "study" / "enhanced.dcm").SOPInstanceUID


def test_what_cannot_be_written_or_read_is_refused(study, objects, tmp_path):
    folder, labels, maps = study
    empty = labels.with_array(np.zeros_like(labels.array))
    with pytest.raises(DicomError, match="empty"):
        write_dicom_seg(empty, folder, tmp_path / "x.dcm")
    with pytest.raises(ValueError, match="label values"):
        write_dicom_seg(labels.with_array(np.full_like(labels.array, 77)), folder, tmp_path / "x.dcm")
    with pytest.raises(DicomError, match="quantity"):
        write_dicom_map(maps.volume("t2_ms"), folder, tmp_path / "x.dcm", quantity="t1")
    few = tmp_path / "few.dcm"
    write_dicom_seg(labels.with_array(np.where(labels.array == 1, 1, 0).astype(np.uint8)), folder, few)
    with pytest.raises(DicomError, match="no segment of the"):
        write_dicom_sr(t2_by_muscle(maps, labels), few, folder, tmp_path / "x.dcm", like=labels)
    readers = ((read_dicom_seg, "map", "seg"), (read_dicom_map, "seg", "map"), (read_dicom_sr, "map", "sr"))
    for reader, kind, other in readers:
        with pytest.raises(DicomError, match="that can be read"):
            reader(objects[kind])
        cut = tmp_path / "cut.dcm"
        cut.write_bytes(objects[other].read_bytes()[:700])
        with pytest.raises(DicomError, match="that can be read"):
            reader(cut)
    assert {path.name for path in tmp_path.iterdir()} == {"few.dcm", "cut.dcm"}


@pytest.mark.realdata
@pytest.mark.parametrize("place", ["knee_multiecho_dicom_ge", *(f"dicom_variety/{name}" for name in (
    "ge", "generic", "hitachi", "philips"))])
def test_real_images_of_all_vendors_take_objects(place, real_data, tmp_path, system_tool):
    """Headers that anonymisers have thinned out: no frame of reference, no thickness, odd ages and character sets."""
    series = read_dicom(real_data / place)
    for row in series[series.readable].itertuples():
        grid = series.grid(row.key)
        values = np.random.default_rng(0).integers(0, 4, grid.shape).astype(np.uint8)
        labels = Volume(values, grid.affine)
        seg = write_dicom_seg(labels, real_data / place, tmp_path / "seg.dcm", series=row.series)
        np.testing.assert_array_equal(read_dicom_seg(seg).array, values)
        found = write_dicom_map(labels.with_array(values + np.float32(20)), real_data / place, tmp_path / "map.dcm",
                                series=row.series)
        np.testing.assert_array_equal(read_dicom_map(found).array, values + np.float32(20))
        for path in (seg, found):
            told = run(system_tool("dciodvfy"), path)[1]
            errors = [line for line in told.splitlines() if "Error" in line and "Date" not in line]  # 1 January 0001
            assert errors in ([], ["Error - Dicom dataset contains invalid data values for Value Representations"])


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "lacking"), [("philips_enhanced", "PixelMeasuresSequence"),
                                               ("siemens_multiframe", "SharedFunctionalGroupsSequence")])
def test_headers_that_lack_too_much_are_refused(name, lacking, real_data, tmp_path):
    series = read_dicom(real_data / "dicom_variety" / name)
    row = series[series.readable].iloc[0]
    labels = Volume(np.ones(series.grid(row["key"]).shape, np.uint8), series.grid(row["key"]).affine)
    with pytest.raises(DicomError, match=f"they have no {lacking}. Use files as the scanner wrote them"):
        write_dicom_seg(labels, real_data / "dicom_variety" / name, tmp_path / "seg.dcm")
    assert not list(tmp_path.iterdir())
