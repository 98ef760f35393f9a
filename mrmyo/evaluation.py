"""How good a mask is beside a reference: overlap, surface distance, volume and T2, by muscle, side and slice level."""

from __future__ import annotations

import numpy as np

from mrmyo.evaluation_surfaces import surface_distances
from mrmyo.labels import is_muscle, label_table
from mrmyo.measure import WHOLE_MUSCLE, dice
from mrmyo.volume import GridError, Volume, in_axis_order_of, same_grid, to_canonical

__all__ = ["EvaluationError", "evaluate", "slice_scores"]

UNNAMED = "MUS"  # whole-muscle masks
PLAUSIBLE_MS = (5.0, 1000.0)  # the median T2 of muscle lies there, at whatever field
THIRDS = ("distal", "middle", "proximal")


class EvaluationError(ValueError):
    """Two masks, or a mask and a map, cannot be compared as they were given."""


def evaluate(labels: Volume, reference: Volume, *, t2: Volume | None = None, only=None, n_levels: int = 3,
             count_unnamed: bool = False):
    """Compare a label map with a reference on the same grid.

    Parameters
    ----------
    labels, reference : Volume
        Values of `mrmyo.label_table`, 3-D, on one grid (in whatever axis order). The values of other people's maps are
        turned into ours by `mrmyo.evaluation_values.convert`.
    t2 : Volume, optional
        T2 in ms on the same grid, NaN where it was not fitted: what the difference of the masks does to T2.
    only : sequence of str, optional
        Abbreviations of the muscles to look at, such as ``["VL", "VM"]``; without it, those that the reference names.
    n_levels : int
        Into how many bands of equal height the slices that the reference covers are divided, from distal to proximal.
        Three are called 'distal', 'middle' and 'proximal', others '1 of 5' and so on; 1 for none.
    count_unnamed : bool
        Whether muscle that `labels` names and the reference does not counts as muscle in 'whole muscle'. Has no part
        where `only` is given.

    Returns
    -------
    pandas.DataFrame
        One row per side and muscle (and 'whole muscle' with the sides left, right and both) and level ('all', then the
        bands); rows in which neither mask has a voxel are left out.

        - ``z_low_mm``, ``z_high_mm``: RAS z of the lowest and highest slice centre of the level, at the middle of
          the slice
        - ``n_muscles``: how many named muscles of the table the row unites
        - ``n_slices``: slices in which the reference has the muscle; ``n_missed_slices``, those of them in which
          `labels` has none; ``n_extra_slices``, slices in which only `labels` has it; ``n_gap_slices``, slices without
          it in the reference that lie between its lowest and its highest
        - ``dice``: 2 |a ∩ b| / (|a| + |b|); 0 where one mask has nothing
        - ``hd95_mm``: 95th percentile of the distances between the surfaces, in 3-D, both ways in one sample;
          ``surface_distance_mm``, their mean
        - ``hd95_in_plane_mm``, ``surface_distance_in_plane_mm``: the same of the outlines in each slice, then the mean
          over the slices in which both masks have the muscle
        - ``volume_ml``, ``reference_volume_ml``, ``volume_error_ml``, ``volume_error_percent`` (of the reference)
        - with `t2`: ``t2_ms``, ``reference_t2_ms`` (means over the fitted voxels of either mask), ``delta_t2_ms``, and
          ``n_failed``, ``reference_n_failed`` voxels without a T2
        - ``other_side_ml``: what `labels` has of the row's muscle on the side on which the reference has none at all;
          0 where it has both

        Distances are NaN where one mask has nothing in the level: no distance tells how bad that is.

    Raises
    ------
    GridError
        When the grids differ, or a volume has echoes or is a bare array.
    EvaluationError
        When the reference has no muscle, `only` names none that it has or one that there is not, or `t2` is in
        seconds, holds no number within the masks, or zeros where NaN is expected.
        Also when a mask holds a value that the table does not.

    Notes
    -----
    *Whole muscle* is the union of the muscles that count: those of `only`, else those that the reference names on
    either side. Where the reference does not name a muscle at all, voxels of that muscle in `labels` count as no
    muscle: they cost nothing beside the reference's muscles, and gain nothing where they cover one of these. A mask
    of values 40 and 41 names no muscle; beside it all muscle counts, and there are rows of 'whole muscle' only.

    A side on which the reference has no muscle at all was not drawn: there are no rows of it, 'both' is the other side
    alone, and what `labels` has there is told in ``other_side_ml`` and costs nothing. Gaps in a reference do cost: what
    `labels` has in them is extra (`mrmyo.evaluation_notes.remarks` puts both into words).

    Slices are those across the array axis nearest to the patient's z. The bands are laid over the reference's
    slices of any counting muscle, by their height and not by their order in the array; slices of `labels` beyond belong
    to the band at that end, so that the bands add up to 'all'. The surfaces are those of the whole mask, not of its
    part in the band: a cut between bands is no surface.

    Surfaces as in :mod:`mrmyo.evaluation_surfaces`. The percentile is that of both directions together; where one
    takes the larger of two directed percentiles, the number is the same or larger.
    """
    import pandas as pd

    labels, reference, t2 = _on_one_grid(labels, reference, t2)
    masks = [_values(volume, name) for volume, name in ((labels, "labels"), (reference, "reference"))]
    entries = _entries(masks, only, count_unnamed)
    _check_t2(t2, entries, masks)
    levels = _levels(np.isin(masks[1], sorted({v for entry in entries for v in entry["theirs"]})).any((0, 1)), n_levels)
    z_mm = _heights(reference)
    voxel_ml = abs(np.linalg.det(reference.affine[:3, :3])) / 1000
    rows = []
    for entry in entries:
        pair = [np.isin(mask, entry[name]) for mask, name in zip(masks, ("ours", "theirs"), strict=True)]
        near = _box(pair[0] | pair[1])
        pair = [part[near] for part in pair]
        far = [surface_distances(*pair, reference.affine, in_plane=in_plane) for in_plane in (False, True)]
        gaps = _gaps(pair[1].any((0, 1)))
        beyond = np.isin(masks[0], entry["beyond"]).sum((0, 1)) * voxel_ml
        for level, chosen in levels.items():
            here = [part[..., chosen] for part in pair]
            if not (here[0].any() or here[1].any()):
                continue
            first, last = np.flatnonzero(chosen)[[0, -1]]
            row = {"side": entry["side"], "muscle": entry["muscle"], "abbreviation": entry["abbreviation"],
                   "level": level, "z_low_mm": z_mm[first], "z_high_mm": z_mm[last], "n_muscles": entry["n_muscles"]}
            rows.append(row | _overlap(here) | {"n_gap_slices": int(gaps[chosen].sum())}
                        | _distances(far, chosen, here) | _volumes(here, voxel_ml)
                        | (_t2(here, t2.array[near][..., chosen]) if t2 is not None else {})
                        | {"other_side_ml": float(beyond[chosen].sum())})
    return pd.DataFrame(rows)


