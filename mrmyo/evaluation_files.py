"""Label maps in files beside their references: tables, figures and one page."""

from __future__ import annotations

import html
import io
import json
import sys
from pathlib import Path

from mrmyo.evaluation import EvaluationError, evaluate, slice_scores
from mrmyo.evaluation_notes import remarks
from mrmyo.evaluation_summary import MEAN_OF_MUSCLES, limits_of_agreement, summarise
from mrmyo.evaluation_values import convert, read_values
from mrmyo.files import replacing
from mrmyo.measure import WHOLE_MUSCLE
from mrmyo.nifti import read_nifti, read_t2map
from mrmyo.volume import in_axis_order_of, same_grid

__all__ = ["evaluate_files"]

ENDINGS = (".nii.gz", ".nii")
SYNTHETIC_MANUFACTURER = "mrmyo synthetic scanner"  # as mrmyo.simulation signs what it makes
GOALS = {"delta_t2_ms": (-0.7, 0.7)}  # of the project, per muscle
CHARTS = {
    "dice": ("dice", "Overlap with the reference: a point per case and side, the mean over cases in black."),
    "surface_distance": ("hd95_in_plane_mm", "95th percentile of the distances between the outlines in each slice, "
                         "mean over slices. Where one mask has nothing there is no distance, and no point."),
    "volume": ("volume_error_percent", "Volume of the mask less that of the reference, in percent of the reference."),
    "t2": ("delta_t2_ms", "T2 under the mask less T2 under the reference. Dashed: ±0.7 ms."),
}

HEADS = {"dice": "Dice", "hd95_mm": "HD95, 3-D (mm)", "surface_distance_mm": "mean distance, 3-D (mm)",
         "hd95_in_plane_mm": "HD95 in plane (mm)", "surface_distance_in_plane_mm": "mean distance in plane (mm)",
         "volume_error_ml": "volume error (ml)", "volume_error_percent": "volume error (%)", "delta_t2_ms": "ΔT2 (ms)",
         "other_side_ml": "on the other side (ml)"}
TITLE = "Masks beside their references"
PAGE = "evaluation.html"
OURS = (*(f"{name}.png" for name in (*CHARTS, "levels", "masks_best", "masks_worst")), "agreement.csv", "table.csv",
        "summary.csv")


def evaluate_files(labels, reference, out, *, t2=None, image=None, only=None, reference_values=None, n_levels: int = 3,
                   count_unnamed: bool = False, synthetic: bool | None = None, progress: bool = True):
    """Evaluate one label map or a folder of them, and write what was found.

    Parameters
    ----------
    labels, reference : path
        Two NIfTI files, or two folders of equally named ones (a cohort). A case is called as its file.
    out : path
        A folder for ``table.csv`` (the rows of `mrmyo.evaluate`), ``summary.csv``, ``agreement.csv``, the figures as
        PNG, and ``evaluation.html``, which holds the means and the figures. Those of an earlier evaluation in it are
        replaced, known by its page; ``summary.csv`` is written last, so where it is, all is.
    t2, image : path, optional
        T2 maps (whose sidecar says the unit) and images to draw on: files or folders like the labels.
    only, n_levels, count_unnamed
        As for `mrmyo.evaluate`.
    reference_values : path or str, optional
        As for `mrmyo.evaluation_values.read_values`, where the references have other people's values.
    synthetic : bool, optional
        Whether all says that the data are synthetic; without it, when a sidecar says so.
    progress : bool
        Whether to print a bar, and what `mrmyo.evaluation_notes.remarks` has to say (it is on the page in any case).

    Returns
    -------
    tuple of pandas.DataFrame
        Rows and summary.

    Raises
    ------
    EvaluationError
        When a file has no partner, or cases cannot be evaluated: every one is named with its reason, and nothing is
        written, for a cohort without its bad cases looks better than it is. Also when `out` holds files of these names
        but no page of an earlier evaluation: they may be somebody's own.
    """
    import pandas as pd

    from mrmyo.progress import track

    out = Path(out)
    _check_folder(out)
    values = None if reference_values is None else read_values(reference_values)
    cases = _cases({"labels": labels, "reference": reference, "T2 maps": t2, "images": image})
    tables, scores, signs, trouble = [], [], [], []
    for name, files in track(cases.items(), label="cases", total=len(cases), show=progress and len(cases) > 1):
        try:
            found, truth, t2_ms, image = _read(files, values)
            if image is not None and not same_grid(in_axis_order_of(image, truth), truth):
                raise EvaluationError(f"The image has the shape {image.shape}, the reference {truth.shape}, or they "
                                      "lie at different places; expected one grid.")
            rows = evaluate(found, truth, t2=t2_ms, only=only, n_levels=n_levels, count_unnamed=count_unnamed)
            scores.append(slice_scores(found, truth, only=only).assign(subject=name))
        except ValueError as error:
            trouble.append(f"{name}: {error}" if len(cases) > 1 else str(error))
            continue
        tables.append(rows.assign(subject=name)[["subject", *rows.columns]])
        signs.append(_is_synthetic(files))
    if trouble:
        many = f"{len(trouble)} of {len(cases)} cases cannot be evaluated, and nothing was written. "
        raise EvaluationError((many if len(cases) > 1 else "") + " ".join(trouble))
    rows, scores = pd.concat(tables, ignore_index=True), pd.concat(scores, ignore_index=True)
    summary, limits = summarise(rows), limits_of_agreement(rows)
    synthetic = any(signs) if synthetic is None else synthetic
    notes = remarks(rows)
    body, pictures = _page(rows, summary, limits, scores, cases, values, synthetic, notes,
                           {"only": only, "n_levels": n_levels, "count_unnamed": count_unnamed,
                            "reference_values": None if values is None else {str(a): b for a, b in values.items()}})
    _write(out, body, pictures, {"agreement": limits, "table": rows, "summary": summary}, synthetic)
    for note in notes if progress else ():
        print(f"Note: {note}", file=sys.stderr)
    return rows, summary


