"""Figures: a table or a Volume in, Matplotlib axes out.

Charts are one journal column wide, in the colours of Okabe and Ito, which colour-blind readers can tell apart. Pictures
are in radiological display: the patient's left is on the right of the picture, anterior is up.
"""

from __future__ import annotations

from mrmyo.figures.charts import bland_altman, error_parts, group_strip, roc_curve
from mrmyo.figures.comparison import level_map, mask_pair, muscle_strip
from mrmyo.figures.curves import training_curve
from mrmyo.figures.pictures import label_colours, montage, overlay, t2_map
from mrmyo.figures.style import COLOURS, COLUMN_WIDTH_IN, FigureError
from mrmyo.figures.widgets import browse, turn

__all__ = [
    "COLOURS",
    "COLUMN_WIDTH_IN",
    "FigureError",
    "bland_altman",
    "browse",
    "error_parts",
    "group_strip",
    "label_colours",
    "level_map",
    "mask_pair",
    "montage",
    "muscle_strip",
    "overlay",
    "roc_curve",
    "t2_map",
    "training_curve",
    "turn",
]
