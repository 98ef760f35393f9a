"""Whether printed numbers can be true together, in the manner of statcheck and GRIM; for any paper's numbers.

A number is taken as it is printed, with its decimals: "0.376" stands for everything that rounds to it. Each claim is
computed anew over that range, and is consistent when something in it prints as the paper does.

Nuijten et al., Behav Res Methods 2016; 48:1205 (statcheck). Brown and Heathers, Soc Psychol Personal Sci 2017; 8:363
(GRIM).
"""

from __future__ import annotations

from collections.abc import Iterable

from mrmyo.paper_checks import FEW, KEYS, KINDS, MOST_N, AuditError, window

__all__ = ["KINDS", "AuditError", "audit", "common_n", "window"]


def audit(claims: Iterable[dict]):
    """Check claims, each on its own.

    Parameters
    ----------
    claims : iterable of dict
        Each with ``claim`` (a name), ``kind`` (one of `KINDS`) and the numbers of that kind as text, as printed:

        - correlation: ``r``, ``p``, ``n`` (may be missing); p by Student's t
        - mean of whole numbers: ``mean``, ``n`` (may be missing), ``step``
        - percentage: ``percent``, ``count``, ``n`` (may be missing)
        - sum: ``parts``, ``total``; product: ``parts``, ``total``; ratio: ``parts`` (two), ``ratio``
        - same total: ``left`` and ``right``, each (n, mean) of groups of whole numbers that make one total; one n may
          be None
        - direction: ``r`` with a score, ``more`` and ``less``, the means of those with more and with less of it
        - cover: ``ranges`` that are to cover ``low`` to ``high`` once
        - same: ``values``
        - z and p: ``z``, ``p``
        - mann-whitney: ``n_1``, ``n_2`` and ``z`` or ``p`` or both
        - combined: ``groups`` as (n, mean, SD), ``mean`` and ``sd`` of all
        - auc: ``auc``, ``n_1``, ``n_2``
        - within: ``value``, ``low``, ``high``
        - largest: ``value`` that one of ``n`` has, their ``mean`` and ``sd``
        - below: all of ``n`` with ``mean`` and ``sd`` lie below ``limit``

    Returns
    -------
    pandas.DataFrame
        One row a claim: ``claim``, ``kind``, ``printed``, ``recomputed``, ``consistent``, ``n_consistent`` (every n up
        to 400 that would make it so).

    Raises
    ------
    AuditError
        When a kind is unknown, or a number is missing or none.
    """
    import pandas as pd

    rows = []
    if isinstance(claims, dict):
        raise AuditError("Found one claim; expected a list of claims, each a dict.")
    for claim in claims:
        if not isinstance(claim, dict) or "claim" not in claim:
            raise AuditError(f"Found {claim!r}; expected a dict with a name for the claim, claim=…")
        kind = claim.get("kind")
        if kind not in KINDS:
            raise AuditError(f"Found the kind {kind!r} in the claim {claim.get('claim')!r}; expected one of "
                             f"{', '.join(KINDS)}.")
        strange = sorted(set(claim) - {"claim", "kind"} - set(KEYS[kind].split()))
        if strange:
            raise AuditError(f"The claim {claim['claim']!r} holds {strange}; a {kind} knows {KEYS[kind]}.")
        printed = {key: value for key, value in claim.items() if key not in ("claim", "kind") and value != ""}
        try:
            fits, recomputed, n = KINDS[kind](claim)
        except KeyError as error:
            raise AuditError(f"The claim {claim.get('claim')!r} lacks {error}; a {kind} needs it.") from error
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise AuditError(f"The claim {claim.get('claim')!r} cannot be read: {error}") from error
        rows.append({"claim": claim["claim"], "kind": kind, "recomputed": recomputed, "consistent": bool(fits),
                     "printed": ", ".join(f"{key} {_shown(value)}" for key, value in printed.items()),
                     "n_consistent": n})
    columns = ["claim", "kind", "printed", "recomputed", "consistent", "n_consistent"]
    return pd.DataFrame(rows, columns=columns)


def _shown(value):
    """A printed number, or several of them."""
    if not isinstance(value, list | tuple):
        return "?" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    inner = [_shown(part) for part in value]
    return "(" + ", ".join(inner) + ")" if isinstance(value, tuple) else " / ".join(inner)


def common_n(claims: Iterable[dict], *, most: int = MOST_N) -> list[int]:
    """Every n from 10 to `most` at which all of some claims (correlations, means, percentages) are consistent."""
    claims = list(claims)
    return [n for n in range(FEW, most + 1) if all(KINDS[claim["kind"]]({**claim, "n": n})[0] for claim in claims)]
