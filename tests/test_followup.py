"""Change by muscle against repeats, involvement against controls, sites for a biopsy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrmyo.followup import biopsy_sites, change_by_muscle, involvement
from mrmyo.stats import StatsError

MUSCLES = {"vastus lateralis": "VL", "rectus femoris": "RF", "gracilis": "GRA"}


def visit(t2=(40.0, 50.0, 45.0), subject="SYN-A", **columns):
    rows = [{"subject": subject, "side": side, "muscle": muscle, "abbreviation": short,
             "t2_ms": t2[i] + (side == "right"), "volume_ml": 100.0}
            for side in ("left", "right") for i, (muscle, short) in enumerate(MUSCLES.items())]
    whole = {"subject": subject, "side": "both", "muscle": "whole muscle", "abbreviation": "ALL",
             "t2_ms": float(np.mean(t2)), "volume_ml": 600.0}
    return pd.DataFrame([*rows, whole]).assign(**columns)


@pytest.fixture
def repeats():
    rng = np.random.default_rng(5)
    again = [visit(subject=f"SYN-{i}") for i in range(6) for _ in range(2)]
    table = pd.concat(again, ignore_index=True)
    return table.assign(t2_ms=table.t2_ms + rng.normal(0, 0.5, len(table)))


def test_a_change_beyond_chance_is_told_from_one_within_it(repeats):
    table = change_by_muscle(visit(), visit(t2=(35.0, 49.8, 45.0)), repeats).set_index(["side", "muscle"])
    lateral = table.loc["left", "vastus lateralis"]
    assert (lateral.before, lateral.after, lateral.change) == (40, 35, -5) and lateral.beyond
    assert not table.loc[("right", "rectus femoris"), "beyond"] and len(table) == 7
    # by hand: twelve thighs measured twice, SD from the differences of the pairs
    own = repeats[(repeats.muscle == "vastus lateralis")]
    pairs = own.groupby(["subject", "side"]).t2_ms.apply(lambda values: values.iloc[1] - values.iloc[0])
    assert lateral.smallest_change == pytest.approx(1.959964 * np.sqrt(2) * np.sqrt((pairs**2).mean() / 2))
    assert lateral.n_repeated == 12 and table.loc[("both", "whole muscle"), "n_repeated"] == 6


def test_a_muscle_without_repeats_has_no_smallest_change(repeats):
    table = change_by_muscle(visit(), visit(), repeats[repeats.muscle != "gracilis"])
    gracilis = table[table.muscle == "gracilis"]
    assert gracilis.smallest_change.isna().all() and not gracilis.beyond.any() and gracilis.n_repeated.eq(0).all()
    once = change_by_muscle(visit(), visit(), visit(subject="SYN-B"))
    assert once.smallest_change.isna().all()
    with pytest.raises(StatsError, match="come twice"):
        change_by_muscle(pd.concat([visit(), visit()]), visit(), repeats)


def test_involvement_in_standard_deviations_of_the_controls():
    controls = [visit(t2=(33.0 + i, 34.0, 35.0), subject=f"SYN-HC-{i}") for i in range(4)]
    table = involvement(pd.concat([visit(), *controls]), controls=[f"SYN-HC-{i}" for i in range(4)])
    lateral = table[(table.subject == "SYN-A") & (table.muscle == "vastus lateralis")].iloc[0]
    # left and right of each: 33.5, 34.5, 35.5, 36.5; their median deviation is 1 ms
    assert lateral.z == pytest.approx((40.5 - 35.0) / 1.4826) and lateral.n_controls == 4
    assert lateral.excess == pytest.approx(40.5 - 35.0) and not lateral.control and table.control.sum() == 12
    assert table[table.muscle == "rectus femoris"].z.isna().all()  # controls without any spread
    assert "whole muscle" not in set(table.muscle)
    few = involvement(pd.concat([visit(), *controls[:2]]), controls=["SYN-HC-0", "SYN-HC-1"])
    assert few.z.isna().all() and few.excess.isna().all()
    with pytest.raises(StatsError, match="none of the controls"):
        involvement(visit(), controls=["SYN-X"])


def test_sites_are_long_in_t2_not_fat_and_not_small():
    rows = visit(fat_fraction=0.1)
    assert biopsy_sites(rows).abbreviation.tolist()[:2] == ["RF", "RF"] and biopsy_sites(rows).side[0] == "right"
    assert biopsy_sites(rows, n=2)["rank"].tolist() == [1, 2]
    fatty = rows.assign(fat_fraction=np.where(rows.abbreviation == "RF", 0.7, 0.1))
    assert "RF" not in set(biopsy_sites(fatty).abbreviation)
    small = rows.assign(volume_ml=np.where(rows.abbreviation == "GRA", 3.0, 100.0))
    assert set(biopsy_sites(small).abbreviation) == {"RF", "VL"} and biopsy_sites(small).usual_site.all()
    assert biopsy_sites(visit()).fat_fraction.isna().all()  # no Dixon images
    with pytest.raises(StatsError, match="no named muscle"):
        biopsy_sites(rows.assign(fat_fraction=0.9))
