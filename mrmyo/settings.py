"""The options of a run, as one frozen object that is copied to the output, and where a notebook finds its files."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

__all__ = ["Settings", "SettingsError", "Workspace", "read_settings", "workspace", "write_settings"]


class SettingsError(ValueError):
    """A settings file that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """The options of a run.

    Parameters
    ----------
    segment_on : tuple of str
        Roles of the series to draw masks on, the first that a study has.
    t2_model : str
        See `mrmyo.fit_t2`.
    segmentation_model : str, optional
        Path of a model file; the shipped one when None.
    session : str
        Name of the visit in the rows.
    """

    segment_on: tuple[str, ...] = ("in_phase", "water", "t2w", "t1w")
    t2_model: str = "mono"
    segmentation_model: str | None = None
    session: str = "01"


def read_settings(path) -> Settings:
    """Settings from a TOML file; what it leaves out keeps its default.

    Raises
    ------
    SettingsError
        When the file is not TOML, names an option that there is not, or gives one a value of the wrong kind.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error  # the text of an OSError holds the whole path
        raise SettingsError(f"The settings file {Path(path).name} cannot be read as TOML: {reason}.") from error
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(found) - known)
    if unknown:
        raise SettingsError(f"Found the settings {unknown}; expected only {sorted(known)}. Remove or rename them.")
    for name, value in found.items():
        listed = name == "segment_on"
        fits = isinstance(value, list) and all(isinstance(v, str) for v in value) if listed else isinstance(value, str)
        if not fits:
            raise SettingsError(f"Found {name} = {value!r}; expected {'a list of texts' if listed else 'a text'}.")
    return Settings(**{name: tuple(v) if isinstance(v, list) else v for name, v in found.items()})


def write_settings(settings: Settings, path) -> None:
    """Write settings as TOML; `read_settings` gives the same back."""
    lines = []
    for name, value in asdict(settings).items():
        if value is not None:
            text = "[" + ", ".join(_quote(v) for v in value) + "]" if isinstance(value, tuple | list) else _quote(value)
            lines.append(f"{name} = {text}")
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, path)


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
