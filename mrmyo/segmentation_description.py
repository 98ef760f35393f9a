"""What a lab says of its own model, for :mod:`mrmyo.segmentation_adapters`: one small file in TOML or JSON.

`docs/other_models.md` explains every key. Nothing is guessed: what a network was trained on must be stated.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shlex
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from mrmyo.labels import FEMUR, RIGHT_OFFSET, UNNAMED, label_table
from mrmyo.segmentation_sides import SegmentationError

__all__ = ["BOTH", "HERE", "LEFT", "Description", "description_hash", "is_description", "read_description"]

KINDS = ("torchscript", "safetensors", "command")
BOTH, LEFT = "both thighs", "one left thigh"
HERE = "{here}"  # in a command: the folder of the description
PLACES = ("{input}", "{output}", HERE)
OPPOSITE = dict(zip("LRAPIS", "RLPASI", strict=True))


@dataclass(frozen=True)
class Description:
    """A model as its file describes it, checked.

    Attributes
    ----------
    path : pathlib.Path
        Of the file; `weights` and ``{here}`` are relative to its folder.
    name, version, license : str
        For provenance.
    kind : str
        ``torchscript``, ``safetensors`` or ``command``.
    labels : tuple of (int, str or int)
        (channel or value of the model, abbreviation or 0 or value of `mrmyo.label_table`), all channels from 0.
    dimension : int
        2: axial slices, 3: volumes.
    orientation : str
        Where the axes of the model's array lead, as in `mrmyo.volume.axis_codes`.
    spacing_mm : tuple of float, optional
        Along the model's axes; None: as the image comes.
    sees : str
        ``both thighs`` or ``one left thigh``.
    crop_mm : float
        Width and depth of the image of one thigh.
    normalise : str
        ``zscore``, ``percentile`` or ``none``, over all that the model sees at a time.
    percentiles : tuple of float
        What becomes 0 and 1.
    window : tuple of int, optional
        Voxels that slide over the image; else the whole image at once.
    overlap : float
        Of neighbouring windows.
    multiple : int
        The image is padded with air to a multiple of this.
    output : str
        ``logits``, ``probabilities`` or ``sigmoid``.
    weights : pathlib.Path, optional
    network : tuple of (str, dict), optional
        Class of ``monai.networks.nets`` and its arguments.
    command : tuple of str
    timeout_s : float
    """

    path: Path
    name: str
    version: str
    license: str
    kind: str
    labels: tuple
    dimension: int = 3
    orientation: str = "RAS"
    spacing_mm: tuple | None = None
    sees: str = BOTH
    crop_mm: float = 240.0
    normalise: str = "none"
    percentiles: tuple = (0.5, 99.5)
    window: tuple | None = None
    overlap: float = 0.5
    multiple: int = 16
    output: str = "logits"
    weights: Path | None = None
    network: tuple | None = None
    command: tuple = ()
    timeout_s: float = 600.0


KEYS = {field.name for field in fields(Description)} - {"path"}
NEEDED = ("name", "version", "license", "kind", "labels")
OF_NETWORKS = ("weights", "dimension", "orientation", "spacing_mm", "sees", "normalise")
NOT_OF = {  # what would be ignored is refused
    "command": {"weights", "network", "window", "overlap", "multiple", "output"},
    "torchscript": {"command", "timeout_s", "network"},
    "safetensors": {"command", "timeout_s"},
}


def is_description(path) -> bool:
    """Whether a path names a description (.toml or .json) and not a model file of ours."""
    return path is not None and Path(path).suffix.lower() in (".toml", ".json")


def _load(path):
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:  # of decoding and of both formats, too
        reason = getattr(error, "strerror", None) or error
        raise SegmentationError(f"The model description {path.name} cannot be read: {reason}.") from error
    if not isinstance(found, dict):
        raise SegmentationError(f"The model description {path.name} is a {type(found).__name__}; expected keys.")
    if "architecture" in found:
        raise SegmentationError(f"{path.name} is the card of a model of mrmyo; give the .safetensors file beside it.")
    return found


def description_hash(path) -> str:
    """Twelve digits of a SHA-256 over what the description says and the contents of the files that it names.

    Those are the weights and, of a command, its arguments in ``{here}``. What else a command uses is not seen: state
    another ``version`` when it changes.
    """
    path = Path(path)
    found = _load(path)
    told = hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode())
    for file in _named_files(read_description(path)):
        told.update(hashlib.sha256(file.read_bytes()).digest())
    return told.hexdigest()[:12]


def _named_files(description):
    if description.weights:
        return [description.weights]
    folder = str(description.path.parent)
    named = [Path(word.replace(HERE, folder)) for word in description.command if HERE in word]
    return [path for path in named if path.is_file()]


def read_description(path) -> Description:
    """Read and check a model description.

    Parameters
    ----------
    path : path
        A .toml or .json file; its keys are those of `Description`.

    Raises
    ------
    SegmentationError
        When the file or its weights are missing, a key is unknown, missing or of no use to this kind, or a value makes
        no sense.
    """
    path = Path(path).resolve()
    found = _load(path)
    fail = _Failure(path.name)
    for key in found:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            fail(f"has the unknown key {key!r}", f"only {', '.join(sorted(KEYS))}", close)
    for key in ("name", "version", "license"):
        if not isinstance(found.get(key), str) or not found[key].strip():
            fail(f"says {key} = {found.get(key)!r}", "a text, which provenance repeats")
    kind = found.get("kind")
    if kind not in KINDS:
        fail(f"says kind = {kind!r}", f"one of {', '.join(KINDS)}", difflib.get_close_matches(str(kind), KINDS, n=1))
    needed = (*NEEDED, "command") if kind == "command" else (*NEEDED, *OF_NETWORKS)
    if missing := [key for key in (*needed, *(["network"] if kind == "safetensors" else [])) if key not in found]:
        fail(f"of the kind {kind} lacks {', '.join(missing)}", "them to be stated")
    if useless := sorted(NOT_OF[kind] & set(found)):
        fail(f"of the kind {kind} has {', '.join(useless)}, which would be ignored", "it without them")
    dimension = _choice(fail, found, "dimension", 3, (2, 3) if kind != "command" else (3,))
    made = {"path": path, "kind": kind, **{key: found[key] for key in ("name", "version", "license")},
            "dimension": dimension, "orientation": _orientation(fail, found.get("orientation", "RAS"), dimension),
            "spacing_mm": _spacing(fail, found.get("spacing_mm", "native"), dimension),
            "sees": _choice(fail, found, "sees", BOTH, (BOTH, LEFT)),
            "crop_mm": _number(fail, found, "crop_mm", 240.0, 40, 1000),
            "normalise": _choice(fail, found, "normalise", "none", ("zscore", "percentile", "none")),
            "percentiles": _percentiles(fail, found.get("percentiles", (0.5, 99.5))),
            "window": _window(fail, found.get("window"), dimension),
            "overlap": _number(fail, found, "overlap", 0.5, 0, 0.95),
            "multiple": _whole(fail, found, "multiple", 16, 1, 512),
            "output": _choice(fail, found, "output", "logits", ("logits", "probabilities", "sigmoid")),
            "timeout_s": _number(fail, found, "timeout_s", 600.0, 0.1, 1e6)}
    made["labels"] = _labels(fail, found["labels"], made["sees"], kind)
    if kind == "command":
        return Description(**made, command=_command(fail, found["command"]))
    if kind == "safetensors":
        made["network"] = _network(fail, found["network"])
    return Description(**made, weights=_weights(fail, path.parent, found["weights"]))


@dataclass(frozen=True)
class _Failure:
    """Raises what is wrong with a description, in one form of words."""

    name: str

    def __call__(self, found, expected, hints=()):
        hint = f" Did you mean {hints[0]!r}?" if hints else ""
        raise SegmentationError(f"The model description {self.name} {found}; expected {expected}.{hint}")


def _choice(fail, found, key, default, values):
    value = found.get(key, default)
    if isinstance(value, bool) or value not in values:
        fail(f"says {key} = {value!r}", " or ".join(map(repr, values)),
             difflib.get_close_matches(str(value), [v for v in values if isinstance(v, str)], n=1))
    return values[values.index(value)]  # 2 for 2.0


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(fail, found, key, default, low, high):
    value = found.get(key, default)
    if not _is_number(value) or not low <= value <= high:
        fail(f"says {key} = {value!r}", f"a number from {low:g} to {high:g}")
    return value


def _whole(fail, found, key, default, low, high):
    value = _number(fail, found, key, default, low, high)
    if value != int(value):
        fail(f"says {key} = {value!r}", "a whole number")
    return int(value)


def _orientation(fail, value, dimension):
    if not isinstance(value, str) or sorted(min(c, OPPOSITE.get(c, c)) for c in value) != ["A", "I", "L"]:
        fail(f"says orientation = {value!r}", "three letters of R or L, A or P, S or I, such as 'RAS' or 'LPS'")
    if dimension == 2 and value[2] not in "SI":
        fail(f"says orientation = {value!r} for slices", "S or I last, as the slices are axial")
    return value


def _spacing(fail, value, dimension):
    if value == "native":
        return None
    if not isinstance(value, list) or len(value) != dimension or not all(
            _is_number(v) and 0.1 <= v <= 50 for v in value):
        fail(f"says spacing_mm = {value!r}", f"'native' or {dimension} numbers in mm, in the order of the orientation")
    return tuple(map(float, value))


def _percentiles(fail, value):
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)) or not (
            0 <= value[0] < value[1] <= 100):
        fail(f"says percentiles = {value!r}", "two numbers from 0 to 100, the lower one first")
    return tuple(value)


def _window(fail, value, dimension):
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != dimension or not all(
            isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in value):
        fail(f"says window = {value!r}", f"{dimension} whole numbers of voxels")
    return tuple(value)


def _labels(fail, found, sees, kind):
    """Channels or values in ascending order, each with 0, an abbreviation, or a value that states the side."""
    table = label_table()
    words = {word.lower(): short for short, name in zip(table.abbreviation, table.name, strict=True)
             for word in (short, name)} | {"background": 0}
    if not isinstance(found, dict) or not found:
        fail(f"says labels = {found!r}", "a table of channels or values, such as 1 = \"VL\"")
    labels = {}
    for key, label in found.items():
        if not str(key).isdecimal():
            fail(f"maps {key!r}", "whole numbers from 0 on the left side of [labels]")
        if isinstance(label, str):
            label = words.get(label.lower(), label)
        if isinstance(label, bool) or not isinstance(label, int | str) or label not in {
                0, *table.value, *table.abbreviation}:
            fail(f"maps {key} to {label!r}", "'background', a value, name or abbreviation of mrmyo.label_table()",
                 difflib.get_close_matches(str(label), words, n=1))
        right = {UNNAMED["right"], FEMUR["right"], *range(RIGHT_OFFSET + 1, UNNAMED["left"])}
        if sees == LEFT and label in right:
            fail(f"maps {key} to {label}, of a right thigh, where the model sees left ones only", "an abbreviation")
        if int(key) in labels:
            fail(f"maps {int(key)} twice", "each channel or value once")
        labels[int(key)] = label
    labels = {0: 0} | labels
    if labels[0] != 0:
        fail(f"maps 0 to {labels[0]!r}", "0 to be background: put the channels in another order")
    if kind != "command" and sorted(labels) != list(range(len(labels))):
        fail(f"maps the channels {sorted(labels)}", f"all from 0 to {max(labels)}, background too")
    muscles = {*table[table.is_muscle].value, *table[table.is_muscle].abbreviation}
    if not muscles & set(labels.values()):
        fail("names no muscle in [labels]", "at least one; 'MUS' is muscle without a name")
    return tuple(sorted(labels.items()))


def _command(fail, value):
    words = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        fail(f"says command = {value!r}", "a list of words, such as [\"predict\", \"{input}\", \"{output}\"]")
    for place in PLACES[:2]:
        if not any(place in word for word in words[1:]):
            fail(f"has a command without {place}", f"the words {PLACES[0]} and {PLACES[1]} where the two paths go")
    return tuple(words)


def _network(fail, value):
    if not isinstance(value, dict) or not isinstance(value.get("class"), str) or not isinstance(
            value.get("arguments"), dict) or set(value) != {"class", "arguments"}:
        fail("has a [network] that is not clear", "'class', a name in monai.networks.nets, and a table 'arguments'")
    return value["class"], value["arguments"]


def _weights(fail, folder, value):
    path = folder / value if isinstance(value, str) and value else None
    if path is None or not path.is_file():
        fail(f"says weights = {value!r}, and there is no such file", "a file beside the description, or a whole path")
    return path
