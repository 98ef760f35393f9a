"""Models: groups compared beside covariates, and muscles within sides within subjects."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from scipy import optimize, stats

from mrmyo.stats.columns import (
    StatsError,
    categories_or_numbers,
    in_order,
    may_be_told,
    numbers,
    require_columns,
    require_independent,
    require_one_row_per_subject,
    require_share,
    values_in_words,
)

__all__ = ["ancova", "mixed_model"]


def ancova(table, *, value="t2_ms", group="group", reference=None, covariates=(), log=True, errors="HC3",
           level=0.95) -> pd.DataFrame:
    """Groups compared with a reference, covariates held equal: a linear model of one value per subject.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject; rows that lack the value, the group or a covariate are left out and counted.
    value, group : str
    reference : optional
        The group that the others, one or more, are compared with; the first when None: numbers come by size, categories
        in the order that the column has them, all else by text.
    covariates : str or list of str
        Columns of numbers, or of text, which are taken as categories.
    log : bool
        Whether to model natural logarithms, so that effects are ratios; the values must then be above 0.
    errors : {"HC3", "ordinary"}
        Standard errors that let the spread differ and are made for small samples (MacKinnon and White, J Econom 1985;
        29:305; Long and Ervin, Am Stat 2000; 54:217), or those that take one spread for all.
    level : float

    Returns
    -------
    pandas.DataFrame
        One row per other group: group, reference, n_group, n_reference, n (in the model), n_missing, covariates,
        difference (group minus reference; of logarithms when `log`), low, high (Student's t), ratio (of geometric
        means; NaN unless `log`), ratio_low, ratio_high, p, df, partial_eta_squared (of this contrast by ordinary least
        squares, whatever `errors` is), method, note: fewer than ten subjects per term, a covariate that does not
        overlap between both groups, or why there is no interval.

    Raises
    ------
    StatsError
        When a column is missing or not numeric, subjects repeat, there is one group, the reference is unknown, a
        covariate is constant or fixed by the group and the others, there are too few rows, or a value has no logarithm.
    """
    require_share("level", level)
    if errors not in ("HC3", "ordinary"):
        raise StatsError(f"Found errors={errors!r}; expected 'HC3' or 'ordinary'.")
    values, labels, names, parts, _ = _complete(table, value, group, reference, covariates, log)
    require_one_row_per_subject(table)
    design = _design(labels, names, parts)
    n, k = design.shape
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ values
    rest = values - design @ coefficients
    room = 1 - np.einsum("ij,jk,ik->i", design, inverse, design)  # what a subject's leverage leaves
    notes = ["fewer than ten subjects per term"] * (n < 10 * (k - 1))
    ordinary = se = np.sqrt(rest @ rest / (n - k) * np.diag(inverse))
    if np.linalg.norm(rest) <= 1e-10 * np.linalg.norm(values):
        ordinary = se = np.full(k, np.nan)
        notes.append("nothing varies beside group and covariates: no interval is defined")
    elif errors == "HC3" and room.min() < 1e-9:
        alone = [f"has {name} {part[room.argmin()]}" for name, part in {group: labels, **parts}.items()
                 if part.dtype == object and (part == part[room.argmin()]).sum() == 1]
        se = np.full(k, np.nan)
        notes.append(f"HC3 is undefined: one subject alone {(alone or ['decides a coefficient'])[0]} (leverage 1); "
                     "leave it out, or take errors='ordinary'")
    elif errors == "HC3":
        se = np.linalg.norm(inverse @ design.T * (rest / room), axis=1)
        notes += ["groups without any spread have no HC3 interval"] * bool((se < 1e-9 * ordinary).any())
        se[se < 1e-9 * ordinary] = np.nan
    t = coefficients / ordinary
    return pd.DataFrame([{
        "group": name, "reference": names[0], "n_group": int((labels == name).sum()),
        "n_reference": int((labels == names[0]).sum()), "n": n, "n_missing": len(table) - n,
        "covariates": ", ".join(map(str, parts)), **_effect(coefficients[j], se[j], n - k, level, log),
        "partial_eta_squared": t[j] ** 2 / (t[j] ** 2 + n - k),
        "method": f"linear model{' of logarithms' if log else ''}, {errors} errors, Student's t, {level:.0%}",
        "note": "; ".join(notes + _apart(labels, name, names[0], parts)),
    } for j, name in enumerate(names[1:], start=1)])


def mixed_model(table, *, value="t2_ms", group="group", subject="subject", within=("side", "muscle"), reference=None,
                covariates=(), log=True, level=0.95) -> pd.DataFrame:
    """Groups compared with a reference by all muscles of each subject at once: a linear mixed model.

    By restricted maximum likelihood (Laird and Ware, Biometrics 1982; 38:963). Student's t takes the plain
    between-subject degrees of freedom, subjects minus groups minus coefficients of covariates that are constant in each
    subject (Pinheiro and Bates, Mixed-Effects Models in S and S-PLUS, 2.4.2), not Satterthwaite's or Kenward–Roger's.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per subject and `within`; rows that lack any of these columns are left out and counted.
    value, group, subject : str
    within : str or tuple of str
        What tells a subject's rows apart. The last (the muscle) is a fixed effect, in categories; those before it (the
        side) are random intercepts, nested in the subject one in the other. ``("muscle",)`` has no sides; with ``()``
        the rows are repeats, told apart by covariates alone.
    reference, covariates, log, level
        As in `ancova`; covariates may vary within a subject.

    Returns
    -------
    pandas.DataFrame
        One row per other group: group, reference, n_subjects, n_rows (of the model), n_missing (rows), covariates,
        difference, low, high, ratio, ratio_low, ratio_high (as in `ancova`), p, df, sd_subject, sd_side (NaN unless
        "side" is a random intercept; others by their names), sd_residual, icc_subject (the subject's share of the
        variance), method, note: a variance of zero, no convergence, or why nothing is given.

    Raises
    ------
    StatsError
        As `ancova`, and when rows repeat, a subject is in two groups, a group has fewer than two subjects, or each
        subject (or side) has one row, so that its variance cannot be told from the residual's.
    """
    require_share("level", level)
    within = (within,) if isinstance(within, str) else tuple(within)
    values, labels, names, parts, kept = _complete(table, value, group, reference, covariates, log, (subject, *within))
    frame = table.loc[kept, [group, subject, *within]].astype(object).reset_index(drop=True)
    again = frame.duplicated([subject, *within]).sum()
    if within and again:
        raise StatsError(f"Found {again} rows that repeat {[subject, *within]}; expected one each. Choose one session.")
    levels = [subject, *within[:-1]]
    nested = [frame.groupby(levels[:depth + 1], sort=False).ngroup().to_numpy() for depth in range(len(levels))]
    counts = _one_each(frame, nested[0], group).value_counts().to_dict()
    if min(counts.values()) < 2:
        told = counts if may_be_told(table[group]) else sorted(counts.values())[:10]
        raise StatsError(f"Found the numbers of subjects {told}; expected two of each group at least.")
    sizes = [int(codes.max()) + 1 for codes in nested] + [len(frame)]
    if len(set(sizes)) < len(sizes):
        raise StatsError(f"Found {dict(zip([*levels, 'row'], sizes, strict=True))}; variances of as many parts as "
                         "wholes cannot be told apart. Take a column out of within=, or ancova.")
    design = _design(labels, names, parts)
    inside = design - pd.DataFrame(design).groupby(nested[0]).transform("mean").to_numpy()
    df = sizes[0] - int((np.abs(inside).max(axis=0) < 1e-9).sum())  # the intercept and groups are among these
    if df < 1:
        raise StatsError(f"Found {sizes[0]} subjects for {sizes[0] - df} coefficients between them; expected more.")
    coefficients, se, variances, notes = _reml(values, design, nested, levels)
    sds, covariates = np.sqrt(variances).tolist(), ", ".join(str(name) for name in parts if name not in within)
    random = [subject, *(f"{lower} within {upper}" for upper, lower in itertools.pairwise(levels))]
    return pd.DataFrame([{
        "group": name, "reference": names[0], "n_subjects": sizes[0], "n_rows": len(frame),
        "n_missing": len(table) - len(frame), "covariates": covariates,
        **_effect(coefficients[j], se[j], df, level, log), "sd_subject": sds[0], "sd_side": np.nan,
        **{f"sd_{name}": sd for name, sd in zip(levels[1:], sds[1:], strict=False)}, "sd_residual": sds[-1],
        "icc_subject": float(variances[0] / variances.sum()),
        "method": f"mixed model{' of logarithms' if log else ''}, REML, random intercepts of "
                  f"{' and of '.join(random)}, Student's t, {df} df between subjects, {level:.0%}",
        "note": "; ".join(notes + _apart(labels, name, names[0], parts)),
    } for j, name in enumerate(names[1:], start=1)])


def _complete(table, value, group, reference, covariates, log, others=()):
    """Values (or logarithms) and groups of complete rows, the groups' names, covariates by name, and the rows."""
    covariates = [covariates] if isinstance(covariates, str) else list(covariates)
    named = [value, group, *others, *covariates]
    require_columns(table, *named)
    if len(set(named)) < len(named):
        raise StatsError(f"Found a column twice among {named}; expected each in one place.")
    kept = table[named].notna().all(axis=1).to_numpy()
    values, labels = numbers(table, value)[kept], table[group].to_numpy(object)[kept]
    if log and (values <= 0).any():
        raise StatsError(f"Column {value!r} holds {int((values <= 0).sum())} values not above 0, which have no "
                         "logarithm. Look at them, or set log=False.")
    names = in_order(table[group][kept])
    if len(names) < 2:
        raise StatsError(f"Column {group!r} holds the groups {values_in_words(table[group], names)} in complete rows; "
                         "expected two at least.")
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise StatsError(f"Found no {reference!r} in column {group!r}; it holds {values_in_words(table[group], names)}."
                         " Set reference= to one.")
    muscle = {name: table[name].to_numpy(object)[kept] for name in others[1:][-1:] if table[name][kept].nunique() > 1}
    return (np.log(values) if log else values, labels, [reference, *(name for name in names if name != reference)],
            muscle | {name: categories_or_numbers(table, name)[kept] for name in covariates}, kept)


