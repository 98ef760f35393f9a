"""Calls on a Dask cluster that somebody else has set up."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

from mrmyo.progress_workers import WorkerLostError, alone_without_screen

__all__ = ["ClusterError", "on_cluster"]

CONNECT_S = 5  # to reach the scheduler
NO_WORKER_S = 60  # without a single worker, before giving up
LOOK_S = 2


class ClusterError(ValueError):
    """A cluster that cannot be used."""


def on_cluster(function: Callable, arguments: list[tuple], address: str) -> Iterator[tuple]:
    """Numbers and results as they come; a `WorkerLostError` for a call that lost its workers again and again.

    Dask gives the calls of a worker that dies to other workers, and gives up a call after some deaths (its setting
    ``distributed.scheduler.allowed-failures``). Such a call may merely have waited beside the culprit: it is made
    once more, alone.
    """
    client = _connect(address)
    try:
        given_up = []
        for number, result in _round(client, address, function, arguments, range(len(arguments))):
            if isinstance(result, WorkerLostError):
                given_up.append(number)
            else:
                yield number, result
        for number in given_up:
            yield from _round(client, address, function, arguments, [number])
    finally:
        client.close(timeout=CONNECT_S)


def _connect(address):
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            f"Found scheduler={address!r} but no Dask here; install it with: pip install 'mrmyo[cluster]'."
        ) from None
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError):  # no answer, or no address
        raise ClusterError(
            f"No Dask scheduler answers at {address!r} within {CONNECT_S} s; expected an address such as "
            "tcp://host:8786. Start one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`."
        ) from None


def _round(client, address, function, arguments, numbers):
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, wait
    from distributed.comm import CommClosedError

    run = secrets.token_hex(4)
    # the keys are shown on the cluster's pages: they name nobody
    futures = {
        client.submit(alone_without_screen, function, arguments[n], key=f"mrmyo-{run}-{n}", pure=False): n
        for n in numbers
    }
    try:
        pending, seen = set(futures), time.monotonic()
        while pending:
            try:
                with client.as_current():
                    done, pending = wait(pending, timeout=LOOK_S, return_when="FIRST_COMPLETED")
            except TimeoutError:
                done = ()
            if done or client.scheduler_info(n_workers=-1)["workers"]:
                seen = time.monotonic()
            elif time.monotonic() - seen > NO_WORKER_S:
                raise ClusterError(f"The Dask scheduler at {address!r} has had no worker for {NO_WORKER_S} s. Start "
                                   "workers and run the same again to go on.")
            for future in done:
                try:
                    result = future.result()
                except KilledWorker:
                    result = WorkerLostError("its process was killed, perhaps for want of memory")
                yield futures[future], result
    except (CommClosedError, CancelledError):
        raise ClusterError(f"The Dask scheduler at {address!r} was lost. Run the same again to go on.") from None
    finally:
        client.cancel(list(futures))
