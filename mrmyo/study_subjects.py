"""Whose visit a study folder is: keys of the user's choosing, or salted hashes; where its results go."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mrmyo.dicom_identity import same_studies, study_keys
from mrmyo.files import replacing
from mrmyo.study import StudyError

__all__ = ["KEYS", "Visit", "read_subjects", "visits_of", "write_keys"]

KEYS, SALT = ".keys.csv", ".salt"  # private: which folder has which key
_COLUMNS = ["subject", "session", "folder", "study"]
JOINED = "taken for a visit of a patient with several, by the identity in the DICOM"
_FIT = r"[A-Za-z0-9][\w.-]*"
_RESERVED = {"bids", "rows.csv", "summary.csv"}  # names that the cohort's own outputs bear


@dataclass(frozen=True)
class Visit:
    """One study of a cohort.

    Parameters
    ----------
    subject, session : str
        Keys; a blank session is the settings' own.
    folder : path
        The DICOM.
    study : str
        A salted hash of the study, where the keys are mrmyo's own.
    same_as : str
        The key of the visit whose study this folder holds too, or blank.
    note : str
        How it came to its key, where that may be mistaken; or blank.
    """

    subject: str
    session: str
    folder: Path
    study: str = ""
    same_as: str = ""
    note: str = ""

    @property
    def place(self) -> str:
        """The folder of its results within that of the cohort."""
        return f"{self.subject}/ses-{self.session}" if self.session else self.subject


def visits_of(folders: Mapping | Iterable, out: Path, *, unnamed: str = "01") -> list[Visit]:
    """The visits of a cohort in the order of their keys.

    Parameters
    ----------
    folders : mapping or iterable of path
        By subject, by subject and then session, or by (subject, session). A bare list gets keys from salted hashes of
        the patients' identities: visits of one patient become sessions in the order of their dates, a visit that comes
        to a later run the next one. What a key was given to stays so, wherever the folder moves.
    out : path
        The output folder, which keeps the salt and the keys.
    unnamed : str
        What the rows call a visit whose session is not stated.

    Raises
    ------
    StudyError
        For no folders or one path in place of many, for keys that could not name a folder or that two folders share,
        and for stated keys that share one study.
    """
    if isinstance(folders, (str, bytes, os.PathLike)):
        raise StudyError("Found one path in place of study folders; expected a list of them, such as [folder], or a "
                         "mapping from subject keys to folders.")
    visits = _stated(folders) if isinstance(folders, Mapping) else _hashed([Path(f) for f in folders], out)
    if not visits:
        raise StudyError("Found no study folders; expected at least one.")
    parts = [part for v in visits for part in (v.subject, v.session or "01")]
    unfit = [part for part in parts if not re.fullmatch(_FIT, part, re.ASCII) or part.casefold() in _RESERVED]
    if unfit:
        raise StudyError(
            f"Found the subject keys or sessions {unfit[:5]}; expected letters, digits, '_', '-' and '.', as of a file "
            f"name, and none of {sorted(_RESERVED)}."
        )
    seen = {}
    for visit in visits:
        key = visit.subject.casefold(), (visit.session or unnamed).casefold()
        if not visit.same_as and seen.setdefault(key, visit) is not visit:
            raise StudyError(f"Found the key {visit.place} twice (capitals do not count); give each study its own.")
    if isinstance(folders, Mapping):
        _check_folders(visits)
    return sorted(visits, key=lambda v: (v.subject, v.session))


def _check_folders(visits):
    """Refuses one study under several keys: it would count as several patients or visits."""
    for indices in same_studies([visit.folder for visit in visits])[:1]:
        named = " and ".join(visits[i].place for i in indices)
        raise StudyError(f"Found one study under {named}: their folders are the same, or copies of it. Give each key a "
                         "study of its own.")


def _stated(folders):
    visits = []
    for key, value in folders.items():
        if isinstance(value, Mapping):
            visits += [Visit(str(key), _session(session), Path(folder)) for session, folder in value.items()]
        elif isinstance(key, tuple):
            if len(key) != 2:
                raise StudyError(f"Found a key of {len(key)} parts; expected (subject, session).")
            visits.append(Visit(str(key[0]), _session(key[1]), Path(value)))
        else:
            visits.append(Visit(str(key), "", Path(value)))
    return visits


def _session(key):
    return str(key).removeprefix("ses-")


def _hashed(folders, out):
    """Visits under keys of mrmyo's own; known ones keep theirs."""
    keys, order = study_keys(folders, _salt(out))
    known = {row["study"]: row for row in _read_keys(out) if row["study"]}
    taken = {}
    for row in known.values():
        taken.setdefault(row["subject"], set()).add(row["session"])
    fresh = {}
    for patient, study in keys:
        if study not in known:
            fresh.setdefault(f"sub-{patient}", set()).add(study)
    visits, given = [], {}
    for patient, study in (keys[i] for i in order):
        subject = f"sub-{patient}"
        if study in known:
            given[study] = known[study]["subject"], known[study]["session"]
        elif study not in given:
            used = taken.setdefault(subject, set())
            alone = not used and len(fresh[subject]) == 1
            session = "" if alone else next(n for i in range(1, 10**4) if _free(n := f"{i:02d}", used))
            used.add(session)
            given[study] = subject, session
    first = {}
    for i in order:
        subject, session = given[keys[i][1]]
        # the key of the patient may have been given to another visit in an earlier run
        visit = Visit(subject, session, folders[i], keys[i][1], note=JOINED if len(taken[subject]) > 1 else "")
        earlier = first.setdefault(keys[i][1], visit)
        visits.append(visit if earlier is visit else replace(visit, same_as=earlier.place))
    return visits


