"""Labels from one series to another: what is carried, what is covered, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrmyo.labels import carry
from mrmyo.registration import RegistrationError, align
from mrmyo.registration_checks import LEAST_FIT, border_fit
from mrmyo.volume import GridError, Volume, same_grid


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


def test_one_transform_carries_labels_and_fat_fraction():
    """A block of muscle with a fat fraction of 0.6 in it, 3 mm beside where the T2 images show it."""
    moving, fixed = image((60, 40, 6), spacing=(1.0, 1.0, 6.0)), image((60, 40, 6), spacing=(1.0, 1.0, 6.0))
    labels, fat = mask(moving, 0), moving.with_array(np.zeros(moving.shape, np.float32))
    labels.array[20:30, 10:20, 2:4], fat.array[20:30, 10:20, 2:4] = 1, 0.6
    shift = np.eye(4)
    shift[0, 3] = 3.0  # from the T2 images to the structural one
    for transform in (shift, np.linalg.inv(shift)):
        found = align(labels, moving=moving, fixed=fixed, transform=transform)
        carried = found.carry(fat, fixed)
        np.testing.assert_array_equal(found.labels.array > 0, carried.array > 0.3)
        assert found.labels.array.sum() == labels.array.sum() and found.report["method"] == "given transform"
        # in this order of axes the index grows to the left
        step = round(transform[0, 3])
        np.testing.assert_array_equal(found.labels.array, np.roll(labels.array, step, axis=0))
        np.testing.assert_allclose(found.inverse @ found.transform, np.eye(4), atol=1e-12)


def test_slices_may_have_transforms_of_their_own():
    moving = image((40, 30, 4), spacing=(1.0, 1.0, 6.0))
    labels = mask(moving, 0)
    labels.array[10:20, 10:20] = 1
    transforms = np.tile(np.eye(4), (4, 1, 1))
    transforms[2, 0, 3] = 5.0
    carried = carry(labels, moving, transform=transforms).array
    np.testing.assert_array_equal(carried[..., [0, 1, 3]], labels.array[..., [0, 1, 3]])
    np.testing.assert_array_equal(carried[..., 2], np.roll(labels.array[..., 2], 5, axis=0))
    back = carry(moving.with_array(carried), moving, transform=np.linalg.inv(transforms))
    np.testing.assert_array_equal(back.array, labels.array)
    with pytest.raises(GridError, match="3 transforms for 4 slices"):
        carry(labels, moving, transform=transforms[:3])


NO_MOTIONS = [np.eye(3), np.diag([2.0, 1, 1, 1]), np.diag([-1.0, 1, 1, 1]), np.full((4, 4), np.nan)]


@pytest.mark.parametrize("transform", NO_MOTIONS, ids=["3 × 3", "stretched", "mirrored", "NaN"])
def test_a_transform_that_is_no_motion_is_refused(transform):
    moving = image((10, 10, 5))
    with pytest.raises(RegistrationError, match="no rigid motion"):
        align(mask(moving), moving=moving, fixed=moving, transform=transform)


def test_images_without_contents_are_aligned_by_their_headers_and_say_so():
    moving, fixed = image((30, 30, 5)), image((30, 30, 5, 3))
    found = align(mask(moving), moving=moving, fixed=fixed)
    assert found.report["method"] == "DICOM orientation" and (found.labels.array == 1).all()
    assert "too little in the images" in found.report["refinement"]
    assert any("could not be matched" in flag for flag in found.report["flags"])


def disc(shape=(80, 60, 8), *, at=(0.0, 0.0), radius=40.0, **options) -> Volume:
    """A bright cylinder."""
    volume = image(shape, **options)
    i, j, _ = np.indices(shape[:3])
    x, y = volume.affine[0, 0] * i + volume.affine[0, 3] - at[0], volume.affine[1, 1] * j + volume.affine[1, 3] - at[1]
    return volume.with_array(np.where(np.hypot(x, y) < radius, 100.0, 0.0).astype(np.float32))


def test_a_series_that_is_cut_off_is_flagged():
    whole, cut = disc(), disc((40, 60, 8), centre=(39.0, 0, 0))  # a field of view that ends at x = 0
    labels = whole.with_array((whole.array > 0).astype(np.uint8))
    found = align(labels, moving=whole, fixed=cut, refine=False)
    assert re.match(r"(49|5[0-4])% of the muscle lies beside the T2 images", found.report["flags"][0])
    labels = cut.with_array((cut.array > 0).astype(np.uint8))
    found = align(labels, moving=cut, fixed=whole, refine=False)
    assert re.match(r"(49|5[0-4])% of the body in the T2 images lies beside", found.report["flags"][0])
    assert not align(whole.with_array((whole.array > 0).astype(np.uint8)), moving=whole, fixed=whole,
                     refine=False).report["flags"]


def test_the_border_of_a_mask_shows_in_its_own_image_alone():
    """Two cylinders of muscle (40) in a body of fat (100); the mask of another patient lies 12 mm beside them."""
    body, muscle = disc(radius=55.0), disc(radius=25.0)
    noise = np.random.default_rng(0).normal(0, 5, body.shape)
    brightness = np.where(muscle.array > 0, 40, body.array) + noise * (body.array > 0)
    picture = body.with_array(brightness.astype(np.float32))
    labels = body.with_array((muscle.array > 0).astype(np.uint8))
    other = body.with_array((disc(radius=25.0, at=(20.0, 12.0)).array > 0).astype(np.uint8))
    assert border_fit(picture, labels) > 0.8
    assert border_fit(picture, other) < LEAST_FIT
    bright = picture.with_array(np.float32(200) - picture.array)  # muscle may be the brighter one
    assert border_fit(bright, labels) > 0.8
    patchy = np.where(np.arange(80)[:, None, None] < 40, picture.array, bright.array)  # or now one, now the other
    assert border_fit(picture.with_array(patchy), labels) > 0.7
    assert np.isnan(border_fit(picture, labels.with_array(np.zeros_like(labels.array))))