def _check_folder(out):
    """Refuses a folder whose files of our names may be somebody's own."""
    if out.exists() and not out.is_dir():
        raise EvaluationError(f"Found the file {out.name} as the output; expected a folder.")
    if _is_our_page(out / PAGE):
        return
    if theirs := [name for name in (PAGE, *OURS) if (out / name).exists()]:
        raise EvaluationError(
            f"The output folder {out.name} holds {', '.join(theirs)} but no page of an earlier evaluation; they would "
            "be lost. Give another folder, or move them."
        )


def _is_our_page(path):
    try:
        return f"<title>{TITLE}</title>" in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _write(out, body, pictures, tables, synthetic):
    """The page first, by which the rest is known as ours; then the pictures; the tables, which people read on, last."""
    from mrmyo.figures.pages import write_page

    out.mkdir(parents=True, exist_ok=True)
    write_page(out / PAGE, title=TITLE, body=body, synthetic=synthetic)
    for name in OURS:  # those of an earlier run with other options are not of this one
        (out / name).unlink(missing_ok=True)
    for name, picture in pictures.items():
        with replacing(out / f"{name}.png") as partial:
            partial.write_bytes(picture)
    for name, table in tables.items():
        with replacing(out / f"{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.6g")


def _stem(path):
    return next((path.name[: -len(ending)] for ending in ENDINGS if path.name.endswith(ending)), None)


def _cases(given):
    """{case: {role: file}}; every file has its partners."""
    given = {role: Path(path) for role, path in given.items() if path is not None}
    folders = [role for role, path in given.items() if path.is_dir()]
    if not folders:
        for role, path in given.items():
            if not path.is_file():
                raise EvaluationError(f"There is no file {path.name} ({role}); expected a .nii or .nii.gz file, or "
                                      "folders of them.")
        return {_stem(given["labels"]) or given["labels"].name: given}
    if len(folders) < len(given):
        rest = [role for role in given if role not in folders]
        raise EvaluationError(f"Found folders of {', '.join(folders)} but a file for {', '.join(rest)}; expected "
                              "folders of equally named files for all.")
    files = {role: _by_name(path, role) for role, path in given.items()}
    if not files["labels"]:
        raise EvaluationError("Found no .nii or .nii.gz file in the folder of labels; expected one for each case.")
    names = set(files["labels"])
    for role, found in files.items():
        if odd := sorted(names ^ set(found)):
            raise EvaluationError(
                f"{len(odd)} files of the folders of labels and {role} have no partner: {', '.join(odd[:8])}"
                f"{' …' if len(odd) > 8 else ''}. Expected equally named files; a case without a mask must not be "
                "missing from the score."
            )
    return {name: {role: files[role][name] for role in files} for name in sorted(names)}


def _by_name(folder, role):
    """{name without ending: file}; hidden files, which systems and viewers leave behind, are no cases."""
    found = {}
    for file in sorted(folder.iterdir()):
        name = None if file.name.startswith(".") else _stem(file)
        if name in found:
            raise EvaluationError(f"The folder of {role} holds {found[name].name} and {file.name}; expected one.")
        if name:
            found[name] = file
    return found


def _read(files, values):
    """Labels, reference in our values, T2 map, image."""
    truth = read_nifti(files["reference"])
    if values is not None:
        truth = convert(truth, values)
    t2_ms = read_t2map(files["T2 maps"]) if "T2 maps" in files else None
    image = read_nifti(files["images"]) if "images" in files else None
    return read_nifti(files["labels"]), truth, t2_ms, image


def _is_synthetic(files):
    """Whether a sidecar says that its image came from the synthetic scanner."""
    for path in files.values():
        sidecar = path.with_name(f"{_stem(path)}.json")
        try:
            if json.loads(sidecar.read_text(encoding="utf-8")).get("Manufacturer") == SYNTHETIC_MANUFACTURER:
                return True
        except (OSError, ValueError, AttributeError):
            continue
    return False


