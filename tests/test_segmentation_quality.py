"""What is said of a slice without knowing the truth: features by other means, and that they tell good from bad."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from thighs import draw_thighs

from mrmyo import segmentation_crops
from mrmyo.segmentation import MODEL_PATH, flag_lines, load_model, segment, segment_with_probability, slice_quality
from mrmyo.segmentation_crops import Job, normalise, plan, probabilities, sample
from mrmyo.segmentation_quality import FORMULA_PATH, PREDICTORS, expected_dice, features_of, read_formula
from mrmyo.training_anatomy import build_library
from mrmyo.training_images import draw_batch

NAMES = ("entropy", "sureness", "like_fat", "scope")


@pytest.fixture(scope="module")
def thighs():
    return draw_thighs(20260722)


def random_batch(seed=0):
    """Probabilities (2, 15, 40, 32) that are unsure in places, images and air."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, 15, 40, 32))
    logits[:, 0] += 5
    logits[:, 3, 10:30, 8:24] += 9
    probability = torch.tensor(logits).softmax(1).float()
    return probability, rng.uniform(0, 2, (2, 40, 32)).astype(np.float32), torch.zeros(2, 40, 32)


def test_features_are_what_other_programs_make_of_the_same_probabilities():
    probability, images, air = random_batch()
    known = features_of(probability, images, air)
    for i, p in enumerate(probability.double().numpy()):
        whole, mask = p[1:14].sum(0), np.isin(p.argmax(0), range(1, 14))
        entropy = stats.entropy(p, axis=0, base=15)[whole > 0.5].mean()
        np.testing.assert_allclose(known["entropy"][i], entropy, rtol=1e-4)
        np.testing.assert_allclose(known["sureness"][i], 2 * whole[mask].sum() / (whole.sum() + mask.sum()), rtol=1e-4)
        assert known["muscle_pixels"][i] == mask.sum()
        muscle, fat = images[i][mask], images[i][p[0] > 0.5]
        auc = stats.mannwhitneyu(muscle, fat).statistic / (muscle.size * fat.size)
        assert known["like_fat"][i] == pytest.approx(1 - abs(2 * auc - 1), abs=0.02)


def test_muscle_unlike_fat_and_muscle_like_fat():
    probability, images, air = random_batch(1)
    mask = np.isin(probability.argmax(1).numpy(), range(1, 14))
    apart = features_of(probability, np.where(mask, 0.5, 1.9).astype(np.float32), air)["like_fat"]
    np.testing.assert_allclose(apart, 0, atol=1e-6)
    np.testing.assert_allclose(features_of(probability, 0 * images + 1, air)["like_fat"], 1, atol=1e-6)
    nothing = torch.zeros_like(probability)
    nothing[:, 0] = 1
    empty = features_of(nothing, images, air)
    assert np.isnan([empty[name] for name in ("entropy", "sureness", "like_fat")]).all()


def test_expected_dice_is_the_formula_by_hand():
    formula = {"coefficients": dict(zip(PREDICTORS, (0.5, 1.0, -2.0, 0.1, -0.3, 0.05), strict=True)),
               "usual": {"like_fat": 0.2, "entropy": 0.1, "sureness": 0.9}}
    known = {"sureness": 0.95, "entropy": 0.08, "muscle_cm2": 99.0, "like_fat": np.nan, "scope": 0.9}
    logit = 0.5 + np.log(0.95 / 0.05) - 0.16 + 0.1 * np.log(100) - 0.06 + 0.05 * np.log(9)
    assert expected_dice(known, formula)[0] == pytest.approx(1 / (1 + np.exp(-logit)))


