"""Random thighs: the same by the same seed, whole, on their sides, and as large as real ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mrmyo.anatomy import LEVEL_RANGE, TISSUES, cut_thigh, draw_anatomy, draw_thigh
from mrmyo.labels import FEMUR, MUSCLES, is_muscle

PIXEL_MM = 1.5
MUSCLE, CORTEX, MARROW = (TISSUES.index(name) for name in ("muscle", "cortical bone", "marrow"))
NAMED = range(1, 13)  # all but "other muscle", which lies further up


def plane(half_mm=112.0):
    line = np.arange(-half_mm, half_mm, PIXEL_MM)
    return np.meshgrid(line, line, indexing="ij")


def draw(seed, *, length_mm=24.0, **options):
    return draw_anatomy(np.random.default_rng(seed), length_mm=length_mm, spacing_mm=(1.5, 1.5, 6.0), **options)


@pytest.fixture(scope="module")
def anatomies():
    return [draw(seed, sex=sex, disease=disease, level=0.9) for seed, sex, disease in
            ((0, "F", 0.0), (1, "M", 0.0), (2, "F", 0.5), (3, "M", 1.0))]


def test_the_same_seed_draws_the_same_thighs_and_another_seed_others():
    one, same, other = (draw(seed, length_mm=6.0) for seed in (5, 5, 6))
    for name in ("labels", "tissue", "fat_fraction", "oedema"):
        a, b, c = (getattr(anatomy, name).array for anatomy in (one, same, other))
        np.testing.assert_array_equal(a, b)
        assert (a != c).mean() > 0.02


def test_a_section_depends_on_the_place_not_on_the_grid():
    thigh = draw_thigh(np.random.default_rng(1))
    x, y = plane()
    whole, part = cut_thigh(thigh, 0.8, x, y), cut_thigh(thigh, 0.8, x[30:110, 20:120], y[30:110, 20:120])
    np.testing.assert_array_equal(whole.fat_fraction[30:110, 20:120] > 0, part.fat_fraction > 0)
    assert (whole.labels[30:110, 20:120] == part.labels).mean() > 0.995  # borders are measured within the grid


def test_all_named_muscles_of_both_sides_are_there_on_their_own_side(anatomies):
    for anatomy in anatomies:
        labels = anatomy.labels.array
        middle = labels[:, :, labels.shape[2] // 2]
        for value in NAMED:
            for side in (value, value + 20):
                assert (middle == side).sum() * PIXEL_MM**2 > 25, f"label {side}"
        x = anatomy.labels.affine[0, 0] * np.arange(len(labels)) + anatomy.labels.affine[0, 3]
        left, right = (np.isin(labels, [*range(offset + 1, offset + 14), femur]).any((1, 2))
                       for offset, femur in ((0, FEMUR["left"]), (20, FEMUR["right"])))
        assert x[left].max() < 0 < x[right].min()  # RAS: x grows to the patient's right
        assert x[left].min() > x[0] + 1 and x[right].max() < x[-1] - 1, "cut off by the field"


def test_muscles_lie_where_they_belong(anatomies):
    """In a left thigh medial is to the right: vastus medialis medially of the lateral one, the quadriceps in front."""
    for anatomy in anatomies:
        labels, affine = anatomy.labels.array, anatomy.labels.affine
        centre = {v: affine[:2, :2] @ np.argwhere(labels == v).mean(0)[:2] for v in np.unique(labels)}
        for offset, medially, femur in ((0, 1, 51), (20, -1, 52)):
            vl, vm, rf, gra, am, st, bfl = (centre[offset + v] for v in (1, 2, 4, 6, 7, 10, 11))
            assert medially * (vm - vl)[0] > 10 and medially * (gra - centre[femur])[0] > 20
            assert medially * (st - bfl)[0] > 5
            assert rf[1] > centre[femur][1] + 15 and am[1] < centre[femur][1] < vl[1] + 40 and bfl[1] < vl[1]


def test_labels_and_tissues_say_the_same(anatomies):
    for anatomy in anatomies:
        labels, tissue = anatomy.labels.array, anatomy.tissue.array
        np.testing.assert_array_equal(is_muscle(labels), tissue == MUSCLE)
        np.testing.assert_array_equal(np.isin(labels, [51, 52]), np.isin(tissue, [CORTEX, MARROW]))


def test_the_cortex_surrounds_the_marrow_with_one_ring(anatomies):
    for anatomy in anatomies:
        for section in np.moveaxis(anatomy.tissue.array, 2, 0):
            marrow = section == MARROW
            rim = ndimage.binary_dilation(marrow, np.ones((3, 3))) & ~marrow
            assert ndimage.label(marrow)[1] == 2 and (section[rim] == CORTEX).all()
            bone = marrow | (section == CORTEX)
            np.testing.assert_array_equal(ndimage.binary_fill_holes(section == CORTEX), bone)
            for n in np.bincount(ndimage.label(bone)[0].ravel())[1:]:
                assert 22 < 2 * np.sqrt(n * PIXEL_MM**2 / np.pi) < 36  # mm across a femoral shaft


def test_the_knee_end_of_the_femur_is_wide_with_a_thin_wall():
    thigh = draw_thigh(np.random.default_rng(4))
    shaft, knee = (cut_thigh(thigh, level, *plane()).tissue for level in (1.0, -0.6))
    share = [(t == CORTEX).sum() / ((t == CORTEX) | (t == MARROW)).sum() for t in (shaft, knee)]
    assert (knee == MARROW).sum() > 4 * (shaft == MARROW).sum() and share[1] < 0.5 * share[0]


def test_fat_fraction_and_oedema_stay_in_their_range_and_place(anatomies):
    for anatomy in anatomies:
        fat, oedema, tissue = (v.array for v in (anatomy.fat_fraction, anatomy.oedema, anatomy.tissue))
        assert fat.min() >= 0 and fat.max() <= 1
        assert oedema.min() >= 0 and oedema.max() <= 1.3 and not oedema[tissue != MUSCLE].any()
        lean = [TISSUES.index(name) for name in ("air", "cortical bone", "artery", "vein")]
        assert not fat[np.isin(tissue, lean)].any()
        assert fat[np.isin(tissue, [MARROW, TISSUES.index("subcutaneous fat")])].min() > 0.9


def test_disease_replaces_muscle_by_fat():
    fat, muscle_cm2 = [], []
    for disease in (0.0, 1.0):
        thighs = [draw_thigh(np.random.default_rng(seed), disease=disease) for seed in range(8)]
        sections = [cut_thigh(thigh, 0.8, *plane()) for thigh in thighs]
        fat.append(np.mean([s.fat_fraction[s.tissue == MUSCLE].mean() for s in sections]))
        muscle_cm2.append(np.mean([(s.tissue == MUSCLE).sum() for s in sections]) * PIXEL_MM**2 / 100)
    assert 0.02 < fat[0] < 0.06 and fat[1] > fat[0] + 0.02
    assert muscle_cm2[1] < muscle_cm2[0]


def test_size_and_subcutaneous_fat_are_as_asked():
    x, y = plane(130.0)

    def cut(**options):
        return cut_thigh(draw_thigh(np.random.default_rng(3), **options), 0.8, x, y).tissue

    def cm2(tissue, *names):
        return np.isin(tissue, [TISSUES.index(n) for n in names]).sum() * PIXEL_MM**2 / 100

    thin, fat, large = cut(fat_mm=5.0), cut(fat_mm=20.0), cut(size=1.1, fat_mm=5.0)
    assert cm2(large, "muscle") / cm2(thin, "muscle") == pytest.approx(1.21, abs=0.06)
    assert cm2(fat, "muscle") == pytest.approx(cm2(thin, "muscle"), rel=2e-3)  # fat lies outside; a vein follows it
    # a ring of t mm around a disc of radius r: (r + t)² - r²
    r = np.sqrt(cm2(thin, *set(TISSUES) - {"air", "skin", "subcutaneous fat"}) * 100 / np.pi)
    for tissue, t in ((thin, 5.0), (fat, 20.0)):
        found = cm2(tissue, "subcutaneous fat", "skin") * 100 / np.pi
        assert found == pytest.approx((r + t) ** 2 - r**2, rel=0.25)


def test_women_are_drawn_smaller_with_more_subcutaneous_fat():
    found = {}
    for sex in "FM":
        tissue = np.stack([draw(seed, sex=sex, length_mm=6.0).tissue.array for seed in range(6)])
        found[sex] = [(tissue == TISSUES.index(name)).sum() for name in ("muscle", "subcutaneous fat")]
    assert found["F"][0] < 0.95 * found["M"][0] and found["F"][1] > 1.2 * found["M"][1]


@pytest.mark.parametrize("level", [LEVEL_RANGE[0] - 0.01, LEVEL_RANGE[1] + 0.01, np.nan])
def test_levels_outside_the_thigh_are_refused(level):
    with pytest.raises(ValueError, match="the anatomy covers"):
        cut_thigh(draw_thigh(np.random.default_rng(0)), level, *plane())


@pytest.mark.realdata
def test_muscles_are_as_large_as_in_real_label_maps(real_data):
    """The script that made the shape table reads the maps; the areas of the drawn thighs come from the drawn thighs."""
    place = Path(__file__).resolve().parent.parent / "scripts" / "fit_anatomy.py"
    spec = importlib.util.spec_from_file_location("fit_anatomy", place)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    values = sorted(script.TO_MRMYO.values())
    paths = [path for path in sorted((real_data / "thigh_labels").glob("THIGH*.nii.gz")) if "114" not in path.name][::2]
    controls = [real_data / "thigh_labels" / f"{name}.nii.gz" for name in ("HV002_2_0000", "THIGH_031_0000")]

    def areas_cm2(path, level=0.8):
        return [[(labels == v).sum() * zoom.prod() / 100 for v in values]
                for at, labels, zoom in script.read_sections(path) if abs(at - level) < 0.1]

    real = np.array([areas for path in paths for areas in areas_cm2(path)])
    assert len(real) >= 20
    thighs = [draw_thigh(np.random.default_rng(seed)) for seed in range(12)]
    drawn = [cut_thigh(thigh, 0.8, *plane()).labels for thigh in thighs]
    drawn = np.array([[(labels == v).sum() * PIXEL_MM**2 / 100 for v in values] for labels in drawn])
    factor = (drawn.mean(0) / drawn.sum(1).mean()) / (real.mean(0) / real.sum(1).mean())
    named = {MUSCLES[v - 1][1]: round(float(f), 2) for v, f in zip(values, factor, strict=True)}
    assert factor.min() > 1 / 1.35 and factor.max() < 1.35, named
    # the drawn thighs are healthy: between a slight woman's and a strong man's
    most, least = (np.sum(areas_cm2(path), axis=1).mean() for path in controls)
    assert least < drawn.sum(1).mean() < most
