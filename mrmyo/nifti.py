"""Reading and writing NIfTI files, with the BIDS sidecar that carries echo times (in seconds there, in ms here)."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from mrmyo.volume import Volume

__all__ = ["NiftiError", "read_nifti", "read_t2map", "write_nifti", "write_t2map"]

_TO_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_PLAIN_FACTS = (
    "MagneticFieldStrength",
    "FlipAngle",
    "SliceThickness",
    "Units",
    "Manufacturer",
    "ManufacturersModelName",
    "ScanningSequence",
)
_DICOM_NAMES = {"ManufacturersModelName": "ManufacturerModelName"}  # BIDS spells this one differently
_SECONDS = {"RepetitionTimeExcitation": "RepetitionTime", "InversionTime": "InversionTime"}  # BIDS: DICOM
_OURS = ("EchoTime", *_PLAIN_FACTS, *_SECONDS)


class NiftiError(ValueError):
    """A file that cannot be read, or a volume that cannot be written, as NIfTI."""


def read_nifti(path, echo_times_ms=None) -> Volume:
    """Read a .nii or .nii.gz file.

    Parameters
    ----------
    path : path
        A BIDS sidecar of the same name ending in .json is read too where there is one.
    echo_times_ms : sequence of float, optional
        One per volume of a 4-D file, in ms; wins over the sidecar's EchoTime. Without either a 4-D file is read with
        ``echo_times_ms=None``: a fit then asks for them.

    Returns
    -------
    Volume
        The stored data type kept (float32 where the header scales); the affine from sform, else qform.

    Raises
    ------
    NiftiError
        When the file is missing, cut short, no NIfTI, has other than 3 or 4 axes, holds complex or colour values, or
        the number of echo times differs from the number of volumes.
    """
    import nibabel

    path = Path(path)
    if not path.is_file():
        raise NiftiError(f"There is no file {path.name} there; expected a .nii or .nii.gz file.")
    try:
        image = nibabel.load(path)
    except Exception:  # nibabel, zlib and the header parser each raise their own
        image = None
    if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 and pairs are subclasses
        raise NiftiError(f"{path.name} is no NIfTI image or is cut short; expected .nii or .nii.gz. Export it again.")
    shape = image.shape
    if len(shape) > 4 and set(shape[4:]) == {1}:
        shape = shape[:4]
    kind = image.get_data_dtype()
    if len(shape) not in (3, 4) or kind.kind not in "iufb":
        raise NiftiError(
            f"{path.name} is shaped {image.shape} with {kind} values; expected real numbers on 3 or 4 axes."
        )
    try:
        array = np.asarray(image.dataobj).reshape(shape)
    except Exception as error:
        cause = type(error).__name__
        raise NiftiError(f"{path.name} is cut short or damaged ({cause}); copy or export it again.") from None
    if kind != array.dtype:  # the header scales
        array = array.astype(np.float32)
    affine = np.diag([*[_TO_MM.get(image.header.get_xyzt_units()[0], 1.0)] * 3, 1.0]) @ image.affine
    facts = _read_sidecar(path)
    times = echo_times_ms if echo_times_ms is not None else facts.pop("echo_times_ms", None)
    facts.pop("echo_times_ms", None)
    n_echoes = shape[3] if len(shape) == 4 else 1
    if times is not None and len(times) != n_echoes:
        source = "its sidecar" if echo_times_ms is None else "the argument"
        raise NiftiError(
            f"{path.name} holds {n_echoes} volumes but {source} gives {len(times)} echo times; give one for each."
        )
    return Volume(array, affine, times, facts)


def write_nifti(volume: Volume, path) -> Path:
    """Write a volume so that `read_nifti` returns the same: data type, voxels (NaN too), place, echo times.

    Echo times and the facts of `meta` that BIDS knows go to a sidecar of the same name ending in .json (entries there
    that are not ours are kept). Each file is complete or absent: it is written under another name and renamed.

    Parameters
    ----------
    volume : Volume
    path : path
        Ending in .nii or .nii.gz. The affine is stored as sform (float32), and as qform unless the axes are sheared,
        which only the sform can say.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    NiftiError
        When the name ends otherwise or the values are neither integers, floats nor booleans.
    """
    import nibabel

    path = Path(path)
    stem = _stem(path)
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    if array.dtype.kind not in "iuf" or array.dtype == np.float16:
        raise NiftiError(f"Cannot store {array.dtype} voxels; expected integers, floats of 32 or 64 bits, or bool.")
    image = nibabel.Nifti1Image(array, volume.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    if np.abs(image.get_qform() - volume.affine).max() > 1e-3:
        image.set_qform(None, code=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as partial:
        partial = Path(partial) / path.name
        nibabel.save(image, partial)
        _write_sidecar(volume, path.with_name(stem + ".json"), partial.with_name(stem + ".json"))
        os.replace(partial, path)
    return path


def write_t2map(volume: Volume, path) -> Path:
    """Write a map of times in ms the way BIDS wants it: in seconds, with ``Units`` in the sidecar."""
    seconds = (volume.array / 1000).astype(np.float32)
    return write_nifti(volume.with_array(seconds, meta={**volume.meta, "Units": "s"}), path)


def read_t2map(path) -> Volume:
    """Read a map of times back into ms.

    Raises
    ------
    NiftiError
        When the sidecar does not say in which unit the map is.
    """
    volume = read_nifti(path)
    scale = {"s": 1000.0, "ms": 1.0}.get(volume.meta.get("Units"))
    if scale is None:
        raise NiftiError(f"The sidecar of {Path(path).name} must say \"Units\": \"s\" or \"ms\"; found "
                         f"{volume.meta.get('Units')!r}. Add it, or read the file with read_nifti.")
    return volume.with_array((volume.array * np.float32(scale)).astype(np.float32))


def _stem(path):
    for ending in (".nii.gz", ".nii"):
        if path.name.endswith(ending) and path.name != ending:
            return path.name[: -len(ending)]
    raise NiftiError(f"Cannot tell the format of {path.name}; expected a name that ends in .nii or .nii.gz.")


def _load_json(path):
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise NiftiError(f"The sidecar {path.name} is no JSON object; correct it or move it away.")
    return content


def _read_sidecar(path):
    """Facts by DICOM keyword in DICOM units, and echo_times_ms."""
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    sidecar = _load_json(path.with_name(name + ".json"))
    facts = {_DICOM_NAMES.get(key, key): sidecar[key] for key in _PLAIN_FACTS if key in sidecar}
    facts.update({ours: round(sidecar[key] * 1000, 6) for key, ours in _SECONDS.items() if key in sidecar})
    if "EchoTime" in sidecar:
        seconds = sidecar["EchoTime"] if isinstance(sidecar["EchoTime"], list) else [sidecar["EchoTime"]]
        # 0.0077 s times 1000 must give 7.7 ms again; nobody states echo times finer than a nanosecond
        facts["echo_times_ms"] = tuple(round(float(time) * 1000, 6) for time in seconds)
    return facts


def _write_sidecar(volume, path, partial):
    content = {key: value for key, value in _load_json(path).items() if key not in _OURS}
    kept = len(content)
    if volume.echo_times_ms:
        seconds = [time / 1000 for time in volume.echo_times_ms]
        content["EchoTime"] = seconds if volume.array.ndim == 4 else seconds[0]
    for key in _PLAIN_FACTS:
        if (value := volume.meta.get(_DICOM_NAMES.get(key, key))) is not None:
            content[key] = list(value) if isinstance(value, tuple) else value
    for key, ours in _SECONDS.items():
        if volume.meta.get(ours) is not None:
            content[key] = float(volume.meta[ours]) / 1000
    if content:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    elif path.is_file() and not kept:
        path.unlink()  # it described the volume that stood here before