def slice_scores(labels: Volume, reference: Volume, *, only=None):
    """The mean Dice of the muscles in every slice in which the reference has one.

    Parameters
    ----------
    labels, reference, only
        As for :func:`evaluate`.

    Returns
    -------
    pandas.DataFrame
        ``slice_index``, counted from the feet upwards, and ``dice``: the mean over the muscles that either mask has in
        the slice, of the whole muscle where none is named.
    """
    import pandas as pd

    labels, reference, _ = _on_one_grid(labels, reference, None)
    masks = [_values(volume, name) for volume, name in ((labels, "labels"), (reference, "reference"))]
    entries = _entries(masks, only, False)
    entries = [e for e in entries if e["muscle"] != WHOLE_MUSCLE] or [e for e in entries if e["side"] != "both"]
    rows = []
    for k in range(reference.shape[2]):
        pairs = [[np.isin(mask[..., k], entry[name]) for mask, name in zip(masks, ("ours", "theirs"), strict=True)]
                 for entry in entries]
        if any(theirs.any() for _, theirs in pairs):
            rows.append({"slice_index": k, "dice": float(np.nanmean([dice(*pair) for pair in pairs]))})
    return pd.DataFrame(rows)


def _on_one_grid(labels, reference, t2):
    """All in the axis order of the patient, or an error that tells what differs."""
    for name, volume in (("labels", labels), ("reference", reference), ("t2", t2)):
        if volume is None and name == "t2":
            continue
        if not isinstance(volume, Volume):
            raise GridError(f"The {name} are a {type(volume).__name__} and have no place; pass a Volume.")
        if volume.array.ndim != 3:
            raise GridError(f"The {name} have the shape {volume.array.shape}; expected a volume of three axes.")
    reference = to_canonical(reference)
    found = [reference]
    for name, volume in (("labels", labels), ("T2 map", t2)):
        if volume is not None:
            volume = in_axis_order_of(volume, reference)
            if not same_grid(volume, reference):
                raise GridError(
                    f"The {name} have the shape {volume.shape} (voxels of {_by(volume.spacing_mm)} mm), the reference "
                    f"{reference.shape} ({_by(reference.spacing_mm)} mm), or they lie at different places; expected "
                    "one grid. Carry one to the grid of the other first (mrmyo.align, mrmyo.labels.carry)."
                )
        found.append(volume)
    return found[1], found[0], found[2]


