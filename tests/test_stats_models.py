"""Models against R 4.2.2 (lm and HC3 by hand; nlme 3.1.162 lme; boot 1.3.28.1), statsmodels, and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrmyo.stats import StatsError, ancova, cluster_bootstrap, mixed_model

MTCARS = pd.DataFrame({
    "mpg": [21, 21, 22.8, 21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4, 14.7, 32.4,
            30.4, 33.9, 21.5, 15.5, 15.2, 13.3, 19.2, 27.3, 26, 30.4, 15.8, 19.7, 15, 21.4],
    "cyl": [6, 6, 4, 6, 8, 6, 8, 4, 4, 6, 6, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 8, 8, 8, 8, 4, 4, 4, 8, 6, 8, 4],
    "wt": [2.62, 2.875, 2.32, 3.215, 3.44, 3.46, 3.57, 3.19, 3.15, 3.44, 3.44, 4.07, 3.73, 3.78, 5.25, 5.424, 5.345,
           2.2, 1.615, 1.835, 2.465, 3.52, 3.435, 3.84, 3.845, 1.935, 2.14, 1.513, 3.17, 2.77, 3.57, 2.78],
    "hp": [110, 110, 93, 110, 175, 105, 245, 62, 95, 123, 123, 180, 180, 180, 205, 215, 230, 66, 52, 65, 97, 150, 150,
           245, 175, 66, 91, 113, 264, 175, 335, 109],
})
TOOTH_GROWTH = pd.DataFrame({
    "len": [4.2, 11.5, 7.3, 5.8, 6.4, 10, 11.2, 11.2, 5.2, 7, 16.5, 16.5, 15.2, 17.3, 22.5, 17.3, 13.6, 14.5, 18.8,
            15.5, 23.6, 18.5, 33.9, 25.5, 26.4, 32.5, 26.7, 21.5, 23.3, 29.5, 15.2, 21.5, 17.6, 9.7, 14.5, 10, 8.2,
            9.4, 16.5, 9.7, 19.7, 23.3, 23.6, 26.4, 20, 25.2, 25.8, 21.2, 14.5, 27.3, 25.5, 26.4, 22.4, 24.5, 24.8,
            30.9, 26.4, 27.3, 29.4, 23],
    "supp": np.repeat(["VC", "OJ"], 30), "dose": np.tile(np.repeat([0.5, 1.0, 2.0], 10), 2),
})
WARPBREAKS = pd.DataFrame({
    "breaks": [26, 30, 54, 25, 70, 52, 51, 26, 67, 18, 21, 29, 17, 12, 18, 35, 30, 36, 36, 21, 24, 18, 10, 43, 28, 15,
               26, 27, 14, 29, 19, 29, 31, 41, 20, 44, 42, 26, 19, 16, 39, 28, 21, 39, 29, 20, 21, 24, 17, 13, 15, 15,
               16, 28],
    "wool": np.repeat(["A", "B"], 27), "tension": np.tile(np.repeat(["L", "M", "H"], 9), 2),
})
ORTHODONT = pd.DataFrame({  # of nlme: girls, then boys, each at four ages
    "distance": [21, 20, 21.5, 23, 21, 21.5, 24, 25.5, 20.5, 24, 24.5, 26, 23.5, 24.5, 25, 26.5, 21.5, 23, 22.5, 23.5,
                 20, 21, 21, 22.5, 21.5, 22.5, 23, 25, 23, 23, 23.5, 24, 20, 21, 22, 21.5, 16.5, 19, 19, 19.5, 24.5, 25,
                 28, 28, 26, 25, 29, 31, 21.5, 22.5, 23, 26.5, 23, 22.5, 24, 27.5, 25.5, 27.5, 26.5, 27, 20, 23.5, 22.5,
                 26, 24.5, 25.5, 27, 28.5, 22, 22, 24.5, 26.5, 24, 21.5, 24.5, 25.5, 23, 20.5, 31, 26, 27.5, 28, 31,
                 31.5, 23, 23, 23.5, 25, 21.5, 23.5, 24, 28, 17, 24.5, 26, 29.5, 22.5, 25.5, 25.5, 26, 23, 24.5, 26, 30,
                 22, 21.5, 23.5, 25],
    "Subject": np.repeat([*(f"F{i}" for i in range(11)), *(f"M{i}" for i in range(16))], 4),
    "Sex": np.repeat(["Female", "Male"], [44, 64]), "age": np.tile([8, 10, 12, 14], 27),
})
OATS = pd.DataFrame({  # of nlme; half is ours: the first three blocks and the last three
    "yield": [111, 130, 157, 174, 117, 114, 161, 141, 105, 140, 118, 156, 61, 91, 97, 100, 70, 108, 126, 149, 96, 124,
              121, 144, 68, 64, 112, 86, 60, 102, 89, 96, 89, 129, 132, 124, 74, 89, 81, 122, 64, 103, 132, 133, 70, 89,
              104, 117, 62, 90, 100, 116, 80, 82, 94, 126, 63, 70, 109, 99, 53, 74, 118, 113, 89, 82, 86, 104, 97, 99,
              119, 121],
    "Block": np.repeat(["I", "II", "III", "IV", "V", "VI"], 12), "half": np.repeat(["first", "last"], 36),
    "Variety": np.tile(np.repeat(["Victory", "Golden Rain", "Marvellous"], 4), 6),
    "nitro": np.tile([0, 0.2, 0.4, 0.6], 18),
})
DAYS = [[0, 1, 2, 4, 6, 10, 14]] * 2 + [[0, 4, 6, 8, 10, 14, 21]] * 2 + [[4, 6, 8, 10, 14]] * 2 + [[4, 6, 10, 14]] * 2 \
    + [[4, 8], [4, 6, 8]]
PIXEL = pd.DataFrame([(dog, side, day) for dog, days in enumerate(DAYS, start=1) for side in "LR" for day in days],
                     columns=["Dog", "Side", "day"]).assign(  # of nlme, not balanced; g and w are ours
    pixel=[1040.9, 1054.1, 1051.9, 1054.1, 1051.3, 1051.4, 1046.1, 1045.8, 1044.5, 1042.9, 1050.4, 1045.2, 1038.9,
           1039.8, 1053.6, 1052.9, 1053.6, 1057.1, 1064, 1065.3, 1053.4, 1041.8, 1045.6, 1051, 1054.1, 1052.7, 1062,
           1050.8, 1043.9, 1069, 1082.5, 1077.7, 1073.5, 1076.4, 1053.8, 1039.8, 1082.9, 1091.1, 1088.5, 1099.4, 1086.8,
           1073.6, 1039.9, 1114.1, 1111.5, 1100.3, 1124, 1113.2, 1077, 1034.1, 1090.7, 1126.4, 1108.8, 1122.5, 1100.7,
           1102.2, 1114.7, 1117.6, 1128.2, 1130.5, 1102.2, 1124.4, 1128.2, 1124.1, 1126.7, 1109.9, 1106, 1121.5, 1115.5,
           1105.2, 1092.8, 1094.2, 1084.1, 1093.9, 1082.7, 1076.1, 1129.7, 1136.2, 1108.5, 1094.3, 1151.3, 1160.3,
           1139.7, 1133.2, 1098.8, 1103.6, 1106.8, 1105, 1077.5, 1085.9, 1100.8, 1083.4, 1097.2, 1099.5, 1068.2, 1064,
           1132.3, 1154.5, 1161.1, 1095, 1094.7, 1081.4],
    g=lambda t: np.where(t.Dog <= 3, "a", np.where(t.Dog <= 6, "b", "c")), w=lambda t: t.Dog % 4)


# hc3 <- function(fit, level = 0.95) { X <- model.matrix(fit); e <- resid(fit); B <- solve(t(X) %*% X)
#   h <- rowSums((X %*% B) * X); se <- sqrt(diag(B %*% t(X * (e / (1 - h))^2) %*% X %*% B))
#   b <- coef(fit); df <- fit$df.residual; q <- qt(0.5 + level / 2, df)
#   cbind(b, b - q * se, b + q * se, 2 * pt(-abs(b / se), df)) }
@pytest.mark.parametrize(("errors", "low", "high", "p"), [
    ("HC3", (-0.23243782160235, -0.38376640934730), (0.034379414190059, 0.133444672685357),
     (0.139368033699, 0.329501221194)),
    ("ordinary", (-0.22908032104945, -0.32654407059769), (0.0310219136372, 0.0762223339358),
     (0.129841332740, 0.213093655162)),  # confint and summary
])
def test_three_groups_and_two_covariates_as_lm_of_mtcars(errors, low, high, p):
    """lm(log(mpg) ~ factor(cyl) + wt + hp, mtcars)."""
    rows = ancova(MTCARS, value="mpg", group="cyl", covariates=["wt", "hp"], errors=errors)
    assert rows.group.tolist() == [6, 8] and set(rows.reference) == {4} and set(rows.df) == {27} and set(rows.n) == {32}
    assert rows.n_group.tolist() == [7, 14] and set(rows.n_reference) == {11}
    assert rows.difference.to_numpy() == pytest.approx([-0.09902920370614, -0.12516086833097], abs=1e-11)
    assert (tuple(rows.low), tuple(rows.high)) == (pytest.approx(low, abs=1e-11), pytest.approx(high, abs=1e-11))
    assert tuple(rows.p) == pytest.approx(p, rel=1e-9)
    assert rows.partial_eta_squared.to_numpy() == pytest.approx([0.0829139649603, 0.0568080572704], abs=1e-11)
    assert rows.ratio_low.to_numpy() == pytest.approx(np.exp(low)) and rows.ratio[0] == pytest.approx(0.90571626)
    assert set(rows.covariates) == {"wt, hp"} and errors in rows.method[0] and "ten subjects per term" in rows.note[0]


def test_categories_logarithms_and_reference_as_lm_of_tooth_growth():
    """lm(log(len) ~ relevel(supp, "VC") + dose), hc3 at 0.95 and 0.9; then len ~ supp + factor(dose), confint."""
    row = ancova(TOOTH_GROWTH, value="len", group="supp", reference="VC", covariates="dose").iloc[0]
    assert (row.difference, row.low, row.high) == pytest.approx((0.272154825991, 0.110180707816, 0.434128944167))
    assert row.p == pytest.approx(1.37625737520e-03, rel=1e-9) and row.note == ""
    assert row.partial_eta_squared == pytest.approx(0.172623316553)  # also 1 - deviance / deviance without supp
    narrow = ancova(TOOTH_GROWTH, value="len", group="supp", reference="VC", covariates="dose", level=0.9).iloc[0]
    assert (narrow.low, narrow.high) == pytest.approx((0.136908845335091, 0.407400806647662))
    words = TOOTH_GROWTH.assign(dose=TOOTH_GROWTH.dose.map({0.5: "half", 1.0: "one", 2.0: "two"}))
    for covariate in (words.dose, words.dose.astype("category"), TOOTH_GROWTH.dose.astype("category")):
        row = ancova(words.assign(dose=covariate), value="len", group="supp", covariates="dose", log=False).iloc[0]
        assert (row.group, row.reference, row.df) == ("VC", "OJ", 56)
        assert (row.difference, row.low, row.high) == pytest.approx((-3.7, -5.74924814590, -1.6507518541))  # hc3
        assert row.p == pytest.approx(6.40551865971e-04, rel=1e-9) and np.isnan(row.ratio) and np.isnan(row.ratio_low)
    row = ancova(words, value="len", group="supp", covariates="dose", log=False, errors="ordinary").iloc[0]
    assert (row.low, row.high, row.p) == pytest.approx((-5.67976179524, -1.72023820476, 4.29279276785e-04))
    assert row.partial_eta_squared == pytest.approx(0.200190100168)


def test_a_reference_amid_the_groups_as_lm_of_warpbreaks():
    """lm(log(breaks) ~ relevel(tension, "M")), and tension + wool, with hc3."""
    rows = ancova(WARPBREAKS, value="breaks", group="tension", reference="M").set_index("group")
    assert rows.loc["L", ["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [0.287123748250, 0.00656605354308, 0.567681442956, 4.50615873034e-02])
    assert rows.loc["H", ["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [-0.202150988146, -0.45366076773200, 0.049358791439, 1.12786463334e-01])
    rows = ancova(WARPBREAKS, value="breaks", group="tension", reference="L", covariates=["wool"]).set_index("group")
    assert rows.loc["H", ["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [-0.489274736396, -0.759253453250, -0.21929601954258, 6.45846648262e-04])
    assert rows.loc["M", "partial_eta_squared"] == pytest.approx(0.0886563375272)


def test_ties_missing_values_and_mixed_covariates_as_statsmodels():
    from statsmodels.api import OLS

    rng = np.random.default_rng(3)
    table = pd.DataFrame({"subject": np.arange(60), "group": rng.choice(["a", "b"], 60),
                          "sex": rng.choice(["f", "m"], 60), "age": rng.normal(2e4, 1e3, 60),
                          "t2_ms": rng.integers(38, 42, 60).astype(float)})
    table.loc[[3, 11], "t2_ms"], table.loc[[7, 11], "age"], table.loc[20, "sex"] = np.nan, np.nan, None
    table.loc[21, "group"] = None
    row = ancova(table, covariates=["age", "sex"]).iloc[0]
    kept = table.dropna()
    design = np.column_stack([np.ones(len(kept)), kept.group == "b", kept.age / 1e4, kept.sex == "m"]).astype(float)
    fit = OLS(np.log(kept.t2_ms.to_numpy()), design).fit().get_robustcov_results("HC3", use_t=True)
    assert (row.n, row.n_missing) == (55, 5)
    assert [row.difference, row.p, row.low, row.high] == pytest.approx([fit.params[1], fit.pvalues[1],
                                                                       *fit.conf_int()[1]])


def test_hc3_covers_where_one_spread_for_all_does_not():
    """Of 600 samples of 8 widely spread patients and 24 controls the interval holds the truth in about 95 of 100."""
    rng = np.random.default_rng(8)
    held = {"HC3": 0, "ordinary": 0}
    group = np.repeat(["HC", "IIM"], [24, 8])
    for _ in range(600):
        age = rng.normal(50, 10, 32)
        values = 40 + 0.1 * age + np.where(group == "HC", 1.0, 4.0) * rng.standard_normal(32)
        table = pd.DataFrame({"t2_ms": values, "group": group, "age": age})
        for errors in held:
            row = ancova(table, covariates="age", errors=errors, log=False).iloc[0]
            held[errors] += row.low < 0 < row.high
    assert 0.92 < held["HC3"] / 600 < 0.98 and held["ordinary"] / 600 < 0.85


def test_notes_of_ancova_say_what_is_wrong():
    table = pd.DataFrame({"subject": range(8), "t2_ms": [38.0, 39, 40, 41, 44, 45, 47, 43], "group": list("aaaabbbb"),
                          "age": [20.0, 21, 25, 30, 50, 60, 44, 41], "site": list("xxxxyyyx")})
    row = ancova(table, covariates="age").iloc[0]
    assert "age does not overlap between b and a" in row.note and np.isfinite(row.low)
    assert "overlap" not in ancova(table, covariates="site").note[0]
    alone = ancova(table.assign(group=list("aaaabbbc")))
    assert alone.low.isna().all() and alone.p.isna().all() and np.isfinite(alone.difference).all()
    assert "one subject alone has group c (leverage 1)" in alone.note[0] and alone.partial_eta_squared.notna().all()
    assert np.isfinite(ancova(table.assign(group=list("aaaabbbc")), errors="ordinary").low).all()
    lone = ancova(table.assign(site=list("xxyxxxyz")), covariates="site").iloc[0]
    assert np.isnan(lone.low) and "one subject alone has site z" in lone.note
    far = ancova(table.assign(age=[0.0] * 7 + [1.0]), covariates="age").iloc[0]
    assert np.isnan(far.p) and "one subject alone decides a coefficient" in far.note
    for value in (40.0, 1.0):
        same = ancova(table.assign(t2_ms=value)).iloc[0]
        assert same.difference == pytest.approx(0, abs=1e-12) and np.isnan(same.low) and np.isnan(same.p)
        assert "nothing varies" in same.note and np.isnan(same.partial_eta_squared)
    flat = ancova(table.assign(group=list("aabbcccc"), t2_ms=[38.0, 38, 40, 40, 44, 45, 47, 43]))
    assert np.isnan(flat.low[0]) and np.isfinite(flat.low[1]) and "without any spread" in flat.note[0]
    tiny = ancova(table.iloc[[0, 4, 5]].assign(t2_ms=[1.0, 1e-9, 1e9]), errors="ordinary").iloc[0]
    assert tiny.df == 1 and tiny.ratio_high > 1e100


@pytest.mark.parametrize(("change", "options", "words"), [
    ({}, {"covariates": ["months", "age"]}, "'age' is constant or fixed"),
    ({}, {"covariates": "same"}, "'same' is constant"),
    ({"same": 0.1}, {"covariates": "same"}, "'same' is constant"),
    ({"age": ["old"] * 4 + ["young"] * 4}, {"covariates": "age"}, "'age' is constant or fixed"),
    ({"age": list("abcdefgh")}, {"covariates": "age"}, "8 complete rows for 9 coefficients"),
    ({"age": ["<5", 3, 4, 5, 6, 7, 8, 9]}, {"covariates": "age"}, "no numbers"),
    ({"age": None}, {"covariates": "age"}, "in complete rows"),
    ({}, {"covariates": "group"}, "a column twice"), ({}, {"covariates": "weight"}, "no column"),
    ({}, {"reference": "c"}, "no 'c' in column 'group'"), ({"group": "a"}, {}, r"the groups \['a'\]"),
    ({"subject": [1, 1, 2, 3, 4, 5, 6, 7]}, {}, "8 rows for 7 subjects"),
    ({"t2_ms": [0.0, -1] + [40.0] * 6}, {}, "2 values not above 0"), ({"t2_ms": "high"}, {}, "no numbers"),
    ({}, {"errors": "HC4"}, "'HC3' or 'ordinary'"), ({}, {"level": 95}, "above 0 and below 1"),
])
def test_refusals_of_ancova(change, options, words):
    table = pd.DataFrame({"subject": range(8), "t2_ms": [38.0, 39, 40, 41, 44, 45, 47, 43], "group": list("aaaabbbb"),
                          "age": [20.0, 30, 45, 50, 50, 60, 44, 21], "same": 3.0})
    with pytest.raises(StatsError, match=words):
        ancova(table.assign(months=12 * table.age).assign(**change), **options)


@pytest.mark.parametrize(("options", "fixed", "p", "sds"), [
    ({"covariates": "age", "log": False, "within": ()},  # lme(distance ~ Sex + age, random = ~ 1 | Subject, Orthodont)
     (2.321022727273, 0.752855372579, 3.889190081966), 5.37505593154e-03, (1.80742461105, 1.43159212704)),
    ({"within": "age"},  # lme(log(distance) ~ Sex + factor(age), random = ~ 1 | Subject, Orthodont)
     (0.0964401199830, 0.0306766883547, 0.1622035516113), 5.75109945723e-03, (0.0757695586006, 0.0601745487794)),
])
def test_one_level_as_lme_of_orthodont(options, fixed, p, sds):
    row = mixed_model(ORTHODONT, value="distance", group="Sex", subject="Subject", **options).iloc[0]
    assert (row.group, row.reference, row.n_subjects, row.n_rows, row.df) == ("Male", "Female", 27, 108, 25)
    assert (row.difference, row.low, row.high) == pytest.approx(fixed, rel=1e-6)
    assert row.p == pytest.approx(p, rel=1e-5) and (row.sd_subject, row.sd_residual) == pytest.approx(sds, rel=1e-6)
    assert np.isnan(row.sd_side) and row.icc_subject == pytest.approx(sds[0] ** 2 / (sds[0] ** 2 + sds[1] ** 2))
    assert row.note == "" and "25 df between subjects" in row.method


@pytest.mark.parametrize(("log", "fixed", "p", "sds"), [
    (False, (-17.7222222222, -50.8034257165, 15.3589812720), 0.211121631464,
     (12.6009867811, 11.0386892972, 12.7498773079)),
    (True, (-0.160827658594, -0.465355722928, 0.143700405740), 0.216451768218,
     (0.111960068065, 0.110411921282, 0.131763236625)),
])
def test_two_levels_as_lme_of_oats(log, fixed, p, sds):
    """lme(yield ~ half + factor(nitro), random = ~ 1 | Block/Variety, Oats), and of log(yield)."""
    renamed = OATS.rename(columns={"Variety": "side", "nitro": "muscle", "Block": "subject"})
    row = mixed_model(renamed, value="yield", group="half", log=log).iloc[0]
    assert (row.difference, row.low, row.high) == pytest.approx(fixed, rel=1e-4)
    assert row.p == pytest.approx(p, rel=1e-4) and row.df == 4
    assert (row.sd_subject, row.sd_side, row.sd_residual) == pytest.approx(sds, rel=1e-4)
    assert "random intercepts of subject and of side within subject" in row.method
    assert row.ratio == pytest.approx(np.exp(fixed[0])) if log else np.isnan(row.ratio)


def test_three_groups_and_uneven_rows_as_lme_of_pixel():
    """lme(log(pixel) ~ g + factor(day), random = ~ 1 | Dog/Side, Pixel), and with + w, constant in each dog."""
    known = {"value": "pixel", "group": "g", "subject": "Dog", "within": ("Side", "day")}
    rows = mixed_model(PIXEL, **known).set_index("group")
    assert rows.loc["b", ["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [0.0382994076928, 0.00781473547165, 0.0687840799140, 2.07843034420e-02], rel=1e-5)
    assert rows.loc["c", ["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [0.0379576017183, 0.00916682277739, 0.0667483806592, 1.69025753946e-02], rel=1e-5)
    assert rows.loc["c", ["sd_subject", "sd_Side", "sd_residual"]].tolist() == pytest.approx(
        [0.0115609754146, 0.0144725948822, 0.0106182213569], rel=1e-5)
    assert np.isnan(rows.sd_side["b"]) and rows.df["b"] == 7 and rows.covariates["b"] == ""
    shuffled = mixed_model(PIXEL.sample(frac=1, random_state=1), **known).set_index("group")
    pd.testing.assert_frame_equal(shuffled, rows, rtol=1e-6)
    weighed = mixed_model(PIXEL, covariates=["w"], **known).set_index("group")
    assert weighed.loc["b", ["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [0.04760750931293, 0.02000503016353, 0.0752099884623, 5.55927596761e-03], rel=1e-5)
    assert weighed.df["b"] == 6 and weighed.covariates["b"] == "w"


def muscles(rng, n=12, sd_subject=0.1, sd_side=0.05, sides=("L", "R"), sessions=(1,), shift=0.0):
    """Rows of n subjects by session, side and muscle; half of the subjects are IIM."""
    table = pd.MultiIndex.from_product([range(n), sessions, sides, list("abcd")],
                                       names=["subject", "session", "side", "muscle"]).to_frame(index=False)
    limb = table.subject * 10 + table.side.eq("R") + 2 * table.session
    log = np.log(40) + rng.normal(0, sd_subject, n)[table.subject] + rng.normal(0, sd_side, 10 * n)[limb]
    group = np.where(table.subject < n // 2, "HC", "IIM")
    return table.assign(group=group, t2_ms=np.exp(log + shift * (group == "IIM") + rng.normal(0, 0.1, len(table))))


def deviance(table, within, variances):
    """−2 log restricted likelihood, all rows in one matrix."""
    y = np.log(table.t2_ms.to_numpy())
    x = pd.get_dummies(table[["group", "muscle"]], drop_first=True).astype(float).assign(one=1.0).to_numpy()
    v = variances[-1] * np.eye(len(y))
    for depth, variance in enumerate(variances[:-1]):
        codes = table.groupby(["subject", *within[:depth]]).ngroup().to_numpy()
        v += variance * np.equal.outer(codes, codes)
    inverse = np.linalg.inv(v)
    information = x.T @ inverse @ x
    rest = y - x @ np.linalg.solve(information, x.T @ inverse @ y)
    return np.linalg.slogdet(v)[1] + np.linalg.slogdet(information)[1] + rest @ inverse @ rest


def test_variances_of_three_levels_are_where_the_likelihood_is_highest():
    rng = np.random.default_rng(6)
    table = muscles(rng, sessions=(1, 2), sd_side=0.08)
    table = table.assign(t2_ms=table.t2_ms * np.exp(rng.normal(0, 0.15, (12, 2))[table.subject, table.session - 1]))
    table = table.sample(frac=0.8, random_state=0)
    within = ("session", "side", "muscle")
    row = mixed_model(table, within=within).iloc[0]
    found = np.array([row.sd_subject, row.sd_session, row.sd_side, row.sd_residual]) ** 2
    least = deviance(table, within, found)
    assert found.min() > 0
    for level in range(4):
        for factor in (0.97, 1.03):
            assert deviance(table, within, np.where(np.arange(4) == level, factor, 1) * found) > least


def test_a_variance_of_zero_is_said_and_leaves_least_squares():
    table = muscles(np.random.default_rng(2))
    logs = np.log(table.t2_ms)
    centred = logs - logs.groupby([table.subject, table.side]).transform("mean") + 0.02 * table.group.eq("IIM")
    row = mixed_model(table.assign(t2_ms=np.exp(centred))).iloc[0]
    assert row.note == "the variance of subject is at its boundary, zero; the variance of side is at its boundary, zero"
    plain = ancova(table.assign(t2_ms=np.exp(centred)).drop(columns="subject"), covariates="muscle", errors="ordinary")
    se = (row.high - row.difference) / stats.t.ppf(0.975, 10)
    assert se == pytest.approx((plain.high[0] - plain.difference[0]) / stats.t.ppf(0.975, plain.df[0]), rel=1e-4)
    assert row.difference == pytest.approx(0.02) and row.icc_subject == pytest.approx(0, abs=1e-5)


def test_balanced_muscles_come_to_a_comparison_of_subject_means():
    """Of complete rows without boundary the group effect is Student's t test of the means of subjects."""
    table = muscles(np.random.default_rng(7), shift=0.1)
    row = mixed_model(table).iloc[0]
    means = np.log(table.t2_ms).groupby([table.group, table.subject]).mean()
    expected = stats.ttest_ind(means["IIM"], means["HC"])
    limits = expected.confidence_interval()
    assert [row.difference, row.p, row.low, row.high] == pytest.approx(
        [means["IIM"].mean() - means["HC"].mean(), expected.pvalue, limits.low, limits.high], rel=1e-5)
    assert mixed_model(table, reference="IIM").difference[0] == pytest.approx(-row.difference)


