"""How often other noise would turn a verdict: every patient measured again under many seeds of noise.

    python benchmarks/noise_seeds.py RESULTS [--seeds 20]

RESULTS is the workspace of `mrmyo reproduce`. What was fitted in each voxel of muscle is taken for the signal, Rician
noise of the size that the fit left is added anew, and T2 is fitted and averaged as the pipeline does. Mask and
alignment stay as they were: their errors, which are larger, are the subject of `mrmyo.stats.verdict_flips`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mrmyo import fit_t2, load_cohort, stats
from mrmyo.labels import is_muscle
from mrmyo.nifti import read_nifti
from mrmyo.study_maps import load_maps

AGAINST = ["duration_months", "ck_u_l", "alt_u_l", "ast_u_l", "ldh_u_l", "age", "ild_score"]


def measured_again(folder, n_seeds, seed):
    """The whole-muscle T2 in ms of one subject under each seed of noise."""
    maps, labels = load_maps(folder), read_nifti(folder / "labels_measured.nii.gz")
    muscle = is_muscle(labels.array) & (maps.status == 0)
    times = np.array(maps.echo_times_ms)
    signal = maps.s0[muscle, None] * np.exp(-times / maps.t2_ms[muscle, None])
    free = len(times) - 2
    sigma = float(np.sqrt(np.mean(maps.residual[muscle] ** 2) * len(times) / free))
    found = []
    for k in range(n_seeds):
        rng = np.random.default_rng([seed, k])
        noisy = np.hypot(signal + rng.normal(0, sigma, signal.shape), rng.normal(0, sigma, signal.shape))
        found.append(float(np.nanmean(fit_t2(noisy, times).t2_ms, dtype=float)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    patients = load_cohort().query("group == 'IIM'")
    again = np.array([measured_again(options.results / "processed" / subject, options.seeds, i)
                      for i, subject in enumerate(patients.subject)])
    print(f"SD of the whole-muscle T2 over seeds: {again.std(axis=1, ddof=1).mean():.4f} ms on average, "
          f"{again.std(axis=1, ddof=1).max():.4f} ms at most")
    rows = []
    for x in AGAINST:
        runs = pd.concat([stats.spearman(patients.assign(t2_ms=again[:, k]), x=x, y="t2_ms")
                          for k in range(options.seeds)])
        table = stats.spearman(patients, x=x, y="t2_ms").iloc[0]
        rows.append({"x": x, "r": table.r, "p": table.p, "r from": runs.r.min(), "r to": runs.r.max(),
                     "p from": runs.p.min(), "p to": runs.p.max(),
                     "flips": ((runs.p < 0.05) != (table.p < 0.05)).mean()})
    print(pd.DataFrame(rows).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
