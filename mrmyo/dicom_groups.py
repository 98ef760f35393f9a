"""Which images belong together: copies set aside, series split where they hold several stacks, echoes joined."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from mrmyo.dicom_consistency import acquisitions, concatenation_problems, patient_warnings, rescale_problems
from mrmyo.dicom_files import object_problems, object_warnings
from mrmyo.dicom_geometry import ECHO_TIME_TOLERANCE_MS, MIN_SLICES, DicomError, apart, arrange, echo_times
from mrmyo.dicom_pixels import comparable, read_stack
from mrmyo.dicom_sources import open_binary

__all__ = ["Series", "form_series", "without_copies"]

_MAX_PARTS = 24


@dataclass
class Series:
    """The images of one row of the table; `stack` and `affine` are there when they form a volume."""

    key: tuple
    images: list
    stack: list | None = None
    affine: np.ndarray | None = None
    times: tuple = ()
    problems: list = field(default_factory=list)
    warnings: list = field(default_factory=list)


def form_series(images) -> list[Series]:
    """Group the images by study, series and image type, then split and join groups as their geometry and echoes tell.

    One SeriesInstanceUID may hold several kinds of image, several stations, or (in anonymised sets) several series
    numbers; a multi-echo scan may come as one series an echo. Nothing is split that could be one stack with slices
    missing.
    """
    groups = defaultdict(list)
    for image in images:
        series, patient = image.get("SeriesInstanceUID"), image.get("patient", 1)
        key = (image.get("StudyInstanceUID"), series, image.get("SeriesNumber"), image.get("ImageType"))
        groups[key if patient == 1 else (*key, "patient", patient)].append(image)
    found = _joined([part for key, group in groups.items() for part in _split(_series(key, group))])
    found = _numbers_aside(found)
    parted = concatenation_problems(images)
    for series in found:
        uids = {image.get("ConcatenationUID") for image in series.images}
        series.problems += sorted({parted[uid] for uid in uids & parted.keys()})
        if series.stack:
            series.problems += rescale_problems(series.images)
            series.stack, told = comparable(series.stack)
            series.warnings += told
        problems, told = _echo_findings(series)
        series.problems += problems
        series.warnings += told + _step_findings(series)
    _note_strays(found)
    patient_warnings(found)
    return found


def without_copies(images) -> list:
    """The images, copies counted once.

    Copies share UID, place, time and pixels; where pixels differ, nobody can tell which are right, and the image gets
    a problem. Of a damaged and an intact copy the intact one is kept.
    """
    alike = defaultdict(list)
    for image in images:
        alike[_identity(image)].append(image)
    same_files = {}
    kept = []
    for first, *others in (sorted(copies, key=lambda image: "problem" in image) for copies in alike.values()):
        others = [image for image in others if "problem" not in image or "problem" in first]
        for other in others if "problem" not in first else ():
            pair = (first["path"], other["path"])
            if pair not in same_files:
                same_files[pair] = _same_content(*pair)
            if not same_files[pair] and not _same_pixels(first, other):
                found = "one image came twice with different pixels; nobody can tell which is right"
                first = {**first, "problem": found}
        kept.append(first)
    return kept


def _identity(image):
    """Copies of one image share all of this; images that an anonymiser gave one UID do not."""
    keys = (
        "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "EchoTime",
        "ImagePositionPatient", "ImageType", "patient",
    )
    place = (image["frame"], image["tile"])
    return (*(image.get(key) for key in keys), *place) if image.get("SOPInstanceUID") else (image["path"], *place)


def _same_content(a, b):
    digests = []
    for path in (a, b):
        file, _ = open_binary(path)
        with file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            digests.append(digest.digest())
    return digests[0] == digests[1]


def _same_pixels(a, b):
    shapes = [(image.get("Columns"), image.get("Rows")) for image in (a, b)]
    if shapes[0] != shapes[1]:
        return False
    try:
        return np.array_equal(*(read_stack([[image]], shapes[0], "a copy") for image in (a, b)))
    except DicomError:
        return False


def _series(key, images) -> Series:
    series = Series(key, images, times=echo_times(images), problems=object_problems(images))
    series.warnings = object_warnings(images)
    try:
        series.stack, series.affine = arrange(images)
    except DicomError as error:
        told = str(error)
        if "no geometry" in told and any("sealed" in image for image in images):
            told += " (attributes are encrypted; decrypt the files first)"
        if not series.problems or not told.startswith(("no geometry", "too few slices")):  # these are then no news
            series.problems = [*series.problems, told]
    except Exception as error:  # headers can be absurd in more ways than are thought of; the neighbours stay readable
        kind = type(error).__name__
        series.problems = [*series.problems, f"a header that makes no sense ({kind}); export the series again"]
    return series


def _split(series) -> list[Series]:
    """The stacks or echoes that one series holds, where each is a whole volume; else the series as it is."""
    if series.affine is not None:
        echoes, told, whole = acquisitions(series.stack)
        if told and whole:
            return [part for i, of in enumerate(echoes) for part in _split(_set_apart(series, i, of, told))]
        if told:
            series.problems.append(f"images of different acquisitions under one series ({told}); export each alone")
        types = set(series.images[0].get("ScanningSequence", ()))
        if len(series.times) == 2 and "GR" in types and "SE" not in types and not series.problems:
            # opposed and in phase, or a field map: two images of different kinds rather than a decay
            return [
                _series((*series.key, "EchoTime", e), [echoes[e] for echoes in series.stack]) for e in range(2)
            ]
        return [series]
    if object_problems(series.images):
        return [series]
    for attribute in ("StackID", "AcquisitionNumber", "SeriesDescription"):
        parts = defaultdict(list)
        for image in series.images:
            parts[image.get(attribute)].append(image)
        if not 2 <= len(parts) <= _MAX_PARTS or None in parts:
            continue
        split = [_series((*series.key, attribute, i), parts[name]) for i, name in enumerate(sorted(parts, key=str))]
        if all(part.affine is not None for part in split) and _may_stand_apart(split, attribute):
            return split
    return [series]


def _set_apart(series, i, echoes, told):
    """The echoes of one acquisition among several that an anonymiser, say, gave one UID."""
    part = _series((*series.key, "acquisition", i), [images[e] for images in series.stack for e in echoes])
    part.warnings.append(f"images of different acquisitions under one series ({told}) were set apart")
    return part


def _may_stand_apart(parts, attribute):
    """Whether parts are stacks of their own, and not one stack whose missing slices a split would hide."""
    def place(part):
        normal = part.affine[:3, 2] / np.linalg.norm(part.affine[:3, 2])
        return (*np.round(normal, 1), normal @ part.affine[:3, 3])

    neighbours = sorted(parts, key=place)
    for one, other in itertools.pairwise(neighbours):
        if len(one.stack) == len(other.stack) and np.allclose(one.affine, other.affine, atol=0.02):
            if attribute != "SeriesDescription":  # repeats in time are no stations
                return False
        elif not apart(one.affine, len(one.stack), other.affine, len(other.stack), declared=attribute == "StackID"):
            return False
    return True


def _numbers_aside(found):
    """Pieces of one SeriesInstanceUID under several numbers, none of them a volume, are judged as one series."""
    pieces = defaultdict(list)
    for series in found:
        study, uid, _, kind, *split = series.key
        if uid and not split and series.affine is None and not object_problems(series.images):
            pieces[study, uid, None, kind].append(series)
    for key, parts in pieces.items():
        if len(parts) > 1:
            whole = _series(key, [image for part in parts for image in part.images])
            found = [series for series in found if not any(series is part for part in parts)] + [whole]
    return found


def _joined(found):
    """Spin echoes that came as one series an echo become one series; everything else stays."""
    alike = []
    for series in found:
        types = set(series.images[0].get("ScanningSequence", ()))
        if series.problems or len(series.times) != 1 or "SE" not in types or types & {"EP", "IR"}:
            continue
        facts = [series.images[0].get(key) for key in _SAME_IN_ECHOES]
        for group in alike:
            if group[0] == facts and np.allclose(group[1][0].affine, series.affine, atol=0.02):
                group[1].append(series)
                break
        else:
            alike.append((facts, [series]))
    for _, group in alike:
        times = sorted(series.times[0] for series in group)
        depths = {len(series.stack) for series in group}
        if len(group) < 3 or len(depths) > 1 or min(np.diff(times)) <= ECHO_TIME_TOLERANCE_MS:
            continue
        group.sort(key=lambda series: series.times[0])
        whole = _series((*group[0].key, "joined"), [image for series in group for image in series.images])
        if whole.problems:
            continue
        numbers = ", ".join(str(series.images[0].get("SeriesNumber", "?")) for series in group)
        whole.warnings.append(f"its {len(group)} echoes came as series {numbers} and were joined")
        found = [series for series in found if not any(series is part for part in group)] + [whole]
    return found


_SAME_IN_ECHOES = (
    "StudyInstanceUID", "ImageType", "ScanningSequence", "RepetitionTime", "FlipAngle", "Rows", "Columns",
    "FrameOfReferenceUID", "patient",
)


def _echo_findings(series):
    """Problems and warnings that the numbers of the echoes tell."""
    problems, told = [], []
    if series.affine is None:
        return problems, told
    first, times = series.images[0], series.times
    original = "ORIGINAL" in first.get("ImageType", ())  # a map made of all echoes has one time, or none
    if len(times) == 1 and first.get("MultipleSpinEcho") == "YES" and original:
        problems.append(f"one echo only ({times[0]:g} ms) of a multiple spin echo; expected all. Export the others too")
    numbers = [{image.get("EchoNumbers") for image in echo} for echo in zip(*series.stack, strict=True)]
    named = set.union(*numbers) if numbers else set()
    if len(times) >= 2 and all(len(one) == 1 for one in numbers) and None not in named and len(named) > 1:
        numbers = [one.pop() for one in numbers]
        gaps = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
        if gaps and numbers == sorted(numbers) and len(set(numbers)) == len(numbers):
            named = ", ".join(f"{number:g}" for number in gaps[:8])
            problems.append(f"missing echoes: of {min(numbers)} to {max(numbers)} no image has {named}; export all")
        elif numbers[0] > 1 and len(set(numbers)) == len(numbers):
            told.append(f"its first echo has number {numbers[0]}: echoes before it may be missing")
    elif len(times) >= 3:
        told += _time_findings(times, "GR" in first.get("ScanningSequence", ()))
    return problems, told


def _time_findings(times, gradient_echo):
    """What the times of echoes without numbers tell; the first spin echo comes one spacing after the excitation."""
    steps = np.diff(times) / min(np.diff(times))
    if steps.max() > 1.5 and np.abs(steps - np.rint(steps)).max() < 0.05:
        return ["its echo times are not evenly spaced: an echo may be missing"]
    first = times[0] / np.mean(np.diff(times))
    if not gradient_echo and steps.max() < 1.05 and first > 1.9 and abs(first - round(first)) < 0.05:
        return [f"its first echo comes after {round(first)} echo spacings: the first echo seems to be missing"]
    return []


def _step_findings(series):
    """Whether slices may be missing so evenly that their step does not show it."""
    if series.affine is None:
        return []
    told, thickness = (series.images[0].get(key, 0) for key in ("SpacingBetweenSlices", "SliceThickness"))
    ratio = np.linalg.norm(series.affine[:3, 2]) / told if told > 0 else 1
    # some write the gap between slices there; it is smaller than the slices
    if thickness <= told and ratio > 1.9 and abs(ratio - round(ratio)) < 0.02:
        return [f"its slices are {ratio * told:g} mm apart where the header says {told:g}: some may be missing evenly"]
    return []


def _note_strays(found):
    """Say beside a series what else of it is in the folder but not in its row, or was announced and is not there."""
    whole = defaultdict(list)
    for series in found:
        whole[series.images[0].get("StudyInstanceUID"), series.images[0].get("SeriesInstanceUID")].append(series)
    for (_, uid), parts in whole.items():
        n_images = sum(len(part.images) for part in parts)
        announced = Counter(image.get("ImagesInAcquisition") for part in parts for image in part.images)
        expected = announced.most_common(1)[0][0]
        for part in parts:
            classic = not any("frame" in image and (image["frame"] or image["tile"]) for image in part.images)
            if uid and classic and isinstance(expected, int) and n_images < expected:
                part.warnings.append(f"its header announces {expected} images and {n_images} are here")
            strays = sum(len(other.images) for other in parts if other is not part and len(other.images) < MIN_SLICES)
            if uid and strays and part.affine is not None:
                part.warnings.append(f"{strays} images of the same series stand apart, in another row")
