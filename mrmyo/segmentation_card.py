"""The model card of a network as tables to read: what it is, and how well it does."""

from __future__ import annotations

from mrmyo.labels import MUSCLES

__all__ = ["card_facts", "card_scores", "claim_facts"]

ABBREVIATIONS = [row[1] for row in MUSCLES]


def card_scores(card):
    """The scores by muscle of a model card.

    Parameters
    ----------
    card : mapping
        ``mrmyo.segmentation.load_model().card``.

    Returns
    -------
    pandas.DataFrame
        One row per ``set`` of images and ``images`` within it, Dice by abbreviation and whatever else is a number
        there; empty when the card holds no score by muscle.
    """
    import pandas as pd

    rows = [{"set": where[0], "images": ", ".join(where[1:]), **numbers}
            for where, numbers in _leaves(card.get("scores", {})) if set(numbers) & set(ABBREVIATIONS)]
    table = pd.DataFrame(rows)
    first = [name for name in ("set", "images", *ABBREVIATIONS) if name in table.columns]
    return table.reindex(columns=[*first, *(name for name in table.columns if name not in first)])


def card_facts(card):
    """Everything else that a model card tells, in words.

    Parameters
    ----------
    card : mapping

    Returns
    -------
    pandas.DataFrame
        Columns ``what`` and ``found``, both text. Known failures stay a list: ``card["known_failures"]``.
    """
    import pandas as pd

    rows = [(what, card[what]) for what in ("name", "sha256", "architecture", "input", "training", "data")
            if card.get(what)]
    rows += [(name, rest) for name, part in card.get("scores", {}).items() if (rest := _rest(part)) != {}]
    return pd.DataFrame([{"what": what, "found": _written(value)} for what, value in rows], columns=["what", "found"])


def claim_facts(card) -> dict:
    """What a model card tells, by the keys that the CLAIM list asks for (`mrmyo.stats.claim`).

    Parameters
    ----------
    card : mapping

    Returns
    -------
    dict of str
        model_name, model_hash, ai_technology, model_description, training, training_data, seed, failure_analysis: those
        that the card has. It knows nothing of the study that used the model.
    """
    training, architecture = card.get("training") or {}, card.get("architecture") or {}
    kind = architecture.get("kind")
    found = {
        "model_name": card.get("name"), "model_hash": card.get("sha256"),
        "ai_technology": kind and f"convolutional network ({kind})",
        "model_description": architecture and _written({**architecture, **(card.get("input") or {})}),
        "training": training and _written(training), "training_data": card.get("data"), "seed": training.get("seed"),
        "failure_analysis": " ".join(card.get("known_failures") or ()),
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "", {})}


def _rest(part):
    """What `card_scores` does not show of a part of the scores: texts, lists, numbers that are not by muscle."""
    if not isinstance(part, dict):
        return part
    if set(part) & set(ABBREVIATIONS) or "muscle_dice" in part:
        return {}
    return {name: rest for name, value in part.items() if (rest := _rest(value)) != {}}


def _written(value):
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')}: {_written(part)}" for name, part in value.items())
    if isinstance(value, list):
        if value and all(isinstance(v, float) for v in value):
            return f"{min(value):g} to {max(value):g} (n = {len(value)})"
        return ", ".join(map(_written, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _leaves(scores, where=()):
    """((names, …), {name: number}) for every mapping of numbers within the scores, however deep."""
    for name, part in scores.items():
        if isinstance(part, dict):
            numbers = {k: v for k, v in part.items() if isinstance(v, int | float)}
            numbers |= part["muscle_dice"] if isinstance(part.get("muscle_dice"), dict) else {}
            if numbers:
                yield (*where, name), numbers
            yield from _leaves({k: v for k, v in part.items() if k != "muscle_dice"}, (*where, name))
