"""One image in every transfer syntax, patient position, scaling, pixel type and object, against independent readers."""

from __future__ import annotations

import itertools
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_enhanced import write_enhanced
from dicom_readers import (
    LPS_TO_RAS,
    assert_same_points,
    dcm2niix_volumes,
    nibabel_example,
    simpleitk_volume,
    transcode,
)
from dicom_samples import small_volume, write
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from mrmyo.dicom import read_dicom

# -- transfer syntaxes ---------------------------------------------------------------------------------------------

# the tool of dcmtk that writes it; for JPEG 2000 Debian has none, and OpenJPEG writes it
SYNTAXES = {
    "1.2.840.10008.1.2": ("dcmconv", "+ti"), "1.2.840.10008.1.2.1": ("dcmconv", "+te"),
    "1.2.840.10008.1.2.2": ("dcmconv", "+tb"), "1.2.840.10008.1.2.1.99": ("dcmconv", "+td"),
    "1.2.840.10008.1.2.5": ("dcmcrle",), "1.2.840.10008.1.2.4.70": ("dcmcjpeg", "+e1"),
    "1.2.840.10008.1.2.4.57": ("dcmcjpeg", "+el", "+sv", "6"), "1.2.840.10008.1.2.4.80": ("dcmcjpls",),
    "1.2.840.10008.1.2.4.90": None,
}


