"""Means, intervals and agreement over subjects, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mrmyo
from mrmyo.evaluation import EvaluationError
from mrmyo.evaluation_summary import MEAN_OF_MUSCLES, by_subject, limits_of_agreement, summarise


def rows_of(n=12, *, seed=0, muscles=("VL", "VM")):
    """Rows of many cases as `mrmyo.evaluate` gives them, as far as a summary reads them."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        person = rng.normal(0, 0.05)
        for side in ("left", "right", "both"):
            for name in (*muscles, "ALL"):
                if side == "both" and name != "ALL":
                    continue
                muscle = "whole muscle" if name == "ALL" else name
                volume = rng.uniform(100, 300)
                rows.append({"subject": f"S{i:02d}", "side": side, "muscle": muscle, "abbreviation": name,
                             "level": "all", "dice": 0.85 + person + rng.normal(0, 0.01),
                             "hd95_mm": rng.uniform(1, 5), "volume_ml": volume,
                             "reference_volume_ml": volume * rng.uniform(0.9, 1.1), "t2_ms": rng.uniform(33, 40),
                             "reference_t2_ms": rng.uniform(33, 40)})
    rows = pd.DataFrame(rows)
    return rows.assign(delta_t2_ms=rows.t2_ms - rows.reference_t2_ms)


def cell(summary, abbreviation, measure="dice", side="mean of sides"):
    found = summary[(summary.abbreviation == abbreviation) & (summary.measure == measure) & (summary.side == side)]
    assert len(found) == 1
    return found.iloc[0]


def test_numbers_per_muscle_are_those_of_the_subjects():
    rows = rows_of()
    summary = summarise(rows)
    own = rows[rows.abbreviation == "VL"].groupby("subject").dice.mean()
    found = cell(summary, "VL")
    assert (found.n, found.n_missing) == (12, 0)
    assert [found["mean"], found["median"], found["sd"], found["minimum"], found["maximum"]] == pytest.approx(
        [own.mean(), own.median(), own.std(), own.min(), own.max()])
    both = rows[(rows.abbreviation == "ALL") & (rows.side == "both")].delta_t2_ms
    assert cell(summary, "ALL", "delta_t2_ms", "both").mean_absolute == pytest.approx(both.abs().mean())
    muscles = rows[rows.abbreviation != "ALL"].groupby(["subject", "muscle"]).dice.mean().groupby("subject").mean()
    assert cell(summary, "MEAN")["mean"] == pytest.approx(muscles.mean())
    assert (summary.note == "").all()


