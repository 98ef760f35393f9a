"""The report of a reproduction: one HTML file with figures, tables and provenance inside."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np

from mrmyo import figures, stats
from mrmyo.cohort_claims import compare_sources
from mrmyo.figures.pages import figure_html, table_html, write_page
from mrmyo.labels import is_muscle
from mrmyo.measure import WHOLE_MUSCLE
from mrmyo.nifti import read_nifti, read_t2map
from mrmyo.paper import printed
from mrmyo.settings import Workspace
from mrmyo.volume import resample, to_canonical

__all__ = ["compare_roc", "write_report"]


def compare_roc(measured):
    """The ROC analysis three times: as printed in the paper, from the cohort table, and measured by the pipeline.

    Parameters
    ----------
    measured : pandas.DataFrame
        Columns group, t2_ms and t2_measured_ms.

    Returns
    -------
    pandas.DataFrame
        One row per source. A ``note`` says what could not be computed and why.
    """
    import pandas as pd

    n = measured.group.value_counts()
    rows = [
        {
            "source": "printed in the paper",
            "n_positive": 64,
            "n_negative": 10,
            "auc": printed("AUC", "IIM vs HC", "auc"),
            "cutoff_ms": printed("T2 cutoff", "IIM vs HC", "cutoff"),
            "sensitivity": printed("sensitivity at 36.4", "IIM", "proportion") / 100,
            "specificity": printed("specificity at 36.4", "HC", "proportion") / 100,
            "note": "",
        }
    ]
    for source, score in (("synthetic cohort table", "t2_ms"), ("measured through the pipeline", "t2_measured_ms")):
        row = {"source": source, "n_positive": int(n.get("IIM", 0)), "n_negative": int(n.get("HC", 0))}
        if len(n) < 2:
            rows.append({**row, "note": f"no ROC: only the group {n.index[0]} was drawn; take more subjects"})
            continue
        result = stats.roc(measured, score=score).iloc[0]
        rows.append({**row, "cutoff_ms": result.cutoff, **{name: result[name] for name in (
            "auc", "auc_low", "auc_high", "sensitivity", "sensitivity_low", "sensitivity_high", "specificity",
            "specificity_low", "specificity_high", "note")}})
    columns = ["source", "n_positive", "n_negative", "auc", "auc_low", "auc_high", "cutoff_ms", "sensitivity",
               "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high", "note"]
    return pd.DataFrame(rows).reindex(columns=columns)


def write_report(ws: Workspace) -> Path:
    """Write ``report.html`` into the workspace from its tables, and every figure as a file beside it.

    Parameters
    ----------
    ws : Workspace
        Filled by `mrmyo.reproduction.reproduce`.

    Returns
    -------
    pathlib.Path
    """
    import matplotlib
    import pandas as pd

    measured = pd.read_csv(ws.tables / "measured.csv")
    errors = pd.read_csv(ws.tables / "errors.csv")
    ws.figures.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"backend": "agg"}):
        body = [_summary(ws, measured), _roc_section(ws, measured), _numbers_section(ws, measured),
                _accuracy_section(ws, errors),
                _example_section(ws, errors), _muscle_section(ws), _provenance_section(ws)]
    return write_page(ws.root / "report.html", title="mrmyo: a reproduction on synthetic thighs", body="\n".join(body),
                      synthetic=True)


def _figure(ws, figure, name, caption):
    figure.savefig(ws.figures / f"{name}.png", dpi=160, facecolor="white")
    figure.savefig(ws.figures / f"{name}.pdf", metadata={"CreationDate": None})  # for a journal
    return figure_html(figure, caption=caption)


def _summary(ws, measured):
    import pandas as pd

    outcomes = pd.read_csv(ws.tables / "summary.csv", keep_default_na=False)
    failed = outcomes[outcomes.outcome == "failed"]
    text = [
        f"<p>{len(measured)} synthetic subjects were scanned by a synthetic scanner, their DICOM read back, segmented, "
        "aligned, fitted and measured. The cohort is calibrated to the numbers that the paper prints; it contains no "
        "patient.</p>"
    ]
    facts = json.loads((ws.tables / "provenance.json").read_text())
    if facts["subjects"] < facts["of"]:
        n = measured.group.value_counts()
        text.append(
            f"<p><b>This is the teaching size: {facts['subjects']} of {facts['of']} subjects, "
            f"{n.get('IIM', 0)} patients and {n.get('HC', 0)} healthy controls (HC).</b> Do not compare its "
            "numbers with the paper's; <code>make reproduce</code> gives all subjects. An AUC has no interval with "
            "fewer than two subjects in a group, an SD needs two, limits of agreement need three: such cells hold a "
            "dash.</p>"
        )
    if len(failed):
        text.append(f"<p><b>{len(failed)} could not be measured:</b></p>" + table_html(failed))
    return "\n".join(text)


def _roc_section(ws, measured):
    import matplotlib.pyplot as plt

    table = compare_roc(measured)
    table.to_csv(ws.tables / "roc.csv", index=False)
    parts = ["<h2>Healthy controls against patients</h2>", table_html(_roc_shown(table))]
    parts += [f"<p>{html.escape(row.source)}: {html.escape(row.note)}</p>" for row in table.itertuples() if row.note]
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), layout="constrained")
    figures.group_strip(
        measured, value="t2_measured_ms", ax=axes[1], cutoff=printed("T2 cutoff", "IIM vs HC", "cutoff"), synthetic=True
    )
    if measured.group.nunique() == 2:
        figures.roc_curve(measured, score="t2_measured_ms", ax=axes[0], synthetic=True)
    else:
        axes[0].text(0.5, 0.5, "no ROC from one group", ha="center")
    parts.append(
        _figure(
            ws,
            figure,
            "roc",
            "Left: ROC of the measured T2. Right: measured T2 by group; the line is the cutoff "
            "that the paper prints. Synthetic data.",
        )
    )
    return "\n".join(parts)


def _numbers_section(ws, measured):
    """Every printed number that depends on T2, three times."""
    table = compare_sources(measured)
    table.to_csv(ws.tables / "numbers.csv", index=False)
    shown = table.assign(number=[f"{row.quantity}, {row.group}, {row.statistic}".replace(", ,", ",")
                                 for row in table.itertuples()])
    for source in ("table", "measured"):
        shown[source] = [_one_digit_more(row[source], row["printed"]) for row in shown.to_dict("records")]
    shown = shown[["number", "printed", "table", "measured"]].rename(columns={"table": "cohort table"})
    return (
        "<h2>Every printed number that depends on T2</h2><p>As printed, from the synthetic cohort table, and with the "
        "T2 that the pipeline measured. Printed digits are asked of the table only. The correlation with the ILD "
        "score is printed as positive, against the means by ILD; the cohort has it negative. With fewer than all "
        "subjects, what they are too few for is left out.</p>" + table_html(shown)
    )


def _one_digit_more(value, text):
    """A number with a digit more than it was printed with; a bound as a bound where it holds."""
    if text.startswith("<"):
        return text if value < float(text[1:]) else f"{value:.3f}"
    decimals = len(text.partition(".")[2])
    return f"{value:.0f}" if float(value).is_integer() and not decimals else f"{value:.{decimals + 1}f}"


def _roc_shown(table):
    """The comparison with each number and its interval in one cell."""
    import pandas as pd

    def cell(row, name, digits=3):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        interval = f" ({low:.{digits}f}–{high:.{digits}f})" if pd.notna(low) else ""
        return f"{row[name]:.{digits}f}{interval}" if pd.notna(row[name]) else None

    return pd.DataFrame(
        [
            {
                "source": row["source"],
                "IIM / HC": f"{row['n_positive']} / {row['n_negative']}",
                "AUC (95 % interval)": cell(row, "auc"),
                "cutoff (ms)": cell(row, "cutoff_ms", 1),
                "sensitivity (95 %)": cell(row, "sensitivity"),
                "specificity (95 %)": cell(row, "specificity"),
            }
            for row in table.to_dict("records")
        ]
    )


def _tolerances_shown(table):
    """Mean and SD of each part of the error in one cell."""
    import pandas as pd

    def cell(row, part):
        mean, sd = row.get(f"{part}_mean_ms"), row.get(f"{part}_sd_ms")
        return None if pd.isna(mean) else f"{mean:+.2f}" + ("" if pd.isna(sd) else f" ± {sd:.2f}")

    return pd.DataFrame([{
        "group": row["group"], "n": row["n"], "fit": cell(row, "error_fit"), "alignment": cell(row, "error_alignment"),
        "by the headers alone": cell(row, "error_headers"),
        "mask": cell(row, "error_mask"), "all": cell(row, "error"),
        "Dice, whole muscle": row["dice_whole"],
        "Dice, mean of muscles": row["dice_muscles"],
        "within the goal": {True: "yes", False: "no"}.get(row["within_goal"]),
        "water T2": cell(row, "error_water"),
        "water within it": {True: "yes", False: "no"}.get(row["water_within_goal"]),
    } for row in table.to_dict("records")])


def _limits_shown(table):
    """The limits of agreement under names that a reader knows."""
    names = {"group": "group", "n": "n", "bias": "bias", "bias_low": "bias, 95 % from", "bias_high": "to", "sd": "SD",
             "loa_low": "lower limit", "loa_high": "upper limit"}
    return table[list(names)].rename(columns=names)


def _accuracy_section(ws, errors):
    import matplotlib.pyplot as plt
    import pandas as pd

    limits = stats.bland_altman(errors, measured="t2_measured_ms", reference="t2_apparent_ms", by="group")
    limits.to_csv(ws.tables / "bland_altman.csv", index=False)
    tolerance = pd.read_csv(ws.tables / "tolerances.csv")
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.7), layout="constrained")
    figures.bland_altman(
        errors, measured="t2_measured_ms", reference="t2_apparent_ms", by="group", ax=axes[0], synthetic=True
    )
    figures.error_parts(errors, ax=axes[1], synthetic=True)
    return "\n".join(
        [
            "<h2>How near the measurement comes to the truth</h2>",
            "<p>The truth is the noise-free mono-exponential T2 of the true muscle, under each scan's own B1, slice "
            "profile and residual fat. The goals: mean error within 0.3 ms, SD within 0.4 ms, patients minus controls "
            "within 0.3 ms. Water T2 (stimulated echoes and Dixon fat corrected for) is held against the T2 of the "
            "tissue's water.</p>",
            "<p>Mean error ± SD in ms, by the stage that causes it. “By the headers alone” is what alignment would add "
            "without refinement; it is no part of the sum.</p>",
            table_html(_tolerances_shown(tolerance), digits=3),
            "<h3>Limits of agreement (ms)</h3>",
            table_html(_limits_shown(limits)),
            *(f"<p>{html.escape(row.group)}: {html.escape(row.note)}</p>" for row in limits.itertuples() if row.note),
            *([] if tolerance.n.min() > 1 else ["<p>One subject has no SD, and is not held against the goal.</p>"]),
            _figure(
                ws,
                figure,
                "accuracy",
                "Left: Bland–Altman plot of measured against true apparent T2. Right: what the fit "
                "(noise), the alignment (the patient moved between the series) and the mask each add. Synthetic data.",
            ),
        ]
    )


def _example_section(ws, errors):
    """The masks with the highest and the lowest overlap with the truth, side by side."""
    import matplotlib.pyplot as plt

    ranked = errors.sort_values("dice_muscles")
    picks = {"best": ranked.subject.iloc[-1], "worst": ranked.subject.iloc[0]}
    figure, axes = plt.subplots(len(picks), 3, figsize=(9.6, 2.3 * len(picks)), layout="constrained", squeeze=False)
    for row, (name, subject) in zip(axes, picks.items(), strict=True):
        folder = ws.processed / subject
        t2, labels = read_t2map(folder / "T2map.nii.gz"), read_nifti(folder / "labels_t2.nii.gz")
        score = ranked.set_index("subject").dice_muscles[subject]
        shown = to_canonical(t2.with_array(np.where(is_muscle(labels.array), t2.array, np.nan).astype(np.float32)))
        middle, beneath = shown.shape[2] // 2, resample(read_nifti(folder / "structural.nii.gz"), shown)
        figures.overlay(beneath, slice_index=middle, ax=row[0], title=f"{name}: {subject}, slice {middle}")
        overlap = f"Dice of the muscles {score:.2f}"
        figures.overlay(beneath, to_canonical(labels), slice_index=middle, ax=row[1], title=overlap)
        figures.t2_map(shown, slice_index=middle, ax=row[2], title="T2 map")
    caption = ("In-phase image, carried mask, and T2 within it, all on the T2 grid at one slice, of the subjects whose "
               "masks overlap the truth most and least. Synthetic data.")
    return "<h2>The best and the worst mask</h2>" + _figure(ws, figure, "examples", caption)


def _muscle_section(ws):
    import pandas as pd

    rows = pd.read_csv(ws.tables / "rows.csv", dtype={"session": str}).merge(
        pd.read_csv(ws.tables / "measured.csv")[["subject", "group"]], on="subject")
    rows = rows[(rows.muscle != WHOLE_MUSCLE) | (rows.side == "both")]
    # both sides of a subject first, then the subjects
    of_subject = rows.groupby(["group", "muscle", "subject"]).agg(
        t2_ms=("t2_ms", "mean"), volume_ml=("volume_ml", "sum")
    )
    table = of_subject.groupby(["group", "muscle"]).agg(
        n_subjects=("t2_ms", "size"),
        t2_mean_ms=("t2_ms", "mean"),
        t2_sd_ms=("t2_ms", "std"),
        volume_ml=("volume_ml", "mean"),
    )
    return (
        "<h2>By muscle, both sides together</h2><p>SD between subjects. “Other muscle” is muscle that has no name of "
        "its own here; of a few voxels it is a slip of the mask.</p>" + table_html(table.reset_index())
    )


def _provenance_section(ws):
    facts = json.loads((ws.tables / "provenance.json").read_text())
    notebooks = sorted(path.name for path in ws.notebooks.glob("*.ipynb")) if ws.notebooks.is_dir() else []
    run = f"<p>Notebooks executed: {html.escape(', '.join(notebooks)) or 'none'}.</p>"
    return f"<h2>Provenance</h2>{run}<pre>{html.escape(json.dumps(facts, indent=1))}</pre>"
