"""Reading DICOM folders: a table of the series, and their voxels on demand.

DICOM's axes lead to Left, Posterior and Superior (LPS); this is the only room that knows, and it turns them to RAS+.
The slice step is taken from the positions themselves, never from SliceThickness or SpacingBetweenSlices.

What is read: classic single-frame MR. One row of the table is one SeriesInstanceUID, split by ImageType where one
series holds several kinds of image (Dixon, or magnitude and phase). Echoes that a scanner exported as separate series
are not joined. No patient identity and no description leaves this room, and messages name series by number, not file.
"""

from __future__ import annotations

import hashlib
import numbers
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mrmyo.dicom_files import META_KEYWORDS, object_problems, read_headers, read_pixels
from mrmyo.dicom_geometry import DicomError, arrange, echo_times, plane_of
from mrmyo.dicom_roles import series_role
from mrmyo.volume import Volume

__all__ = ["DicomError", "SeriesTable", "read_dicom"]

@dataclass
class _Source:
    """Where the voxels of one row lie: paths[slice][echo] in order, or every path of an unreadable series."""

    paths: list
    affine: np.ndarray | None = None
    echo_times_ms: tuple = ()
    meta: dict = field(default_factory=dict)


class SeriesTable(pd.DataFrame):
    """One row a series, as `read_dicom` returns it. Any filtered or sorted part of it can still read its volumes.

    Columns: series, role, readable, problem ('' if fine), shape (column, row, slice), spacing_mm, n_slices, n_echoes,
    echo_times_ms, repetition_time_ms, plane, manufacturer, scanning_sequence, image_type, n_files, and key, which ties
    the row to its files. ``.attrs`` counts skipped_files, duplicate_files and studies.
    """

    _metadata = ["_sources"]  # noqa: RUF012  pandas wants it so
    _sources = None

    @property
    def _constructor(self):
        return SeriesTable

    def volume(self, which) -> Volume:
        """Read the voxels of one series.

        Parameters
        ----------
        which : str or int
            A role (``'multi_echo'``) or a series number. A readable series is preferred to unreadable ones of its role.

        Returns
        -------
        Volume
            float32, rescale applied, shaped (column, row, slice) or (column, row, slice, echo), slices in the order of
            their position along the normal, echoes by echo time.

        Raises
        ------
        DicomError
            When no series, or more than one, answers to `which`, or the one that does cannot be read.
        """
        row = self._row(which)
        if not row["readable"]:
            raise DicomError(f"Series {row['series']} ({row['role']}) cannot be read: {row['problem']}")
        source = self._source(row)
        n_slices, n_echoes = len(source.paths), len(source.paths[0])
        array = np.empty((*row["shape"], n_echoes), dtype=np.float32)
        for k in range(n_slices):
            for e in range(n_echoes):
                where = f"series {row['series']}, slice {k + 1} of {n_slices}, echo {e + 1} of {n_echoes}"
                array[:, :, k, e] = read_pixels(source.paths[k][e], row["shape"][:2], where)
        return Volume(
            array if n_echoes > 1 else array[..., 0], source.affine, source.echo_times_ms or None, dict(source.meta)
        )

    def files(self, which) -> list[Path]:
        """The files of one series (slice by slice, echoes within), chosen as in `volume`; readable or not."""
        return [path for echoes in self._source(self._row(which)).paths for path in echoes]

    def _row(self, which):
        by_number = isinstance(which, numbers.Integral)
        rows = self[self["series" if by_number else "role"] == which]
        asked = f"series number {which}" if by_number else f"role {which!r}"
        if len(rows) > 1 and rows["readable"].sum() == 1:
            rows = rows[rows["readable"]]
        if len(rows) == 0:
            known = ", ".join(f"{number}: {role}" for number, role in zip(self["series"], self["role"], strict=True))
            raise DicomError(f"No series has {asked}; found {known or 'an empty table'}. Ask for one of these.")
        if len(rows) > 1:
            columns = rows[["series", "role", "image_type", "readable"]].itertuples(index=False)
            named = "; ".join(
                f"series {number}, {role}, {'/'.join(kind)}{'' if ok else ', unreadable'}"
                for number, role, kind, ok in columns
            )
            raise DicomError(
                f"{len(rows)} rows have {asked}: {named}. Ask for a series number, or keep one row of the table first, "
                f"as in table.iloc[[{self.index.get_loc(rows.index[0])}]].volume({which!r})."
            )
        return rows.iloc[0]

    def _source(self, row) -> _Source:
        if not self._sources or row.get("key") not in self._sources:
            raise DicomError("This table has lost its tie to the files (its key column, or by concat); read it again.")
        return self._sources[row["key"]]


