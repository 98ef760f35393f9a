"""The whole job at its smallest, killed in the middle and run again, with the notebooks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mrmyo.report import compare_roc
from mrmyo.reproduction import example_study, measured_table, reproduce, run_notebooks
from mrmyo.settings import workspace

SUBJECTS = 3
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A reproduction that was killed once its first subject was done, and then finished."""
    ws = workspace(tmp_path_factory.mktemp("reproduction"))
    command = [sys.executable, "-m", "mrmyo", "reproduce", "--out", ws.root, "--subjects", str(SUBJECTS), "--jobs", "2",
               "--no-notebooks"]
    process = subprocess.Popen(list(map(str, command)), start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (done := list(ws.processed.glob("*/done.json"))) and time.monotonic() < deadline:
        assert process.poll() is None or done, "the reproduction ended before any subject was done"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in ws.processed.glob("*/done.json")}
    with pytest.MonkeyPatch.context() as patch:  # on any machine; a test below shows real images
        patch.delenv("MRMYO_REAL_DATA", raising=False)
        report = reproduce(ws.root, subjects=SUBJECTS, n_jobs=2, progress=False)
    return ws, report, first


def test_resumes_after_a_kill(reproduced):
    ws, _, first = reproduced
    assert first
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in first.items())  # not done again
    summary = pd.read_csv(ws.tables / "summary.csv").set_index("subject").outcome
    assert {path.parent.name for path in first} == set(summary.index[summary == "kept"])
    assert set(summary) <= {"kept", "measured"}
    assert len(summary) == SUBJECTS


def test_dicom_is_deleted_once_processed(reproduced):
    ws, _, _ = reproduced
    left = [path for path in ws.studies.rglob("*.dcm") if not path.parents[1].name.startswith(".partial")]
    assert not left


def test_report_is_one_file_and_says_what_it_is(reproduced):
    ws, report, _ = reproduced
    page = report.read_text()
    assert "Research use only" in page and "synthetic" in page
    assert page.count("data:image/png;base64,") >= 3
    assert not re.search(r'(src|href)="(?!data:)|url\(|<script', page)
    for name in ("roc", "accuracy", "examples"):
        assert (ws.figures / f"{name}.png").is_file() and (ws.figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "Every printed number that depends on T2" in page and (ws.tables / "numbers.csv").is_file()
    facts = json.loads((ws.tables / "provenance.json").read_text())
    assert facts["seed"] and facts["model_hash"] in page and facts["packages"]["numpy"] in page


def test_what_three_subjects_cannot_give_is_said(reproduced):
    measured = measured_table(reproduced[0])
    assert measured.group.value_counts().to_dict() == {"IIM": 2, "HC": 1}
    table = compare_roc(measured).set_index("source")
    through = table.loc["measured through the pipeline"]
    assert pd.isna(through.auc_low) and "DeLong" in through.note
    one_group = compare_roc(measured[measured.group == "IIM"]).set_index("source")
    assert "only the group IIM" in one_group.note["synthetic cohort table"]


def test_printed_numbers_stand_beside(reproduced):
    printed = compare_roc(measured_table(reproduced[0])).iloc[0]
    found = [printed.auc, printed.cutoff_ms, printed.sensitivity, printed.specificity]
    assert found == pytest.approx([0.986, 36.4, 0.969, 1.0])


def test_notebooks_ran_without_an_error_and_stay_small(reproduced):
    ws, _, _ = reproduced
    executed = sorted(ws.notebooks.glob("*.ipynb"))
    assert [path.name for path in executed] == [
        "00_tour.ipynb", "01_data.ipynb", "02_segmentation.ipynb", "03_review_masks.ipynb", "04_align_to_t2.ipynb",
        "05_t2_fitting.ipynb", "06_healthy_vs_iim_roc.ipynb", "07_enzyme_correlations.ipynb", "08_ild_and_ass.ipynb",
        "09_case.ipynb", "10_paper_audit.ipynb", "11_beyond_the_paper.ipynb", "12_your_own_patients.ipynb"]
    for path in executed:
        assert path.stat().st_size < (2_500_000 if path.name.startswith("02") else 1_500_000)  # noise hardly compresses
        notebook = nbformat.read(path, as_version=4)
        assert "widgets" not in notebook.metadata
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error"]
        assert any("image/png" in output.get("data", {}) for output in outputs)


def sliders_of(path):
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    return [output.data for output in outputs if "Knobs(" in output.get("data", {}).get("text/plain", "")]


def test_sliders_leave_their_picture_in_executed_notebooks(reproduced):
    ws, _, _ = reproduced
    for path in ws.notebooks.glob("*.ipynb"):
        for data in sliders_of(path):
            assert set(data) == {"text/plain", "image/png"}
    assert len(sliders_of(ws.notebooks / "02_segmentation.ipynb")) == 2
    assert len(sliders_of(ws.notebooks / "04_align_to_t2.ipynb")) == 1
    assert len(sliders_of(ws.notebooks / "05_t2_fitting.ipynb")) == 1


@pytest.mark.realdata
def test_notebooks_show_real_images_where_there_are_some(reproduced, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MRMYO_REAL_DATA", str(real_data))
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for name in ("01_data.ipynb", "02_segmentation.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, notebooks)
    before = {path.name: n_pictures(path) for path in reproduced[0].notebooks.glob("0[12]*.ipynb")}
    ws = workspace(tmp_path / "results")
    ws.root.mkdir()
    (ws.root / "examples").symlink_to(reproduced[0].root / "examples")  # simulated already
    for path in run_notebooks(ws, folder=notebooks, progress=False):
        assert n_pictures(path) >= before[path.name] + 3
        assert path.stat().st_size < 3_500_000


def n_pictures(path):
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_an_example_is_simulated_once(reproduced, monkeypatch):
    ws = reproduced[0]
    monkeypatch.setattr("mrmyo.reproduction.simulate_study", lambda *_: pytest.fail("it was there already"))
    study, truth_dir, truth = example_study("SYN-IIM-08", ws)
    assert json.loads((truth_dir / "truth.json").read_text()) == truth and len(list(study.rglob("*.dcm"))) > 100
    with pytest.raises(ValueError, match="SYN-X"):
        example_study("SYN-X", ws)


def test_measured_table_before_anything_was_measured(tmp_path):
    with pytest.raises(FileNotFoundError, match="make reproduce"):
        measured_table(workspace(tmp_path))


def test_muscles_of_both_sides_are_counted_together(reproduced):
    ws, report, _ = reproduced
    rows = pd.read_csv(ws.tables / "rows.csv").merge(pd.read_csv(ws.tables / "measured.csv")[["subject", "group"]])
    control = rows[(rows.group == "HC")].set_index(["muscle", "side"]).volume_ml
    page = report.read_text()
    for muscle in ("whole muscle", "vastus lateralis"):
        volume = control[muscle, "left"] + control[muscle, "right"]
        cells = re.search(rf"<td>HC</td><td>{muscle}</td>(.*?)</tr>", page, re.S).group(1)
        assert f">{volume:.2f}<" in cells
