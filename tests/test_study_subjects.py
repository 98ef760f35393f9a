"""Whose visit a study folder is: identities, placeholders, and keys that stay."""

from __future__ import annotations

import shutil

import pandas as pd
import pydicom
import pytest
from cohort_samples import tiny, tiny_study

from mrmyo.study import StudyError
from mrmyo.study_subjects import KEYS, read_subjects, visits_of, write_keys

__all__ = ["tiny"]  # a fixture


def test_visits_of_one_patient_are_sessions_by_date(tiny, tmp_path):
    visits = visits_of([tiny / "a", tiny / "b", tiny / "a_before"], tmp_path)
    by_folder = {visit.folder.name: visit for visit in visits}
    a, before, b = (by_folder[name] for name in ("a", "a_before", "b"))
    assert a.subject == before.subject != b.subject
    assert (before.session, a.session, b.session) == ("01", "02", "")
    assert a.place == f"{a.subject}/ses-02" and b.place == b.subject
    assert (tmp_path / ".salt").stat().st_mode & 0o077 == 0
    other = visits_of([tiny / "a"], tmp_path_of(tmp_path, "other"))
    assert other[0].subject != a.subject  # another salt


def tmp_path_of(root, name):
    (root / name).mkdir()
    return root / name


def test_keys_stay_when_folders_move_and_visits_come_later(tiny, tmp_path):
    moved = tmp_path_of(tmp_path, "elsewhere")
    out = tmp_path_of(tmp_path, "out")
    first = visits_of([tiny / "a"], out)
    write_keys(first, out)
    shutil.copytree(tiny / "a", moved / "a")
    second = visits_of([moved / "a", tiny / "a_before"], out)  # the earlier visit comes later
    write_keys(second, out)
    keys = {visit.folder.name: (visit.subject, visit.session) for visit in second}
    assert keys["a"] == (first[0].subject, "") and keys["a_before"] == (first[0].subject, "02")
    alone = visits_of([tiny / "a_before"], out)[0]
    assert alone.session == "02" and alone.note  # also when it comes alone
    table = pd.read_csv(out / KEYS, dtype=str, keep_default_na=False)
    assert len(table) == 2 and str(moved / "a") in set(table.folder)


@pytest.mark.parametrize(
    ("facts", "same"),
    [
        ({}, True),
        ({"PatientName": "SYNTHETIC A"}, True),  # the name as another system writes it
        ({"PatientID": "A2"}, False),
        ({"PatientName": "Else^Someone"}, False),
        ({"PatientBirthDate": "19700101"}, False),
        ({"IssuerOfPatientID": "elsewhere"}, False),
    ],
)
def test_one_patient_is_one_number_name_and_birth_date(facts, same, tiny, tmp_path):
    tiny_study(tmp_path / "x", subject="A", StudyDate="20220101", **facts)
    first, second = (visit.subject for visit in visits_of([tiny / "a", tmp_path / "x"], tmp_path))
    assert (first == second) == same


@pytest.mark.parametrize("number, name", [
    ("ANONYMOUS", ""), ("anon_0000", ""), ("", ""), ("0000", ""), ("XXXX", "XXXX^XXXX"), ("Patient", ""), ("-", "-"),
    ("NOID", "NAME^NONE"), ("", "DOE^JOHN"), ("", "REMOVED BY CTP"), ("Volunteer", ""), ("12345", ""),
    ("(removed)", ""),
    ("PATIENTID", "PATIENTNAME"), ("Pseudonymized", ""), ("De-Identified", ""), ("Test^Patient", ""), ("1111111", ""),
    ("", "Real^Name"), ("N/A", ""), ("nan", ""), ("Unbekannt", ""),
])
def test_what_anonymisers_write_is_no_patient(number, name, tmp_path):
    for day in (1, 2):
        tiny_study(tmp_path / str(day), PatientID=number, PatientName=name, StudyDate=f"2022010{day}",
                   PatientBirthDate="19000101")
    first, second = visits_of([tmp_path / "1", tmp_path / "2"], tmp_path)
    assert first.subject != second.subject and not first.note


