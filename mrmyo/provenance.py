"""Where a result comes from: versions, settings, seeds, hashes."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePath

__all__ = ["code_digest", "digest", "file_digest", "record"]

PACKAGES = ("mrmyo", "numpy", "scipy", "pandas", "torch", "pydicom", "nibabel", "statsmodels", "matplotlib")


def digest(*parts) -> str:
    """A hash (16 hexadecimal digits) of anything that JSON can hold, and of paths, dates and NumPy numbers.

    Raises
    ------
    ValueError
        For what has no text that says all of it, such as an array (its text leaves out the middle) or a set (its order
        differs from run to run).
    """
    text = json.dumps(parts, sort_keys=True, default=_as_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json(value):
    if isinstance(value, PurePath | date):
        return str(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise ValueError(
        f"Found a {type(value).__name__} to hash; expected what JSON can hold. Pass a list, or a hash of its bytes."
    )


def file_digest(paths: Iterable) -> str:
    """A hash of the contents of files, whatever their names and order."""
    paths = (path if hasattr(path, "read_bytes") else Path(path) for path in paths)  # a file in a zip file has it too
    contents = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return digest(contents)


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A hash of mrmyo's own files and of the versions of what it computes with: other code, other results."""
    folder = Path(__file__).parent
    files = [path for ending in ("*.py", "*.json", "*.csv") for path in folder.rglob(ending)]
    return digest(file_digest(files), {name: _version(name) for name in PACKAGES[1:]})


def record(**facts) -> dict:
    """Versions, platform and time, with the facts given: what a report needs so that it can be repeated.

    Parameters
    ----------
    **facts
        For instance ``seed=…``, ``settings=…``, ``model_hash=…``.

    Returns
    -------
    dict
    """
    return {
        "mrmyo": _version("mrmyo"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": {name: _version(name) for name in PACKAGES},
        **{k: _plain(v) for k, v in facts.items()},
    }


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _plain(value):
    return dict(value) if isinstance(value, Mapping) else value


def _commit():
    """The commit of the checkout that mrmyo runs from; None when it was installed from a wheel."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():  # git would go on upwards and find somebody else's repository
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
