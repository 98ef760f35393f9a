"""Nothing that tells who was scanned leaves: planted identities are searched for in every byte that comes out."""

from __future__ import annotations

import base64
import gzip
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cohort_samples import reviewed, tiny_labels, tiny_study
from pydicom.uid import generate_uid

from mrmyo import process_cohort, write_nifti
from mrmyo.__main__ import main
from mrmyo.provenance import record
from mrmyo.study_subjects import visits_of

SURNAME, FORENAME = "Zweigelstein", "Ottokarine"
PLANTED = {
    "PatientName": f"{SURNAME}^{FORENAME}", "PatientID": "PID-81726354", "PatientBirthDate": "19030405",
    "OtherPatientIDs": "OPI-5551212", "PatientAddress": "Quittenweg 17", "PatientTelephoneNumbers": "0815-474747",
    "AccessionNumber": "ACC-99887766", "StudyID": "STID-31415", "StudyDate": "19981224", "SeriesDate": "19981225",
    "AcquisitionDate": "19981226", "ContentDate": "19981227", "StudyTime": "235958.123457",
    "ReferringPhysicianName": "Hausarzt^Waldemar", "PerformingPhysicianName": "Radiologe^Ansgar",
    "OperatorsName": "Mtraplant^Edeltraud", "InstitutionName": "Spital Hinterzarten", "StationName": "MRPLANT07",
    "InstitutionAddress": "Lazarettgasse 3", "DeviceSerialNumber": "SN-7654321", "PatientComments": "Commentplant one",
    "StudyDescription": f"knee of {FORENAME}", "SeriesDescription": f"t2 {SURNAME}", "ProtocolName": "Protoplant two",
    "ImageComments": f"seen with {SURNAME}", "RequestedProcedureDescription": "Procplant three",
    "StudyInstanceUID": "1.2.826.0.1.3680043.10.4711.1", "FrameOfReferenceUID": "1.2.826.0.1.3680043.10.4711.2",
}
PRIVATE = "Privateplant four"
FILE_NAMES = ("Akte_Zweigelstein", "zweigelstein_ottokarine.dcm")
SOUGHT = sorted({
    SURNAME, FORENAME, PRIVATE, *PLANTED.values(), *FILE_NAMES, "Quittenweg", "Waldemar", "Hausarzt", "Radiologe",
    "Ansgar", "Edeltraud", "Mtraplant", "Hinterzarten", "Lazarettgasse", "81726354", "99887766", "3680043.10.4711",
    "Commentplant", "Protoplant", "Procplant", "Privateplant", "235958",
})


