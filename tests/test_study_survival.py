"""A cohort survives kills at any moment and a full disk: nothing is torn, and running it again completes it."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import signal
import subprocess
import time

import pandas as pd
import pytest
from cohort_runs import KEYS, alive, children, needs_proc, numbers, start, studies, undisturbed, until_there
from cohort_samples import reviewed

from mrmyo import process_cohort
from mrmyo.study import StudyError

__all__ = ["studies", "undisturbed"]  # fixtures


def assert_all_whole(out):
    """Nothing under a final name is torn."""
    for path in out.rglob("*"):
        if ".partial-" in str(path.relative_to(out)) or path.is_dir():
            continue
        if path.suffix == ".gz":
            gzip.decompress(path.read_bytes())
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        elif path.suffix == ".csv":
            assert path.read_text().endswith("\n"), path
        assert path.stat().st_size > 0, path


def test_killed_at_many_moments(studies, undisturbed, tmp_path):
    """The run is a child that has everything imported already, so that each moment falls into its work."""
    out, seed = tmp_path / "out", 7
    reviewed(out, *KEYS)
    rng, unfinished = random.Random(seed), 0
    for _ in range(10):
        child = os.fork()
        if child == 0:
            try:
                process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
                time.sleep(60)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.02, 0.6 * undisturbed[2]))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        unfinished += not (out / "rows.csv").exists()
        assert_all_whole(out)
    assert unfinished
    process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
    assert numbers(out) == numbers(undisturbed[0])
    assert not [path for path in out.rglob("*") if path.name.startswith(".partial-")]
    assert (out / ".keys.csv").stat().st_mode & 0o777 == 0o600


def test_the_whole_group_is_killed(studies, undisturbed, tmp_path):
    """The same with workers, which are killed too."""
    out = tmp_path / "out"
    reviewed(out, *KEYS)
    for wait_for in ("P0/structural.nii.gz", "P1/fit.json"):
        run = start(studies, out, jobs=2)
        until_there(out / wait_for, run)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert_all_whole(out)
    process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
    assert numbers(out) == numbers(undisturbed[0])


@needs_proc
def test_workers_end_with_the_process_that_they_work_for(studies, tmp_path):
    """Only the parent is killed."""
    out = tmp_path / "out"
    reviewed(out, *KEYS)
    run = start(studies, out, jobs=2)
    until_there(out / "P0" / "stages.json", run)
    workers = children(run.pid)
    assert workers
    run.kill()
    run.wait()
    for _ in range(100):
        if not [pid for pid in workers if alive(pid)]:
            return
        time.sleep(0.1)
    pytest.fail("workers outlived their parent by ten seconds")


# -- no room -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a function that sets its size in KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a tmpfs here")

    def resize(kib):
        subprocess.run(["mount", "-o", f"remount,size={kib}k", str(place)], check=True)

    yield place, resize
    subprocess.run(["umount", "-l", str(place)], check=True)


def used_kib(place):
    state = os.statvfs(place)
    return (state.f_blocks - state.f_bfree) * state.f_frsize // 1024


def test_a_full_disk(studies, undisturbed, small_disk):
    place, resize = small_disk
    out = place / "out"
    reviewed(out, *KEYS)
    process_cohort({"P0": studies["P0"]}, out, n_jobs=1, bids=True, progress=False)
    assert_all_whole(out)
    finished = numbers(out)
    resize(used_kib(place) + 56 + 60)  # the tables fit, the page of the next study does not
    rows = process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
    assert set(rows.subject) == {"P0"}
    summary = pd.read_csv(out / "summary.csv", keep_default_na=False).set_index("subject")
    assert list(summary.outcome) == ["unchanged", "failed", "failed"]
    assert summary.reason["P1"].startswith("OSError: no space left")
    assert_all_whole(out)
    assert not [path for path in out.rglob("*") if path.name.startswith(".partial-")]
    assert not (out / "P1" / "rows.csv").exists()
    assert {name: content for name, content in numbers(out).items() if name in finished} == finished
    resize(8192)
    process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
    assert numbers(out) == numbers(undisturbed[0])


def test_no_room_for_the_tables_either(studies, small_disk):
    place, resize = small_disk
    out = place / "out"
    reviewed(out, *KEYS)
    process_cohort({"P0": studies["P0"]}, out, n_jobs=1, progress=False)
    before = numbers(out)
    resize(used_kib(place))
    with pytest.raises(StudyError, match="no space left"):
        process_cohort(studies, out, n_jobs=1, progress=False)
    assert numbers(out) == before
    assert_all_whole(out)


def test_a_limit_of_file_size(studies, undisturbed, tmp_path):
    """Another real way to be out of room, which needs no rights."""
    out = tmp_path / "out"
    reviewed(out, *KEYS)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65000, {resource.RLIM_INFINITY}))"
    run = start(studies, out, jobs=1, before=limit, stderr=subprocess.PIPE, text=True)
    told = run.communicate()[1]
    assert run.returncode == 1 and "None of the 3 studies" in told and "no space left" in told
    assert_all_whole(out)
    assert not [path for path in out.rglob("*") if path.name.startswith(".partial-")]
    process_cohort(studies, out, n_jobs=1, bids=True, progress=False)
    assert numbers(out) == numbers(undisturbed[0])
