"""Who was scanned, as salted hashes: the patient's identity itself never leaves this module."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom

__all__ = ["quietly", "same_studies", "study_keys"]

_KEYWORDS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge",
             "PatientSize", "StudyInstanceUID", "StudyDate", "StudyTime")
# what anonymisers write in place of a number or a name: many patients share it. Without blanks and punctuation; the
# words may be joined, as in "noname" or "patientid", and followed by zeros
_PLACEHOLDER = re.compile(
    r"(anon\w*|de?ident\w*|pseudo\w*|removed\w*|deleted\w*|redacted\w*|no|not|un|known|none|null|nil|na|nan|undefined|"
    r"missing|test|dummy|default|phantom|volunteer|proband|patient|subject|person|participant|hidden|masked|blank|empty|"
    r"available|applicable|unbekannt|john|jane|doe|name|number|id)*0*|x+|(.)\2{2,}|0?1234(5(6(7(8(90?)?)?)?)?)?"
)
_WHO = 1 << 20  # bytes of a file that tell it from another one
# within these, two visits may be of one patient: years of birth, years between visits without dates, metres
_BIRTH_YEARS, _AGE_YEARS, _SIZE_M = 1.5, 5.0, 0.1


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom from telling, in warnings and in its log, which odd values it came upon: it quotes them."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def study_keys(folders: Sequence, salt: str) -> tuple[list[tuple[str, str]], list[int]]:
    """Hashes of the patient and of the study in each folder, and the folders' order in time.

    One patient is one PatientID (with its issuer), name, birth date and sex, all four; a visit whose header spells one
    of them otherwise is taken for another patient, for to mix up two is worse. Where the number is missing or says what
    anonymisers write ("ANON", "0000"), or where ages or body heights cannot be of one person, the path of the folder
    takes the patient's place, and every folder is a patient of its own.

    Parameters
    ----------
    folders : sequence of path
        Study folders, DICOMDIR or zip files; unreadable ones too.
    salt : str
        Secret; without it a hash could be undone by trying all the numbers.

    Returns
    -------
    keys : list of (str, str)
        Patient and study.
    order : list of int
        Indices of `folders`, by date and time of the study, then by key.
    """
    found = [_identity(Path(folder)) for folder in folders]
    patients = [_patient(facts) for facts in found]
    visits = {}
    for facts, patient in zip(found, patients, strict=True):
        visits.setdefault(patient, []).append(facts)
    doubtful = {patient for patient, of in visits.items() if _contradictory(of)}
    keys, times = [], []
    for folder, facts, patient in zip(folders, found, patients, strict=True):
        place = ("path", str(Path(folder).resolve()))
        study = (*(patient or place), facts["StudyInstanceUID"]) if facts["StudyInstanceUID"] else place
        # in doubt the study keeps its hash: a key that an earlier run gave to it stays
        keys.append((_hash(salt, place if patient in doubtful else patient or place), _hash(salt, study)))
        times.append((facts["StudyDate"], facts["StudyTime"], keys[-1]))
    return keys, sorted(range(len(keys)), key=times.__getitem__)


def same_studies(folders: Sequence) -> list[list[int]]:
    """Indices of the folders that hold one study: the same folder, or copies with the same UID and first image."""
    alike = {}
    for index, folder in enumerate(folders):
        facts = _identity(Path(folder))
        mark = (facts["StudyInstanceUID"], facts["content"]) if facts["StudyInstanceUID"] else Path(folder).resolve()
        alike.setdefault(mark, []).append(index)
    return [indices for indices in alike.values() if len(indices) > 1]


def _hash(salt, parts):
    return hmac.new(salt.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()[:12]


def _patient(facts):
    """The parts that tell one patient from others; None where they cannot."""
    number, name = (_unless_placeholder(facts[keyword]) for keyword in ("PatientID", "PatientName"))
    if not number:
        return None
    return "patient", number, facts["IssuerOfPatientID"], name, facts["PatientBirthDate"], facts["PatientSex"]


def _unless_placeholder(text):
    return "" if _PLACEHOLDER.fullmatch(re.sub(r"[\W_]+", "", text)) else text


def _contradictory(visits):
    """Whether visits under one identity can hardly be of one person."""
    ages = [(_age(facts["PatientAge"]), facts["StudyDate"][:4]) for facts in visits]
    ages = [(age, year) for age, year in ages if age is not None]
    births = [int(year) - age for age, year in ages if year.isdecimal()]
    sizes = [float(size) for size in (facts["PatientSize"] for facts in visits) if re.fullmatch(r"\d+(\.\d+)?", size)]
    sizes = [size for size in sizes if size > 0]
    apart = [(births, _BIRTH_YEARS) if len(births) == len(ages) else ([age for age, _ in ages], _AGE_YEARS),
             (sizes, _SIZE_M)]
    return any(max(values) - min(values) > most for values, most in apart if values)


def _age(text):
    """Years, of an age as DICOM writes it ("045Y", "018M"); or None."""
    if not re.fullmatch(r"\d{1,3}[dwmy]", text):
        return None
    return int(text[:-1]) / {"d": 365.25, "w": 52.18, "m": 12.0, "y": 1.0}[text[-1]]


def _identity(folder):
    """The identifying facts of the first image that has any, in small letters without punctuation, or blanks.

    The files are those that `mrmyo.read_dicom` reads. ``content`` is a hash of how that file begins.
    """
    from mrmyo.dicom_files import read_headers
    from mrmyo.dicom_sources import find_files, open_binary

    blank = dict.fromkeys((*_KEYWORDS, "content"), "")
    with quietly():
        try:
            paths, *_ = find_files(folder)
        except ValueError:  # the study will fail, and say why
            return blank
        for path in paths:
            try:
                if not read_headers(path):
                    continue
                file, _ = open_binary(path)
                with file:
                    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_KEYWORDS), force=True)
                    facts = {keyword: _plain(dataset, keyword) for keyword in _KEYWORDS}
                    file.seek(0)
                    facts["content"] = hashlib.sha256(file.read(_WHO)).hexdigest()
            except Exception:  # damaged: perhaps the next one tells
                continue
            if facts["StudyInstanceUID"] or facts["PatientID"]:
                return facts
    return blank


def _plain(dataset, keyword):
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that breaks the rules of its kind, which pydicom meets only now
        return ""
    text = unicodedata.normalize("NFKC", str("" if value is None else value)).casefold()
    return " ".join(re.sub(r"[^\w./]+|_+", " ", text).split())
