"""Refinement of the alignment on synthetic patients who moved by a known amount between the two series."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.labels import is_muscle
from mrmyo.measure import dice
from mrmyo.registration import align
from mrmyo.registration_rigid import find_motion, turn_deg
from mrmyo.scanner import rigid
from mrmyo.simulation_pairs import simulate_pair
from mrmyo.t2 import fit_t2
from mrmyo.volume import Volume, resample

COARSE = (1.2, 1.2, 1.5)  # anatomies drawn fast; `benchmarks/alignment.py` takes finer ones, and many


@pytest.fixture(scope="module")
def moved():
    """A patient who moved by 7 mm and turned by 4°."""
    return simulate_pair(1, shift_mm=(4.0, -3.0, 4.9), turn_deg=4.0, disease=0.5, spacing_mm=COARSE)


@pytest.fixture(scope="module")
def refined(moved):
    return align(moved.labels, moving=moved.dixon["in_phase"], fixed=moved.echoes)


def distance_mm(found, true, labels):
    places = np.array(np.nonzero(is_muscle(labels.array)))[:, ::50]
    points = labels.affine @ np.vstack([places, np.ones(places.shape[1])])
    return float(np.linalg.norm(((found - true) @ points)[:3], axis=0).mean())


def muscle_t2(pair, labels):
    t2_ms = fit_t2(pair.echoes.array, pair.echoes.echo_times_ms).t2_ms
    return float(np.nanmean(t2_ms[is_muscle(labels.array)], dtype=float))


def test_refinement_finds_the_motion(moved, refined):
    report = refined.report
    start = distance_mm(np.eye(4), moved.motion, moved.labels_t2)
    assert start > 6 and report["method"] == "rigid refinement" and report["refinement"] == "applied"
    assert distance_mm(refined.transform, moved.motion, moved.labels_t2) < 0.5
    assert turn_deg(refined.transform @ np.linalg.inv(moved.motion)) < 0.5
    assert report["misalignment_mm"] == pytest.approx(start, abs=0.5)
    assert report["rotation_deg"] == pytest.approx(4.0, abs=0.5) and report["apart_mm"] < 2
    assert any("moved by" in flag for flag in report["flags"]) and any("turned by" in flag for flag in report["flags"])


def test_the_misalignment_of_every_slice_is_told(moved, refined):
    slices = refined.report["slices"]
    assert [row["slice"] for row in slices] == list(range(20))
    for k in (0, 19):
        muscle = np.zeros_like(moved.labels_t2.array)
        muscle[..., k] = moved.labels_t2.array[..., k]
        true = distance_mm(np.eye(4), moved.motion, moved.labels_t2.with_array(muscle))
        assert slices[k]["distance_mm"] == pytest.approx(true, abs=0.7)
        # where the echoes show the muscle of this slice, from where it is in the Dixon images
        index = np.array(np.nonzero(is_muscle(muscle)))
        seen = moved.labels_t2.affine @ np.vstack([index, np.ones(index.shape[1])])
        right, anterior, superior = (seen - moved.motion @ seen)[:3].mean(axis=1)
        found = [slices[k][name] for name in ("right_mm", "anterior_mm", "superior_mm")]
        assert found == pytest.approx([right, anterior, superior], abs=0.7) and max(map(abs, found)) > 3


def test_refined_labels_lie_on_the_true_ones_and_give_their_t2(moved, refined):
    plain = align(moved.labels, moving=moved.dixon["in_phase"], fixed=moved.echoes, refine=False)
    truth = is_muscle(moved.labels_t2.array)
    overlap = [dice(is_muscle(found.labels.array), truth) for found in (plain, refined)]
    assert overlap[0] < 0.92 and overlap[1] > 0.97
    error = [muscle_t2(moved, found.labels) - muscle_t2(moved, moved.labels_t2) for found in (plain, refined)]
    assert abs(error[1]) < 0.3 and abs(error[1]) < abs(error[0])


def test_the_fat_fraction_goes_the_same_way(moved, refined):
    """Fat over the echoes, by the transform of the labels: where the true mask says muscle, little of it."""
    water, fat = (refined.carry(moved.dixon[name], moved.echoes.echo(0)).array for name in ("water", "fat"))
    share = fat / (water + fat)
    muscle = is_muscle(moved.labels_t2.array)
    still = align(moved.labels, moving=moved.dixon["in_phase"], fixed=moved.echoes, refine=False)
    share_still = still.carry(moved.dixon["fat"], moved.echoes.echo(0)).array
    share_still = share_still / (share_still + still.carry(moved.dixon["water"], moved.echoes.echo(0)).array)
    assert np.nanmean(share[muscle] > 0.5) < 0.5 * np.nanmean(share_still[muscle] > 0.5)


def test_the_same_images_give_the_same_transform(moved, refined):
    again = find_motion(moved.dixon["in_phase"], moved.echoes)
    np.testing.assert_array_equal(again.transform, refined.transform)


def test_a_patient_who_lay_still_stays_where_the_headers_say():
    pair = simulate_pair(2, disease=0.0, sex="M", spacing_mm=COARSE)
    found = align(pair.labels, moving=pair.dixon["in_phase"], fixed=pair.echoes)
    np.testing.assert_array_equal(found.transform, np.eye(4))
    assert found.report["misalignment_mm"] < 0.5 and "cannot be told from none" in found.report["refinement"]
    assert not found.report["flags"]


def test_slices_that_moved_in_plane_are_found_and_moved_back(moved):
    aside = np.zeros((20, 3))
    aside[7], aside[15] = (3.0, 0, 0), (-1.5, 2.0, 0)
    pair = simulate_pair(1, slices_mm=aside, disease=0.5, spacing_mm=COARSE)
    measured = align(pair.labels, moving=pair.dixon["in_phase"], fixed=pair.echoes, refine="measure")
    rest = np.array([row["rest_mm"] for row in measured.report["slices"]])
    assert rest[7] == pytest.approx(3.0, abs=0.6) and rest[15] == pytest.approx(2.5, abs=0.6)
    assert np.median(rest) < 0.4 and measured.transform.shape == (4, 4)
    found = align(pair.labels, moving=pair.dixon["in_phase"], fixed=pair.echoes, refine="slicewise")
    assert found.transform.shape == (20, 4, 4) and "slices moved in plane" in found.report["method"]
    truth = is_muscle(pair.labels_t2.array)
    for k in (7, 15):
        before, after = (dice(is_muscle(a.labels.array)[..., k], truth[..., k]) for a in (measured, found))
        assert after > 0.97 > before
    np.testing.assert_allclose(found.inverse @ found.transform, np.tile(np.eye(4), (20, 1, 1)), atol=1e-9)


def test_images_of_another_patient_are_not_matched(moved):
    other = simulate_pair(5, disease=0.2, sex="M", spacing_mm=COARSE)
    found = align(moved.labels, moving=moved.dixon["in_phase"], fixed=other.echoes)
    assert found.report["method"] == "DICOM orientation" and "not possible" in found.report["refinement"]
    assert any("do both show this patient" in flag for flag in found.report["flags"])


@pytest.mark.realdata
def test_real_legs_are_found_where_they_were_moved(real_data):
    """One station of real legs (strong coil shading), resampled to the voxels of a T2 series 5 mm and 2.4° aside."""
    import nibabel

    image = nibabel.load(real_data / "leg_stacks" / "Join_5.nii.gz")
    legs = Volume(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    motion = rigid((3.0, -2.0, 2.5), (1.0, -1.0, 2.0))
    affine = legs.affine @ np.diag([1.65 / 1.5, 2.75 / 1.5, 1.0, 1.0])
    grid = Volume(np.zeros((290, 174, 31), np.float32), affine)
    seen = resample(legs, Volume(grid.array, motion @ affine))
    found = find_motion(legs, grid.with_array(seen.array))
    middle = grid.with_array((seen.array > np.percentile(seen.array, 80)).astype(np.uint8))
    assert not found.problem and distance_mm(np.eye(4), motion, middle) > 4
    assert distance_mm(found.transform, motion, middle) < 0.5
    assert turn_deg(found.transform @ np.linalg.inv(motion)) < 0.2
