"""Which series of a study to measure T2 on and which to draw the mask on; a doubt is an error that lists the choice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mrmyo.dicom import DicomError
from mrmyo.dixon import combine, fat_fraction
from mrmyo.segmentation_description import is_description
from mrmyo.segmentation_sides import SegmentationError
from mrmyo.settings import Settings
from mrmyo.study_candidates import (
    UNNAMED,
    StudyError,
    candidates,
    coverage,
    find_beside,
    is_axial,
    is_thin,
    may_be_drawn_on,
    of_role,
    tell_unnamed,
)
from mrmyo.volume import Volume, reformat, to_canonical

__all__ = ["Chosen", "StudyError", "beside_volumes", "choose_series", "fat_fraction_beside", "structural_volume"]

TIE = 0.05  # shares of the T2 stack that differ by less count as equal
SLAB_MM = 5.0
RIGHTED = ("and were joined", "brought to the first one's")  # how warnings end of what reading has put right


@dataclass(frozen=True)
class Chosen:
    """The series of a study that are used, by the ``key`` of their rows.

    Attributes
    ----------
    t2 : str
        What T2 comes from.
    t2_source : {"echoes", "scanner_map"}
    structural : tuple of str
        What the mask is drawn on: one series, or water and fat, of which the in-phase image is made.
    structural_name : str
        Its role, and what is made of it.
    plane : str
        Plane to reformat it to; '' to leave it as it is.
    beside : tuple of str
        Further Dixon images of the same acquisition and grid, which help to find the muscles.
    fat : str, optional
        The fat image among them.
    b1_map : str, optional
    roles : tuple
        (role, key) of every series that is used.
    series : tuple
        (role, series number) of the same.
    notes : tuple of str
        What a reader of the results should know of the choice.
    flags : tuple of str
        What makes the results doubtful: the warnings of the series that are used.
    rows : tuple
        What else tells these series from others in the same files, in the order of `roles`: series number, ImageType,
        shape, echo times, key.
    """

    t2: str
    t2_source: str
    structural: tuple[str, ...]
    structural_name: str
    plane: str = ""
    beside: tuple[str, ...] = ()
    fat: str | None = None
    b1_map: str | None = None
    roles: tuple[tuple[str, str], ...] = ()
    series: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    rows: tuple[tuple, ...] = ()


def choose_series(series, settings: Settings) -> Chosen:
    """Choose the series to measure T2 on, to draw the mask on, and the B1 map.

    T2 comes from the echoes, or else from the scanner's own map (`Settings.t2_source`). The mask is drawn on the first
    role of `Settings.segment_on` that has a series over the T2 stack; an in-phase image is made of water and fat where
    only these exist. Among several series of one role counts the share of the T2 stack's volume that they cover, in the
    same frame of reference if any is; among equals (within 0.05) the plane of the T2 stack. Stacks that can be neither
    segmented as they are nor reformatted (thick ones that are not axial) come last, unless the settings state them.
    Beside a Dixon image the others of its acquisition on its grid are taken too (`Settings.segment_beside`).

    Where the role that is wanted is missing, but two to four images of one grid have no names, their voxels are read to
    tell which of them is which (`mrmyo.dixon.tell_dixon`).

    Parameters
    ----------
    series : SeriesTable
        From `mrmyo.read_dicom`, to which the settings' ``roles`` were given.
    settings : Settings

    Returns
    -------
    Chosen

    Raises
    ------
    StudyError
        When a series is missing, lies elsewhere or in another study, is of another patient, or several would do.
    """
    _check_stated(series, settings)
    readable = series[series.readable]
    source, role = _t2_role(series, settings)
    t2 = _choose_t2(series, readable[readable.role == role], settings, role)
    stack = series.grid(t2.key)
    beside = readable[readable.study == t2.study]  # a mask and echoes of two studies may be of two patients
    told, notes = tell_unnamed(series, beside, stack, settings)
    structural, name = _choose_structural(series, told, stack, t2, settings)
    plane = ""
    if not is_axial(structural.grid) and is_thin(structural.grid):
        plane = "axial"
        notes.append(f"the {structural.plane} series was reformatted to axial slabs of {SLAB_MM:g} mm")
        name += f", reformatted to axial {SLAB_MM:g} mm"
    b1_map = _choose_b1(series, beside, stack, notes)
    # another lab's model is given one image
    roles = () if is_description(settings.segmentation_model) else settings.segment_beside
    further, left_out = find_beside(series, told, structural, roles)
    notes += left_out
    used = [row for row in (t2, *structural.rows, b1_map) if row is not None]
    if len({getattr(row, "patient", None) for row in used}) > 1:
        raise _two_patients(used)
    flags, told = _warnings(used)
    notes += told
    if None in (grid.meta.get("FrameOfReferenceUID") for grid in (stack, structural.grid)):
        notes.append("the frame of reference is not known: whether the mask and the T2 stack lie on one table is not "
                     "told by the images")
    return Chosen(
        t2.key, source, structural.keys, name, plane, tuple(row.key for row in further),
        next((row.key for row in further if row.role == "fat"), None), None if b1_map is None else b1_map.key,
        roles=tuple((row.role, row.key) for row in used), series=tuple((row.role, int(row.series)) for row in used),
        notes=tuple(notes), flags=tuple(flags),
        rows=tuple((int(row.series), tuple(row.image_type), tuple(row.shape), tuple(row.echo_times_ms), row.key)
                   for row in used),
    )


def structural_volume(series, chosen: Chosen) -> Volume:
    """Read the image to draw the mask on, put together and reformatted as `choose_series` decided."""
    parts = [series.volume(key) for key in chosen.structural]
    volume = parts[0]
    if len(parts) == 2:
        volume = volume.with_array(combine(*(part.array for part in parts), phase=0).astype(np.float32))
    return _in_plane(volume, chosen)


def beside_volumes(series, chosen: Chosen) -> tuple[dict[str, Volume], list[str]]:
    """Read the further contrasts of that image, on its grid, by key; notes of those that cannot be used."""
    from mrmyo.segmentation_checks import check_image

    found, notes = {}, []
    for key in chosen.beside:
        try:
            volume = _in_plane(series.volume(key), chosen)
            check_image(volume, to_canonical(volume))
        except (DicomError, SegmentationError) as error:
            number = series.series[series.key == key].item()
            notes.append(f"series {number} did not help to make the mask: {error}")
        else:
            found[key] = volume
    return found, notes


def fat_fraction_beside(chosen: Chosen, structural: Volume, beside):
    """The fat fraction on the grid of the image to draw the mask on, an array; None where no fat image tells it.

    NaN where there is no signal. `beside` is what `beside_volumes` read. Water and fat must have one scale; beside an
    in-phase image that of fat does not matter to `mrmyo.measure.trim_fat`.
    """
    role = chosen.structural_name.partition(",")[0].partition(" ")[0]
    if chosen.fat not in beside or role not in ("in_phase", "water"):
        return None
    fat, shown = beside[chosen.fat].array.astype(np.float32), structural.array.astype(np.float32)
    total = shown if role == "in_phase" else shown + fat
    return fat_fraction(total - fat, fat, minimum=0.06 * float(np.nanpercentile(total, 99)))


def _in_plane(volume, chosen):
    return reformat(volume, plane=chosen.plane, spacing_mm=SLAB_MM) if chosen.plane else volume


def _check_stated(series, settings):
    """Refuse a stated role whose series has not the echoes that the role takes."""
    for role, _ in settings.roles:
        for row in series[series.readable & (series.role == role)].itertuples():
            if role != "other" and (role == "multi_echo") != (row.n_echoes > 1):
                expected = "several echoes" if role == "multi_echo" else "one image at each place"
                raise StudyError(f"The settings state series {row.series} for the role {role}, and it has "
                                 f"{row.n_echoes} echo{'es' if row.n_echoes > 1 else ''}; expected {expected}. State "
                                 "another series under [roles], or none.")


def _warnings(rows):
    """What the table warns of at the series that are used: flags; and notes, of what has been put right."""
    flags, notes = {}, {}
    for row in rows:
        for text in filter(None, re.split(r"; (?!T2 from|values are)", row.warnings)):
            if text.startswith("text may be burned"):
                text = "text burned into the images: pictures and NIfTI show it"
            found = notes if text.endswith(RIGHTED) else flags
            found.setdefault(text, []).append(str(row.series) if row.series >= 0 else "without number")
    return [[f"series {', '.join(dict.fromkeys(numbers))}: {text}" for text, numbers in found.items()]
            for found in (flags, notes)]


def _t2_role(series, settings):
    """Where T2 comes from, and the role of the series; None where there is none."""
    roles = set(series.role[series.readable])
    broken = series[~series.readable & (series.role == "multi_echo")]
    if settings.t2_source == "auto" and "multi_echo" not in roles and "t2_map" in roles and len(broken):
        problems = "; ".join(f"series {row.series}: {row.problem}" for row in broken.itertuples())
        raise StudyError(
            f"The echoes cannot be read ({problems}), and the scanner's own T2 map is another method. Export them "
            'again; or set t2_source = "scanner_map" in a settings file, which takes the map.'
        )
    has = {"echoes": "multi_echo" in roles, "scanner_map": "t2_map" in roles}
    wanted = ("echoes", "scanner_map") if settings.t2_source == "auto" else (settings.t2_source,)
    source = next((name for name in wanted if has[name]), None)
    return source, {"echoes": "multi_echo", "scanner_map": "t2_map", None: None}[source]


def _missing(series, settings):
    readable = series[series.readable]
    problems = [f"series {row.series}: {row.problem}" for row in series[~series.readable].itertuples()]
    t2 = {"auto": "a multi-echo spin-echo series (or the scanner's own T2 map)",
          "echoes": "a multi-echo spin-echo series", "scanner_map": "the scanner's own T2 map"}[settings.t2_source]
    plane = "" if settings.structural_plane == "any" else f"{settings.structural_plane} "
    return StudyError(
        f"Found series with the roles {sorted(set(readable.role))}; expected {t2} and one {plane}series of "
        f"{list(settings.segment_on)} to draw the mask on. "
        + (f"These could not be read: {'; '.join(problems)}." if problems else "Check that the folder is complete; a "
           "series that was taken for something else can be named in a settings file, under [roles].")
    )


def _choose_t2(series, rows, settings, role):
    """The one series to measure T2 on: among several the one that the images to draw a mask on cover best."""
    if rows.empty:
        raise _missing(series, settings)
    rows = list(rows.itertuples())
    if len(rows) == 1:
        return rows[0]
    if len({row.study for row in rows}) == 1 and _lie_apart([series.grid(row.key) for row in rows]):
        named = "; ".join(f"series {row.series} ({row.plane}, z from {row.coverage_mm[0]:.0f} to "
                          f"{row.coverage_mm[1]:.0f} mm)" for row in rows)
        raise StudyError(
            f"{len(rows)} series of the role {role} lie at different places, thigh and calf perhaps: {named}. Say "
            f"which in a settings file: under [roles], {role} = {_number(series, rows[0])}."
        )
    readable = series[series.readable]
    drawn_on = readable[readable.role.isin({*settings.segment_on, "water", *UNNAMED})]
    grids = [(row.study, series.grid(row.key)) for row in may_be_drawn_on(drawn_on, settings).itertuples()]
    covered = []
    for row in rows:
        stack = series.grid(row.key)
        covered.append(max((coverage(grid, stack) for study, grid in grids if study == row.study), default=0.0))
    best = [row for row, share in zip(rows, covered, strict=True) if share > max(covered) - TIE]
    if len(best) == 1:
        return best[0]
    if len({row.study for row in best}) > 1:
        raise _two_studies(series)
    named = "; ".join(f"series {row.series} ({row.plane}, {share:.0%} of it covered by an image to draw a mask on)"
                      for row, share in zip(rows, covered, strict=True) if row in best)
    raise StudyError(
        f"{len(best)} series of the role {role} would do equally well: {named}. Say which in a settings file: "
        f"under [roles], {role} = {_number(series, best[0])}."
    )


def _lie_apart(grids):
    """Whether any two have no part in common."""
    return any(max(coverage(one, other), coverage(other, one)) == 0 for one, other in combinations(grids, 2))


def _two_studies(series):
    return StudyError(
        f"Found the structural and the T2 series in {series.study.nunique()} studies (by StudyInstanceUID), which may "
        "be of different patients; expected one study. Give each study a folder of its own."
    )


def _two_patients(rows):
    numbers = ", ".join(str(row.series) for row in rows)
    return StudyError(
        f"The series {numbers}, which would be used together, are of different patients by their headers; expected "
        "one. Give each patient a folder of its own."
    )


def _choose_structural(series, rows, stack, t2, settings):
    """The candidate to draw the mask on, and its name."""
    stated = {role for role, _ in settings.roles}
    by_role = {role: of_role(series, rows, stack, role, settings) for role in settings.segment_on}
    for must_segment in (True, False):
        for role, found in by_role.items():
            over = [c for c in found if c.coverage > 0 and (
                not must_segment or role in stated or is_axial(c.grid) or is_thin(c.grid))]
            if over:
                best = _best(series, over, stack, t2, role)
                return best, f"{role} (water + fat)" if len(best.rows) == 2 else role
    elsewhere = [candidate for found in by_role.values() for candidate in found]
    if not elsewhere:
        others = series[series.readable & (series.study != t2.study)]
        raise _two_studies(series) if others.role.isin(settings.segment_on).any() else _missing(series, settings)
    raise StudyError(
        f"No image to draw the mask on overlaps the T2 stack (series {t2.series}): {'; '.join(map(str, elsewhere))}. "
        "Check that all are of the same part of the body, or name another series under [roles] in a settings file."
    )


def _best(series, found, stack, t2, role):
    frame = stack.meta.get("FrameOfReferenceUID")
    found = [c for c in found if c.grid.meta.get("FrameOfReferenceUID") == frame] or found
    most = max(c.coverage for c in found)
    best = [c for c in found if c.coverage > most - TIE]
    if len(best) > 1:
        best = [c for c in best if c.plane == t2.plane] or best
    if len(best) > 1:
        stated = "water" if len(best[0].rows) == 2 else role
        raise StudyError(
            f"{len(best)} images of the role {role} would do equally well to draw the mask on: "
            f"{'; '.join(map(str, best))}. Say which in a settings file: under [roles], "
            f"{stated} = {_number(series, best[0].rows[0])}; or set structural_plane."
        )
    return best[0]


def _number(series, row):
    """What a settings file calls a series: its number, or its key where several share that."""
    return int(row.series) if (series.series == row.series).sum() == 1 else f'"{row.key}"'


def _choose_b1(series, rows, stack, notes):
    found = [c for c in candidates(series, rows[(rows.role == "b1_map") & (rows.n_echoes == 1)], stack) if c.coverage]
    most = max((c.coverage for c in found), default=0)
    best = [c for c in found if c.coverage > most - TIE]
    if len(best) > 1:
        notes.append(f"no B1 map was kept, for several would do: {'; '.join(map(str, best))}")
    return best[0].rows[0] if len(best) == 1 else None
