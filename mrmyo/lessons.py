"""Pictures that teach what a T2 is made of, from simulated echoes of one voxel; for notebooks and lectures."""

from __future__ import annotations

import numpy as np

from mrmyo.epg import epg_signal
from mrmyo.figures import COLOURS
from mrmyo.figures.style import finish, new_axes
from mrmyo.t2 import FITTED, fit_t2
from mrmyo.t2_biexp import biexponential_bound
from mrmyo.t2_epg import EpgAssumptions

__all__ = ["apparent_and_water", "decay_and_fits", "simulated_train", "two_exponentials"]

FIT_VOXELS = 400  # noisy repeats of one voxel: their spread is drawn beside their mean


def simulated_train(t2_ms, *, b1=1.0, fat=0.0, n_echoes=10, spacing_ms=10.0, assumptions=None):
    """Echoes of muscle water and of fat as the fit assumes them, per unit of magnetisation: (..., n_echoes)."""
    made = assumptions or EpgAssumptions()
    t2_ms, b1, fat = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (t2_ms, b1, fat)))
    options = {"b1": b1, "echo_spacing_ms": spacing_ms, "n_echoes": n_echoes, "profile": made.profile}
    lipid = epg_signal(np.full(t2_ms.shape, made.fat_t2_ms), t1_ms=made.fat_t1_ms, **options)
    water = epg_signal(t2_ms, t1_ms=made.t1_ms, **options)
    return (1 - fat)[..., None] * water + made.residual_fat * fat[..., None] * lipid


def decay_and_fits(*, t2_ms=35.0, b1=0.85, fat=0.1, snr=60.0, n_echoes=10, spacing_ms=10.0, ax=None):
    """The echoes of one voxel and what four models make of many noisy repeats of it. Simulated, with a fixed seed.

    Parameters
    ----------
    t2_ms, b1, fat, snr : float
        T2 of the water, B1, fat fraction (not suppressed), signal at echo time 0 over the noise.
    n_echoes : int
    spacing_ms : float
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    times = spacing_ms * np.arange(1, n_echoes + 1)
    clean = simulated_train(t2_ms, b1=b1, fat=fat, n_echoes=n_echoes, spacing_ms=spacing_ms)
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1 / snr, (2, FIT_VOXELS, n_echoes))
    noisy = np.hypot(clean + noise[0], noise[1])
    ax = new_axes(ax, height=3.4)
    curve = np.linspace(0, times[-1], 200)
    models = {
        "one exponential": ({}, "vermilion"), "first echo left out": ({"skip_first": True}, "orange"),
        "EPG": ({"model": "epg"}, "sky"),
        "EPG and fat": ({"model": "epg", "fat_fraction": np.full(FIT_VOXELS, fat)}, "blue"),
    }
    for name, (options, colour) in models.items():
        maps = fit_t2(noisy, times, sigma=1 / snr, **options)
        found = maps.t2_ms[maps.status == FITTED].astype(float)
        if not found.size:
            continue
        told = f"{name}: {found.mean():.1f} ± {found.std():.1f} ms"
        if "epg" in options.values():
            ax.plot([], [], color=COLOURS[colour], label=told)
        else:
            ax.plot(curve, np.nanmedian(maps.s0) * np.exp(-curve / found.mean()), color=COLOURS[colour], lw=1.2,
                    label=told)
    ax.plot(times, noisy[0], "o", color=COLOURS["black"], markersize=4, label="echoes of one voxel")
    ax.set(xlabel="Echo time (ms)", ylabel="Signal (of that at echo time 0)", ylim=(0, 1.05))
    ax.legend(fontsize=7, frameon=False)
    return finish(ax, f"Water T2 {t2_ms:g} ms, B1 {b1:g}, fat {fat:.0%} (simulated)", False)


def apparent_and_water(*, t2_ms=35.0, n_echoes=10, spacing_ms=10.0, residual_fat=1.0, ax=None):
    """Apparent T2 of one muscle against B1, for several fat fractions; its water T2 is one and the same line.

    Parameters
    ----------
    t2_ms : float
        Of the water.
    n_echoes : int
    spacing_ms : float
    residual_fat : float
        Share of fat's signal that fat suppression leaves; 1 without.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    made = EpgAssumptions(residual_fat=residual_fat)
    times = spacing_ms * np.arange(1, n_echoes + 1)
    b1, ax = np.linspace(0.65, 1.0, 36), new_axes(ax, height=3.2)
    for fat, colour in ((0.0, "green"), (0.1, "orange"), (0.2, "vermilion"), (0.3, "purple")):
        signal = simulated_train(t2_ms, b1=b1, fat=fat, n_echoes=n_echoes, spacing_ms=spacing_ms, assumptions=made)
        ax.plot(b1, fit_t2(signal, times).t2_ms, color=COLOURS[colour], label=f"apparent, {fat:.0%} fat")
        water = fit_t2(signal, times, model="epg", fat_fraction=np.full(b1.shape, fat), assumptions=made).t2_ms
        ax.plot(b1, water, color=COLOURS["blue"], lw=2.5, label="water T2, all four" if fat == 0 else None)
    ax.set(xlabel="B1 (share of nominal)", ylabel="T2 (ms)")
    ax.legend(fontsize=7, frameon=False)
    return finish(ax, "One muscle, one water T2 (simulated)", False)


def two_exponentials(*, t2_ms=32.0, snr=50.0, n_echoes=10, spacing_ms=10.0, ax=None):
    """How uncertain the share of a second, longer T2 is at best, by how long it is.

    Parameters
    ----------
    t2_ms : float
        The short T2.
    snr : float
        Signal at echo time 0 over the noise.
    n_echoes : int
    spacing_ms : float
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    times = spacing_ms * np.arange(1, n_echoes + 1)
    ax = new_axes(ax, height=3.0)
    long = np.linspace(2, 6, 25) * t2_ms
    for share, colour in ((0.1, "sky"), (0.3, "blue"), (0.5, "black")):
        least = [biexponential_bound(t2_ms, value, share, echo_times_ms=times, snr=snr)["long_share_std"]
                 for value in long]
        ax.semilogy(long, least, color=COLOURS[colour], label=f"share {share:.0%}")
    ax.axhline(0.05, color=COLOURS["grey"], ls="--", lw=1)
    ax.annotate("what would be of use", (long[-1], 0.05), fontsize=7, ha="right", va="bottom")
    ax.set(xlabel="Longer T2 (ms)", ylabel="Least SD of its share")
    ax.legend(fontsize=7, frameon=False)
    return finish(ax, f"Two exponentials, {n_echoes} echoes, SNR {snr:g} (bound)", False)
