"""How well two readers of the same mask agree, once both have decided."""

from __future__ import annotations

import unicodedata

from mrmyo.journal import JournalError, replay
from mrmyo.labels import carry
from mrmyo.measure import dice_by_muscle, t2_by_muscle
from mrmyo.t2 import T2Maps

__all__ = ["reader_agreement"]


def reader_agreement(first, second, *, t2: T2Maps | None = None, transform=None):
    """Dice and T2 of every muscle by two readers who reviewed the same mask without seeing each other's work.

    Parameters
    ----------
    first, second : path
        The journals of the two reviews.
    t2 : T2Maps, optional
        The T2 maps of the study.
    transform : numpy.ndarray, optional
        From positions in the maps to positions in the image that was reviewed, as `mrmyo.align` gives it; the headers
        alone when None. Where a reader moved the mask by hand, that counts instead.

    Returns
    -------
    pandas.DataFrame
        One row per side and muscle, the last that of the whole muscle: ``reader_1``, ``reader_2``, ``side``,
        ``muscle``, ``abbreviation``, ``dice`` and, with maps, on their grid, ``volume_1_ml``, ``volume_2_ml``,
        ``t2_1_ms``, ``t2_2_ms``, ``delta_t2_ms`` (the second minus the first).

    Raises
    ------
    JournalError
        When the two began with different masks or images, when one person wrote in both, or when one has not decided
        yet (accepted, rejected or asked for a second reader): the second reader is to be blind to the first.
    """
    reviews = [replay(path) for path in (first, second)]
    one, other = reviews
    if one.header["image"] != other.header["image"] or one.header["mask"] != other.header["mask"]:
        raise JournalError("The two reviews did not begin with the same mask of the same image; expected two readers "
                           "of one.")
    names = [{_plain(name): name for name in review.reviewers} for review in reviews]
    both = [names[0][name] for name in sorted(set(names[0]) & set(names[1]))]
    if both:
        raise JournalError(f"{', '.join(both)} wrote in both journals; a second reader is somebody else.")
    for number, review in enumerate(reviews, start=1):
        if review.decision["decision"] == "open" or not review.decision["stands"]:
            raise JournalError(f"Reader {number} has not decided on the study yet (or changed the mask since); "
                               "agreement is shown when both have, so that neither is led by the other.")
    masks = [review.labels for review in reviews]
    table = dice_by_muscle(*masks)
    names = ["; ".join(review.reviewers) for review in reviews]
    table.insert(0, "reader_1", names[0])
    table.insert(1, "reader_2", names[1])
    if t2 is not None:
        for number, (review, mask) in enumerate(zip(reviews, masks, strict=True), start=1):
            carried = carry(mask, t2.volume("t2_ms"), transform=review.transform or transform)
            rows = t2_by_muscle(t2, carried)[["side", "muscle", "t2_ms", "volume_ml"]]
            table = table.merge(rows.rename(columns={"t2_ms": f"t2_{number}_ms", "volume_ml": f"volume_{number}_ml"}),
                                on=["side", "muscle"], how="left")
        table["delta_t2_ms"] = table.t2_2_ms - table.t2_1_ms
    return table


def _plain(name):
    """A name however it is typed."""
    return unicodedata.normalize("NFKC", name).casefold()
