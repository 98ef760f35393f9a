"""The slice profile of a series is told from its echoes."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.epg import epg_signal, slice_profile
from mrmyo.t2 import SignalError
from mrmyo.t2_profile import choose_profile

TIMES = tuple(10.0 * n for n in range(1, 11))
SIGMA = 4.7  # of means of nine voxels whose noise is 14


def voxels(profile, seed, n=4000):
    """Muscle of 30 to 45 ms under a B1 that varies, as magnitudes; not of the number of positions that the fit uses."""
    rng = np.random.default_rng(seed)
    signal = 1000 * epg_signal(rng.uniform(30, 45, n), t1_ms=1412, b1=rng.uniform(0.75, 1.0, n), echo_spacing_ms=10.0,
                               n_echoes=10, profile=profile)
    return np.hypot(signal + rng.normal(0, SIGMA, signal.shape), rng.normal(0, SIGMA, signal.shape))


@pytest.mark.parametrize(("made", "expected"), [
    (None, "hard pulses"), (1.2, "sinc, ratio 1.2"), (1.8, "sinc, ratio 1.8"),
])
def test_the_profile_that_made_the_echoes_is_chosen(made, expected):
    profile = None if made is None else slice_profile(n_positions=25, refocusing_width_ratio=made)
    assumptions, table = choose_profile(voxels(profile, 3), TIMES, SIGMA)
    assert table.profile[table.chosen].tolist() == [expected]
    assert (assumptions.profile is None) == (made is None)
    chosen, others = table[table.chosen].iloc[0], table[~table.chosen]
    assert chosen.residual < 0.003 < others.residual.max()
    assert chosen.t2_ms == pytest.approx(37.5, abs=0.5)
    assert np.abs(others.t2_ms - 37.5).max() > 1.0  # what is at stake


def test_too_little_muscle_is_refused():
    with pytest.raises(SignalError, match="Found 100 voxels of lean muscle; a slice profile can be told from 500"):
        choose_profile(voxels(None, 1, n=100), TIMES, SIGMA)
