"""Synthetic studies: one row of the cohort in, a folder of DICOM and, apart from it, the truth out."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from mrmyo import scanner
from mrmyo.anatomy import draw_anatomy
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.labels import carry, is_muscle
from mrmyo.nifti import write_nifti
from mrmyo.t2 import fit_t2
from mrmyo.volume import Volume

__all__ = ["SEED", "simulate_study", "write_series"]

MANUFACTURER = "mrmyo synthetic scanner"  # signs every image that holds nothing of a person
SEED = 20260  # of the shipped cohort's images; training draws its thighs from other seeds
HEALTHY_T2_MS = 29.0  # water T2 of healthy muscle, about; the scanner's B1 and slice profile make 34 ms of it
TOLERANCE_MS = 0.005
FIRST_VISIT, DAYS_BETWEEN_VISITS = date(2020, 1, 1), 90  # dates that no patient has
B1_AGAIN = 0.01  # SD of what B1 is off at another visit, of its mean and along the thigh
CORONAL_T1_SNR = 30.0  # of healthy muscle


def simulate_study(subject: Mapping, study_dir, truth_dir=None, *, seed: int = SEED, visit: int = 0,
                   t2_ms: float | None = None, coronal_t1: bool = False) -> dict:
    """Scan one synthetic subject.

    Parameters
    ----------
    subject : mapping
        A row of `mrmyo.load_cohort`; its ``t2_ms`` is the apparent mono-exponential T2 that the muscle shall have.
    study_dir : path
        Where the DICOM goes: a subfolder for each series. Replaced when it exists.
    truth_dir : path, optional
        Where the truth goes, never within `study_dir`: label maps on both grids, the noise-free apparent T2 map,
        ``truth.json``.
    seed : int
        With the subject's name, decides everything random.
    visit : int
        0, or the number of a later visit: the same thighs in a new scan. Position, motion, residual fat and noise are
        drawn anew, B1 is off by about a hundredth; anatomy and tissues stay, so that the apparent T2 differs as far as
        the scan makes it. Each visit is a study of its own, 90 days after the last.
    t2_ms : float, optional
        The apparent T2 that the muscle shall have (after treatment, say) in place of the subject's, in a scan like the
        first. The oedema then lengthens T2 less or more; the anatomy is still drawn by the subject's own ``t2_ms``.
    coronal_t1 : bool
        Write the paper's coronal T1-weighted gradient echo as well (`mrmyo.scanner.CORONAL_T1`; its flip angle of 12°
        and its matrix are assumed). The patient lies as in the Dixon series; the other images stay the same to the bit.

    Returns
    -------
    dict
        The truth: ``t2_apparent_ms`` and ``t2_water_ms``, means over the true muscle voxels, ``visit``, and the scan's
        settings.

    Notes
    -----
    The T2 of the muscle water is found by inverting the forward model once, on noise-free signals and the true mask;
    the pipeline has no part in it.
    """
    if truth_dir is not None and Path(truth_dir).resolve().is_relative_to(Path(study_dir).resolve()):
        raise ValueError("Found truth_dir within study_dir, where a pipeline could read it; give a folder elsewhere.")
    stream = [seed, zlib.crc32(subject["subject"].encode())]
    rng = np.random.default_rng(stream)
    own = float(subject["t2_ms"])
    disease = 0.0 if subject["group"] == "HC" else float(np.clip(rng.normal(0.3 + (own - 40) / 60, 0.15), 0.05, 1))
    anatomy = draw_anatomy(rng, sex=subject["sex"], disease=disease, level=0.75 + 0.05 * rng.normal())
    scan = _draw_scan(rng)
    grid, dixon_grid, labels, optics = _place(rng, anatomy, scan)
    target = own if t2_ms is None else float(t2_ms)
    tissues, t2_scale, apparent = _match_apparent_t2(anatomy, grid, is_muscle(labels.array), optics, target)
    if visit:  # the same tissues under another scan
        rng = np.random.default_rng([*stream, visit])
        scan = {**_draw_scan(rng), "t1_scale": scan["t1_scale"], "b1_mean": scan["b1_mean"]}
        grid, dixon_grid, labels, optics = _place(rng, anatomy, scan, b1_before=optics["b1"])
        apparent = _apparent_t2(tissues, grid, is_muscle(labels.array), optics, t2_scale)
    muscle = is_muscle(labels.array)

    signal = scanner.acquire_multi_echo(tissues, grid, **optics, t2_scale=t2_scale)
    signal = signal * scanner.smooth_field(grid, rng, mean=1, sd=0.15)[..., None]
    level = float(np.median(signal[muscle][:, 0]))
    signal = scanner.add_noise(signal, rng, sigma=level / scan["snr"])
    water, fat = scanner.acquire_dixon(tissues, dixon_grid)
    dixon = scanner.dixon_series(water, fat, scanner.smooth_field(dixon_grid, rng, mean=1, sd=0.15), rng, snr=35.0)
    t1 = _coronal_t1(tissues, dixon_grid, rng, t1_scale=scan["t1_scale"], t2_scale=t2_scale) if coronal_t1 else None
    _write_study(study_dir, subject, visit, grid.with_array(signal * (1000 / level), echo_times_ms=_times()),
                 {name: dixon_grid.with_array(image) for name, image in dixon.items()}, t1)

    water_ms = _mean_water_t2(tissues, t2_scale, anatomy, grid, scan["motion"])
    truth = {"subject": subject["subject"], "group": subject["group"],
             "t2_apparent_ms": apparent["mean"], "t2_water_ms": water_ms,
             "n_muscle_voxels": int(muscle.sum()), "seed": seed, "visit": visit, "disease": disease,
             **{k: np.asarray(v).tolist() for k, v in scan.items()}}
    if truth_dir is not None:
        masks = {"labels_t2": labels, "labels_in_phase": carry(anatomy.labels, dixon_grid)}
        _write_truth(truth_dir, truth, {**masks, "t2_apparent": apparent["map"]})
    return truth


def _times():
    return scanner.MULTI_ECHO["echo_times_ms"]


def _draw_scan(rng):
    """What varies from scan to scan: B1 and T1, noise, and how the patient moved before the multi-echo series."""
    return {
        "b1_mean": float(np.clip(rng.normal(0.90, 0.05), 0.75, 1.05)),
        "t1_scale": float(np.round(rng.normal(1, 0.08), 2)),
        "snr": float(rng.uniform(55, 80)),
        "motion": scanner.rigid(rng.normal(0, [0.4, 0.4, 0.8]), rng.normal(0, 0.2, 3)),
    }


def _place(rng, anatomy, scan, *, b1_before=None):
    """Where both series lie, the true labels on the echoes, and the fields there; B1 is the patient's own, about."""
    in_plane = rng.normal(0, 4, 2)
    grid = scanner.stack(scanner.MULTI_ECHO, centre_mm=(*in_plane, 0.0))
    dixon_grid = scanner.stack(scanner.DIXON, centre_mm=(*(in_plane + rng.normal(0, 3, 2)), rng.normal(0, 2)))
    labels = carry(anatomy.labels, grid, transform=scan["motion"])
    b1 = (scanner.smooth_field(grid, rng, mean=scan["b1_mean"], sd=0.03) if b1_before is None else
          b1_before + scanner.smooth_field(grid, rng, mean=B1_AGAIN * rng.normal(), sd=B1_AGAIN))
    return grid, dixon_grid, labels, {
        "b1": b1, "residual_fat": np.clip(scanner.smooth_field(grid, rng, mean=0.06, sd=0.02), 0.01, None),
        "motion": scan["motion"], "t1_scale": scan["t1_scale"]}