def test_the_formula_of_a_model_counts_and_no_other_stands_in(tmp_path):
    assert read_formula() == load_model().formula
    assert read_formula(tmp_path / "none_quality.json") is None
    assert read_formula(FORMULA_PATH, "of another model") is None
    for path in (MODEL_PATH, MODEL_PATH.with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name.replace("thigh_vnet", "other"))
    other = {**read_formula(), "usual": {"like_fat": 0.0, "entropy": 0.0, "sureness": 0.5}}
    (tmp_path / "other_quality.json").write_text(json.dumps(other))
    (tmp_path / "none.safetensors").write_bytes(MODEL_PATH.read_bytes())
    (tmp_path / "none.json").write_bytes(MODEL_PATH.with_suffix(".json").read_bytes())
    assert load_model(tmp_path / "none.safetensors").formula is None
    assert load_model(tmp_path / "other.safetensors").formula == other
    other["usual"]["entropy"] = 0.5
    (tmp_path / "other_quality.json").write_text(json.dumps(other))
    assert load_model(tmp_path / "other.safetensors").formula == other  # the file beside it has changed


def test_the_shipped_formula_was_fitted_for_the_shipped_weights():
    assert read_formula()["model"] == load_model().hash, f"run scripts/fit_quality.py and commit {FORMULA_PATH.name}"


def test_expected_dice_tells_good_masks_from_bad_ones():
    """Random contrast and disease, drawn anatomy of seeds that nothing was fitted on."""
    library = build_library([], seed=4711, parametric=24, negatives=0, workers=1, progress=False)
    expected, reached = [], []
    for step in range(4):
        images, labels, *_ = draw_batch(library, 31, step, 16)
        found, scope, air = probabilities(load_model().network, images[:, 0].numpy())
        known = features_of(found, images[:, 0].numpy(), air)
        known |= {"scope": scope, "muscle_cm2": known["muscle_pixels"] * 1.25**2 / 100}
        best, true = found.argmax(1), (labels > 0) & (labels < 14)
        mask = (best > 0) & (best < 14)
        score = 2 * (mask & true).sum((1, 2)) / (mask.sum((1, 2)) + true.sum((1, 2)))
        kept = (true.sum((1, 2)) > 300) & (mask.sum((1, 2)) > 0)
        expected.append(expected_dice(known, read_formula())[kept.numpy()])
        reached.append(score.numpy()[kept.numpy()])
    expected, reached = np.concatenate(expected), np.concatenate(reached)
    assert stats.spearmanr(expected, reached)[0] > 0.6
    assert np.abs(expected - reached).mean() < 0.06


@pytest.mark.realdata
def test_expected_dice_ranks_the_slices_of_real_thighs(real_data):
    import sys

    sys.path.insert(0, str(MODEL_PATH.parents[2] / "scripts"))
    from fit_quality import real_slices

    expected, reached = real_slices(real_data, load_model())
    assert len(expected) > 60 and stats.spearmanr(expected, reached)[0] > 0.3


def test_probability_and_entropy_lie_on_the_grid_and_belong_to_the_labels(thighs):
    image, truth = thighs
    found = segment_with_probability(image, progress=False)
    labels = segment(image, progress=False)
    np.testing.assert_array_equal(found.labels.array, labels.array)
    pd.testing.assert_frame_equal(found.quality, slice_quality(labels))
    p, entropy = found.probability.array, found.entropy.array
    assert p.shape == image.shape and p.dtype == np.float32
    assert p.min() >= 0 and p.max() <= 1.001 and entropy.min() >= 0 and entropy.max() <= 1.001
    muscle, true = (labels.array > 0) & (labels.array < 40), (truth > 0) & (truth < 40)
    assert ((p > 0.5) == muscle).mean() > 0.99
    assert (p - true)[true | muscle].mean() == pytest.approx(0, abs=0.1)
    assert entropy[(p > 0.3) & (p < 0.7)].mean() > 3 * entropy[p > 0.98].mean()


def test_several_passes_give_nearly_the_same_labels(thighs):
    few = thighs[0].with_array(thighs[0].array[..., 1:3])
    one, five = (segment(few, progress=False, passes=passes).array for passes in (1, 5))
    differ = one != five
    assert differ.any() and differ.mean() < 0.02
    with pytest.raises(ValueError, match="expected 1 to 5"):
        segment(few, passes=6)


