"""Where DICOM files lie: a folder, a zip file (read without unpacking), or what a DICOMDIR lists."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pydicom

from mrmyo.dicom_geometry import DicomError

__all__ = ["ZipMember", "count_archives", "find_files", "open_binary"]

_MAX_MEMBERS, _MAX_BYTES = 200_000, 64 << 30  # more than any study; a zip bomb announces more
_IN_MEMORY = 64 << 20  # larger members are read as a stream
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, order=True)
class ZipMember:
    """One file inside a zip file, opened like a path but never unpacked to disk."""

    archive: str
    name: str
    size: int

    def open(self):
        """A seekable binary file."""
        mtime = os.stat(self.archive).st_mtime_ns
        file = _archive(self.archive, mtime, os.getpid()).open(self.name)
        if self.size > _IN_MEMORY:
            return file
        with file:
            return io.BytesIO(file.read())

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open() as file:
            return file.read()


@lru_cache(maxsize=4)  # reading the list of a zip file's members again for each of 900 would take seconds
def _archive(path, mtime, process):
    return zipfile.ZipFile(path)


def open_binary(path):
    """A binary file and its size in bytes; raises OSError or what `zipfile` raises."""
    if isinstance(path, ZipMember):
        return path.open(), path.size
    file = open(path, "rb")  # noqa: SIM115  the caller closes it
    try:
        return file, os.fstat(file.fileno()).st_size
    except OSError:
        file.close()
        raise


def count_archives(paths) -> int:
    """How many of the files begin as zip files do, whole or not."""
    count = 0
    for path in paths:
        with suppress(Exception):  # what cannot be opened is no archive of use
            file, _ = open_binary(path)
            with file:
                count += file.read(4) == b"PK\x03\x04"
    return count


def find_files(source) -> tuple[list, int, list[dict]]:
    """The files of a source, in a fixed order.

    Parameters
    ----------
    source : path
        A folder (with its subfolders), a zip file, a DICOMDIR file (only what it lists), or one DICOM file.

    Returns
    -------
    tuple
        The files; how many files or folders could not be opened; and for every series that a DICOMDIR lists and whose
        files are missing a dict by DICOM keyword with ``missing``, their number.

    Raises
    ------
    DicomError
        When there is no such source, or the zip file is damaged, encrypted or absurdly large.
    """
    source = Path(source)
    if source.is_dir():
        return *_folder_files(source), []
    if not source.is_file():
        raise DicomError(
            "The folder to read does not exist or is no folder; give one that holds the DICOM files, a zip of it, or "
            "a DICOMDIR."
        )
    try:
        is_zip = zipfile.is_zipfile(source)
        with open(source, "rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
    except OSError as error:
        kind = type(error).__name__
        raise DicomError(f"The file to read cannot be opened ({kind}); check its permissions.") from None
    if is_dicom:
        return _listed_files(source) or ([source], 0, [])
    return (_zip_files(source), 0, []) if is_zip else ([source], 0, [])


def _folder_files(folder):
    """The files of a folder; linked folders are followed, each once, and never upwards."""
    paths, unopened = [], []
    root = os.path.realpath(folder)
    seen = set()
    for base, folders, names in os.walk(folder, onerror=unopened.append, followlinks=True):
        here = os.path.realpath(base)
        if here in seen:  # a second way to a linked folder
            folders.clear()
            continue
        seen.add(here)
        folders.sort()
        for name in [name for name in folders if os.path.islink(os.path.join(base, name))]:
            target = os.path.realpath(os.path.join(base, name))
            if _lies_in(target, root):  # it is walked by its own name
                folders.remove(name)
            elif _lies_in(root, target):  # all that lies around the folder does not belong to it
                folders.remove(name)
                unopened.append(target)
        for name in names:
            path = Path(base, name)
            try:
                kind = os.stat(path).st_mode
            except OSError:  # a broken link, or a folder that may be listed but not entered
                unopened.append(path)
                continue
            if stat.S_ISREG(kind):  # opening a pipe or a device could wait for ever
                paths.append(path)
    return sorted(paths), len(unopened)


def _lies_in(path, folder):
    return os.path.commonpath([path, folder]) == folder


def _zip_files(source):
    try:
        with zipfile.ZipFile(source) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        kind = type(error).__name__
        raise DicomError(f"The zip file is damaged or no zip ({kind}); copy it again, or unpack it first.") from None
    if any(info.flag_bits & 1 for info in members):
        raise DicomError("The zip file is encrypted; unpack it with its password and give the folder.")
    total = sum(info.file_size for info in members)
    if len(members) > _MAX_MEMBERS or total > _MAX_BYTES:
        raise DicomError(
            f"The zip file announces {len(members)} files of {total / 2**30:.0f} GiB; expected one study, at most "
            f"{_MAX_MEMBERS} files of {_MAX_BYTES >> 30} GiB. Unpack it first if it is honest."
        )
    unpackable = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
    if any(info.compress_type not in unpackable for info in members):
        raise DicomError("The zip file is compressed by a method that is not known here; unpack it first.")
    archive = str(source.resolve())
    return sorted(ZipMember(archive, info.filename, info.file_size) for info in members)


def _listed_files(source):
    """What `find_files` returns for a DICOMDIR; None when the file is none."""
    with open(source, "rb") as file:
        if _DICOMDIR_CLASS.encode() not in file.read(1024):  # where the kind of object is said
            return None
    try:
        directory = pydicom.dcmread(source, stop_before_pixels=True)
        return _listed_records(source.parent, directory.get("DirectoryRecordSequence") or ())
    except Exception:  # a damaged file can raise almost anything inside the parser
        raise DicomError("The DICOMDIR is damaged; give the folder that holds it, and all files are read.") from None


def _listed_records(folder, records):
    paths, missing = [], defaultdict(int)
    series, names_of = {}, lru_cache(maxsize=256)(_names_of)
    for record in records:
        kind = record.get("DirectoryRecordType")
        if kind == "STUDY":
            series = {"StudyInstanceUID": _text(record, "StudyInstanceUID")}
        if kind == "SERIES":
            keys = ("SeriesInstanceUID", "SeriesNumber", "Modality")
            series = {"StudyInstanceUID": series.get("StudyInstanceUID"), **{key: _text(record, key) for key in keys}}
        if "ReferencedFileID" not in record:
            continue
        path = _listed_path(folder, record.ReferencedFileID, names_of)
        if path is not None:
            paths.append(path)
        elif kind == "IMAGE":
            missing[tuple(series.items())] += 1
    absent = [{**{key: value for key, value in of if value is not None}, "missing": n} for of, n in missing.items()]
    return sorted(set(paths)), 0, absent


def _text(record, key):
    value = record.get(key)
    return None if value is None else str(value)


def _names_of(folder):
    """The names in a folder by their plain form: media are written in capitals, copies of them often are not."""
    try:
        return {name.casefold().rstrip("."): name for name in os.listdir(folder)}
    except OSError:
        return {}


def _listed_path(folder, file_id, names_of):
    parts = [file_id] if isinstance(file_id, str) else list(file_id)
    parts = [part for text in parts for part in PurePosixPath(str(text).replace("\\", "/")).parts]
    for part in parts:
        if part in ("..", "/", ""):  # nothing outside the medium is read
            return None
        name = names_of(folder).get(part.casefold().rstrip("."))
        if name is None:
            return None
        folder = folder / name
    return folder if folder.is_file() else None
