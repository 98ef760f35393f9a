"""Table 1 by hand and against R 4.2.2: tapply, quantile (type 7) and fisher, chisq, kruskal and wilcox.test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mrmyo.stats import StatsError
from mrmyo.stats.baseline import _fisher, _test_of_counts
from mrmyo.stats.tables import table_one, table_one_values

MTCARS = pd.DataFrame({
    "mpg": [21, 21, 22.8, 21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4, 14.7, 32.4,
            30.4, 33.9, 21.5, 15.5, 15.2, 13.3, 19.2, 27.3, 26, 30.4, 15.8, 19.7, 15, 21.4],
    "hp": [110, 110, 93, 110, 175, 105, 245, 62, 95, 123, 123, 180, 180, 180, 205, 215, 230, 66, 52, 65, 97, 150, 150,
           245, 175, 66, 91, 113, 264, 175, 335, 109],
    "cyl": [6, 6, 4, 6, 8, 6, 8, 4, 4, 6, 6, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 8, 8, 8, 8, 4, 4, 4, 8, 6, 8, 4],
    "am": [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
    "gear": [4, 4, 4, 3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 4, 4, 4, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 4],
    "vs": [0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
    "carb": [4, 4, 1, 1, 2, 1, 4, 2, 2, 4, 4, 3, 3, 3, 4, 4, 4, 1, 2, 1, 1, 2, 2, 4, 2, 1, 2, 2, 4, 6, 8, 2],
})
TOOTH = pd.DataFrame({
    "len": [4.2, 11.5, 7.3, 5.8, 6.4, 10, 11.2, 11.2, 5.2, 7, 16.5, 16.5, 15.2, 17.3, 22.5, 17.3, 13.6, 14.5, 18.8,
            15.5, 23.6, 18.5, 33.9, 25.5, 26.4, 32.5, 26.7, 21.5, 23.3, 29.5, 15.2, 21.5, 17.6, 9.7, 14.5, 10, 8.2, 9.4,
            16.5, 9.7, 19.7, 23.3, 23.6, 26.4, 20, 25.2, 25.8, 21.2, 14.5, 27.3, 25.5, 26.4, 22.4, 24.5, 24.8, 30.9,
            26.4, 27.3, 29.4, 23],
    "supp": ["VC"] * 30 + ["OJ"] * 30, "dose": np.tile(np.repeat([0.5, 1.0, 2.0], 10), 2),
})
EDUCATION = ["0-5yrs", "6-11yrs", "12+ yrs"]
INFERT = pd.DataFrame([(level, case) for level, counts in zip(EDUCATION, [(8, 4), (80, 40), (77, 39)], strict=True)
                       for case, count in enumerate(counts) for _ in range(count)], columns=["education", "case"])
INFERT["education"] = pd.Categorical(INFERT["education"], EDUCATION)


def study():
    """Three patients and two controls, small enough for sums by hand."""
    return pd.DataFrame({
        "subject": ["a", "b", "c", "d", "e"], "group": ["IIM", "IIM", "IIM", "HC", "HC"],
        "age": [40.0, 50.0, 63.0, 30.0, np.nan], "sex": ["f", "m", "f", None, "m"],
        "treated": [True, True, False, False, False],
    })


def test_a_table_as_a_journal_prints_it():
    table = table_one(study(), order=["IIM", "HC"], names={"age": "Age, years"})
    assert list(table.columns) == ["variable", "level", "statistic", "IIM (n = 3)", "HC (n = 2)", "All (n = 5)",
                                   "missing"]
    assert table.to_numpy().tolist() == [
        ["Age, years", "", "mean ± SD (range)", "51.0 ± 11.5 (40.0–63.0)", "30.0", "45.8 ± 14.1 (30.0–63.0)", "0 / 1"],
        ["sex", "f", "n (% of those with a value)", "2 (66.7 %)", "0 (0.0 %)", "2 (50.0 %)", "0 / 1"],
        ["sex", "m", "n (% of those with a value)", "1 (33.3 %)", "1 (100.0 %)", "2 (50.0 %)", ""],
        ["treated", "yes", "n (% of those with a value)", "2 (66.7 %)", "0 (0.0 %)", "2 (40.0 %)", "0 / 0"],
        ["treated", "no", "n (% of those with a value)", "1 (33.3 %)", "2 (100.0 %)", "3 (60.0 %)", ""],
    ]
    of_median = table_one(study(), columns=["age"], median=["age"], overall=False)
    assert of_median["statistic"].item() == "median (Q1–Q3)"
    assert of_median["IIM (n = 3)"].item() == "50.0 (45.0–56.5)" and of_median["missing"].item() == "1 / 0"


def test_counts_are_printed_with_their_percentage():
    table = pd.DataFrame({"group": ["IIM"] * 64 + ["HC"] * 10, "sex": ["f"] * 38 + ["m"] * 26 + ["f"] * 9 + ["m"]})
    row = table_one(table, order=["IIM", "HC"]).set_index("level").loc["m"]
    assert (row["IIM (n = 64)"], row["HC (n = 10)"]) == ("26 (40.6 %)", "1 (10.0 %)")


@pytest.mark.parametrize(("table", "by", "group", "value", "expected"), [
    # c(mean(x), sd(x), quantile(x, c(.5, .25, .75, 0, 1), type = 7)) in tapply
    (MTCARS, "cyl", "4", "mpg", (26.66363636364, 4.50982765242, 26.0, 22.8, 30.4, 21.4, 33.9)),
    (MTCARS, "cyl", "6", "mpg", (19.74285714286, 1.45356704106, 19.7, 18.65, 21.0, 17.8, 21.4)),
    (MTCARS, "cyl", "8", "mpg", (15.1, 2.56004807647, 15.2, 14.4, 16.25, 10.4, 19.2)),
    (MTCARS, "am", "0", "hp", (160.2631578947, 53.9081957336, 175.0, 116.5, 192.5, 62.0, 245.0)),
    (MTCARS, "am", "1", "hp", (126.8461538462, 84.0623242539, 109.0, 66.0, 113.0, 52.0, 335.0)),
    (TOOTH, "supp", "OJ", "len", (20.66333333333, 6.60556104972, 22.7, 15.525, 25.725, 8.2, 30.9)),
    (TOOTH, "supp", "VC", "len", (16.96333333333, 8.26602866466, 16.5, 11.2, 23.1, 4.2, 33.9)),
])
def test_numbers_as_tapply_and_quantile_in_r(table, by, group, value, expected):
    row = table_one_values(table, by=by, columns=[value]).set_index("group").loc[group]
    assert tuple(row[["mean", "sd", "median", "q1", "q3", "min", "max"]]) == pytest.approx(expected, abs=1e-9)


def test_all_is_all_rows():
    row = table_one_values(MTCARS, by="cyl", columns=["mpg"]).iloc[-1]
    assert (row["group"], row["n"], row["mean"], row["sd"]) == ("All", 32, pytest.approx(MTCARS.mpg.mean()),
                                                                pytest.approx(MTCARS.mpg.std()))


def test_education_by_case_of_infert():
    values = table_one_values(INFERT, by="case", tests=True)
    assert values["level"].unique().tolist() == EDUCATION  # the order of the category, not of the alphabet
    wide = values.pivot(index="level", columns="group", values="count").loc[EDUCATION]
    assert wide.to_numpy().tolist() == [[8, 4, 12], [80, 40, 120], [77, 39, 116]]
    assert values["percent"].iloc[1] == pytest.approx(100 * 4 / 83)
    # chisq.test(table(infert$education, infert$case)); one of six expected counts is 4.02: no reason for Fisher's test
    assert values["p"].to_numpy() == pytest.approx(np.full(9, 0.998855845922), abs=1e-11)
    assert "chi-squared" in values["test"].iloc[0] and "2 df" in values["test"].iloc[0]
    # sqrt(t(d) %*% solve((S1 + S2) / 2) %*% d) of the shares in R
    assert values["smd"].to_numpy() == pytest.approx(np.full(9, 0.00643871155537), abs=1e-12)


@pytest.mark.parametrize(("rows", "columns", "p"), [
    # fisher.test(table(mtcars$rows, mtcars$columns))$p.value
    ("cyl", "am", 0.00910470168142), ("gear", "cyl", 8.25971568462e-05), ("vs", "am", 0.472697441602),
    ("carb", "am", 0.258784398124), ("carb", "cyl", 0.000334517961931),
])
def test_small_tables_as_fisher_test_in_r(rows, columns, p):
    table = MTCARS.assign(**{rows: MTCARS[rows].astype("category")})
    row = table_one_values(table, by=columns, columns=[rows], tests=True).iloc[0]
    assert (row["p"], row["test"]) == (pytest.approx(p, rel=1e-9), "Fisher's exact test")


def test_tables_of_r_without_small_counts():
    # margin.table(HairEyeColor, c(1, 3)): chisq.test
    hair = np.array([[56, 52], [143, 143], [34, 37], [46, 81]])
    p, test, note = _test_of_counts(hair)
    assert p == pytest.approx(0.0461308108446, abs=1e-12) and "3 df" in test and not note
    # table(cut(breaks, c(0, 20, 30, 100)), tension) of warpbreaks: fisher.test, then chisq.test
    breaks = np.array([[3, 6, 9], [7, 7, 7], [8, 5, 2]])
    assert _fisher(breaks) == pytest.approx(0.165090045957, abs=1e-11)
    assert _test_of_counts(breaks)[0] == pytest.approx(0.158597619825, abs=1e-11)
    assert _fisher(np.array([[8, 4], [80, 40], [77, 39]])) == pytest.approx(1)  # fisher.test of infert


def test_fisher_as_scipy_has_it_for_two_by_two():
    rng = np.random.default_rng(0)
    for _ in range(60):
        counts = rng.integers(0, 15, (2, 2)) + np.eye(2, dtype=int)
        assert _fisher(counts) == pytest.approx(scipy_stats.fisher_exact(counts).pvalue, rel=1e-6)


def test_tables_beyond_counting_fall_back_and_say_so():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, (8, 6))
    p, test, note = _test_of_counts(counts)
    assert p == pytest.approx(scipy_stats.chi2_contingency(counts, correction=False).pvalue)
    assert "chi-squared" in test and "approximate" in note


@pytest.mark.parametrize(("table", "by", "value", "p", "test"), [
    (MTCARS, "cyl", "mpg", 2.56621679535e-06, "Kruskal"),  # kruskal.test
    (MTCARS, "cyl", "carb", 0.00173428370307, "Kruskal"),  # heavy ties
    (TOOTH, "dose", "len", 1.47520683111e-09, "Kruskal"),
    (MTCARS, "am", "hp", 0.0436585370342, "Mann"),  # wilcox.test(exact = FALSE, correct = FALSE)
    (MTCARS, "am", "carb", 0.720066051984, "Mann"),
    (TOOTH, "supp", "len", 0.0634296763969, "Mann"),
])
def test_p_of_numbers_as_r(table, by, value, p, test):
    row = table_one_values(table, by=by, columns=[value], tests=True).iloc[0]
    assert row["p"] == pytest.approx(p, rel=1e-9) and row["test"].startswith(test)


def test_p_is_told_once_for_a_variable_and_only_when_asked_for():
    table = table_one(INFERT.assign(age=np.arange(248.0) * INFERT["case"]), by="case", tests=True)
    assert table["p"].tolist() == ["0.999", "", "", "<0.001"] and table["test"].tolist()[1:3] == ["", ""]
    assert "p" not in table_one(INFERT, by="case") and "p" not in table_one_values(INFERT, by="case")


def test_standardised_differences():
    # (mean(OJ) - mean(VC)) / sqrt((var(OJ) + var(VC)) / 2) in R; Yang and Dalton's for hair by sex in HairEyeColor
    teeth = table_one_values(TOOTH, by="supp", columns=["len"])
    assert teeth["smd"].to_numpy() == pytest.approx(np.full(3, 0.494520140545), abs=1e-11)
    hair = pd.DataFrame([(level, sex) for level, counts in (("a", (56, 52)), ("b", (143, 143)), ("c", (34, 37)),
                                                            ("d", (46, 81)))
                         for sex, count in zip("mf", counts, strict=True) for _ in range(count)],
                        columns=["hair", "sex"])
    assert table_one_values(hair, by="sex")["smd"].iloc[0] == pytest.approx(0.23540992541, abs=1e-10)
    # of two levels: the difference of the shares by the root of their mean variance
    two = pd.DataFrame({"group": ["a"] * 10 + ["b"] * 10, "sex": list("mmmffffffffmmmmmmfff")})
    shares = 0.3, 0.6
    spread = np.sqrt(sum(share * (1 - share) for share in shares) / 2)
    assert table_one_values(two)["smd"].iloc[0] == pytest.approx(0.3 / spread)
    assert table_one_values(MTCARS, by="cyl", columns=["mpg"])["smd"].isna().all()  # of three groups none is defined


def test_nothing_measured_is_a_dash_and_no_error():
    empty = study().assign(age=np.nan, sex=None, treated=pd.Series([pd.NA] * 5, dtype="boolean"))
    table = table_one(empty, tests=True)
    assert len(table) == 3 and (table[["HC (n = 2)", "IIM (n = 3)", "All (n = 5)", "p"]] == "–").all(axis=None)
    assert table["missing"].tolist() == ["2 / 3"] * 3
    half = study().assign(age=[40.0, 50.0, 63.0, np.nan, np.nan])
    row = table_one(half, columns=["age"], tests=True).iloc[0]
    assert (row["HC (n = 2)"], row["IIM (n = 3)"], row["p"]) == ("–", "51.0 ± 11.5 (40.0–63.0)", "–")
    values = table_one_values(half, columns=["age"], tests=True)
    assert "no value" in values["note"].iloc[0] and "fewer than two groups" in values["note"].iloc[0]
    none_of_a_group = table_one(study().assign(sex=["f", "m", "f", None, None]), columns=["sex"], tests=True)
    assert none_of_a_group["HC (n = 2)"].tolist() == ["–", "–"]


def test_constant_and_tiny_columns_say_why_there_is_no_number():
    table = study().assign(age=5.0, sex="f")
    values = table_one_values(table, columns=["age", "sex"], tests=True)
    assert values["p"].isna().all() and values["smd"].isna().all()
    assert "all values are equal" in values["note"].iloc[0] and "one level only" in values["note"].iloc[-1]
    assert table_one(table, columns=["age"])["IIM (n = 3)"].item() == "5.0 ± 0.0 (5.0–5.0)"
    assert table_one(study().assign(age=0.1), columns=["age"])["IIM (n = 3)"].item() == "0.10 ± 0.00 (0.10–0.10)"
    single = table_one_values(study(), columns=["age"]).iloc[0]
    assert np.isnan(single["sd"]) and "one value" in single["note"]
    alone = table_one(study().query("group == 'HC'"), columns=["sex"], tests=True)
    assert alone["HC (n = 2)"].tolist() == ["1 (100.0 %)"] and alone["missing"].tolist() == ["1"]


def test_apart_in_every_level_has_no_standardised_difference():
    table = pd.DataFrame({"group": list("aaabbb"), "kind": list("xxxyyz")})
    values = table_one_values(table)
    assert values["smd"].isna().all() and "too little spread" in values["note"].iloc[0]


def test_decimals_follow_the_spread_and_minus_signs_are_not_dashes():
    table = pd.DataFrame({"group": list("aab"), "share": [0.012, 0.034, 0.02], "ck": [200.0, 5000.0, 340.0],
                          "change": [-1.25, 2.0, -0.04]})
    printed = table_one(table, overall=False).set_index("variable")["a (n = 2)"]
    assert printed["share"] == "0.023 ± 0.016 (0.012–0.034)" and printed["ck"] == "2600 ± 3394 (200–5000)"
    assert printed["change"] == "0.4 ± 2.3 (−1.2 to 2.0)"
    assert table_one(table).set_index("variable").loc["change", "b (n = 1)"] == "0.0"  # not −0.0


def test_groups_come_in_their_order():
    table = study().assign(group=pd.Categorical(study()["group"], ["IIM", "HC", "DM"]))
    assert list(table_one(table))[3:5] == ["IIM (n = 3)", "HC (n = 2)"]  # DM has no rows
    assert list(table_one(MTCARS.assign(cyl=MTCARS.cyl + 4), by="cyl", columns=["hp"]))[3:6] == [
        "8 (n = 11)", "10 (n = 7)", "12 (n = 14)"]
    assert list(table_one(study(), order=["IIM", "HC"]))[3] == "IIM (n = 3)"


def test_what_it_reads_as_numbers_and_what_as_categories():
    table = pd.DataFrame({
        "group": list("aabb"), "mixed": pd.Series([1, 2.5, None, 4], dtype=object), "whole": pd.array([1, 2, None, 4]),
        "code": pd.Categorical([0, 1, 1, 0]), "words": ["1", "x", "y", "x"], "flag": [True, None, False, True]})
    values = table_one_values(table).drop_duplicates("variable").set_index("variable")["statistic"]
    assert values.str[0].to_dict() == {"mixed": "m", "whole": "m", "code": "n", "words": "n", "flag": "n"}


@pytest.mark.parametrize(("change", "options", "match"), [
    ({}, {"by": "arm"}, "no column"), ({}, {"columns": ["height"]}, "no column"),
    ({}, {"columns": ["subject"]}, "neither 'group' nor 'subject'"), ({}, {"columns": []}, "at least one"),
    ({"group": ["IIM", None, "IIM", "HC", "HC"]}, {}, r"1 rows without 'group' \(rows 2\)"),
    ({"subject": list("aabcd")}, {}, "one row per subject"),
    ({}, {"order": ["IIM", "HC", "DM"]}, "what has no rows"), ({}, {"order": ["IIM"]}, "same groups"),
    ({"age": [40, "<5", 50, 60, ">90"]}, {}, r"texts \['<5', '>90'\] \(rows 2, 5\)"),
    ({"age": ["40", "50", "<5", "60", "70"]}, {}, r"texts \['<5'\] \(rows 3\)"),
    ({"age": [40, 50, 60, 70, "Hans Meier"]}, {}, r"but also texts \(rows 5\)"),
    ({"age": list("45678")}, {}, "written as text"), ({"age": ["4,5", "5,1", "6", None, "7"]}, {}, "written as text"),
    ({"age": pd.date_range("2020-01-01", periods=5)}, {}, "dates"), ({"age": [1.0, np.inf, 2, 3, 4]}, {}, "infinite"),
    ({}, {"median": ["sex"]}, "expects columns of numbers"), ({}, {"median": ["height"]}, r"\['height'\]"),
    ({}, {"names": {"hight": "Height"}}, r"\['hight'\]"), ({}, {"names": {"age": "sex"}}, "same name"),
    ({"group": ["All", "All", "IIM", "IIM", "IIM"]}, {}, "overall=False"),
    ({"t2_ms": [0.03, 0.04, 0.05, 0.04, 0.03]}, {}, "looks like seconds"),
])
def test_refusals(change, options, match):
    with pytest.raises(StatsError, match=match) as told:
        table_one(study().assign(**change), **options)
    assert not any(f"'{subject}'" in str(told.value) for subject in "abcde")  # no subject is ever named


def test_remarks_and_empty_tables_are_refused():
    many = pd.DataFrame({"group": ["a", "b"] * 15, "remark": [f"seen by nurse {i}" for i in range(30)]})
    with pytest.raises(StatsError, match="30 different texts") as told:
        table_one(many)
    assert "nurse" not in str(told.value)
    with pytest.raises(StatsError, match="no rows"):
        table_one(study().head(0))
    with pytest.raises(StatsError, match="30 different values"):
        table_one(many, by="remark", columns=["group"])
    with pytest.raises(StatsError, match="Two columns of the table"):
        table_one(pd.concat([study(), study()[["age"]]], axis=1))
    with pytest.raises(StatsError, match="DataFrame"):
        table_one([1, 2])


def test_a_group_without_values_is_told_where_the_others_are_tested():
    table = pd.DataFrame({"group": list("aaabbbccc"), "v": [1.0, 2, 3, 4, 5, 6, *[np.nan] * 3],
                          "sex": [*"ffmmmf", *[None] * 3]})
    values = table_one_values(table, tests=True)
    assert (values.note.str.count("tested without 1 of 3 groups") == 1).all() and values.p.notna().all()
    two = table_one_values(table[table.group != "c"], tests=True)
    assert values.groupby("variable").p.first().tolist() == two.groupby("variable").p.first().tolist()
    assert not two.note.str.contains("tested without").any()


def test_groups_of_subjects_are_counted_in_messages():
    with pytest.raises(StatsError, match="groups 5 different values") as told:
        table_one(study().assign(subject=[f"Anna{i}" for i in range(5)]), by="subject", columns=["age"], order=["x"])
    assert "Anna" not in str(told.value)