def _page(rows, summary, limits, scores, cases, values, synthetic, notes, options):
    """The body of the page, and the figures in it as {name: PNG}."""
    import matplotlib

    from mrmyo.figures.pages import table_html
    from mrmyo.provenance import record

    pictures = {}
    n = rows.subject.nunique()
    counted = int(rows[rows.muscle == WHOLE_MUSCLE].n_muscles.max())
    body = [f"<p>{n} {'case' if n == 1 else 'cases'}. Whole muscle is the union of the {counted} muscles that count; "
            "what the reference does not name counts as no muscle"
            f"{' (here it does count, as asked)' if options['count_unnamed'] else ''}. Surfaces are the outermost "
            "voxels of a mask, distances run between their centres. <code>table.csv</code> has every case, side and "
            "level.</p>"]
    body += [f'<p class="notice">{html.escape(note)}</p>' for note in notes]
    with matplotlib.rc_context({"backend": "agg"}):
        body += ["<h2>By muscle</h2>", table_html(_shown(rows, summary), digits=3)]
        body += [f"<p>{html.escape(note)}.</p>" for note in sorted(set(summary.note) - {""})]
        body.append("<p>A muscle that the reference has and the mask has not has no distance: its subject is left "
                    "out of that mean and of the mean of muscles, and counted under <i>without a distance</i>.</p>")
        body += _charts(pictures, rows, summary, synthetic)
        if len(limits) and (whole := limits[(limits.muscle == WHOLE_MUSCLE) & (limits.side == "both")]).size:
            body += ["<h2>Agreement of the whole muscle</h2>",
                     table_html(whole[["quantity", "n", "bias", "bias_low", "bias_high", "loa_low", "loa_high",
                                       "note"]])]
        body += _pictures(pictures, scores, cases, values, synthetic)
    facts = json.dumps(record(**options), indent=1)
    body += ["<h2>Provenance</h2>", f"<pre>{html.escape(facts)}</pre>"]
    return "\n".join(body), pictures


def _shown(rows, summary):
    """Means over subjects of all slices, a row per muscle and a column per measure; and what was missed, as counts."""
    part = summary[summary.level == "all"]
    far = part[part.measure == "hd95_in_plane_mm"].set_index(["muscle", "side"])
    part = part[part.measure.isin([*HEADS, *(["other_side_ml"] if rows.other_side_ml.any() else [])])]
    wide = part.pivot(index=["muscle", "side"], columns="measure", values="mean")[list(dict.fromkeys(part.measure))]
    order = list(dict.fromkeys(zip(part.muscle, part.side, strict=True)))
    wide = wide.loc[order].reset_index().rename(columns=HEADS)
    part = rows[rows.level == "all"]
    for i, (muscle, side) in enumerate(order):
        own = part[(part.muscle == muscle) & ((part.side == "both") == (side == "both"))]
        if len(own):
            wide.loc[i, "slices missed"] = f"{own.n_missed_slices.sum()} of {own.n_slices.sum()}"
            wide.loc[i, "slices extra"] = f"{own.n_extra_slices.sum()}"
        one = far.loc[(muscle, side)]
        wide.loc[i, "without a distance"] = f"{one.n_missing} of {one.n + one.n_missing} subjects" + (
            f" ({one.n_parts_missing} missed)" if muscle == MEAN_OF_MUSCLES and one.n_parts_missing else "")
    return wide


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=160, facecolor="white", format="png")
    return buffer.getvalue()


def _charts(pictures, rows, summary, synthetic):
    from mrmyo import figures
    from mrmyo.figures.pages import figure_html

    parts = []
    for name, (value, caption) in CHARTS.items():
        if value in rows and rows[value].notna().any():
            ax = figures.muscle_strip(rows, value=value, summary=summary, goal=GOALS.get(value), synthetic=synthetic)
            pictures[name] = _png(ax.figure)
            parts.append(figure_html(ax.figure, caption=caption))
    if rows.level.nunique() > 1:
        ax = figures.level_map(summary, synthetic=synthetic)
        pictures["levels"] = _png(ax.figure)
        parts.append(figure_html(ax.figure, caption="Mean Dice by muscle and level, distal to proximal."))
    return parts


def _pictures(pictures, scores, cases, values, synthetic):
    """The best and the worst slice of all cases, by the mean Dice of their muscles."""
    import matplotlib.pyplot as plt

    from mrmyo import figures
    from mrmyo.figures.pages import figure_html

    ranked = scores.sort_values(["dice", "subject", "slice_index"], kind="stable")
    parts = []
    for name, row in (("best", ranked.iloc[-1]), ("worst", ranked.iloc[0])):
        found, truth, _, image = _read(cases[row.subject], values)
        figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
        title = f"{name}: {row.subject}, slice {row.slice_index}, Dice {row.dice:.2f}"
        figures.mask_pair(image, found, truth, slice_index=int(row.slice_index), ax=ax, title=title,
                          legend=True, synthetic=synthetic)
        pictures[f"masks_{name}"] = _png(figure)
        parts.append(figure_html(figure, caption=f"The {name} slice of {len(scores)} with muscle in the reference, by "
                                 "the mean Dice of its muscles. Colours: the mask; white lines: the reference."))
    return ["<h2>The best and the worst slice</h2>", *parts]
