"""The scanner's own maps: units and invalid values understood, or asked for."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from calf import read_calf
from dicom_enhanced import enhanced_dataset

from mrmyo.dicom import read_dicom
from mrmyo.study_candidates import StudyError
from mrmyo.study_maps import SCANNER_MAP, load_maps, relative_b1, scanner_t2, write_maps
from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK, fit_t2
from mrmyo.volume import Volume


def body(median, shape=(20, 20, 4), *, air=True, seed=1):
    """Tissue that varies by a few per cent, with air about it where a fit gives anything."""
    rng = np.random.default_rng(seed)
    values = median * rng.normal(1, 0.03, shape)
    if air:
        values[:5] = median * rng.uniform(0, 12, (5, *shape[1:]))
    return values


def volume(values, **meta):
    return Volume(np.asarray(values, dtype=np.float32), np.diag([2.0, 2, 5, 1]), meta=meta)


@pytest.mark.parametrize(("stored_per_ms", "facts"), [
    (1, {}), (10, {}), (1000, {}), (0.001, {}),  # told by what is plausible
    (1, {"RescaleType": "ms"}), (0.001, {"Units": "S"}), (1000, {"RescaleType": "us"}), (1, {"RescaleType": "MSEC"}),
    (1, {"RescaleType": "US"}),  # unspecified, says the standard, not microseconds
])
def test_units(stored_per_ms, facts):
    maps = scanner_t2(volume(body(38.0 * stored_per_ms), **facts))
    assert np.nanmedian(maps.t2_ms[5:]) == pytest.approx(38.0, rel=0.01)
    assert maps.model == SCANNER_MAP and maps.echo_times_ms == () and maps.affine is not None
    assert np.isnan(maps.s0).all() and np.isnan(maps.t2_std_ms).all() and np.isnan(maps.residual).all()


def test_real_world_values_apply_to_what_is_stored():
    facts = {"RescaleSlope": 2.0, "RescaleIntercept": 5.0, "RealWorldValueSlope": 0.1, "RealWorldValueIntercept": 1.0,
             "RealWorldValueUnits": "ms", "BitsStored": 12}
    stored = np.full((6, 6, 3), 390.0)
    assert scanner_t2(volume(stored * 2 + 5, **facts)).t2_ms == pytest.approx(40.0)


def test_an_unclear_unit_is_asked_for():
    unclear = volume(body(150.0))
    with pytest.raises(StudyError, match="could be ms or tenths of a ms"):
        scanner_t2(unclear)
    assert np.nanmedian(scanner_t2(unclear, unit_ms=0.2).t2_ms[5:]) == pytest.approx(30, rel=0.02)
    with pytest.raises(StudyError, match="none that is known"):
        scanner_t2(volume(body(0.9)))
    with pytest.raises(StudyError, match="by its header; expected 10 to 300 ms"):
        scanner_t2(volume(body(0.038), RescaleType="ms"))
    with pytest.raises(StudyError, match="settings' t2_map_unit_ms"):
        scanner_t2(volume(body(38.0)), unit_ms=1000)
    with pytest.raises(StudyError, match="no voxel above 0"):
        scanner_t2(volume(np.zeros((6, 6, 3))))


def test_what_is_no_t2_is_nan_with_a_status():
    values = body(38.0, air=False)
    values[0, 0] = 0, -2, np.nan, 4095
    values[1, 0] = 2047, 401, 4.9, 63
    maps = scanner_t2(volume(values, BitsStored=12, PixelPaddingValue=63))
    assert maps.status[0, 0].tolist() == [LOW_SIGNAL, LOW_SIGNAL, NOT_FINITE, AT_BOUND]
    assert maps.status[1, 0].tolist() == [AT_BOUND, AT_BOUND, AT_BOUND, OUTSIDE_MASK]
    np.testing.assert_array_equal(np.isnan(maps.t2_ms), maps.status != FITTED)
    # a saturated value counts as such even where its unit would make a T2 of it
    coarse = scanner_t2(volume(np.where(values > 400, 4095, 380), BitsStored=12), unit_ms=0.09)
    assert coarse.status[0, 0, 3] == AT_BOUND and (coarse.status[2:] == FITTED).all()


def test_maps_survive_the_disk(tmp_path):
    maps = scanner_t2(volume(body(38.0)))
    write_maps(maps, tmp_path)
    again = load_maps(tmp_path)
    np.testing.assert_allclose(again.t2_ms, maps.t2_ms, rtol=1e-6)
    np.testing.assert_array_equal(again.status, maps.status)
    assert (again.model, again.echo_times_ms) == (SCANNER_MAP, ())


@pytest.mark.realdata
def test_a_vendors_own_map_agrees_with_a_fit(real_data):
    """Of a real calf; its unit is told although most of the map is air with the constant -2."""
    signal, times, vendor = read_calf(real_data / "calf_multiecho_nifti" / "T2data.nii.gz")
    maps = scanner_t2(volume(vendor))
    assert (maps.status[vendor < 0] == LOW_SIGNAL).all()
    bright = signal[..., 1] > 0.3 * np.percentile(signal[..., 1], 99)
    ours = fit_t2(signal[bright], times).t2_ms
    ratio = (maps.t2_ms[bright] / ours)[np.isfinite(ours) & np.isfinite(maps.t2_ms[bright])]
    # the vendor fits one exponential to all echoes too; why its T2 is 0.6 % shorter is not known
    assert ratio.size > 30_000 and np.median(ratio) == pytest.approx(0.994, abs=0.002)
    assert np.percentile(ratio, [5, 95]) == pytest.approx([0.989, 1.002], abs=0.003)


@pytest.mark.parametrize(("scale", "facts"), [
    (100, {"RescaleType": "%"}), (100, {"Units": "PCT"}), (100, {}), (1, {}),
    (80, {"RescaleType": "degrees", "FlipAngle": 80}),
    (800, {"ImageType": ("ORIGINAL", "PRIMARY", "FLIP ANGLE MAP", "ND"), "FlipAngle": 80}),  # Siemens tfl_b1map
])
def test_b1_is_relative(scale, facts):
    values = body(0.9 * scale, air=False)
    values[0, 0] = 0, -1, np.nan, 0.9 * scale
    b1 = relative_b1(volume(values, **facts))
    assert np.nanmedian(b1.array) == pytest.approx(0.9, rel=0.01)
    assert np.isnan(b1.array[0, 0]).tolist() == [True, True, True, False] and np.isfinite(b1.array[1:]).all()


def test_a_b1_map_without_a_known_unit_is_refused():
    flip_angle = {"ImageType": ("ORIGINAL", "PRIMARY", "FLIP ANGLE MAP")}
    for median, facts in ((12, {}), (800, {**flip_angle, "FlipAngle": 8}), (800, flip_angle), (0.9, {"Units": "%"})):
        with pytest.raises(StudyError, match="B1 map has a median"):
            relative_b1(volume(body(median), **facts))


def test_slices_scaled_differently_are_converted_each_by_its_own():
    """Display and real-world scales apart: what is stored × the slice's own real-world slope counts."""
    t2, applied, real = np.array([40.0, 50, 60]), np.array([1.0, 2, 3]), np.array([0.1, 0.2, 0.4])
    stored = np.ones((6, 6, 1)) * np.round(t2 / real)
    scales = tuple((a, 0, 1, 0, r, 0, "ms") for a, r in zip(applied, real, strict=True))
    of_slices = volume(stored * applied, FrameScales=scales, RealWorldValueSlope=0.1, RealWorldValueUnits="ms")
    np.testing.assert_allclose(scanner_t2(of_slices).t2_ms, np.ones((6, 6, 1)) * t2, rtol=1e-3)
    mixed = tuple((*scale[:6], unit) for scale, unit in zip(scales, ("ms", "ms", None), strict=True))
    with pytest.raises(StudyError, match="different units"):
        scanner_t2(volume(stored * applied, FrameScales=mixed))
    silent = tuple((a, 0, a, 0, 1, 0, None) for a in applied)
    shown = np.ones((6, 6, 1)) * t2
    with pytest.raises(StudyError, match=r"different rescale slopes.*t2_map_unit_ms"):
        scanner_t2(volume(shown, FrameScales=silent))
    for known in ({"RescaleType": "ms"}, {}):
        unit_ms = None if known else 1
        np.testing.assert_allclose(scanner_t2(volume(shown, FrameScales=silent, **known), unit_ms=unit_ms).t2_ms, shown)
    with pytest.raises(StudyError, match="scaled differently"):
        relative_b1(volume(shown, FrameScales=silent))


def test_scales_of_the_frames_of_an_enhanced_map_come_along(tmp_path):
    t2, slopes = np.array([40.0, 50, 60]), (0.1, 0.2, 0.4)
    grid = Volume(np.round(np.ones((8, 8, 1)) * t2 / slopes).astype(np.uint16), np.diag([2.0, 2, 5, 1]))
    image = enhanced_dataset(grid)
    image.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "T2_MAP"]
    for slope, frame in zip(slopes, image.PerFrameFunctionalGroupsSequence, strict=True):
        unit, mapping = pydicom.Dataset(), pydicom.Dataset()
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "ms", "UCUM", "ms"
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
        mapping.MeasurementUnitsCodeSequence = [unit]
        frame.RealWorldValueMappingSequence = [mapping]
    image.save_as(tmp_path / "map.dcm", enforce_file_format=True)
    read = read_dicom(tmp_path).volume("t2_map")
    np.testing.assert_allclose(scanner_t2(read).t2_ms.mean((0, 1)), t2, rtol=1e-3)