def test_the_interval_is_scipys_percentile_bootstrap_over_subjects():
    rows = rows_of(20)
    found = cell(summarise(rows, n_boot=20_000), "VL")
    own = rows[rows.abbreviation == "VL"].groupby("subject").dice.mean().to_numpy()
    other = stats.bootstrap((own,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    assert [found.mean_low, found.mean_high] == pytest.approx(list(other.confidence_interval), abs=6e-4)
    # rows that were taken for independent would give a narrower one
    single = rows[rows.abbreviation == "VL"].dice.to_numpy()
    naive = stats.bootstrap((single,), np.mean, n_resamples=5_000, method="percentile").confidence_interval
    assert found.mean_high - found.mean_low > 1.2 * (naive.high - naive.low)


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    rows = rows_of()
    first, again = summarise(rows), summarise(rows.sample(frac=1, random_state=3))
    keys = ["side", "abbreviation", "level", "measure"]
    pd.testing.assert_frame_equal(*(table.sort_values(keys, ignore_index=True) for table in (first, again)))
    assert (summarise(rows, seed=1).mean_low != first.mean_low).any()


def test_missing_numbers_are_counted():
    rows = rows_of()
    rows.loc[(rows.subject == "S03") & (rows.abbreviation == "VL"), "hd95_mm"] = np.nan
    rows.loc[(rows.subject == "S04") & (rows.abbreviation == "VL") & (rows.side == "left"), "hd95_mm"] = np.nan
    found = cell(summarise(rows), "VL", "hd95_mm")
    assert (found.n, found.n_missing, found.n_parts_missing) == (10, 2, 3)
    own = rows[(rows.abbreviation == "VL") & ~rows.subject.isin(["S03", "S04"])].groupby("subject").hd95_mm.mean()
    assert found["mean"] == pytest.approx(own.mean()) and found.mean_low < found["mean"] < found.mean_high
    gone = cell(summarise(rows.assign(hd95_mm=np.nan)), "VL", "hd95_mm")
    assert gone.n == 0 and np.isnan(gone["mean"]) and np.isnan(gone["median"])
    absent = rows[~((rows.subject == "S05") & (rows.abbreviation == "VM"))]  # a muscle that this subject lacks
    assert (cell(summarise(absent), "VM").n, cell(summarise(absent), "VM").n_missing) == (11, 0)


def test_a_missed_muscle_makes_no_distance_better():
    rows = rows_of()
    rows.loc[(rows.abbreviation == "VM") & (rows.side == "left"), "hd95_mm"] = 99.0  # poor in everybody
    poor, missed = (summarise(one) for one in (rows, rows.assign(hd95_mm=rows.hd95_mm.where(rows.hd95_mm < 99))))
    assert cell(poor, "MEAN", "hd95_mm").n_parts_missing == 0 and cell(poor, "MEAN", "hd95_mm")["mean"] > 25
    for name in ("VM", "MEAN"):
        found = cell(missed, name, "hd95_mm")
        assert (found.n, found.n_missing, found.n_parts_missing) == (0, 12, 12) and np.isnan(found["mean"])
    assert cell(missed, "VL", "hd95_mm").n_parts_missing == 0
    # a muscle that only the labels have is none of the reference's: it has no distance, and voids none
    extra = rows.hd95_mm >= 99
    found = summarise(rows.assign(hd95_mm=rows.hd95_mm.where(~extra),
                                  reference_volume_ml=rows.reference_volume_ml.where(~extra, 0.0)))
    assert (cell(found, "MEAN", "hd95_mm").n, cell(found, "MEAN", "hd95_mm").n_parts_missing) == (12, 0)


def test_agreement_leaves_out_whom_a_side_is_missing():
    rows = rows_of()
    rows.loc[(rows.subject == "S03") & (rows.abbreviation == "VL") & (rows.side == "left"), "t2_ms"] = np.nan
    found = limits_of_agreement(rows)
    found = found[(found.quantity == "t2_ms") & (found.abbreviation == "VL")].iloc[0]
    assert (found.n, found.n_missing) == (11, 1)  # one side's T2 is not compared with the mean of two


@pytest.mark.parametrize(("n", "words"), [(1, "no interval"), (2, "no interval"), (3, "too narrow"), (10, "")])
def test_few_subjects_are_said(n, words):
    found = cell(summarise(rows_of(n)), "VL")
    assert words in found.note and bool(found.note) == bool(words)
    assert np.isfinite(found.mean_low) == (n > 2)


def test_agreement_is_that_of_one_pair_per_subject():
    rows = rows_of()
    found = limits_of_agreement(rows)
    assert list(found.quantity.unique()) == ["volume_ml", "t2_ms"]
    assert MEAN_OF_MUSCLES not in set(found.muscle)
    sides = rows[rows.abbreviation == "VL"].groupby("subject")[["volume_ml", "reference_volume_ml"]].mean()
    expected = mrmyo.stats.bland_altman(sides, measured="volume_ml", reference="reference_volume_ml").iloc[0]
    row = found[(found.abbreviation == "VL") & (found.quantity == "volume_ml")].iloc[0]
    for name in ("n", "bias", "loa_low", "loa_high"):
        assert row[name] == pytest.approx(expected[name])
    assert set(limits_of_agreement(rows.drop(columns="t2_ms")).quantity) == {"volume_ml"}


def test_tables_that_cannot_be_summarised():
    rows = rows_of(3)
    with pytest.raises(EvaluationError, match="repeat"):
        summarise(pd.concat([rows, rows]))
    with pytest.raises(EvaluationError, match="no column"):
        by_subject(rows.drop(columns="level"), "dice")
    with pytest.raises(EvaluationError, match="n_boot"):
        summarise(rows, n_boot=10)
    with pytest.raises(EvaluationError, match="middle"):
        limits_of_agreement(rows, level="middle")
