"""What is no volume is refused in words, and spoils nothing else; what is written holds to the standard."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_samples import edit, small_volume, write

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.volume import Volume

# -- refusals ------------------------------------------------------------------------------------------------------


def damage(name):
    def cut(path):
        path.write_bytes(path.read_bytes()[:-40])

    def cut_header(path):
        path.write_bytes(path.read_bytes()[:700])

    return {
        "one slice gone": (lambda paths: paths[2].unlink(), "uneven slice spacing"),
        "a slice 0.2 mm off": (lambda paths: edit(paths[2], ImagePositionPatient=[0, 0, 16.2]), "uneven slice spacing"),
        "a slice aside": (lambda paths: edit(paths[2], ImagePositionPatient=[0, 1, 16]), "off their normal"),
        "a slice again": (lambda paths: edit(paths[2], ImagePositionPatient=[0, 0, 8]), "duplicated positions"),
        "another matrix": (lambda paths: edit(paths[2], Rows=3, Columns=14), "inconsistent matrix"),
        "another spacing": (lambda paths: edit(paths[2], PixelSpacing=[2.5, 1.6]), "pixel spacings"),
        "no position": (lambda paths: edit(paths[2], ImagePositionPatient=None), "lack ImagePositionPatient"),
        "cut short": (lambda paths: cut(paths[2]), "holds fewer pixels"),
        "cut in its header": (lambda paths: cut_header(paths[2]), "cut short in its header"),
        "one slice a mosaic": (lambda paths: [edit(p, ImageType=["O", "P", "MOSAIC"]) for p in paths], "mosaic"),
        "a CT": (lambda paths: [edit(p, Modality="CT") for p in paths], "modality is CT"),
    }[name]


@pytest.mark.parametrize("name", [
    "one slice gone", "a slice 0.2 mm off", "a slice aside", "a slice again", "another matrix", "another spacing",
    "no position", "cut short", "cut in its header", "one slice a mosaic", "a CT",
])
def test_a_bad_series_keeps_its_row(tmp_path, name):
    change, found = damage(name)
    write(small_volume(), tmp_path / "good", SeriesNumber=1)
    change(write(small_volume(), tmp_path / "bad", SeriesNumber=2))
    table = read_dicom(tmp_path)
    bad = table[~table["readable"]]
    assert table.volume(1).shape == (7, 6, 5)
    assert any(found in problem for problem in bad["problem"]), list(bad["problem"])
    assert not table["readable"][table["series"] == 2].any()
    shutil.rmtree(tmp_path / "good")
    with pytest.raises(DicomError, match=found):
        read_dicom(tmp_path)


def test_an_aborted_scan_does_not_hide_the_repeated_one(tmp_path):
    write(small_volume(n_echoes=3), tmp_path / "aborted", SeriesNumber=4)[-1].unlink()
    write(small_volume(n_echoes=3, seed=8), tmp_path / "repeated", SeriesNumber=6)
    table = read_dicom(tmp_path)
    assert list(table["role"]) == ["multi_echo"] * 2 and list(table["readable"]) == [False, True]
    assert np.array_equal(table.volume("multi_echo").array, small_volume(n_echoes=3, seed=8).array)
    with pytest.raises(DicomError, match=r"Series 4 \(multi_echo\) cannot be read: missing slices at some echoes"):
        table.volume(4)


def test_an_echo_that_moved_is_refused(tmp_path):
    paths = write(small_volume(n_echoes=3), tmp_path / "a")
    edit(paths[4], ImagePositionPatient=[1, 0, 8])  # the second slice's second echo: same height, 1 mm aside
    with pytest.raises(DicomError, match=r"slices lie 1\.00 mm off a straight stack"):
        read_dicom(tmp_path)


def test_a_tilted_stack_is_refused(tmp_path):
    for k, path in enumerate(write(small_volume(), tmp_path / "a")):
        edit(path, ImagePositionPatient=[0, 0.5 * k, 8 * k])
    with pytest.raises(DicomError, match=r"gantry tilt: slices step up to 3\.6°"):
        read_dicom(tmp_path)


def test_a_missing_decoder_is_named(tmp_path):
    for path in write(small_volume(), tmp_path / "a"):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.HEVCMP51  # no decoder for video anywhere
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    with pytest.raises(DicomError, match="no decoder for HEVC"):
        read_dicom(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DicomError, match="Found 0 files"):
        read_dicom(tmp_path)
    (tmp_path / "a.dcm").write_text("not DICOM")
    with pytest.raises(DicomError, match="Found 1 files there, none a DICOM image"):
        read_dicom(tmp_path)
    with pytest.raises(DicomError, match="does not exist"):
        read_dicom(tmp_path / "nowhere")


def test_copies_count_once(tmp_path):
    write(small_volume(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    table = read_dicom(tmp_path)
    assert table["readable"].all() and len(table) == 1 and table.attrs["duplicate_files"] == 5


@pytest.mark.parametrize("changes", [{"Rows": 0}, {"PixelSpacing": ["nan", "1"]}])
def test_absurd_geometry_spoils_one_series_only(changes, tmp_path):
    write(small_volume(n_echoes=3), tmp_path / "good")
    for path in write(small_volume(), tmp_path / "bad", SeriesNumber=6):
        edit(path, **changes)
    table = read_dicom(tmp_path).set_index("series")
    assert table.readable[5] and not table.readable[6]
    assert "geometry" in table.problem[6]


# -- writing -------------------------------------------------------------------------------------------------------


def test_dciodvfy_finds_no_error(tmp_path, system_tool):
    tool = system_tool("dciodvfy")
    paths = write(small_volume(n_echoes=3), tmp_path / "t2")[:2]
    for role, image_type in DIXON_IMAGE_TYPES.items():
        paths += write(small_volume(), tmp_path / role, image_type, ScanningSequence="GR", EchoTime=1.2)[-1:]
    image_type = ["ORIGINAL", "PRIMARY", "OTHER"]
    bare = write_dicom_series(small_volume(), tmp_path / "bare", study={}, series={}, image_type=image_type)
    for path in [*paths, bare[0]]:
        said = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True).stderr
        assert "MRImage" in said and "Error -" not in said, said
    edit(bare[0], ImageType=None)  # the tool does find errors
    assert "Error -" in subprocess.run([tool, "-new", str(bare[0])], capture_output=True, text=True).stderr


def test_values_return_exactly_and_uids_are_repeatable(tmp_path):
    volume = small_volume(np.diag([1.2, 3.6, 8, 1.0]), shape=(25, 8, 4), n_echoes=3)
    paths = write(volume, tmp_path / "a")
    again = write(volume, tmp_path / "b")
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    assert len({pydicom.dcmread(p).SOPInstanceUID for p in paths}) == 12
    header = pydicom.dcmread(paths[4])
    assert (header.InstanceNumber, header.EchoNumbers, header.EchoTime, header.EchoTrainLength) == (5, 2, 17.0, 3)
    assert (header.Rows, header.Columns, list(header.PixelSpacing)) == (8, 25, [3.6, 1.2])
    fractional = Volume(np.linspace(0, 1, 60).reshape(5, 4, 3), np.eye(4))
    image_type = ["DERIVED", "PRIMARY", "OTHER"]
    write_dicom_series(fractional, tmp_path / "c", study={}, series={}, image_type=image_type, slope=1e-4)
    again = read_dicom(tmp_path / "c").volume(1)
    assert np.abs(again.array - fractional.array).max() <= 0.51e-4


@pytest.mark.parametrize(("array", "found"), [
    (np.full((3, 3, 3), -1.0), "span -1.0"), (np.full((3, 3, 3), np.nan), "span nan"),
    (np.full((3, 3, 3), 70000), "0 to 65535"),
])
def test_voxels_that_do_not_fit_are_refused(tmp_path, array, found):
    with pytest.raises(DicomError, match=found):
        write(Volume(array, np.eye(4)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []  # and nothing half written stays


def test_writing_refuses_what_reading_would(tmp_path):
    sheared = np.eye(4)
    sheared[1, 2] = 0.5
    with pytest.raises(DicomError, match="not perpendicular"):
        write(small_volume(sheared), tmp_path / "a")
    write(small_volume(), tmp_path / "b")
    with pytest.raises(DicomError, match="not empty"):
        write(small_volume(), tmp_path / "b")
    with pytest.raises(DicomError, match="Found 2 echoes without echo times"):
        write(Volume(np.ones((3, 3, 3, 2)), np.eye(4)), tmp_path / "c")
    with pytest.raises(DicomError, match="at least three values"):
        write(small_volume(), tmp_path / "c", image_type=["ORIGINAL", "PRIMARY"])
    with pytest.raises(DicomError, match="'RepititionTime' is no DICOM keyword"):
        write(small_volume(), tmp_path / "c", RepititionTime=3)