def test_intervals_of_mixed_models_cover_what_they_promise():
    """Of 250 uneven samples the interval holds the true effect in about 95 of 100; so do few variances of zero."""
    rng = np.random.default_rng(9)
    held = 0
    for _ in range(250):
        table = muscles(rng, shift=0.05)
        row = mixed_model(table[rng.random(len(table)) < 0.8]).iloc[0]
        held += row.low < 0.05 < row.high
    assert 0.91 < held / 250 < 0.985


def test_rows_that_lack_something_are_left_out_and_counted():
    table = muscles(np.random.default_rng(1))
    holes = table.assign(t2_ms=table.t2_ms.where(table.index % 7 > 0), side=table.side.where(table.index != 1))
    row = mixed_model(holes).iloc[0]
    assert (row.n_rows, row.n_missing, row.n_subjects) == (holes.notna().all(axis=1).sum(), 15, 12)
    assert row.difference == mixed_model(holes.dropna()).difference[0]
    one = mixed_model(table[table.muscle == "a"], within=("side",)).iloc[0]
    assert np.isnan(one.sd_side) and one.n_rows == 24
    older = mixed_model(table.assign(age=table.subject + 20.0), covariates="age").iloc[0]
    assert "age does not overlap between IIM and HC" in older.note and older.df == 9


