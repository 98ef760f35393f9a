"""Bad input: a clear error or flags on every slice, never a confident wrong mask. All images here are synthetic."""

from __future__ import annotations

import numpy as np
import pytest
from thighs import dice, draw_thighs, reorient

from mrmyo.labels import is_muscle, mirror
from mrmyo.segmentation import SegmentationError, segment, slice_quality
from mrmyo.segmentation_checks import stack_note
from mrmyo.training_anatomy import build_library
from mrmyo.training_images import draw_batch
from mrmyo.volume import Volume


@pytest.fixture(scope="module")
def thighs():
    return draw_thighs(20260722)


@pytest.fixture(scope="module")
def long_thighs():
    """150 mm from above the knee to mid-thigh."""
    return draw_thighs(5, level=0.55, length_mm=150, spacing_mm=(1.6, 1.6, 15.0))


@pytest.fixture(scope="module")
def no_thighs():
    """(14, 192, 192) random sections of knees, calves, hips and pelves in random contrast."""
    library = build_library([], parametric=1, negatives=20, workers=1, progress=False)
    images, *_ = draw_batch(library, 8, 0, 14, among=np.flatnonzero(library.kind == 2))
    return images[:, 0].numpy()


def flags_of(volume):
    """The quality table of an image, or None where it was refused."""
    try:
        return slice_quality(segment(volume, progress=False))
    except SegmentationError:
        return None


def test_knees_calves_hips_and_pelves_are_refused_or_flagged(no_thighs):
    confident = []
    for i, image in enumerate(no_thighs):
        quality = flags_of(Volume(image[..., None], np.diag([1.25, 1.25, 10.0, 1.0]), meta={"Laterality": "L"}))
        if quality is not None and (quality.flag == "").any():
            confident.append(i)
    assert not confident


def test_sections_of_none_above_the_thighs_are_left_empty(thighs, no_thighs):
    image = thighs[0].array
    beyond = np.zeros((*image.shape[:2], 2), np.float32)
    size = [min(192, n) for n in image.shape[:2]]
    low = [(n - s) // 2 for n, s in zip(image.shape[:2], size, strict=True)]
    beyond[low[0]:low[0] + size[0], low[1]:low[1] + size[1]] = np.moveaxis(
        no_thighs[:2, :size[0], :size[1]], 0, 2)
    quality = flags_of(Volume(np.concatenate([image, beyond], 2), thighs[0].affine))
    assert quality[quality["slice"] >= image.shape[2]]["empty"].all()
    assert not quality[quality["slice"] < image.shape[2] - 1]["empty"].any()


@pytest.mark.parametrize("turn", [(slice(None, None, -1), slice(None, None, -1)), (slice(None), slice(None, None, -1))],
                         ids=["turned", "upside down"])
def test_a_front_that_lies_behind_is_refused(thighs, turn):
    with pytest.raises(SegmentationError, match="front lies behind"):
        segment(Volume(thighs[0].array[turn], thighs[0].affine), progress=False)


def test_a_knee_at_the_top_is_flagged(long_thighs):
    image = long_thighs[0]
    assert not flags_of(image).flag.str.contains("knee").any()
    quality = flags_of(Volume(image.array[..., ::-1], image.affine))
    assert quality[~quality["empty"]].flag.str.contains("knee seems to be at the top").all()


def test_the_order_of_slices_is_judged_by_true_labels_too(long_thighs):
    labels = np.moveaxis(long_thighs[1], 2, 0)
    assert stack_note(labels, 15.0) == "" and "knee" in stack_note(labels[::-1], 15.0)
    assert stack_note(labels[::-1][:3], 15.0) == ""  # too short to tell


def test_a_mirrored_header_cannot_be_noticed(thighs):
    found = segment(thighs[0], progress=False)
    mirrored = segment(Volume(thighs[0].array[::-1], thighs[0].affine), progress=False)
    assert not slice_quality(mirrored).flag.any()
    assert dice(is_muscle(mirror(mirrored.array[::-1])), is_muscle(found.array)) > 0.98


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_slices_are_enough(thighs, n):
    image = Volume(thighs[0].array[..., 2:2 + n], thighs[0].affine)
    labels = segment(image, progress=False)
    assert dice(is_muscle(labels.array), is_muscle(thighs[1][..., 2:2 + n])) > 0.93
    assert len(slice_quality(labels)) == 2 * n


def test_thighs_of_fat_alone_are_refused_or_flagged():
    quality = flags_of(draw_thighs(3, muscle_is_fat=True)[0])
    assert quality is None or (quality.flag != "").all()


def test_legs_cut_off_by_the_field_of_view_are_flagged(thighs):
    image = thighs[0]
    columns = np.flatnonzero((image.array > 0.7).any((1, 2)))
    kept = slice(columns[0] + 35, columns[-1] - 34)  # 45 mm less on either side
    affine = image.affine.copy()
    affine[:3, 3] += kept.start * affine[:3, 0]
    quality = flags_of(Volume(image.array[kept], affine))
    assert quality is None or quality.flag.str.contains("cut off|no thigh").all()


def test_one_leg_is_named_and_its_side_flagged_as_known_by_position(thighs):
    half = thighs[0].shape[0] // 2
    quality = flags_of(Volume(thighs[0].array[:half], thighs[0].affine))
    assert set(quality.side) == {"left"} and quality.flag.str.contains("by position alone").all()


@pytest.mark.parametrize(("make", "says"), [
    (lambda v: v.array - v.array.mean(), "negative voxels"),
    (lambda v: np.full(v.shape, 7.0), "constant"),
    (lambda v: np.random.default_rng(0).rayleigh(1, v.shape), "[Nn]o (thigh|body)"),
    (lambda v: np.where(v.array > 1.5, np.inf, v.array), "NaN or infinite"),
])
def test_what_is_no_magnitude_image_is_refused(thighs, make, says):
    with pytest.raises(SegmentationError, match=says):
        segment(thighs[0].with_array(make(thighs[0])), progress=False)


def test_a_little_below_zero_is_what_interpolation_leaves(thighs):
    array = thighs[0].array - 0.02
    assert (array < 0).any()
    assert not flags_of(thighs[0].with_array(array)).flag.any()


def test_a_volume_stored_upside_down_is_not_upside_down(thighs):
    assert not flags_of(reorient(thighs[0], (1, 0, 2), (0, 1, 2))).flag.any()


def test_one_thigh_out_of_scope_takes_neither_the_other_nor_its_neighbours(thighs):
    array = thighs.array.copy() if hasattr(thighs, "array") else thighs[0].array.copy()
    volume = thighs if hasattr(thighs, "array") else thighs[0]
    whole = segment(volume, progress=False).array
    array[..., 1] = 0
    found = segment(volume.with_array(array), progress=False).array
    kept = [k for k in range(array.shape[2]) if k != 1]
    assert not found[..., 1].any()
    assert ((found[..., kept] > 0).any((0, 1)) == (whole[..., kept] > 0).any((0, 1))).all()


def test_whole_numbers_that_span_their_type_do_not_wrap(thighs):
    volume = thighs if hasattr(thighs, "array") else thighs[0]
    array = (volume.array / volume.array.max() * 32767).astype(np.int16)
    array[0, 0] = -30
    assert (segment(volume.with_array(array), progress=False).array > 0).any()
    with pytest.raises(SegmentationError, match="type bool"):
        segment(volume.with_array(array > 100), progress=False)
