"""Segmentation: the grid comes back, left stays left, and the shipped model knows its muscles."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from thighs import dice, draw_thighs, reorient

from mrmyo import segmentation, segmentation_crops
from mrmyo.anatomy import draw_anatomy
from mrmyo.evaluation_values import BUILT_IN, convert
from mrmyo.labels import MUSCLES, is_muscle, mirror
from mrmyo.nifti import read_nifti
from mrmyo.segmentation import (
    SegmentationError,
    build_network,
    load_model,
    model_hash,
    normalise,
    segment,
    slice_quality,
)
from mrmyo.volume import Volume, axis_codes, same_grid

NAMED = [value for value, row in enumerate(MUSCLES, start=1) if row[1] not in ("AL", "OTH")]


@pytest.fixture(scope="module")
def thighs():
    """An in-phase-like image of a synthetic pair that the training did not see, and its true labels."""
    return draw_thighs(20260722)


@pytest.fixture(scope="module")
def found(thighs):
    return segment(thighs[0], progress=False)


def test_knows_the_muscles_of_a_thigh_pair_it_never_saw(thighs, found):
    truth = thighs[1]
    scores = [dice(found.array == value + offset, truth == value + offset) for offset in (0, 20) for value in NAMED]
    assert found.array.dtype == np.uint8
    assert np.mean(scores) > 0.8
    assert dice(is_muscle(found.array), is_muscle(truth)) > 0.93
    swapped = mirror(found.array)
    assert dice((swapped > 0) & (swapped < 14), (truth > 0) & (truth < 14)) == 0


def test_area_of_the_whole_muscle_is_not_biased(thighs, found):
    ratio = is_muscle(found.array).sum() / is_muscle(thighs[1]).sum()
    assert 0.95 < ratio < 1.05


@pytest.mark.parametrize(("axes", "flips"), [((0, 1, 2), (0, 1)), ((2, 1, 0), (0,)), ((1, 2, 0), (0, 1, 2))])
def test_every_storage_order_gives_the_same_labels_at_the_same_places(thighs, found, axes, flips):
    moved = reorient(thighs[0], axes, flips)
    assert axis_codes(moved.affine) != "RAS"
    labels = segment(moved, progress=False)
    assert same_grid(labels, moved)
    np.testing.assert_array_equal(labels.array, reorient(found, axes, flips).array)


def test_left_is_the_patients_left(found):
    x = found.affine[0, 0] * np.arange(found.shape[0]) + found.affine[0, 3]
    left, right = (((found.array > low) & (found.array < low + 14)).sum((1, 2)) for low in (0, 20))
    assert (x * left).sum() / left.sum() < -50
    assert (x * right).sum() / right.sum() > 50


def test_off_centre_and_fine_grid_make_little_difference(thighs, found):
    image = thighs[0]
    pad = Volume(np.pad(image.array, ((60, 0), (0, 20), (0, 0))), image.affine)
    labels = segment(pad, progress=False).array[60:, :-20]
    assert dice(is_muscle(labels), is_muscle(found.array)) > 0.98


@pytest.mark.parametrize("seed", range(4))
def test_the_cut_runs_between_the_thighs_under_shading_and_off_centre(seed):
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng, sex="FM"[seed % 2], disease=rng.random(), level=rng.uniform(-0.2, 1.8), length_mm=30,
                           spacing_mm=(2.6, 2.6, 10.0))
    shift = int(rng.uniform(-20, 20))
    tissue, truth = (np.roll(part.array, shift, 0) for part in (anatomy.tissue, anatomy.labels))
    image = np.array([0, 0.8, 2.5, 0.3, 1, 2.5, 0.03, 2.3, 0.2, 1.8])[tissue]
    image *= np.exp(rng.normal(0, 0.7) * np.linspace(-1, 1, image.shape[0]))[:, None, None]
    image = np.hypot(image + rng.normal(0, 0.08, image.shape), rng.normal(0, 0.08, image.shape))
    volume = Volume(image.astype(np.float32), anatomy.labels.affine)
    body = segmentation.find_body(np.moveaxis(volume.array, 2, 0), volume.spacing_mm[:2])
    cuts = segmentation.find_sides(body, volume)["left"][:, 1]
    beyond = sum(((truth[cut:, :, k] > 0) & (truth[cut:, :, k] < 14)).sum() + (truth[:cut, :, k] % 51 > 20).sum()
                 for k, cut in enumerate(cuts))
    assert beyond < 0.01 * is_muscle(truth).sum()


def test_one_thigh_alone_is_named_by_its_side(thighs, found):
    image, half = thighs[0], thighs[0].shape[0] // 2
    affine = image.affine.copy()
    affine[:3, 3] += half * affine[:3, 0]
    right = Volume(image.array[half:], affine)
    labels = segment(right, progress=False).array
    assert not ((labels > 0) & (labels < 20)).any()
    assert dice(is_muscle(labels), is_muscle(found.array[half:])) > 0.95
    named = segment(right.with_array(right.array, meta={"Laterality": "L"}), progress=False).array
    assert not ((named > 20) & (named < 40)).any()


def test_deterministic_and_leaves_input_and_threads_alone(thighs, found):
    import torch

    before, threads = thighs[0].array.copy(), torch.get_num_threads()
    np.testing.assert_array_equal(segment(thighs[0], progress=False).array, found.array)
    np.testing.assert_array_equal(thighs[0].array, before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("make", "says"), [
    (lambda v: reorient(Volume(v.array, np.diag([10.0, 1.3, 1.3, 1])), (0, 1, 2), ()), "sagittal"),
    (lambda v: Volume(v.array, np.diag([1.3, 10.0, 1.3, 1])), "coronal"),
    (lambda v: Volume(np.repeat(v.array[..., None], 2, -1), v.affine), "one echo"),
    (lambda v: v.with_array(np.where(v.array > 2, np.nan, v.array)), "NaN"),
    (lambda v: v.with_array(np.zeros(v.shape)), "no body"),
    (lambda v: Volume(v.array[:40, :40], v.affine), "field of view"),
])
def test_refuses_with_a_reason(thighs, make, says):
    with pytest.raises(SegmentationError, match=says):
        segment(make(thighs[0]), progress=False)


def test_model_file_is_small_and_matches_its_card(tmp_path):
    model = load_model()
    assert segmentation.MODEL_PATH.stat().st_size < 10e6
    assert model.card["sha256"].startswith(model.hash) and model.hash == model_hash()
    assert load_model() is model
    weights = tmp_path / "other.safetensors"
    weights.write_bytes(segmentation.MODEL_PATH.read_bytes())
    with pytest.raises(SegmentationError, match="card"):
        load_model(weights)
    card = {**model.card, "architecture": {**model.card["architecture"], "channels": [8, 16]}}
    weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(SegmentationError, match="does not hold"):
        load_model(weights)
    with pytest.raises(SegmentationError, match="no model file"):
        load_model(tmp_path / "missing.safetensors")


def test_contrasts_beside_one_another_are_averaged(thighs, found):
    volume = thighs[0]
    again = segment(volume, progress=False, beside=[reorient(volume, (2, 1, 0), (0,))])  # the same, stored otherwise
    np.testing.assert_array_equal(again.array, found.array)
    nothing, noise = np.zeros_like(volume.array), np.random.default_rng(0).rayleigh(1, volume.shape)
    almost = nothing.copy()
    almost[:, almost.shape[1] // 2:] = 0.001
    useless = [volume.with_array(array) for array in (nothing, almost, noise)]
    np.testing.assert_array_equal(segment(volume, progress=False, beside=useless).array, found.array)
    blurred = volume.with_array(np.roll(volume.array, 12, axis=1))  # 12 voxels astray: it must pull
    pulled = segment(volume, progress=False, beside=[blurred]).array
    alone = segment(blurred, progress=False).array
    assert dice(pulled > 0, found.array > 0) < 0.99
    assert dice(pulled > 0, alone > 0) > dice(found.array > 0, alone > 0)


def test_the_mean_over_contrasts_leaves_blank_images_out():
    parts = torch.rand(3, 2, segmentation_crops.N_CLASSES, 4, 4)
    shown = np.ones((2, 4, 4), np.float32)
    shown[0, 0] = 2
    blank_second = shown.copy()
    blank_second[1] = 1
    shown[1, 0] = 2
    likely = np.ones(2)
    others = [(shown, (parts[1], likely, None)), (blank_second, (parts[2], likely, None)),
              (shown, (torch.rand_like(parts[0]), 0.4 * likely, None))]  # in which no thigh is seen
    mean = segmentation_crops._average(parts[0], others)
    torch.testing.assert_close(mean[0], parts[:, 0].mean(0))
    torch.testing.assert_close(mean[1], parts[:2, 1].mean(0))


@pytest.mark.parametrize(("change", "says"), [
    (lambda v: Volume(v.array[..., 1:], v.affine), "same grid"),
    (lambda v: Volume(v.array, np.diag([1, 1, 1.02, 1]) @ v.affine), "same grid"),
    (lambda v: v.with_array(np.where(v.array > 0, np.nan, v.array)), "beside the image cannot be used.*segment_beside"),
])
def test_a_contrast_beside_must_be_an_image_on_the_grid(thighs, change, says):
    volume = thighs[0].with_array(thighs[0].array.astype(np.float32))
    with pytest.raises(SegmentationError, match=says):
        segment(volume, progress=False, beside=[change(volume)])


def test_untrained_network_does_not_reach_the_scores(thighs):
    model = load_model()
    untrained = segmentation.Model(build_network().eval(), model.card, "untrained")
    labels = segment(thighs[0], untrained, progress=False).array
    assert np.mean([dice(labels == value, thighs[1] == value) for value in NAMED]) < 0.3


def test_normalise_ignores_scale_and_a_hot_spot(thighs):
    plane = thighs[0].array[..., 2]
    hot = plane.copy()
    hot[:4, :4] = 1000 * plane.max()
    np.testing.assert_allclose(normalise(37 * plane), normalise(plane), rtol=1e-5)
    np.testing.assert_allclose(normalise(hot)[4:, 4:], normalise(plane)[4:, 4:], rtol=0.02)
    assert not normalise(np.zeros((8, 8))).any()


def test_resampling_weights_keep_a_ramp_and_a_mean():
    at = np.linspace(3, 40, 60)
    np.testing.assert_allclose(segmentation_crops._weights(at, 50, 1.0) @ np.arange(50), at, atol=1e-4)
    coarse = segmentation_crops._weights(np.arange(4.0, 40, 4), 50, 1.0)
    np.testing.assert_allclose(coarse @ np.arange(50), np.arange(4.0, 40, 4), atol=1e-4)
    np.testing.assert_allclose((coarse > 0).sum(1), 7)
    assert not segmentation_crops._weights(np.array([-5.0, -4.0]), 50, 1.0).any()


def test_islands_go_to_their_neighbour():
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 2:8, 2:18], labels[0, 10:16, 2:18] = 1, 2
    labels[0, 12, 6:8] = 1  # within muscle 2
    labels[0, 18, 18] = 2  # in the background
    segmentation._clean(labels, "left")
    assert (labels[0, 10:16, 2:18] == 2).all() and labels[0, 18, 18] == 0 and (labels == 1).sum() == 96


def test_importing_the_room_does_not_import_torch():
    code = "import sys, mrmyo.segmentation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.realdata
def test_real_thighs_by_whole_muscle(real_data):
    import nibabel

    def load(name):
        return nibabel.load(real_data / "thigh_dixon" / f"{name}.nii.gz")

    water = load("water")
    image = Volume(np.asarray(water.dataobj, np.float32) + np.asarray(load("fat").dataobj, np.float32), water.affine)
    truth = np.asarray(load("labels_machine").dataobj) > 0
    labels = segment(image, progress=False)
    named = np.isin(labels.array % 20, NAMED) & is_muscle(labels.array)
    assert dice(named[..., 4:9], truth[..., 4:9]) > 0.87  # mid-thigh
    assert dice(named, truth) > 0.8  # where the slices through the pelvis are to be left empty
    quality = slice_quality(labels)
    assert quality[quality["slice"] >= 14]["empty"].all()
    flags = quality[quality["slice"].between(3, 10)].flag
    assert not flags.str.contains("cut off|unlike the slices|hardly any|by position").any()
    # muscle of fat is missed on one side; what else is noticed is little
    others = quality[quality["slice"].between(3, 9)].flag.str.replace("muscle that is named in one thigh alone", "")
    assert (others != "").mean() < 0.2


@pytest.mark.realdata
def test_dixon_images_together_tell_more_than_each_alone(real_data):
    """Fat has replaced this patient's hamstrings. Mean Dice of the eleven labelled muscles, slices 3 to 9."""
    water, fat = (read_nifti(real_data / "thigh_dixon" / f"{name}.nii.gz") for name in ("water", "fat"))
    w, f = (volume.array.astype(np.float32) for volume in (water, fat))
    total, opposed, fat = (water.with_array(array) for array in (w + f, np.abs(w - f), f))
    reference = convert(read_nifti(real_data / "thigh_dixon" / "labels_machine.nii.gz"), BUILT_IN["thigh11"]).array

    def score(**options):
        labels = segment(total, progress=False, **options).array[..., 3:10]
        return np.mean([dice(labels == value + offset, reference[..., 3:10] == value + offset)
                        for offset in (0, 20) for value in NAMED])

    together = score(beside=[opposed, fat])
    assert together > 0.83 and together > score() + 0.01


