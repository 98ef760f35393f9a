"""Images of one series that do not belong together: other patients, acquisitions, scales, parts of a whole."""

from __future__ import annotations

import copy

import numpy as np
import pydicom
import pytest
from dicom_enhanced import enhanced_dataset
from dicom_samples import edit, small_volume, write
from pydicom.dataset import Dataset

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.dicom_patients import number_patients, patient_marks


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def by_echo(folder, number):
    return [path for path in files_of(folder) if pydicom.dcmread(path).EchoNumbers == number]


def test_a_rescale_of_some_images_is_refused(tmp_path):
    write(small_volume(n_echoes=4), tmp_path)
    for path in by_echo(tmp_path, 1):
        edit(path, RescaleSlope=1, RescaleIntercept=0)
    assert read_dicom(tmp_path).readable.all(), "a rescale that changes nothing may be left out"
    for path in by_echo(tmp_path, 1):
        edit(path, RescaleSlope=2)
    with pytest.raises(DicomError, match="RescaleSlope in only 5 of 20 images"):
        read_dicom(tmp_path)
    for path in files_of(tmp_path):
        edit(path, RescaleSlope=1 + pydicom.dcmread(path).EchoNumbers, RescaleIntercept=0)
    assert read_dicom(tmp_path).readable.all(), "slopes may differ where all images state one"


@pytest.mark.parametrize("total", [2, None])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_part_of_a_concatenation_is_missed(tmp_path, lost, total):
    volume = small_volume(n_echoes=4, shape=(7, 6, 8))
    whole = enhanced_dataset(volume)
    frames, pixels = list(whole.PerFrameFunctionalGroupsSequence), np.frombuffer(whole.PixelData, "<u2").reshape(32, -1)
    for i, part in enumerate((slice(0, 16), slice(16, 32))):  # whole slices, so that the stack itself shows no gap
        dataset = copy.deepcopy(whole)
        dataset.PerFrameFunctionalGroupsSequence, dataset.PixelData = frames[part], pixels[part].tobytes()
        dataset.NumberOfFrames, dataset.ConcatenationUID = 16, "1.9"
        dataset.InConcatenationNumber, dataset.ConcatenationFrameOffsetNumber = i + 1, part.start
        if total:
            dataset.InConcatenationTotalNumber = total
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{i + 1}"
        dataset.save_as(tmp_path / f"{i}.dcm", enforce_file_format=True)
    assert np.array_equal(read_dicom(tmp_path).volume("multi_echo").array, volume.array)
    (tmp_path / f"{lost}.dcm").unlink()
    if lost and not total:  # nothing in the first part tells that there is a second
        assert read_dicom(tmp_path).readable.all()
        return
    with pytest.raises(DicomError, match="1 of 2 parts of one multi-frame image"):
        read_dicom(tmp_path)


def one_uid(folder):
    for path in files_of(folder):
        edit(path, SeriesInstanceUID="1.2.3", SeriesNumber=None, EchoNumbers=None)


@pytest.mark.parametrize("changes", [{"RepetitionTime": 500.0}, {"FlipAngle": 70}, {"ScanningSequence": "IR"}])
def test_another_acquisition_under_one_uid_is_no_echo(tmp_path, changes):
    echoes, alien = small_volume(n_echoes=4), small_volume(seed=5)
    write(echoes, tmp_path / "a", EchoNumbers=1)
    write(alien.with_array(alien.array, echo_times_ms=(14.0,)), tmp_path / "b", EchoNumbers=1, **changes)
    one_uid(tmp_path)
    table = read_dicom(tmp_path)
    rows = table[table.n_echoes == 4]
    assert len(table) == 2 and table.warnings.str.contains(f"different acquisitions.*{next(iter(changes))}").all()
    assert np.array_equal(rows.volume("multi_echo").array, echoes.array)


def test_an_echo_of_which_a_part_is_alien_is_refused(tmp_path):
    write(small_volume(n_echoes=4), tmp_path)
    edit(by_echo(tmp_path, 2)[0], RepetitionTime=3020)  # within the tolerance
    assert list(read_dicom(tmp_path).n_echoes) == [4]
    edit(by_echo(tmp_path, 2)[0], RepetitionTime=500)
    with pytest.raises(DicomError, match=r"different acquisitions under one series .RepetitionTime 500 and 3000"):
        read_dicom(tmp_path)