def _free(name, used):
    return name not in used and not (name == "01" and "" in used)  # a lone first visit has a blank session


def _salt(out):
    """The cohort's secret, made once."""
    path = out / SALT
    if not path.is_file() or not path.read_text().strip():
        with replacing(path, private=True) as partial:
            partial.write_text(secrets.token_hex(16))
    return path.read_text().strip()


def _read_keys(out):
    """What earlier runs noted; a note that is there but cannot be used is refused, not taken for none."""
    if not os.path.lexists(out / KEYS):
        return []
    try:
        table = _table(out / KEYS).reindex(columns=_COLUMNS)
        rows = table.to_dict("records")
        fit = not table.isna().any(axis=None) and all(_is_ours(row) for row in rows if row["study"])
    except (OSError, ValueError):
        fit = False
    if not fit:
        raise StudyError(f"{KEYS} in the output folder, which tells which folder has which key, cannot be read or was "
                         "changed. Bring it back as it was, or give another output folder.")
    return rows


def _is_ours(row):
    """Whether a row has the form that mrmyo gives it: a table program may take keys for numbers."""
    parts = (r"sub-[0-9a-f]{12}", row["subject"]), (r"|\d\d+", row["session"]), (r"[0-9a-f]{12}", row["study"])
    return all(re.fullmatch(form, value) for form, value in parts)


def _table(path):
    """A table of text, which comma, semicolon or tab may divide."""
    import pandas as pd

    text = path.read_text(encoding="utf-8-sig")
    divider = next((mark for mark in ";\t" if mark in text.partition("\n")[0]), ",")
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, sep=divider)


def write_keys(visits: list[Visit], out: Path) -> None:
    """Note which folder has which key, beside what earlier runs noted; for the owner's eyes alone."""
    import pandas as pd

    now = [{"subject": v.subject, "session": v.session, "folder": str(v.folder), "study": v.study}
           for v in visits if not v.same_as]
    keys = {(row["subject"], row["session"]): row for row in [*_read_keys(out), *now]}
    table = pd.DataFrame([keys[key] for key in sorted(keys)], columns=_COLUMNS)
    with replacing(out / KEYS, private=True) as partial:
        table.to_csv(partial, index=False)


def read_subjects(path) -> dict:
    """Folders by (subject, session) from a table with the columns subject, folder and, if need be, session.

    Folders are taken relative to the table. Comma, semicolon or tab may divide its columns.

    Raises
    ------
    StudyError
        When the table cannot be read, lacks a column, or has a blank or doubled key.
    """
    path = Path(path)
    try:
        table = _table(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no table in UTF-8"
        raise StudyError(f"The table of subjects {path.name} cannot be read: {reason}.") from None
    table.columns = [str(column).strip().lower() for column in table.columns]
    if not {"subject", "folder"} <= set(table.columns):
        raise StudyError(f"The table of subjects {path.name} must have the columns subject and folder, and may have "
                         f"session; found {len(table.columns)} columns, not these. Correct its first line.")
    table = table.reindex(columns=["subject", "session", "folder"], fill_value="").map(str.strip)
    if (table[["subject", "folder"]] == "").any(axis=None):
        raise StudyError(f"The table of subjects {path.name} has rows without subject or folder; complete them.")
    keys = list(zip(table.subject, table.session.map(_session), strict=True))
    if len(set(keys)) < len(keys):
        raise StudyError(f"The table of subjects {path.name} names a subject and session twice; give each its own row.")
    return {key: path.parent / folder for key, folder in zip(keys, table.folder, strict=True)}
