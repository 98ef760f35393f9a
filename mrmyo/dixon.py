"""Two-point Dixon: from water and fat to in-phase and opposed-phase images and back."""

from __future__ import annotations

import numpy as np

from mrmyo.volume import GridError, Volume, same_grid

__all__ = [
    "FAT_PEAKS", "combine", "dixon_images", "fat_dephasing", "fat_fraction", "undo_relaxation", "water_fat",
]

# Chemical shift from water (4.7 ppm at body temperature) in ppm, and share of the fat signal. The shares are those of
# human liver fat by Hamilton et al., NMR Biomed 2011;24:784 (doi 10.1002/nbm.1622), neighbouring peaks merged to six.
FAT_PEAKS = (
    (-3.80, 0.088),
    (-3.40, 0.700),
    (-2.60, 0.120),
    (-1.95, 0.006),
    (-0.50, 0.039),
    (0.60, 0.047),
)
MAIN_PEAK_PPM = -3.40
PROTON_MHZ_PER_T = 42.577478518  # CODATA 2018, shielding neglected


def fat_dephasing(echo_shift_ms, field_t=3.0) -> np.ndarray:
    """How fat stands to water, some time after both were in phase: ``sum of a_p exp(i 2 pi f_p t)``.

    Parameters
    ----------
    echo_shift_ms : array_like
        Time since the spin echo (or since the excitation, for gradient echoes), in ms.
    field_t : float
        Field strength in tesla.

    Returns
    -------
    numpy.ndarray of complex
        Shaped like ``echo_shift_ms``; 1 at time 0, of magnitude below 1 later, as the peaks spread.
    """
    ppm, share = np.array(FAT_PEAKS).T
    cycles = np.asarray(echo_shift_ms, dtype=float)[..., None] * 1e-3 * ppm * PROTON_MHZ_PER_T * field_t
    return np.exp(2j * np.pi * cycles) @ share


def combine(water, fat, *, phase) -> np.ndarray:
    """The magnitude of water and fat at a phase to each other, ``|W + exp(i phase) F|``; phase in radians."""
    return np.abs(np.asarray(water) + np.exp(1j * np.asarray(phase, dtype=float)) * np.asarray(fat))


def dixon_images(water, fat, *, field_t=3.0, sigma=0.0, rng=None) -> dict[str, np.ndarray]:
    """The four images that a two-point Dixon acquisition gives.

    The opposed-phase image is taken when the main fat peak is half a turn from water, the in-phase image a full turn.
    The other peaks are then elsewhere, so that the opposed-phase image is not quite ``|W - F|``, and the fat image
    loses a fifth of its signal. The water and fat images are, as on a scanner, computed from the two acquired complex
    images (half their sum and difference, the phase of the field taken as known) and thus share their noise.

    Parameters
    ----------
    water, fat : array_like
        Signals, not negative; broadcast against each other.
    field_t : float
        Field strength in tesla.
    sigma : float
        SD of the Gaussian noise of the real and of the imaginary part of both acquired images.
    rng : numpy.random.Generator, optional
        Needed when sigma is above 0.

    Returns
    -------
    dict of numpy.ndarray
        ``in_phase``, ``opposed_phase``, ``water``, ``fat``: magnitudes (Rician when there is noise). Decay by T2*
        between the two echo times is left out.
    """
    water, fat = np.broadcast_arrays(np.asarray(water, dtype=np.float32), np.asarray(fat, dtype=np.float32))
    if sigma < 0 or (sigma > 0 and rng is None):
        raise ValueError(f"Noise of sigma {sigma} needs sigma >= 0 and rng=numpy.random.default_rng(seed).")
    turn_ms = 1e3 / abs(MAIN_PEAK_PPM * PROTON_MHZ_PER_T * field_t)
    opposed, in_phase = (water + fat * np.complex64(c) for c in fat_dephasing([turn_ms / 2, turn_ms], field_t))
    if sigma > 0:
        for image in (opposed, in_phase):
            image.real += sigma * rng.standard_normal(image.shape, dtype=np.float32)
            image.imag += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    images = {
        "in_phase": in_phase,
        "opposed_phase": opposed,
        "water": (in_phase + opposed) / 2,
        "fat": (in_phase - opposed) / 2,
    }
    return {name: np.abs(image) for name, image in images.items()}