def _design(labels, names, parts):
    """The columns of a model: 1, each group but the first, then covariates, numbers in standard deviations."""
    columns, terms = [np.ones(len(labels)), *((labels == name).astype(float) for name in names[1:])], list(names)
    for covariate, part in parts.items():
        if part.dtype == object:
            scale = sorted(pd.unique(part).tolist(), key=str)
            more = [(part == category).astype(float) for category in scale[1:]] or [np.zeros(len(part))]
        else:
            more = [(part - part.mean()) / (part.std() or 1.0)]
        columns, terms = columns + more, terms + [covariate] * len(more)
    design = np.column_stack(columns)
    n, k = design.shape
    if n <= k:
        raise StatsError(f"Found {n} complete rows for {k} coefficients; expected {k + 1} at least; leave some out.")
    require_independent(design, terms, len(names), "group and covariates")
    return design


def _effect(difference, se, df, level, log):
    """A difference with Student's interval and p, and as a ratio."""
    half = stats.t.ppf(0.5 + level / 2, df) * se
    three = np.array([difference, difference - half, difference + half])
    with np.errstate(over="ignore"):  # the limit of one degree of freedom may lie beyond all numbers
        six = [*three.tolist(), *(np.exp(three) if log else three * np.nan).tolist()]
    return {**dict(zip(("difference", "low", "high", "ratio", "ratio_low", "ratio_high"), six, strict=True)),
            "p": float(2 * stats.t.sf(abs(difference / se), df)), "df": df}


