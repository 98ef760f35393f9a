"""Reading DICOM folders: a table of the series, and their voxels on demand.

DICOM's axes lead to Left, Posterior and Superior (LPS); this is the only room that knows, and it turns them to RAS+.
The slice step is taken from the positions themselves, never from SliceThickness or SpacingBetweenSlices.

What is read: MR images, classic, enhanced (multi-frame) or Siemens mosaic. One row of the table is one series, split by
ImageType, station or echo where one series holds several volumes; a multi-echo scan exported as one series an echo is
one row. No patient identity and no description leaves this room, and messages name series by number, not file.
"""

from __future__ import annotations

import hashlib
import numbers
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import pandas as pd

from mrmyo.dicom_consistency import differing_units
from mrmyo.dicom_files import FACT_KEYWORDS, META_KEYWORDS, read_headers
from mrmyo.dicom_frames import frame_scales
from mrmyo.dicom_geometry import DicomError, coverage, plane_of
from mrmyo.dicom_groups import form_series, without_copies
from mrmyo.dicom_identity import quietly
from mrmyo.dicom_patients import number_patients
from mrmyo.dicom_pixels import read_stack
from mrmyo.dicom_roles import ROLES, presumed, series_role, siblings
from mrmyo.dicom_sources import count_archives, find_files
from mrmyo.volume import Volume

__all__ = ["DicomError", "SeriesTable", "read_dicom"]

_ORDER = itemgetter("series", "image_type", "key")
_PLACE = ("path", "frame", "tile", "layout", "slope", "intercept")


@dataclass
class _Source:
    """Where the voxels of one row lie: stack[slice][echo] in order, or every image of an unreadable series."""

    stack: list
    affine: np.ndarray | None = None
    echo_times_ms: tuple = ()
    meta: dict = field(default_factory=dict)


