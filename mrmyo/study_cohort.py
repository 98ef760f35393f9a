"""Many studies to one table: what one of them breaks, the others survive."""

from __future__ import annotations

import numbers
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mrmyo.files import FolderInUseError, is_full, locked, remove_leftovers, replacing, reserved
from mrmyo.progress import each
from mrmyo.provenance import code_digest
from mrmyo.settings import Settings
from mrmyo.study import StudyError, process_study
from mrmyo.study_subjects import visits_of, write_keys

__all__ = ["process_cohort"]

BIDS = "bids"
NO_SPACE = "no space left to write to; make room and run the same again to go on"
ROOM = 32768  # bytes for the tables, and a quarter of it for each visit
PATIENCE_S = 600  # for a process that a killed run left behind at a study


def process_cohort(
    folders: Mapping | Iterable,
    out_dir,
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    model=None,
    settings: Settings | None = None,
    bids: bool = False,
    progress: bool = True,
):
    """Measure many studies; one that fails is reported and does not stop the others.

    Parameters
    ----------
    folders : mapping or iterable of path
        Study folders: by subject key, by subject and then session (``{"P01": {"01": …, "02": …}}``), or by
        (subject, session). For a bare list the keys are salted hashes of the patients' identities, and visits of one
        patient are its sessions, by date; the salt stays in `out_dir`, and ``.keys.csv`` there, readable by its owner
        alone, tells which folder has which key.
    out_dir : path
        Receives a folder per subject (or ``subject/ses-…`` where there are sessions), ``rows.csv`` of all, and
        ``summary.csv`` with what was done, skipped and failed, and why; its flags tell which visits were joined by the
        patient's identity. The BIDS files of a study that fails are removed. Run again, also after a kill, it redoes
        only what changed or was not finished.
    n_jobs : int
        Studies at a time; -1 for as many as there are processors, 1 for none but this process. A process that is
        killed (for want of memory, say) takes only its own study with it, which is tried once more, alone.
    scheduler : str, optional
        Address of a Dask scheduler (``tcp://host:8786``) whose workers do the work, with the same mrmyo and the same
        paths to folders and `out_dir`. Needs the extra ``cluster``.
    model, settings
        As for `process_study`.
    bids : bool
        Write a BIDS dataset to ``out_dir/bids`` as well.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        One row per subject, session, side and muscle of all studies that could be measured.

    Raises
    ------
    StudyError
        For folders or options that cannot be, no study that could be measured, or no room for the tables.
    FolderInUseError
        When another run is writing to `out_dir`.
    ClusterError
        When the cluster cannot be reached or is lost.
    """
    out, settings = _made_ready(out_dir, n_jobs), settings or Settings()
    try:
        with locked(out):
            remove_leftovers(out)
            remove_leftovers(out / BIDS, deep=True)
            return _measure_into(out, folders, settings, bids, n_jobs, scheduler, model, progress)
    except OSError as error:
        if is_full(error):
            raise StudyError(f"The output folder: {NO_SPACE}. The studies that were finished stay.") from None
        raise