def test_values_that_do_not_vary_give_no_model_but_a_note():
    table = muscles(np.random.default_rng(1))
    sides = table.side.map({"L": 1, "R": 2.5})
    for values in (pd.Series(40.0, table.index), 40.0 + table.subject, table.subject + sides):
        row = mixed_model(table.assign(t2_ms=values)).iloc[0]
        assert np.isnan([row.difference, row.low, row.p, row.sd_subject, row.sd_residual, row.icc_subject]).all()
        assert "nothing varies within one side" in row.note
    tied = mixed_model(table.assign(t2_ms=table.t2_ms.round(-1))).iloc[0]
    assert np.isfinite([tied.difference, tied.low, tied.sd_residual]).all()


@pytest.mark.parametrize(("change", "options", "words"), [
    (lambda t: pd.concat([t, t.head(3)]), {}, r"3 rows that repeat \['subject', 'side', 'muscle'\]"),
    (lambda t: t, {"within": "muscle"}, "48 rows that repeat"),
    (lambda t: t.assign(group=np.where(t.index == 0, "IIM", t.group)), {}, "1 subjects with more than one 'group'"),
    (lambda t: t[t.subject < 7], {}, "'IIM': 1"), (lambda t: t[t.group == "HC"], {}, "the groups"),
    (lambda t: t[t.side == "L"], {}, "'subject': 12, 'side': 12, 'row': 48"),
    (lambda t: t[t.muscle == "a"], {}, "'side': 24, 'row': 24"),
    (lambda t: t[(t.muscle == "a") & (t.side == "L")], {"within": ()}, "'subject': 12, 'row': 12"),
    (lambda t: t.assign(site=t.subject.map(str) + "s"), {"covariates": "site"}, "'site' is constant or fixed"),
    (lambda t: t[t.subject.isin([0, 1, 6, 7])].assign(a=lambda t: t.subject % 2, b=lambda t: t.subject // 7 + 0.0),
     {"covariates": ["a", "b"]}, "4 subjects for 4 coefficients between them"),
    (lambda t: t.assign(t2_ms=t.t2_ms - 40), {}, "not above 0"), (lambda t: t, {"reference": "DM"}, "no 'DM'"),
    (lambda t: t, {"within": ("side", "thigh")}, "no column"), (lambda t: t, {"level": 0}, "above 0 and below 1"),
], ids=["repeated", "no side", "torn", "one subject", "one group", "one side", "one muscle", "one row", "collinear",
        "no df", "no logarithm", "reference", "column", "level"])
def test_refusals_of_mixed_models(change, options, words):
    with pytest.raises(StatsError, match=words):
        mixed_model(change(muscles(np.random.default_rng(0))), **options)


def growth(table):
    means = table.groupby("Sex").distance.mean()
    return {"mean": table.distance.mean(), "slope": np.polyfit(table.age, table.distance, 1)[0],
            "difference": means["Male"] - means["Female"]}


@pytest.mark.parametrize(("strata", "low", "high"), [
    (None, (23.202, 0.5346, 0.7988), (24.853, 0.8054, 3.8608)),
    ("Sex", (23.327, 0.5416, 0.8708), (24.738, 0.7938, 3.8094)),
], ids=["plain", "by sex"])
def test_percentiles_as_boot_of_whole_orthodont_subjects(strata, low, high):
    """boot(ids, function(ids, i) { d <- do.call(rbind, split(O, O$Subject)[ids[i]]); ... }, 4000), boot.ci "perc".

    The limits are means of the seeds 1 to 3, which lie up to 0.03, 0.004 and 0.1 apart.
    """
    rows = cluster_bootstrap(ORTHODONT, growth, subject="Subject", strata=strata, n_resamples=1500)
    assert rows.statistic.tolist() == ["mean", "slope", "difference"]
    assert rows.estimate.to_numpy() == pytest.approx([24.0231481481, 0.6601851852, 2.3210227273])
    for j, near in enumerate((0.06, 0.012, 0.15)):
        assert (rows.low[j], rows.high[j]) == pytest.approx((low[j], high[j]), abs=near)
    assert rows.loc[0, ["n_subjects", "n_rows", "n_missing", "n_failed", "note"]].tolist() == [27, 108, 0, 0, ""]
    assert ("within Sex" in rows.method[0]) == (strata is not None)
    again = cluster_bootstrap(ORTHODONT, growth, subject="Subject", strata=strata, n_resamples=1500)
    pd.testing.assert_frame_equal(rows, again)


def test_one_row_per_subject_is_the_plain_bootstrap():
    """Of the differences of sleep; boot gives 0.94 to 2.370, 0.96 to 2.38 and 0.96 to 2.40 (10 000, seeds 1 to 3)."""
    values = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    table = pd.DataFrame({"subject": list("abcdefghij"), "extra": values})
    row = cluster_bootstrap(table, lambda t: t.extra.mean(), n_resamples=4000).iloc[0]
    assert row.statistic == "statistic" and row.estimate == pytest.approx(1.58) and "short" in row.note
    assert (row.low, row.high) == pytest.approx((0.953, 2.383), abs=0.05)
    other = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert (row.low, row.high) == pytest.approx((other.low, other.high), abs=0.05)


def test_subjects_keep_their_rows_and_count_anew():
    table = pd.DataFrame({"subject": list("abacbdaa"), "group": list("xyxxyyxx"),
                          "v": [1.0, 20, 2, 300, 40, 5000, 3, 4]})
    whole = {"a": [1, 2, 3, 4], "b": [20, 40], "c": [300], "d": [5000]}
    seen = []

    def watch(sample):
        parts = sample.groupby("subject").v.apply(list).tolist()
        assert all(part in whole.values() for part in parts) and len(parts) == 4
        assert sample.index.tolist() == list(range(len(sample))) and sample.columns.tolist() == table.columns.tolist()
        assert sample.drop_duplicates("subject").group.tolist().count("x") == 2
        seen.append(str(sorted(parts)))
        return pd.Series({"n": len(sample), "sum": sample.v.sum()})

    rows = cluster_bootstrap(table, watch, strata="group", n_resamples=400)
    assert len(set(seen)) == 9 and rows.estimate.tolist() == [8, 5370]  # three of a and c by three of b and d
    lone = cluster_bootstrap(table, lambda t: t.v.sum(), strata="group").iloc[0]
    assert (lone.low, lone.high) == (140, 10_600)  # the least and the most that nine ways allow


def test_intervals_of_few_rows_per_subject_are_wider_than_of_loose_rows():
    """Four rows per subject that agree: the standard error of the mean is that of subjects, as in theory."""
    rng = np.random.default_rng(4)
    subject = np.repeat(np.arange(40), 4)
    table = pd.DataFrame({"subject": subject, "v": rng.standard_normal(40)[subject] + 0.1 * rng.standard_normal(160)})
    row = cluster_bootstrap(table, lambda t: t.v.mean(), n_resamples=1500).iloc[0]
    se = table.groupby("subject").v.mean().std(ddof=0) / np.sqrt(40)
    assert row.high - row.low == pytest.approx(2 * 1.96 * se, rel=0.08)


def test_failed_resamples_are_counted_and_left_out():
    table = pd.DataFrame({"subject": np.arange(4), "group": list("aabb"), "v": [1.0, 2, 3, 4]})

    def difference(sample):
        if sample.group.nunique() < 2:
            raise StatsError("one group")
        return sample[sample.group == "b"].v.mean() - sample[sample.group == "a"].v.mean()

    row = cluster_bootstrap(table, difference, n_resamples=1000).iloc[0]
    assert row.n_failed / 1000 == pytest.approx(2 / 16, abs=0.04) and f"{row.n_failed} resamples" in row.note
    loud = cluster_bootstrap(table, lambda t: np.corrcoef(t.group == "a", t.v)[0, 1], n_resamples=200).iloc[0]
    assert loud.n_failed > 0 and np.isfinite([loud.low, loud.high]).all()
    holes = pd.concat([table, pd.DataFrame({"subject": [None], "v": [1e6]})])
    assert cluster_bootstrap(holes, lambda t: t.v.mean(), n_resamples=20).n_missing[0] == 1
    single = cluster_bootstrap(table.assign(group=list("aaab")), lambda t: t.v.mean(), strata="group", n_resamples=20)
    assert "a stratum of one subject" in single.note[0]


def test_refusals_of_the_cluster_bootstrap():
    table = pd.DataFrame({"subject": np.repeat(np.arange(5), 2), "group": list("ab") * 5, "v": np.arange(10.0)})
    for options, words in (({"strata": "group"}, "5 subjects with more than one"), ({"strata": "site"}, "no column"),
                           ({"level": 95}, "level=95"), ({"n_resamples": 0}, "n_resamples=0")):
        with pytest.raises(StatsError, match=words):
            cluster_bootstrap(table, lambda t: t.v.mean(), **options)
    with pytest.raises(StatsError, match="2 subjects"):
        cluster_bootstrap(table.head(4), lambda t: t.v.mean())
    with pytest.raises(StatsError, match=r"no finite \['b'\] in 50"):
        cluster_bootstrap(table, lambda t: {"a": t.v.mean(), "b": np.nan}, n_resamples=50)
    for answer in ("high", None, table, {"a": "high"}):
        with pytest.raises(StatsError, match="no number"):
            cluster_bootstrap(table, lambda t, answer=answer: answer, n_resamples=5)
    with pytest.raises(ZeroDivisionError):  # a mistake is no failed resample
        cluster_bootstrap(table, lambda t: 1 / 0)


def test_the_reference_is_the_smallest_number_or_the_first_category():
    table = pd.DataFrame({"subject": range(8), "t2_ms": [38.0, 39, 40, 41, 44, 45, 47, 43]})
    for groups, names in (([10] * 4 + [9] * 4, [9, 10]),
                          (pd.Categorical(list("mmmmkkkk"), ["m", "none", "k"]), ["m", "k"])):
        row = ancova(table.assign(group=groups)).iloc[0]
        assert [row.reference, row.group] == names
        twice = pd.concat([table.assign(group=groups, muscle=muscle, t2_ms=table.t2_ms * factor)
                           for muscle, factor in (("a", 1), ("b", 1.02))])
        row = mixed_model(twice.assign(t2_ms=twice.t2_ms + np.arange(16) % 3), within="muscle").iloc[0]
        assert [row.reference, row.group] == names


def test_a_statistic_may_write_in_its_table():
    table = pd.DataFrame({"subject": [1, 1, 2, 2, 3, 3, 4, 4], "v": np.arange(10.0, 18)})
    before = table.copy()

    def careless(sample):
        sample["v"] = np.log(sample["v"])
        return sample.v.mean()

    found = cluster_bootstrap(table, careless, n_resamples=50)
    pd.testing.assert_frame_equal(found, cluster_bootstrap(table, lambda t: np.log(t.v).mean(), n_resamples=50))
    pd.testing.assert_frame_equal(table, before)


def test_a_statistic_that_returns_nothing_is_refused():
    table = pd.DataFrame({"subject": range(5), "v": range(5)})
    for nothing in ({}, pd.Series(dtype=float)):
        with pytest.raises(StatsError, match="without any number"):
            cluster_bootstrap(table, lambda t, nothing=nothing: nothing, n_resamples=5)
    with pytest.raises(StatsError, match=r"n_resamples=100\.0"):
        cluster_bootstrap(table, lambda t: t.v.mean(), n_resamples=100.0)