@pytest.mark.parametrize(("turn", "scale"), segmentation_crops.PASSES)
def test_a_pass_that_is_turned_comes_back(turn, scale):
    """The way there and the way back of a smooth picture, with a network that only looks."""

    class Looks:
        def probabilities(self, batch):
            return torch.cat([1 - batch / 2, batch / 2, torch.zeros(len(batch), 13, *batch.shape[2:])], 1), torch.ones(
                len(batch))

    x, y = np.meshgrid(np.linspace(-1, 1, 160), np.linspace(-1, 1, 192), indexing="ij")
    image = np.exp(-4 * ((x - 0.2)**2 + (1.4 * y + 0.1)**2)).astype(np.float32)
    found, _, _ = segmentation_crops._one_pass(Looks(), torch.from_numpy(image[None, None]), turn, scale)
    inner = slice(30, -30)
    np.testing.assert_allclose(2 * found[0, 1, inner, inner].numpy(), image[inner, inner], atol=0.02)


def test_crops_hold_the_thigh_and_stay_small():
    body = np.zeros((3, 200, 150), bool)
    body[:, 20:95, 30:110], body[:, 105:180, 30:110] = True, True  # 150 by 160 mm at 2 mm
    sides = {"left": np.tile([0, 100], (3, 1)), "right": np.tile([100, 200], (3, 1))}
    centres = {"left": np.tile([115.0, 139.0], (3, 1)), "right": np.tile([150.0, 139.0], (3, 1))}  # one is off
    spacing = np.array([2.0, 2.0])
    jobs = plan(body, sides, centres, spacing)
    assert {job.size for job in jobs} == {(160, 160)}
    for job in jobs:
        reach = 0.5 * 1.25 * np.array(job.size)
        low, high = (40, 188) if job.side == "left" else (210, 358)
        assert job.centre[0] - reach[0] <= low and job.centre[0] + reach[0] >= high
        assert job.centre[1] - reach[1] <= 60 and job.centre[1] + reach[1] >= 218


def test_a_crop_shows_what_lies_there():
    x, y = np.meshgrid(2.0 * np.arange(200), 2.0 * np.arange(150), indexing="ij")
    plane = (x + 10 * y).astype(np.float32)
    at = np.arange(160) * 1.25 - 79.5 * 1.25
    for side, order in (("left", 1), ("right", -1)):
        crop = sample(plane, Job(0, side, (200.0, 150.0), (160, 160)), np.array([2.0, 2.0]))
        wanted = 200 + at[::order, None] + 10 * (150 + at)
        np.testing.assert_allclose(crop[5:-5, 5:-5], wanted[5:-5, 5:-5], rtol=1e-4)


def test_folding_batch_norm_changes_nothing_but_rounding(thighs):
    from safetensors.torch import load_file

    from mrmyo.segmentation import KIND, build_network

    card = load_model().card["architecture"]
    plain = build_network(channels=card["channels"], n_classes=card["classes"], kind=KIND).eval()
    plain.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(MODEL_PATH).items()})
    images = normalise(np.moveaxis(thighs[0].array[30:190, 10:170, :2], 2, 0))
    batch = torch.from_numpy(images[:, None])
    with torch.inference_mode():
        for a, b in zip(plain.parts(batch), load_model().network.parts(batch), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-4)


def test_lines_name_the_slices_to_look_at():
    rows = [{"slice": k, "side": side, "flag": flag} for k, side, flag in (
        (0, "left", "cut off"), (0, "right", ""), (1, "left", "cut off; poor"), (1, "right", "poor"), (2, "left", ""),
        (2, "right", ""), (3, "left", "cut off"), (3, "right", ""))]
    assert flag_lines(pd.DataFrame(rows)) == ["left thigh, slices 0–1, 3: cut off", "both thighs, slice 1: poor"]
    assert flag_lines(pd.DataFrame(rows[-1:])) == []


def test_importing_the_room_stays_quick():
    import subprocess
    import sys

    code = "import sys, mrmyo.segmentation; sys.exit(any(m in sys.modules for m in ('torch', 'scipy.stats', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ}).returncode == 0
