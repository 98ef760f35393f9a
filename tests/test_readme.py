"""Every command that the README shows is run here, or is the very command that runs these tests."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from mrmyo.__main__ import _parser, main
from mrmyo.settings import read_settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


COMMANDS = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
COMMANDS = [command for command in COMMANDS if command]


def test_the_reader_of_the_readme_finds_its_commands():
    words = {command[0] for command in COMMANDS}
    assert {"make", "mrmyo", "python3"} <= words
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "make"], ids=" ".join)
def test_make_targets_lead_to_commands(command):
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(".venv/bin/mrmyo ")]
    for line in lines:  # what make would call, our parser understands; test_reproduction runs it, with fewer subjects
        _parser().parse_args(shlex.split(line)[1:])
    assert lines or ".venv/bin/" in done.stdout


@pytest.fixture(scope="module")
def places(synthetic_study, tmp_path_factory):
    """What the capital words of the README stand for."""
    from mrmyo import read_dicom, read_nifti, write_nifti
    from mrmyo.journal import Journal

    root = tmp_path_factory.mktemp("readme")
    series = read_dicom(synthetic_study[0])
    write_nifti(series.volume("in_phase"), root / "image.nii.gz")
    write_nifti(series.volume("multi_echo"), root / "echoes.nii.gz")
    shutil.copytree(synthetic_study[0], root / "study2")
    for path in (root / "study2").rglob("*.dcm"):  # another visit
        header = pydicom.dcmread(path)
        header.StudyInstanceUID = "1.2.3"
        header.save_as(path)
    truth = read_nifti(synthetic_study[1] / "labels_in_phase.nii.gz")
    Journal(root / "review.jsonl", truth).close()
    return {
        "STUDY": synthetic_study[0], "STUDY2": root / "study2", "OUT": root / "out", "TABLE": root / "table",
        "MASK.nii.gz": synthetic_study[1] / "labels_in_phase.nii.gz", "IMAGE.nii.gz": root / "image.nii.gz",
        "LABELS.nii.gz": root / "labels.nii.gz", "ECHOES.nii.gz": root / "echoes.nii.gz",
        "T2MAP.nii.gz": root / "t2map.nii.gz", "REPORT": root / "report",
        "LABELS": synthetic_study[1] / "labels_in_phase.nii.gz",
        "REFERENCE": synthetic_study[1] / "labels_in_phase.nii.gz",
        "REVIEW.jsonl": root / "review.jsonl", "SYNTHETIC": root / "synthetic", "MODEL": root / "model",
        "DICOM": root / "dicom", "PATIENTS.csv": ROOT / "data_synthetic" / "cohort.csv", "ANALYSIS": root / "analysis",
    }


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "mrmyo"], ids=" ".join)
def test_mrmyo_commands_run(command, places, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # whatever is written without a place shows here
    assert main([str(places.get(word, word)) for word in command[1:]]) == 0
    assert not list(tmp_path.iterdir())


def test_python_example_runs(places):
    (code,) = blocks("python")
    for name in ("STUDY", "OUT"):
        code = code.replace(f'"{name}"', repr(str(places[name]))).replace(f'"{name}/', f'"{places[name]}/')
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (names["rows"].muscle == "whole muscle").sum() == 3
    rows = names["rows"]  # nobody drew anything in that review
    assert rows["mask"].str.startswith("unreviewed").all() and rows.mask_journal.str.endswith(":0").all()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0].startswith((".venv", "python3"))], ids=" ".join)
def test_commands_without_make(command, tmp_path):
    """pip resolves without installing; pytest is this very run; JupyterLab tells its version."""
    program, *rest = command
    if rest[:2] == ["-m", "venv"]:
        done = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / rest[2])])
        assert done.returncode == 0 and (tmp_path / rest[2] / "pyvenv.cfg").is_file()
    elif rest[:3] == ["-m", "pip", "install"]:
        done = subprocess.run([sys.executable, "-m", "pip", "install", "--dry-run", "-q", *rest[3:]], cwd=ROOT,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program.endswith("mrmyo"):
        assert _parser().parse_args(rest).subjects == 8
    elif rest[:2] == ["-m", "pytest"]:
        done = subprocess.run([sys.executable, *rest, "--collect-only", "-q"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and "test_readme.py" in done.stdout
    else:
        assert rest[0] == "lab"
        done = subprocess.run([sys.executable, "-m", "jupyterlab", "--version"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith("4.6")


def test_pictures_are_there_and_the_notice_too():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) >= 3
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
    assert "Research use only" in README


def test_the_settings_example_is_one(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
    settings = read_settings(tmp_path / "settings.toml")
    assert settings.roles == (("multi_echo", 7),) and settings.segment_on == ("water", "t1w")
