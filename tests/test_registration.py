"""Labels from one series to another: what is carried, what is covered, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrmyo.labels import carry
from mrmyo.registration import RegistrationError, align
from mrmyo.volume import Volume, same_grid


def image(shape, *, spacing=(2.0, 2.0, 6.0), centre=(0.0, 0.0, 0.0), frame="1.2.3", **meta) -> Volume:
    """An axial volume in the order of DICOM, columns to the left and rows backwards."""
    step = np.array([-spacing[0], -spacing[1], spacing[2]])
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = np.asarray(centre) - step * (np.array(shape[:3]) - 1) / 2
    meta = meta if frame is None else {"FrameOfReferenceUID": frame, **meta}
    times = tuple(10.0 * n for n in range(1, shape[3] + 1)) if len(shape) == 4 else None
    return Volume(np.zeros(shape, np.float32), affine, times, meta)


def mask(moving, value=1) -> Volume:
    return Volume(np.full(moving.shape, value, np.uint8), moving.affine)


def test_labels_go_to_the_grid_of_the_fixed_image_by_position_alone():
    moving = image((44, 40, 12), spacing=(1.3, 1.3, 6.0), centre=(2, 1, 3))
    fixed = image((24, 18, 8, 3), spacing=(2.1, 2.4, 6.0), SliceThickness=5.0)
    labels = mask(moving, 0)
    labels.array[:22], labels.array[22:, :, 4:] = 21, 1
    found = align(labels, moving=moving, fixed=fixed, refine=False)
    assert same_grid(found.labels, fixed) and found.labels.array.ndim == 3
    np.testing.assert_array_equal(found.labels.array, carry(labels, fixed).array)
    # x = 2 mm is where right meets left: patient's right has the larger x, and in this order the smaller index
    x = fixed.affine[0, 0] * np.arange(24) + fixed.affine[0, 3]
    assert set(np.unique(found.labels.array[x > 3.1])) == {21} and 21 not in found.labels.array[x < 0.9]
    np.testing.assert_array_equal(found.transform, np.eye(4))
    told = {"method": "DICOM orientation", "coverage": 1.0, "n_slices_covered": 8, "frame_of_reference": "same",
            "refinement": "not asked for", "slices": []}
    assert found.report.items() >= told.items() and np.isnan(found.report["misalignment_mm"])


@pytest.mark.parametrize(("offset_mm", "n_covered"), [(0, 10), (6, 9), (8.9, 9), (9.1, 8), (-24, 6), (56.9, 1)])
def test_the_report_counts_the_slices_whose_middle_is_covered(offset_mm, n_covered):
    moving, fixed = image((20, 20, 10), centre=(0, 0, offset_mm)), image((20, 20, 10))
    report = align(mask(moving), moving=moving, fixed=fixed).report
    assert (report["n_slices_covered"], report["coverage"]) == (n_covered, pytest.approx(n_covered / 10))


def test_an_image_of_one_thigh_covers_the_slices_of_both():
    fixed = image((100, 50, 6))
    moving = image((40, 50, 6), centre=(-60, 0, 0))  # the left one: the middle between the thighs is not in it
    found = align(mask(moving), moving=moving, fixed=fixed)
    assert found.report["coverage"] == 1.0
    x = fixed.affine[0, 0] * np.arange(100) + fixed.affine[0, 3]
    np.testing.assert_array_equal(found.labels.array.any((1, 2)), np.abs(x + 60) < 40)


def test_a_slice_that_only_dips_into_a_tilted_slab_is_not_covered():
    fixed = image((40, 40, 10))
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("y", 20, degrees=True).as_matrix()
    moving = image((60, 40, 3))  # a slab of 18 mm through the middle: 18 / cos(20°) / 6 = 3.2 slices at the middle
    moving = moving.with_array(moving.array, affine=tilt @ moving.affine)
    covered = align(mask(moving), moving=moving, fixed=fixed)
    assert covered.report["n_slices_covered"] == 4  # middles at ±3 and ±9 mm; the slab reaches 9.58 mm there
    assert covered.labels.array.any((0, 1)).sum() > 4


@pytest.mark.parametrize("centre", [(0, 0, 60.1), (0, 0, -61), (100, 0, 0), (0, -80, 0)])
def test_series_that_lie_apart_are_refused(centre):
    moving, fixed = image((20, 20, 10), centre=centre), image((20, 20, 10))
    with pytest.raises(RegistrationError, match="do not overlap"):
        align(mask(moving), moving=moving, fixed=fixed)


def test_coverage_follows_the_slices_whatever_axis_they_are_on():
    fixed = image((20, 20, 10))
    turned = Volume(np.zeros((10, 20, 20)), fixed.affine[:, [2, 0, 1, 3]], meta=fixed.meta)  # slices first
    moving = image((20, 20, 10), centre=(0, 0, 24))
    report = align(mask(moving), moving=moving, fixed=turned).report
    assert report["n_slices_covered"] == 6 and report["coverage"] == pytest.approx(0.6)
    swapped = align(mask(turned), moving=turned, fixed=moving).report
    assert swapped["n_slices_covered"] == 6


def test_another_frame_of_reference_is_refused_unless_told_to_go_on():
    moving, fixed = image((10, 10, 5), frame="1.2.3"), image((10, 10, 5), frame="1.2.4")
    with pytest.raises(RegistrationError, match="ignore_frame_of_reference=True") as caught:
        align(mask(moving), moving=moving, fixed=fixed)
    assert "1.2.3" not in str(caught.value)
    found = align(mask(moving), moving=moving, fixed=fixed, ignore_frame_of_reference=True)
    assert found.report["frame_of_reference"] == "different" and (found.labels.array == 1).all()


def test_an_unknown_frame_of_reference_is_reported_as_such():
    moving, fixed = image((10, 10, 5)), image((10, 10, 5), frame=None)
    assert align(mask(moving), moving=moving, fixed=fixed).report["frame_of_reference"] == "unknown"


def test_labels_of_another_grid_and_refinement_are_refused():
    moving, fixed = image((10, 10, 5)), image((10, 10, 5, 3))
    with pytest.raises(RegistrationError, match="expected one grid"):
        align(mask(image((10, 10, 5), centre=(0.5, 0, 0))), moving=moving, fixed=fixed)
    with pytest.raises(RegistrationError, match="sideways"):
        align(mask(moving), moving=moving, fixed=fixed, refine="sideways")
    assert issubclass(RegistrationError, ValueError)