@pytest.mark.realdata
def test_calves_are_refused(real_data):
    from calf import read_calf

    signal, _, _ = read_calf(real_data / "calf_multiecho_nifti" / "T2data.nii.gz")
    with pytest.raises(SegmentationError, match="no thigh"):
        segment(Volume(signal[..., 0], np.diag([1.2, 1.2, 5.0, 1.0])), progress=False)


def test_quality_tells_what_was_seen_slice_by_slice(thighs, found):
    quality = slice_quality(found)
    assert len(quality) == 2 * thighs[0].shape[2] and not quality.flag.any() and (quality.scope > 0.99).all()
    area = [(is_muscle(found.array[..., k]) & (found.array[..., k] < 20)).sum() * 1.3**2 / 100 for k in range(5)]
    np.testing.assert_allclose(quality[quality.side == "left"].muscle_cm2, area, atol=0.01)
    upside_down = slice_quality(segment(reorient(thighs[0], (0, 1, 2), (2,)), progress=False))
    assert upside_down["slice"].tolist() == quality["slice"].tolist()
    np.testing.assert_allclose(upside_down.muscle_cm2[::-1].to_numpy(), quality.muscle_cm2.to_numpy(), atol=0.01)
    with pytest.raises(ValueError, match="Segment the image"):
        slice_quality(thighs[0])


def test_what_is_cut_off_is_flagged(thighs):
    image = thighs[0]
    bright = np.flatnonzero((image.array > 0.7).any((0, 2)))
    front = int(np.quantile(bright, 0.55))
    try:
        quality = slice_quality(segment(Volume(image.array[:, :front], image.affine), progress=False))
    except SegmentationError as error:
        assert "no thigh" in str(error)  # the front half is gone
    else:
        assert quality.flag.str.contains("cut off").any()


def test_a_ball_is_no_thigh():
    at = np.linalg.norm(np.indices((128, 128, 4))[:2] - 64, axis=0)
    noise = np.random.default_rng(0).normal(0, 0.02, at.shape)
    with pytest.raises(SegmentationError, match="no thigh"):
        segment(Volume(np.abs((at < 40) + noise).astype(np.float32), np.diag([2.0, 2.0, 8.0, 1.0])), progress=False)
