"""Who was scanned, as salted hashes: the patient's identity itself never leaves this module."""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import os
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pydicom

__all__ = ["quietly", "study_keys"]

_KEYWORDS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate",
             "StudyTime")
# what anonymisers write in place of a number or a name: many patients share it
_PLACEHOLDER = re.compile(
    r"0*|x+|(no ?name|un ?known|none|null|n/?a|test|patient|subject|removed|deleted|hidden|anon\w*|de ?ident\w*)\W*0*"
)


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

    One patient is one PatientID (with its issuer), name and birth date, all three; a visit whose header spells one of
    them otherwise is taken for another patient, for to mix up two is worse. Where the number is missing or says what
    anonymisers write ("ANON", "0000"), name and birth date must both be there; else the path of the folder takes the
    patient's place, and every folder is a patient of its own.

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
    keys, times = [], []
    for folder in folders:
        facts = _identity(Path(folder))
        place = ("path", str(Path(folder).resolve()))
        patient = _patient(facts) or place
        study = (*patient, facts["StudyInstanceUID"]) if facts["StudyInstanceUID"] else place
        keys.append((_hash(salt, patient), _hash(salt, study)))
        times.append((facts["StudyDate"], facts["StudyTime"], keys[-1]))
    return keys, sorted(range(len(keys)), key=times.__getitem__)


def _hash(salt, parts):
    return hmac.new(salt.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()[:12]


def _patient(facts):
    """The parts that tell one patient from others; None where they cannot."""
    number, name = (_unless_placeholder(facts[keyword]) for keyword in ("PatientID", "PatientName"))
    if number or (name and facts["PatientBirthDate"]):
        return "patient", number, facts["IssuerOfPatientID"], name, facts["PatientBirthDate"]
    return None


def _unless_placeholder(text):
    return "" if _PLACEHOLDER.fullmatch(text) else text


def _identity(folder):
    """The identifying facts of the first DICOM file that has any, in small letters without punctuation; or blanks."""
    for opened in _files(folder):
        try:
            with opened() as file, quietly():
                dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
                facts = {keyword: _plain(dataset.get(keyword)) for keyword in _KEYWORDS}
        except Exception:  # no DICOM, or damaged: perhaps the next one tells
            continue
        if facts["StudyInstanceUID"] or facts["PatientID"]:
            return facts
    return dict.fromkeys(_KEYWORDS, "")


def _plain(value):
    text = unicodedata.normalize("NFKC", str(value or "")).casefold()
    return " ".join(re.sub(r"[^\w./]+|_+", " ", text).split())


def _files(folder) -> Iterator:
    """What opens the files of a study, one at a time in the order of their names."""
    if zipfile.is_zipfile(folder):
        with zipfile.ZipFile(folder) as archive:
            for name in sorted(archive.namelist()):
                yield partial(_member, archive, name)
        return
    root = folder.parent if folder.is_file() else folder  # a DICOMDIR lies beside its files
    for base, inner, names in os.walk(root):
        inner.sort()
        yield from (partial(open, Path(base, name), "rb") for name in sorted(names) if Path(base, name).is_file())


def _member(archive, name):
    return io.BytesIO(archive.read(name))
