"""The measurements of a study as a DICOM Structured Report (TID 1500), one group for each muscle, by highdicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from mrmyo.dicom_codes import LATERALITY, code_of, concept, label_of
from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_objects import RESEARCH, about, composing, save, source_images
from mrmyo.volume import Volume

WHOLE = "whole muscle"  # as in mrmyo.measure
__all__ = ["MEASURED", "read_dicom_sr", "write_dicom_sr"]

# column of the rows: concept, unit, derivation
MEASURED = {"t2_ms": ("t2", "ms", "mean"), "t2_sd_ms": ("t2", "ms", "sd"), "t2_median_ms": ("t2", "ms", "median"),
            "t2_mean_sd_ms": ("mean_sd", "ms", None), "water_t2_ms": ("water_t2", "ms", "mean"),
            "water_t2_sd_ms": ("water_t2", "ms", "sd"), "fat_fraction": ("fat_fraction", "share", "mean"),
            "n_voxels": ("n_voxels", "share", None), "volume_ml": ("volume", "ml", None)}


def write_dicom_sr(rows, segmentation, source_folder, path, *, like: Volume, series=None) -> Path:
    """Write the rows of single muscles as a DICOM Comprehensive 3D SR of template TID 1500.

    Parameters
    ----------
    rows : pandas.DataFrame
        From `mrmyo.t2_by_muscle`; columns that are not in `MEASURED` are left out.
    segmentation : path
        The DICOM Segmentation of the regions, from `mrmyo.write_dicom_seg`; every muscle's group refers to its segment,
        that of the whole muscle, which is all of them, to none.
    source_folder : path
        The study.
    path : path
    like : Volume
        On the grid of the images that were measured.
    series : int, optional
        As for `mrmyo.dicom_objects.source_images`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DicomError
        When a row has no segment.
    """
    import highdicom

    images, _ = source_images(source_folder, like, series=series)
    seg = pydicom.dcmread(segmentation, stop_before_pixels=True)
    groups = _groups(rows, seg, images[0].SeriesInstanceUID)
    identity = {key: value for key, value in about(902, "SR").items()
                if key not in ("manufacturer_model_name", "software_versions", "device_serial_number")}
    with composing():
        report = highdicom.sr.MeasurementReport(
            observation_context=highdicom.sr.ObservationContext(observer_device_context=_device()),
            procedure_reported=concept("procedure"), imaging_measurements=groups, title=concept("report"))
        found = highdicom.sr.Comprehensive3DSR(evidence=[*images, seg], content=report, is_complete=True, **identity)
        found.SeriesDescription = f"mrmyo thigh T2, {RESEARCH}"
        save(found, path)
    return Path(path)


def _device():
    """Who observed: this program."""
    import highdicom
    from pydicom.sr.codedict import codes

    from mrmyo import __version__

    attributes = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=highdicom.UID(), name="mrmyo", manufacturer_name="mrmyo", model_name=f"{__version__}, {RESEARCH}")
    return highdicom.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=attributes)


def _groups(rows, seg, series_uid):
    """One group of measurements for each row; those of single muscles refer to their segments."""
    import highdicom

    numbers = {label_of(item.SegmentLabel): item.SegmentNumber for item in seg.SegmentSequence}
    source = highdicom.sr.SourceSeriesForSegmentation(series_uid)
    groups = []
    for row in rows.to_dict("records"):
        name = f"{row['side']} {row['muscle']}"
        if row["muscle"] == WHOLE:
            groups.append(_group(row, name))
            continue
        value = label_of(name)
        if value not in numbers:
            raise DicomError(f"The segmentation has no segment of the {name}, which the rows measure; expected that of "
                             "the same study.")
        segment = highdicom.sr.ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, numbers[value],
                                                 source_series=source)
        groups.append(_group(row, name, value, segment))
    return groups


def _group(row, name, value=None, segment=None):
    """The measurements of one muscle with its segment, or of all muscle of a side."""
    import highdicom

    kind, single, _ = ("muscle", None, None) if value is None else code_of(value)
    measurements = []
    for column, (quantity, unit, derivation) in MEASURED.items():
        number = row.get(column)
        if number is not None and np.isfinite(number):
            measurements.append(highdicom.sr.Measurement(
                name=concept(quantity), value=round(float(number), 4), unit=concept(unit),
                derivation=concept(derivation) if derivation else None))
    place = concept("thigh") if value is None else single or concept(kind)
    site = highdicom.sr.FindingSite(anatomic_location=place, laterality=concept(row["side"]))
    options = {"tracking_identifier": highdicom.sr.TrackingIdentifier(uid=highdicom.UID(), identifier=name),
               "finding_type": concept(kind), "finding_sites": [site], "measurements": measurements}
    if segment is None:
        return highdicom.sr.MeasurementsAndQualitativeEvaluations(**options)
    return highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **options)


def read_dicom_sr(path):
    """The measurements of a report that `write_dicom_sr` wrote.

    Returns
    -------
    pandas.DataFrame
        One row a muscle: ``side``, ``muscle``, ``segment`` (its number; NaN of the whole muscle) and the columns of
        `MEASURED` that it has.

    Raises
    ------
    DicomError
        When the file is no such report.
    """
    import highdicom
    import pandas as pd

    try:
        report = highdicom.sr.srread(path)
        groups = [*report.content.get_volumetric_roi_measurement_groups(),
                  *report.content.get_image_measurement_groups()]
    except Exception as error:
        raise DicomError(f"{Path(path).name} is no DICOM measurement report (TID 1500) that can be read.") from error
    columns = {(concept(quantity).value, derivation and concept(derivation).value): column
               for column, (quantity, _, derivation) in MEASURED.items()}
    rows = []
    for group in groups:
        side, _, muscle = group.tracking_identifier.partition(" ")
        if side not in LATERALITY:
            raise DicomError("A group of the report is of no muscle that mrmyo knows.")
        segment = getattr(group, "referenced_segment", None)
        number = np.nan if segment is None else int(segment.referenced_segment_numbers[0])
        row = {"side": side, "muscle": muscle, "segment": number}
        for item in group.get_measurements():
            derivation = item.derivation.value if item.derivation is not None else None
            if column := columns.get((item.name.value, derivation)):
                row[column] = float(item.value)
        rows.append(row)
    return pd.DataFrame(rows)

