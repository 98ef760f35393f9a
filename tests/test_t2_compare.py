"""How far T2 depends on the model, and how sure a mean is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mrmyo import fit_t2, t2_by_muscle
from mrmyo.epg import epg_signal, mono_signal, slice_profile
from mrmyo.t2 import SignalError
from mrmyo.t2_compare import compare_models, echo_ratio
from mrmyo.t2_epg import EpgAssumptions
from mrmyo.t2_noise import noise_volume
from mrmyo.volume import Volume

TIMES = tuple(10.0 * n for n in range(1, 11))


def test_only_stimulated_echoes_bring_the_ratio_above_one():
    rng = np.random.default_rng(1)
    t2, weights = rng.uniform(5, 400, (500, 4)), rng.uniform(0, 1, (500, 4))
    mixture = (weights[..., None] * mono_signal(TIMES, t2)).sum(axis=1)
    assert echo_ratio(mixture, TIMES).max() < 1 + 1e-6  # whatever is mixed
    assert echo_ratio(mono_signal(TIMES, 40.0)[None], TIMES) == pytest.approx(1)
    options = {"t1_ms": 1400, "echo_spacing_ms": 10.0, "n_echoes": 10}
    assert echo_ratio(epg_signal(35.0, b1=1.0, **options), TIMES) == pytest.approx(1, abs=1e-5)
    assert echo_ratio(epg_signal(35.0, b1=0.8, **options), TIMES) > 1.2
    bad = np.ones((4, 10))
    bad[0, 0], bad[1, 1], bad[2, 2] = 0, np.nan, -1
    assert np.isnan(echo_ratio(bad, TIMES)).tolist() == [True, True, True, False]
    with pytest.raises(SignalError, match="evenly"):
        echo_ratio(bad, (10.0, 20.0, 40.0, *range(50, 120, 10)))


def test_models_side_by_side():
    rng = np.random.default_rng(2)
    n = 3000
    made = EpgAssumptions(profile=slice_profile(refocusing_width_ratio=1.8), residual_fat=0.2, fat_t2_ms=90)
    b1, fat = rng.uniform(0.8, 0.95, n), rng.uniform(0, 0.2, n)
    options = {"b1": b1, "echo_spacing_ms": 10.0, "n_echoes": 10, "profile": made.profile}
    signal = (1 - fat)[:, None] * epg_signal(np.full(n, 35.0), t1_ms=made.t1_ms, **options)
    signal += made.residual_fat * fat[:, None] * epg_signal(np.full(n, 90.0), t1_ms=made.fat_t1_ms, **options)
    signal = 1000 * signal
    signal = np.hypot(signal + rng.normal(0, 12, signal.shape), rng.normal(0, 12, signal.shape))
    table = compare_models(signal, TIMES, sigma=12.0, assumptions=made, fat_fraction=fat).set_index("model")
    assert list(table.index) == [
        "mono-exponential", "mono-exponential, noise floor corrected", "mono-exponential, first echo left out",
        "EPG, hard pulses", "EPG, slice profile", "EPG and Dixon fat: water T2"]
    assert table.t2_ms["EPG and Dixon fat: water T2"] == pytest.approx(35, abs=0.2)
    assert table.t2_ms.iloc[0] > 40
    assert table.residual.iloc[-1] < 0.013 < table.residual.iloc[0]
    expected = (fit_t2(signal, TIMES, skip_first=True, sigma=12.0).t2_ms - fit_t2(signal, TIMES).t2_ms).mean()
    assert table.change_ms["mono-exponential, first echo left out"] == pytest.approx(expected, abs=1e-4)
    assert (table.n_voxels + table.n_failed == n).all()
    few = compare_models(signal[:, :3], TIMES[:3])
    assert few.t2_ms.notna().sum() == 2 and list(few.model) == ["mono-exponential", "EPG, hard pulses"]
    uneven = compare_models(signal[:, [0, 1, 3, 5]], [10, 20, 40, 60]).set_index("model")
    assert np.isnan(uneven.t2_ms["EPG, hard pulses"]) and "modelled" in uneven.note["EPG, hard pulses"]


def thigh(shape=(60, 50, 6)):
    """Signals of a disc of muscle in every slice, and the labels."""
    x, y, _ = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    inside = np.hypot(x - 30, y - 25) < 20
    t2 = 35 + 4 * np.sin(x / 8) * np.cos(y / 6)
    signal = np.where(inside[..., None], 1000 * mono_signal(TIMES, t2), 0)
    return signal, Volume(inside.astype(np.uint8), np.diag([1.5, 1.5, 6, 1]))


def spread(rng, shape, how):
    """Noise of SD 1: independent, smoothed, or interpolated from a quarter of the voxels."""
    if how == "independent":
        return rng.normal(size=shape)
    if how == "smoothed":
        noise = ndimage.gaussian_filter(rng.normal(size=shape), (0.8, 0.8, 0, 0))
        return noise / noise.std()
    coarse = np.fft.fftshift(np.fft.fft2(rng.normal(size=(shape[0] // 2, shape[1] // 2, *shape[2:])), axes=(0, 1)),
                             axes=(0, 1))
    whole = np.zeros(shape, complex)
    i, j = shape[0] // 4, shape[1] // 4
    whole[i:i + coarse.shape[0], j:j + coarse.shape[1]] = coarse
    noise = np.fft.ifft2(np.fft.ifftshift(whole, axes=(0, 1)), axes=(0, 1)).real
    return noise / noise.std()


@pytest.mark.parametrize(("how", "expected"), [
    ("independent", 1.0), ("smoothed", 4 * np.pi * 0.8**2), ("interpolated", 4.0),
])
def test_voxels_that_share_noise(how, expected):
    """A Gaussian of SD s spreads noise over 4 pi s² voxels, a matrix doubled by zeros over 4."""
    signal, labels = thigh()
    rng = np.random.default_rng(3)
    noisy = np.hypot(signal + 12 * spread(rng, signal.shape, how), 12 * spread(rng, signal.shape, how))
    assert noise_volume(noisy, labels.array == 1) == pytest.approx(expected, rel=0.15)
    assert np.isnan(noise_volume(noisy[:5, :5], labels.array[:5, :5] == 1))
    assert np.isnan(noise_volume(noisy[..., :7], labels.array == 1))


@pytest.mark.parametrize("how", ["independent", "smoothed"])
def test_the_sd_of_a_mean_is_what_repeated_scans_show(how):
    signal, labels = thigh()
    rng = np.random.default_rng(4)
    means, told, naive = [], [], []
    for _ in range(60):
        noisy = np.hypot(signal + 20 * spread(rng, signal.shape, how), 20 * spread(rng, signal.shape, how))
        volume = Volume(noisy.astype(np.float32), labels.affine, echo_times_ms=TIMES)
        row = t2_by_muscle(fit_t2(volume, sigma=20.0, mask=labels.array == 1), labels).iloc[0]
        means.append(row.t2_ms)
        told.append(row.t2_mean_sd_ms)
        naive.append(row.t2_noise_ms / np.sqrt(row.n_voxels))
    seen = np.std(means, ddof=1)  # known to a tenth from 60 scans
    assert np.mean(told) == pytest.approx(seen, rel=0.3)
    if how == "smoothed":
        assert np.mean(naive) < 0.5 * seen


def test_where_shared_noise_is_not_known_the_sd_of_a_mean_is_not_told():
    signal, labels = thigh()
    volume = Volume(signal[..., :5].astype(np.float32), labels.affine, echo_times_ms=TIMES[:5])
    row = t2_by_muscle(fit_t2(volume, mask=labels.array == 1), labels).iloc[0]
    assert np.isnan(row.t2_mean_sd_ms) and row.t2_ms == pytest.approx(35, abs=0.5)
