"""Charts of tables: one column wide, n on every axis."""

from __future__ import annotations

import numpy as np

from mrmyo.figures.style import COLOURS, COLUMN_WIDTH_IN, axis_name, finish, new_axes, plain_name, unit, with_unit

__all__ = ["bland_altman", "error_parts", "group_strip", "roc_curve"]

GROUP_COLOURS = [COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "orange", "sky")]


def roc_curve(table, *, score="t2_ms", group="group", positive="IIM", ax=None, synthetic=False):
    """The ROC curve with its area, the 95 % interval and the Youden cutoff.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject, as for :func:`mrmyo.stats.roc`.
    score, group, positive
        As for :func:`mrmyo.stats.roc`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure one column wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from mrmyo.stats import roc, roc_points

    row = roc(table, score=score, group=group, positive=positive).iloc[0]
    points = roc_points(table, score=score, group=group, positive=positive)
    ax = new_axes(ax, height=COLUMN_WIDTH_IN)
    ax.plot([0, 1], [0, 1], color=COLOURS["grey"], linewidth=0.8, linestyle=":")
    ax.plot(points["fpr"], points["tpr"], color=COLOURS["vermilion"], linewidth=1.8)
    if np.isfinite(row["cutoff"]):
        x, y = 1 - row["specificity"], row["sensitivity"]
        ax.plot(x, y, "o", color=COLOURS["black"], markersize=5, clip_on=False, zorder=3)
        ax.annotate(
            f"cutoff {with_unit(row['cutoff'], score)}\nsensitivity {row['sensitivity']:.1%}\n"
            f"specificity {row['specificity']:.1%}",
            (x, y), xytext=(12, -6), textcoords="offset points", va="top", fontsize=8,
        )
    interval = "" if np.isnan(row["auc_low"]) else f" (95% CI {row['auc_low']:.3f}–{row['auc_high']:.3f})"
    ax.text(0.98, 0.04, f"AUC {row['auc']:.3f}{interval}", ha="right", va="bottom", fontsize=8)
    ax.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal",
        xlabel=f"1 − specificity ({row['negative']}, n = {row['n_negative']})",
        ylabel=f"Sensitivity ({positive}, n = {row['n_positive']})",
    )
    return finish(ax, "", synthetic)


def group_strip(table, *, value="t2_ms", group="group", ax=None, cutoff=None, synthetic=False):
    """Every subject's value by group, over a box of the quartiles.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows without a value or a group are left out.
    value, group : str
        The columns of the numbers and of the groups.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure one column wide.
    cutoff : float, optional
        Drawn as a dashed line, in the unit of the value.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from mrmyo.stats.columns import numbers, require_columns

    require_columns(table, value, group)
    values = numbers(table, value)
    names = sorted(table[group].dropna().unique().tolist(), key=str)
    samples = [values[table[group].isin([name]).to_numpy() & ~np.isnan(values)] for name in names]
    ax = new_axes(ax, height=3.0)
    rng = np.random.default_rng(0)  # the sideways scatter is for the eye only, the same at every call
    for i, sample in enumerate(samples):
        colour = GROUP_COLOURS[i % 6]
        if sample.size >= 5:
            ax.boxplot(
                sample, positions=[i], widths=0.5, showfliers=False, showcaps=False, whis=(0, 100),
                medianprops={"color": "black", "linewidth": 1.5}, boxprops={"color": COLOURS["grey"]},
                whiskerprops={"color": COLOURS["grey"]}, manage_ticks=False,
            )
        ax.scatter(
            i + rng.uniform(-0.17, 0.17, sample.size), sample, s=14, color=colour, alpha=0.75, linewidths=0, zorder=2.5
        )
    if cutoff is not None:
        ax.axhline(cutoff, color="black", linewidth=0.8, linestyle="--")
        ax.annotate(
            with_unit(cutoff, value), (1, cutoff), xycoords=("axes fraction", "data"), xytext=(-2, 2),
            textcoords="offset points", ha="right", va="bottom", fontsize=8,
        )
    ax.set_xticks(range(len(names)), [f"{name}\n(n = {s.size})" for name, s in zip(names, samples, strict=True)])
    ax.set(xlim=(-0.6, len(names) - 0.4), ylabel=axis_name(value))
    return finish(ax, "", synthetic)


def bland_altman(table, *, measured, reference, by=None, ax=None, synthetic=False):
    """Difference against mean of two measurements, with bias and 95 % limits of agreement of all pairs.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per pair, as for :func:`mrmyo.stats.bland_altman`.
    measured, reference : str
        The two columns, in the same unit.
    by : str, optional
        A column of groups, told apart by colour and marker.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure one column wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from mrmyo.stats import bland_altman as agreement
    from mrmyo.stats.columns import numbers

    rows = agreement(table, measured=measured, reference=reference, by=by)
    a, b = numbers(table, measured), numbers(table, reference)
    total = rows.iloc[-1]
    ax = new_axes(ax, height=2.8)
    for i, row in enumerate(rows.iloc[:-1].to_dict("records")):
        here = table[by].isin([row[by]]).to_numpy()
        ax.scatter((a + b)[here] / 2, (a - b)[here], s=14, color=GROUP_COLOURS[i % 6], marker="osD^vP"[i % 6],
                   alpha=0.75, linewidths=0, label=f"{row[by]} (n = {row['n']})")
    if by is None:
        ax.scatter((a + b) / 2, a - b, s=14, color=COLOURS["blue"], alpha=0.75, linewidths=0)
    else:
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.2,
                  columnspacing=1.0, borderaxespad=0.1)
    for name, style in (("loa_high", "--"), ("bias", "-"), ("loa_low", "--")):
        if np.isfinite(total[name]):
            ax.axhline(total[name], color="black", linewidth=0.9, linestyle=style, zorder=1)
            written = f"{total[name]:+.2f}".replace("-", "−")
            ax.annotate(written, (1.02, total[name]), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    in_unit = f" ({unit(measured)})" if unit(measured) else ""
    ax.set_xlabel(f"Mean of {plain_name(measured)} and {plain_name(reference)}{in_unit} (n = {total['n']})")
    ax.set_ylabel(f"{plain_name(measured)} − {plain_name(reference)}{in_unit}")
    return finish(ax, "", synthetic, pad=18 if by else 4)


def error_parts(table, *, ax=None, synthetic=False):
    """What each stage adds to the error of T2, one point per subject, by group.

    Parameters
    ----------
    table : pandas.DataFrame
        One row of `mrmyo.validation.error_by_stage` per subject.
    ax : matplotlib.axes.Axes, optional
        Where to draw; without it, a new figure one column wide.
    synthetic : bool
        Whether the title says that the data are synthetic.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax, height=2.8)
    parts = {"fit": "error_fit_ms", "alignment": "error_alignment_ms", "mask": "error_mask_ms", "all": "error_ms"}
    spread = np.random.default_rng(0)
    for i, (name, rows) in enumerate(table.groupby("group")):
        for position, column in enumerate(parts.values()):
            x = position + 0.36 * (i - 0.5) + spread.uniform(-0.1, 0.1, len(rows))
            ax.scatter(
                x,
                rows[column],
                s=12,
                color=GROUP_COLOURS[i % 6],
                marker="osD^vP"[i % 6],
                alpha=0.7,
                linewidths=0,
                label=f"{name} (n = {len(rows)})" if position == 0 else None,
            )
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(parts)), list(parts))
    ax.set_ylabel("Error of T2 (ms)")
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handletextpad=0.2,
              columnspacing=1.0, borderaxespad=0.1)
    return finish(ax, "", synthetic, pad=18)
