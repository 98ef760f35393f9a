"""Forward models of a multi-echo spin-echo signal: one exponential, and the extended phase graph with a slice profile.

Refocusing pulses are never 180 degrees everywhere: the transmit field B1 varies over the thigh, and every selective
pulse tapers off towards the edges of its slice. Magnetisation then spends part of the train stored along z and comes
back as stimulated echoes, which make the decay look slower than T2. The extended phase graph counts all these paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["SliceProfile", "epg_signal", "lookup", "mono_signal", "signal_table", "slice_profile"]

PROFILE_B1 = np.linspace(0.3, 1.7, 141)
CHUNK = 1 << 14  # voxels interpolated at a time: few enough to stay in the cache


@dataclass(frozen=True)
class SliceProfile:
    """The flip angles that a slice really sees, at positions from its middle outwards and for several values of B1.

    Parameters
    ----------
    positions : tuple of float
        Distance from the middle of the slice, in units of the nominal slice thickness (0.5 is the nominal edge).
    weights : tuple of float
        What each position adds to the signal. :func:`slice_profile` scales them so that at B1 = 1
        ``sum(weights * sin(excitation)) == sin(nominal excitation)``: the signal at echo time 0 is then the same with
        and without a profile.
    b1 : tuple of float
        Ascending values of B1. Flip angles are interpolated between them, and proportional to B1 if there is only one.
    excitation_deg, refocusing_deg : tuple of tuple of float
        Flip angles in degrees: for each B1, one per position.
    """

    positions: tuple[float, ...]
    weights: tuple[float, ...]
    b1: tuple[float, ...]
    excitation_deg: tuple[tuple[float, ...], ...]
    refocusing_deg: tuple[tuple[float, ...], ...]

    def __post_init__(self):
        expected = (len(self.b1), len(self.positions))
        found = np.shape(self.excitation_deg), np.shape(self.refocusing_deg), (len(self.b1), len(self.weights))
        if 0 in expected or any(shape != expected for shape in found):
            raise ValueError(f"A slice profile needs a flip angle for each B1 and position, {expected}; found {found}.")
        if np.any(np.diff(self.b1) <= 0) or self.b1[0] <= 0:
            raise ValueError(f"The B1 values of a slice profile must be above 0 and ascend; found {self.b1}.")

    def flips_deg(self, b1):
        """One pair of excitation and refocusing flip angles per position, each shaped like ``b1``.

        Raises
        ------
        ValueError
            When a B1 lies outside the values the profile was made for.
        """
        b1, low, high = np.asarray(b1, dtype=float), self.b1[0], self.b1[-1]
        if len(self.b1) == 1:
            pairs = zip(self.excitation_deg[0], self.refocusing_deg[0], strict=True)
            return [(b1 / low * excitation, b1 / low * refocusing) for excitation, refocusing in pairs]
        if np.any((b1 < low - 1e-6) | (b1 > high + 1e-6)):
            raise ValueError(
                f"Found B1 from {np.nanmin(b1):g} to {np.nanmax(b1):g}, but the profile covers {low:g} to {high:g}; "
                "clip B1, or leave voxels without a plausible B1 out."
            )
        columns = zip(zip(*self.excitation_deg, strict=True), zip(*self.refocusing_deg, strict=True), strict=True)
        return [(np.interp(b1, self.b1, e), np.interp(b1, self.b1, r)) for e, r in columns]


def mono_signal(echo_times_ms, t2_ms, s0=1.0) -> np.ndarray:
    """One exponential, ``s0 * exp(-TE / T2)``.

    Parameters
    ----------
    echo_times_ms : array_like, (n_echoes,)
    t2_ms, s0 : array_like
        Broadcast against each other.

    Returns
    -------
    numpy.ndarray, (..., n_echoes)
    """
    t2_ms, s0 = _positive(t2_ms, "t2_ms")[..., None], np.asarray(s0, dtype=float)[..., None]
    return s0 * np.exp(-np.asarray(echo_times_ms, dtype=float) / t2_ms)


def epg_signal(
    t2_ms, *, t1_ms, b1=1.0, echo_spacing_ms, n_echoes, excitation_deg=90.0, refocusing_deg=180.0, profile=None,
) -> np.ndarray:
    """The echoes of a Carr-Purcell-Meiboom-Gill train by the extended phase graph, per unit of magnetisation.

    Parameters
    ----------
    t2_ms, t1_ms, b1 : array_like
        Relaxation times in ms, and the transmit field as a share of the nominal one; broadcast against each other.
    echo_spacing_ms : float
        Time between echoes; the first echo lies at one spacing.
    n_echoes : int
    excitation_deg, refocusing_deg : float
        Nominal flip angles; ignored when a profile is given, for it holds its own.
    profile : SliceProfile, optional
        Sum the signal over the slice.

    Returns
    -------
    numpy.ndarray, (..., n_echoes)
        Signed; NaN where an input is.

    Notes
    -----
    After Weigel, J Magn Reson Imaging 2015;41:266 (doi 10.1002/jmri.24619). Crushers dephase a spin equally before and
    after each pulse. With the excitation a quarter turn ahead of the refocusing pulses (the CPMG condition) all states
    that reach an echo are real and of odd order at the pulses, and the recovery towards equilibrium feeds only even
    orders, which never refocus at an echo: so three real numbers an order suffice, and recovery is left out.
    Steady state between repetitions is not modelled (TR much longer than T1 is assumed).
    """
    n_echoes = _count(n_echoes)
    t2_ms, t1_ms = _positive(t2_ms, "t2_ms"), _positive(t1_ms, "t1_ms")
    b1 = np.asarray(b1, dtype=float)
    e2, e1 = np.exp(-echo_spacing_ms / t2_ms), np.exp(-echo_spacing_ms / t1_ms)
    if profile is None:
        return np.moveaxis(_train(b1 * excitation_deg, b1 * refocusing_deg, e1, e2, n_echoes), 0, -1)
    signal = 0.0
    for weight, (excitation, refocusing) in zip(profile.weights, profile.flips_deg(b1), strict=True):
        signal = signal + weight * _train(excitation, refocusing, e1, e2, n_echoes)
    return np.moveaxis(signal, 0, -1)


def _train(excitation_deg, refocusing_deg, e1, e2, n_echoes):
    """Echoes (n_echoes, ...) of one flip angle a voxel; e1 and e2 are the relaxation over one echo spacing."""
    start, angle = np.sin(np.deg2rad(excitation_deg)), np.deg2rad(refocusing_deg)
    keep, swap, lift, cosine = np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2, np.sin(angle), np.cos(angle)
    shape = np.broadcast_shapes(start.shape, angle.shape, e1.shape, e2.shape)
    # Orders 1, 3, 5, … ; one that needs more pulses to come back than there are left never shows.
    plus, minus, stored = np.zeros((3, (n_echoes + 1) // 2, *shape))
    # The half spacings before the first pulse and after the last together make one: relaxation is paid in advance.
    plus[0] = start * e2
    echoes = np.empty((n_echoes, *shape))
    for n in range(n_echoes):
        turned = swap * plus + keep * minus - lift * stored
        mixed = keep * plus + swap * minus + lift * stored
        stored = e1 * (cosine * stored - 0.5 * lift * (plus - minus))
        echoes[n] = turned[0]
        plus[1:], plus[0] = e2 * mixed[:-1], e2 * turned[0]
        minus[:-1] = e2 * turned[1:]
    return echoes


@lru_cache(maxsize=16)
def slice_profile(
    *, n_positions=15, excitation_deg=90.0, refocusing_deg=180.0, time_bandwidth=4.0, refocusing_width_ratio=1.2,
    extent=1.0, n_steps=256,
) -> SliceProfile:
    """Flip angles across a slice, by a Bloch simulation of Hann-windowed sinc pulses under a slice gradient.

    Parameters
    ----------
    n_positions : int
        Positions from the middle to ``extent`` (Gauss-Legendre rule); the other half is their mirror image.
    excitation_deg, refocusing_deg : float
        Nominal flip angles.
    time_bandwidth : float
        Pulse duration times bandwidth, of both pulses: higher means steeper edges.
    refocusing_width_ratio : float
        Slice thickness of the refocusing pulses over that of the excitation.
    extent : float
        How far to go, in slice thicknesses; 1 is twice the nominal half width, where no signal is left.
    n_steps : int
        Pieces of constant amplitude the pulse is cut into.

    Returns
    -------
    SliceProfile
        For B1 from 0.3 to 1.7.

    Notes
    -----
    The refocusing flip angle of a position is the angle from z of its magnetisation after one pulse from equilibrium.
    The excitation flip angle is the one whose sine is the transverse magnetisation in phase with the middle of the
    slice (negative in the side lobes). Both are simulated for every B1: away from the middle a pulse is far from
    linear, and scaling the profile of the nominal B1 would be wrong by tens of per cent. Left out: relaxation during
    the pulse.
    """
    nodes, shares = np.polynomial.legendre.leggauss(_count(n_positions))
    positions = 0.5 * (nodes + 1) * extent
    b1 = PROFILE_B1[:, None]
    transverse, _ = _pulse(b1 * excitation_deg, positions, time_bandwidth, n_steps)
    _, refocusing = _pulse(b1 * refocusing_deg, positions / refocusing_width_ratio, time_bandwidth, n_steps)
    ((nominal,), _) = _pulse(np.array([[excitation_deg]]), positions, time_bandwidth, n_steps)
    weights = shares * np.sin(np.deg2rad(excitation_deg)) / (shares @ nominal)
    flips = np.rad2deg(np.arcsin(np.clip(transverse, -1, 1))), np.rad2deg(refocusing)
    rows = (tuple(map(tuple, angles.tolist())) for angles in flips)
    return SliceProfile(tuple(positions.tolist()), tuple(weights.tolist()), tuple(PROFILE_B1.tolist()), *rows)


def _pulse(flip_deg, positions, time_bandwidth, n_steps):
    """What one pulse does at each position (in slice thicknesses), by the product of small rotations in SU(2).

    Nominal flips (..., 1) and positions (n,) give two arrays (..., n): the transverse magnetisation in phase with the
    middle of the slice after the rephasing gradient, and the angle from z in radians.
    """
    time = (np.arange(n_steps) + 0.5) / n_steps - 0.5
    shape = np.sinc(time_bandwidth * time) * np.cos(np.pi * time) ** 2
    nominal = np.deg2rad(flip_deg)
    turn = 2 * np.pi * time_bandwidth * np.asarray(positions) / n_steps  # precession about z in one step
    alpha, beta = 1.0, 0.0  # an arrow along z becomes one of polar angle 2 atan(|beta| / |alpha|)
    for tip in (nominal * share for share in shape / shape.sum()):
        angle = np.hypot(tip, turn)
        half_sinc = 0.5 * np.sinc(angle / (2 * np.pi))  # sin(angle / 2) / angle, also at 0
        a, b = np.cos(angle / 2) - 1j * turn * half_sinc, -1j * tip * half_sinc
        alpha, beta = a * alpha - np.conj(b) * beta, b * alpha + np.conj(a) * beta
    # The rephasing gradient turns the spin back by half of its precession.
    transverse = -2 * np.imag(np.conj(alpha) * beta * np.exp(-0.5j * turn * n_steps))
    return transverse, 2 * np.arctan2(np.abs(beta), np.abs(alpha))


def signal_table(t2_grid_ms, b1_grid, *, t1_ms, echo_spacing_ms, n_echoes, profile=None) -> np.ndarray:
    """The signals of all pairs of T2 and B1, for :func:`lookup`.

    Parameters
    ----------
    t2_grid_ms : array_like, (n_t2,)
    b1_grid : array_like, (n_b1,)
    t1_ms : float or array_like, (n_t2,)
        One for all, or one for each T2.
    echo_spacing_ms, n_echoes, profile
        As for :func:`epg_signal`.

    Returns
    -------
    numpy.ndarray of float32, (n_t2, n_b1, n_echoes)
    """
    t2_grid_ms, b1_grid, t1_ms = (np.asarray(v, dtype=float) for v in (t2_grid_ms, b1_grid, t1_ms))
    if t1_ms.shape not in ((), t2_grid_ms.shape):
        raise ValueError(f"Found {t1_ms.size} T1 values for {t2_grid_ms.size} T2 values; give one, or one per T2.")
    signal = epg_signal(
        t2_grid_ms[:, None], t1_ms=t1_ms[..., None], b1=b1_grid, echo_spacing_ms=echo_spacing_ms, n_echoes=n_echoes,
        profile=profile,
    )
    return np.ascontiguousarray(signal, dtype=np.float32)


def lookup(table, t2_grid_ms, b1_grid, t2_ms, b1) -> np.ndarray:
    """Signals by bilinear interpolation in a table of :func:`signal_table`.

    Parameters
    ----------
    table : numpy.ndarray, (n_t2, n_b1, n_echoes)
    t2_grid_ms, b1_grid : array_like
        The table's axes: at least two values, ascending, evenly spaced.
    t2_ms, b1 : array_like
        Where to interpolate; broadcast against each other.

    Returns
    -------
    numpy.ndarray of float32, (..., n_echoes)
        NaN where T2 or B1 is NaN.

    Raises
    ------
    ValueError
        When a grid is not even, or a value lies outside it.

    Notes
    -----
    With steps of 1 ms from T2 = 20 ms and of 0.02 in B1 the error is below 0.1 % of the first echo at every echo.
    """
    t2_ms, b1 = np.broadcast_arrays(t2_ms, b1)
    table = np.asarray(table, dtype=np.float32)
    n_t2, n_b1, n_echoes = table.shape
    flat = table.reshape(-1, n_echoes)
    rows, row_shares = _index(t2_ms.ravel(), t2_grid_ms, n_t2, "t2_ms")
    columns, column_shares = _index(b1.ravel(), b1_grid, n_b1, "b1")
    out = np.empty((t2_ms.size, n_echoes), dtype=np.float32)
    for start in range(0, t2_ms.size, CHUNK):
        part = slice(start, start + CHUNK)
        corner = rows[part] * n_b1 + columns[part]
        u, v = row_shares[part, None], column_shares[part, None]
        near, far = flat[corner], flat[corner + n_b1]
        near += v * (flat[corner + 1] - near)
        far += v * (flat[corner + n_b1 + 1] - far)
        far -= near
        far *= u
        np.add(near, far, out=out[part])
    return out.reshape(*t2_ms.shape, n_echoes)


def _index(values, grid, n, name):
    """Lower neighbour on an even grid, and the share of the way to the next; the share of a NaN is NaN."""
    grid = np.asarray(grid, dtype=float)
    steps = np.diff(grid)
    if grid.shape != (n,) or n < 2 or steps.min() <= 0 or np.ptp(steps) > 1e-6 * steps.mean():
        raise ValueError(f"The grid of {name} must be {n} ascending, evenly spaced values; found {grid}.")
    place = (values - grid[0]) * ((n - 1) / (grid[-1] - grid[0]))
    if np.any((place < -1e-4) | (place > n - 1 + 1e-4)):
        raise ValueError(
            f"Found {name} from {np.nanmin(values):g} to {np.nanmax(values):g}, expected {grid[0]:g} to {grid[-1]:g}; "
            "widen the grid, or clip the values first."
        )
    lower = np.clip(np.nan_to_num(place), 0, n - 2).astype(np.intp)
    return lower, (place - lower).astype(np.float32)


def _positive(values, name):
    values = np.asarray(values, dtype=float)
    if np.any(values <= 0):
        raise ValueError(f"{name} must be above 0 (NaN for unknown); found {np.nanmin(values):g}.")
    return values


def _count(n):
    if n != int(n) or n < 1:
        raise ValueError(f"Expected a whole number of at least 1; found {n}.")
    return int(n)
