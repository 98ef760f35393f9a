"""The same route on real images, by the command line."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from calf import read_calf
from scipy import ndimage
from scipy.optimize import curve_fit

from mrmyo import Volume, label_table, read_nifti, write_nifti
from mrmyo.__main__ import main
from mrmyo.labels import is_muscle
from mrmyo.measure import dice
from mrmyo.nifti import read_t2map

pytestmark = pytest.mark.realdata


def sides_of(labels):
    """Mean RAS x in mm of the left and of the right muscle voxels."""
    table = label_table()
    x = sum(labels.affine[0, a] * np.indices(labels.shape, sparse=True)[a] for a in range(3)) + labels.affine[0, 3]
    x = np.broadcast_to(x, labels.shape)
    return [
        x[np.isin(labels.array, table.value[table.is_muscle & (table.side == side)])].mean()
        for side in ("left", "right")
    ]


def test_semi_synthetic_study(real_data, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("make_semi_synthetic", "scripts/make_semi_synthetic.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    truth = script.build(real_data / "thigh_dixon", tmp_path)
    assert main(["run", str(tmp_path / "study"), str(tmp_path / "out"), "--subject", "SEMI-01"]) == 0
    assert "whole muscle" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert set(rows.subject) == {"SEMI-01"}
    mask = read_nifti(tmp_path / "out" / "mask.nii.gz")
    machine = read_nifti(tmp_path / "truth" / "labels_in_phase.nii.gz")
    left, right = sides_of(mask)
    assert left < -50 < 50 < right
    middle = slice(4, 10)
    assert dice(is_muscle(mask.array[..., middle]), is_muscle(machine.array[..., middle])) > 0.8
    # the fit itself, under the labels that the signals were simulated from
    t2, labels = read_t2map(tmp_path / "out" / "T2map.nii.gz"), read_nifti(tmp_path / "truth" / "labels_t2.nii.gz")
    assert np.nanmean(t2.array[is_muscle(labels.array)]) == pytest.approx(truth["t2_apparent_ms"], abs=0.3)


def test_t2_of_the_knee_folder(real_data, tmp_path, capsys):
    out = tmp_path / "knee_T2map.nii.gz"
    assert main(["t2", str(real_data / "knee_multiecho_dicom_ge"), str(out)]) == 0
    t2 = read_t2map(out)
    assert t2.shape[2] == 6
    # an independent way: SimpleITK reads the pixels, SciPy fits them
    files = sorted((real_data / "knee_multiecho_dicom_ge").glob("*.dcm"))
    echoes = sorted((pydicom.dcmread(file) for file in files), key=lambda image: float(image.EchoTime))
    place = t2.affine @ [0, 0, 3, 1]
    lps = place[:3] * [-1, -1, 1]
    here = [image for image in echoes if np.allclose(image.ImagePositionPatient, lps, atol=0.1)]
    assert len(here) == 8
    times = [float(image.EchoTime) for image in here]
    pixels = np.stack([SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(image.filename))[0] for image in here], -1)
    for row, column in [(60, 215), (150, 190), (200, 210), (100, 100)]:  # three in muscle, one in marrow
        signal = pixels[row, column].astype(float)
        (_, expected), _ = curve_fit(lambda t, a, t2: a * np.exp(-t / t2), times, signal, p0=(signal[0], 40))
        assert t2.array[column, row, 3] == pytest.approx(expected, abs=0.05)
    assert 30 < np.median(t2.array[180:200, 140:200, 3]) < 45  # muscle
    assert json.loads((tmp_path / "knee_T2map.json").read_text())["Units"] == "s"
    assert "median" in capsys.readouterr().out


def test_t2_of_the_calf_agrees_with_the_vendor(real_data, tmp_path):
    signal, echo_times_ms, vendor = read_calf(real_data / "calf_multiecho_nifti" / "T2data.nii.gz")
    image = write_nifti(Volume(signal, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "calf_MESE.nii.gz")
    times = ",".join(f"{t:g}" for t in echo_times_ms)
    assert main(["t2", str(image), str(tmp_path / "calf_T2map.nii.gz"), "--echo-times", times]) == 0
    t2 = read_t2map(tmp_path / "calf_T2map.nii.gz").array
    inside = ndimage.binary_erosion(signal[..., 0] > 0.25 * np.percentile(signal[..., 0], 99), iterations=3)
    muscle = inside & (vendor > 20) & (vendor < 60) & np.isfinite(t2)
    assert muscle.sum() > 5000
    assert np.corrcoef(t2[muscle], vendor[muscle])[0, 1] > 0.999


def test_knees_are_no_thighs(real_data, tmp_path, capsys):
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", str(real_data / "leg_stacks" / "Join_4.nii.gz"), str(out)]) == 1
    assert "no thigh" in capsys.readouterr().err and not out.exists()  # its last slices show but the end of the vasti


@pytest.mark.parametrize("station", [5, 6])
def test_leg_stacks_are_labelled_on_both_sides(station, real_data, tmp_path, capsys):
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", str(real_data / "leg_stacks" / f"Join_{station}.nii.gz"), str(out)]) == 0
    labels = read_nifti(out)
    assert labels.shape == read_nifti(real_data / "leg_stacks" / f"Join_{station}.nii.gz").shape
    left, right = sides_of(labels)
    assert left < right
    assert "VL" in capsys.readouterr().out
