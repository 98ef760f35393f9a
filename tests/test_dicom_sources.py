"""Folders, zip files and DICOMDIRs as sources, and files that are no images or cannot be opened."""

from __future__ import annotations

import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_samples import edit, small_volume, write
from pydicom.fileset import FileSet
from pydicom.uid import generate_uid

from mrmyo import dicom_sources
from mrmyo.dicom import DicomError, read_dicom


def zipped(folder, path, *, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def folder(tmp_path):
    write(small_volume(n_echoes=3), tmp_path / "study" / "mese")
    write(small_volume(seed=2), tmp_path / "study" / "deep" / "er", SeriesNumber=6)
    (tmp_path / "study" / "notes.txt").write_text("no image")
    return tmp_path / "study"


# -- zip ---------------------------------------------------------------------------------------------------------------


def test_a_zip_reads_like_the_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_sources, "_IN_MEMORY", 3000)  # so that large members are streamed
    path = zipped(folder, tmp_path / "study.zip")
    before = sorted(tmp_path.rglob("*"))
    ours, theirs = read_dicom(path), read_dicom(folder)
    assert list(ours["key"]) == list(theirs["key"]) and ours.attrs == theirs.attrs
    for key in ours["key"]:
        one, other = pickle.loads(pickle.dumps(ours)).volume(key), theirs.volume(key)
        assert np.array_equal(one.array, other.array) and np.array_equal(one.affine, other.affine)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked
    contents = {file.read_bytes() for file in ours.files(6)}
    assert contents == {file.read_bytes() for file in theirs.files(6)} and len(contents) == 5


def test_a_zip_that_climbs_out_writes_nothing(folder, tmp_path):
    path = tmp_path / "inner" / "study.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for i, file in enumerate(sorted((folder / "deep").rglob("*.dcm"))):
            archive.write(file, f"../../climbed{i}.dcm")
    assert read_dicom(path)["readable"].all()
    assert not list(tmp_path.rglob("climbed*"))


