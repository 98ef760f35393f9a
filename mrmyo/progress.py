"""The one progress bar, and many calls side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

__all__ = ["each", "track"]


def track(items: Iterable, *, label: str, total: int | None = None, show: bool = True) -> Iterator:
    """Pass items on and show how far they have come, in a terminal or a notebook.

    Parameters
    ----------
    items : iterable
    label : str
        What is being done.
    total : int, optional
        How many there will be, where `items` has no length.
    show : bool
    """
    # the plain text bar also in notebooks: a widget would be saved into them
    from tqdm import tqdm

    yield from tqdm(items, desc=label, total=total, disable=not show, leave=True)


def each(function: Callable, arguments: list[tuple], *, label: str, n_jobs: int = -1, scheduler: str | None = None,
         lost: Callable | None = None, show: bool = True) -> list:
    """Call a function once for each tuple of arguments, several at a time in processes, with one progress bar.

    Each call computes in a single thread, for the calls run side by side already. A process that is killed takes only
    its own call with it; that call is made once more, alone, when all others are done.

    Parameters
    ----------
    function : callable
        At the top of a module, as other processes must find it.
    arguments : list of tuple
    label : str
        What is being done.
    n_jobs : int
        Calls at a time; -1 for as many as there are processors, 1 for none but this process.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``: its workers make the calls, and `n_jobs` is not used.
    lost : callable, optional
        ``lost(reason, *arguments)`` gives the result of a call whose process was killed twice.
    show : bool

    Returns
    -------
    list
        The results in the order of the arguments.

    Raises
    ------
    WorkerLostError
        When a call's process was killed twice and `lost` is None; all others are made before.
    ClusterError
        When the cluster cannot be reached, has no worker, or is lost.
    """
    from mrmyo.progress_workers import WorkerLostError, in_processes, in_this_process

    if scheduler is not None:
        from mrmyo.progress_cluster import on_cluster

        done = on_cluster(function, arguments, scheduler)
    elif n_jobs == 1:
        done = in_this_process(function, arguments)
    else:
        done = in_processes(function, arguments, n_jobs)
    results = dict(track(done, label=label, total=len(arguments), show=show))
    for number, result in results.items():
        if isinstance(result, WorkerLostError):
            if lost is None:
                raise result
            results[number] = lost(str(result), *arguments[number])
    return [results[number] for number in range(len(arguments))]
