"""The one progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["track"]


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