def _made_ready(out_dir, n_jobs):
    out = Path(out_dir).resolve()
    if not isinstance(n_jobs, numbers.Integral) or n_jobs == 0:
        raise StudyError(f"Found n_jobs={n_jobs!r}; expected the number of studies at a time, or -1 for as many as "
                         "there are processors.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StudyError("Found a file where the output folder should be; give another, or move it away.") from None
    return out


def _measure_into(out, folders, settings, bids, n_jobs, scheduler, model, progress):
    """Studies, summary, table and BIDS dataset of a cohort, in this order."""
    import pandas as pd

    visits = visits_of(folders, out, unnamed=settings.session)
    if bids:
        _check_labels(visits, settings)
    write_keys(visits, out)
    with reserved(out, ROOM + ROOM // 4 * len(visits)) as set_free:
        results = _measure_all(visits, out, n_jobs, scheduler, model, settings, bids, progress)
        set_free()
        gone = _set_apart(visits, results, out)
        _save(pd.DataFrame([entry for entry, _ in results]), out / "summary.csv")
    tables = [rows for _, rows in results if rows is not None]
    if bids or gone:
        _finish_bids(out / BIDS)
    if not tables:
        (out / "rows.csv").unlink(missing_ok=True)  # of an earlier run
        raise StudyError(f"None of the {len(visits)} studies could be measured; the first: {results[0][0]['reason']}")
    table = pd.concat(tables, ignore_index=True)
    _save(table, out / "rows.csv")
    return table


def _set_apart(visits, results, out):
    """Keep what earlier runs made of studies that failed now from passing for current; whether BIDS files went."""
    from mrmyo.study_bids import remove_bids_visit

    gone = False
    for visit, (entry, _) in zip(visits, results, strict=True):
        place = out / visit.place
        if entry["outcome"] != "failed" or not place.is_dir():
            continue
        if (place / "rows.csv").is_file():
            entry["reason"] += " (Earlier results remain in its folder.)"
        with suppress(FolderInUseError), locked(place):  # another run may be at it
            gone |= remove_bids_visit(place, out / BIDS)
    return gone


def _save(table, path):
    with replacing(path) as partial:
        table.to_csv(partial, index=False)


def _check_labels(visits, settings):
    """Refuses keys that BIDS, which knows letters and digits only, would take for one."""
    from mrmyo.bids import BidsError, bids_label

    subjects, places = {}, {}
    for visit in visits:
        subject = bids_label(visit.subject).casefold()
        session = bids_label(visit.session or settings.session, prefix="ses-").casefold()
        if subjects.setdefault(subject, visit.subject) != visit.subject or \
                places.setdefault((subject, session), visit.place) != visit.place:
            other = subjects[subject] if subjects[subject] != visit.subject else places[subject, session]
            raise BidsError(f"Found the keys {other} and {visit.place}, which BIDS would take for one: it knows "
                            "letters and digits only. Choose other keys.")


def _finish_bids(root):
    from importlib import metadata

    from mrmyo.bids import write_dataset

    if root.is_dir():
        write_dataset(root, version=metadata.version("mrmyo"))


def _measure_all(visits, out, n_jobs, scheduler, model, settings, bids, progress):
    """(entry of the summary, rows or None) of every visit, in their order."""
    model = model or settings.segmentation_model
    model = Path(model).resolve() if model else None  # workers may have another working folder
    code = code_digest()
    arguments = [(visit, out, model, settings, bids, code) for visit in visits if not visit.same_as]
    arguments = [(replace(a[0], folder=a[0].folder.resolve()), *a[1:]) for a in arguments]
    done = each(_try_study, arguments, label="studies", n_jobs=n_jobs, scheduler=scheduler, lost=_lost, show=progress)
    done = {visit.place: result for (visit, *_), result in zip(arguments, done, strict=True)}
    results = []
    for visit in visits:
        if visit.same_as:
            reason = f"holds the same study as the folder of {visit.same_as}"
            results.append((_entry(visit, settings, "skipped", reason), None))
        else:
            results.append(done[visit.place])
    return results


def _entry(visit, settings, outcome, reason="", *, flags=(), seconds=0.0, n_rows=0):
    """A line of the summary."""
    return {"subject": visit.subject, "session": visit.session or settings.session, "outcome": outcome,
            "reason": reason, "flags": "; ".join(flags), "seconds": round(seconds, 1), "n_rows": n_rows}


def _lost(reason, visit, out, model, settings, *_):
    return _entry(visit, settings, "failed", reason), None


def _try_study(visit, out, model, settings, bids, code):
    """Entry of the summary and rows of one study; rows are None when it failed."""
    start, place = time.monotonic(), out / visit.place
    try:
        if code != code_digest():
            raise StudyError("the cluster's worker has another version of mrmyo or of its packages than this computer")
        place.mkdir(parents=True, exist_ok=True)
        with locked(place, patience_s=PATIENCE_S):
            rows, flags, changed = _study(visit, place, out, model, settings, bids)
    except Exception as error:  # whatever is wrong with one study, the others go on; the summary tells
        with suppress(OSError):
            place.rmdir()  # where nothing came of it
        return _entry(visit, settings, "failed", _told(error, visit.folder), seconds=time.monotonic() - start), None
    outcome, flags = "measured" if changed else "unchanged", [*filter(None, [visit.note]), *flags]
    return _entry(visit, settings, outcome, flags=flags, seconds=time.monotonic() - start, n_rows=len(rows)), rows


def _study(visit, place, out, model, settings, bids):
    """Rows and flags of a study, and whether any stage had to be run."""
    import json

    settings = replace(settings, session=visit.session or settings.session)
    before = _stamp(place)
    rows = process_study(visit.folder, place, subject=visit.subject, model=model, settings=settings, progress=False)
    if bids:
        from mrmyo.study_bids import write_bids_visit

        write_bids_visit(visit.folder, place, out / BIDS, subject=visit.subject, session=settings.session,
                         settings=settings)
    study = json.loads((place / "study.json").read_text(encoding="utf-8"))
    return rows, study.get("flags", ()), _stamp(place) != before


def _stamp(place):
    """Changes whenever a stage is run: the note of the stages is then another file."""
    try:
        note = os.stat(place / "stages.json")
    except OSError:
        return None
    return note.st_ino, note.st_mtime_ns


def _told(error, folder):
    """What went wrong, in words that name no path: a folder or file may bear a patient's name."""
    if is_full(error):
        return f"{type(error).__name__}: {NO_SPACE}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if not type(error).__module__.startswith("mrmyo"):  # of a library, which may quote whatever it stumbles on
        text = text.replace(str(folder), "…")
        text = re.sub(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*", "…", text)
    return f"{type(error).__name__}: {text}"