def _match_apparent_t2(anatomy, grid, muscle, optics, target):
    """The tissues and the scale of their T2 for which the mean apparent T2 over true muscle is the target.

    How far oedema lengthens T2 is chosen first, so that muscle without it stays near the healthy value.
    """
    oedema = anatomy.oedema.array
    spread = float(oedema[is_muscle(anatomy.labels.array)].mean())
    contrast = max(0.04, (target / 34.0 - 1) / spread)
    tissues = scanner.tissues_of(anatomy, muscle_t2_ms=HEALTHY_T2_MS, oedema_contrast=contrast)

    few = muscle & (np.arange(grid.shape[2]) % 5 == 2)
    a, b = 0.97, 1.03
    slope = (_mean_t2(tissues, grid, few, optics, b)[0] - _mean_t2(tissues, grid, few, optics, a)[0]) / (b - a)
    scale = 1.0
    for _ in range(12):
        apparent = _apparent_t2(tissues, grid, muscle, optics, scale)
        if abs(apparent["mean"] - target) < TOLERANCE_MS:
            return tissues, scale, apparent
        scale += (target - apparent["mean"]) / slope
    raise RuntimeError(f"The scanner did not reach {target:.2f} ms (got {apparent['mean']:.2f}); report this seed.")


def _mean_t2(tissues, grid, voxels, optics, t2_scale):
    """The mean noise-free apparent T2 of some voxels, and that of each."""
    signal = scanner.acquire_multi_echo(tissues, grid, **optics, only=voxels, t2_scale=t2_scale)
    t2_ms = fit_t2(signal, _times()).t2_ms
    return float(np.nanmean(t2_ms, dtype=float)), t2_ms


