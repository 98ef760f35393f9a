"""Studies so small that a cohort of them is measured in seconds: two boxes of muscle, drawn by hand."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from mrmyo import Volume, study_cohort, write_nifti
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.epg import mono_signal

TIMES = (10.0, 20.0, 30.0, 40.0)


def tiny_grids():
    """(structural, T2) grids; the T2 slices lie within the structural ones."""
    structural, t2 = np.diag([4.0, 4.0, 6.0, 1.0]), np.diag([6.0, 6.0, 6.0, 1.0])
    structural[:3, 3], t2[:3, 3] = (-62, -30, -12), (-63, -30, -6)
    return Volume(np.zeros((32, 16, 5)), structural), Volume(np.zeros((22, 11, 3)), t2)


def tiny_labels():
    """Left and right vastus lateralis and femur, two boxes."""
    structural, _ = tiny_grids()
    labels = np.zeros(structural.shape, np.uint8)
    labels[3:13, 3:13], labels[19:29, 3:13] = 21, 1
    labels[6:9, 6:9], labels[22:25, 6:9] = 52, 51
    return structural.with_array(labels)


def tiny_study(folder, *, t2_ms=40.0, seed=0, subject="S", **study):
    """Write the DICOM of a study whose muscle has this T2, with a little noise."""
    rng = np.random.default_rng(seed)
    structural, grid = tiny_grids()
    x, y, _ = np.indices(structural.shape)
    image = (300 + 10 * x + 5 * y + rng.normal(0, 5, structural.shape)) * (tiny_labels().array > 0)
    signal = 1000 * mono_signal(TIMES, np.full(grid.shape, t2_ms)) + rng.normal(0, 4, (*grid.shape, len(TIMES)))
    facts = {"PatientName": f"SYNTHETIC^{subject}", "PatientID": subject, "StudyDate": "20200101",
             "Manufacturer": "mrmyo synthetic scanner", "PatientPosition": "FFS", **study}
    write_dicom_series(structural.with_array(np.clip(image, 0, None), echo_times_ms=(51.0,)), folder / "in_phase",
                       study=facts, series={"SeriesNumber": 2, "ScanningSequence": "SE", "RepetitionTime": 5330.0},
                       image_type=DIXON_IMAGE_TYPES["in_phase"])
    write_dicom_series(grid.with_array(np.clip(signal, 0, None), echo_times_ms=TIMES), folder / "multi_echo",
                       study=facts, series={"SeriesNumber": 5, "ScanningSequence": "SE", "RepetitionTime": 3000.0},
                       image_type=("ORIGINAL", "PRIMARY", "M", "SE"))
    return folder


def reviewed(out, *places):
    """Lay the mask where the studies' results will go, as a reviewer's; no network is then asked."""
    for place in places:
        write_nifti(tiny_labels(), out / place / "labels_reviewed.nii.gz")


# -- calls for other processes, which find them here ---------------------------------------------------------------


def may_die(number, folder):
    """Call 1 kills its process every time, call 3 the first time."""
    first = not list(folder.glob(f"tried-{number}-*"))
    (folder / f"tried-{number}-{os.getpid()}").touch()
    if number == 1 or (number == 3 and first):
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def try_study_or_die(visit, *rest):
    """The study of P1 needs more memory than there is, so to say."""
    if visit.subject == "P1":
        os.kill(os.getpid(), signal.SIGKILL)
    return study_cohort._try_study(visit, *rest)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Three studies: two visits of one patient, one of another."""
    root = tmp_path_factory.mktemp("tiny")
    tiny_study(root / "a", t2_ms=35, seed=1, subject="A", StudyDate="20210101")
    tiny_study(root / "b", t2_ms=45, seed=2, subject="B", StudyDate="20200101")
    tiny_study(root / "a_before", t2_ms=40, seed=3, subject="A", StudyDate="20200505", StudyID="2")
    return root
