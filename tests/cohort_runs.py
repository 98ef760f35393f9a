"""A cohort of three small studies, run in other processes that are then killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cohort_samples import reviewed, tiny_study

from mrmyo import process_cohort

HERE = Path(__file__).resolve().parent
KEYS = ("P0", "P1", "P2")
CODE = """
import sys
from mrmyo import process_cohort
if __name__ == "__main__":
    root, out, jobs = sys.argv[1:]
    folders = {key: f"{root}/{key}" for key in ("P0", "P1", "P2")}
    process_cohort(folders, out, n_jobs=int(jobs), bids=True, progress=False)
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    return {key: tiny_study(root / key, t2_ms=35 + 5 * i, seed=i, subject=key) for i, key in enumerate(KEYS)}


@pytest.fixture(scope="module")
def undisturbed(studies, tmp_path_factory):
    """What a run that nothing disturbs leaves: folder, rows, seconds."""
    out = tmp_path_factory.mktemp("undisturbed")
    reviewed(out, *KEYS)
    start = time.monotonic()
    rows = process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
    return out, rows, time.monotonic() - start


def numbers(out):
    """The bytes of all rows, masks, maps and images; what holds a time of day is left out."""
    found = [path for path in sorted(out.rglob("*")) if path.suffix == ".gz" or path.name == "rows.csv"]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def start(studies, out, *, jobs, before="", **options):
    """The cohort in a process, and a group, of its own."""
    root = next(iter(studies.values())).parent
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    return subprocess.Popen([sys.executable, "-c", before + CODE, str(root), str(out), str(jobs)], env=paths,
                            start_new_session=True, **options)


def until_there(path, run=None):
    for _ in range(6000):
        if path.exists() or (run is not None and run.poll() is not None):
            return
        time.sleep(0.01)
    pytest.fail(f"{path.name} did not come")


def children(pid):
    """Worker processes of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if parent == pid and "LokyProcess" in command:
            found.append(int(path.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
