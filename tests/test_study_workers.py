"""Workers that are killed, of this machine and of a Dask cluster, take only their own study with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
from cohort_runs import KEYS, children, needs_proc, numbers, start, studies, undisturbed, until_there
from cohort_samples import may_die, reviewed, try_study_or_die

from mrmyo import process_cohort, progress_workers, study_cohort
from mrmyo.progress import each
from mrmyo.progress_cluster import ClusterError
from mrmyo.progress_workers import WorkerLostError
from mrmyo.study import StudyError

__all__ = ["studies", "undisturbed"]  # fixtures


def test_a_killed_worker_takes_one_call_with_it(tmp_path, monkeypatch):
    arguments = [(i, tmp_path) for i in range(5)]
    told = each(may_die, arguments, label="calls", n_jobs=2, show=False, lost=lambda reason, i, _: (reason, i))
    assert [told[i] for i in (0, 2, 3, 4)] == [0, 4, 6, 8]
    assert told[1] == ("its process was killed (SIGKILL), perhaps for want of memory", 1)
    tried = [len(list(tmp_path.glob(f"tried-{i}-*"))) for i in range(5)]
    assert tried == [1, 2, 1, 2, 1]  # each by another process
    monkeypatch.setattr(progress_workers, "in_processes", lambda *_: [(0, WorkerLostError("killed"))])
    with pytest.raises(WorkerLostError, match="killed"):
        each(may_die, arguments[:1], label="calls", n_jobs=2, show=False)


def test_calls_in_this_process_leave_its_environment_as_it_was(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # in a notebook, pictures would vanish
    before = dict(os.environ)
    assert each(divmod, [(7, 2)], label="calls", n_jobs=1, show=False) == [(3, 1)]
    assert dict(os.environ) == before


def test_a_study_that_kills_its_worker_is_reported(studies, undisturbed, tmp_path, monkeypatch):
    reviewed(tmp_path, *KEYS)
    monkeypatch.setattr(study_cohort, "_try_study", try_study_or_die)
    rows = process_cohort(studies, tmp_path, n_jobs=2, progress=False)
    assert set(rows.subject) == {"P0", "P2"}
    summary = pd.read_csv(tmp_path / "summary.csv", keep_default_na=False)
    assert list(summary.outcome) == ["measured", "failed", "measured"]
    assert "its process was killed" in summary.reason[1]
    monkeypatch.undo()
    process_cohort(studies, tmp_path, n_jobs=1, progress=False)
    assert (tmp_path / "rows.csv").read_bytes() == (undisturbed[0] / "rows.csv").read_bytes()


@needs_proc
def test_a_worker_is_killed_in_the_middle(studies, undisturbed, tmp_path):
    out = tmp_path / "out"
    reviewed(out, *KEYS)
    run = start(studies, out, jobs=2)
    until_there(out / "P0" / "structural.nii.gz", run)
    os.kill(children(run.pid)[0], signal.SIGKILL)
    assert run.wait(timeout=100) == 0
    assert numbers(out) == numbers(undisturbed[0])


# -- a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster():
    """Two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    made = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
                                    dashboard_address=None, silence_logs=50)
    yield made
    made.close(timeout=20)


def test_a_cluster_that_loses_a_worker(studies, undisturbed, cluster, tmp_path):
    out = tmp_path / "out"
    reviewed(out, *KEYS)
    pids = [worker.pid for worker in cluster.workers.values()]
    killer = subprocess.Popen([sys.executable, "-c", f"""
import os, signal, time
while not os.path.exists({str(out / 'P0' / 'structural.nii.gz')!r}):
    time.sleep(0.01)
os.kill({pids[0]}, signal.SIGKILL)
"""])
    try:
        rows = process_cohort(studies, out, scheduler=cluster.scheduler_address, bids=True, progress=False)
    finally:
        assert killer.wait(timeout=30) == 0
    assert set(rows.subject) == set(KEYS)
    assert numbers(out) == numbers(undisturbed[0])
    shutil.rmtree(out / "P2")
    reviewed(out, "P2")
    process_cohort(studies, out, scheduler=cluster.scheduler_address, bids=True, progress=False)  # and goes on there
    assert list(pd.read_csv(out / "summary.csv").outcome) == ["unchanged", "unchanged", "measured"]


def test_a_call_that_kills_every_worker_is_given_up(cluster, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.Client(cluster) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    arguments = [(i, tmp_path) for i in range(5)]
    lost = each(may_die, arguments, label="calls", scheduler=cluster.scheduler_address, show=False,
                lost=lambda reason, i, _: (reason, i))
    assert [lost[i] for i in (0, 2, 4)] == [0, 4, 8]
    assert lost[1] == ("its process was killed, perhaps for want of memory", 1)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "", "http://127.0.0.1:9"])
def test_no_cluster_there(address, studies, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ClusterError, match="No Dask scheduler answers"):
        process_cohort(studies, tmp_path, scheduler=address, progress=False)


def test_without_dask_the_extra_is_named(studies, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"mrmyo\[cluster\]"):
        process_cohort(studies, tmp_path, scheduler="tcp://127.0.0.1:9", progress=False)


def test_a_worker_with_other_code_is_refused(studies, tmp_path, monkeypatch):
    monkeypatch.setattr(study_cohort, "code_digest", iter(["here", "there"]).__next__)
    with pytest.raises(StudyError, match="another version of mrmyo"):
        process_cohort({"P0": studies["P0"]}, tmp_path, n_jobs=1, progress=False)
