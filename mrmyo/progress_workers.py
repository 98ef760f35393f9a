"""Calls in processes of this machine, each of which may be killed without harm to the others."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ["WorkerLostError", "alone_without_screen", "in_processes", "in_this_process"]

_WORKER = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} | {"MPLBACKEND": "agg"}
_AT_A_TIME = threading.Lock()


class WorkerLostError(RuntimeError):
    """A call whose process was killed twice."""


def _alone(function: Callable, arguments: tuple):
    """One call, in a single thread; the only one in its process, for pictures are not drawn side by side."""
    with _AT_A_TIME:
        if os.environ.get("OMP_NUM_THREADS") == "1":  # our workers and Dask's: torch may not be needed
            return function(*arguments)
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*arguments)
        finally:
            torch.set_num_threads(threads)


def alone_without_screen(function: Callable, arguments: tuple):
    """One call, in a worker that somebody else started; it draws to files only."""
    os.environ.setdefault("MPLBACKEND", "agg")
    return _alone(function, arguments)


def in_this_process(function: Callable, arguments: list[tuple]) -> Iterator[tuple]:
    """Numbers and results, one after the other."""
    return ((number, _alone(function, each)) for number, each in enumerate(arguments))


def in_processes(function: Callable, arguments: list[tuple], n_jobs: int) -> Iterator[tuple]:
    """Numbers and results as they come; a `WorkerLostError` for a call whose process was killed twice."""
    from joblib import effective_n_jobs

    n_jobs = min(effective_n_jobs(n_jobs), len(arguments))
    killed = []
    for number, result in _round(function, arguments, range(len(arguments)), n_jobs):
        if isinstance(result, WorkerLostError):
            killed.append(number)
        else:
            yield number, result
    for number in killed:  # perhaps there is memory enough for it when nothing else runs
        yield from _round(function, arguments, [number], 1)


def _round(function, arguments, numbers, n_workers):
    """Each worker is a pool of one process: when that is killed, it is known which call it was at."""
    from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait

    waiting, running = list(reversed(numbers)), {}
    workers = [_worker() for _ in range(n_workers)]
    idle, finished = list(workers), False
    try:
        while waiting or running:
            while waiting and idle:
                worker, number = idle.pop(), waiting.pop()
                try:
                    running[worker.submit(_alone, function, arguments[number])] = worker, number
                except BrokenExecutor:  # killed while it had nothing to do
                    waiting.append(number)
                    idle.append(_worker())
                    workers.append(idle[-1])
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, number = running.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor as error:
                    result, worker = _told(error), _worker()
                    workers.append(worker)
                idle.append(worker)
                yield number, result
        finished = True
    finally:
        for worker in workers:
            worker.shutdown(wait=True, kill_workers=not finished)


def _worker():
    # joblib's own pool: it needs no `if __name__ == "__main__"` in the script that calls it
    from joblib.externals.loky.process_executor import ProcessPoolExecutor

    return ProcessPoolExecutor(max_workers=1, env=_WORKER, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent):
    """Let this process end when its parent is killed; it would wait for work for ever."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _told(error):
    signals = re.findall(r"SIG[A-Z]+", str(error))
    cause = f" ({signals[0]})" if signals else ""
    return WorkerLostError(f"its process was killed{cause}, perhaps for want of memory")