def _by(lengths):
    return " × ".join(f"{length:.3g}" for length in lengths)


def _values(volume, name):
    """The label values as uint8, or an error that says which of the two masks it was."""
    try:
        is_muscle(volume.array)
    except ValueError as error:
        raise EvaluationError(
            f"In the {name}: {error} The values of other people's maps are turned into ours by "
            "mrmyo.evaluation_values.convert (on the command line: --reference-values)."
        ) from None
    return volume.array.astype(np.uint8)


def _entries(masks, only, count_unnamed):
    """What there are rows of: side, muscle, and the values of either mask that belong to it."""
    table = label_table()
    table = table[table.is_muscle]
    present = [set(table.abbreviation[table.value.isin(np.unique(mask))]) for mask in masks]
    if not present[1]:
        raise EvaluationError("The reference holds no muscle; expected a label map with muscles to compare with.")
    muscles = [name for name in dict.fromkeys(table.abbreviation) if name != UNNAMED]
    if only is not None:
        only = [only] if isinstance(only, str) else list(only)
        if unknown := [name for name in only if name not in muscles]:
            raise EvaluationError(f"Found only={only}; {unknown} are none of {', '.join(muscles)}.")
        if not present[1] & set(only):
            raise EvaluationError(
                f"The reference names {', '.join(sorted(present[1]))}; expected at least one of {', '.join(only)}."
            )
        named = [name for name in muscles if name in only]
    elif UNNAMED in present[1]:
        named = [name for name in muscles if name in present[1]]
        count_unnamed = True  # the reference's muscle has no names, so names cannot tell what counts
    else:
        named = [name for name in muscles if name in present[1]]
    nameless = present[0] == {UNNAMED}
    if nameless and only is not None:
        raise EvaluationError(f"The labels name no muscle; expected labels with names for only={only}. Leave it out.")
    counted = [muscles + [UNNAMED] if count_unnamed else [*named, UNNAMED], [*named, UNNAMED]]
    if only is not None:
        counted = [named, named]
    drawn = table.side.isin(table.side[table.value.isin(np.unique(masks[1]))])  # a side without any muscle was not
    absent, table = table[~drawn], table[drawn]
    sides = list(dict.fromkeys(table.side))
    entries = []
    for side in sides:
        for name in () if nameless else named:  # labels without names are compared as a whole
            part = table[(table.side == side) & (table.abbreviation == name)].iloc[0]
            entries.append({"side": side, "muscle": part["name"], "abbreviation": name, "n_muscles": 1,
                            "ours": [part.value], "theirs": [part.value],
                            "beyond": absent.value[absent.abbreviation == name].tolist()})
    for side in (*sides, "both"):
        part = table[(table.side == side) | (side == "both")]
        ours, theirs = (part.value[part.abbreviation.isin(names)].tolist() for names in counted)
        entries.append({"side": side, "muscle": WHOLE_MUSCLE, "abbreviation": "ALL",
                        "n_muscles": len(muscles) if count_unnamed else len(named), "ours": ours, "theirs": theirs,
                        "beyond": absent.value[absent.abbreviation.isin(counted[0])].tolist()})
    return entries


def _gaps(covered):
    """Which slices without a muscle lie between its first and its last."""
    return ~covered & np.logical_or.accumulate(covered) & np.logical_or.accumulate(covered[::-1])[::-1]


def _box(mask):
    """The columns and rows that hold a mask, with one more on each side, so that its surface stays what it is."""
    spans = []
    for axes in ((1, 2), (0, 2)):
        found = np.flatnonzero(mask.any(axes))
        spans.append(slice(max(found[0] - 1, 0), found[-1] + 2) if found.size else slice(0, 0))
    return tuple(spans)


