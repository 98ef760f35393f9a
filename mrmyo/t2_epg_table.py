"""The table behind the stimulated-echo fit: what it assumes, signals and derivatives by T2 and B1, where to begin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mrmyo.epg import SliceProfile, epg_signal

__all__ = ["B1_RANGE", "STARTS_MS", "EpgAssumptions", "Table", "known_b1", "make_table"]

T2_RANGE_MS = (10.0, 300.0)
B1_RANGE = (0.45, 1.2)
N_T2, N_B1 = 200, 61
N_SUMS = 6  # of the echoes: they leave a few thousandths of the energy of any signal of water or fat out
N_CELLS = 64  # each way, of the map from signals to the node that the quick fit begins from
MIDDLE = N_B1 // 4  # the p to begin from where three sums do not tell it
MOST_MAPPED = 12  # echoes; in longer trains the noise floor of the late ones misleads the map
NARROW = 1e-4  # for derivatives by differences
STARTS_MS, STARTS_B1 = (20.0, 30.0, 42.0, 60.0, 90.0, 150.0), (0.58, 0.72, 0.85, 0.97)
WIDE_SD = 0.25  # with a slice profile B1 beyond the turning point of the signal is told only by what is plausible


@dataclass(frozen=True)
class EpgAssumptions:
    """What the stimulated-echo fit takes for known. Every field can be wrong; `benchmarks/t2.py` tells by how much.

    Parameters
    ----------
    t1_ms : float
        T1 of muscle water: 1412 ms at 3 T (Stanisz et al., Magn Reson Med 2005;54:507).
    profile : SliceProfile, optional
        Flip angles over the slice; None for hard pulses.
    fat_t2_ms, fat_t1_ms : float
        Of fat in the echo train: 133 and 371 ms at 3 T (Gold et al., Am J Roentgenol 2004;183:343, subcutaneous fat).
        :func:`calibrate_fat` measures the first.
    residual_fat : float
        How much of the fat's signal the series still shows beside water's: 1 without fat suppression.
    """

    t1_ms: float = 1412.0
    profile: SliceProfile | None = None
    fat_t2_ms: float = 133.0
    fat_t1_ms: float = 371.0
    residual_fat: float = 1.0


@dataclass(frozen=True)
class Table:
    """Signals at the nodes. `p` is B1 with a profile, and without one (1 - B1)²: hard pulses depend on nothing else.

    The last axis of `water`, `fat`, `inverse` and `basis` holds the echoes, and zeros up to a multiple of `LANES`.
    """

    n_echoes: int
    water: np.ndarray
    fat: np.ndarray
    axes: np.ndarray
    starts: np.ndarray
    hard: bool
    inverse: np.ndarray
    variance: np.ndarray
    basis: np.ndarray
    corner: np.ndarray
    nearest: np.ndarray

    def to_p(self, b1):
        """B1 in the coordinate of the table."""
        return (1 - b1) ** 2 if self.hard else b1

    def to_b1(self, p):
        """And back."""
        return 1 - np.sqrt(np.maximum(p, 0)) if self.hard else p

    def sd_to_p(self, b1, sd):
        """The SD of p at a B1 with its SD."""
        return 2 * np.maximum(np.abs(1 - b1), sd / 2) * sd if self.hard else sd + 0 * b1

    def sd_to_b1(self, p, sd_p):
        """And back."""
        with np.errstate(invalid="ignore"):  # infinite where B1 is free
            return sd_p / (2 * np.sqrt(np.maximum(p, np.maximum(sd_p / 4, 1e-6)))) if self.hard else sd_p


@lru_cache(maxsize=16)
def make_table(step_ms, n_echoes, skipped, assumptions) -> Table:
    """The table for a train of which the first `skipped` echoes are not used."""
    hard = assumptions.profile is None
    u = np.linspace(*np.log(T2_RANGE_MS), N_T2)
    low, high = ((0.0, (1 - B1_RANGE[0]) ** 2) if hard else B1_RANGE)
    p = np.linspace(low, high, N_B1)
    to_b1 = (lambda p: 1 - np.sqrt(p)) if hard else (lambda p: p)

    def train(t2_ms, p, t1_ms):
        signal = epg_signal(t2_ms, t1_ms=t1_ms, b1=to_b1(p), echo_spacing_ms=step_ms, n_echoes=n_echoes + skipped,
                            profile=assumptions.profile)
        return signal[..., skipped:]

    def by_p(t2_ms, t1_ms):
        if hard:  # at p = 0 there is one side only
            ahead = [train(t2_ms, p + k * NARROW, t1_ms) for k in range(3)]
            return (4 * ahead[1] - 3 * ahead[0] - ahead[2]) / (2 * NARROW)
        inside = np.clip(p, low + NARROW, high - NARROW)
        return (train(t2_ms, inside + NARROW, t1_ms) - train(t2_ms, inside - NARROW, t1_ms)) / (2 * NARROW)

    t2 = np.exp(u)[:, None]
    grow = np.exp(NARROW)
    by_u = (train(t2 * grow, p, assumptions.t1_ms) - train(t2 / grow, p, assumptions.t1_ms)) / (2 * NARROW)
    water = np.stack([train(t2, p, assumptions.t1_ms), by_u, by_p(t2, assumptions.t1_ms)], axis=2)
    fat_t2, fat_t1 = assumptions.fat_t2_ms, assumptions.fat_t1_ms
    fat = assumptions.residual_fat * np.stack([train(fat_t2, p, fat_t1), by_p(fat_t2, fat_t1)], axis=1)
    axes = np.array([u[0], u[1] - u[0], p[0], p[1] - p[0]])
    at = [np.abs(u - np.log(t)).argmin() for t in STARTS_MS]
    # without the first echo two nodes far apart give nearly the same signal: begin where B1 is likelier
    starts = np.array([(i, np.abs(to_b1(p) - b).argmin()) for b in (STARTS_B1[1:2] if skipped else STARTS_B1)
                       for i in at])
    basis = _sums_that_tell(np.concatenate([water[:, :, 0].reshape(-1, n_echoes), fat[:, 0]]))
    inverse, variance = _inverses(water if hard else water[:0])
    inverse[:, :, 1:] /= axes[[1, 3], None]
    corner, nearest = np.zeros((2, 2), np.float32), np.zeros((1, 1), np.int32)
    if hard:  # the quick fit is for hard pulses only
        all_p = not skipped and n_echoes <= MOST_MAPPED
        corner, nearest = _map_of_starts(water[:, :, 0], basis[:3], slice(None) if all_p else slice(MIDDLE, MIDDLE + 1))
    return Table(n_echoes, _filled(water), _filled(fat), axes, starts, hard, _filled(inverse),
                 variance.astype(np.float32), _filled(basis), corner, nearest)


def _filled(echoes):
    """In single precision, with zeros after the echoes."""
    from mrmyo.t2_epg_steps import LANES

    more = -echoes.shape[-1] % LANES
    return np.pad(echoes, [(0, 0)] * (echoes.ndim - 1) + [(0, more)]).astype(np.float32)


def _sums_that_tell(signals):
    """The first singular vectors (`N_SUMS`, m) of signals (n, m), zeros where there are fewer: sums over the echoes."""
    scaled = signals / np.maximum(np.linalg.norm(signals, axis=1, keepdims=True), 1e-12)
    basis = np.linalg.svd(scaled, full_matrices=False)[2][:N_SUMS]
    basis *= np.where(basis.sum(axis=1, keepdims=True) < 0, -1, 1)
    return np.pad(basis, [(0, N_SUMS - len(basis)), (0, 0)])


def _map_of_starts(signals, basis, columns):
    """Which node of these columns of signals (n_u, n_p, m) explains most of one, as far as three sums (3, m) tell.

    The second and the third over the first are cut into cells. Returns the least value and the cells per unit of both,
    and the node i * n_p + j of every cell.
    """
    sums = signals @ basis.T
    ratios = (sums[..., 1:] / sums[..., :1]).reshape(-1, 2)
    low, span = ratios.min(axis=0), np.ptp(ratios, axis=0)
    low, span = low - 0.1 * span, 1.2 * span
    lines = [np.linspace(a, a + b, N_CELLS) for a, b in zip(low, span, strict=True)]
    cells = np.stack([np.ones((N_CELLS, N_CELLS)), *np.meshgrid(*lines, indexing="ij")], axis=-1)
    nodes = np.arange(signals[..., 0].size).reshape(signals.shape[:2])[:, columns].ravel()
    unit = sums.reshape(-1, 3)[nodes]
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).T
    nearest = np.stack([nodes[(row @ unit).argmax(axis=1)] for row in cells]).astype(np.int32)
    return np.stack([low, (N_CELLS - 1) / span], axis=1).astype(np.float32), nearest


def _inverses(water):
    """Per node, what turns a signal into amplitude, a du and a dp, and the variances of du and dp for unit noise.

    The last p stands for the first one with dp held at 0.
    """
    n_u, n_p, _, n_echoes = water.shape
    inverse, variance = np.zeros((n_u, n_p + 1, 3, n_echoes)), np.zeros((n_u, n_p + 1, 2))
    for where, parts, n in ((slice(0, n_p), water, 3), (slice(n_p, None), water[:, :1, :2], 2)):
        gram = np.linalg.inv(np.einsum("upae,upbe->upab", parts, parts))
        inverse[:, where, :n] = np.einsum("upab,upbe->upae", gram, parts)
        variance[:, where, : n - 1] = gram.diagonal(axis1=2, axis2=3)[..., 1:]
    return inverse, variance


def known_b1(table, b1, b1_sd, n):
    """B1 as it is known, in the coordinate of the table; infinite SD where it is not."""
    if b1 is None:
        if table.hard:
            return np.zeros(n, np.float32), np.full(n, np.inf, np.float32)
        return np.full(n, 1.0, np.float32), np.full(n, WIDE_SD, np.float32)
    known = np.isfinite(b1)
    at = np.where(known, np.clip(b1, *B1_RANGE), 1.0)
    at = np.where(at > 1, 2 - at, at) if table.hard else at  # a hard pulse of more than 180 degrees acts as one of less
    sd = np.where(known, table.sd_to_p(at, b1_sd), np.inf if table.hard else WIDE_SD)
    return table.to_p(at).astype(np.float32), sd.astype(np.float32)
