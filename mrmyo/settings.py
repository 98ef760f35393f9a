"""The options of a run, as one frozen object that is copied to the output, and where a notebook finds its files."""

from __future__ import annotations

import difflib
import json
import numbers
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mrmyo.files import replacing

__all__ = ["Settings", "SettingsError", "Workspace", "read_settings", "workspace", "write_settings"]


# as in the room dicom, which a test compares
ROLES = (
    "multi_echo", "in_phase", "opposed_phase", "water", "fat", "fat_fraction", "t2_map", "b1_map",
    "t1w", "t2w", "t2w_fs", "stir", "other",
)
DIXON = ("in_phase", "opposed_phase", "water", "fat")
_CHOICES = {
    "structural_plane": ("any", "axial", "coronal", "sagittal"),
    "t2_source": ("auto", "echoes", "scanner_map"),
    # as in the rooms t2 and registration, which a test compares
    "t2_model": ("mono", "epg"),
    "alignment": ("off", "measure", "rigid", "slicewise"),
}
# what is no plain text: how to say it, and whether a value of a TOML file is one
_KINDS = {
    **dict.fromkeys(("segment_on", "segment_beside"), (
        "a list of texts", lambda v: isinstance(v, list) and all(isinstance(part, str) for part in v))),
    **dict.fromkeys(("t2_map_unit_ms", "erode_mm", "max_fat_fraction"), (
        "a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))),
    "ignore_frame_of_reference": ("true or false", lambda v: isinstance(v, bool)),
    "roles": ("a series number or the whole SeriesDescription in quotes for each role, under [roles]",
              lambda v: isinstance(v, dict)),
}


class SettingsError(ValueError):
    """A settings file that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """The options of a run.

    Parameters
    ----------
    segment_on : tuple of str
        Roles of the series to draw masks on, the first that a study has.
    segment_beside : tuple of str
        Roles of further Dixon images of the same acquisition from which the automatic mask is made as well; each takes
        as long as the first. () for none. A fat image among them also frees the mask of the fat beside the muscles
        (`mrmyo.measure.trim_fat`).
    structural_plane : {"any", "axial", "coronal", "sagittal"}
        Acquired plane of the series to draw masks on.
    t2_source : {"auto", "echoes", "scanner_map"}
        Whether T2 is fitted to the echoes or taken from the scanner's own map; "auto": the map where there are no
        echoes.
    t2_model : {"mono", "epg"}
        Of ``t2_ms``; see `mrmyo.fit_t2`. "epg" is without the fat fraction here: water T2 stands beside it in any case.
    t2_map_unit_ms : float, optional
        How many ms one unit of the scanner's T2 map is (0.1 for tenths of a ms), where the images do not tell.
    alignment : {"rigid", "slicewise", "measure", "off"}
        How the mask goes to the T2 images; see `mrmyo.align`.
    ignore_frame_of_reference : bool
        Align series although their headers say that the patient left the scanner in between.
    erode_mm, max_fat_fraction : float
        Which muscle voxels do not count; see `mrmyo.measure.restrict`. 0 and None: all count.
    segmentation_model : str, optional
        Path of a model file; the shipped one when None.
    session : str
        Name of the visit in the rows.
    roles : mapping
        What the images do not tell, or tell wrongly: role → series number, or its whole SeriesDescription. Kept as
        sorted pairs. A description may hold a name: the copy of the settings in an output has series numbers instead.

    Raises
    ------
    SettingsError
        When an option has a value that there is not.
    """

    segment_on: tuple[str, ...] = ("in_phase", "water", "t2w", "t1w")
    segment_beside: tuple[str, ...] = ("opposed_phase", "fat")
    structural_plane: str = "any"
    t2_source: str = "auto"
    t2_model: str = "mono"
    t2_map_unit_ms: float | None = None
    alignment: str = "rigid"
    ignore_frame_of_reference: bool = False
    erode_mm: float = 0.0
    max_fat_fraction: float | None = None
    segmentation_model: str | None = None
    session: str = "01"
    roles: Mapping[str, int | str] | tuple[tuple[str, int | str], ...] = ()

    def __post_init__(self):
        roles = self.roles.items() if isinstance(self.roles, Mapping) else self.roles
        object.__setattr__(self, "roles", tuple(sorted((str(role), which) for role, which in roles)))
        for name in ("segment_on", "segment_beside"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for role in self.segment_beside:
            if role not in DIXON:
                raise SettingsError(f"Found {role!r} in segment_beside; expected some of {', '.join(DIXON)}, or [].")
        for role in (*self.segment_on, *(role for role, _ in self.roles)):
            if role not in ROLES:
                raise SettingsError(f"Found the role {role!r}; expected one of {', '.join(ROLES)}.{_hint(role, ROLES)}")
        for name, values in _CHOICES.items():
            value = getattr(self, name)
            if value not in values:
                known = ", ".join(map(repr, values))
                raise SettingsError(f"Found {name} = {value!r}; expected one of {known}.{_hint(str(value), values)}")
        unit = self.t2_map_unit_ms
        if unit is not None and (isinstance(unit, bool) or not isinstance(unit, numbers.Real)):
            raise SettingsError(f"Found t2_map_unit_ms = {unit!r}; expected a number, the ms of one unit.")
        if unit is not None and not 0 < unit < float("inf"):
            raise SettingsError(
                f"Found t2_map_unit_ms = {unit}; expected how many ms one unit of the map is, above 0."
            )
        if not isinstance(self.erode_mm, numbers.Real) or not 0 <= self.erode_mm <= 20:
            raise SettingsError(f"Found erode_mm = {self.erode_mm!r}; expected the mm to take off, from 0 to 20.")
        most = self.max_fat_fraction
        if most is not None and (not isinstance(most, numbers.Real) or not 0 < most <= 1):
            raise SettingsError(f"Found max_fat_fraction = {most!r}; expected a share above 0 and up to 1.")
        if not isinstance(self.ignore_frame_of_reference, bool):
            found = self.ignore_frame_of_reference
            raise SettingsError(f"Found ignore_frame_of_reference = {found!r}; expected true or false.")
        for role, which in self.roles:
            if isinstance(which, bool) or not isinstance(which, int | str) or which == "":
                kind = type(which).__name__
                raise SettingsError(f"Found a {kind} for the role {role}; expected {_KINDS['roles'][0]}.")
        given = [which for _, which in self.roles if isinstance(which, int)]
        for number in sorted({which for which in given if given.count(which) > 1}):
            named = " and ".join(role for role, which in self.roles if which == number)
            raise SettingsError(
                f"Found series {number} for the roles {named}; expected another series for each. Where one number "
                "holds several kinds of image, state the keys that `mrmyo.read_dicom` lists."
            )


def read_settings(path) -> Settings:
    """Settings from a TOML file; what it leaves out keeps its default.

    Raises
    ------
    SettingsError
        When the file is not TOML, names an option that there is not, or gives one a value of the wrong kind.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows editors put a mark first
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error  # the text of an OSError holds the whole path
        raise SettingsError(f"The settings file {Path(path).name} cannot be read as TOML: {reason}.") from error
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(found) - known)
    if unknown:
        hints = "".join(_hint(name, known) for name in unknown)
        raise SettingsError(
            f"Found the settings {unknown}; expected only {sorted(known)}. Remove or rename them.{hints}"
        )
    for name, value in found.items():
        expected, fits = _KINDS.get(name, ("a text", lambda v: isinstance(v, str)))
        if not fits(value):
            shown = "" if name == "roles" else f" = {value!r}"  # the text of a role may hold a name
            raise SettingsError(f"Found {name}{shown}; expected {expected}.")
    return Settings(**found)


def write_settings(settings: Settings, path) -> None:
    """Write settings as TOML; `read_settings` gives the same back, descriptions in `roles` included."""
    options = {field.name: getattr(settings, field.name) for field in fields(settings)}
    roles = options.pop("roles")
    lines = [f"{name} = {_toml(value)}" for name, value in options.items() if value is not None]
    if roles:
        lines += ["", "[roles]", *(f"{role} = {_toml(which)}" for role, which in roles)]
    with replacing(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hint(word, known):
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _toml(value):
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quote(value) if isinstance(value, str | Path) else repr(value)


def _quote(text):
    # a JSON string is a TOML string, save for one control character
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True)
class Workspace:
    """Where a notebook finds its inputs and leaves its outputs.

    Attributes
    ----------
    root : pathlib.Path
        The folder of one reproduction (`make reproduce` writes ``results``).
    """

    root: Path

    @property
    def studies(self) -> Path:
        """DICOM studies."""
        return self.root / "studies"

    @property
    def truth(self) -> Path:
        """The truth of the synthetic studies; nothing that measures reads it."""
        return self.root / "truth"

    @property
    def processed(self) -> Path:
        """One folder of masks, maps and rows per subject."""
        return self.root / "processed"

    @property
    def tables(self) -> Path:
        """Tables of the whole cohort, as CSV."""
        return self.root / "tables"

    @property
    def figures(self) -> Path:
        """Figures, as files."""
        return self.root / "figures"

    @property
    def notebooks(self) -> Path:
        """The executed notebooks."""
        return self.root / "notebooks"


def workspace(root=None) -> Workspace:
    """The workspace of this session.

    Parameters
    ----------
    root : path, optional
        When None, the environment variable ``MRMYO_WORKSPACE``, or else the folder ``results`` beside ``notebooks``
        (of the checkout that mrmyo runs from, or of the current folder).
    """
    if root is None:
        root = os.environ.get("MRMYO_WORKSPACE") or None
    if root is None:
        checkout = Path(__file__).resolve().parent.parent
        root = (checkout if (checkout / "notebooks").is_dir() else Path.cwd()) / "results"
    return Workspace(Path(root))
