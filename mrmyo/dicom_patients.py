"""Whether the images of a folder are of one patient: numbered 1, 2, … here, so that no identity leaves the room."""

from __future__ import annotations

import hmac
import os
import re
import unicodedata
from collections import defaultdict

__all__ = ["number_patients", "patient_marks"]

_KEYWORDS = ("PatientID", "PatientName", "PatientBirthDate")
_SECRET = os.urandom(16)  # marks of one process mean nothing in another
# what anonymisers write in place of a number or a name: it says nothing of who it was
_PLACEHOLDER = re.compile(
    r"[0x ]*|(no ?name|un ?known|none|null|n/?a|test|patient|subject|removed|deleted|hidden|anon\w*|de ?ident\w*)\W*0*"
)


def patient_marks(dataset) -> tuple:
    """What tells the patient of a dataset from others: a keyed hash of number, name and birth date, '' where blank."""
    marks = []
    for keyword in _KEYWORDS:
        try:
            text = str(dataset.get(keyword) or "").split("=")[0]  # names in another script follow, or are left out
        except Exception:  # a damaged value says nothing
            text = ""
        text = unicodedata.normalize("NFKC", text).casefold()
        text = " ".join(re.sub(r"[^\w./]+|_+", " ", text).split())
        blank = _PLACEHOLDER.fullmatch(text)
        marks.append("" if blank else hmac.new(_SECRET, text.encode(), "sha256").hexdigest()[:16])
    return tuple(marks)


def number_patients(images) -> list[dict]:
    """The images with their ``patient``, an integer from 1 in the order of the files, in place of its marks.

    Two are of one patient unless number, name or birth date stand in both and differ: a blank is unknown, not other.
    Images without any identity are taken for the patient of their series, else of their study, else the first.
    """
    known, number = [], {}
    for marks in dict.fromkeys(image.get("patient") for image in images):
        if not marks or not any(marks):
            continue
        fits = (k for k, members in enumerate(known) if all(_may_be_one(marks, other) for other in members))
        k = next(fits, len(known))
        if k == len(known):
            known.append([])
        known[k].append(marks)
        number[marks] = k + 1
    of = defaultdict(set)
    for image in images:
        if image.get("patient") in number:
            for group in _groups(image):
                of[group].add(number[image["patient"]])
    numbered = []
    for image in images:
        told = [min(of[group]) for group in _groups(image) if group in of]
        numbered.append({**image, "patient": number.get(image.get("patient")) or (told or [1])[0]})
    return numbered


def _may_be_one(marks, other):
    return not any(a and b and a != b for a, b in zip(marks, other, strict=True))


def _groups(image):
    """Series and study of an image, where it has them."""
    study, series = image.get("StudyInstanceUID"), image.get("SeriesInstanceUID")
    return [group for group in (("series", study, series) if series else None, ("study", study) if study else None)
            if group]
