"""The fits in PyTorch give what the compiled loops give; where they do not, rounding alone moves the latter too."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch

from mrmyo import t2_torch
from mrmyo.epg import epg_signal, slice_profile
from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK, SignalError, fit_t2
from mrmyo.t2_epg import EpgAssumptions
from mrmyo.t2_rician import information_table, ratio_table
from mrmyo.volume import Volume

TIMES = np.arange(1, 11) * 10.0
N = 20_000
HARD, SHAPED = EpgAssumptions(), EpgAssumptions(profile=slice_profile())
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(t2, b1, fat, made, n_echoes=10):
    """Signals of water and fat for unit magnetisation of both together."""
    options = {"b1": b1, "echo_spacing_ms": 10.0, "n_echoes": n_echoes, "profile": made.profile}
    water = epg_signal(t2, t1_ms=made.t1_ms, **options)
    lipid = epg_signal(np.full(t2.shape, made.fat_t2_ms), t1_ms=made.fat_t1_ms, **options)
    return (1 - fat[..., None]) * water + made.residual_fat * fat[..., None] * lipid


@cache
def scene(kind, seed=1, n=N):
    """Signals and what is known of voxels of all sorts: a quarter each without noise and with ratios of 20, 50, 200."""
    rng = np.random.default_rng(seed)
    t2, b1, fat = rng.uniform(15, 200, n), rng.uniform(0.5, 1.15, n), rng.uniform(0, 0.5, n)
    made = SHAPED if "profile" in kind else HARD
    fat = fat if "fat" in kind else 0 * fat
    clean = 1000 * (np.exp(-TIMES / t2[:, None]) if "mono" in kind else train(t2, b1, fat, made))
    sigma = np.resize([1e-9, 50.0, 20.0, 5.0], n)
    sd = sigma[:, None]
    signal = np.hypot(clean + sd * rng.normal(size=clean.shape), sd * rng.normal(size=clean.shape))
    sigma = np.maximum(sigma, 1.0)  # a fit that knows of no noise at all divides by it
    signal[:40, 3], signal[40:80, 0], signal[80:120, 9] = np.nan, np.inf, -np.inf
    signal[120:160], signal[160:200], signal[200:240] = 0.0, -signal[160:200], 4095.0
    signal[240:280, :4] = 1000.0
    signal[280:1280] = np.hypot(*rng.normal(0, 20, (2, 1000, 10)))
    b1[::9] = np.nan
    return signal, {"sigma": sigma, "b1": b1, "fat_fraction": fat, "assumptions": made}


CASES = {
    "mono": (), "mono, noise known": ("sigma",),
    "water": (), "water, noise known": ("sigma",), "water, B1 known": ("b1",),
    "water and fat": ("fat_fraction",), "water and fat, noise known": ("fat_fraction", "sigma"),
    "water and fat, noise and B1 known": ("fat_fraction", "sigma", "b1"),
    "profile": (), "profile, B1 known": ("b1",), "profile and fat, noise known": ("fat_fraction", "sigma"),
}


def case(name, **how):
    """Signals and options of a case."""
    signal, known = scene(name.split(",")[0], **how)
    options = {option: known[option] for option in CASES[name]}
    return signal, options if "mono" in name else {"model": "epg", "assumptions": known["assumptions"], **options}


def share_near(found, expected, rtol, atol=0.0):
    return np.mean(np.abs(found - expected) <= rtol * np.abs(expected) + atol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_same_answers_as_the_compiled_fit(name, device):
    signal, options = case(name)
    compiled, found = fit_t2(signal, TIMES, **options), fit_t2(signal, TIMES, device=device, **options)
    assert np.mean(compiled.status == found.status) >= 0.999
    assert {FITTED, AT_BOUND, LOW_SIGNAL, NOT_FINITE} == set(found.status)
    both = (compiled.status == FITTED) & (found.status == FITTED)
    tolerance = 1e-4 if "mono" in name else 1e-3
    assert share_near(found.t2_ms[both], compiled.t2_ms[both], tolerance) >= 0.999
    assert share_near(found.s0[both], compiled.s0[both], tolerance) >= 0.999
    # without noise what is left over is the rounding of single precision, 1e-5 of a signal of 1000
    assert share_near(found.residual[both], compiled.residual[both], 1e-3, 1e-2) >= 0.999
    assert found.residual[both].mean() == pytest.approx(compiled.residual[both].mean(), rel=2e-5)  # as good as a whole
    assert share_near(found.t2_std_ms[both], compiled.t2_std_ms[both], 2e-2, 1e-3) >= 0.999
    assert np.isnan(found.t2_ms[found.status != FITTED]).all() and found.t2_ms.dtype == np.float32
    if "mono" not in name:
        assert share_near(found.b1[both], compiled.b1[both], 0, 1e-3) >= 0.999
    assert found.notes == compiled.notes


def test_differing_voxels_are_those_whose_compiled_answer_rounding_decides():
    """Signals changed 300 times by 2e-7 of themselves move the compiled answer too, in four voxels of five."""
    moved = []
    for name in CASES:
        signal, options = case(name)
        compiled, found = fit_t2(signal, TIMES, **options), fit_t2(signal, TIMES, device="cpu", **options)

        def other(maps, voxels, compiled=compiled):
            gone = maps.status != compiled.status[voxels]
            return gone | (np.abs(maps.t2_ms / compiled.t2_ms[voxels] - 1) > 1e-3)

        voxels = np.flatnonzero(other(found, slice(None)))
        assert voxels.size <= 0.001 * N
        if voxels.size:
            again = np.repeat(voxels, 300)
            nudge = 1 + 2e-7 * np.random.default_rng(0).standard_normal((again.size, 10))
            few = {k: v[again] if isinstance(v, np.ndarray) else v for k, v in options.items()}
            moved += other(fit_t2(signal[again] * nudge, TIMES, **few), again).reshape(-1, 300).any(axis=1).tolist()
    assert np.mean(moved) >= 0.8 and len(moved) < 0.0005 * N * len(CASES)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("made", [HARD, SHAPED], ids=["hard pulses", "slice profile"])
def test_smooth_b1_mask_and_volume(device, made):
    shape = (40, 36, 4)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    rng = np.random.default_rng(11)
    b1, fat = 0.85 - 0.12 * x + 0.05 * y, rng.uniform(0, 0.3, shape)
    clean = 50 * train(rng.uniform(30, 45, shape), b1, fat, made)
    signal = Volume(np.hypot(clean + rng.normal(size=clean.shape), rng.normal(size=clean.shape)),
                    np.diag([2.0, 2.0, 6.0, 1.0]), tuple(TIMES))
    for options in ({"sigma": 1.0}, {"fat_fraction": fat}, {"sigma": "estimate", "fat_fraction": fat},
                    {"mask": x < 0.5}, {"skip_first": True, "sigma": 1.0}):
        options = {"model": "epg", "assumptions": made, "b1": "smooth", **options}
        compiled, found = fit_t2(signal, **options), fit_t2(signal, device=device, **options)
        same = found.status == compiled.status
        assert same.mean() >= 0.999 and found.t2_ms.shape == shape and np.array_equal(found.affine, signal.affine)
        assert ((found.status == OUTSIDE_MASK) == ~np.asarray(options.get("mask", np.ones(shape, bool)))).all()
        there = same & (found.status == FITTED)
        # a voxel whose B1 rounding decides reaches its neighbours when B1 is smoothed, as in the compiled fit
        assert share_near(found.t2_ms[there], compiled.t2_ms[there], 1e-3) >= 0.998
        assert share_near(found.t2_ms[there], compiled.t2_ms[there], 5e-3) >= 0.999
        assert share_near(found.b1[there], compiled.b1[there], 0, 2e-3) >= 0.998
        assert found.noise_volume == pytest.approx(compiled.noise_volume, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["mono", "mono, noise known"])
def test_one_exponential_of_uneven_echoes_of_any_type(name, device):
    times = np.array([8.0, 11, 19, 33, 60, 95])
    t2 = np.random.default_rng(3).uniform(15, 200, 3000)
    signal = np.round(1000 * np.exp(-times / t2[:, None])).astype(np.uint16).reshape(30, 10, 10, 6)
    for array in (signal, signal.astype(">i2"), signal.astype(np.float16), signal[::-1, :, ::2]):
        array.flags.writeable = False
        options = {"sigma": 5.0} if "noise" in name else {}
        compiled, found = fit_t2(array, times, **options), fit_t2(array, times, device=device, **options)
        assert np.array_equal(found.status, compiled.status)
        np.testing.assert_allclose(found.t2_ms, compiled.t2_ms, rtol=1e-5)
        np.testing.assert_allclose(found.residual, compiled.residual, rtol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_batches_of_any_size_give_the_same(name, device, monkeypatch):
    signal, options = case(name, n=3000)
    found = []
    for size in (1 << 18, 777, 64):
        monkeypatch.setattr(t2_torch, "BATCH", {"cpu": size, "cuda": size})
        found.append(fit_t2(signal, TIMES, device=device, **options))
    for maps in found[1:]:
        assert np.array_equal(maps.status, found[0].status)
        for key in ("t2_ms", "s0", "t2_std_ms", "residual", "b1")[: 4 if "mono" in name else 5]:
            # matrix products in double precision are not the same to the last bit
            rtol, atol = (1e-6, 1e-6) if "mono" in name else (0, 0)
            np.testing.assert_allclose(getattr(maps, key), getattr(found[0], key), rtol=rtol, atol=atol, err_msg=key)


@pytest.mark.parametrize("name", ["mono", "mono, noise known", "water", "profile and fat, noise known"])
def test_every_tensor_is_made_on_the_device_that_was_asked_for(name):
    """A tensor made without saying where would lie on the device of default, here one that holds no numbers."""
    signal, options = case(name, n=3000)
    plain = fit_t2(signal, TIMES, device="cpu", **options)
    with torch.device("meta"):
        elsewhere = fit_t2(signal, TIMES, device="cpu", **options)
    assert np.array_equal(plain.t2_ms, elsewhere.t2_ms, equal_nan=True)


def test_no_voxels_and_voxels_of_which_none_can_be_fitted():
    for options in ({}, {"sigma": 1.0}, {"model": "epg"}, {"model": "epg", "sigma": 1.0, "fat_fraction": 0.1}):
        assert fit_t2(np.ones((0, 10)), TIMES, device="cpu", **options).t2_ms.shape == (0,)
        dark = fit_t2(np.zeros((3, 10)), TIMES, device="cpu", **options)
        assert (dark.status == LOW_SIGNAL).all() and np.isnan(dark.t2_ms).all()
        bad = fit_t2(np.full((3, 10), np.nan), TIMES, device="cpu", **options)
        assert (bad.status == NOT_FINITE).all()
        flat = fit_t2(np.full((3, 10), 4095.0), TIMES, device="cpu", **options)
        assert (flat.status == AT_BOUND).all() and np.isnan(flat.s0).all()


def test_tables_of_rician_magnitudes_are_read_to_their_ends():
    ratios, z = torch.tensor(ratio_table()), np.array([0.0, 0.0012, 1.0, 59.985, 59.9925, 59.998, 60.01, 1e6])
    far = 1 - 0.5 / np.maximum(z, 1) - 0.125 / np.maximum(z, 1) ** 2
    expected = np.where(z < 59.99, np.interp(z, *ratio_table().T), far)
    assert t2_torch.ratio(ratios, torch.tensor(z)).numpy() == pytest.approx(expected, abs=1e-6)
    assert t2_torch.ratio(ratios, torch.tensor([-1e6, -1.0])).tolist() == [0, 0]
    mean = torch.tensor(information_table()[:, 2])
    assert t2_torch.look_up(mean, torch.tensor([len(mean) - 2.0 - 1e-9])).item() == pytest.approx(mean[-2].item())


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, words in (("gpu", "'gpu'; available here: cpu"), ("cuda", "'cuda'; available here: cpu"), (0, "'0'"),
                          ("cuda:1", "leave device out"), ("mps", "choose one of these"), ("cpu:3", "'cpu:3'")):
        with pytest.raises(SignalError, match=words):
            fit_t2("not even a signal: nothing was looked at", device=device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SignalError, match="cpu, cuda, cuda:0, cuda:1"):
        t2_torch.check_device("cuda:2")
    assert t2_torch.check_device(torch.device("cuda", 1)) == torch.device("cuda:1")
    assert t2_torch.check_device("cuda").type == "cuda"


def test_without_a_device_torch_is_not_imported():
    code = """
import sys, numpy as np
from mrmyo import fit_t2
signal = 1000 * np.exp(-np.arange(1, 11) * 10 / np.full((5000, 1), 35.0))
for options in ({}, {"sigma": 5.0}, {"model": "epg"}, {"model": "epg", "sigma": 5.0, "fat_fraction": 0.1}):
    fit_t2(signal, np.arange(1, 11) * 10.0, **options)
print("torch" in sys.modules, "mrmyo.t2_torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
