"""Left is the patient's left: any order of the array, off centre, tilted, touching thighs, one thigh alone.

How a patient lay (prone, feet first) reaches `segment` as the order in which the array is stored: the 48 orders hold
those of every position, and four of them go through DICOM as well.
"""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from mrmyo import read_dicom
from mrmyo.anatomy import draw_anatomy
from mrmyo.dicom_writing import write_dicom_series
from mrmyo.scanner import rigid
from mrmyo.segmentation import Model, load_model, segment
from mrmyo.volume import Volume

ORDERS = list(product(permutations(range(3)), product((False, True), repeat=3)))  # 48
BRIGHT = np.array([0, 0.8, 2.0, 0.3, 1, 2.0, 0.03, 2.0, 0.2, 1.8])
MM = 2.4
# what a scanner stores: columns to the left of the patient who lies head first on the back, rows to the back, …
POSITIONS = {"HFS": (True, True, False), "HFP": (False, False, False), "FFS": (False, True, True),
             "FFP": (True, False, True)}


class Bright:
    """Takes whatever is bright for muscle, the surer the nearer the middle: what is left of `segment` is geometry."""

    def probabilities(self, batch):
        away = torch.hypot(*torch.meshgrid(*[torch.linspace(-1, 1, n) for n in batch.shape[2:]], indexing="ij"))
        muscle = (batch[:, 0] > 0.15) * (0.95 - 0.3 * away)
        out = torch.zeros(len(batch), 15, *batch.shape[2:])
        out[:, 0], out[:, 1] = 1 - muscle, muscle
        return out, torch.ones(len(batch))


@pytest.fixture(scope="module")
def pairs():
    """[(left thigh, right thigh)]: arrays (x, y, slice) of tissue and of labels, as narrow as the thigh."""
    out = []
    for seed in range(4):
        anatomy = draw_anatomy(np.random.default_rng(seed), sex="FM"[seed % 2], level=0.2 + 0.45 * seed, length_mm=20,
                               spacing_mm=(MM, MM, 10.0))
        tissue, labels = anatomy.tissue.array, anatomy.labels.array
        muscle = np.where((labels > 0) & (labels < 40), labels, 0)
        cut = int(np.argmin([(muscle[:i] > 20).sum() + ((muscle[i:] > 0) & (muscle[i:] < 20)).sum()
                             for i in range(len(labels))]))
        sides = [(tissue[part], labels[part]) for part in (slice(None, cut), slice(cut, None))]
        filled = [np.flatnonzero(t.any((1, 2))) for t, _ in sides]
        out.append([(t[f[0]:f[-1] + 1], lab[f[0]:f[-1] + 1]) for (t, lab), f in zip(sides, filled, strict=True)])
    return out


