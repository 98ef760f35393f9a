"""The noise of a multi-echo series, told from its voxels with signal alone: scanners often blank the background."""

from __future__ import annotations

import numpy as np

from mrmyo.t2_inputs import FITTED, SignalError

__all__ = ["estimate_sigma", "looks_synthesised", "noise_volume"]

LEAST_VOXELS = 50
LEAST_ECHOES = 5
SAMPLE = 1000  # voxels that stand for all of a series
SMOOTH = 3  # a decay of one compartment is a polynomial of this degree in echo number, to less than the noise
SIGNAL = 5  # patterns over the echoes that hold all of what T2, B1 and fat make of a decay
ENOUGH = 100  # voxels that tell these patterns
LAG = 4
SLAB = 4  # slices that stand for all of a series


def estimate_sigma(signal) -> float:
    """The SD of the noise, without a background.

    What is left of each decay beside what voxels have in common is noise: the five patterns over the echoes that hold
    most of the signal are found among the voxels themselves (principal components, as in denoising after Veraart et
    al., Magn Reson Med 2016;76:1582), for a curve that is chosen beforehand takes the alternation of stimulated echoes
    for noise. Below 100 voxels or 8 echoes a cubic through the later echoes stands for them; stimulated echoes then
    make the noise appear larger. The square roots of the mean squares of the voxels are put together by their median,
    which motion and vessels hardly move; only echoes and voxels count whose signal stays above five times the noise,
    since a magnitude near zero scatters less.

    Parameters
    ----------
    signal : array_like, (..., n_echoes)
        Magnitudes of evenly spaced echoes, at least 6.

    Returns
    -------
    float

    Raises
    ------
    SignalError
        When there are fewer than 6 echoes, or too few voxels with signal.
    """
    signal = np.asarray(signal)
    flat = signal.reshape(-1, signal.shape[-1])
    n_echoes = flat.shape[1]
    if n_echoes <= LEAST_ECHOES:
        raise SignalError(f"Found {n_echoes} echoes; the noise can be told from 6 or more. Give sigma as a number.")
    flat = flat[np.isfinite(flat).all(axis=1) & (flat > 0).all(axis=1)].astype(float)
    spread = _spread(flat)
    for _ in range(3):  # which voxels are bright enough depends on the answer
        if flat.shape[0] < LEAST_VOXELS:
            break
        sigma = np.median(spread)
        flat = flat[:, :max(SIGNAL + 3, int((np.median(flat, axis=0) > 5 * sigma).sum()))]
        bright = flat.min(axis=1) > 5 * sigma
        fewest = min(ENOUGH, len(flat))
        if bright.sum() < fewest:  # long trains: take those with the most signal at the end
            bright = flat.min(axis=1) >= np.sort(flat.min(axis=1))[-fewest]
        flat = flat[bright]
        spread = _spread(flat)
    if flat.shape[0] < LEAST_VOXELS:
        raise SignalError(f"Found {flat.shape[0]} voxels with signal in every echo; the noise can be told from "
                          f"{LEAST_VOXELS} or more. Give sigma as a number.")
    return float(np.median(spread))


def _spread(flat):
    """The SD of what the common patterns leave of each decay, made such that its median is the noise's SD."""
    from scipy.stats import chi2

    n_echoes = flat.shape[1]
    if n_echoes >= SIGNAL + 3 and len(flat) >= ENOUGH:
        basis = _patterns(flat)
    else:
        flat = flat[:, 1 if n_echoes >= 8 else 0:]
        basis = np.linalg.qr(np.vander(np.linspace(-1, 1, flat.shape[1]), SMOOTH + 1))[0]
    left = flat - (flat @ basis) @ basis.T
    free = flat.shape[1] - basis.shape[1]
    return np.sqrt((left**2).sum(axis=1) / chi2.median(free))


