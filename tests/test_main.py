"""The command line says what is wrong in a line, and does what it says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mrmyo import Volume, read_dicom, write_nifti
from mrmyo.__main__ import main
from mrmyo.epg import mono_signal
from mrmyo.nifti import read_t2map


@pytest.mark.parametrize("command", ["run", "cohort", "segment", "t2", "evaluate", "analyse", "simulate", "reproduce",
                                     "train"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert command in capsys.readouterr().out


def test_t2_of_known_signals(tmp_path, capsys):
    times = (10.0, 20.0, 30.0, 40.0)
    truth = np.linspace(25, 90, 24).reshape(2, 3, 4)
    image = write_nifti(Volume(1000 * mono_signal(times, truth), np.eye(4)), tmp_path / "mese.nii.gz")
    assert main(["t2", str(image), str(tmp_path / "new" / "T2map.nii.gz"), "--echo-times", "10,20,30,40"]) == 0
    np.testing.assert_allclose(read_t2map(tmp_path / "new" / "T2map.nii.gz").array, truth, rtol=1e-4)
    assert "24 fitted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["t2", "nowhere.nii.gz", "out.nii.gz"], "nowhere.nii.gz"),
        (["t2", "{image}", "{out}.nii.gz"], "echo times"),
        (["t2", "{image}", "{out}.nii.gz", "--echo-times", "10;20"], "--echo-times 10;20"),
        (["t2", "{image}", "{out}.nii.gz", "--echo-times", "10,20"], "4 volumes"),
        (["t2", "{image}", "{out}.png", "--echo-times", "10,20,30,40"], ".nii"),
        (["segment", "{image}", "{out}.nii.gz"], "echo"),
        (["segment", "{image}", "{out}.txt"], ".nii"),
        (["t2", "{image}", "{image}", "--echo-times", "10,20,30,40"], "input itself"),
        (["t2", "{image}", "{out}.nii.gz", "--echo-times", "10000,20000,30000,40000"], "seconds"),
        (["analyse", "{image}", "--out", "{out}"], "UTF-8"),
        (["analyse", "nowhere.csv", "--out", "{out}"], "nowhere.csv"),
        (["run", "{empty}", "{out}"], "DICOM"),
        (["reproduce", "--subjects", "0", "--out", "{out}"], "0"),
        (["run", "{empty}", "{out}", "--settings", "{image}"], "TOML"),
    ],
)
def test_errors_are_one_line(arguments, says, tmp_path, capsys):
    image = write_nifti(Volume(np.ones((4, 4, 4, 4), np.float32), np.eye(4)), tmp_path / "image.nii.gz")
    (tmp_path / "empty").mkdir()
    places = {"image": image, "out": tmp_path / "out", "empty": tmp_path / "empty"}
    assert main([a.format(**places) for a in arguments]) == 1
    message = capsys.readouterr().err
    assert message.startswith("mrmyo: ")
    assert says in message
    assert "Traceback" not in message
    assert not list(tmp_path.glob("out.*"))


def test_simulate_writes_studies_and_truth_apart(tmp_path):
    command = [sys.executable, "-m", "mrmyo", "simulate", str(tmp_path), "--subjects", "1"]
    subprocess.run(command, check=True, capture_output=True)
    (study,) = (tmp_path / "studies").iterdir()
    assert set(read_dicom(study).role) == {"in_phase", "opposed_phase", "water", "fat", "multi_echo"}
    assert (tmp_path / "truth" / study.name / "truth.json").is_file()
    assert not list((tmp_path / "studies").rglob("*.json"))
