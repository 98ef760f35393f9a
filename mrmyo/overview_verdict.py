"""Whether a study can be measured, and on which of its series, told before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mrmyo.dicom import DicomError, SeriesTable, read_dicom
from mrmyo.settings import Settings
from mrmyo.study_series import StudyError, choose_series

__all__ = ["Verdict", "covered_slices", "enumerate_words", "find_series", "judge", "number_of", "series_words"]

ROLE_WORDS = {
    "multi_echo": "multi-echo spin echo", "in_phase": "Dixon, in-phase", "opposed_phase": "Dixon, opposed-phase",
    "water": "Dixon, water", "fat": "Dixon, fat", "fat_fraction": "fat fraction map", "t2_map": "scanner's T2 map",
    "b1_map": "scanner's B1 map", "t1w": "T1w", "t2w": "T2w", "t2w_fs": "T2w, fat-suppressed", "stir": "STIR",
}
_DIXON = {"in_phase", "opposed_phase", "water", "fat"}
_EXPORT = "Export the whole series again from the scanner or the archive: original MR images, every slice, every echo."
_ADD = ("Add the missing series to the folder. If it is there but taken for something else, state its role in a "
        "settings file, under [roles].")


@dataclass(frozen=True)
class Verdict:
    """Whether a study can be measured, and on what.

    Attributes
    ----------
    mask : tuple of str
        Keys of the rows that the mask is drawn on: one, or water and fat; none where nothing can be chosen.
    t2 : str
        Key of the row that T2 comes from; empty where nothing can be chosen.
    beside : tuple of str
        Keys of further contrasts that the automatic mask is made from.
    notes : tuple of str
        What there is to know of the choice.
    reasons, advice : tuple of str
        What keeps it from being measured, empty when nothing does; and what to do about it.
    """

    mask: tuple[str, ...] = ()
    t2: str = ""
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether nothing keeps the study from being measured."""
        return not self.reasons


def find_series(folder, settings: Settings | None = None) -> SeriesTable:
    """The series of a study as `read_dicom` lists them, also when not one can be read.

    Raises
    ------
    DicomError
        When there is no such folder, or no DICOM image in it.
    """
    try:
        return read_dicom(folder, roles=dict(settings.roles) if settings else None)
    except DicomError as error:
        if getattr(error, "table", None) is None:
            raise
        return error.table


def series_words(row) -> str:
    """What a row of the table is, in words: "T2w Dixon, in-phase"."""
    times, repetition = row.echo_times_ms, row.repetition_time_ms
    if row.role == "multi_echo":
        return f"{ROLE_WORDS[row.role]} ({len(times)}\N{NO-BREAK SPACE}echoes)"
    if row.role not in _DIXON:
        return ROLE_WORDS.get(row.role) or _other_words(row)
    long = len(times) == 1 and times[0] >= 50 and repetition >= 1500
    short = len(times) == 1 and times[0] <= 30 and repetition <= 1000
    weighting = "" if "SE" not in row.scanning_sequence else "T2w " if long else "T1w " if short else ""
    return weighting + ROLE_WORDS[row.role]


def _other_words(row):
    kind, sequence = {token.upper() for token in row.image_type}, set(row.scanning_sequence)
    if "LOCALIZER" in kind:
        return "localizer"
    if kind & {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "SW_P"}:  # SW_P: Philips' susceptibility weighting
        return "phase image"
    if "EP" in sequence:
        return "other (echo-planar image)"
    inversion = "inversion-recovery " if "IR" in sequence else ""
    words = {"SE": "spin echo", "GR": "gradient echo"}
    return next((f"other ({inversion}{words[s]})" for s in words if s in sequence), "other image")


def judge(series: SeriesTable, settings: Settings | None = None) -> Verdict:
    """Whether `process_study` would measure these series, and on which; told from headers wherever they tell.

    Voxels are read only of a scanner's T2 map, for its unit, and of Dixon images that have no names.

    Parameters
    ----------
    series : SeriesTable
        From `find_series`.
    settings : Settings, optional
    """
    settings = settings or Settings()
    try:
        chosen = choose_series(series, settings)
        mask, t2 = series.grid(chosen.structural[0]), series.grid(chosen.t2)
        if chosen.t2_source == "scanner_map":
            from mrmyo.study_maps import scanner_t2

            scanner_t2(series.volume(chosen.t2), unit_ms=settings.t2_map_unit_ms)  # refuses one of unclear unit
    except (DicomError, StudyError) as error:
        lacking = _lacking(series, settings)
        reasons, advice = zip(*lacking, strict=True) if lacking else ((str(error),), ())
        return Verdict(reasons=reasons, advice=advice)
    verdict = Verdict(chosen.structural, chosen.t2, chosen.beside, chosen.notes)
    frames = [grid.meta.get("FrameOfReferenceUID") for grid in (mask, t2)]
    if None not in frames and frames[0] != frames[1]:
        used = series[series.key.isin([*chosen.structural, chosen.t2])]
        numbers = enumerate_words([number_of(row) for row in used.itertuples()])
        return replace(verdict, advice=("Use series of one session on the table.",), reasons=(
            f"series {numbers} have different frames of reference: the patient may have been moved in between, so that "
            "the mask of one does not fit the other",))
    if not covered_slices(mask, t2).any():
        return replace(verdict, reasons=("the image for the mask and the T2 stack show different parts of the body",),
                       advice=("Check that both belong to this examination and to the thigh.",))
    return verdict


def _lacking(series, settings):
    """(what is missing, what to do) for the mask and for T2."""
    readable = set(series.role[series.readable])
    t2 = {"auto": ("multi_echo", "t2_map"), "echoes": ("multi_echo",), "scanner_map": ("t2_map",)}[settings.t2_source]
    wanted = ((t2, "to take T2 from", "T2 would be taken from"),
              (settings.segment_on, "to draw the mask on", "the mask would be drawn on"))
    lacking = []
    for roles, purpose, use in wanted:
        names = enumerate_words([ROLE_WORDS.get(role, role).replace(",", "") for role in roles], "or")
        broken = [number_of(row) for row in series[~series.readable & series.role.isin(roles)].itertuples()]
        if readable & set(roles):
            continue
        if broken:
            lacking.append((f"series {enumerate_words(broken)}, which {use}, cannot be read (see above)", _EXPORT))
        else:
            lacking.append((f"there is no series {purpose} ({names})", _ADD))
    return lacking


def covered_slices(mask, t2) -> np.ndarray:
    """Which slices of the T2 stack have some part within the field of view of the other image."""
    places = [np.linspace(0, n - 1, 9) for n in t2.shape[:2]] + [np.arange(t2.shape[2])]
    points = np.stack([*np.meshgrid(*places, indexing="ij"), np.ones([len(p) for p in places])])
    index = np.tensordot(np.linalg.inv(mask.affine) @ t2.affine, points, 1)[:3]
    return ((index > -0.5) & (index < np.array(mask.shape)[:, None, None, None] - 0.5)).all(axis=0).any(axis=(0, 1))


def number_of(row) -> str:
    """The series number of a row, as it is told."""
    return str(row.series) if row.series >= 0 else "–"


def enumerate_words(words, last="and") -> str:
    """"2, 3 and 5"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