def _apparent_t2(tissues, grid, muscle, optics, t2_scale):
    """Its mean over muscle and its map."""
    mean, t2_ms = _mean_t2(tissues, grid, muscle, optics, t2_scale)
    filled = np.full((grid.shape[2], *grid.shape[:2]), np.nan, np.float32)
    filled[np.moveaxis(muscle, 2, 0)] = t2_ms  # voxels come slice by slice
    return {"mean": mean, "map": Volume(np.moveaxis(filled, 0, 2), grid.affine)}


def _mean_water_t2(tissues, t2_scale, anatomy, grid, motion):
    """Mean T2 of muscle water in ms over the part of the fine grid that the multi-echo stack covers."""
    inside = np.linalg.inv(motion @ grid.affine) @ anatomy.labels.affine
    k = inside[2, 2] * np.arange(anatomy.labels.shape[2]) + inside[2, 3]
    chosen = is_muscle(anatomy.labels.array) & ((k > -0.5) & (k < grid.shape[2] - 0.5))
    return float(t2_scale * tissues.t2_ms.array[chosen].mean(dtype=float))


def _coronal_t1(tissues, dixon_grid, rng, **scales):
    """The coronal T1-weighted image over the region of the Dixon stack, with coil shading and noise."""
    middle = dixon_grid.affine @ [*((np.array(dixon_grid.shape) - 1) / 2), 1]
    grid = scanner.coronal_stack(scanner.CORONAL_T1, centre_mm=middle[:3])
    signal = scanner.acquire_t1(tissues, grid, **scales) * scanner.smooth_field(grid, rng, mean=1, sd=0.15)
    density, t2_ms = scanner.WATER["muscle"]
    sigma = float(density * scanner.spoiled_echo(1400.0, t2_ms, scanner.CORONAL_T1)) / CORONAL_T1_SNR
    signal = scanner.add_noise(signal, rng, sigma=sigma)
    return grid.with_array(signal * (1500 / float(np.percentile(signal, 99.9))))


