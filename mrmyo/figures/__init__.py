"""Figures: a table or a Volume in, Matplotlib axes out.

Charts are one journal column wide, in the colours of Okabe and Ito, which colour-blind readers can tell apart. Pictures
are in radiological display: the patient's left is on the right of the picture, anterior is up.
"""

from __future__ import annotations

from mrmyo.figures.alignment import border_pair, four_steps, misalignment
from mrmyo.figures.case import case_panels, region_spread
from mrmyo.figures.charts import bland_altman, error_parts, group_strip, roc_curve
from mrmyo.figures.claims import consistent_n
from mrmyo.figures.comparison import level_map, mask_pair, muscle_strip
from mrmyo.figures.curves import training_curve
from mrmyo.figures.galleries import compare_masks, echoes, gallery, label_chart, side_by_side
from mrmyo.figures.muscles import by_muscle, change_chart, involvement_map, profile, trend
from mrmyo.figures.pictures import label_colours, montage, overlay, t2_map, value_map
from mrmyo.figures.relations import range_chart, rank_scatter
from mrmyo.figures.reliability import model_changes, reliability_maps
from mrmyo.figures.style import COLOURS, COLUMN_WIDTH_IN, FigureError
from mrmyo.figures.widgets import browse, turn, turn_gallery

__all__ = [
    "COLOURS",
    "COLUMN_WIDTH_IN",
    "FigureError",
    "bland_altman",
    "border_pair",
    "browse",
    "by_muscle",
    "case_panels",
    "change_chart",
    "compare_masks",
    "consistent_n",
    "echoes",
    "error_parts",
    "four_steps",
    "gallery",
    "group_strip",
    "involvement_map",
    "label_chart",
    "label_colours",
    "level_map",
    "mask_pair",
    "misalignment",
    "model_changes",
    "montage",
    "muscle_strip",
    "overlay",
    "profile",
    "range_chart",
    "rank_scatter",
    "region_spread",
    "reliability_maps",
    "roc_curve",
    "side_by_side",
    "t2_map",
    "training_curve",
    "trend",
    "turn",
    "turn_gallery",
    "value_map",
]