class SeriesTable(pd.DataFrame):
    """One row a series, as `read_dicom` returns it. Any filtered or sorted part of it can still read its volumes.

    Columns: series, role, readable, problem ('' if fine), shape (column, row, slice), spacing_mm, n_slices, n_echoes,
    echo_times_ms, repetition_time_ms, plane, coverage_mm (lowest and highest RAS z over the voxel edges), manufacturer,
    scanning_sequence, image_type, n_files, warnings ('' if none), study and patient (numbers from 1; a blank identity
    is no other patient), and key, which ties the row to its files.
    ``.attrs`` counts skipped_files, duplicate_files, unopened_files, studies and patients.
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
            A role (``'multi_echo'``), a series number, or the ``key`` of a row. A readable series is preferred to
            unreadable ones of its role.

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
        row, source = self._readable(which)
        array = read_stack(source.stack, row["shape"][:2], f"series {row['series']}")
        array = array if array.shape[3] > 1 else array[..., 0]
        return Volume(array, source.affine, source.echo_times_ms or None, dict(source.meta))

    def grid(self, which) -> Volume:
        """The place of one series without reading its pixels, chosen and refused as in `volume`.

        Its array is all zeros, read-only and takes no memory; affine, echo times and meta are those of `volume`.
        """
        row, source = self._readable(which)
        shape = (*row["shape"], row["n_echoes"])[: 4 if row["n_echoes"] > 1 else 3]
        array = np.broadcast_to(np.float32(0), shape)
        return Volume(array, source.affine, source.echo_times_ms or None, dict(source.meta))

    def files(self, which) -> list:
        """The files of one series (slice by slice, echoes within), chosen as in `volume`; readable or not.

        Each file once; those of a zip file are `mrmyo.dicom_sources.ZipMember`.
        """
        images = [image for echoes in self._source(self._row(which)).stack for image in echoes]
        return list(dict.fromkeys(image["path"] for image in images if image["path"] is not None))

    def _readable(self, which):
        row = self._row(which)
        if not row["readable"]:
            raise DicomError(f"Series {row['series']} ({row['role']}) cannot be read: {row['problem']}")
        return row, self._source(row)

    def _row(self, which):
        by_number = isinstance(which, numbers.Integral)
        rows = self[self["series" if by_number else "role"] == which]
        if not by_number and "key" in self and (self["key"] == which).any():
            rows = self[self["key"] == which]
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


def read_dicom(folder, *, roles=None) -> SeriesTable:
    """List the series of a folder and its subfolders, whatever the files are called.

    Parameters
    ----------
    folder : path
        A folder, a zip file (which is read without unpacking), a DICOMDIR (only what it lists is read), or one file.
        Files that are not DICOM images are skipped and counted.
    roles : mapping, optional
        Role → series number, SeriesDescription (capitals and outer blanks aside) or the ``key`` of a row: what is
        stated here wins over physics, and no other series keeps that role.

    Returns
    -------
    SeriesTable
        One row a series; an unreadable one keeps its row, with the problem said.

    Raises
    ------
    DicomError
        When there is no such folder, no DICOM image in it, not one readable series, or `roles` names what is not there.
    """
    images, skipped = [], 0
    with quietly():
        paths, unopened, absent = find_files(folder)
        for path in paths:
            try:
                found = read_headers(path)
            except Exception:  # gone, forbidden, or a damaged member of a zip file
                unopened += 1
                continue
            images += found
            skipped += not found
    images += _absent_series(absent, images)
    if not images:
        closed = f" {unopened} files or folders could not be opened; check their permissions." if unopened else ""
        packed = count_archives(paths)
        closed += f" {packed} are zip files: give one by itself, whole and unpacked from others." if packed else ""
        raise DicomError(f"Found {len(paths)} files there, none a DICOM image; expected a study's MR images.{closed}")
    images = number_patients(images)
    kept = without_copies(images)
    table = _table(form_series(kept), dict(roles or {}), _doubt(images, unopened))
    table.attrs = {
        "skipped_files": skipped,
        "duplicate_files": len({image["path"] for image in images} - {image["path"] for image in kept}),
        "unopened_files": unopened,
        "studies": len({image["StudyInstanceUID"] for image in images if "StudyInstanceUID" in image}) or 1,
        "patients": len({image["patient"] for image in images}),
    }
    if not table["readable"].any():
        named = zip(table["series"], table["role"], table["problem"], strict=True)
        told = "; ".join(f"series {number} ({role}): {problem}" for number, role, problem in named)
        error = DicomError(f"None of the {len(table)} series in the folder can be read: {told}")
        error.table = table  # `mrmyo check` tells all of it
        raise error
    return table


def _absent_series(absent, images):
    """What a DICOMDIR lists and is not there: a warning to images of the series, or a row of its own."""
    rows = []
    for series in absent:
        told = f"{series.pop('missing')} files that the DICOMDIR lists are missing"
        here = [image for image in images if image.get("SeriesInstanceUID") == series.get("SeriesInstanceUID")]
        for image in here:
            image["warning"] = told
        if not here:
            number = series.pop("SeriesNumber", "")
            series |= {"SeriesNumber": int(number)} if number.isdecimal() else {}
            rows.append({**series, "path": None, "frame": 0, "tile": None, "problem": told})
    return rows


def _doubt(images, unopened):
    """What makes every series doubtful: files that may belong to any of them."""
    damaged = len({image["path"] for image in images if "problem" in image and "SeriesInstanceUID" not in image})
    kinds = [f"{damaged} damaged" if damaged else "", f"{unopened} that could not be opened" if unopened else ""]
    told = " and ".join(kind for kind in kinds if kind)
    return [f"the folder holds files that may belong here: {told}"] if told else []


def _table(found, roles, doubt):
    """One row a series, with their sources."""
    rows, sources = [], {}
    studies = list(dict.fromkeys(study for study, *_ in sorted((series.key for series in found), key=str)))
    for series in found:
        key = hashlib.sha256(repr(series.key).encode()).hexdigest()[:12]
        row, source = _summary(series, doubt)
        sources[key] = source
        rows.append({**row, "study": 1 + studies.index(series.key[0]), "key": key})
    facts = {row["key"]: row.pop("facts") for row in rows}
    beside = [{**row, "facts": facts[row["key"]], "affine": sources[row["key"]].affine} for row in rows]
    for row, role in zip(rows, siblings(beside), strict=True):
        row["role"] = role
    _state_roles(rows, {key: str(of.get("SeriesDescription", "")) for key, of in facts.items()}, roles)
    table = SeriesTable(sorted(rows, key=_ORDER))
    table._sources = sources
    return table


def _state_roles(rows, descriptions, roles):
    """Give the rows the roles that the user states."""
    for role, which in roles.items():
        if role not in ROLES:
            raise DicomError(f"{role!r} is no role; expected one of {', '.join(ROLES)}.")
        if isinstance(which, numbers.Integral):
            meant = [row for row in rows if row["series"] == which]
        else:
            wanted = " ".join(str(which).split()).casefold()
            meant = [row for row in rows if " ".join(descriptions[row["key"]].split()).casefold() == wanted]
            meant = [row for row in rows if row["key"] == which] or meant
        # one series may hold several kinds of image, and an aborted scan shares its description with the good one
        for choice in ([row for row in meant if row["role"] == role], [row for row in meant if row["readable"]]):
            meant = choice if len(meant) > 1 and choice else meant
        if len(meant) != 1:
            listed = sorted(meant or rows, key=_ORDER)
            found = "; ".join(f"{row['series']} ({'/'.join(row['image_type'])}), key {row['key']}" for row in listed)
            raise DicomError(
                f"{len(meant)} series are what the settings state for role {role!r}; expected one. Found {found}. "
                "State a series number, the whole SeriesDescription, or a key."
            )
        for row in rows:
            if row["key"] == meant[0]["key"]:
                row["role"] = role
            elif row["role"] == role:
                row["role"] = "other"


def _summary(series, doubt):
    """One row of the table, and where its voxels lie."""
    images, affine = series.images, series.affine
    first = next((image for image in images if "Rows" in image), images[0])
    facts = {key: first[key] for key in FACT_KEYWORDS if key in first}
    stack = series.stack if affine is not None else [[image] for image in images]
    steps = (np.nan,) * 3 if affine is None else np.linalg.norm(affine[:3, :3], axis=0)
    places = {image.get("ImagePositionPatient", image["path"]) for image in images}
    turned = {image["ImageOrientationPatient"] for image in images if "ImageOrientationPatient" in image}
    planes = {plane_of(orientation) for orientation in turned}
    n_slices = len(stack) if affine is not None else len(places)
    shape = (first.get("Columns", 0), first.get("Rows", 0), n_slices)
    differing, role = differing_units(images), series_role(facts, series.times)
    told = [f"units differ between images ({', '.join(differing)}); a map needs one unit"] if differing else []
    row = {
        "series": int(first.get("SeriesNumber", -1)),
        "role": role,
        "readable": not series.problems,
        "problem": "; ".join(series.problems),
        "shape": shape,
        "spacing_mm": tuple(float(round(step, 6)) for step in steps),
        "n_slices": n_slices,
        "n_echoes": max(len(series.times), 1),
        "echo_times_ms": series.times,
        "repetition_time_ms": float(first.get("RepetitionTime", np.nan)),
        "plane": planes.pop() if len(planes) == 1 else "",
        "coverage_mm": coverage(affine, shape),
        "manufacturer": first.get("Manufacturer", ""),
        "scanning_sequence": first.get("ScanningSequence", ()),
        "image_type": first.get("ImageType", ()),
        "n_files": len({image["path"] for image in images if image["path"] is not None}),
        "warnings": "; ".join(dict.fromkeys([*series.warnings, *told, *presumed(facts, role), *doubt])),
        "patient": min(image["patient"] for image in images),
        "facts": facts,
    }
    stack = [[{key: image.get(key) for key in _PLACE} for image in echoes] for echoes in stack]
    # no unit is better than one that holds for the first image only
    meta = {key: first[key] for key in META_KEYWORDS if key in first and key not in differing}
    meta |= frame_scales(series.stack)
    return row, _Source(stack, affine, series.times, meta)