def _write_study(study_dir, subject, visit, multi_echo, dixon, coronal_t1):
    """All series of a study; they appear together."""
    study_dir = Path(study_dir)
    partial = study_dir.with_name(f".partial-{study_dir.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    name = subject["subject"]
    study = {"PatientName": f"SYNTHETIC^{name}", "PatientID": name, "PatientSex": subject["sex"],
             "PatientAge": f"{int(subject['age']):03d}Y"}
    day = f"{FIRST_VISIT + timedelta(days=DAYS_BETWEEN_VISITS * visit):%Y%m%d}"
    study |= {"StudyDate": day, "SeriesDate": day}
    top = max(float(np.percentile(image.array, 99.9)) for image in dixon.values())
    dixon = {key: image.with_array(image.array * (1500 / top)) for key, image in dixon.items()}
    write_series(partial, study, multi_echo=multi_echo, dixon=dixon, coronal_t1=coronal_t1)
    shutil.rmtree(study_dir, ignore_errors=True)
    os.replace(partial, study_dir)


def write_series(
    folder, study: Mapping, *, multi_echo: Volume, dixon: Mapping[str, Volume], coronal_t1: Volume | None = None,
    manufacturer: str = MANUFACTURER
) -> None:
    """Write the series of a synthetic study as DICOM, one subfolder each.

    Parameters
    ----------
    folder : path
    study : mapping
        DICOM keywords of the patient and study; plainly synthetic ones.
    multi_echo : Volume
        4-D with echo times; values that fit 16 bits.
    dixon : mapping of Volume
        By role: in_phase, opposed_phase, water, fat.
    coronal_t1 : Volume, optional
    manufacturer : str
        Who signs the images; another name where they show a person after all.
    """
    folder = Path(folder)
    scan = {
        "Manufacturer": manufacturer,
        "MagneticFieldStrength": scanner.FIELD_T,
        "PatientPosition": "HFS",
        "StudyDescription": "SYNTHETIC thigh, research use only",
        "BodyPartExamined": "THIGH",
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "InPlanePhaseEncodingDirection": "COL",
        "SpacingBetweenSlices": 6.0,
        "SliceThickness": 5.0,
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "SeriesDate": "20200101",
        **study,
    }
    for number, (role, volume) in enumerate(dixon.items(), start=2):
        series = {
            "SeriesNumber": number,
            "SeriesDescription": f"t2_dixon_tra_{role}",
            "RepetitionTime": scanner.DIXON["RepetitionTime"],
            "EchoTime": scanner.DIXON["EchoTime"],
            "EchoTrainLength": 11,
            "SequenceVariant": ["SK", "SP"],
            **_spacing(volume),
        }
        write_dicom_series(volume, folder / f"{number:02d}_{role}", study=scan, series=series,
                           image_type=DIXON_IMAGE_TYPES[role])
    if coronal_t1 is not None:
        _write_coronal_t1(coronal_t1, folder / "06_coronal_t1", scan)
    n_columns, n_rows = multi_echo.shape[:2]
    series = {
        "SeriesNumber": 10,
        "SeriesDescription": "t2_map_mese_tra_fs",
        "RepetitionTime": scanner.MULTI_ECHO["RepetitionTime"],
        "ScanOptions": "FS",
        "AcquisitionMatrix": [0, n_columns, n_rows, 0],
        "FlipAngle": 180,
        **_spacing(multi_echo),
    }
    write_dicom_series(multi_echo, folder / "10_multi_echo", study=scan, series=series,
                       image_type=("ORIGINAL", "PRIMARY", "M", "SE"))


def _write_coronal_t1(volume, folder, scan):
    """A three-dimensional spoiled gradient echo, as headers tell it."""
    series = {
        "SeriesNumber": 6,
        "SeriesDescription": "t1_vibe_cor",
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "MRAcquisitionType": "3D",
        **{name: scanner.CORONAL_T1[name] for name in ("RepetitionTime", "EchoTime", "FlipAngle")},
        "EchoTrainLength": 1,
        **_spacing(volume),
    }
    write_dicom_series(volume, folder, study=scan, series=series, image_type=("ORIGINAL", "PRIMARY", "M"))


def _spacing(volume):
    """Slice distance and thickness as the headers tell them."""
    gap = round(float(volume.spacing_mm[2]), 4)
    return {"SpacingBetweenSlices": gap, "SliceThickness": float(volume.meta.get("SliceThickness", gap))}


def _write_truth(truth_dir, truth, volumes):
    """Label maps, T2 map and figures; ``truth.json`` comes last and says that all is there."""
    truth_dir = Path(truth_dir)
    truth_dir.mkdir(parents=True, exist_ok=True)
    (truth_dir / "truth.json").unlink(missing_ok=True)  # of an earlier run
    for name, volume in volumes.items():
        write_nifti(volume, truth_dir / f"{name}.nii.gz")
    partial = truth_dir / ".truth.json"
    partial.write_text(json.dumps(truth, indent=1))
    os.replace(partial, truth_dir / "truth.json")
