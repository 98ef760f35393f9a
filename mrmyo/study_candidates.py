"""The images of a study that a mask could be drawn on, and which share of the T2 stack each covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrmyo.dixon_naming import DixonError, tell_dixon
from mrmyo.volume import Volume, same_grid

__all__ = ["Candidate", "StudyError", "candidates", "coverage", "find_beside", "is_axial", "is_thin", "may_be_drawn_on",
           "of_role", "tell_unnamed"]

THIN_MM = 3.0  # slices up to this are thin enough to be reformatted
GRADIENT_ECHO_MS = 5.0  # the echo times of one Dixon acquisition lie this near to each other at 1 T and above
SPIN_ECHO_MS = 3.0  # shifted readouts of one spin echo; proton density and T2 lie tens of ms apart
DIXON = ("in_phase", "opposed_phase", "water", "fat")
UNNAMED = ("other", "t1w", "t2w", "t2w_fs")  # what a Dixon image is taken for where nothing names it


class StudyError(ValueError):
    """A study that lacks what is needed, or of which it is not clear what to use."""


@dataclass(frozen=True)
class Candidate:
    """One series, or two of one grid, and which share of the T2 stack it covers."""

    rows: tuple
    grid: Volume
    coverage: float

    @property
    def keys(self):
        """Of the rows."""
        return tuple(row.key for row in self.rows)

    @property
    def plane(self):
        """The anatomical plane of the slices."""
        return self.rows[0].plane

    def __str__(self):
        numbers = " + ".join(str(row.series) for row in self.rows)
        return f"series {numbers} ({self.plane or 'plane unknown'}, {self.coverage:.0%} of the T2 stack)"


def coverage(grid: Volume, stack: Volume) -> float:
    """The share of the volume of `stack` that lies within `grid`, voxel edges included."""
    places = [(np.arange(m) + 0.5) * n / m - 0.5 for n in stack.shape for m in [min(n, 16)]]
    points = np.stack([*np.meshgrid(*places, indexing="ij"), np.ones([len(p) for p in places])])
    index = np.tensordot(np.linalg.inv(grid.affine) @ stack.affine, points, 1)[:3]
    shape = np.array(grid.shape)[:, None, None, None]
    return float(((index > -0.5) & (index < shape - 0.5)).all(axis=0).mean())


def candidates(series, rows, stack) -> list[Candidate]:
    """Each row of a part of the table `series`, with its place and its share of the T2 stack."""
    found = []
    for row in rows.itertuples():
        grid = series.grid(row.key)
        found.append(Candidate((row,), grid, coverage(grid, stack)))
    return found


def may_be_drawn_on(rows, settings):
    """The rows of one image, in the plane that the settings ask for."""
    fits = rows.n_echoes == 1
    if settings.structural_plane != "any":
        fits &= rows.plane == settings.structural_plane
    return rows[fits]


def of_role(series, rows, stack, role, settings):
    """The candidates of a role; for in_phase, pairs of water and fat on one grid where there is no such image."""
    rows = may_be_drawn_on(rows, settings)
    found = candidates(series, rows[rows.role == role], stack)
    if role == "in_phase" and not any(candidate.coverage > 0 for candidate in found):
        water, fat = (candidates(series, rows[rows.role == name], stack) for name in ("water", "fat"))
        found += [Candidate((*w.rows, *f.rows), w.grid, w.coverage) for w in water for f in fat
                  if same_grid(w.grid, f.grid) and _one_acquisition([w, f], same_times=True)]
    return found


def find_beside(series, rows, chosen, roles):
    """The rows of further Dixon images, of some roles, of the acquisition and on the grid of the one chosen; and notes.

    Where there are several of a role, as before and after contrast agent, it is not clear which belongs to it: none.
    """
    if chosen.rows[0].role not in DIXON:
        return [], []
    whole = Candidate(chosen.rows[:1], chosen.grid, chosen.coverage)
    own = chosen.keys if len(chosen.keys) == 1 else ()  # of water and fat the sum was taken: each tells more
    frame = chosen.grid.meta.get("FrameOfReferenceUID")
    found, notes = [], []
    for role in dict.fromkeys(roles):
        others = candidates(series, rows[(rows.role == role) & (rows.n_echoes == 1) & ~rows.key.isin(own)], chosen.grid)
        fit = [c.rows[0] for c in others if same_grid(c.grid, chosen.grid) and _one_acquisition([whole, c])
               and c.grid.meta.get("FrameOfReferenceUID") == frame]
        if len(fit) > 1:
            notes.append(f"no {role} image helped to make the mask, for several would do: series "
                         f"{', '.join(str(row.series) for row in fit)}")
        found += fit if len(fit) == 1 else []
    return found, notes


def is_axial(grid):
    """Whether the slices as they are stacked are axial, as `mrmyo.segment` wants them."""
    return int(np.abs(grid.affine[:3, grid.slice_axis]).argmax()) == 2


def is_thin(grid):
    """Whether the voxels are small enough in every direction for slices of another plane."""
    return float(grid.spacing_mm.max()) <= THIN_MM


def tell_unnamed(series, rows, stack, settings):
    """The rows, with Dixon roles told from voxels where an image that is wanted has no name; and notes of that."""
    wanted = {"in_phase", "water"} & set(settings.segment_on)
    if not wanted or set(settings.segment_on) & {role for role, _ in settings.roles}:
        return rows, []
    first = min(settings.segment_on.index(role) for role in wanted)
    for role in {*settings.segment_on[:first], *wanted}:  # one that comes before, or an image that has such a name
        if any(c.coverage for c in of_role(series, rows, stack, role, settings)):
            return rows, []
    rows, notes = rows.copy(), []
    for group in _unnamed_groups(series, rows, stack, settings):
        images = [series.volume(row.key) for row in group]
        try:
            roles, _ = tell_dixon([image.array for image in images], spacing_mm=images[0].spacing_mm)
        except DixonError:
            continue  # not told: they stay what their headers say
        if set(roles) == {"in_phase", "opposed_phase"} and len({row.echo_times_ms for row in group}) == 1:
            continue  # no echo time tells them apart: an image before and after contrast agent looks the same
        for row, role in zip(group, roles, strict=True):
            rows.loc[rows.key == row.key, "role"] = role
        told = ", ".join(f"{row.series}: {role}" for row, role in zip(group, roles, strict=True))
        notes.append(f"the Dixon images have no names and were told by their voxels (series {told})")
    return rows, notes


def _unnamed_groups(series, rows, stack, settings):
    """Lists of two to four images without a name that may be of one Dixon acquisition, over the T2 stack."""
    stated = {role for role, _ in settings.roles}
    unnamed = may_be_drawn_on(rows[rows.role.isin(set(UNNAMED) - stated)], settings)
    groups = []
    for candidate in candidates(series, unnamed, stack):
        for group in groups:
            if same_grid(group[0].grid, candidate.grid) and _one_acquisition([*group, candidate]):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    return [[c.rows[0] for c in group] for group in groups if 2 <= len(group) <= 4 and group[0].coverage > 0]


def _one_acquisition(images, *, same_times=False):
    """Whether study, patient, sequence, TR, flip angle and echo times let the images be of one Dixon acquisition."""
    rows = [candidate.rows[0] for candidate in images]
    facts = {(row.study, getattr(row, "patient", None), tuple(row.scanning_sequence), str(row.repetition_time_ms),
              str(candidate.grid.meta.get("FlipAngle"))) for row, candidate in zip(rows, images, strict=True)}
    times = [time for row in rows for time in row.echo_times_ms]
    if len(facts) > 1 or len({len(row.echo_times_ms) for row in rows}) > 1:
        return False
    gradient = "GR" in rows[0].scanning_sequence and "SE" not in rows[0].scanning_sequence
    most = 0.01 if same_times else GRADIENT_ECHO_MS if gradient else SPIN_ECHO_MS
    return not times or max(times) - min(times) <= most
