"""The course of a training."""

from __future__ import annotations

from mrmyo.figures.style import COLOURS, finish, new_axes

__all__ = ["training_curve"]


def training_curve(table, *, ax=None):
    """Loss and learning rate of every step, and the loss smoothed.

    Parameters
    ----------
    table : pandas.DataFrame
        ``curve.csv`` of `mrmyo.training.train`: step, learning_rate, loss.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax, height=2.4)
    smooth = table.loss.ewm(span=max(len(table) // 50, 1)).mean()
    ax.plot(table.step, table.loss, color=COLOURS["grey"], linewidth=0.3)
    ax.plot(table.step, smooth, color=COLOURS["blue"], linewidth=1.5, label=f"loss, at last {smooth.iloc[-1]:.3f}")
    ax.set(xlabel="Step", ylabel="Loss", ylim=(0, 1.1 * table.loss.quantile(0.99)))
    rate = ax.twinx()
    rate.plot(table.step, table.learning_rate, color=COLOURS["orange"], linewidth=0.8, linestyle="--",
              label="learning rate")
    rate.set_ylabel("Learning rate", fontsize=9)
    rate.tick_params(labelsize=8)
    rate.spines["top"].set_visible(False)
    ax.legend(handles=[*ax.lines[1:], *rate.lines], fontsize=8, frameon=False, loc="upper right")
    finish(ax, "Training on synthetic images", False)
    ax.spines["right"].set_visible(True)
    return ax
