"""A semi-synthetic study from real images: ``python scripts/make_semi_synthetic.py THIGH_DIXON OUT``.

The Dixon images are real: the fat and water images of one subject (the folder ``thigh_dixon`` that
``../shared/real/README.md`` describes), written as DICOM with in-phase = water + fat and opposed-phase = |water - fat|.
The multi-echo series is simulated by `mrmyo.scanner` from those very voxels: the water and fat amounts are the real
ones, T2 is assigned by muscle. OUT/study receives the DICOM, OUT/truth the labels and the noise-free T2.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from mrmyo import fit_t2, read_nifti, scanner, write_nifti
from mrmyo.labels import carry, is_muscle
from mrmyo.simulation import write_series

# values of the published label maps -> mrmyo values (left)
TO_MRMYO = {1: 5, 2: 4, 3: 1, 4: 3, 5: 2, 6: 7, 7: 6, 8: 11, 9: 10, 10: 9, 11: 12}
# T2 of the water in ms by label value: muscle without oedema 30, the quadriceps as in moderate myositis
T2_MS = {0: 32.0, 1: 42.0, 2: 40.0, 3: 45.0, 4: 38.0}


def name_labels(machine):
    """The published labels with our values; left and right by position."""
    lookup = np.zeros(64, np.uint8)
    for source, value in TO_MRMYO.items():
        lookup[source] = value
    labels = lookup[machine.array]
    where = np.indices(labels.shape, sparse=True)
    x = sum(machine.affine[0, a] * where[a] for a in range(3)) + machine.affine[0, 3]
    middle = float(np.mean(x[labels > 0]))
    return machine.with_array(np.where((labels > 0) & (x > middle), labels + 20, labels).astype(np.uint8))


def build(source, out, *, seed=5):
    """Write the study and its truth; returns the truth as a dict."""
    source, out = Path(source), Path(out)
    rng = np.random.default_rng(seed)
    water, fat = (read_nifti(source / f"{name}.nii.gz") for name in ("water", "fat"))
    labels = name_labels(read_nifti(source / "labels_machine.nii.gz"))
    w, f = water.array.astype(np.float32), fat.array.astype(np.float32)
    dixon = {"in_phase": w + f, "opposed_phase": np.abs(w - f), "water": w, "fat": f}

    level = float(np.median(w[is_muscle(labels.array)]))
    value = np.where(labels.array > 20, labels.array - 20, labels.array)
    t2_ms = np.full(w.shape, 30.0, np.float32)
    for v, ms in T2_MS.items():
        t2_ms[value == v] = ms
    air = w + f < 0.12 * level
    tissues = scanner.Tissues(
        water=water.with_array(np.where(air, 0, 0.8 * w / level).astype(np.float32)),
        fat=water.with_array(np.where(air, 0, 0.8 * f / level).astype(np.float32)),
        t2_ms=water.with_array(t2_ms), labels=labels)
    centre = water.affine @ [*((np.array(water.shape) - 1) / 2), 1]
    grid = scanner.stack(scanner.MULTI_ECHO, centre_mm=centre[:3])
    optics = {"b1": scanner.smooth_field(grid, rng, mean=0.9, sd=0.04),
              "residual_fat": np.clip(scanner.smooth_field(grid, rng, mean=0.06, sd=0.02), 0.01, None)}
    clean = scanner.acquire_multi_echo(tissues, grid, **optics)
    true_labels = carry(labels, grid)
    muscle = is_muscle(true_labels.array)
    brightness = float(np.median(clean[muscle][:, 0]))
    noisy = scanner.add_noise(clean, rng, sigma=brightness / 60)

    study, truth = out / "study", out / "truth"
    for folder in (study, truth):
        shutil.rmtree(folder, ignore_errors=True)
    times = scanner.MULTI_ECHO["echo_times_ms"]
    write_series(
        study,
        {"PatientName": "SEMISYNTHETIC^THIGH", "PatientID": "SEMI-01", "PatientSex": "O"},
        multi_echo=grid.with_array(noisy * (1000 / brightness), echo_times_ms=times),
        dixon={name: water.with_array(image) for name, image in dixon.items()},
        manufacturer="mrmyo semi-synthetic",
    )
    truth.mkdir(parents=True)
    write_nifti(labels, truth / "labels_in_phase.nii.gz")
    write_nifti(true_labels, truth / "labels_t2.nii.gz")
    facts = {
        "t2_apparent_ms": float(np.nanmean(fit_t2(clean[muscle], times).t2_ms)),
        "n_muscle_voxels": int(muscle.sum()),
    }
    (truth / "truth.json").write_text(json.dumps(facts, indent=1))
    return facts


if __name__ == "__main__":
    print(build(*sys.argv[1:]))
