"""Training: images follow from the seed, labels lie on them, and a resumed training is the same training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from mrmyo import training, training_images
from mrmyo.training import draw_batch, draw_image, loss_of, train


@pytest.fixture(scope="module")
def drawn():
    return [draw_image(np.random.default_rng(seed)) for seed in range(16)]


def test_images_follow_from_the_seed(drawn):
    image, labels = draw_image(np.random.default_rng(3))
    np.testing.assert_array_equal(image, drawn[3][0])
    np.testing.assert_array_equal(labels, drawn[3][1])
    assert not np.array_equal(drawn[3][0], drawn[4][0])
    assert image.shape == labels.shape == (160, 160) and image.dtype == np.float32 and labels.max() <= 14


def test_labels_lie_on_the_image(drawn):
    dark = bright = 0
    for image, labels in drawn:
        bone = labels == 14
        shell = bone & ~ndimage.binary_erosion(bone, iterations=2)
        if bone.sum() > 60:
            dark += np.median(image[shell]) < np.median(image[labels > 0])
            bright += 1
            assert ndimage.label(bone)[1] == 1  # the other thigh's femur is not labelled
    assert bright >= 10 and dark >= 0.8 * bright


def test_contrast_is_random(drawn):
    ratios = [np.median(i[ndimage.binary_dilation(x > 0, iterations=6) & (x == 0)]) / np.median(i[(x > 0) & (x < 14)])
              for i, x in drawn if ((x > 0) & (x < 14)).sum() > 500]
    assert min(ratios) < 0.7 and max(ratios) > 1.5


def test_a_pixel_is_muscle_when_at_least_half_of_it_is():
    fine = np.zeros((480, 480), np.uint8)
    fine[0:3, 0:3] = [[1, 1, 2], [2, 2, 0], [0, 0, 0]]  # five of nine, most of them 2
    fine[0:3, 3:6] = [[1, 1, 1], [1, 0, 0], [0, 0, 0]]  # four of nine
    fine[3:6, 0:3] = [[14, 14, 14], [14, 14, 1], [1, 1, 1]]
    labels = training_images._majority(fine)
    assert (labels[0, 0], labels[0, 1], labels[1, 0]) == (2, 0, 14) and (labels > 0).sum() == 2


def test_negatives_are_images_without_labels(monkeypatch):
    monkeypatch.setattr(training_images, "NEGATIVES", 1.0)
    image, labels = draw_image(np.random.default_rng(0))
    assert not labels.any() and image.std() > 0


def test_loss_is_cross_entropy_plus_soft_dice():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 4, 5, 6)), rng.integers(0, 3, (2, 5, 6))  # class 3 is absent
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.moveaxis(np.eye(4)[labels], -1, 1)
    entropy = -np.log((p * truth).sum(1)).mean()
    overlap, size = (p * truth).sum((0, 2, 3)), (p + truth).sum((0, 2, 3))
    expected = entropy + 1 - ((2 * overlap + 1) / (size + 1))[:3].mean()
    assert float(loss_of(torch.tensor(logits), torch.tensor(labels))) == pytest.approx(expected, rel=1e-5)


def test_a_few_steps_reduce_the_loss_on_one_batch():
    images, labels = (torch.from_numpy(a) for a in draw_batch(0, 0, 4))
    network, _, optimiser, _, _ = training._begin(None, {"seed": 0})
    losses = [training._descend(network, optimiser, images, labels.long(), 3e-3) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_resumed_training_gives_exactly_the_same_weights(tmp_path):
    options = {"steps": 3, "seed": 5, "batch_size": 2, "workers": 0, "progress": False}
    whole = train(tmp_path / "whole", **options)
    broken = train(tmp_path / "broken", minutes=0, **options)  # stops after one step
    assert broken.read_bytes() != whole.read_bytes()
    while len((tmp_path / "broken" / "curve.csv").read_text().splitlines()) < 4:
        train(tmp_path / "broken", minutes=0, **options)
    assert broken.read_bytes() == whole.read_bytes()
    assert (tmp_path / "broken" / "curve.csv").read_text() == (tmp_path / "whole" / "curve.csv").read_text()
    with pytest.raises(ValueError, match="was made with"):
        train(tmp_path / "broken", **{**options, "seed": 6})


def test_the_command_line_trains(tmp_path):
    training.main([str(tmp_path), "--steps", "1", "--batch-size", "2", "--workers", "0"])
    assert (tmp_path / "thigh_vnet.safetensors").is_file() and (tmp_path / "thigh_vnet.json").is_file()


def test_learning_rate_rises_then_falls_to_nothing():
    rates = [training._rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == pytest.approx(1.0) and int(np.argmax(rates)) in (4, 5)
    assert np.all(np.diff(rates[5:]) < 0) and rates[-1] < 0.001
