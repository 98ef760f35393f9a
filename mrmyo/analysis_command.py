"""The command ``mrmyo analyse``: its options, and what it prints."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["add_options", "run_analysis"]

COLUMNS = {
    "roc": ["n_positive", "n_negative", "auc", "auc_low", "auc_high", "cutoff", "sensitivity", "specificity"],
    "correlations": ["x", "n", "r", "r_low", "r_high", "p", "p_holm", "p_bh"],
    "comparisons": ["x", "group_1", "group_2", "n_1", "n_2", "shift", "shift_low", "shift_high", "p", "p_holm", "p_bh"],
}


def add_options(parser) -> None:
    """Give the command's parser its options."""
    parser.add_argument("table", type=Path, help="a CSV with one row per subject; with --clinical, the rows.csv of "
                        "`mrmyo cohort`, or its folder")
    parser.add_argument("--out", type=Path, required=True, help="a folder for tables, figures and analysis.html")
    parser.add_argument("--clinical", type=Path, help="a CSV of clinical findings, one row per subject, to join")
    parser.add_argument("--session", help="with --clinical: which visit, where there are several")
    for name, default, text in (
        ("key", "subject", "column of the subjects' keys"), ("score", "t2_ms", "column of the numbers"),
        ("group", "group", "column of the groups"), ("positive", "IIM", "the group that the score should detect"),
        ("negative", "HC", "the other group"), ("cutoff", "youden", "youden, closest, or a number"),
    ):
        parser.add_argument(f"--{name}", default=default, help=f"{text} (default: {default})")
    for name, text in (
        ("correlate", "columns of numbers to correlate with the score, among positives"),
        ("compare", "columns that part the positives in two"), ("adjust", "covariates of the ROC curve"),
        ("describe", "what else Table 1 describes (default: age and sex)"),
        ("median", "columns that Table 1 gives as median and quartiles"),
    ):
        parser.add_argument(f"--{name}", nargs="+", action="extend", metavar="COLUMN", help=text)
    parser.add_argument("--prevalence", type=float, help="of the disease among those tested, for predictive values")
    parser.add_argument("--synthetic", action="store_true", help="say on page and figures that the data are synthetic")


def run_analysis(arguments) -> None:
    """Analyse as the options ask, and print the main numbers and all notes."""
    from mrmyo.analysis import PAGE, analyse, join_clinical

    if arguments.session and not arguments.clinical:
        raise ValueError("Found --session without --clinical; a table of one row per subject has no visits to choose.")
    table, cutoff = arguments.table, arguments.cutoff
    if arguments.clinical:
        table = join_clinical(table, arguments.clinical, session=arguments.session, key=arguments.key)
    with suppress(ValueError):
        cutoff = float(cutoff)
    found = analyse(
        table, arguments.out, score=arguments.score, group=arguments.group, positive=arguments.positive,
        negative=arguments.negative, correlates=arguments.correlate, compare=arguments.compare,
        covariates=arguments.adjust, describe=arguments.describe, median=arguments.median, cutoff=cutoff,
        prevalence=arguments.prevalence, synthetic=arguments.synthetic, key=arguments.key)
    for name in [name for name in COLUMNS if name in found]:
        print(found[name][COLUMNS[name]].to_string(index=False, float_format="%.4g") + "\n")
    for row in found["notes"].itertuples():
        print(f"Note ({row.part}): {row.note}", file=sys.stderr)
    print(f"Everything is in {arguments.out}; look at {arguments.out / PAGE}. Research use only.")