def case(rng, number, pairs):
    """An image with its true labels, and what makes it special."""
    pair, alone = pairs[number % len(pairs)], number % 6 == 5
    gap = 0 if number % 3 == 0 else int(rng.integers(1, 12))  # every third pair touches
    depth = pair[0][0].shape[1:]
    n = 220
    tissue, labels = np.zeros((n, *depth), int), np.zeros((n, *depth), int)
    off = int(rng.uniform(-60, 60) / MM)
    middle, meta = n // 2 + off, {}
    starts = [middle - gap // 2 - len(pair[0][0]), middle - gap // 2 + gap]
    for side in ([int(rng.integers(2))] if alone else (0, 1)):
        start = starts[side]
        if alone and rng.random() < 0.5:
            meta["Laterality"], start = "LR"[side], int(rng.integers(0, n - len(pair[side][0])))
        elif alone:  # where it belongs: beside the middle of the scanner
            start = n // 2 - len(pair[0][0]) - 2 if side == 0 else n // 2 + 2
        part = slice(start, start + len(pair[side][0]))
        tissue[part], labels[part] = np.maximum(tissue[part], pair[side][0]), np.maximum(labels[part], pair[side][1])
    image = BRIGHT[tissue] * np.exp(rng.normal(0, 0.5) * np.linspace(-1, 1, n))[:, None, None]
    image = np.hypot(image + rng.normal(0, 0.04, image.shape), rng.normal(0, 0.04, image.shape)).astype(np.float32)
    affine = np.diag([MM, MM, 10.0, 1.0])
    affine[:3, 3] = [-0.5 * (n - 1) * MM, -0.5 * (depth[0] - 1) * MM, 0]
    if number % 2:  # an oblique stack, as where the legs do not lie along the table
        affine = rigid(np.zeros(3), rng.uniform(-20, 20, 3)) @ affine
    return Volume(image, affine, meta=meta), labels


def stored(volume, order):
    """The same voxels at the same places in another order of the array."""
    axes, flips = order
    array, affine = np.transpose(volume.array, axes), volume.affine[:, [*axes, 3]].copy()
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
        array = np.flip(array, axis)
    return Volume(array, affine, meta=volume.meta)


def wrong_side(number, pairs, model):
    """The share of the labelled muscle, where there is muscle, that has the other side's values."""
    rng = np.random.default_rng([5, number])
    volume, truth = case(rng, number, pairs)
    order = ORDERS[number % len(ORDERS)]
    found = segment(stored(volume, order), model, progress=False).array.astype(int)
    truth = stored(volume.with_array(truth), order).array
    both = (found > 0) & (found < 40) & (truth > 0) & (truth < 40)
    assert both.sum() > 0.5 * ((truth > 0) & (truth < 40)).sum()
    return ((found > 20) != (truth > 20))[both].mean()


def test_sides_in_two_hundred_cases(pairs):
    model = Model(Bright(), {}, "bright")
    wrong = [wrong_side(number, pairs, model) for number in range(200)]
    assert max(wrong) < 0.01, [(i, round(w, 3)) for i, w in enumerate(wrong) if w >= 0.01]


@pytest.mark.parametrize("position", POSITIONS)
def test_sides_through_dicom_however_the_patient_lay(pairs, position, tmp_path):
    volume, _ = case(np.random.default_rng(3), 0, pairs)
    volume = Volume(np.repeat(volume.array, 2, axis=2), volume.affine @ np.diag([1, 1, 0.5, 1]))  # two are no series
    lying = stored(volume.with_array(np.rint(200 * volume.array).astype(np.uint16)), ((0, 1, 2), POSITIONS[position]))
    write_dicom_series(lying, tmp_path, study={"PatientID": "SYN", "PatientPosition": position, "StudyDate": "20200101",
                                               "StudyTime": "120000"}, series={"SeriesNumber": 2, "EchoTime": 10.0},
                       image_type=("ORIGINAL", "PRIMARY", "OTHER"))
    series = read_dicom(tmp_path)
    read = series.volume(series["key"].iloc[0])
    found = segment(read, Model(Bright(), {}, "bright"), progress=False)
    x = (found.affine[:3, :3] @ np.argwhere(found.array > 0).T)[0] + found.affine[0, 3]
    side = found.array[found.array > 0] > 20
    assert side.any() and not side.all()
    middle = 0.5 * (x[side].min() + x[~side].max())
    assert x[side].min() > x[~side].min() and ((x > middle) == side).mean() > 0.99


@pytest.mark.slow
def test_sides_in_a_thousand_cases_by_geometry_alone(pairs):
    model = Model(Bright(), {}, "bright")
    wrong = [wrong_side(number, pairs, model) for number in range(200, 1200)]
    assert max(wrong) < 0.01, [(i + 200, round(w, 3)) for i, w in enumerate(wrong) if w >= 0.01]


def test_sides_of_the_shipped_model(pairs):
    assert max(wrong_side(number, pairs, load_model()) for number in range(5, 200, 13)) < 0.002


@pytest.mark.slow
def test_sides_in_a_thousand_cases_of_the_shipped_model(pairs):
    model = load_model()
    wrong = [wrong_side(number, pairs, model) for number in range(200, 1200)]
    assert max(wrong) < 0.01, [(i + 200, round(w, 3)) for i, w in enumerate(wrong) if w >= 0.01]
