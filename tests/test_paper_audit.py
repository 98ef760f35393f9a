"""The audit of printed numbers: claims worked out by hand, this paper, made-up tables with and without errors."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrmyo.paper_audit import AuditError, audit, common_n, window
from mrmyo.paper_claims import EXPECTED, audit_paper, enzyme_n, printed_claims

SOURCE = Path(__file__).resolve().parents[2] / "shared" / "paper" / "consistency_audit.csv"


@pytest.mark.parametrize(("text", "low", "high"), [
    ("0.376", 0.3755, 0.3765), (".05", 0.045, 0.055), ("48 %", 47.5, 48.5), ("−0.12", -0.125, -0.115),
    ("-3", -3.5, -2.5), ("<0.001", 0, 0.001), (">0.2", 0.2, math.inf), ("100", 99.5, 100.5), (36, 35.5, 36.5),
])
def test_a_printed_number_stands_for_what_rounds_to_it(text, low, high):
    assert window(text) == pytest.approx((low, high), abs=1e-9)


def test_what_is_no_number_is_refused():
    for text in ("", "n.s.", "1:1.5", "0.3–0.4", None):
        with pytest.raises(AuditError, match="expected a number"):
            window(text)
    with pytest.raises(AuditError, match="as text"):
        window(0.3)  # was it 0.30?


def one(**claim):
    return audit([{"claim": "a", **claim}]).iloc[0]


@pytest.mark.parametrize(("claim", "fits"), [
    # Brown and Heathers' example: a mean of 3.45 of 20 people is possible, of 19 it is not
    ({"kind": "mean of whole numbers", "mean": "3.45", "n": 20}, True),
    ({"kind": "mean of whole numbers", "mean": "3.45", "n": 19}, False),
    ({"kind": "mean of whole numbers", "mean": "5.19", "n": 28}, False),  # their figure 1
    ({"kind": "mean of whole numbers", "mean": "5.18", "n": 28}, True),
    ({"kind": "mean of whole numbers", "mean": "2.25", "n": 2, "step": 0.5}, True),
    ({"kind": "percentage", "percent": "48.4", "count": 31, "n": 64}, True),
    ({"kind": "percentage", "percent": "48.5", "count": 31, "n": 64}, False),
    ({"kind": "sum", "parts": ["12", "14"], "total": "27"}, False),
    ({"kind": "sum", "parts": ["12.4", "14.4"], "total": "27"}, True),
    ({"kind": "z and p", "z": "1.96", "p": "0.050"}, True), ({"kind": "z and p", "z": "-1.96", "p": "0.048"}, False),
    ({"kind": "z and p", "z": "4.1", "p": "<0.001"}, True), ({"kind": "z and p", "z": "2.1", "p": "<0.001"}, False),
    ({"kind": "auc", "auc": "0.986", "n_1": 64, "n_2": 10}, True),
    ({"kind": "auc", "auc": "0.86", "n_1": 3, "n_2": 4}, False),  # 10 of 12 are 0.83, 10.5 are 0.88
    ({"kind": "combined", "groups": [(2, "1", "0"), (2, "3", "0")], "mean": "2", "sd": "1.15"}, True),
    ({"kind": "combined", "groups": [(20, "1.00", "0.50"), (20, "3.00", "0.50")], "mean": "2.5"}, False),
    ({"kind": "largest", "n": 10, "mean": "33.9", "sd": "0.9", "value": "36.4"}, True),
    ({"kind": "largest", "n": 10, "mean": "33.9", "sd": "0.9", "value": "36.8"}, False),
    ({"kind": "below", "n": 10, "mean": "33.9", "sd": "0.9", "limit": "36.4"}, True),
    ({"kind": "below", "n": 10, "mean": "33.9", "sd": "0.9", "limit": "34.0"}, False),
    ({"kind": "within", "value": "44", "low": "19", "high": "72"}, True),
    ({"kind": "within", "value": "80", "low": "19", "high": "72"}, False),
    ({"kind": "product", "parts": ["2", "5"], "total": "10"}, True),
    ({"kind": "product", "parts": ["2", "5"], "total": "6"}, False),
    ({"kind": "ratio", "parts": ["26", "38"], "ratio": "1.5"}, True),
    ({"kind": "ratio", "parts": ["26", "38"], "ratio": "1.6"}, False),
    ({"kind": "direction", "r": "0.3", "more": "50.1", "less": "45.0"}, True),
    ({"kind": "direction", "r": "-0.3", "more": "50.1", "less": "45.0"}, False),
    ({"kind": "direction", "r": "-0.3", "more": "50", "less": "50"}, True),
    ({"kind": "cover", "low": 0, "high": 10, "ranges": [[0, 4], [5, 10]]}, False),
    ({"kind": "cover", "low": 0, "high": 10, "ranges": [[0, 12]]}, True),
    ({"kind": "same total", "left": [(31, "4.8")], "right": [(8, "4.75"), (53, "2.11")]}, True),
    ({"kind": "same total", "left": [(31, "4.8")], "right": [(8, "4.75"), (56, "2.11")]}, False),
])
def test_claims_worked_out_by_hand(claim, fits):
    assert one(**claim).consistent == fits


def test_mann_whitney_finds_the_u_that_scipy_gives():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 33), rng.normal(0.5, 1, 31)
    for correction, name in ((False, "without"), (True, "with")):
        found = stats.mannwhitneyu(a, b, use_continuity=correction, method="asymptotic")
        u = min(found.statistic, 33 * 31 - found.statistic)
        row = one(kind="mann-whitney", n_1=33, n_2=31, p=f"{found.pvalue:.5f}")
        assert row.consistent and f"U {u:g} {name} continuity correction" in row.recomputed
    assert not one(kind="mann-whitney", n_1=3, n_2=3, p="0.020").consistent  # three and three cannot be so far apart


def test_the_n_that_would_fit_is_told():
    assert one(kind="correlation", r="0.376", p="0.003").n_consistent == "59–62"
    assert one(kind="percentage", percent="96.9", count=62).n_consistent == "64"
    two = [{"kind": "correlation", "r": "0.376", "p": "0.003"}, {"kind": "correlation", "r": "0.307", "p": "0.015"}]
    assert common_n(two) == [62]


def test_what_cannot_be_read_is_refused_by_name():
    for claim, words in (({"kind": "anova"}, "expected one of"), ({"kind": "auc", "auc": "0.9"}, "lacks 'n_1'"),
                         ({"kind": "z and p", "z": "two", "p": "0.05"}, "expected a number"),
                         ({"kind": "sum", "parts": "12", "total": None}, "cannot be read"),
                         ({"kind": "correlation", "r": "0.35", "p": "0.02", "N": 10}, r"holds \['N'\]"),
                         ({"kind": "mann-whitney", "n_1": 64, "n_2": 10}, "nothing to check"),
                         ({"kind": "correlation", "r": "1.35", "p": "0.02"}, "−1 to 1"),
                         ({"kind": "auc", "auc": "98.6 %", "n_1": 64, "n_2": 10}, "0 to 1"),
                         ({"kind": "ratio", "parts": ["0", "3"], "ratio": "1"}, "cannot be read")):
        with pytest.raises(AuditError, match=words):
            audit([{"claim": "Table 9", **claim}])
    assert audit([]).empty
    for claims in ({"claim": "a", "kind": "auc"}, ["a"], [{"kind": "auc"}]):
        with pytest.raises(AuditError, match="expected a"):
            audit(claims)


def test_exact_p_of_few_subjects_is_not_doubted():
    a, b = [1.0, 2, 3, 4, 5, 8], [6.0, 7, 9, 10, 11]
    p = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert one(kind="mann-whitney", n_1=6, n_2=5, p=f"{p:.4f}").recomputed.endswith("exactly")
    row = one(kind="correlation", r="0.9", p="0.083", n=5)  # 10 of 120 orders
    assert row.consistent and "may be exact" in row.recomputed


def test_of_this_paper_just_the_known_contradictions_are_found():
    table = audit_paper().set_index("claim")
    assert set(table.index[~table.consistent]) == set(EXPECTED)
    assert enzyme_n() == [62]
    found = table.n_consistent
    assert {name: found[f"T2 with {name}"] for name in ("age", "CK", "ALT", "AST", "LDH", "disease duration")} == {
        "age": "63–64", "CK": "59–62", "ALT": "61–62", "AST": "61–63", "LDH": "62–63", "disease duration": "64"}
    assert found["T2 with the ILD score"] == "61" and found["ILD scores by ILD and by ASS"] == "53"
    assert table.recomputed["AUC"] == "631 of 640 pairs" and "U 395 without" in table.recomputed["T2 by ILD"]
    assert "U 186 without" in table.recomputed["T2 by ASS"]


@pytest.mark.skipif(not SOURCE.is_file(), reason="the audit that came with the paper is not beside the checkout")
def test_the_audit_that_came_with_the_paper_finds_no_more():
    """Every verdict of the person who audited it by hand, against ours."""
    ours = {"CK rs": "T2 with CK", "ALT rs": "T2 with ALT", "AST rs": "T2 with AST", "LDH rs": "T2 with LDH",
            "Age rs": "T2 with age", "Duration rs": "T2 with disease duration",
            "DM 12+14": "dermatomyositis, definite and probable", "PM 14+15": "polymyositis, definite and probable",
            "acq time": "acquisition time of the T2 map", "acceleration": "acceleration of the T2 map",
            "Fig 3 T2": "T2 of the patient of Fig. 3", "ILD extent grades": "grades of the extent of ILD",
            "rs +.226": "T2 with the ILD score, and T2 by ILD", "AUC": "AUC", "Sens": "sensitivity",
            "Z=2.556": "ILD score by ASS", "Z=.771": "T2 by ASS", "T2 ILD p": "T2 by ILD",
            "Cutoff": "controls below the cutoff",
            "T2 means by ILD": "T2 by ILD, and T2 of all", "ILD means": "ILD scores by ILD and by ASS",
            "21/22": "normal CK with a T2 above the cutoff", "31/64": "patients with ILD",
            "ILD score rs": "T2 with the ILD score", "four enzymes": None}
    table = audit_paper().set_index("claim")
    with open(SOURCE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 24
    for row in rows:
        (name,) = [claim for start, claim in ours.items() if row["claim"].startswith(start)]
        if name is None:
            assert enzyme_n() == [62] and "62" in row["n_consistent"]
            continue
        doubted = any(word in row["verdict"] for word in ("inconsistent", "contradiction", "unclassified", "negative",
                                                          "undefined"))
        assert table.consistent[name] == (not doubted), row["claim"]


def generated(seed):
    """Claims of a made-up study, every number computed from its subjects and printed with the usual decimals."""
    rng = np.random.default_rng(seed)
    n_1, n_2 = int(rng.integers(15, 70)), int(rng.integers(8, 60))
    n = n_1 + n_2
    group = np.arange(n) < n_1
    score = rng.poisson(rng.uniform(1, 8), n)
    t2 = rng.normal(40, 6, n) + 4 * group + 0.4 * score
    r = stats.spearmanr(score, t2).statistic
    p = 2 * stats.t.sf(abs(r) * np.sqrt((n - 2) / (1 - r**2)), n - 2)
    u = stats.mannwhitneyu(t2[group], t2[~group], use_continuity=False, method="asymptotic")
    z = (u.statistic - n_1 * n_2 / 2) / np.sqrt(n_1 * n_2 * (n + 1) / 12)
    ill = int((score > np.median(score)).sum())
    of = {"a": t2[group], "b": t2[~group]}
    return [
        {"claim": "r", "kind": "correlation", "r": f"{r:.3f}", "p": "<0.001" if p < 0.001 else f"{p:.3f}", "n": n},
        {"claim": "u", "kind": "mann-whitney", "n_1": n_1, "n_2": n_2, "z": f"{z:.3f}",
         "p": "<0.001" if u.pvalue < 0.001 else f"{u.pvalue:.3f}"},
        {"claim": "z", "kind": "z and p", "z": f"{z:.3f}", "p": "<0.001" if u.pvalue < 0.001 else f"{u.pvalue:.3f}"},
        {"claim": "mean", "kind": "mean of whole numbers", "mean": f"{score.mean():.2f}", "n": n},
        {"claim": "percent", "kind": "percentage", "percent": f"{100 * ill / n:.1f}", "count": ill, "n": n},
        {"claim": "sum", "kind": "sum", "parts": [str(ill), str(n - ill)], "total": str(n)},
        {"claim": "all", "kind": "combined", "mean": f"{t2.mean():.1f}", "sd": f"{t2.std(ddof=1):.1f}",
         "groups": [(v.size, f"{v.mean():.1f}", f"{v.std(ddof=1):.1f}") for v in of.values()]},
        {"claim": "auc", "kind": "auc", "auc": f"{u.statistic / (n_1 * n_2):.3f}", "n_1": n_1, "n_2": n_2},
        {"claim": "largest", "kind": "largest", "n": n, "mean": f"{t2.mean():.1f}", "sd": f"{t2.std(ddof=1):.1f}",
         "value": f"{t2.max():.1f}"},
    ]


@pytest.mark.parametrize("seed", range(20))
def test_tables_without_errors_raise_no_alarm(seed):
    table = audit(generated(seed))
    assert table.consistent.all(), table[~table.consistent].to_string()


@pytest.mark.parametrize("seed", range(100, 120))
def test_planted_errors_are_all_found(seed):
    """One or more slips of the kinds that papers hold, each too large to be rounding."""
    claims, rng = {claim["claim"]: claim for claim in generated(seed)}, np.random.default_rng(seed)
    n = claims["mean"]["n"]

    def shift(name, key, by):
        claims[name][key] = f"{float(claims[name][key]) + by:.{len(claims[name][key].partition('.')[2])}f}"

    slips = {
        "sum": lambda: claims["sum"].update(total=str(n + int(rng.choice([-1, 1])))),
        "percent": lambda: shift("percent", "percent", 100 / n),  # of one subject more
        "all": lambda: shift("all", "mean", rng.choice([-6.0, 6.0])),
        "largest": lambda: shift("largest", "value", 10 * float(claims["largest"]["sd"]) + n),
        "z": lambda: claims["z"].update(z=f"{float(claims['z']['z']) * 1.5 + 1:.3f}", p="0.400"),
        "u": lambda: claims["u"].update(z="0.500", p="0.040"),
        "r": lambda: claims["r"].update(r="0.300", p=f"{2 * stats.norm.sf(0.3 * math.sqrt(n) + 0.6):.3f}"),
    }
    if n < 100:  # a mean of two decimals tells of its n only below a hundred
        steps = {round(total / n, 2) for total in range(20 * n)}
        slips["mean"] = lambda: claims["mean"].update(
            mean=f"{next(v for v in (1.01 + k / 100 for k in range(400)) if round(v, 2) not in steps):.2f}")
    planted = {str(name) for name in rng.choice(sorted(slips), size=int(rng.integers(1, 4)), replace=False)}
    for name in planted:
        slips[name]()
    table = audit(claims.values()).set_index("claim")
    assert set(table.index[~table.consistent]) == planted


def test_claims_are_data():
    claims = printed_claims()
    assert len({claim["claim"] for claim in claims}) == len(claims) >= 38
    assert isinstance(audit(claims), pd.DataFrame)
