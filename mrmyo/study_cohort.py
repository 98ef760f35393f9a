"""Many studies to one table: what one of them breaks, the others survive."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from mrmyo.progress import each
from mrmyo.settings import Settings
from mrmyo.study import StudyError, process_study

__all__ = ["process_cohort"]

KEYS = ".keys.csv"  # private: which folder has which subject key


def process_cohort(
    folders: Mapping | Iterable,
    out_dir,
    *,
    n_jobs: int = -1,
    model=None,
    settings: Settings | None = None,
    progress: bool = True,
):
    """Measure many studies; one that fails is reported and does not stop the others.

    Parameters
    ----------
    folders : mapping or iterable of path
        Study folders, by subject key if a mapping. For a bare list the keys are salted hashes of the folders' paths
        (which may hold names of patients); the salt stays in `out_dir`, and ``.keys.csv`` there, readable by its owner
        alone, tells which folder has which key.
    out_dir : path
        Receives a folder per subject, ``rows.csv`` of all, and ``summary.csv`` with what was done and what failed why.
        Run again, it redoes only what changed.
    n_jobs : int
        Studies at a time; -1 for as many as there are processors.
    model, settings, progress
        As for `process_study`.

    Returns
    -------
    pandas.DataFrame
        The rows of all studies that could be measured.

    Raises
    ------
    StudyError
        When no study at all could be measured.
    """
    import pandas as pd

    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    named = _by_key(folders, out)
    keys = pd.DataFrame({"subject": list(named), "folder": [str(folder) for folder in named.values()]})
    keys.to_csv(out / KEYS, index=False)
    (out / KEYS).chmod(0o600)
    arguments = [(subject, folder, out / subject, model, settings) for subject, folder in sorted(named.items())]
    outcomes = each(_try_study, arguments, label="studies", n_jobs=n_jobs, show=progress)
    summary = pd.DataFrame(
        [{"subject": s, "outcome": "failed" if p else "measured", "reason": p} for s, _, p in outcomes]
    )
    summary.to_csv(out / "summary.csv", index=False)
    rows = [rows for _, rows, problem in outcomes if not problem]
    if not rows:
        raise StudyError(f"None of the {len(named)} studies could be measured; the first: {summary.reason.iloc[0]}")
    table = pd.concat(rows, ignore_index=True)
    table.to_csv(out / "rows.csv", index=False)
    return table


def _by_key(folders, out):
    """The folders by subject key; refuses keys that could not name a folder within `out`."""
    named = folders if isinstance(folders, Mapping) else {_subject_key(out, folder): folder for folder in folders}
    if not named:
        raise StudyError("Found no study folders; expected at least one.")
    unfit = [key for key in named if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(key))]
    if unfit:
        raise StudyError(
            f"Found the subject keys {unfit[:5]}; expected letters, digits, '_', '-' and '.', as of a file name."
        )
    return {str(key): folder for key, folder in named.items()}


def _try_study(subject, folder, out, model, settings):
    """Subject, rows of the study, and the problem in words if there was one."""
    try:
        rows = process_study(folder, out, subject=subject, model=model, settings=settings, progress=False)
    except Exception as error:  # whatever is wrong with one study, the others go on; the summary tells
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return subject, None, f"{type(error).__name__}: {problem}"
    return subject, rows, ""


def _subject_key(out, folder):
    """A salted hash of the folder's path, the same each time for one output folder."""
    path = out / ".salt"
    if not path.exists():
        path.write_text(secrets.token_hex(16))
    return "sub-" + hashlib.sha256((path.read_text() + str(Path(folder).resolve())).encode()).hexdigest()[:8]