def plant(folder, **others):
    """Put the identities into every file, and the name into the files' names."""
    for n, path in enumerate(sorted(folder.rglob("*.dcm"))):
        image = pydicom.dcmread(path)
        for keyword, value in {**PLANTED, **others}.items():
            setattr(image, keyword, value)
        block = image.private_block(0x0029, "MRMYO TEST", create=True)
        block.add_new(0x10, "LO", PRIVATE)
        image.save_as(path.with_name(f"{n:03d}_{FILE_NAMES[1]}"))
        path.unlink()
    for path in folder.iterdir():
        path.rename(path.with_name(f"{path.name} {SURNAME}"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A whole study with a broken series beside it, and a study in which all is broken."""
    root = tmp_path_factory.mktemp("archive") / FILE_NAMES[0]
    whole = tiny_study(root / f"{SURNAME}_1")
    plant(whole)
    broken = tiny_study(root / f"{SURNAME}_2", seed=2)
    plant(broken, StudyInstanceUID=PLANTED["StudyInstanceUID"] + "7")
    extra = whole / f"lost {SURNAME}"
    extra.mkdir()
    uid = generate_uid()
    for n, path in enumerate(sorted((broken / f"multi_echo {SURNAME}").iterdir())[:7]):
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID, image.SeriesNumber = uid, 9
        image.save_as(extra / f"{n}_{FILE_NAMES[1]}")
    for n, path in enumerate(sorted(broken.rglob("*.dcm"))):
        content = path.read_bytes()
        if n % 3:
            path.write_bytes(content[: len(content) * 2 // 3])  # within the pixels, or the header
        else:
            path.write_bytes(content.replace(b"ORIGINAL", b"O\\RIG\xffNA").replace(b"SE", b"\xff\xfe"))
    (broken / f"note {SURNAME}.txt").write_text(f"{SURNAME} was here")
    os.mkfifo(broken / f"pipe {SURNAME}.dcm")
    (broken / f"dead {SURNAME}.dcm").symlink_to(broken / f"nowhere {SURNAME}")
    return whole, broken


@pytest.fixture
def command(capfd, caplog):
    """A function that runs a command and gives its status and all that is printed, warned of and logged."""

    def run(*arguments):
        caplog.clear()
        capfd.readouterr()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            status = main([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        told = "\n".join([printed.out, printed.err, caplog.text, *(str(warning.message) for warning in caught)])
        return status, told.encode()

    return run


def in_a_process_of_its_own(*arguments):
    """The same, as a user runs it."""
    done = subprocess.run([sys.executable, "-W", "always", "-m", "mrmyo", *map(str, arguments)], capture_output=True)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout + done.stderr


def spellings(value):
    """How a text may hide in bytes (small letters), and in base64."""
    plain = [value.casefold().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    cores = []
    for shift in range(3):  # wherever it begins within three bytes
        coded = base64.b64encode(b"\0" * shift + value.encode()).rstrip(b"=")
        cores.append(coded[(0, 2, 3)[shift] : -1])
    return plain, [core for core in cores if len(core) >= 8]


def found_in(content, what=SOUGHT):
    """The planted texts that some bytes hold."""
    layers = [content]
    if content[:2] == b"\x1f\x8b":
        layers.append(gzip.decompress(content))
    layers += [base64.b64decode(data) for data in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)]
    hits = set()
    for layer in layers:
        small = layer.lower()
        for value in what:
            plain, coded = spellings(value)
            if any(text in small for text in plain) or any(text in layer for text in coded):
                hits.add(value)
    return hits


def assert_clean(folder, *, but=()):
    """No name and no content within a folder tells anything."""
    for path in folder.rglob("*"):
        assert not found_in(str(path.relative_to(folder)).encode()), path.name
        if path.is_file() and path.name not in but:
            assert not found_in(path.read_bytes()), path.name


def test_the_search_finds_what_is_planted(archive):
    image = next(archive[0].rglob("*.dcm")).read_bytes()
    assert found_in(image) >= set(PLANTED.values()) - {PLANTED["PatientName"]} | {SURNAME, PRIVATE}
    assert found_in(gzip.compress(f"x{SURNAME.upper()}".encode())) == {SURNAME}
    assert found_in(SURNAME.encode("utf-16")) == {SURNAME}
    for shift in range(3):
        assert found_in(base64.b64encode(b"+" * shift + SURNAME.encode() + b"--")) == {SURNAME}
    page = b"<img src=data:image/png;base64," + base64.b64encode(b"\x89PNG tEXt" + FORENAME.encode()) + b">"
    assert found_in(page) == {FORENAME}


def test_one_study(archive, tmp_path, command):
    labels = write_nifti(tiny_labels(), tmp_path / "labels.nii.gz")
    settings = tmp_path / "settings.toml"
    settings.write_text('[roles]\nmulti_echo = 5\nin_phase = 2\n')
    for number, folder in enumerate(archive):
        out = tmp_path / f"out{number}"
        status, told = command("run", folder, out, "--labels", labels, "--settings", settings)
        assert (status == 0) == (number == 0), told.decode()
        assert not found_in(told), told.decode()
        if out.exists():
            assert_clean(out)


def test_a_role_stated_by_a_description_that_holds_a_name(archive, tmp_path, command):
    labels = write_nifti(tiny_labels(), tmp_path / "labels.nii.gz")
    settings = tmp_path / "settings.toml"
    for number, path in ((2, "in_phase"), (5, "multi_echo")):
        folder = tmp_path / "study" / path
        folder.mkdir(parents=True)
        for n, source in enumerate(sorted((archive[0] / f"{path} {SURNAME}").iterdir())):
            image = pydicom.dcmread(source)
            image.SeriesDescription = f"{number} of {SURNAME}"
            image.save_as(folder / f"{n}.dcm")
    settings.write_text(f'[roles]\nin_phase = "2 of {SURNAME}"\n')
    status, told = command("run", tmp_path / "study", tmp_path / "out", "--labels", labels, "--settings", settings)
    assert status == 0, told.decode()
    assert not found_in(told)
    assert_clean(tmp_path / "out")
    settings.write_text(f'[roles]\nin_phase = "no such {SURNAME}"\n')
    status, told = command("run", tmp_path / "study", tmp_path / "out2", "--labels", labels, "--settings", settings)
    assert status == 1 and not found_in(told), told.decode()


def test_a_cohort_and_its_bids(archive, tmp_path, command):
    out = tmp_path / "out"
    out.mkdir()
    reviewed(out, *(visit.place for visit in visits_of(archive, out)))
    gone = archive[0].parent / f"gone {SURNAME}"
    status, told = in_a_process_of_its_own("cohort", *archive, gone, "--out", out, "--bids", "--jobs", 2)
    assert status == 0, told.decode()
    assert b"1 measured" in told and b"2 failed" in told
    assert not found_in(told), told.decode()
    assert_clean(out, but=[".keys.csv"])
    assert (out / ".keys.csv").stat().st_mode & 0o777 == 0o600
    assert found_in((out / ".keys.csv").read_bytes()) <= {SURNAME, FILE_NAMES[0]}  # paths, and nothing of the headers
    assert (out / "bids" / "participants.tsv").is_file()
    status, told = command("cohort", archive[1], "--out", tmp_path / "none", "--jobs", 1)
    assert status == 1 and not found_in(told), told.decode()


def test_keys_of_the_users_choosing(archive, tmp_path, command):
    table = tmp_path / "subjects.csv"
    table.write_text(f"subject,session,folder\nP01,a,{archive[0]}\nP01,b,{archive[1]}\n")
    out = tmp_path / "out"
    reviewed(out, "P01/ses-a")
    status, told = command("cohort", "--subjects", table, "--out", out, "--bids", "--jobs", 1)
    assert status == 0 and not found_in(told), told.decode()
    assert_clean(out, but=[".keys.csv"])
    assert (out / "rows.csv").read_text().splitlines()[1].startswith("P01,a,")


@pytest.mark.parametrize("which", [0, 1], ids=["whole", "broken"])
def test_single_steps(which, archive, tmp_path, command):
    folder = archive[which]
    status, told = command("t2", folder, tmp_path / "t2.nii.gz")
    assert (status == 0) == (which == 0) and not found_in(told), told.decode()
    status, told = command("segment", folder, tmp_path / "labels.nii.gz")
    assert not found_in(told), told.decode()
    status, told = command("check", folder, "--picture", tmp_path / "picture.png")
    assert not found_in(told), told.decode()
    if which == 0:
        assert (tmp_path / "t2.nii.gz").is_file() and (tmp_path / "picture.png").is_file()
    assert_clean(tmp_path)


def test_odd_values_are_not_quoted_in_warnings(tmp_path, command):
    """pydicom warns of values that break the rules, and quotes them."""
    folder = tmp_path / "study"
    tiny_study(folder)
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        warnings.simplefilter("ignore")
        for path in folder.rglob("*.dcm"):
            image = pydicom.dcmread(path)
            image.PatientID = SURNAME * 8
            image.PatientBirthDate, image.StudyDate, image.PatientSex = SURNAME, FORENAME, SURNAME.lower()
            image.StudyInstanceUID, image.AccessionNumber = f"1.2.{SURNAME}", SURNAME * 4
            image.SeriesDescription, image.StudyTime = SURNAME * 9, FORENAME
            image.save_as(path)
    finally:
        pydicom.config.settings.writing_validation_mode = None
    out = tmp_path / "out"
    reviewed(out, "P1")
    (tmp_path / "t.csv").write_text(f"subject,folder\nP1,{folder}\n")
    for arguments in (["cohort", "--subjects", tmp_path / "t.csv"], ["cohort", folder], ["check", folder]):
        extra = [] if arguments[0] == "check" else ["--out", out, "--jobs", 1]
        _, told = command(*arguments, *extra)
        assert not found_in(told), told.decode()
    assert_clean(out)


@pytest.mark.parametrize("kind", [PermissionError, RuntimeError])
def test_errors_of_libraries_name_no_file_of_the_study(kind, archive, tmp_path, command, monkeypatch):
    path = next(archive[0].rglob("*.dcm"))

    def fail(*_, **__):
        raise kind(13, "Permission denied", str(path)) if kind is PermissionError else kind(f"cannot open {archive[0]}")

    monkeypatch.setattr("mrmyo.process_study", fail, raising=False)
    status, told = command("run", archive[0], tmp_path / "out")
    assert status == 1 and told.strip() and not found_in(told), told.decode()


def test_provenance_tells_nothing_of_this_computer(monkeypatch):
    monkeypatch.setenv("USER", SURNAME)
    monkeypatch.setenv("HOME", f"/home/{SURNAME}")
    text = str(record(settings={"t2_model": "mono"}))
    names = {os.uname().nodename, SURNAME, str(Path.cwd()), os.uname().release}
    assert not [name for name in names if name and name in text]


def test_hashes_cannot_be_undone_without_the_salt(archive, tmp_path):
    """Keys are hashes under a secret: trying all numbers and names without it finds none of them."""
    import hashlib

    (tmp_path / "a").mkdir()
    visit = visits_of([archive[0]], tmp_path / "a")[0]
    for text in (*PLANTED.values(), str(archive[0])):
        for trial in (text, text.casefold(), text.replace("^", " ").casefold()):
            assert hashlib.sha256(trial.encode()).hexdigest()[:12] not in (visit.subject[4:], visit.study)


def test_a_reviewed_mask_by_any_name(archive, tmp_path, command):
    """The name of a mask's file is the user's; it goes no further."""
    mask = write_nifti(tiny_labels(), tmp_path / f"{SURNAME}.nii.gz")
    _, told = command("run", archive[0], tmp_path / "out", "--labels", mask)
    assert not found_in(told) and np.asarray(tiny_labels().array).any()
    assert_clean(tmp_path / "out")
    rows = process_cohort({"out": archive[0]}, tmp_path, n_jobs=1, progress=False)
    assert rows["mask"].str.startswith("reviewed").all()