def fat_fraction(water, fat, *, minimum=0.0):
    """Fat over water plus fat, between 0 and 1.

    Parameters
    ----------
    water, fat : array_like or Volume
        On one grid.
    minimum : float
        Where ``water + fat`` is not above this there is no signal to speak of and the fraction is NaN. The default
        drops only voxels without any; five times the noise SD is a good choice for images with air in them.

    Returns
    -------
    numpy.ndarray of float32, or Volume
        A Volume when given Volumes. The ratio of signals: relaxation is not corrected for.
    """
    (water, fat), wrap = _arrays(water, fat)
    total = water + fat
    fraction = np.full(total.shape, np.nan, dtype=np.float32)
    np.divide(fat, total, out=fraction, where=np.isfinite(total) & (total > minimum), casting="same_kind")
    return wrap(fraction)


def undo_relaxation(fraction, echo_time_ms, *, water_t2_ms, fat_t2_ms=133.0) -> np.ndarray:
    """The fat fraction that the magnetisation had before the echo: late echoes overstate fat, whose T2 is long.

    Parameters
    ----------
    fraction : array_like
        Of signals, 0 to 1, as :func:`fat_fraction` gives it.
    echo_time_ms : float
    water_t2_ms : float or array_like
        Of the water of each voxel.
    fat_t2_ms : float

    Returns
    -------
    numpy.ndarray of float32
        NaN where the fraction or T2 is. T1 is not corrected for: repetition times of seconds are assumed.
    """
    fraction = np.asarray(fraction, dtype=float)
    grown = np.exp(echo_time_ms * (1 / fat_t2_ms - 1 / np.asarray(water_t2_ms, dtype=float)))
    return (fraction * grown / (1 - fraction + fraction * grown)).astype(np.float32)


def water_fat(in_phase, opposed_phase, *, dominant="water"):
    """Water and fat from the magnitudes of a two-point acquisition, ``(IP + OP) / 2`` and ``(IP - OP) / 2``.

    Magnitudes cannot tell which of the two is the larger: 20 % and 80 % of fat give the same pair of images. The larger
    is called water unless told otherwise, so fat fractions above one half come out below it (bone marrow and
    subcutaneous fat as "water"). Noise may leave the smaller one slightly negative; it is not clipped, so that means
    stay true.

    Parameters
    ----------
    in_phase, opposed_phase : array_like or Volume
        Magnitudes, on one grid.
    dominant : {"water", "fat"} or array of bool
        Which is the larger; an array is True where water is.

    Returns
    -------
    water, fat : numpy.ndarray of float32, or Volume
    """
    if isinstance(dominant, str) and dominant not in ("water", "fat"):
        raise ValueError(f'dominant must be "water", "fat", or an array, True where water is; found {dominant!r}.')
    (in_phase, opposed_phase), wrap = _arrays(in_phase, opposed_phase)
    larger, smaller = (in_phase + opposed_phase) / 2, (in_phase - opposed_phase) / 2
    is_water = np.asarray(dominant == "water" if isinstance(dominant, str) else dominant, dtype=bool)
    return wrap(np.where(is_water, larger, smaller)), wrap(np.where(is_water, smaller, larger))


def _arrays(a, b):
    """Both as float32 arrays, and the function that puts a result back on their grid."""
    if isinstance(a, Volume) != isinstance(b, Volume):
        raise GridError("Found a Volume and a bare array; give two Volumes or two arrays.")
    if not isinstance(a, Volume):
        a, b = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
        if a.shape != b.shape:
            raise GridError(f"Found shapes {a.shape} and {b.shape}; expected two images on one grid.")
        return (a, b), lambda array: array
    if not same_grid(a, b):
        raise GridError(f"Found two grids, of shapes {a.shape} and {b.shape}; resample one onto the other first.")
    return (a.array.astype(np.float32), b.array.astype(np.float32)), a.with_array
