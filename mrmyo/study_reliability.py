"""How far the T2 of a study can be trusted: the same muscle by every model, and the sign of stimulated echoes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrmyo.files import replacing
from mrmyo.labels import is_muscle
from mrmyo.nifti import read_nifti, write_nifti
from mrmyo.study_water import assumptions_of
from mrmyo.t2 import SignalError, T2Maps
from mrmyo.t2_compare import compare_models, echo_ratio
from mrmyo.t2_noise import estimate_sigma
from mrmyo.volume import Volume, resample_mean

__all__ = ["RELIABILITY_FILES", "read_reliability", "write_reliability"]

MODELS, RATIO = "t2_models.csv", "echo_ratio.nii.gz"
RELIABILITY_FILES = [MODELS, RATIO]
MOST_VOXELS = 40_000  # of muscle; thinned to whole slices where there are more


def write_reliability(signal: Volume, labels: Volume, out_dir, *, water: T2Maps | None = None, facts=None, b1=None):
    """Write T2 by model (``t2_models.csv``) and the map of the echo ratio.

    Parameters
    ----------
    signal : Volume
        The echoes.
    labels : Volume
        On their grid.
    out_dir : path
    water : T2Maps, optional
        Of this study, with `facts`, as `mrmyo.study_water.read_water` gives them; without them the models that need a
        slice profile or a fat fraction are left out.
    b1 : Volume, optional
        The scanner's B1 map.
    """
    out, muscle = Path(out_dir), is_muscle(labels.array)
    try:
        ratio = echo_ratio(signal)
    except SignalError:  # unevenly spaced echoes have no such ratio
        ratio = np.full(muscle.shape, np.nan, np.float32)
    write_nifti(labels.with_array(np.where(muscle, ratio, np.nan).astype(np.float32)), out / RATIO)
    try:
        sigma = estimate_sigma(signal.array[muscle])
    except SignalError:  # few echoes or voxels
        sigma = None
    options = {"b1": "smooth" if b1 is None else resample_mean(b1, signal.echo(0)).array}
    if water is not None:
        options |= {"assumptions": assumptions_of(facts), "fat_fraction": water.fat_fraction}
    table = compare_models(signal, mask=_thinned(muscle, labels.slice_axis), sigma=sigma, **options)
    with replacing(out / MODELS) as partial:
        table.to_csv(partial, index=False, float_format="%.5g")


def _thinned(muscle, axis):
    """Whole slices of a mask, evenly spread, of which a few ten thousand voxels remain."""
    keep = max(round(muscle.sum() / MOST_VOXELS), 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    return muscle & (np.arange(muscle.shape[axis]) % keep == keep // 2).reshape(shape)


def read_reliability(out_dir):
    """The table of T2 by model and the map of the echo ratio that a study left; (None, None) where there are none."""
    import pandas as pd

    out = Path(out_dir)
    if not all((out / file).exists() for file in RELIABILITY_FILES):
        return None, None
    return pd.read_csv(out / MODELS, keep_default_na=True), read_nifti(out / RATIO)
