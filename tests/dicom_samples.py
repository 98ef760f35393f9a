"""Small DICOM series whose place and values are known; kept apart so that several test files can share them."""

from __future__ import annotations

import itertools

import numpy as np
import pydicom

from mrmyo.dicom_writing import write_dicom_series
from mrmyo.volume import Volume

STUDY = {
    "PatientName": "Muster^Änne", "PatientID": "S-007", "PatientSex": "F", "PatientAge": "045Y",
    "StudyDate": "20200101", "StudyTime": "101500", "StudyID": "1", "PatientPosition": "FFS",
    "Manufacturer": "Synthetic", "ManufacturerModelName": "Model", "MagneticFieldStrength": 3.0,
    "ImagedNucleus": "1H", "ImagingFrequency": 123.2,
}
MESE = {
    "SeriesNumber": 5, "SeriesDescription": "t2_mese", "ScanningSequence": "SE", "SequenceVariant": "SK",
    "ScanOptions": "FS", "RepetitionTime": 3000.0, "SliceThickness": 6.0, "SpacingBetweenSlices": 8.0, "FlipAngle": 90,
    "AcquisitionMatrix": [0, 254, 84, 0], "NumberOfPhaseEncodingSteps": 84, "PixelBandwidth": 300,
    "InPlanePhaseEncodingDirection": "COL",
}


def small_volume(affine=None, *, shape=(7, 6, 5), n_echoes=None, seed=1):
    values = np.random.default_rng(seed).integers(0, 4000, shape if n_echoes is None else (*shape, n_echoes))
    affine = np.diag([-1.5, -2.5, 8.0, 1.0]) if affine is None else affine
    return Volume(values.astype(np.uint16), affine, n_echoes and tuple(8.5 * np.arange(1, n_echoes + 1)))


def write(volume, folder, image_type=("ORIGINAL", "PRIMARY", "OTHER"), **series):
    return write_dicom_series(volume, folder, study=STUDY, series={**MESE, **series}, image_type=image_type)


def edit(path, **changes):
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def assert_same_points(ours, theirs, tolerance_mm=0.01):
    """Every voxel has the same value at the same place, whatever the order of the axes."""
    matrix = np.linalg.inv(ours.affine) @ theirs.affine
    turn = np.rint(matrix[:3, :3]).astype(int)
    assert np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1])
    index = np.indices(theirs.shape).reshape(3, -1)
    mapped = turn @ index + np.rint(matrix[:3, 3]).astype(int)[:, None]
    assert sorted(ours.shape) == sorted(theirs.shape)
    corners = list(itertools.product(*[(0, n - 1) for n in theirs.shape]))
    for corner in corners:
        own = turn @ corner + np.rint(matrix[:3, 3])
        distance = ours.affine @ [*own, 1] - theirs.affine @ [*corner, 1]
        assert np.abs(distance).max() < tolerance_mm
    assert np.array_equal(ours.array[tuple(mapped)], theirs.array[tuple(index)])
