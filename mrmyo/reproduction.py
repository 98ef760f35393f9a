"""The whole job: simulate the cohort's studies, measure them, run the notebooks, write the report. Resumable."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from mrmyo.cohort import load_cohort, pick_subjects
from mrmyo.measure import WHOLE_MUSCLE
from mrmyo.progress import each, track
from mrmyo.provenance import code_digest, digest, record
from mrmyo.settings import Settings, Workspace, workspace, write_settings
from mrmyo.simulation import SEED, simulate_study
from mrmyo.study import process_study
from mrmyo.validation import error_by_stage, tolerances

__all__ = ["example_study", "measured_table", "reproduce", "run_notebooks"]

# what the tables and the report read of each subject
NEEDED = ("rows.csv", "T2map.nii.gz", "labels_t2.nii.gz", "mask.nii.gz", "structural.nii.gz")


def reproduce(out="results", *, subjects: int = 74, keep_dicom: bool = False, n_jobs: int = -1, notebooks: bool = True,
              progress: bool = True) -> Path:
    """Simulate, measure, run the notebooks and report.

    Parameters
    ----------
    out : path
        The workspace. Run again on the same one, subjects that are done are not done again.
    subjects : int
        How many of the cohort, drawn in proportion from its groups; 74 are all.
    keep_dicom : bool
        Keep the DICOM studies (20 MB each), which are otherwise deleted once measured.
    n_jobs : int
        Subjects at a time; -1 for as many as there are processors.
    notebooks : bool
        Execute the notebooks.
    progress : bool

    Returns
    -------
    pathlib.Path
        The report, one self-contained HTML file.
    """
    from mrmyo.report import write_report
    from mrmyo.segmentation import model_hash

    ws, settings = workspace(out), Settings()
    ws.tables.mkdir(parents=True, exist_ok=True)
    write_settings(settings, ws.root / "settings.toml")
    everyone = load_cohort()
    cohort = pick_subjects(everyone, subjects)
    key = digest(SEED, vars(settings), model_hash(), code_digest())
    arguments = [(row, ws, key, keep_dicom) for row in cohort.to_dict("records")]
    _write_tables(ws, cohort, each(_one_subject, arguments, label="synthetic studies", n_jobs=n_jobs, show=progress))
    facts = record(seed=SEED, settings=vars(settings), model_hash=model_hash(), subjects=len(cohort), of=len(everyone))
    _save_text(json.dumps(facts, indent=1), ws.tables / "provenance.json")
    shutil.rmtree(ws.notebooks, ignore_errors=True)  # those of an earlier run are not of this one
    trouble = None
    if notebooks:
        try:
            run_notebooks(ws, progress=progress)
        except RuntimeError as error:  # the report is worth having all the same
            trouble = error
    report = write_report(ws)
    if trouble:
        raise trouble
    return report


def _one_subject(row, ws: Workspace, key, keep_dicom):
    """Simulate and measure one subject unless that was done from the same inputs; never raises on a bad study."""
    subject = row["subject"]
    note = ws.processed / subject / "done.json"
    made_from = digest(key, row)
    done = _read_note(note)
    complete = all((ws.processed / subject / name).is_file() for name in NEEDED)
    if done.get("made_from") == made_from and complete and (not keep_dicom or (ws.studies / subject).is_dir()):
        return {"subject": subject, "outcome": "kept", "reason": "", "error": done["error"]}
    try:
        simulate_study(row, ws.studies / subject, ws.truth / subject)
        process_study(ws.studies / subject, ws.processed / subject, subject=subject, progress=False)
        error = error_by_stage(ws.processed / subject, ws.truth / subject)
    except Exception as problem:  # one subject does not stop the others; the summary tells
        return {"subject": subject, "outcome": "failed", "reason": f"{type(problem).__name__}: {problem}"}
    if not keep_dicom:
        shutil.rmtree(ws.studies / subject)
    _save_text(json.dumps({"made_from": made_from, "error": error}, indent=1), note)
    return {"subject": subject, "outcome": "measured", "reason": "", "error": error}


def _read_note(path):
    """What a finished subject left; nothing where it is not finished or the note was torn."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _write_tables(ws, cohort, outcomes):
    """The tables of the workspace from what became of each subject."""
    import pandas as pd

    summary = pd.DataFrame([{name: outcome[name] for name in ("subject", "outcome", "reason")} for outcome in outcomes])
    _save(summary, ws.tables / "summary.csv")
    good = [outcome for outcome in outcomes if outcome["outcome"] != "failed"]
    if not good:
        raise RuntimeError(f"No subject could be measured; the first says: {summary.reason.iloc[0]}")
    errors = pd.DataFrame([outcome["error"] for outcome in good])
    rows = pd.concat([pd.read_csv(ws.processed / o["subject"] / "rows.csv", dtype={"session": str}) for o in good])
    _save(rows, ws.tables / "rows.csv")
    _save(errors, ws.tables / "errors.csv")
    _save(tolerances(errors), ws.tables / "tolerances.csv")
    _save(cohort.merge(_whole(rows), on="subject"), ws.tables / "measured.csv")


