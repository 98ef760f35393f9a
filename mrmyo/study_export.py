"""The results of a study as DICOM objects, for the archive of the hospital and for other viewers."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_maps import write_dicom_map
from mrmyo.dicom_report import write_dicom_sr
from mrmyo.dicom_segmentation import write_dicom_seg
from mrmyo.nifti import read_nifti, read_t2map
from mrmyo.study_alignment import COUNTED
from mrmyo.study_results import read_rows
from mrmyo.study_series import StudyError

__all__ = ["EXPORTED", "export_study"]

MEASURED_ON = ("multi_echo", "t2_map")
EXPORTED = ("mask_structural.dcm", "mask_t2.dcm", "t2_map.dcm", "water_t2_map.dcm", "measurements.dcm")


def export_study(out_dir, study, folder) -> list[Path]:
    """Write masks (Segmentation), T2 maps (Parametric Map) and measurements (SR) of a processed study.

    They name the patient as the study does: keep them where the study is kept.

    Parameters
    ----------
    out_dir : path
        That `mrmyo.process_study` filled.
    study : path
        The DICOM it was filled from.
    folder : path
        Receives the files, whose names tell no one.

    Returns
    -------
    list of pathlib.Path
        Of `EXPORTED` what there is: no water T2 without Dixon images, no structural mask where that was drawn on
        reformatted slices, which are no images of the study.

    Raises
    ------
    StudyError
        When `out_dir` holds no measured study.
    DicomError
        When the study is another one.
    """
    out, folder = Path(out_dir), Path(folder)
    if not (out / "rows.csv").exists() or not (out / COUNTED).exists():
        raise StudyError("The folder holds no study that was measured; expected one that `mrmyo run` filled.")
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    numbers, reviewer = facts["inputs"]["series"], facts["mask"].startswith("reviewed")
    t2 = next((numbers[role] for role in MEASURED_ON if role in numbers), None)
    drawn_on = next((number for role, number in numbers.items() if role not in (*MEASURED_ON, "b1_map")), None)
    counted = read_nifti(out / COUNTED)
    structural, regions, t2_map, water, measurements = (folder / name for name in EXPORTED)
    written = [write_dicom_seg(counted, study, regions, series=t2, reviewer=reviewer),
               write_dicom_map(read_t2map(out / "T2map.nii.gz"), study, t2_map, series=t2)]
    if (out / "water_T2map.nii.gz").exists():
        water_t2 = read_t2map(out / "water_T2map.nii.gz")
        written.append(write_dicom_map(water_t2, study, water, quantity="water_t2", series=t2))
    with suppress(DicomError):  # drawn on reformatted slices: the T2 images were found, so the study is the right one
        mask = read_nifti(out / "mask.nii.gz")
        written.append(write_dicom_seg(mask, study, structural, series=drawn_on, reviewer=reviewer))
    written.append(write_dicom_sr(read_rows(out), regions, study, measurements, like=counted, series=t2))
    return written