def _apart(labels, name, reference, parts):
    """A note for each covariate that has nothing in common between two groups."""
    pairs = {covariate: (part[labels == name], part[labels == reference]) for covariate, part in parts.items()}
    return [f"{covariate} does not overlap between {name} and {reference}: the model extrapolates"
            for covariate, (one, two) in pairs.items() if not set(one) & set(two)
            and (one.dtype == object or one.max() < two.min() or two.max() < one.min())]


def _one_each(frame, codes, column):
    """The one value of a column in each subject; refuses where it varies."""
    of_subject = frame.groupby(codes)[column]
    torn = of_subject.nunique() > 1
    if torn.any():
        raise StatsError(f"Found {torn.sum()} subjects with more than one {column!r}; expected one for each subject.")
    return of_subject.first()


def _reml(values, design, nested, levels):
    """Coefficients, errors, variances (levels', the residual's), notes; statsmodels' MixedLM errs near 0."""
    n, k = design.shape
    start = np.linalg.lstsq(design, values)[0]
    rest = values - design @ start
    unit = float(np.sqrt(rest @ rest / (n - k))) or 1.0
    both = np.column_stack([design, rest / unit])
    members = [np.equal.outer(np.unique(codes), codes).astype(float) for codes in nested]

    def solve(shares):  # deviance first; cross products in the metric of V⁻¹ by Sherman–Morrison, innermost level first
        weight, cross, log_det = np.ones(n), both.T @ both, 0.0
        for share, member in zip(shares[::-1], members[::-1], strict=True):
            sums, shrink = member @ (both * weight[:, None]), 1 + share / (1 - share) * (member @ weight)
            cross = cross - (sums.T * (share / (1 - share) / shrink)) @ sums
            log_det += np.log(shrink).sum()
            weight = weight / (shrink @ member)
        beta = np.linalg.solve(cross[:k, :k], cross[:k, k])
        variance = max(cross[k, k] - cross[:k, k] @ beta, 1e-300) / (n - k)
        deviance = (n - k) * np.log(variance) + log_det + np.linalg.slogdet(cross[:k, :k])[1]
        return deviance, beta, variance * np.linalg.inv(cross[:k, :k]), variance

    grid = itertools.product([0.02, 0.2, 0.5, 0.8, 0.98], repeat=len(levels))
    best = min(map(np.array, grid), key=lambda shares: solve(shares)[0])
    for _ in range(2):  # the first simplex may collapse on a boundary
        search = optimize.minimize(lambda shares: solve(shares)[0], best, bounds=[(0, 1 - 1e-7)] * len(levels),
                                   method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-9, "maxiter": 2000})
        best = search.x
    if best.max() > 1 - 1e-6 or np.linalg.norm(rest) <= 1e-10 * np.linalg.norm(values):
        return *np.full((2, k), np.nan), np.full(len(levels) + 1, np.nan), [f"nothing varies within one {levels[-1]}"]
    _, beta, covariance, variance = solve(best)
    notes = ["the search for variances did not converge: do not rely on them"] * (not search.success)
    notes += [f"the variance of {one} is at its boundary, zero" for j, one in enumerate(levels) if best[j] < 1e-6]
    variances = unit**2 * variance * np.array([*(best / (1 - best)), 1.0])
    return start + unit * beta, unit * np.sqrt(np.diag(covariance)), variances, notes