def _patterns(flat):
    """The patterns over the echoes that hold most of the signal, as columns; no vessel or motion among them."""
    left = np.linalg.norm(flat, axis=1)
    for most in (np.quantile(left, 0.99), None, None):
        usual = flat[left <= (3 * np.median(left) if most is None else most)]
        basis = np.linalg.eigh(usual.T @ usual)[1][:, -SIGNAL:]
        left = np.linalg.norm(flat - (flat @ basis) @ basis.T, axis=1)
    return basis


def noise_volume(signal, mask=None) -> float:
    """How many voxels' volume one independent noise value fills: 1 for independent voxels, 4 for a matrix doubled.

    Scanners interpolate, filter and combine, which spreads noise over neighbours: a mean over n voxels is then less
    certain than the noise of one voxel over √n by the root of this number. It is the sum of the correlations of noise
    between a voxel and its neighbours, up to 4 voxels along each axis, the product of the three axes. Noise is what the
    common patterns of `estimate_sigma` leave.

    Parameters
    ----------
    signal : array_like, (n_i, n_j, n_k, n_echoes)
    mask : array_like of bool, optional
        Where there is tissue. The four slices in a row that hold most of it are used.

    Returns
    -------
    float
        At least 1; NaN where it cannot be told (below 8 echoes or 100 voxels).
    """
    signal = np.asarray(signal)
    mask = np.ones(signal.shape[:-1], bool) if mask is None else np.asarray(mask)
    cut = _slab(mask)
    signal, mask = signal[cut].astype(float), mask[cut] & np.isfinite(signal[cut]).all(axis=-1)
    if signal.shape[-1] < SIGNAL + 3 or mask.sum() < ENOUGH:
        return float("nan")
    flat = signal[mask]
    basis = _patterns(flat)
    left = np.zeros_like(signal)
    left[mask] = flat - (flat @ basis) @ basis.T
    size = np.linalg.norm(left, axis=-1)
    mask &= size <= 3 * np.median(size[mask])
    left[~mask] = 0
    product, power = 1.0, (left**2).sum() / mask.sum()
    for axis in range(3):
        along = 1.0
        for lag in range(1, min(LAG, mask.shape[axis] - 1) + 1):
            here, there = ((slice(None),) * axis + (part,) for part in (slice(lag, None), slice(None, -lag)))
            if (pairs := (mask[here] & mask[there]).sum()) >= ENOUGH:
                along += 2 * (left[here] * left[there]).sum() / pairs / power
        product *= max(along, 1.0)
    return float(product)


def _slab(mask):
    """The slices in a row that hold most of the mask, as an index; slices lie across the shortest axis."""
    axis = int(np.argmin(mask.shape))
    thick = min(SLAB, mask.shape[axis])
    held = np.convolve(mask.sum(axis=tuple(a for a in range(3) if a != axis)), np.ones(thick, int), "valid")
    start = int(held.argmax())
    return (slice(None),) * axis + (slice(start, start + thick),)


def looks_synthesised(signal, maps) -> bool:
    """Whether the echoes were computed from a fit instead of acquired.

    Some accelerated products export echoes that the scanner made from its own T2 map. Such a train is one exponential
    to within the rounding of its numbers, which no acquisition is: noise, fat and stimulated echoes leave more.

    Parameters
    ----------
    signal : array_like, (..., n_echoes)
    maps : T2Maps
        A mono-exponential fit of it.

    Returns
    -------
    bool
        True when at least 90 % of the fitted voxels leave less than rounding to whole numbers would (an SD of 0.29)
        and less than a two-thousandth of their signal, or less than 1e-5 of it where the numbers are no whole ones.
    """
    fitted = np.flatnonzero(maps.status == FITTED)
    if fitted.size < LEAST_VOXELS:
        return False
    some = fitted[:: max(fitted.size // SAMPLE, 1)]
    values = np.asarray(signal).reshape(-1, np.shape(signal)[-1])[some]
    residual = maps.residual.reshape(-1)[some]
    relative = residual / maps.s0.reshape(-1)[some]
    whole = np.array_equal(values, np.round(values))
    clean = (residual < 0.45) & (relative < 5e-4) if whole else relative < 1e-5
    return bool(clean.mean() >= 0.9)