def _whole(rows):
    """The T2 of both thighs' whole muscle by subject."""
    whole = rows[(rows.muscle == WHOLE_MUSCLE) & (rows.side == "both")]
    return whole[["subject", "t2_ms"]].rename(columns={"t2_ms": "t2_measured_ms"})


def measured_table(ws: Workspace):
    """The cohort with what was measured of it: its columns and ``t2_measured_ms``.

    Raises
    ------
    FileNotFoundError
        When nothing was measured in this workspace yet.
    """
    import pandas as pd

    path = ws.tables / "measured.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path} yet. Run `make reproduce SUBJECTS=8` (or mrmyo reproduce) first.")
    return pd.read_csv(path)


def example_study(subject: str, ws: Workspace) -> tuple[Path, Path, dict]:
    """A synthetic study for notebooks to look at: simulated when it is first asked for, then kept.

    Parameters
    ----------
    subject : str
        One of the cohort, such as "SYN-IIM-08".
    ws : Workspace

    Returns
    -------
    study, truth_dir : pathlib.Path
        Folders as `mrmyo.simulate_study` fills them.
    truth : dict
        What that call returned.

    Raises
    ------
    ValueError
        When the cohort has no such subject.
    """
    cohort = load_cohort()
    if subject not in set(cohort.subject):
        raise ValueError(f"Found no subject {subject!r} in the cohort; expected one of {cohort.subject.iloc[0]} to "
                         f"{cohort.subject.iloc[-1]}.")
    row = cohort[cohort.subject == subject].iloc[0].to_dict()
    folder = ws.root / "examples" / subject
    study, truth_dir, note = folder / "study", folder / "truth", folder / "made.json"
    made_from = digest(SEED, row, code_digest())
    found = _read_note(note)
    if found.get("made_from") != made_from or not study.is_dir() or not (truth_dir / "truth.json").is_file():
        _keep_reviews(folder)
        note.unlink(missing_ok=True)
        found = {"made_from": made_from, "truth": simulate_study(row, study, truth_dir)}
        _save_text(json.dumps(found), note)
    return study, truth_dir, found["truth"]


def _keep_reviews(folder):
    """Move an example aside in which somebody reviewed masks: its images are about to be made anew."""
    if any(folder.glob("*/review*.jsonl")):
        number = sum(1 for _ in folder.parent.glob(f"{folder.name}-before-*")) + 1
        os.replace(folder, folder.with_name(f"{folder.name}-before-{number}"))


def run_notebooks(ws: Workspace, *, folder=None, progress: bool = True) -> list[Path]:
    """Execute the notebooks in their order, with this workspace, and keep them with their outputs.

    Parameters
    ----------
    ws : Workspace
    folder : path, optional
        The notebooks; those of the checkout when None. An installed wheel has none, and nothing is run.
    progress : bool

    Returns
    -------
    list of pathlib.Path
        The executed notebooks.

    Raises
    ------
    RuntimeError
        When a cell fails; the notebooks before it are kept.
    """
    folder = Path(__file__).resolve().parent.parent / "notebooks" if folder is None else Path(folder)
    paths = sorted(folder.glob("[0-9]*.ipynb"))
    if not paths:
        return []
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, CellExecutionError

    executed = []
    environment = {**os.environ, "MRMYO_WORKSPACE": str(ws.root.resolve())}
    for path in track(paths, label="notebooks", show=progress):
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
            extra_arguments=["--log-level=40"],
        )
        try:
            client.execute(env=environment)
        except (CellExecutionError, CellControlSignal) as error:
            raise RuntimeError(f"The notebook {path.name} stopped: {error}") from error
        _leave_pictures(notebook)
        executed.append(ws.notebooks / path.name)
        _save_text(nbformat.writes(notebook), executed[-1])
    return executed


def _leave_pictures(notebook):
    """Without a kernel a slider is an empty box: keep the picture that it was first drawn with, and nothing else."""
    notebook.metadata.pop("widgets", None)  # the state of widgets would add megabytes to every notebook
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"].pop("application/vnd.jupyter.widget-view+json", None)


def _save(table, path):
    partial = path.with_name(f".{path.name}")
    table.to_csv(partial, index=False)
    os.replace(partial, path)


def _save_text(text, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
