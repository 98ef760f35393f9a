"""Which images make one series: copies, several stacks or echoes in one series, one echo in each of several."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from dicom_samples import edit, small_volume, write
from pydicom.uid import generate_uid

from mrmyo.dicom import DicomError, read_dicom

ONE_SERIES = generate_uid(entropy_srcs=["one series"])


def shifted(z_mm, *, seed=1, x_mm=0.0, step=8.0):
    return small_volume(np.array([[-1.5, 0, 0, x_mm], [0, -2.5, 0, 0], [0, 0, step, z_mm], [0, 0, 0, 1]]), seed=seed)


def write_parts(folder, volumes, keyword, values, **series):
    """Several volumes under one SeriesInstanceUID, told apart by one keyword."""
    for i, (volume, value) in enumerate(zip(volumes, values, strict=True)):
        more = {"SeriesInstanceUID": ONE_SERIES, keyword: value, "EchoTime": 10.0, **series}
        for path in write(volume, folder / str(i), **more):
            edit(path, SOPInstanceUID=generate_uid())


# -- copies ----------------------------------------------------------------------------------------------------------


def test_a_copy_with_other_pixels_is_refused(tmp_path):
    paths = write(small_volume(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    dataset = pydicom.dcmread(tmp_path / "b" / paths[2].name)
    dataset.PixelData = dataset.PixelData[:-2] + b"\x07\x07"
    dataset.save_as(tmp_path / "b" / paths[2].name)
    with pytest.raises(DicomError, match="came twice with different pixels"):
        read_dicom(tmp_path)


def test_a_damaged_copy_does_not_matter(tmp_path):
    paths = write(small_volume(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for folder, path in zip("abab", paths, strict=False):
        (tmp_path / folder / path.name).write_bytes(path.read_bytes()[:-40])
    table = read_dicom(tmp_path)
    assert np.array_equal(table.volume(5).array, small_volume().array)
    assert table.attrs["duplicate_files"] == 5


def test_a_compressed_copy_is_a_copy(tmp_path):
    write(small_volume(), tmp_path / "a")
    for path in write(small_volume(), tmp_path / "b"):
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    table = read_dicom(tmp_path)
    assert np.array_equal(table.volume(5).array, small_volume().array)


# -- several volumes in one series -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keyword", "values", "places"), [
    ("AcquisitionNumber", [1, 2, 3], [0, 36, 72]),  # stations that overlap by half a slice
    ("StackID", ["1", "2"], [0, 100]),
    ("SeriesDescription", ["t1_in", "t1_opp"], [0, 0]),
    ("SeriesNumber", [7, 8, 9], [0, 0, 0]),
])
def test_stacks_of_one_series_become_rows(tmp_path, keyword, values, places):
    volumes = [shifted(z, seed=i) for i, z in enumerate(places)]
    write_parts(tmp_path, volumes, keyword, values)
    table = read_dicom(tmp_path)
    assert table["readable"].all() and len(table) == len(values) == table["key"].nunique()
    read = [table.volume(key) for key in table["key"]]
    for volume in volumes:
        found = [other for other in read if np.array_equal(other.array, volume.array)]
        assert len(found) == 1 and np.allclose(found[0].affine, volume.affine, atol=1e-6)


@pytest.mark.parametrize(("first", "then", "found"), [
    ((0, 8, 16, 24), (40, 48, 56), "uneven slice spacing"),  # one slice between them is gone
    ((0, 16, 32), (8, 40, 72), "uneven slice spacing"),
    ((0, 16, 32, 48), (24, 40, 56), "uneven slice spacing"),  # odd and even slices, one of them gone
    ((0, 8, 16), (0, 8, 16), "duplicated positions"),  # repeats in time
])
def test_no_split_hides_a_missing_slice(tmp_path, first, then, found):
    for number, heights in enumerate([first, then], start=1):
        paths = write(shifted(0, seed=number), tmp_path / str(number), SeriesInstanceUID=ONE_SERIES, EchoTime=10.0)
        for path, z in zip(paths, heights, strict=False):
            uid = generate_uid()
            edit(path, AcquisitionNumber=number, ImagePositionPatient=[0, 0, z], SOPInstanceUID=uid)
        for path in paths[len(heights) :]:
            path.unlink()
    with pytest.raises(DicomError, match=found):
        read_dicom(tmp_path)


def test_two_gradient_echoes_are_two_rows(tmp_path):
    volume = small_volume(n_echoes=2)
    write(volume, tmp_path / "dual", ScanningSequence="GR")
    table = read_dicom(tmp_path)
    assert list(table["echo_times_ms"]) in ([(8.5,), (17.0,)], [(17.0,), (8.5,)]) and set(table["n_echoes"]) == {1}
    for row in table.itertuples():
        echo = (8.5, 17.0).index(row.echo_times_ms[0])
        assert np.array_equal(table.volume(row.key).array, volume.echo(echo).array)
    write(volume, tmp_path / "spin", ScanningSequence="SE", SeriesNumber=9)
    assert read_dicom(tmp_path).volume(9).array.shape == (7, 6, 5, 2)


def test_a_gap_in_one_gradient_echo_is_not_split_away(tmp_path):
    write(small_volume(n_echoes=2), tmp_path / "dual", ScanningSequence="GR")[-1].unlink()
    with pytest.raises(DicomError, match="missing slices at some echoes"):
        read_dicom(tmp_path)


# -- echoes as series of their own -------------------------------------------------------------------------------------


def write_echoes(folder, volume, **series):
    for e in range(len(volume.echo_times_ms)):
        write(volume.echo(e), folder / str(e), SeriesNumber=30 - e, EchoTrainLength=4, **series)


def test_echoes_that_came_as_series_are_joined(tmp_path):
    volume = small_volume(n_echoes=4)
    write_echoes(tmp_path, volume)
    write(small_volume(seed=9), tmp_path / "t1", SeriesNumber=2, RepetitionTime=600, EchoTime=10)
    table = read_dicom(tmp_path)
    assert sorted(table["series"]) == [2, 30] or sorted(table["series"]) == [2, 27]
    assert np.array_equal(table.volume("multi_echo").array, volume.array)
    assert table.volume("multi_echo").echo_times_ms == volume.echo_times_ms
    assert "4 echoes came as series 30, 29, 28, 27" in table.set_index("role").warnings["multi_echo"]


@pytest.mark.parametrize("changes", [
    {"RepetitionTime": 2000}, {"FlipAngle": 60}, {"ImagePositionPatient": "moved"}, {"EchoTime": 8.5},
])
def test_series_that_are_no_echoes_of_one_scan_stay_apart(tmp_path, changes):
    write_echoes(tmp_path, small_volume(n_echoes=3))
    for k, path in enumerate(sorted((tmp_path / "1").iterdir())):
        moved = {"ImagePositionPatient": [0, 0, 8 * k + 2]} if "ImagePositionPatient" in changes else {}
        edit(path, **{**changes, **moved})
    assert len(read_dicom(tmp_path)) == 3


# -- echoes that are not all there -------------------------------------------------------------------------------------


def test_a_missing_echo_is_told_by_its_number(tmp_path):
    for path in write(small_volume(n_echoes=5), tmp_path / "a")[2::5]:
        path.unlink()
    with pytest.raises(DicomError, match="missing echoes: of 1 to 5 no image has 3"):
        read_dicom(tmp_path)


def test_a_gap_in_the_echo_times_is_warned_of(tmp_path):
    paths = write(small_volume(n_echoes=5), tmp_path / "a")
    for e, path in enumerate(paths):
        path.unlink() if e % 5 == 2 else edit(path, EchoNumbers=None)
    table = read_dicom(tmp_path)
    assert table["readable"].all() and "an echo may be missing" in table["warnings"][0]


@pytest.mark.parametrize(("time", "found"), [(None, "none has an EchoTime"), (9.0, "all have 9 ms")])
def test_echo_times_absent_or_equal(tmp_path, time, found):
    for path in write(small_volume(n_echoes=3), tmp_path / "a"):
        edit(path, EchoTime=time)
    with pytest.raises(DicomError, match=f"echo times absent or equal: up to 3 images share .* {found}"):
        read_dicom(tmp_path)


def test_fewer_images_than_announced_are_warned_of(tmp_path):
    write(small_volume(), tmp_path / "a", ImagesInAcquisition=6)
    write(small_volume(), tmp_path / "b", ImagesInAcquisition=5, SeriesNumber=6)
    warned = read_dicom(tmp_path).set_index("series").warnings
    assert "announces 6 images and 5 are here" in warned[5] and warned[6] == ""


def test_every_second_slice_missing_is_warned_of(tmp_path):
    for path in write(small_volume(shape=(5, 4, 7)), tmp_path / "a")[1::2]:
        path.unlink()
    assert "16 mm apart where the header says 8" in read_dicom(tmp_path)["warnings"][0]
