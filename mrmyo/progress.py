"""The one progress bar."""

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


def each(function: Callable, arguments: list[tuple], *, label: str, n_jobs: int = -1, show: bool = True) -> list:
    """Call a function once for each tuple of arguments, several at a time in processes, with one progress bar.

    Each call computes in a single thread, for the calls run side by side already.

    Parameters
    ----------
    function : callable
        At the top of a module, as other processes must find it.
    arguments : list of tuple
    label : str
        What is being done.
    n_jobs : int
        Calls at a time; -1 for as many as there are processors, 1 for none but this process.
    show : bool

    Returns
    -------
    list
        The results in the order of the arguments.
    """
    from joblib import Parallel, delayed

    jobs = (delayed(_numbered)(i, function, a) for i, a in enumerate(arguments))
    done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
    done = list(track(done, label=label, total=len(arguments), show=show))
    return [result for _, result in sorted(done, key=lambda pair: pair[0])]


def _numbered(number, function, arguments):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return number, function(*arguments)
    finally:
        torch.set_num_threads(threads)