@pytest.mark.parametrize("number", ["A", "Patient 17", "TEST-004-2", "NOWAK", "1203404", "SYN-HC-03"])
def test_a_number_is_a_patient(number, tmp_path):
    for day in (1, 2):
        tiny_study(tmp_path / str(day), PatientID=number, StudyDate=f"2022010{day}")
    first, second = visits_of([tmp_path / "1", tmp_path / "2"], tmp_path)
    assert first.subject == second.subject and "identity" in first.note and second.note


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [({"PatientSex": "F"}, {"PatientSex": "M"}, False),
     ({"PatientAge": "030Y"}, {"PatientAge": "050Y"}, False),
     ({"PatientAge": "030Y"}, {"PatientAge": "040Y", "StudyDate": "20300601"}, True),
     ({"PatientAge": "030Y", "StudyDate": ""}, {"PatientAge": "050Y", "StudyDate": "", "StudyID": "2"}, False),
     ({"PatientSize": "1.62"}, {"PatientSize": "1.85"}, False),
     ({"PatientSize": "1.62"}, {"PatientSize": "1.6"}, True), ({"PatientSize": "0"}, {"PatientSize": "1.6"}, True)],
)
def test_one_number_for_people_who_cannot_be_one(first, second, same, tmp_path):
    out = tmp_path_of(tmp_path, "out")
    tiny_study(tmp_path / "1", **first)
    tiny_study(tmp_path / "2", **{"StudyDate": "20200601", **second})
    visits = visits_of([tmp_path / "1", tmp_path / "2"], out)
    assert (visits[0].subject == visits[1].subject) == same
    write_keys(visits, out)
    again = visits_of([tmp_path / "2"], out)  # alone it contradicts nothing, and keeps its key
    assert {(v.subject, v.session) for v in again} < {(v.subject, v.session) for v in visits}


def test_one_study_under_two_keys_is_refused(tiny, tmp_path):
    (tmp_path / "t.csv").write_text(f"subject,session,folder\nP1,,{tiny / 'a'}\nP2,02,{tiny}/./a/\n")
    with pytest.raises(StudyError, match="P1 and P2/ses-02"):
        visits_of(read_subjects(tmp_path / "t.csv"), tmp_path)
    shutil.copytree(tiny / "a", tmp_path / "copy")
    with pytest.raises(StudyError, match="P1 and P3"):
        visits_of({"P1": tiny / "a", "P2": tiny / "a_before", "P3": tmp_path / "copy"}, tmp_path)


@pytest.mark.parametrize(("change", "refused"), [
    (lambda text: text.replace(",", ";"), False), (lambda text: "\ufeff" + text.replace(",", "\t"), False),
    (lambda text: text.replace(",01,", ",1,"), True), (lambda text: text.replace("study", "x"), True),
    (lambda text: "", True),
], ids=["semicolons", "tabs", "numbers", "columns", "empty"])
def test_keys_saved_by_another_program(change, refused, tiny, tmp_path):
    folders = [tiny / "a", tiny / "a_before"]
    first = visits_of(folders, tmp_path)
    write_keys(first, tmp_path)
    (tmp_path / KEYS).write_text(change((tmp_path / KEYS).read_text()), encoding="utf-8")
    if refused:
        with pytest.raises(StudyError, match="Bring it back"):
            visits_of(folders, tmp_path)
    else:
        assert [v.place for v in visits_of(folders[:1], tmp_path)] == [v.place for v in first if v.folder == folders[0]]


def test_folders_of_a_table_lie_beside_it(tmp_path):
    (tmp_path / "t.csv").write_text("subject,folder\nP1,here/P1\n")
    assert read_subjects(tmp_path / "t.csv") == {("P1", ""): tmp_path / "here" / "P1"}


def test_one_file_is_of_its_own_patient(tiny, tmp_path):
    files = []
    for name in ("b", "a"):
        files.append(tmp_path / f"{len(files)}.dcm")
        shutil.copy(next((tiny / name / "in_phase").glob("*")), files[-1])
    b, a = ({v.folder: v.subject for v in visits_of(files, tmp_path)}[file] for file in files)
    assert b == visits_of([tiny / "b"], tmp_path)[0].subject and a == visits_of([tiny / "a"], tmp_path)[0].subject


def test_an_identity_is_read_from_zip_and_behind_other_files(tiny, tmp_path):
    (tmp_path / "x").mkdir()
    shutil.copytree(tiny / "a", tmp_path / "x" / "study")
    (tmp_path / "x" / "0_notes.txt").write_text("no image")
    bare = next((tiny / "b" / "in_phase").glob("*")).read_bytes()[132:]  # no preamble: read_dicom reads it, too
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "image").write_bytes(bare)
    assert visits_of([tmp_path / "bare"], tmp_path)[0].subject == visits_of([tiny / "b"], tmp_path)[0].subject
    truncated = next((tiny / "a").rglob("*.dcm")).read_bytes()[:200]
    (tmp_path / "x" / "1_broken.dcm").write_bytes(truncated)
    shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path / "x")
    visits = visits_of([tiny / "a", tmp_path / "x", tmp_path / "z.zip"], tmp_path)
    assert len({visit.subject for visit in visits}) == 1
    assert pydicom.dcmread(next((tiny / "a").rglob("*.dcm"))).PatientID == "A"
