"""What a measured study leaves for its readers: rows, flags, provenance and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mrmyo.files import replacing
from mrmyo.labels import is_muscle
from mrmyo.measure import quality_flags, t2_by_muscle, water_by_muscle
from mrmyo.nifti import read_nifti
from mrmyo.provenance import record
from mrmyo.segmentation import flag_lines
from mrmyo.settings import Settings, write_settings
from mrmyo.study_alignment import COUNTED, read_steps
from mrmyo.study_maps import load_maps
from mrmyo.study_masks import NOTHING_TOLD
from mrmyo.study_reliability import read_reliability
from mrmyo.study_stages import write_json
from mrmyo.study_water import read_water

__all__ = ["RESULTS", "SLICE_QUALITY", "read_rows", "with_numbers", "write_results"]

RESULTS = ["rows.csv", "study.json", "report.html", "report.pdf", "quality.html"]
SLICE_QUALITY = "segmentation_quality.csv"


def read_rows(out_dir):
    """The rows that `process_study` left in a folder."""
    import pandas as pd

    path = Path(out_dir) / "rows.csv"
    text = dict.fromkeys(("subject", "session", "t2_model", "mask", "mask_journal", "reviewer", "side", "muscle"),
                         str)
    blank = {column: [""] for column in pd.read_csv(path, nrows=0).columns if column not in text}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=blank)  # a key may be "NA" or "007"


def with_numbers(settings: Settings, series) -> Settings:
    """Settings that name series by their numbers alone: a description that someone typed stays in their own file.

    A series without a number of its own is named by its key.
    """
    stated = series[series.role.isin([role for role, _ in settings.roles])]
    alone = [row.series >= 0 and (series.series == row.series).sum() == 1 for row in stated.itertuples()]
    return replace(settings, roles={row.role: int(row.series) if only else row.key
                                    for row, only in zip(stated.itertuples(), alone, strict=True)})


def _lines(slices):
    """Which slices of an automatic mask to look at; of a reviewed one, which has no table, none."""
    if slices is None:
        return []
    return flag_lines(slices) if len(slices) else [NOTHING_TOLD]


def _slices(out, facts):
    """What is known of the slices of an automatic mask; None for one that somebody reviewed."""
    import pandas as pd

    if not facts["mask"].startswith("automatic"):
        return None
    return pd.read_csv(out / SLICE_QUALITY, keep_default_na=False, na_values={"expected_dice": [""]})


def _reliability(maps, water, ratio, labels):
    """The maps of the quality page that tell how good T2 is, within muscle; none for a scanner's map."""
    if ratio is None:
        return {}
    muscle = is_muscle(labels.array)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"residual": 100 * maps.residual / maps.s0, "echo_ratio": ratio.array, "t2_std_ms": maps.t2_std_ms}
    if water is not None:
        found |= {"b1": water.b1, "fat_fraction": water.fat_fraction, "water_t2_ms": water.t2_ms}
    return {name: labels.with_array(np.where(muscle, array, np.nan).astype(np.float32))
            for name, array in found.items()}


def write_results(out_dir, facts, settings: Settings, inputs) -> None:
    """Measure the maps of a folder under its mask and write what there is to say of it; ``rows.csv`` comes last.

    Parameters
    ----------
    out_dir : path
        With the maps, ``labels_measured.nii.gz``, ``t2_steps.csv``, ``structural.nii.gz``, ``mask.nii.gz``,
        ``alignment.json`` and, where the mask is automatic, ``segmentation_quality.csv``.
    facts : mapping
        Of the study; the first columns of every row.
    settings : Settings
        Without descriptions (`with_numbers`).
    inputs : mapping
        What went in, for ``study.json``; its ``notes`` and ``flags`` are told on their own.
    """
    from mrmyo.figures.pages import write_quality_page
    from mrmyo.figures.patient import write_patient_html, write_patient_pdf

    out = Path(out_dir)
    maps, labels = load_maps(out), read_nifti(out / COUNTED)
    rows = t2_by_muscle(maps, labels)
    water, told = read_water(out)
    models, ratio = read_reliability(out)
    if water is not None:
        rows = water_by_muscle(rows, water, labels)
    for position, (name, value) in enumerate(facts.items()):
        rows.insert(position, name, value)
    steps, alignment = read_steps(out)
    other_axes = tuple(axis for axis in range(3) if axis != labels.slice_axis)
    bare = int((~is_muscle(labels.array).any(axis=other_axes)).sum())
    inputs = dict(inputs)
    slices = _slices(out, facts)
    flags = [*inputs.pop("flags"), *alignment.pop("flags"), *told.pop("flags")]
    flags += quality_flags(rows, coverage=alignment["coverage"], n_bare_slices=bare)
    flags += (f"mask, {line}" for line in _lines(slices))
    study = {**facts, "flags": flags, "notes": [*inputs.pop("notes"), *maps.notes, *told.pop("notes")],
             "alignment": alignment, "inputs": inputs,
             **({"water": told} if told else {}), "provenance": record()}
    write_settings(settings, out / "settings.toml")
    shown = {"rows": rows, "flags": flags, "facts": study, "t2": maps.volume("t2_ms"), "labels": labels,
             "structural": read_nifti(out / "structural.nii.gz")}
    write_patient_html(out / "report.html", **shown)
    write_patient_pdf(out / "report.pdf", **shown)
    write_quality_page(
        out / "quality.html",
        **shown,
        mask=read_nifti(out / "mask.nii.gz"),
        slices=slices,
        models=models,
        reliability=_reliability(maps, water, ratio, labels),
        steps=steps,
    )
    write_json(study, out / "study.json")
    with replacing(out / "rows.csv") as partial:
        rows.to_csv(partial, index=False, float_format="%.4f")
