"""Damage done to DICOM files at random, and what reading them must still keep to.

Run as a program it works through a range of mutations in one process: a decoder in C that crashes then takes only that
process along, and the log says at which mutation. Every mutation follows from its number alone. With FUZZ_KEEP naming a
folder, each series that was misread, or raised, is kept there.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import resource
import shutil
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from dicom_damage import DAMAGES, RAW_ONLY, flip_header
from dicom_enhanced import enhanced_dataset, write_enhanced
from dicom_readers import nibabel_example, transcode
from dicom_samples import small_volume, write
from pydicom.encaps import encapsulate, generate_frames
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.volume import Volume

MEMORY_BYTES = 3 * 2**30  # address space of the process, libraries and all
HANG_S = 20
TOLERANCE_MM = 0.15  # what the reader itself allows slices of one stack to differ by, and a little
COMPRESSED = {
    "rle": "1.2.840.10008.1.2.5", "jpeg_lossless": "1.2.840.10008.1.2.4.70", "jpeg_ls": "1.2.840.10008.1.2.4.80",
    "jpeg_2000": "1.2.840.10008.1.2.4.90", "big_endian": ExplicitVRBigEndian, "implicit": ImplicitVRLittleEndian,
}
OBLIQUE = np.array([[-1.5, 0.0, 0.0, 30], [0.0, -2.4, 2.0, 40], [0.0, -0.7, -7.7, -50], [0, 0, 0, 1.0]])


@dataclass
class Seed:
    """A sound series in a folder of its own: what to read, which files may be damaged, what it holds.

    `strict`: its parts witness against each other, so that damage to one file can never pass for another geometry.
    """

    name: str
    source: Path
    files: list
    strict: bool
    original: Volume = None
    order: list = None  # its files as the reader lists them: slice by slice, the echoes together


# -- sound series ----------------------------------------------------------------------------------------------------


def make_seeds(root):
    affine = OBLIQUE.copy()
    affine[:3, 2] = 8 * np.cross(affine[:3, 0], affine[:3, 1]) / np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))
    single, multi = small_volume(affine, shape=(36, 33, 5)), small_volume(affine, shape=(36, 33, 4), n_echoes=3)
    write(single, root / "explicit", EchoTime=8.5)
    write(multi, root / "multi_echo")
    for name, syntax in COMPRESSED.items():
        (root / name).mkdir()
        for path in sorted((root / "multi_echo" if name in ("rle", "implicit") else root / "explicit").iterdir()):
            transcode(path, root / name / path.name, syntax)
    (root / "deflated").mkdir()
    for path in sorted((root / "explicit").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(root / "deflated" / path.name)
    write_enhanced(multi, root / "enhanced" / "all.dcm", shared=False)
    for e in range(3):
        write_enhanced(multi.echo(e), root / "enhanced_echoes" / f"{e}.dcm", number=e + 1, uid="echoes")
        dataset = pydicom.dcmread(root / "enhanced_echoes" / f"{e}.dcm")
        dataset.SeriesNumber = 5
        dataset.save_as(root / "enhanced_echoes" / f"{e}.dcm")
    compress_frames(multi, root / "multi_echo", root / "enhanced_2000")
    (root / "mosaic").mkdir()
    nibabel_example("siemens_dwi_0").save_as(root / "mosaic" / "mosaic.dcm")
    file_set = FileSet()
    for path in sorted((root / "explicit").iterdir()):
        file_set.add(path)
    file_set.write(root / "dicomdir")
    (root / "zip").mkdir()
    with zipfile.ZipFile(root / "zip" / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "explicit").iterdir()):
            archive.write(path, path.name)


def compress_frames(volume, classic, folder):
    """An enhanced file of JPEG 2000 frames, each compressed alone (GDCM would rewrite the frames' positions)."""
    folder.mkdir()
    frames = []
    for path in sorted(classic.iterdir()):  # slice by slice, the echoes together, as the frames are
        transcode(path, folder / path.name, COMPRESSED["jpeg_2000"])
        frames += generate_frames(pydicom.dcmread(folder / path.name).PixelData, number_of_frames=1)
        (folder / path.name).unlink()
    dataset = enhanced_dataset(volume, shared=False)
    dataset.file_meta.TransferSyntaxUID = COMPRESSED["jpeg_2000"]
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(folder / "all.dcm", enforce_file_format=True)


def load_seeds(root):
    seeds = []
    for folder in sorted(root.iterdir()):
        name = folder.name
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if name in ("dicomdir", "zip"):
            files = [path for path in files if path.name in ("DICOMDIR", "study.zip")]
        source = files[0] if name in ("dicomdir", "zip") else folder
        seed = Seed(name, source, files, strict=name not in ("enhanced", "enhanced_2000", "mosaic"))
        table = read_dicom(seed.source)
        assert table["readable"].all() and len(table) == 1, name
        key = table["key"].iloc[0]
        seed.original, seed.order = table.volume(key), table.files(key)
        seeds.append(seed)
    return seeds


# -- what must hold --------------------------------------------------------------------------------------------------


def mutate(seed, number):
    """(the path to replace, its new bytes, the kind of damage) of mutation `number`."""
    rng = np.random.default_rng([20260, number])
    path = seed.files[rng.integers(len(seed.files))]
    kinds = RAW_ONLY if path.suffix == ".zip" else DAMAGES
    damage = kinds[rng.integers(len(kinds))]
    data = path.read_bytes()
    try:
        return path, damage(data, rng), damage.__name__
    except Exception:  # what pydicom cannot write is damaged byte by byte
        return path, flip_header(data, rng), "flip_header"


def misread(volume, seed, path, data, kind, told):
    """What is wrong with a volume that was read in spite of the damage; '' if nothing."""
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-9:
        return "geometry is not finite"
    if volume.array.nbytes > 64 * max(len(data), seed.original.array.nbytes):
        return f"{volume.array.nbytes} bytes out of {len(data)}"
    original = seed.original
    times, own = np.array(original.echo_times_ms or (0,)), np.array(volume.echo_times_ms or (0,))
    if not np.isfinite(own).all():
        return f"echo times {own}"
    if not np.isfinite(volume.array).all():
        return "voxels are not finite"
    if not seed.strict:
        if kind == "drop_or_double_frame" and path.name == "all.dcm":
            return compare(volume, original, own, times, None, told)
        return ""
    touched = None if seed.name in ("dicomdir", "zip") or len(seed.files) == 1 else place_of(seed, path)
    return compare(volume, original, own, times, touched, told)


def place_of(seed, path):
    """(slice, echo) of a file of a sound series, as the reader lists them; None for all slices of an echo."""
    at = seed.order.index(path)
    if seed.name == "enhanced_echoes":
        return None, at
    return divmod(at, len(seed.original.echo_times_ms or (0,)))


def compare(volume, original, own, times, touched, told):
    if volume.shape[:2] != original.shape[:2]:
        return f"matrix {volume.shape[:2]} for {original.shape[:2]}"
    index = np.linalg.inv(original.affine) @ volume.affine
    start, stride = round(float(index[2, 3])), max(round(float(index[2, 2])), 1)
    slices = start + stride * np.arange(volume.shape[2])
    if start < 0 or slices[-1] >= original.shape[2]:
        return f"slices {slices.tolist()}"
    corners = np.array([[i, j, k, 1] for i in (0, original.shape[0]) for j in (0, original.shape[1])
                        for k in (0, volume.shape[2] - 1)], dtype=float)
    moved = corners * [1, 1, stride, 1] + [0, 0, start, 0]
    distance = np.abs(corners @ volume.affine.T - moved @ original.affine.T).max()
    if not distance < TOLERANCE_MM:
        return f"{distance:.2f} mm off"
    gap = np.abs(own[:, None] - times)
    if gap.min(axis=1).max() > 0.02:
        return f"echo times {own.tolist()}"
    if (volume.shape[2] < original.shape[2] or len(own) < len(times)) and not told:
        return f"{volume.shape[2]} slices and {len(own)} echoes, and nothing is said"
    ours = volume.array.reshape(*volume.shape, -1)
    theirs = original.array.reshape(*original.shape, -1)[:, :, slices][..., gap.argmin(axis=1)]
    wrong = (ours != theirs).any(axis=(0, 1))
    if touched is not None:
        k, e = touched
        wrong[np.ix_(np.full(len(slices), True) if k is None else slices == k, gap[:, e] < 0.02)] = False
    return f"{wrong.sum()} sound images changed" if wrong.any() else ""


def judge(seed, number):
    """Read the series with one file damaged: (verdict, kind); MISREAD and RAISED are failures."""
    path, data, kind = mutate(seed, number)
    sound = path.read_bytes()
    path.write_bytes(data)
    try:
        try:
            table = read_dicom(seed.source)
        except DicomError:
            return "refused", kind
        told = len(table) > 1 or table.attrs["skipped_files"] > 0 or bool("".join(table["warnings"]))
        told = told or seed.name == "dicomdir"  # a record that vanished leaves no trace
        verdict = "refused"
        for key in table.loc[table["readable"], "key"]:
            try:
                volume = table.volume(key)
            except DicomError:
                verdict = "refused late" if verdict == "refused" else verdict
                continue
            wrong = misread(volume, seed, path, data, kind, told)
            if not wrong and kind == "truncate" and seed.strict and len(data) < len(sound):
                same = volume.array.shape == seed.original.array.shape
                if same and (volume.array != seed.original.array).any():
                    wrong = "cut short, and other voxels"
            verdict = f"MISREAD: {wrong}" if wrong else "read"
            if wrong:
                break
        return verdict, kind
    except Exception as error:
        return f"RAISED {type(error).__name__}: {str(error)[:200]}", kind
    finally:
        path.write_bytes(sound)


def work(sound, log, start, stop, keep):
    faulthandler.enable()
    root = sound.with_name(f"{sound.name}-scratch")  # a process that dies leaves its damage behind
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(sound, root)
    warnings.simplefilter("ignore")
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    with np.errstate(all="ignore"), open(log, "a") as out:
        seeds = load_seeds(root)
        pydicom.config.settings.reading_validation_mode = pydicom.config.WARN
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        for number in range(start, stop):
            seed = seeds[number % len(seeds)]
            print(json.dumps({"start": number, "seed": seed.name}), file=out, flush=True)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            verdict, kind = judge(seed, number)
            faulthandler.cancel_dump_traceback_later()
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            done = {"done": number, "seed": seed.name, "kind": kind, "verdict": verdict, "grown_mib": math.ceil(grown)}
            print(json.dumps(done), file=out, flush=True)
            if keep and verdict.split(":")[0].split(" ")[0] in ("MISREAD", "RAISED"):
                keep_case(seed, number, keep)
    shutil.rmtree(root)


def keep_case(seed, number, keep):
    path, data, kind = mutate(seed, number)
    folder = Path(keep) / f"{number:05d}-{seed.name}-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    top = seed.source if seed.source.is_dir() else seed.source.parent
    shutil.copytree(top, folder)
    (folder / path.relative_to(top)).write_bytes(data)


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), os.environ.get("FUZZ_KEEP"))
