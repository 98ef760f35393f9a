"""Water T2 of a study with Dixon images: fat fraction on the T2 grid, what is left of fat, and the fit with both.

Everything that the fit assumes of fat and of the slice is measured on the patient: the slice profile on lean muscle,
fat's T2 and how much of its signal the suppression left on subcutaneous fat.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrmyo.dixon import fat_fraction, undo_relaxation, water_fat
from mrmyo.labels import is_muscle, label_table
from mrmyo.nifti import read_nifti, read_t2map, write_nifti, write_t2map
from mrmyo.study_candidates import coverage
from mrmyo.study_maps import facts_of, known_of
from mrmyo.study_stages import write_json
from mrmyo.t2 import FITTED, SignalError, T2Maps, fit_t2
from mrmyo.t2_epg import EpgAssumptions, calibrate_fat, water_train
from mrmyo.t2_noise import estimate_sigma, looks_synthesised
from mrmyo.t2_profile import choose_profile, profile_named
from mrmyo.volume import Volume, resample_mean, same_grid

__all__ = ["WATER_FACTS", "WATER_FILES", "Dixon", "assumptions_of", "choose_dixon", "fit_water", "read_water",
           "write_water"]

# map: file name, how it is written and read
_MAPS = {"t2_ms": ("water_T2map.nii.gz", write_t2map, read_t2map),
         "t2_std_ms": ("water_T2std.nii.gz", write_t2map, read_t2map),
         "status": ("water_status.nii.gz", write_nifti, read_nifti), "b1": ("water_B1.nii.gz", write_nifti, read_nifti),
         "fat_fraction": ("fat_fraction.nii.gz", write_nifti, read_nifti)}
WATER_FACTS = "water.json"
WATER_FILES = [*(file for file, _, _ in _MAPS.values()), WATER_FACTS]
LEAN, PURE_FAT = 0.12, 0.9  # fat fractions as the images show them
FAT_TSE_T2_MS = 133.0
ADIPOSE_WATER_T2_MS, MOST_ADIPOSE_WATER = 35.0, 0.07  # more is noise, or fat that the Dixon images show as water
SWAPPED = 0.6
LEAST_COVERED = 0.5
EXPLAINED = 0.004  # of the signal; the right profile leaves a tenth of that, a wrong one up to twice


@dataclass(frozen=True)
class Dixon:
    """The Dixon images of a study that tell the fat fraction.

    Attributes
    ----------
    kind : {"water and fat", "in and opposed phase"}
    keys : tuple of str
        Of the two series, in this order.
    echo_time_ms : float
    notes : tuple of str
    """

    kind: str
    keys: tuple[str, str]
    echo_time_ms: float
    notes: tuple[str, ...] = ()


def choose_dixon(series, chosen):
    """The pair of Dixon images that covers most of the T2 stack, or the reason why there is none.

    Parameters
    ----------
    series : SeriesTable
    chosen : Chosen
        From `mrmyo.study_series.choose_series`.

    Returns
    -------
    Dixon or str
    """
    stack = series.grid(chosen.t2)
    study = series[series.key == chosen.t2].study.iloc[0]
    rows = [row for row in series[series.readable & (series.study == study)].itertuples() if row.n_echoes == 1]
    frame = stack.meta.get("FrameOfReferenceUID")
    for kind, roles in (("water and fat", ("water", "fat")), ("in and opposed phase", ("in_phase", "opposed_phase"))):
        pairs = [(coverage(series.grid(a.key), stack), a, b) for a in rows if a.role == roles[0]
                 for b in rows if b.role == roles[1] and same_grid(series.grid(a.key), series.grid(b.key))
                 and all(series.grid(row.key).meta.get("FrameOfReferenceUID") == frame for row in (a, b))]
        share, first, second = max(pairs, key=lambda pair: pair[0], default=(0, None, None))
        if share >= LEAST_COVERED:
            times = [t for t in first.echo_times_ms if np.isfinite(t)]
            notes = () if kind == "water and fat" else (
                "the fat fraction comes from magnitudes in and opposed phase, which cannot tell fractions above one "
                "half from those below",)
            return Dixon(kind, (first.key, second.key), float(times[0]) if times else 0.0, notes)
    return "no pair of Dixon images (water and fat, or in and opposed phase) lies over the T2 stack"


def fit_water(signal: Volume, first: Volume, second: Volume, labels: Volume, *, dixon: Dixon, transform=None, b1=None):
    """Fit water T2 with the fat fraction from Dixon images.

    Parameters
    ----------
    signal : Volume
        The echoes.
    first, second : Volume
        The two images that `dixon` names.
    labels : Volume
        On the grid of `signal`; muscle is fitted.
    dixon : Dixon
    transform : array, (4, 4), optional
        That carried the labels: from positions in `signal` to positions in the Dixon images.
    b1 : Volume, optional
        The scanner's B1 map, in any grid; fitted and smoothed when None.

    Returns
    -------
    T2Maps
        ``fat_fraction`` is the share of fat in the magnetisation, relaxation undone.
    dict
        What was assumed and measured, for ``study.json``.

    Raises
    ------
    SignalError
        When muscle or fat is too scarce to measure what the fit needs.
    """
    grid, times = signal.echo(0), signal.echo_times_ms
    muscle = is_muscle(labels.array)
    told = dixon.kind == "water and fat"
    parts = (first, second) if told else water_fat(first, second)
    water, fat = (resample_mean(volume, grid, transform=transform).array for volume in parts)
    if not told:  # magnitudes tell the larger part only, not which it is: fat around the muscle
        water, fat = np.where(muscle, water, fat), np.where(muscle, fat, water)
    total = water + fat
    shown = fat_fraction(water, fat, minimum=0.06 * float(np.nanpercentile(total, 99)))  # no air
    echoes = signal.array.astype(np.float32)
    if looks_synthesised(echoes[muscle], fit_t2(echoes[muscle], times)):
        raise SignalError("The echoes are one exponential to within rounding: a scanner seems to have computed them "
                          "from its own T2 map, so that stimulated echoes and fat can no longer be corrected for.")
    sigma = estimate_sigma(echoes[muscle])
    lean = ndimage.binary_erosion(muscle & (shown < LEAN), np.ones((3, 3, 1)))
    assumptions, profiles = choose_profile(_of_nine(echoes, lean, sigma), times, sigma / 3)
    known = "smooth" if b1 is None else resample_mean(b1, grid).array
    options = {"model": "epg", "sigma": sigma, "mask": muscle, "b1": known}
    blind = fit_t2(signal, assumptions=assumptions, **options)
    typical = float(np.nanmedian(blind.t2_ms[lean & (blind.status == FITTED)]))
    assumptions = _measure_fat(echoes, times, sigma, water, fat, shown, blind, lean, assumptions, dixon.echo_time_ms)
    t2 = blind.t2_ms
    for _ in range(2):  # how much the Dixon images overstate fat depends on the water's T2
        t2 = np.where(np.isfinite(t2), t2, typical)
        share = undo_relaxation(shown, dixon.echo_time_ms, water_t2_ms=t2, fat_t2_ms=FAT_TSE_T2_MS)
        maps = fit_t2(signal, fat_fraction=share, assumptions=assumptions, **options)
        t2 = maps.t2_ms
    facts = {
        "fat_fraction_from": dixon.kind, "dixon_echo_time_ms": dixon.echo_time_ms, "sigma": round(sigma, 3),
        "slice_profile": profiles.profile[profiles.chosen].item(), "t1_ms": assumptions.t1_ms,
        "fat_t2_ms": assumptions.fat_t2_ms, "fat_t1_ms": assumptions.fat_t1_ms,
        "residual_fat": round(assumptions.residual_fat, 4),
        "b1": "fitted, smoothed" if b1 is None else "the scanner's map",
        "profiles": profiles.round(5).to_dict("records"), "flags": [*_swaps(shown, labels), *_unexplained(profiles)],
        "notes": [*dixon.notes, *maps.notes],
    }
    return replace(maps, fat_fraction=np.where(np.isfinite(share), share, np.nan).astype(np.float32)), facts


def _of_nine(echoes, chosen, sigma):
    """Of every chosen voxel the amplitudes in the square of nine about it, their noise floor taken off."""
    power = ndimage.uniform_filter(echoes.astype(np.float64) ** 2, (3, 3, 1, 1))[chosen] - 2 * sigma**2
    return np.sqrt(np.clip(power, 0, None))


def _measure_fat(echoes, times, sigma, water, fat, shown, blind, lean, assumptions, echo_time_ms):
    """Fat's T2 and what suppression left of it, from voxels that the Dixon images show as fat throughout.

    Their signal at echo time 0 beside muscle's, in the echoes and in the Dixon images, tells how much is left: coil and
    proton density cancel.
    """
    pure = ndimage.binary_erosion((shown > PURE_FAT) & (fat > 0.05 * np.nanpercentile(fat, 99)), np.ones((3, 3, 1)))
    if pure.sum() < 200:
        raise SignalError(f"Found {int(pure.sum())} voxels of pure fat; what fat suppression left can be told from 200 "
                          "or more.")
    power = (echoes[pure].astype(np.float64) ** 2).mean(axis=0) - 2 * sigma**2  # magnitudes without their noise floor
    decay = np.sqrt(np.clip(power, 0, None))
    muscle_here = lean & (blind.status == FITTED)
    muscle_dixon = np.median(water[muscle_here] * np.exp(echo_time_ms / blind.t2_ms[muscle_here]))
    fat_dixon = fat[pure].mean() * np.exp(echo_time_ms / FAT_TSE_T2_MS)
    gain, b1 = float(np.median(blind.s0[muscle_here])) / muscle_dixon, float(np.median(blind.b1[muscle_here]))
    # adipose tissue holds some water, which suppression leaves and the Dixon images show as water
    wet = gain * min(water[pure].mean() * np.exp(echo_time_ms / ADIPOSE_WATER_T2_MS), MOST_ADIPOSE_WATER * fat_dixon)
    dry = decay - wet * water_train(ADIPOSE_WATER_T2_MS, times, assumptions, b1=b1)
    found = calibrate_fat(np.maximum(dry, 0.2 * decay)[None], times, assumptions, b1=b1, muscle_s0=gain * fat_dixon)
    return replace(found, residual_fat=float(np.clip(found.residual_fat, 0, 1.5)))


def _unexplained(profiles):
    """A flag where even the best slice profile leaves a pattern over the echoes: water T2 is then no better than it."""
    best = profiles[profiles.chosen].iloc[0]
    if best.residual <= EXPLAINED:
        return []
    low, high = profiles.t2_ms.min(), profiles.t2_ms.max()
    return [f"no slice profile explains the echoes of lean muscle ({best.profile} leaves {100 * best.residual:.1f} % "
            f"of the signal; candidates give T2 from {low:.0f} to {high:.0f} ms): water T2 may be off by milliseconds"]


def _swaps(shown, labels):
    """Thighs in whose muscle the Dixon images show mostly fat: water and fat may be exchanged there."""
    table, flags = label_table(), []
    axis = labels.slice_axis
    for side in ("left", "right"):
        values = table.loc[table.is_muscle & (table.side == side), "value"]
        muscle = np.moveaxis(np.isin(labels.array, values), axis, -1)
        fractions = np.moveaxis(shown, axis, -1)
        slices = [k + 1 for k in range(muscle.shape[-1]) if muscle[..., k].sum() > 50
                  and np.nanmedian(fractions[..., k][muscle[..., k]]) > SWAPPED]
        if slices:
            flags.append(f"water and fat may be exchanged in the Dixon images of the {side} thigh, T2 slices "
                         f"{', '.join(map(str, slices))}: most of its muscle shows as fat")
    return flags


def write_water(maps: T2Maps, facts, out_dir) -> None:
    """Write the maps of a water fit and what is told of it, so that `read_water` returns them."""
    out = Path(out_dir)
    for name, (file, write, _) in _MAPS.items():
        write(maps.volume(name), out / file)
    write_json({**facts_of(maps), **facts}, out / WATER_FACTS)


def assumptions_of(facts) -> EpgAssumptions:
    """What a fit of water T2 assumed, from what `fit_water` tells of it."""
    return EpgAssumptions(profile=profile_named(facts["slice_profile"]),
                          **{name: facts[name] for name in ("t1_ms", "fat_t2_ms", "fat_t1_ms", "residual_fat")})


def read_water(out_dir):
    """The water maps that a study left in its folder, None where there are none, and what is told of them."""
    out = Path(out_dir)
    if not (out / WATER_FACTS).exists():
        return None, {"notes": [], "flags": []}
    facts = json.loads((out / WATER_FACTS).read_text(encoding="utf-8"))
    if "model" not in facts:
        return None, facts
    volumes = {name: read(out / file) for name, (file, _, read) in _MAPS.items()}
    arrays = {name: volume.array for name, volume in volumes.items()}
    empty = np.full(arrays["t2_ms"].shape, np.nan, np.float32)
    maps = T2Maps(s0=empty, residual=empty.copy(), **known_of(facts), affine=volumes["t2_ms"].affine, **arrays)
    return maps, facts