def _levels(covered, n_levels):
    """{level: which slices}; the bands are of equal height over the slices that the reference covers."""
    if isinstance(n_levels, bool) or not isinstance(n_levels, int | np.integer) or n_levels < 1:
        raise EvaluationError(f"Found n_levels={n_levels!r}; expected a whole number of bands, at least 1.")
    n = covered.size
    levels = {"all": np.ones(n, bool)}
    if n_levels == 1:
        return levels
    first, last = np.flatnonzero(covered)[[0, -1]]
    band = np.clip(((np.arange(n) - first + 0.5) * n_levels / (last - first + 1)).astype(int), 0, n_levels - 1)
    names = THIRDS if n_levels == 3 else [f"{i + 1} of {n_levels}" for i in range(n_levels)]
    return levels | {name: band == i for i, name in enumerate(names) if (band == i).any()}


def _heights(volume):
    """RAS z of every slice at its middle, in mm."""
    i, j = (0.5 * (n - 1) for n in volume.shape[:2])
    return volume.affine[2, 0] * i + volume.affine[2, 1] * j + volume.affine[2, 2] * np.arange(volume.shape[2]) \
        + volume.affine[2, 3]


def _overlap(pair):
    ours, theirs = (part.any((0, 1)) for part in pair)
    return {"n_slices": int(theirs.sum()), "n_missed_slices": int((theirs & ~ours).sum()),
            "n_extra_slices": int((ours & ~theirs).sum()), "dice": dice(*pair)}


def _distances(far, chosen, pair):
    """The four distances of a level; NaN where one mask has nothing there."""
    names = ("hd95_mm", "surface_distance_mm", "hd95_in_plane_mm", "surface_distance_in_plane_mm")
    row = dict.fromkeys(names, np.nan)
    if not (pair[0].any() and pair[1].any()):
        return row
    mm = far[0].within(chosen)
    if mm.size:
        row["hd95_mm"], row["surface_distance_mm"] = float(np.percentile(mm, 95)), float(mm.mean())
    one = [far[1].mm[far[1].slices == k] for k in np.flatnonzero(chosen)]
    one = [mm for mm in one if mm.size]
    if one:
        row["hd95_in_plane_mm"] = float(np.mean([np.percentile(mm, 95) for mm in one]))
        row["surface_distance_in_plane_mm"] = float(np.mean([mm.mean() for mm in one]))
    return row


def _volumes(pair, voxel_ml):
    ours, theirs = (float(part.sum()) * voxel_ml for part in pair)
    return {"volume_ml": ours, "reference_volume_ml": theirs, "volume_error_ml": ours - theirs,
            "volume_error_percent": 100 * (ours - theirs) / theirs if theirs else np.nan}


def _t2(pair, t2_ms):
    ours, theirs = (t2_ms[part].astype(float) for part in pair)
    means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else np.nan for part in (ours, theirs)]
    failed = [int((~np.isfinite(part)).sum()) for part in (ours, theirs)]
    return {"t2_ms": means[0], "reference_t2_ms": means[1], "delta_t2_ms": means[0] - means[1],
            "n_failed": failed[0], "reference_n_failed": failed[1]}


def _check_t2(t2, entries, masks):
    """Refuse a map that is not one of T2 in ms, before its numbers look like results."""
    if t2 is None:
        return
    counted = [np.isin(mask, [v for entry in entries for v in entry[name]])
               for mask, name in zip(masks, ("ours", "theirs"), strict=True)]
    values = np.asarray(t2.array[counted[0] | counted[1]], float)
    if np.isnan(values).all():
        raise EvaluationError(
            f"The T2 map holds no number in the {values.size} voxels of the masks; expected T2 in ms, NaN only where "
            "the fit failed. Is it the map of these masks?"
        )
    if (bad := int((np.isinf(values) | (values <= 0)).sum())):
        raise EvaluationError(
            f"The T2 map is 0, negative or infinite in {bad} of {values.size} voxels of the masks; expected NaN where "
            "it was not fitted. Set these voxels to NaN."
        )
    sure = np.asarray(t2.array[counted[1]], float)  # voxels outside the reference may be no muscle
    median = float(np.nanmedian(sure if np.isfinite(sure).any() else values))
    if not PLAUSIBLE_MS[0] <= median <= PLAUSIBLE_MS[1]:
        hint = "It looks like seconds: multiply by 1000, or read it with mrmyo.nifti.read_t2map." if median < 1 else \
            "Find out its unit first."
        raise EvaluationError(
            f"The median of the T2 map within the reference is {median:.4g}; expected {PLAUSIBLE_MS[0]:g} to "
            f"{PLAUSIBLE_MS[1]:g} ms. {hint}"
        )
