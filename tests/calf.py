"""The real multi-echo series of both calves, put into order; kept apart so that several test files can share it."""

from __future__ import annotations

import numpy as np

N_SLICES, N_ECHOES, ECHO_SPACING_MS = 13, 17, 7.7


def read_calf(path):
    """Signal (x, y, slice, echo), echo times in ms, and the vendor's own T2 map in ms (x, y, slice).

    The file claims to be (x, y, slice, 18), but its 234 images run through the 17 echoes of the first slice, then of
    the second, and so on, and end with the 13 T2 maps.
    """
    import nibabel

    images = np.asarray(nibabel.load(path).dataobj)
    images = images.reshape(*images.shape[:2], -1, order="F")
    n_signals = N_SLICES * N_ECHOES
    assert images.shape[2] == n_signals + N_SLICES
    signal = images[..., :n_signals].reshape(*images.shape[:2], N_SLICES, N_ECHOES)
    return signal, ECHO_SPACING_MS * np.arange(1, N_ECHOES + 1), images[..., n_signals:]
