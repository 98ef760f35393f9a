"""The mask of a study on its T2 images: alignment, the voxels that count, and what each step does to T2."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from mrmyo.files import replacing
from mrmyo.labels import carry, is_muscle
from mrmyo.measure import restrict
from mrmyo.nifti import read_nifti, write_nifti
from mrmyo.registration import align
from mrmyo.registration_checks import LEAST_FIT, border_fit
from mrmyo.settings import Settings
from mrmyo.study_maps import load_maps
from mrmyo.study_stages import write_json
from mrmyo.study_water import read_water
from mrmyo.t2 import FITTED
from mrmyo.volume import Volume

__all__ = ["ALIGNED", "COUNTED", "REGION", "STEPS", "align_study", "read_steps", "read_transform", "write_region"]

ALIGNED = ["mask.nii.gz", "labels_t2.nii.gz", "alignment.json"]
COUNTED, STEPS = "labels_measured.nii.gz", "t2_steps.csv"
REGION = [COUNTED, STEPS]
SHOWN_ERODE_MM, SHOWN_FAT = 2.0, 0.3  # what the table tries where the settings ask for nothing


def align_study(out_dir, mask: Volume, structural: Volume, echoes: Volume, settings: Settings, transform=None,
                before_hand=None) -> None:
    """Carry the mask to the T2 images; leaves ``mask.nii.gz``, ``labels_t2.nii.gz`` and ``alignment.json``.

    Parameters
    ----------
    out_dir : path
    mask, structural : Volume
        On one grid.
    echoes : Volume
        Or the scanner's own T2 map.
    settings : Settings
    transform, before_hand : array, optional
        As somebody set it by hand, in place of what the images show, and what it was moved from.
    """
    out = Path(out_dir)
    found = align(mask, moving=structural, fixed=echoes, refine=settings.alignment, transform=transform,
                  ignore_frame_of_reference=settings.ignore_frame_of_reference)
    fit = border_fit(structural, mask)
    flags = list(found.report["flags"])
    if fit < LEAST_FIT:
        flags.append(f"the image has hardly any edges along the border of the mask ({fit:.2f}, expected {LEAST_FIT} or "
                     "more): is it a mask of this patient and this image?")
    if found.report["frame_of_reference"] == "different":
        flags.append("the series have different frames of reference, which was to be ignored")
    report = {**found.report, "border_fit": fit, "flags": flags}
    write_nifti(mask, out / "mask.nii.gz")  # the one that counted, automatic or reviewed
    write_nifti(found.labels, out / "labels_t2.nii.gz")
    write_json({**_plain(report), "transform": found.transform.tolist(), "inverse": found.inverse.tolist(),
                **({} if before_hand is None else {"before_hand": np.asarray(before_hand).tolist()})},
               out / "alignment.json")


def _plain(value):
    """What JSON can say: NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_transform(out_dir, *, before_hand: bool = False) -> np.ndarray:
    """The transform that carried the mask of a processed study, from positions in the T2 images to structural ones.

    With `before_hand`, the one before somebody moved the mask by hand.
    """
    report = json.loads((Path(out_dir) / "alignment.json").read_text(encoding="utf-8"))
    return np.array(report.get("before_hand", report["transform"]) if before_hand else report["transform"])


def write_region(out_dir, settings: Settings) -> None:
    """Write which labelled voxels count, and T2 of the whole muscle by the steps that lead there."""
    out = Path(out_dir)
    labels, (water, _) = read_nifti(out / "labels_t2.nii.gz"), read_water(out)
    fat = None if water is None else water.fat_fraction
    most = settings.max_fat_fraction if fat is not None else None
    counted = restrict(labels, erode_mm=settings.erode_mm, fat_fraction=fat, max_fat_fraction=most)
    write_nifti(counted, out / COUNTED)
    table = _steps(out, labels, counted, fat, water, settings)
    with replacing(out / STEPS) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")


def _steps(out, labels, counted, fat, water, settings):
    """One row a step: its name, mean T2 of all muscle, its change, and whether it counts in this study's rows."""
    import pandas as pd

    report = json.loads((out / "alignment.json").read_text(encoding="utf-8"))
    mask, maps = read_nifti(out / "mask.nii.gz"), load_maps(out)
    carried = [("alignment by the headers alone", carry(mask, labels), report["method"] == "DICOM orientation")]
    if report["measured"]:
        rigid = carry(mask, labels, transform=np.array(report["measured"]))
        carried.append(("rigid refinement", rigid, report["method"] == "rigid refinement"))
    if report["method"] == "given transform":
        carried.append(("moved by hand", labels, True))
    elif np.ndim(report["transform"]) == 3:
        carried.append(("slices moved in plane", labels, True))
    margin = settings.erode_mm or SHOWN_ERODE_MM
    narrower = [(f"without {margin:g} mm at the border", restrict(labels, erode_mm=margin), settings.erode_mm > 0)]
    if fat is not None:
        most = settings.max_fat_fraction or SHOWN_FAT
        lean = restrict(labels, fat_fraction=fat, max_fat_fraction=most)
        narrower.append((f"without voxels of more than {most:.0%} fat", lean, settings.max_fat_fraction is not None))
    if all(used for *_, used in narrower) and len(narrower) > 1:
        narrower.append(("without both", counted, True))
    base = [_means(step[1], maps, water) for step in carried]
    rows = [{"step": name, **means, "counts": used} for (name, _, used), means in zip(carried, base, strict=True)]
    rows += [{"step": name, **_means(region, maps, water), "counts": used} for name, region, used in narrower]
    table = pd.DataFrame(rows)
    at = _means(labels, maps, water)["t2_ms"]
    table.insert(2, "change_ms", [row.t2_ms - (rows[0]["t2_ms"] if i < len(carried) else at)
                                  for i, row in enumerate(table.itertuples())])
    return table


def _means(region, maps, water):
    muscle = is_muscle(region.array)
    fitted = muscle & (maps.status == FITTED)
    found = {"t2_ms": float(maps.t2_ms[fitted].mean(dtype=float)) if fitted.any() else np.nan}
    if water is not None:
        wet = muscle & (water.status == FITTED)
        found["water_t2_ms"] = float(water.t2_ms[wet].mean(dtype=float)) if wet.any() else np.nan
    return {**found, "n_voxels": int(fitted.sum())}


def read_steps(out_dir):
    """The table of T2 by step that a study left, and the report of its alignment."""
    import pandas as pd

    out = Path(out_dir)
    return pd.read_csv(out / STEPS), json.loads((out / "alignment.json").read_text(encoding="utf-8"))
