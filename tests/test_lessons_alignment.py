"""A mask that is moved beside its muscle: the T2 that it then reads is known."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.lessons_alignment import nudged, t2_by_shift
from mrmyo.volume import Volume

AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])


@pytest.fixture
def block():
    """A block of muscle at 40 ms, 20 mm wide, in fat at 80 ms, and its mask on voxels of half the size."""
    t2 = np.full((60, 60, 4), 80.0, np.float32)
    t2[20:40, 20:40] = 40
    fine = np.zeros((120, 120, 4), np.uint8)
    fine[40:80, 40:80] = 1
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    affine[:2, 3] = -0.25
    return Volume(t2, AFFINE), Volume(fine, affine)


def test_t2_by_shift_is_that_of_what_the_mask_covers(block):
    table = t2_by_shift(*block, reach_mm=(-5, 0, 4)).set_index(["direction", "shift_mm"])
    for direction in ("to the right", "forwards"):
        assert table.change_ms[direction, 0] == 0 and table.t2_ms[direction, 0] == 40
        assert table.change_ms[direction, -5] == pytest.approx(40 * 5 / 20, abs=0.01)
        assert table.change_ms[direction, 4] == pytest.approx(40 * 4 / 20, abs=0.01)
    # upwards the mask leaves the stack, and covers nothing else
    assert table.change_ms["upwards", 4] == 0


def test_the_picture_tells_both(block):
    import matplotlib

    t2, labels = block
    with matplotlib.rc_context({"backend": "agg"}):
        ax = nudged(t2, t2, labels, right_mm=5.0, slice_index=1)
        assert ax.get_title() == "T2 40.0 ms, moved 50.0 ms"
        shift = np.eye(4)
        shift[0, 3] = 5.0  # the alignment already puts the mask 5 mm to the left
        ax = nudged(t2, t2, labels, transform=shift, right_mm=5.0, slice_index=1)
        assert ax.get_title().endswith("moved 40.0 ms")
