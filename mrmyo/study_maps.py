"""Maps that the scanner made itself, understood; and the maps of a study on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrmyo.nifti import read_nifti, read_t2map, write_nifti, write_t2map
from mrmyo.study_series import StudyError
from mrmyo.study_stages import write_json
from mrmyo.t2 import AT_BOUND, FITTED, LOW_SIGNAL, NOT_FINITE, OUTSIDE_MASK, T2_BOUNDS_MS, T2Maps
from mrmyo.volume import Volume

__all__ = ["MAPS", "SCANNER_MAP", "facts_of", "known_of", "load_maps", "relative_b1", "scanner_t2", "write_maps"]

SCANNER_MAP = "scanner map"  # in the place of a T2 model
# map: file name, how it is written (maps of times in seconds, as BIDS has it) and read
MAPS = {"t2_ms": ("T2map.nii.gz", write_t2map, read_t2map), "t2_std_ms": ("T2std.nii.gz", write_t2map, read_t2map),
        "s0": ("S0map.nii.gz", write_nifti, read_nifti), "residual": ("residual.nii.gz", write_nifti, read_nifti),
        "status": ("status.nii.gz", write_nifti, read_nifti)}
PLAUSIBLE_MS = (10.0, 300.0)  # the median of a map of the body lies there, in whatever limb and at whatever field
PLAUSIBLE_B1 = (0.3, 2.0)
_MS = {"ms": 1.0, "msec": 1.0, "millisecond": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "second": 1e3,
       "seconds": 1e3, "µs": 1e-3, "usec": 1e-3}  # not "us": that RescaleType is "unspecified" (PS3.3 C.11.1.1.2)
_UCUM_MS = {"ms": 1.0, "s": 1e3, "us": 1e-3}
_PERCENT = {"%", "pct", "percent", "[%]"}
_DEGREES = {"deg", "degree", "degrees", "[deg]"}


def scanner_t2(volume: Volume, *, unit_ms: float | None = None) -> T2Maps:
    """T2 maps in ms from the scanner's own map.

    The unit is the one that is given, or that of RealWorldValueMapping, or of RescaleType or Units. No vendor's own
    document was found that fixes the unit of maps whose headers are silent, so none is assumed by name: of ms, tenths
    of a ms, s and µs that one is taken which puts the median of the body's voxels between 10 and 300 ms, if there is
    only one. A unit from the header must pass the same test.

    A T2 beyond 400 ms is no muscle's, so that the 4095 of a 12-bit map counts as saturated however it is stored.

    Parameters
    ----------
    volume : Volume
        As `mrmyo.read_dicom` reads the map, rescale applied, with its `meta`.
    unit_ms : float, optional
        How many ms one unit of `volume` is.

    Returns
    -------
    T2Maps
        Model "scanner map", without echo times; what a scanner's map does not tell (s0, SD, residual) is NaN. Voxels
        that are NaN are ``not finite``, of the padding value ``outside mask``, 0 or negative ``low signal``,
        saturated (the largest value that can be stored) or not between 5 and 400 ms ``at bound``.

    Raises
    ------
    StudyError
        When the unit is not clear, differs from slice to slice, or makes no T2 of a body.
    """
    stored, values, real, real_unit = _scaled(volume)
    facts, unit = volume.meta, None
    if unit_ms is None and (factor := _UCUM_MS.get(_text(real_unit))) is not None:
        values, unit = real, factor
    elif unit_ms is None:
        unit = next((_MS[word] for key in ("RescaleType", "Units") if (word := _text(facts.get(key))) in _MS), None)
        if unit is None and len({scale[2:4] for scale in facts.get("FrameScales", ())}) > 1:
            raise StudyError(
                "The slices of the scanner's T2 map have different rescale slopes, and its header does not tell their "
                "unit: they may be scaled for display only. If displayed values are times, set t2_map_unit_ms in a "
                "settings file to the ms of one unit; if not, measure the echoes."
            )
    status = np.full(values.shape, FITTED, dtype=np.uint8)
    status[values <= 0] = LOW_SIGNAL
    bits = int(facts.get("BitsStored") or 16) - (facts.get("PixelRepresentation") == 1)
    status[stored >= 2**bits - 1] = AT_BOUND
    if facts.get("PixelPaddingValue") is not None:
        status[stored == facts["PixelPaddingValue"]] = OUTSIDE_MASK
    status[~np.isfinite(values)] = NOT_FINITE
    median = _body_median(values, status == FITTED)
    t2_ms = values * _unit(median, unit_ms, unit)
    low, high = T2_BOUNDS_MS
    with np.errstate(invalid="ignore"):
        status[(status == FITTED) & ~((t2_ms > low) & (t2_ms < high))] = AT_BOUND
    t2_ms = np.where(status == FITTED, t2_ms, np.nan).astype(np.float32)
    unknown = np.full(t2_ms.shape, np.nan, dtype=np.float32)
    return T2Maps(t2_ms, unknown, unknown.copy(), unknown.copy(), status, SCANNER_MAP, (), affine=volume.affine)


def relative_b1(volume: Volume) -> Volume:
    """The scanner's B1 map as a share of the nominal flip angle, 1 where it is reached.

    Units of per cent or degrees are taken from the header. Where it is silent, a map that calls itself a flip angle map
    holds tenths of a degree, as the product sequence tfl_b1map of Siemens (so hMRI-toolbox, hmri_create_b1map.m,
    calc_tfl_b1map: 100 % = 10 × FlipAngle); any other is per cent of the nominal angle, or a share already, whichever
    puts its median between 0.3 and 2.

    Parameters
    ----------
    volume : Volume
        As `mrmyo.read_dicom` reads the map, with its `meta`.

    Returns
    -------
    Volume
        float32; NaN where the map is 0, negative or not finite.

    Raises
    ------
    StudyError
        When no unit makes a B1 of it.
    """
    if volume.meta.get("FrameScales"):
        raise StudyError("The slices of the scanner's B1 map are scaled differently; expected one scale for all.")
    values = volume.array.astype(np.float64)
    valid = np.isfinite(values) & (values > 0)
    words = {_text(volume.meta.get(key)) for key in ("RealWorldValueUnits", "RescaleType", "Units")}
    kinds = {str(token).upper().replace(" ", "_") for token in volume.meta.get("ImageType") or ()}
    angle = float(volume.meta.get("FlipAngle") or np.nan)
    if words & _PERCENT:
        factors = [0.01]
    elif words & _DEGREES:
        factors = [1 / angle]
    elif kinds & {"FLIP_ANGLE_MAP", "FLIPANGLE_MAP", "FA_MAP"}:
        factors = [0.1 / angle]
    else:
        factors = [0.01, 1.0]
    median = _body_median(values, valid)
    fitting = [f for f in factors if PLAUSIBLE_B1[0] <= median * f <= PLAUSIBLE_B1[1]]
    if len(fitting) != 1:
        raise StudyError(
            f"The scanner's B1 map has a median of {median:.4g} at a flip angle of {angle:g}°, which in no known unit "
            f"lies between {PLAUSIBLE_B1[0]} and {PLAUSIBLE_B1[1]} times the nominal one; expected per cent or degrees."
        )
    return volume.with_array(np.where(valid, values * fitting[0], np.nan).astype(np.float32))


def write_maps(maps: T2Maps, out_dir) -> None:
    """Write the maps of a fit (or of a scanner) and ``fit.json``, so that `load_maps` returns them."""
    out = Path(out_dir)
    for name, (file, write, _) in MAPS.items():
        write(maps.volume(name), out / file)
    write_json(facts_of(maps), out / "fit.json")


def load_maps(out_dir) -> T2Maps:
    """The T2 maps that `process_study` left in a folder."""
    out = Path(out_dir)
    facts = json.loads((out / "fit.json").read_text())
    volumes = {name: read(out / file) for name, (file, _, read) in MAPS.items()}
    return T2Maps(**{name: volume.array for name, volume in volumes.items()}, **known_of(facts),
                  affine=volumes["t2_ms"].affine)


def facts_of(maps: T2Maps) -> dict:
    """What is no map of a fit, as JSON holds it."""
    shared = maps.noise_volume
    return {"model": maps.model, "echo_times_ms": list(maps.echo_times_ms), "fit_notes": list(maps.notes),
            "noise_volume": round(shared, 3) if np.isfinite(shared) else None}


def known_of(facts) -> dict:
    """What `facts_of` told, as T2Maps takes it."""
    return {"model": facts["model"], "echo_times_ms": tuple(facts["echo_times_ms"]), "notes": tuple(facts["fit_notes"]),
            "noise_volume": np.nan if facts["noise_volume"] is None else facts["noise_volume"]}


def _text(value):
    return str(value or "").strip().lower()


def _scaled(volume):
    """The values as they stand in the files, rescaled, and in real-world values with their unit; slice by slice.

    ``FrameScales`` in `meta`, where slices differ: for each the slope and intercept that reading applied, those of the
    header, and slope, intercept and unit of real-world values.
    """
    meta = volume.meta
    one = (meta.get("RescaleSlope") or 1, meta.get("RescaleIntercept") or 0)
    real = (meta.get("RealWorldValueSlope", 1), meta.get("RealWorldValueIntercept", 0), meta.get("RealWorldValueUnits"))
    scales = list(zip(*(meta.get("FrameScales") or [(*one, *one, *real)]), strict=True))
    if len(set(scales[6])) > 1:
        raise StudyError(
            "The slices of the scanner's T2 map have real-world values of different units, or some have none; expected "
            "one unit for all. Export the map again, or measure the echoes."
        )
    applied, offset, slope, intercept, real_slope, real_intercept = (np.array(part, dtype=float) for part in scales[:6])
    stored = np.rint((volume.array.astype(np.float64) - offset) / applied)
    as_read = np.array_equal(applied, slope) and np.array_equal(offset, intercept)
    values = volume.array.astype(np.float64) if as_read else stored * slope + intercept
    return stored, values, stored * real_slope + real_intercept, scales[6][0]


def _body_median(values, valid):
    """The median where neighbours agree: a fit to air gives anything, from voxel to voxel."""
    if not valid.any():
        raise StudyError("The scanner's map holds no voxel above 0; expected a map of the body.")
    filled = np.where(valid, values, 0)
    near = ndimage.median_filter(filled, size=(3, 3, 1))
    body = valid & (np.abs(filled - near) < 0.2 * near)
    return float(np.median(values[body if body.any() else valid]))


def _unit(median, given, stated):
    low, high = PLAUSIBLE_MS
    if given is not None or stated is not None:
        factor = given if given is not None else stated
        if low <= median * factor <= high:
            return factor
        who = "the settings' t2_map_unit_ms" if given is not None else "its header"
        raise StudyError(
            f"The scanner's T2 map has a median of {median * factor:.4g} ms by {who}; expected {low:g} to {high:g} ms. "
            f"Its values have a median of {median:.4g}: set t2_map_unit_ms in a settings file to the ms of one unit."
        )
    fitting = {name: factor for name, factor in
               {"ms": 1.0, "tenths of a ms": 0.1, "s": 1e3, "µs": 1e-3}.items() if low <= median * factor <= high}
    if len(fitting) != 1:
        raise StudyError(
            f"The header of the scanner's T2 map does not tell its unit, and a median of {median:.4g} could be "
            f"{' or '.join(fitting) or 'none that is known'}. Set t2_map_unit_ms in a settings file to the ms of one "
            "unit (1 for ms, 0.1 for tenths of a ms, 1000 for s)."
        )
    return next(iter(fitting.values()))
