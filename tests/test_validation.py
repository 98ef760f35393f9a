"""What the automatic mask does to T2, on masks and maps whose means are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mrmyo.nifti import write_nifti, write_t2map
from mrmyo.validation import mask_effect, mask_tolerances
from mrmyo.volume import Volume

AFFINE = np.diag([2.0, 2.0, 6.0, 1.0])


@pytest.fixture
def subjects(tmp_path):
    """Two subjects: vastus lateralis of 10 voxels at 30 ms; the mask takes 0 or 2 more, at 42 ms, from outside."""
    folders = []
    for i, more in enumerate((0, 2)):
        truth, found = np.zeros((20, 3, 2), np.uint8), np.zeros((20, 3, 2), np.uint8)
        truth[:10, 1, 0], found[:10 + more, 1, 0] = 21, 21
        t2 = np.where(truth > 0, 30.0, 42.0).astype(np.float32)
        out, known = tmp_path / f"out{i}", tmp_path / f"truth{i}"
        write_nifti(Volume(found, AFFINE), out / "labels_t2.nii.gz")
        write_t2map(Volume(t2, AFFINE), out / "T2map.nii.gz")
        (out / "alignment.json").write_text(json.dumps({"transform": np.eye(4).tolist()}))
        write_nifti(Volume(truth, AFFINE), known / "labels_in_phase.nii.gz")
        (known / "truth.json").write_text(json.dumps({"subject": f"SYN-{i}", "group": "HC"}))
        folders.append((out, known))
    return folders


def test_the_effect_is_the_difference_of_the_means(subjects):
    import pandas as pd

    rows = pd.concat([mask_effect(*folders) for folders in subjects])
    whole = rows[(rows.side == "both") & (rows.level == "all")].set_index("subject")
    assert whole.delta_t2_ms.to_dict() == pytest.approx({"SYN-0": 0.0, "SYN-1": 24 / 12}, abs=1e-4)
    table = mask_tolerances(rows).set_index("abbreviation")
    assert table.loc["ALL", ["n_subjects", "n", "n_missing"]].tolist() == [2, 2, 0]
    assert table.mean_absolute_ms.to_dict() == pytest.approx({"VL": 1.0, "ALL": 1.0}, abs=1e-4)
    assert table.largest_ms["VL"] == pytest.approx(2.0, abs=1e-4) and not table.within_goal.any()
    near = rows.assign(delta_t2_ms=-0.5 * rows.delta_t2_ms)
    table = mask_tolerances(near).set_index("abbreviation")
    assert table.mean_ms["VL"] == pytest.approx(-0.5, abs=1e-4)
    assert table.within_goal.to_dict() == {"VL": True, "ALL": False}  # 0.5 ms: within 0.7, beyond 0.35
    lost = rows.assign(delta_t2_ms=rows.delta_t2_ms.where(rows.subject == "SYN-0"))
    assert mask_tolerances(lost).n_missing.tolist() == [1, 1]
