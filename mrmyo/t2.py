"""From multi-echo signals to T2 maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mrmyo.t2_inputs import (
    AT_BOUND,
    FITTED,
    LOW_SIGNAL,
    NOT_FINITE,
    OUTSIDE_MASK,
    STATUS,
    T2_BOUNDS_MS,
    SignalError,
    check_map,
    check_mask,
    check_sigma,
    check_signal,
)
from mrmyo.volume import Volume

__all__ = ["AT_BOUND", "FITTED", "LOW_SIGNAL", "MODELS", "NOT_FINITE", "OUTSIDE_MASK", "STATUS", "T2_BOUNDS_MS",
           "SignalError", "T2Maps", "fit_t2"]

MODELS = ("mono", "epg")
SMOOTH_B1_SD = 0.03
MAP_NAMES = ("t2_ms", "s0", "t2_std_ms", "residual", "status")


@dataclass(frozen=True)
class T2Maps:
    """What a fit gives, each map shaped like the voxels that went in.

    Parameters
    ----------
    t2_ms, s0 : numpy.ndarray of float32
        T2 in ms, and the signal at echo time 0; NaN wherever ``status`` is not 0.
    t2_std_ms : numpy.ndarray of float32
        Standard deviation of T2 by the Cramér-Rao bound, from the given noise or else from the residual.
    residual : numpy.ndarray of float32
        Root mean square of signal minus fit over the echoes, in units of the signal.
    status : numpy.ndarray of uint8
        Index into :data:`STATUS`.
    model : str
    echo_times_ms : tuple of float
    b1, fat_fraction : numpy.ndarray, optional
        The transmit field as a share of the nominal one, fitted or as given, and the fat fraction that was given; None
        for a model without them.
    affine : numpy.ndarray, optional
        Of the Volume that was fitted; None for a bare array.
    noise_volume : float
        How many voxels' volume one independent noise value fills (`mrmyo.t2_noise.noise_volume`), for the uncertainty
        of means; NaN where that is not known, as for bare arrays.
    notes : tuple of str
        What a reader of the maps should know, such as echoes that a scanner seems to have computed.
    """

    t2_ms: np.ndarray
    s0: np.ndarray
    t2_std_ms: np.ndarray
    residual: np.ndarray
    status: np.ndarray
    model: str
    echo_times_ms: tuple[float, ...]
    b1: np.ndarray | None = None
    fat_fraction: np.ndarray | None = None
    affine: np.ndarray | None = None
    noise_volume: float = np.nan
    notes: tuple[str, ...] = ()

    def volume(self, name: str = "t2_ms") -> Volume:
        """One map as a Volume, for saving, showing or resampling.

        Raises
        ------
        SignalError
            When there is no map of that name, or the fit was of a bare array, which knows no place.
        """
        maps = [k for k, v in vars(self).items() if isinstance(v, np.ndarray) and k != "affine"]
        if name not in maps:
            raise SignalError(f"Found no map {name!r} in a {self.model} fit; there are {', '.join(maps)}.")
        if self.affine is None:
            raise SignalError("These maps come from an array and know no place; fit a Volume instead.")
        return Volume(getattr(self, name), self.affine)


def fit_t2(
    signal, echo_times_ms=None, *, model="mono", sigma=None, fat_fraction=None, b1=None, mask=None, skip_first=False,
    assumptions=None, device=None,
) -> T2Maps:
    """Fit T2 in every voxel.

    Parameters
    ----------
    signal : Volume or array_like, (..., n_echoes)
        Magnitudes, at least 3 echoes. A Volume brings its echo times.
    echo_times_ms : sequence of float, optional
        Ascending, in milliseconds; needed for an array.
    model : {"mono", "epg"}
        "mono": one exponential without an offset, ``s0 * exp(-TE / T2)``. "epg": water under stimulated echoes, with B1
        fitted or known, and fat beside it where `fat_fraction` is given; `s0` is then of water and fat together.
    sigma : float, array_like or "estimate", optional
        SD of the noise in the real and in the imaginary part of the signal, one or one per voxel; "estimate" tells it
        from the voxels themselves (`mrmyo.t2_noise.estimate_sigma`), as backgrounds are often blanked. With it the
        noise floor of magnitudes is corrected for. Without it the fit is one of least squares.
    fat_fraction : array_like or Volume, optional
        For "epg": fat over water plus fat, 0 to 1, from Dixon images, on the signal's grid. Without it fat lengthens
        T2, as the notes of the result say; ten echoes cannot tell how much fat there is, so it is never fitted.
    b1 : float, array_like, Volume or "smooth", optional
        For "epg": B1 where it is known (NaN where not). "smooth": fitted, smoothed within slices over 10 mm, and taken
        for known to 0.03 in a second fit; for a Volume only.
    mask : array_like of bool, or Volume, optional
        Fit only where True.
    skip_first : bool
        Leave out the first echo, which lacks the stimulated echo that all later ones have.
    assumptions : mrmyo.t2_epg.EpgAssumptions, optional
        For "epg": T1, slice profile, what fat is like.
    device : str, optional
        "cuda", "cuda:0", … or "cpu": fit with PyTorch there, by the same steps and with the same answers to 1e-3, but
        for less than one voxel of a thousand, where the rounding of single precision decides between two. None:
        compiled code on the CPU, which is faster than PyTorch there.

    Returns
    -------
    T2Maps
        A voxel that could not be fitted is NaN with a status: ``at bound`` where the best T2 is not between 5 and
        400 ms (no decay, or noise), ``low signal`` where the largest echo is not above 5 sigma (without sigma: not
        above 0), ``not finite`` where an echo or the fat fraction is NaN or infinite.

    Raises
    ------
    SignalError
        When the signal, the echo times, the mask or an option makes no sense, or there is no such device.
    GridError
        When a mask given as a Volume lies on another grid.

    Notes
    -----
    Least squares by variable projection (Golub and Pereyra, SIAM J Numer Anal 1973;10:413): the best s0 for a given R2
    is known, which leaves a search along R2 alone. No logarithm is taken: noise in late echoes does not bias it as it
    does a straight line through logarithms. Thousands of voxels with evenly spaced echoes are fitted by compiled code
    that reads them in single precision; the result is the same to 1e-5.

    Least squares takes the noise floor of magnitudes for signal, which lengthens T2: for 34 ms and echoes from 10 to
    100 ms by 0.1 ms at a signal-to-noise ratio of 70 at echo time 0, 0.4 ms at 40, 2 ms at 20. With `sigma` the
    likelihood of Rician magnitudes is maximised instead, and the second-order bias of T2 (Box, J Roy Stat Soc B
    1971;33:171) is taken off; what then remains is below 0.1 ms at a ratio of 20.

    Each voxel is fitted on its own: neighbours do not matter.
    """
    _check_model(model, fat_fraction=fat_fraction, b1=b1, assumptions=assumptions)
    if device is not None:
        from mrmyo.t2_torch import check_device

        device = check_device(device)
    affine = signal.affine if isinstance(signal, Volume) else None
    array, times = check_signal(signal, echo_times_ms)
    shape = array.shape[:-1]
    chosen = check_mask(mask, signal, shape).ravel()
    if skip_first:
        array, times = _without_first(array, times)
    flat = array.reshape(-1, array.shape[-1])
    if not chosen.all():
        flat = flat[chosen]
    if isinstance(sigma, str):
        sigma = _estimated(sigma, flat)
    noise = check_sigma(sigma, shape)
    noise = None if noise is None else noise[chosen]
    notes = ("the first echo was left out",) if skip_first else ()
    if model == "mono":
        from mrmyo.t2_mono import fit_mono

        found = fit_mono(flat, times, noise, device)
        maps = T2Maps(*(_spread(found[name], chosen, shape) for name in MAP_NAMES), model, times, affine=affine)
        maps = _with_notes(maps, array, notes)
    else:
        maps = _fit_epg(signal, array, times, chosen, noise, fat_fraction, b1, assumptions, device, notes)
    if affine is None or len(shape) != 3:
        return maps
    from mrmyo.t2_noise import noise_volume

    return replace(maps, noise_volume=noise_volume(array, maps.status == FITTED))


def _fit_epg(signal, array, times, chosen, noise, fat_fraction, b1, assumptions, device, notes):
    """The maps of model "epg" from checked inputs."""
    from mrmyo.t2_epg import B1_RANGE, fit_epg, notes_on, smooth_b1

    shape = array.shape[:-1]
    fat = None if fat_fraction is None else check_map(fat_fraction, "fat_fraction", shape, signal, -0.5, 1.5)
    if isinstance(b1, str) and b1 != "smooth":
        raise SignalError(f'Found b1 {b1!r}; expected a number, a map, or "smooth".')
    known = None if b1 is None or isinstance(b1, str) else check_map(b1, "b1", shape, signal, 0.1, 3.0)
    flat = array.reshape(-1, array.shape[-1])[chosen]

    def fit(b1, b1_sd):
        found = fit_epg(flat, times, sigma=noise, fat_fraction=None if fat is None else fat[chosen],
                        b1=None if b1 is None else b1.ravel()[chosen], b1_sd=b1_sd, assumptions=assumptions,
                        device=device)
        parts = [_spread(found[name], chosen, shape) for name in (*MAP_NAMES, "b1")]
        return T2Maps(*parts[:-1], "epg", times, b1=parts[-1],
                      fat_fraction=None if fat is None else fat.reshape(shape).astype(np.float32),
                      affine=signal.affine if isinstance(signal, Volume) else None)

    maps = fit(known, 0.0)
    if isinstance(b1, str):
        maps = fit(smooth_b1(maps), SMOOTH_B1_SD)
    if known is not None and np.any((known < B1_RANGE[0]) | (known > B1_RANGE[1])):
        notes += (f"B1 was known to lie outside {B1_RANGE[0]} to {B1_RANGE[1]} in some voxels and taken for the end",)
    return _with_notes(maps, array, (*notes, *notes_on(times, assumptions, fat is not None)))


def _spread(values, chosen, shape):
    """Values of the chosen voxels on the grid; NaN, or the status for it, elsewhere."""
    if chosen.all():
        return values.reshape(shape)
    out = np.full(chosen.size, OUTSIDE_MASK if values.dtype == np.uint8 else np.nan, dtype=values.dtype)
    out[chosen] = values
    return out.reshape(shape)


def _without_first(array, times):
    if len(times) < 4:
        raise SignalError(f"Found {len(times)} echoes and skip_first; without the first at least 3 must be left.")
    return array[..., 1:], times[1:]


def _estimated(word, flat):
    from mrmyo.t2_noise import estimate_sigma

    if word != "estimate":
        raise SignalError(f'Found sigma {word!r}; expected a number, an array, or "estimate".')
    return estimate_sigma(flat)


def _with_notes(maps, array, notes):
    from mrmyo.t2_noise import looks_synthesised

    if maps.model == "mono" and looks_synthesised(array, maps):
        notes += ("the echoes are one exponential to within rounding: a scanner seems to have computed them from "
                     "its own T2 map, so that stimulated echoes and fat can no longer be told or corrected for",)
    return replace(maps, notes=notes) if notes else maps


def _check_model(model, **options):
    if model not in MODELS:
        raise SignalError(f"Found model {model!r}; this version has {', '.join(map(repr, MODELS))}.")
    for name, value in options.items():
        if model == "mono" and value is not None:
            raise SignalError(f"Found {name} with the {model} model, which does not use it; leave {name} out.")