def test_a_tr_that_differs_from_slice_to_slice_is_fine(tmp_path):
    write(small_volume(n_echoes=4), tmp_path)
    for path in files_of(tmp_path):  # gated by heart or breath
        edit(path, RepetitionTime=3000 + 5 * float(pydicom.dcmread(path).ImagePositionPatient[2]))
    assert list(read_dicom(tmp_path).n_echoes) == [4]


def test_a_presumed_spin_echo_is_warned_of(tmp_path):
    write(small_volume(n_echoes=8), tmp_path)
    assert read_dicom(tmp_path).warnings.item() == ""
    for path in files_of(tmp_path):
        edit(path, ScanningSequence=None)
    table = read_dicom(tmp_path)
    assert table.role.item() == "multi_echo" and "sequence not stated; taken for a spin echo" in table.warnings.item()
    for path in files_of(tmp_path):
        edit(path, FlipAngle=60)
    assert read_dicom(tmp_path).role.item() == "other"


def test_a_first_echo_that_is_missing_is_warned_of(tmp_path):
    write(small_volume(n_echoes=5), tmp_path)
    first = by_echo(tmp_path, 1)
    for path in files_of(tmp_path):
        edit(path, EchoNumbers=None)
    assert read_dicom(tmp_path).warnings.item() == ""
    for path in first:
        path.unlink()
    assert "the first echo seems to be missing" in read_dicom(tmp_path).warnings.item()


def test_units_that_differ_between_images_are_no_unit(tmp_path):
    write(small_volume(), tmp_path, RescaleType="ms", RescaleSlope=1, RescaleIntercept=0)
    assert read_dicom(tmp_path).volume(5).meta["RescaleType"] == "ms"
    edit(files_of(tmp_path)[2], RescaleType="US")
    table = read_dicom(tmp_path)
    assert "units differ between images (RescaleType)" in table.warnings.item()
    assert "RescaleType" not in table.volume(5).meta


PATIENT = {"PatientID": "S-007", "PatientName": "Muster^Änne", "PatientBirthDate": "19700101"}


@pytest.mark.parametrize(("changes", "patient"), [
    ({"PatientID": "S-008"}, 2), ({"PatientName": "Muster^Anton"}, 2), ({"PatientBirthDate": "19700102"}, 2),
    ({"PatientName": "MUSTER^ÄNNE=other script"}, 1), ({"PatientID": "s-007 "}, 1), ({"PatientName": ""}, 1),
    ({"PatientID": "ANON", "PatientName": "", "PatientBirthDate": ""}, 1), (dict.fromkeys(PATIENT, ""), 1),
])
def test_patients_are_told_apart(changes, patient):
    images = []
    for facts in ({**PATIENT, **changes}, PATIENT):
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in facts.items():
            setattr(dataset, keyword, value)
        images.append({"patient": patient_marks(dataset), "StudyInstanceUID": "1.2"})
    assert [image["patient"] for image in number_patients(images)] == [1, patient]
    assert not any(text in repr(images) for text in ("007", "Muster", "muster", "1970"))


def test_two_patients_in_one_study(tmp_path):
    for folder, number, patient in (("a", 5, "ALICE"), ("b", 6, "BOB"), ("c", 7, "BOB")):
        write(small_volume(n_echoes=4, seed=number), tmp_path / folder, SeriesNumber=number)
        for path in files_of(tmp_path / folder):
            edit(path, PatientID=patient, PatientName=patient, StudyInstanceUID="1.2.3")
    table = read_dicom(tmp_path)
    assert list(table.patient) == [1, 2, 2] and table.attrs["patients"] == 2
    assert table.warnings.str.contains("images of 2 patients lie under one StudyInstanceUID").all()
    assert not any(name in table.to_string() for name in ("ALICE", "BOB"))
    for path in files_of(tmp_path / "a"):
        edit(path, PatientID="", PatientName="")
    table = read_dicom(tmp_path)
    assert set(table.patient) == {1} and table.warnings.eq("").all(), "a blank identity is unknown, not another"


def test_two_patients_in_one_series_are_two_rows(tmp_path):
    volumes = [small_volume(n_echoes=4, seed=seed) for seed in (1, 2)]
    for volume, name in zip(volumes, ("ALICE", "BOB"), strict=True):
        write(volume, tmp_path / name)
        for path in files_of(tmp_path / name):
            edit(path, PatientID=name, PatientName=name, SeriesInstanceUID="1.2.4", StudyInstanceUID="1.2.3")
    table = read_dicom(tmp_path)
    assert sorted(table.patient) == [1, 2]
    for patient, volume in zip((1, 2), volumes, strict=True):
        assert np.array_equal(table[table.patient == patient].volume("multi_echo").array, volume.array)