def read_dicom(folder) -> SeriesTable:
    """List the series of a folder and its subfolders, whatever the files are called.

    Parameters
    ----------
    folder : path
        Files that are not DICOM images are skipped and counted.

    Returns
    -------
    SeriesTable
        One row a series; an unreadable one keeps its row, with the problem said.

    Raises
    ------
    DicomError
        When there is no such folder, no DICOM image in it, or not one readable series.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DicomError("The folder to read does not exist or is no folder; give the one that holds the DICOM files.")
    paths = sorted(path for base, _, names in os.walk(folder) for name in names if (path := Path(base, name)).is_file())
    per_file = [read_headers(path) for path in paths]
    images = [image for found in per_file for image in found]
    if not images:
        raise DicomError(f"Found {len(paths)} files in the folder, none a DICOM image; expected a study's MR images.")
    unique = {_identity(image): image for image in reversed(images)}.values()
    groups = defaultdict(list)
    for image in reversed(unique):
        series = image.get("SeriesInstanceUID") or image.get("SeriesNumber")
        groups[image.get("StudyInstanceUID"), series, image.get("ImageType")].append(image)
    rows, sources = [], {}
    studies = list(dict.fromkeys(study for study, _, _ in sorted(groups, key=str)))
    for key, group in groups.items():
        study = 1 + studies.index(key[0])
        key = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
        row, sources[key] = _summary(group)
        rows.append({**row, "study": study, "key": key})
    table = SeriesTable(sorted(rows, key=lambda row: (row["series"], row["image_type"], row["key"])))
    table._sources = sources
    table.attrs = {
        "skipped_files": sum(not found for found in per_file),
        "duplicate_files": len(images) - len(unique),
        "studies": len({image.get("StudyInstanceUID") for image in images}),
    }
    if not table["readable"].any():
        named = zip(table["series"], table["role"], table["problem"], strict=True)
        told = "; ".join(f"series {number} ({role}): {problem}" for number, role, problem in named)
        raise DicomError(f"None of the {len(table)} series in the folder can be read: {told}")
    return table


def _identity(image):
    """Copies of one file share all of this; images that an anonymiser gave one UID do not."""
    uid = image.get("SOPInstanceUID")
    keys = ("SeriesInstanceUID", "InstanceNumber", "EchoTime", "ImagePositionPatient", "ImageType")
    return (uid, *(image.get(key) for key in keys)) if uid else image["path"]


def _summary(images):
    """One row of the table, and where its voxels lie."""
    first = next((image for image in images if "Rows" in image), images[0])
    times = echo_times(images)
    facts = {key: first[key] for key in META_KEYWORDS if key in first}
    role = series_role({**facts, "SeriesDescription": first.get("SeriesDescription")}, times)
    stack, affine = [[image] for image in images], None
    problems = object_problems(images)
    try:
        stack, affine = arrange(images)
    except DicomError as error:
        # pixels inside frames carry their geometry elsewhere: its absence here is then no news
        problems += [] if problems and "no geometry" in str(error) else [str(error)]
    spacing = (np.nan,) * 3
    if affine is not None:
        spacing = tuple(float(round(step, 6)) for step in np.linalg.norm(affine[:3, :3], axis=0))
    places = {image.get("ImagePositionPatient", image["path"]) for image in images}
    planes = {plane_of(image["ImageOrientationPatient"]) for image in images if "ImageOrientationPatient" in image}
    n_slices = len(stack) if affine is not None else len(places)
    row = {
        "series": int(first.get("SeriesNumber", -1)),
        "role": role,
        "readable": not problems,
        "problem": "; ".join(problems),
        "shape": (first.get("Columns", 0), first.get("Rows", 0), n_slices),
        "spacing_mm": spacing,
        "n_slices": n_slices,
        "n_echoes": max(len(times), 1),
        "echo_times_ms": times,
        "repetition_time_ms": float(first.get("RepetitionTime", np.nan)),
        "plane": planes.pop() if len(planes) == 1 else "",
        "manufacturer": first.get("Manufacturer", ""),
        "scanning_sequence": first.get("ScanningSequence", ()),
        "image_type": first.get("ImageType", ()),
        "n_files": len(images),
    }
    paths = [[image["path"] for image in echoes] for echoes in stack]
    return row, _Source(paths, affine, times, facts)
