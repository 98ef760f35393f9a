"""A table in, what the paper reports out: its numbers, files that name nobody, words for tables that will not do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pandas as pd
import pytest

from mrmyo import load_cohort
from mrmyo.__main__ import main
from mrmyo.analysis import AnalysisError, analyse, join_clinical
from mrmyo.analysis_tables import given_table
from mrmyo.stats import hodges_lehmann, mann_whitney, roc, stard

ENZYMES = ["ck_u_l", "alt_u_l", "ast_u_l", "ldh_u_l"]


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """The whole cohort: (folder, tables)."""
    out = tmp_path_factory.mktemp("analysis") / "out"
    return out, analyse(load_cohort(), out, correlates=ENZYMES, compare=["ild", "treatment"], covariates=["age", "sex"],
                        describe=["age", "sex", "subtype"], median=["ck_u_l"], prevalence=0.3, synthetic=True,
                        names={"ck_u_l": "Creatine kinase (U/L)"})


@pytest.fixture
def cohort():
    return load_cohort()


def small(n=12):
    """Patients and controls, half and half, of whom everything is known."""
    rng = np.random.default_rng(3)
    return pd.DataFrame({"subject": [f"P{i:02d}" for i in range(n)], "group": ["IIM", "HC"] * (n // 2),
                         "t2_ms": np.round(rng.normal(40, 4, n), 2), "ck_u_l": np.round(rng.normal(400, 90, n), 1)})


def read(folder):
    """The bytes of every file, streams of PDF unpacked."""
    found = {}
    for path in folder.iterdir():
        content = found[path.name] = path.read_bytes()
        for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL) if path.suffix == ".pdf" else ():
            try:
                found[path.name] += zlib.decompress(stream)
            except zlib.error:
                continue
    return found


def test_the_numbers_are_those_of_the_paper(analysed):
    _, found = analysed
    curve = found["roc"].iloc[0]
    assert [f"{value:.4g}" for value in (curve.auc, curve.cutoff, curve.sensitivity)] == ["0.9859", "36.4", "0.9688"]
    assert curve.specificity == 1
    table = found["correlations"].set_index("x")
    assert [f"{r:.3f}" for r in table.r[ENZYMES]] == ["0.376", "0.306", "0.345", "0.307"]
    assert [f"{p:.3f}" for p in table.p[ENZYMES]] == ["0.003", "0.016", "0.006", "0.015"]
    assert table.n.tolist() == [62] * 4 and table.n_missing.tolist() == [2] * 4
    assert table.loc["ck_u_l", "p_holm"] == pytest.approx(4 * table.p["ck_u_l"])
    assert table.loc["alt_u_l", "p_bh"] == table.loc["ldh_u_l", "p_bh"] == pytest.approx(table.p["alt_u_l"])
    assert found["predictive_values"].ppv.item() == 1.0 and found["adjusted_roc"].covariates.item() == "age, sex"
    assert found["roc_stability"].cutoff.item() == pytest.approx(36.4) and found["notes"].empty


def test_comparisons_are_those_of_the_statistics_among_patients(analysed, cohort):
    patients, row = cohort[cohort.group == "IIM"], analysed[1]["comparisons"].iloc[0]
    tested, apart = (make(patients, group="ild").iloc[0] for make in (mann_whitney, hodges_lehmann))
    assert (row.group_1, row.n_1, row.n_2) == ("ILD", 31, 33) and row.n_tests == 2
    assert (row.p, row.rank_biserial, row.shift_low) == (tested.p, tested.rank_biserial, apart.shift_low)
    assert "Hodges–Lehmann" in row.method and row.method.startswith("Mann–Whitney")


def test_the_first_table_describes_what_was_named_and_nothing_else(analysed):
    table = analysed[1]["table1"]
    assert list(table.columns[3:6]) == ["IIM (n = 64)", "HC (n = 10)", "All (n = 74)"]
    assert list(dict.fromkeys(table.variable)) == ["T2 (ms)", "Age", "Sex", "Subtype", "ILD", "Treatment",
                                                   "Creatine kinase (U/L)", "ALT (U/L)", "AST (U/L)", "LDH (U/L)"]
    assert table.loc[0, "IIM (n = 64)"].startswith("47.4 ± 9.0")
    assert table.statistic[table.variable == "Creatine kinase (U/L)"].item() == "median (Q1–Q3)"


def test_the_checklist_holds_the_computed_facts(analysed, cohort):
    listed = analysed[1]["stard"].set_index("item")
    assert listed.status[["16", "20", "23", "24"]].eq("filled").all() and "0.9859" in listed.answer["24"]
    assert listed.answer["1"] == stard({}).set_index("item").answer["1"]  # what only authors know is left to them


def test_every_file_is_there_and_names_nobody(analysed):
    out, found = analysed
    drawn = ["roc", "strip", *(f"scatter_{name}" for name in ENZYMES), "compare_ild", "compare_treatment"]
    expected = {f"{name}.csv" for name in found if name != "notes"} | {"analysis.html", "analysis.json"}
    expected |= {f"{name}.{ending}" for name in drawn for ending in ("pdf", "svg")}
    assert {path.name for path in out.iterdir()} == expected
    assert set(json.loads((out / "analysis.json").read_text())["files"]) == expected
    for name, content in read(out).items():
        assert b"SYN-" not in content and b"subject-" not in content, name
    for name in found:
        if name != "notes":
            assert list(pd.read_csv(out / f"{name}.csv").columns) == list(found[name].columns)
    assert (out / "table1.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # or Excel shows Â± for ±


def test_figures_are_vectors_one_column_wide(analysed):
    out, _ = analysed
    for path in out.glob("*.pdf"):
        content = path.read_bytes()
        assert not re.search(rb"/Subtype\s*/Image", content)
        assert re.search(rb"/MediaBox \[ ?0 0 252 ", content)  # 3.5 inches
    for path in out.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.attrib["width"] == "252pt" and not root.findall(".//{*}image")
        assert "Synthetic data" in path.read_text(encoding="utf-8")


def test_the_page_holds_everything_itself(analysed):
    page = (analysed[0] / "analysis.html").read_text(encoding="utf-8")
    assert "Research use only" in page and "synthetic" in page and page.count("data:image/png") == 8
    assert not re.search(r'(src|href)="(?!data:)|url\(|<script', page)
    expected = ("0.986", "36.4\u00a0ms", "STARD 2015", "Creatine kinase (U/L)", "input_hash")
    assert all(words in page for words in expected)
    facts = json.loads((analysed[0] / "analysis.json").read_text())
    assert facts["options"]["correlates"] == ENZYMES and facts["packages"]["scipy"] and facts["n_rows"] == 74


def test_the_same_table_gives_the_same_bytes(tmp_path, cohort):
    for name in ("one", "two"):
        analyse(cohort, tmp_path / name, correlates="ck_u_l")
    one, two = (read(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name] and name not in ("analysis.html", "analysis.json")] == []
    assert b"synthetic" not in one["analysis.html"].lower().split(b"<pre>")[0] and b"Synthetic" not in one["roc.svg"]


def test_a_file_and_its_table_are_the_same(tmp_path, cohort):
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    of_file = analyse(tmp_path / "cohort.csv", tmp_path / "out", compare=["ild"])
    of_table = analyse(cohort, tmp_path / "out2", compare=["ild"])
    for name in of_table:
        pd.testing.assert_frame_equal(of_file[name], of_table[name], check_dtype=False)


def write_german(table, path, *, encoding="utf-8-sig", first=""):
    text = table.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    path.write_bytes((first + text).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("first", ["", "sep=;\r\n"], ids=["plain", "sep"])
def test_german_excel_is_read(tmp_path, encoding, first):
    table = small().assign(note="Übergang", session="01")
    found = given_table(write_german(table, tmp_path / "t.csv", encoding=encoding, first=first))
    assert found.t2_ms.tolist() == table.t2_ms.tolist() and found.note[1] == "Übergang"
    assert found.session.tolist() == ["01"] * 12 and found.index.tolist() == list(range(1, 13))


def test_blank_cells_rows_and_columns_at_the_end_are_nothing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("subject;t2_ms;biopsy;;\nA;36,5;none;;\n;;;;\nB;NA;;;\n;;;;\n", encoding="utf-8")
    found = given_table(path)
    assert found.index.tolist() == [1, 3] and list(found.columns) == ["subject", "t2_ms", "biopsy"]
    assert found.t2_ms[1] == 36.5 and found.t2_ms.isna()[3] and found.biopsy[1] == "none" and found.biopsy.isna()[3]


@pytest.mark.parametrize(("content", "says"), [
    (b"PK\x03\x04rest", "Excel workbook"), ("subject,Größe\nA,1\n".encode("cp1252"), "UTF-8"), (b"", "as CSV"),
    (b"subject\nA\n", "one column"), (b"subject,t2_ms,t2_ms\nA,1,2\n", "several columns of the name"),
    (b"subject,,t2_ms\nA,1,2\n", "without a name, number 2"),
    (b"subject,t2_ms\nA,36,4\nB,41.2\nC,39,1\n", "rows 1, 3 have more or fewer fields.*Decimal commas"),
], ids=["excel", "cp1252", "empty", "one-column", "twice", "nameless", "decimal-comma"])
def test_what_is_no_csv_is_told_in_words(tmp_path, content, says):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(AnalysisError, match=says):
        analyse(tmp_path / "t.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_points_beside_decimal_commas_are_no_numbers(tmp_path):
    path = tmp_path / "t.csv"  # 1.961 may be two or two thousand
    path.write_text("subject;group;t2_ms;ck\nA;IIM;44,5;1.961\nB;HC;33,1;90\n", encoding="utf-8")
    with pytest.raises(AnalysisError, match=r"column 'ck' holds numbers with a point \(row 1\)"):
        analyse(path, tmp_path / "out", correlates=["ck"])


@pytest.mark.parametrize(("change", "options", "says"), [
    (lambda t: t.assign(t2_ms=t.t2_ms / 1000), {}, "looks like seconds"),
    (lambda t: t.assign(t2_ms=np.nan), {}, "holds no value in 12 rows"),
    (lambda t: t.assign(subject=["P00", *t.subject[:11]]), {}, "12 rows: rows 1, 2 share"),
    (lambda t: t.assign(subject=[None, *t.subject[1:]]), {}, "no 'subject' in row 1"),
    (lambda t: t.assign(ck_u_l=["<5", *t.ck_u_l[1:]]), {"correlates": ["ck_u_l"]}, r"no numbers \(row 1\)"),
    (lambda t: t.assign(t2_ms=[np.inf, *t.t2_ms[1:]]), {}, r"infinite values \(row 1\)"),
    (lambda t: t.assign(age=["n.b.", *range(11)]), {"covariates": "age"}, r"no numbers \(row 1\)"),
    (lambda t: t, {"positive": "iim"}, "Found no 'iim'.*nearest is 'IIM'"),
    (lambda t: t, {"negative": "Control", "positive": "HC"}, r"Found no 'Control'.*holds \['IIM', 'HC'\]"),
    (lambda t: t, {"score": "T2_ms"}, "no column 'T2_ms'.*nearest is 't2_ms'"),
    (lambda t: t.rename(columns=dict(zip(t.columns, t.astype(str).iloc[0], strict=True))), {},
     "no column 'group'; its first line must name"),
    (lambda t: t, {"correlates": ["subject"]}, "who is who"),
    (lambda t: t, {"compare": ["ck_u_l"]}, "holds 6 different values among 'IIM'; expected two"),
    (lambda t: t.assign(name=t.subject), {"describe": ["name"]}, "as names or remarks do"),
    (lambda t: t, {"cutoff": "best"}, "cutoff='best'"), (lambda t: t, {"prevalence": 30}, "prevalence=30"),
    (lambda t: t, {"positive": "HC"}, "for both groups"), (lambda t: t, {"names": {"ck": "CK"}}, "names= or median="),
    (lambda t: t, {"covariates": ["group"]}, "must differ"),
    (lambda t: t, {"correlates": ["ck_u_l"], "compare": ["ck_u_l"]}, "among both"),
], ids=lambda value: None if callable(value) or isinstance(value, dict) else re.sub(r"\W+", "-", value)[:24])
def test_what_is_wrong_with_the_table_is_refused_before_anything_is_written(tmp_path, change, options, says):
    with pytest.raises(ValueError, match=says) as refused:
        analyse(change(small()), tmp_path / "out", **options)
    assert not re.search(r"P\d\d", str(refused.value)) and not (tmp_path / "out").exists()


def test_one_group_gets_what_one_group_can_have(tmp_path):
    patients = small(24)[lambda t: t.group == "IIM"]
    found = analyse(patients, tmp_path / "out", correlates=["ck_u_l"], covariates=["ck_u_l"])
    assert "roc" not in found and not (tmp_path / "out" / "roc.csv").exists()
    assert found["correlations"].n.item() == 12
    assert list(found["table1"].columns[3:5]) == ["IIM (n = 12)", "All (n = 12)"]
    reasons = dict(found["notes"].to_numpy().tolist())
    assert "two groups" in reasons["roc"] and "two groups" in reasons["adjusted_roc"]
    page = (tmp_path / "out" / "analysis.html").read_text(encoding="utf-8")
    assert "expected exactly two groups" in page and (tmp_path / "out" / "scatter_ck_u_l.pdf").is_file()


def test_a_score_that_never_changes_and_a_column_without_values_leave_the_rest(tmp_path):
    table = small(24).assign(t2_ms=40.0, none=np.nan, ild=["a", "b", "b", "a"] * 6, alone="x")
    found = analyse(table, tmp_path / "out", correlates=["ck_u_l", "none"], compare=["ild", "alone"])
    assert np.isnan(found["roc"].cutoff.item()) and "roc_stability" not in found
    assert found["correlations"].p.isna().all() and found["correlations"].n_tests.eq(0).all()
    assert found["correlations"].note.str.contains("constant|no value").all()
    assert found["comparisons"].note.tolist()[0] == "all values are equal: no test"
    assert "exactly two" in found["comparisons"].note[1]
    assert not (tmp_path / "out" / "scatter_none.svg").exists()


def test_three_subjects_are_too_few_and_the_page_says_so(tmp_path):
    found = analyse(small(4).head(3), tmp_path / "out", correlates=["ck_u_l"], prevalence=0.5)
    assert found["roc"].auc_low.isna().item() and "three of each" in dict(found["notes"].to_numpy())["roc_stability"]
    assert "expected 4 at least" in found["correlations"].note.item()
    assert "expected 4 at least" in (tmp_path / "out" / "analysis.html").read_text(encoding="utf-8")


def test_other_groups_and_rows_without_one_are_left_out_and_told(tmp_path, cohort):
    cohort["group"] = cohort["group"].where(cohort.index > 1, other="DC").where(cohort.index != 73)
    found = analyse(cohort, tmp_path / "out")
    assert found["roc"][["n_positive", "n_negative"]].iloc[0].tolist() == [62, 9]
    assert found["notes"].note.tolist() == ["1 rows without 'group' were left out (row 74).",
                                            "2 rows of other groups were left out (rows 1, 2)."]


def test_groups_may_be_numbers(tmp_path, cohort):
    cohort["group"] = cohort["group"].map({"IIM": 1.0, "HC": 0.0})
    found = analyse(cohort.drop(columns="subject"), tmp_path / "out", positive=1, negative=0)
    assert found["roc"].auc.item() == roc(load_cohort()).auc.item()
    assert "was not checked" in found["notes"].note.item()


def test_an_older_analysis_is_replaced_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    analyse(small(), out, correlates=["ck_u_l"])
    (out / "mine.txt").write_text("mine")
    analyse(small().drop(columns="ck_u_l"), out)
    assert (out / "mine.txt").is_file() and (out / "roc.csv").is_file()
    assert not list(out.glob("scatter_*")) and not (out / "correlations.csv").exists()
    (out / "analysis.json").unlink()
    with pytest.raises(AnalysisError, match="no note of an earlier analysis"):
        analyse(small(), out)
    with pytest.raises(AnalysisError, match=r"the file mine\.txt"):
        analyse(small(), out / "mine.txt")


def test_an_output_is_not_taken_for_input_of_the_same_folder(tmp_path):
    analyse(small(), tmp_path)
    with pytest.raises(AnalysisError, match=r"roc.csv is an output"):
        analyse(tmp_path / "roc.csv", tmp_path, group="positive", positive="IIM", score="auc", key="none")


KILLED = """
import os, sys
import pandas as pd
from mrmyo.analysis import analyse
import mrmyo.figures.pages as pages
pages.write_page = lambda *a, **b: os._exit(9)
analyse(pd.read_csv(sys.argv[1]).assign(t2_ms=lambda t: t.t2_ms + 1), sys.argv[2])
"""


def test_a_kill_midway_leaves_the_older_analysis_whole(tmp_path):
    small().to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "out"
    analyse(small(), out)
    before = read(out)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "t.csv", out], capture_output=True)
    assert done.returncode == 9, done.stderr
    (left,) = out.glob(".partial-*")
    assert (left / "roc.csv").is_file()  # it was at it
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}.keys() == before.keys()
    assert all((out / name).read_bytes() == content[:(out / name).stat().st_size] for name, content in before.items())
    analyse(small(), out)
    assert not list(out.glob(".partial-*"))


def measured(subjects=("P1", "P2", "P3"), session="01"):
    """Rows as `mrmyo.process_cohort` returns them."""
    rows = [{"subject": subject, "session": session, "side": side, "muscle": muscle, "t2_ms": 40 + i + (side == "left")}
            for i, subject in enumerate(subjects) for muscle in ("VL", "whole muscle") for side in ("left", "both")]
    return pd.DataFrame(rows)


def clinical(subjects=("P3", "P1", "P2")):
    return pd.DataFrame({"subject": subjects, "group": ["HC", "IIM", "IIM"], "ck_u_l": [90, 1200, 300]})


def test_measurements_are_joined_with_findings(tmp_path):
    joined = join_clinical(measured(), clinical())
    assert joined.subject.tolist() == ["P1", "P2", "P3"] and joined.t2_ms.tolist() == [40, 41, 42]
    assert joined.group.tolist() == ["IIM", "IIM", "HC"] and joined.attrs["notes"] == []
    measured().to_csv(tmp_path / "rows.csv", index=False)
    findings = write_german(clinical(), tmp_path / "clinical.csv")
    for rows in (tmp_path, tmp_path / "rows.csv"):
        pd.testing.assert_frame_equal(join_clinical(rows, findings), joined, check_dtype=False)
    assert join_clinical(measured(), clinical(), muscle="VL", side="left").t2_ms.tolist() == [41, 42, 43]


def test_rows_of_one_table_only_are_left_out_and_told(tmp_path):
    joined = join_clinical(measured(("P1", "P2", "P9")), clinical())
    assert joined.subject.tolist() == ["P1", "P2"]
    assert joined.attrs["notes"] == [
        "The measured table has 1 of 3 subjects that the other has not (row 12); they were left out.",
        "The clinical table has 1 of 3 subjects that the other has not (row 1); they were left out."]
    found = analyse(joined, tmp_path / "out")
    assert "row 12" in found["notes"].note[0]
    assert "row 12" in (tmp_path / "out" / "analysis.html").read_text(encoding="utf-8")


def test_keys_stay_text(tmp_path):
    for name, table in (("rows", measured(("001", "002", "010"))), ("clinical", clinical(("010", "001", "002")))):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    assert join_clinical(tmp_path, tmp_path / "clinical.csv").subject.tolist() == ["001", "002", "010"]


@pytest.mark.parametrize(("rows", "findings", "options", "says"), [
    (measured(), clinical(("P1", "P1", "P2")), {}, "clinical table has 2 subjects in 3 rows: rows 1, 2 share"),
    (pd.concat([measured(), measured(session="02")]), clinical(), {}, "several visits.*session="),
    (pd.concat([measured(), measured()]), clinical(), {}, "measured table has 3 subjects in 6 rows: rows 4, 8, 12"),
    (measured(), clinical().assign(t2_ms=1), {}, r"both tables have the columns \['t2_ms'\]"),
    (measured(), clinical().assign(ck_u_l=[90, "<5", 300]), {}, r"'ck_u_l' holds 1 entries.*row 2"),
    (measured(), clinical(("p3", "p1", "p2")), {}, "None of the 3 subjects.*capitals only"),
    (measured(), clinical(("P3", None, "P2")), {}, "no 'subject' in row 2"),
    (measured(), clinical().rename(columns={"subject": "Subject"}), {}, "no column 'subject'.*nearest is 'Subject'"),
    (measured(), clinical(), {"muscle": "RF"}, r"no row of muscle 'RF'; it has \['VL', 'whole muscle'\]"),
], ids=["repeated", "visits", "rows-repeated", "same-column", "text", "capitals", "blank", "no-key", "muscle"])
def test_what_cannot_be_joined_is_told_by_row_number(rows, findings, options, says):
    with pytest.raises(AnalysisError, match=f"(?i){says}") as refused:
        join_clinical(rows, findings, **options)
    assert not re.search(r"P\d", str(refused.value))


def test_one_of_several_visits_can_be_chosen():
    rows = pd.concat([measured(), measured(session="02").assign(t2_ms=50.0)])
    assert join_clinical(rows, clinical(), session="02").t2_ms.tolist() == [50.0] * 3


def test_the_command_does_the_same(tmp_path, cohort, capsys):
    rows = cohort[["subject", "t2_ms"]].assign(session="01", side="both", muscle="whole muscle")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    cohort.drop(columns="t2_ms").to_csv(tmp_path / "clinical.csv", index=False)
    command = ["analyse", str(tmp_path), "--clinical", str(tmp_path / "clinical.csv"), "--out", str(tmp_path / "out"),
               "--correlate", "ck_u_l", "ldh_u_l", "--compare", "ild", "--adjust", "age", "sex", "--synthetic"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "0.9859" in told.out and "0.3759" in told.out and "analysis.html" in told.out and "SYN-" not in told.out
    table = pd.read_csv(tmp_path / "out" / "correlations.csv")
    assert table.n_tests.tolist() == [2, 2] and (tmp_path / "out" / "adjusted_roc.csv").is_file()
    assert main([*command, "--cutoff", "41", "--positive", "Iim"]) == 1
    assert capsys.readouterr().err == ("mrmyo: Found no 'Iim' in column 'group'; it holds ['IIM', 'HC']. The nearest "
                                       "is 'IIM'. Set positive= to one.\n")
    assert main([*command, "--cutoff", "41"]) == 0
    assert pd.read_csv(tmp_path / "out" / "roc.csv").cutoff_method.item() == "given"