def test_bad_zips_are_named(folder, tmp_path, monkeypatch):
    path = zipped(folder, tmp_path / "study.zip", method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    encrypted = bytearray(data)
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag of every local and central header
        place = -1
        while (place := encrypted.find(magic, place + 1)) >= 0:
            struct.pack_into("<H", encrypted, place + offset, 1)
    (tmp_path / "secret.zip").write_bytes(encrypted)
    with pytest.raises(DicomError, match="encrypted; unpack it with its password"):
        read_dicom(tmp_path / "secret.zip")
    end = data.rfind(b"PK\5\6")
    (tmp_path / "cut.zip").write_bytes(data[end - 200 :])
    with pytest.raises(DicomError, match=r"zip file is damaged|none a DICOM image"):
        read_dicom(tmp_path / "cut.zip")
    monkeypatch.setattr(dicom_sources, "_MAX_BYTES", 10_000)
    with pytest.raises(DicomError, match="announces 21 files"):
        read_dicom(path)


def test_a_damaged_member_is_not_passed_over(folder, tmp_path):
    path = zipped(folder, tmp_path / "study.zip", method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    member = zipfile.ZipFile(path).getinfo(sorted(f"mese/{p.name}" for p in (folder / "mese").iterdir())[-1])
    place = member.header_offset + 30 + len(member.filename) + 200
    data[place] ^= 0xFF  # its checksum no longer fits
    path.write_bytes(data)
    table = read_dicom(path).set_index("series")
    assert not table.readable[5] and table.readable[6] and "1 that could not be opened" in table.warnings[6]


# -- DICOMDIR ----------------------------------------------------------------------------------------------------------


def medium(folder, target):
    file_set = FileSet()
    for path in sorted(folder.rglob("*.dcm")):
        file_set.add(path)
    file_set.write(target)
    return target / "DICOMDIR"


def test_a_dicomdir_reads_what_it_lists(folder, tmp_path):
    listed = medium(folder, tmp_path / "cd")
    write(small_volume(), tmp_path / "cd" / "unlisted", SeriesNumber=99)
    table = read_dicom(listed)
    assert list(table["series"]) == [5, 6] and table["readable"].all() and (table["warnings"] == "").all()
    assert np.array_equal(table.volume(5).array, small_volume(n_echoes=3).array)
    assert set(read_dicom(tmp_path / "cd")["series"]) == {5, 6, 99}


def test_missing_files_of_a_dicomdir_are_told(folder, tmp_path):
    listed = medium(folder, tmp_path / "cd")
    table = read_dicom(listed)
    for path in table.files(6):
        Path(path).unlink()
    Path(table.files(5)[0]).unlink()
    Path(table.files(5)[-1]).unlink()
    write(small_volume(), tmp_path / "again", SeriesNumber=7, SeriesInstanceUID=generate_uid())
    with pytest.raises(DicomError, match=r"series 5.*missing slices.*series 6.*5 files that the DICOMDIR lists are"):
        read_dicom(listed)


def test_a_dicomdir_in_other_letters(folder, tmp_path):
    listed = medium(folder, tmp_path / "cd")
    top = [path for path in (tmp_path / "cd").iterdir() if path.is_dir()]
    for path in top:
        path.rename(path.with_name(path.name.lower()))
    assert read_dicom(listed)["readable"].all() and top


def test_a_dicomdir_reads_nothing_outside_its_folder(folder, tmp_path):
    listed = medium(folder, tmp_path / "cd")
    shutil.copytree(folder / "deep" / "er", tmp_path / "outside")
    dataset = pydicom.dcmread(listed)
    for record in dataset.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["..", "outside", sorted((tmp_path / "outside").iterdir())[0].name]
    dataset.save_as(listed)
    with pytest.raises(DicomError, match="that the DICOMDIR lists are missing"):
        read_dicom(listed)


# -- what is no image --------------------------------------------------------------------------------------------------


def test_encrypted_files_are_named(tmp_path):
    oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"
    (tmp_path / "a.dcm").write_bytes(b"\x30\x82\x10\x00" + oid + bytes(500))
    with pytest.raises(DicomError, match=r"an encrypted file \(CMS\); decrypt it"):
        read_dicom(tmp_path)
    write(small_volume(), tmp_path / "good")
    table = read_dicom(tmp_path)
    assert np.array_equal(table.volume(5).array, small_volume().array)
    assert "1 damaged" in table.set_index("series").warnings[5]


def test_sealed_attributes_without_geometry_are_named(tmp_path):
    for path in write(small_volume(), tmp_path / "a"):
        sealed = pydicom.Dataset()
        sealed.EncryptedContentTransferSyntaxUID, sealed.EncryptedContent = "1.2.840.10008.1.2", b"\x30\x00"
        edit(path, ImagePositionPatient=None, EncryptedAttributesSequence=[sealed])
    with pytest.raises(DicomError, match=r"lack ImagePositionPatient.*attributes are encrypted"):
        read_dicom(tmp_path)


def test_files_that_cannot_be_opened_are_counted(tmp_path, monkeypatch):
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DicomError, match=r"none a DICOM image.* 1 files or folders could not be opened"):
        read_dicom(tmp_path)
    paths = write(small_volume(), tmp_path / "a")

    def opened(path, mode="rb"):
        if Path(path) == paths[-1]:
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    monkeypatch.setattr(dicom_sources, "open", opened, raising=False)
    table = read_dicom(tmp_path)
    assert table["n_slices"][0] == 4 and "2 that could not be opened" in table["warnings"][0]
    assert table.attrs["unopened_files"] == 2


def test_a_pipe_does_not_hang(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    write(small_volume(), tmp_path / "a")
    assert read_dicom(tmp_path)["readable"].all()


@pytest.mark.parametrize(("changes", "found"), [
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary captures"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.30"}, "objects of kind Parametric Map Storage"),
    ({"NumberOfFrames": 2, "Rows": 3}, r"multi-frame images \(2 frames a file\) of no enhanced kind"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour images"),
    ({"RescaleSlope": 0, "RescaleIntercept": 0}, "rescale slope 0"),
    ({"Rows": 4}, "holds more pixels than its header announces"),
    ({"BitsStored": 20}, "pixels of 20 bits"),
])
def test_other_objects_are_refused(tmp_path, changes, found):
    for path in write(small_volume(), tmp_path / "a"):
        edit(path, **changes)
    with pytest.raises(DicomError, match=found):
        read_dicom(tmp_path)


@pytest.mark.parametrize(("changes", "found"), [
    ({"BurnedInAnnotation": "YES"}, "text may be burned into the pixels"),
    ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "text may be burned into the pixels"),
    ({"LossyImageCompression": "01"}, "lossy compression"),
    ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
])
def test_what_a_reader_should_know_is_warned_of(tmp_path, changes, found):
    for path in write(small_volume(), tmp_path / "a"):
        edit(path, **changes)
    table = read_dicom(tmp_path)
    assert table["readable"].all() and found in table["warnings"][0]


def test_linked_folders_are_followed_once(tmp_path):
    write(small_volume(n_echoes=4), tmp_path / "elsewhere" / "inner")
    study = tmp_path / "around" / "study"
    write(small_volume(seed=2), study / "b", SeriesNumber=6)
    (study / "a").symlink_to(study / "b")  # within
    (study / "x").symlink_to(tmp_path / "elsewhere")
    (study / "y").symlink_to(tmp_path / "elsewhere" / "inner")  # a second way to it
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    table = read_dicom(study)
    assert list(table.series) == [5, 6] and list(table.n_files) == [20, 5]
    assert (table.attrs["duplicate_files"], table.attrs["unopened_files"]) == (0, 0)
    (study / "up").symlink_to(tmp_path / "around")
    table = read_dicom(study)
    assert table.attrs["unopened_files"] == 1 and table.warnings.str.contains("1 that could not be opened").all()


def test_packed_files_are_named(tmp_path):
    write(small_volume(), tmp_path / "study")
    whole = Path(shutil.make_archive(str(tmp_path / "nest" / "whole"), "zip", tmp_path / "study"))
    with pytest.raises(
        DicomError, match=r"Found 1 files there, none a DICOM image.* 1 are zip files: give one by itself"
    ):
        read_dicom(whole.parent)
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(DicomError, match="1 are zip files: give one by itself, whole"):
        read_dicom(tmp_path / "cut.zip")
