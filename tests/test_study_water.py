"""Water T2 in the route of a study: what is measured on the patient, what is refused, what is kept and redone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pydicom
import pytest

from mrmyo import process_study, read_dicom, read_nifti
from mrmyo.dixon import dixon_images
from mrmyo.epg import epg_signal, slice_profile
from mrmyo.labels import label_table
from mrmyo.settings import Settings
from mrmyo.study_reliability import read_reliability
from mrmyo.study_series import choose_series
from mrmyo.study_water import WATER_FACTS, WATER_FILES, Dixon, choose_dixon, fit_water, read_water, write_water
from mrmyo.t2 import FITTED, SignalError
from mrmyo.volume import Volume

TIMES = tuple(10.0 * n for n in range(1, 11))
ECHO_TIME = 50.0
RESIDUAL = 0.2
TABLE = label_table()
VL = {side: int(TABLE[(TABLE.abbreviation == "VL") & (TABLE.side == side)].value.iloc[0]) for side in ("left", "right")}


@pytest.fixture(scope="module")
def phantom():
    """Two thighs of one muscle in a ring of fat, fatty in part of the right one: everything about it is known."""
    rng = np.random.default_rng(4)
    shape = (72, 36, 6)
    affine = np.diag([2.5, 2.5, 6.0, 1.0])
    x, y, z = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    left, right = (np.hypot(x - centre, y - 17.5) for centre in (53.5, 17.5))
    inside = np.minimum(left, right)
    muscle, body = inside < 11, inside < 17
    labels = np.where(muscle, np.where(left < right, VL["left"], VL["right"]), 0).astype(np.uint8)
    t2 = np.where(muscle, 32 + 8 * (y > 17), 35.0)
    fat = np.where(muscle, 0.03 + 0.27 * ((right < 11) & (z > 2)), 0.92) * body
    b1 = 0.88 + 0.08 * np.cos(x / 14)
    profile = slice_profile(n_positions=17, refocusing_width_ratio=1.6)
    options = {"b1": b1[body], "echo_spacing_ms": 10.0, "n_echoes": 10, "profile": profile}
    water_train = epg_signal(t2[body], t1_ms=1350, **options)
    fat_train = epg_signal(np.full(body.sum(), 90.0), t1_ms=371, **options)
    share = fat[body][:, None]
    signal = np.zeros((*shape, 10))
    signal[body] = 1000 * ((1 - share) * water_train + RESIDUAL * share * fat_train)
    signal = np.hypot(signal + rng.normal(0, 12, signal.shape), rng.normal(0, 12, signal.shape))
    water = 700 * (1 - fat) * np.exp(-ECHO_TIME / t2) * body
    lipid = 700 * fat * np.exp(-ECHO_TIME / 133) * body
    place = Volume(np.zeros(shape, np.float32), affine)
    return {"signal": place.with_array(signal.astype(np.float32), echo_times_ms=TIMES),
            "water": place.with_array(water.astype(np.float32)), "fat": place.with_array(lipid.astype(np.float32)),
            "labels": place.with_array(labels), "t2": t2, "share": fat, "b1": place.with_array(b1.astype(np.float32)),
            "muscle": muscle, "fatty": muscle & (fat > 0.2), "lean": muscle & (fat < 0.1), "core": inside < 9}


def fitted(phantom, first="water", second="fat", kind="water and fat", **options):
    images = (phantom[name] if isinstance(name, str) else name for name in (first, second))
    dixon = Dixon(kind, ("a", "b"), ECHO_TIME)
    return fit_water(phantom["signal"], *images, phantom["labels"], dixon=dixon, **options)


def errors(phantom, maps, where):
    """The mean error of T2 among the fitted voxels of a part of the phantom."""
    chosen = phantom[where] & (maps.status == FITTED)
    assert chosen.sum() > 0.98 * phantom[where].sum()
    return float((maps.t2_ms - phantom["t2"])[chosen].mean())


def test_what_the_fit_needs_is_measured_on_the_images(phantom):
    maps, facts = fitted(phantom)
    assert facts["slice_profile"] == "sinc, ratio 1.6"
    assert facts["residual_fat"] == pytest.approx(RESIDUAL, abs=0.03)
    assert facts["fat_t2_ms"] == pytest.approx(90, abs=8)
    assert facts["sigma"] == pytest.approx(12, rel=0.08)
    assert abs(errors(phantom, maps, "lean")) < 0.3 and abs(errors(phantom, maps, "fatty")) < 1.0
    core = phantom["core"] & (np.arange(6) != 2) & (np.arange(6) != 3)  # no fat of a neighbour in the mean
    assert maps.fat_fraction[core] == pytest.approx(phantom["share"][core], abs=0.08)  # each by its own noisy T2
    assert maps.fat_fraction[core].mean() == pytest.approx(phantom["share"][core].mean(), abs=0.005)
    assert np.nanmean(np.abs(maps.b1 - phantom["b1"].array)[phantom["muscle"]]) < 0.03
    assert facts["flags"] == [] and np.isnan(maps.t2_ms[~phantom["muscle"]]).all()


def test_in_and_opposed_phase_tell_fat_as_well(phantom):
    made = dixon_images(phantom["water"].array, phantom["fat"].array)
    place = phantom["water"]
    maps, facts = fitted(phantom, place.with_array(made["in_phase"].astype(np.float32)),
                         place.with_array(made["opposed_phase"].astype(np.float32)), "in and opposed phase")
    assert facts["fat_fraction_from"] == "in and opposed phase"
    assert facts["residual_fat"] == pytest.approx(RESIDUAL / 0.806, abs=0.06)  # of the fat that two points show
    assert abs(errors(phantom, maps, "lean")) < 0.3 and abs(errors(phantom, maps, "fatty")) < 1.0


def test_the_scanners_b1_map_is_used(phantom):
    maps, facts = fitted(phantom, b1=phantom["b1"])
    assert facts["b1"] == "the scanner's map"
    assert maps.b1[phantom["muscle"]] == pytest.approx(phantom["b1"].array[phantom["muscle"]], abs=0.02)
    assert abs(errors(phantom, maps, "lean")) < 0.4


def test_the_fat_fraction_moves_with_the_patient(phantom):
    """Images acquired 20 mm to the side need the transform that alignment found."""
    moved = {name: Volume(phantom[name].array, phantom[name].affine + np.array([[0, 0, 0, 20.0], *[[0] * 4] * 3]))
             for name in ("water", "fat")}
    shift = np.eye(4)
    shift[0, 3] = 20.0
    right, _ = fitted(phantom, moved["water"], moved["fat"], transform=shift)
    assert abs(errors(phantom, right, "fatty")) < 0.6
    still, _ = fitted(phantom)
    np.testing.assert_allclose(right.t2_ms, still.t2_ms, rtol=1e-3)


def test_swapped_water_and_fat_are_flagged(phantom):
    right_half = np.arange(72)[:, None, None] < 36
    water, fat = (phantom[name].array for name in ("water", "fat"))
    place = phantom["water"]
    _, facts = fitted(phantom, place.with_array(np.where(right_half, fat, water)),
                      place.with_array(np.where(right_half, water, fat)))
    assert [flag for flag in facts["flags"] if "exchanged in the Dixon images of the right thigh" in flag]
    assert not [flag for flag in facts["flags"] if "left thigh" in flag]


def test_without_fat_to_measure_nothing_is_made_up(phantom):
    place = phantom["water"]
    with pytest.raises(SignalError, match="Found 0 voxels of pure fat"):
        fitted(phantom, second=place.with_array(0.05 * place.array))


def test_echoes_that_no_slice_profile_explains_are_flagged(phantom):
    """Every third echo is too bright: no pulse does that."""
    signal = phantom["signal"]
    odd = signal.array * np.where(np.arange(10) % 3 == 1, 1.15, 1.0).astype(np.float32)
    _, facts = fitted({**phantom, "signal": signal.with_array(odd, echo_times_ms=TIMES)})
    assert [flag for flag in facts["flags"] if "no slice profile explains" in flag]


def test_computed_echoes_are_refused(phantom):
    signal = phantom["signal"]
    computed = np.round(1000 * np.exp(-np.array(TIMES) / phantom["t2"][..., None])).astype(np.float32)
    with pytest.raises(SignalError, match="seems to have computed them"):
        fitted({**phantom, "signal": signal.with_array(computed, echo_times_ms=TIMES)})


def test_maps_come_back_from_disk(phantom, tmp_path):
    maps, facts = fitted(phantom)
    write_water(maps, facts, tmp_path)
    again, told = read_water(tmp_path)
    for name in ("t2_ms", "t2_std_ms", "status", "b1", "fat_fraction"):
        np.testing.assert_allclose(getattr(again, name), getattr(maps, name), rtol=1e-6)
    assert told["residual_fat"] == facts["residual_fat"]
    assert read_water(tmp_path / "nowhere") == (None, {"notes": [], "flags": []})


@pytest.fixture(scope="module")
def measured(synthetic_study, tmp_path_factory):
    """The control under its true mask: (output folder, rows)."""
    out = tmp_path_factory.mktemp("water") / "P1"
    study, truth, _ = synthetic_study
    return out, process_study(study, out, labels=truth / "labels_in_phase.nii.gz", progress=False)


def whole(rows):
    return rows[(rows.muscle == "whole muscle") & (rows.side == "both")].iloc[0]


def test_water_t2_of_a_study_is_that_of_its_truth(measured, synthetic_study):
    out, rows = measured
    truth = json.loads((synthetic_study[1] / "truth.json").read_text())
    row = whole(rows)
    assert row.water_t2_ms == pytest.approx(truth["t2_water_ms"], abs=0.6)
    assert row.t2_ms - row.water_t2_ms > 3  # stimulated echoes and fat
    assert 0 < row.fat_fraction < 0.15 and row.n_water_failed < 0.01 * row.n_voxels
    assert 0 < row.water_t2_noise_ms < 4
    study = json.loads((out / "study.json").read_text())
    assert study["water"]["slice_profile"] == "sinc, ratio 1.8"  # the scanner's
    assert study["water"]["residual_fat"] == pytest.approx(0.15, abs=0.06)
    assert any("left by fat suppression" in note for note in study["notes"])


def test_the_quality_page_tells_how_far_t2_can_be_trusted(measured, synthetic_study, tmp_path):
    out, rows = measured
    models, ratio = read_reliability(out)
    by_model = models.set_index("model").t2_ms
    assert by_model["mono-exponential"] == pytest.approx(whole(rows).t2_ms, abs=0.3)  # of every third slice or so
    assert by_model["EPG and Dixon fat: water T2"] == pytest.approx(whole(rows).water_t2_ms, abs=0.3)
    muscle = read_nifti(out / "labels_t2.nii.gz").array > 0
    assert np.nanmedian(ratio.array[muscle]) > 1.02  # the scanner's B1 is below 1
    page = (out / "quality.html").read_text()
    assert "How far T2 can be trusted" in page and "EPG and Dixon fat: water T2" in page and "Water T2 (" in page
    own = tmp_path / "P1"
    shutil.copytree(out, own)
    (own / "echo_ratio.nii.gz").unlink()
    assert read_reliability(own) == (None, None)
    process_study(synthetic_study[0], own, progress=False)
    assert (own / "echo_ratio.nii.gz").exists()


def test_water_is_not_redone_without_need(measured, synthetic_study):
    out, rows = measured
    before = (out / WATER_FACTS).stat().st_mtime_ns
    again = process_study(synthetic_study[0], out, progress=False)
    assert (out / WATER_FACTS).stat().st_mtime_ns == before and again.equals(rows)
    (out / "water_T2map.nii.gz").unlink()
    assert process_study(synthetic_study[0], out, progress=False).equals(rows)
    assert (out / "water_T2map.nii.gz").exists()


def test_a_study_that_lost_its_dixon_images_keeps_no_old_water(measured, synthetic_study, tmp_path):
    out = tmp_path / "P1"
    shutil.copytree(measured[0], out)
    study = tmp_path / "study"
    shutil.copytree(synthetic_study[0], study)
    for folder in study.iterdir():
        if not folder.name.endswith(("in_phase", "multi_echo")):
            shutil.rmtree(folder)
    rows = process_study(study, out, progress=False)
    assert "water_t2_ms" not in rows and whole(rows).t2_ms == whole(measured[1]).t2_ms
    assert not [file for file in WATER_FILES if (out / file).exists()]
    notes = json.loads((out / "study.json").read_text())["notes"]
    assert any("no pair of Dixon images" in note for note in notes)


def test_the_pair_that_is_chosen(synthetic_study, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(synthetic_study[0], study)
    series = read_dicom(study)
    found = choose_dixon(series, choose_series(series, Settings()))
    assert found.kind == "water and fat" and found.echo_time_ms == 51.0 and not found.notes
    shutil.rmtree(next(study.glob("*_fat")))
    series = read_dicom(study)
    found = choose_dixon(series, choose_series(series, Settings()))
    assert found.kind == "in and opposed phase" and "one half" in found.notes[0]
    for path in next(study.glob("*_opposed_phase")).iterdir():  # a frame of reference of its own: the patient was moved
        dataset = pydicom.dcmread(path)
        dataset.FrameOfReferenceUID = "1.2.3.4"
        dataset.save_as(path)
    series = read_dicom(study)
    assert "no pair of Dixon images" in choose_dixon(series, choose_series(series, Settings()))


def test_masks_do_not_reach_other_frames(measured):
    water, _ = read_water(measured[0])
    labels = read_nifti(measured[0] / "labels_t2.nii.gz")
    np.testing.assert_allclose(water.affine, labels.affine, atol=1e-5)