def in_every_syntax(dataset, folder, system_tool, stem=""):
    """One image written nine times, as public test sets do it: the series keeps its UID and gets another number."""
    plain = folder.parent / f"{folder.name}-plain.dcm"
    folder.mkdir(exist_ok=True)
    for number, (syntax, command) in enumerate(SYNTAXES.items(), start=1):
        dataset.SeriesNumber = number
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[dataset.SOPInstanceUID, stem, str(number)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(plain)
        target = folder / f"{number}{stem}.dcm"
        if command is None:
            transcode(plain, target, syntax)
        else:
            subprocess.run([system_tool(command[0]), *command[1:], plain, target], check=True, capture_output=True)
        assert pydicom.dcmread(target, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax


def test_nine_syntaxes_of_one_series(tmp_path, system_tool):
    # signed 16 bits; its image lacks neighbours, so it is put at five places
    dataset = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    pixels, start = dataset.pixel_array, np.array(dataset.ImagePositionPatient, float)
    rng = np.random.default_rng(7)
    expected = np.empty((64, 64, 5))
    for k in range(5):
        rolled = np.roll(pixels, 9 * k, axis=(0, 1)) - np.int16(700 * (k == 2))
        rolled[:2] = rng.integers(-32768, 32767, (2, 64))
        dataset.PixelData = rolled.tobytes()
        dataset.ImagePositionPatient = [*start[:2], start[2] + 0.8 * k]
        dataset.InstanceNumber = k + 1
        in_every_syntax(dataset, tmp_path / "series", system_tool, stem=f"-{k}")
        expected[:, :, k] = rolled.T
    table = read_dicom(tmp_path / "series")
    assert table["series"].tolist() == list(range(1, 10)) and table["readable"].all()
    for number in range(1, 10):
        volume = table.volume(number)
        assert np.array_equal(volume.array, expected), list(SYNTAXES)[number - 1]
        assert np.array_equal(volume.affine, table.volume(1).affine)


def test_nine_syntaxes_of_one_mosaic(tmp_path, system_tool):
    in_every_syntax(nibabel_example("siemens_dwi_0"), tmp_path / "mosaics", system_tool)
    table = read_dicom(tmp_path / "mosaics")
    assert table["series"].tolist() == list(range(1, 10)) and table["readable"].all()
    volumes = [table.volume(number) for number in range(1, 10)]
    assert all(np.array_equal(volume.array, volumes[0].array) for volume in volumes)
    assert all(np.allclose(volume.affine, volumes[0].affine, atol=1e-9) for volume in volumes)
    assert volumes[0].shape == (128, 128, 48) and volumes[0].array.max() > 0


# -- patient positions ---------------------------------------------------------------------------------------------

# PS3.3 C.7.3.1.1.2: the patient turned about the table's long axis, then end for end; the scanner's own axes are the
# LPS of a patient who lies head first supine
_QUARTERS = {"S": 0, "DL": 1, "P": 2, "DR": 3}


def scanner_to_patient(position):
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][_QUARTERS[position[2:]]]
    about_z = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return about_z @ (np.diag([-1, 1, -1]) if position.startswith("FF") else np.eye(3))


PLANES = {
    "axial": np.eye(3),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": np.linalg.qr(np.array([[1.0, 0.4, -0.3], [-0.5, 1.0, 0.2], [0.2, -0.3, 1.0]]))[0],
}
POSITIONS = ["HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"]


@pytest.mark.parametrize("position", POSITIONS)
def test_every_patient_position(tmp_path, system_tool, position):
    for number, (plane, directions) in enumerate(PLANES.items(), start=1):
        affine = np.eye(4)
        affine[:3, :3] = scanner_to_patient(position) @ directions @ np.diag([1.5, 2.5, 8.0])
        affine[:3, 3] = scanner_to_patient(position) @ [-40.0, 30.0, 12.0 * number]
        folder = tmp_path / plane
        volume = small_volume(LPS_TO_RAS @ affine, seed=number)
        write(volume, folder, SeriesNumber=number, PatientPosition=position)
        ours = read_dicom(folder).volume(number)
        assert_same_points(ours, volume)
        assert_same_points(ours, simpleitk_volume(sorted(folder.iterdir())))
        assert_same_points(ours, dcm2niix_volumes(system_tool("dcm2niix"), folder)[0])
    table = read_dicom(tmp_path)
    assert table["readable"].all() and len(table) == 4
    if position[2:] in ("S", "P"):
        assert table["plane"].tolist()[:3] == ["axial", "sagittal", "coronal"]


# -- many in one folder --------------------------------------------------------------------------------------------


def test_six_stations_in_one_folder(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    names = iter(np.random.default_rng(5).permutation(1000))
    stations = {}
    for number in range(6):
        affine = np.diag([-1.5, -1.5, 5.0, 1.0])
        affine[:3, 3] = [80, 90, -25.0 * number]
        stations[number + 3] = small_volume(affine, shape=(9, 8, 5), n_echoes=3, seed=number)
        for path in write(stations[number + 3], tmp_path / f"{number}", SeriesNumber=number + 3):
            path.rename(folder / f"{next(names)}")
    table = read_dicom(folder)
    assert table["series"].tolist() == sorted(stations) and table["readable"].all()
    for number, station in stations.items():
        assert_same_points(table.volume(number).echo(2), station.echo(2))
    edges = np.array(table["coverage_mm"].tolist())
    assert edges[:-1, 0] == pytest.approx(edges[1:, 1])  # each station ends where the next begins
    assert edges[0] == pytest.approx([-2.5, 22.5])


# -- enhanced multi-frame ------------------------------------------------------------------------------------------

ENHANCED_GRID = np.array([[-1.5, 0.2, 0.0, 30], [-0.12, -2.5, 0.0, 40], [0.0, 0.0, 8.0, -50], [0, 0, 0, 1.0]])


def enhanced_volume():
    turn, _ = np.linalg.qr(ENHANCED_GRID[:3, :3])
    affine = ENHANCED_GRID.copy()
    affine[:3, :3] = turn @ np.diag([1.5, 2.5, 8.0])
    return small_volume(affine, shape=(12, 10, 5), n_echoes=3)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shuffled", [False, True])
def test_enhanced_echoes_in_one_file(tmp_path, shared, shuffled):
    volume = enhanced_volume()
    order = np.random.default_rng(2).permutation(15) if shuffled else None
    write_enhanced(volume, tmp_path / "a" / "all.dcm", shared=shared, order=order)
    table = read_dicom(tmp_path)
    assert table["readable"].all() and table["n_echoes"].tolist() == [3] and table["role"].tolist() == ["multi_echo"]
    ours = table.volume("multi_echo")
    assert ours.echo_times_ms == pytest.approx(volume.echo_times_ms)
    for e in range(3):
        assert_same_points(ours.echo(e), volume.echo(e))


def test_enhanced_one_file_per_echo(tmp_path, system_tool):
    volume = enhanced_volume()
    for e in (2, 0, 1):
        write_enhanced(volume.echo(e), tmp_path / f"{e}.dcm", number=5, uid="echoes")
        dataset = pydicom.dcmread(tmp_path / f"{e}.dcm")
        dataset.InstanceNumber, dataset.SOPInstanceUID = e + 1, generate_uid(entropy_srcs=["echo", str(e)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(tmp_path / f"{e}.dcm")
    table = read_dicom(tmp_path)
    assert table["readable"].all() and len(table) == 1
    ours = table.volume("multi_echo")
    assert ours.echo_times_ms == pytest.approx(volume.echo_times_ms)
    theirs = dcm2niix_volumes(system_tool("dcm2niix"), tmp_path)
    assert len(theirs) == 3
    for e in range(3):
        assert_same_points(ours.echo(e), volume.echo(e))
        assert_same_points(ours.echo(e), theirs[e])
        assert_same_points(ours.echo(e), simpleitk_volume([tmp_path / f"{e}.dcm"]))


def test_enhanced_rescale_per_frame(tmp_path):
    volume = enhanced_volume()
    slopes = np.array([[0.5 + 0.25 * f, 10.0 * f - 7] for f in range(15)])  # slice by slice, the echoes together
    write_enhanced(volume, tmp_path / "one.dcm", slopes=slopes.tolist())
    ours = read_dicom(tmp_path).volume("multi_echo")
    for e in range(3):
        scaled = volume.array[..., e] * slopes[e::3, 0] + slopes[e::3, 1]
        assert_same_points(ours.echo(e), volume.echo(e).with_array(scaled))


SLOPES = np.array([[2.5, -30.0], [1.0, 0.0], [0.25, 4.0], [3.125, 0.0], [1.5, -1024.0]])


def write_scaled(volume, folder, scales=None):
    """One slope and intercept an image and, where given, Philips' private scale too."""
    paths = write(volume, folder)
    for k, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = *map(str, SLOPES[k]), "normalized"
        if scales is not None:
            dataset.Manufacturer = "Philips Medical Systems"
            block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            block.add_new(0x0E, "FL", scales[k])
        dataset.save_as(path)
    return paths


@pytest.mark.parametrize("philips", [False, True])
def test_rescale_differs_from_slice_to_slice(tmp_path, philips):
    volume = small_volume()
    paths = write_scaled(volume, tmp_path / "series", 0.002 / SLOPES[:, 0] if philips else None)
    ours = read_dicom(tmp_path).volume(5)
    assert_same_points(ours, volume.with_array(volume.array * SLOPES[:, 0] + SLOPES[:, 1]))
    assert_same_points(ours, simpleitk_volume(paths))


def test_philips_images_of_different_scales_are_made_comparable(tmp_path):
    """Chenevert et al., Transl Oncol 2014;7:65-71: signal = (stored × RS + RI) / (RS × SS)."""
    volume = small_volume()
    scales = np.array([0.002, 0.001, 0.004, 0.0005, 0.003])
    write_scaled(volume, tmp_path / "series", scales)
    signal = (volume.array * SLOPES[:, 0] + SLOPES[:, 1]) / (SLOPES[:, 0] * scales)
    table = read_dicom(tmp_path)
    ours = table.volume(5)
    factor = ours.array.max() / signal.max()
    assert_same_points(ours, volume.with_array(signal * factor))
    assert factor == pytest.approx(SLOPES[0, 0] * scales[0], rel=1e-6)  # the first image keeps its displayed values
    assert "scale" in table["warnings"].iloc[0]


def test_every_pixel_type_of_a_series(tmp_path):
    for number, (bits, stored, signed) in enumerate(itertools.product((8, 16, 32), (0, 3), (0, 1)), start=1):
        if bits == 8 and signed:
            continue
        low, high = (-(2 ** (bits - stored - 1)), 2 ** (bits - stored - 1)) if signed else (0, 2 ** (bits - stored))
        kind = np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
        values = np.random.default_rng(number).integers(low, high, (8, 6, 4)).astype(kind)
        paths = write(small_volume(shape=(8, 6, 4)), tmp_path / str(number), SeriesNumber=number)
        for k, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits - stored, bits - stored - 1
            dataset.PixelRepresentation = signed
            dataset.PixelData = values[:, :, k].T.tobytes()
            dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
            dataset.save_as(path)
        array = read_dicom(tmp_path / str(number)).volume(number).array
        assert np.array_equal(array, values.astype(np.float32)), (bits, stored, signed)


@pytest.mark.parametrize("tool", ["dcmcjpeg", "dcmcjpls", "dcmcrle"])
def test_every_bit_depth_compressed(tmp_path, system_tool, tool):
    depths = [(stored, 8 if stored == 8 and not wide else 16) for stored in (8, 10, 12, 16) for wide in (0, 1)]
    for number, ((stored, allocated), signed) in enumerate(itertools.product(sorted(set(depths)), (0, 1)), start=1):
        low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
        values = np.random.default_rng(number).integers(low, high, (40, 34, 3))
        folder = tmp_path / str(number)
        for k, path in enumerate(write(small_volume(shape=(40, 34, 3)), folder, SeriesNumber=number)):
            dataset = pydicom.dcmread(path)
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
            dataset.PixelRepresentation = signed
            dataset.PixelData = values[:, :, k].T.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
            dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
            dataset.save_as(path)
            subprocess.run([system_tool(tool), path, path], check=True, capture_output=True)
        array = read_dicom(folder).volume(number).array
        assert np.array_equal(array, values), (stored, allocated, signed)
