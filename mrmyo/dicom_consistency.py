"""Whether the images of one series say the same of themselves: acquisition, rescale, units, and parts of a whole."""

from __future__ import annotations

from collections import defaultdict

__all__ = ["acquisitions", "concatenation_problems", "differing_units", "patient_warnings", "rescale_problems"]

TR_TOLERANCE, FLIP_TOLERANCE = 0.01, 1.0  # of TR; degrees
_RESCALE = ("RescaleSlope", "RescaleIntercept")
_UNITS = ("RealWorldValueUnits", "RescaleType", "Units")


def acquisitions(stack) -> tuple[list[list[int]], str, bool]:
    """The echoes of a stack by the acquisition they come from, told by TR, flip angle and sequence.

    Returns
    -------
    tuple
        Lists of echo indices; what differs between them, in words; and whether it differs in every slice (else a part
        of an echo comes from elsewhere, and nothing can be set apart whole). What an image does not state is unknown.
    """
    parts, differing, whole = [], set(), True
    for e in range(len(stack[0])):
        for part in parts:
            differ = [_differing(echoes[part[0]], echoes[e]) for echoes in stack]
            if not any(differ):
                part.append(e)
                break
            differing = differing.union(*differ)
            whole = whole and all(differ)
        else:
            parts.append([e])
    if len(parts) < 2:
        return parts, "", True
    images = [image for echoes in stack for image in echoes]
    told = [
        f"{key} {' and '.join(_text(value) for value in _sorted({image[key] for image in images if key in image})[:4])}"
        for key in sorted(differing)
    ]
    return parts, ", ".join(told), whole


def _differing(one, other):
    tolerance = {"RepetitionTime": TR_TOLERANCE * abs(one.get("RepetitionTime", 0)) + 0.01, "FlipAngle": FLIP_TOLERANCE}
    both = {key for key in (*tolerance, "ScanningSequence") if key in one and key in other}
    far = {key for key in both & tolerance.keys() if abs(one[key] - other[key]) > tolerance[key]}
    return far | {key for key in both - tolerance.keys() if set(one[key]) != set(other[key])}


def _sorted(values):
    return sorted(values, key=lambda value: (not isinstance(value, int | float), value))


def _text(value):
    return "/".join(value) if isinstance(value, tuple) else f"{value:g}"


def rescale_problems(images) -> list[str]:
    """A rescale that only some images state: the others' values cannot be compared with theirs."""
    found = []
    for key, neutral in zip(_RESCALE, (1, 0), strict=True):
        stated = [image[key] for image in images if key in image]
        if len(stated) < len(images) and any(value != neutral for value in stated):
            found.append(f"{key} in only {len(stated)} of {len(images)} images; expected in all. Export again")
    return found


def concatenation_problems(images) -> dict[str, str]:
    """By ConcatenationUID what is missing of a multi-frame object that was sent in several files."""
    parts, totals = defaultdict(dict), defaultdict(int)
    for image in images:
        uid = image.get("ConcatenationUID")
        if uid:
            first = image.get("ConcatenationFrameOffsetNumber")
            place = image.get("InConcatenationNumber", image["path"])
            parts[uid][place] = (first, image.get("NumberOfFrames", 1))
            totals[uid] = max(totals[uid], image.get("InConcatenationTotalNumber", 0))
    found = {}
    for uid, of in parts.items():
        highest = max((place for place in of if isinstance(place, int)), default=0)
        expected, next_frame = max(totals[uid], highest), 0
        offsets = [part for part in of.values() if part[0] is not None]
        gap = False
        for first, count in sorted(offsets) if len(offsets) == len(of) else ():
            gap, next_frame = gap or first > next_frame, first + count
        if len(of) < expected or gap:
            told = str(expected) if expected > len(of) else "more"
            found[uid] = f"{len(of)} of {told} parts of one multi-frame image (a concatenation) are here; export all"
    return found


def differing_units(images) -> tuple[str, ...]:
    """The keywords of units in which the images of one series differ, absence counting as a value."""
    return tuple(key for key in _UNITS if len({image.get(key) for image in images}) > 1)


def patient_warnings(found) -> None:
    """Say in every series of a study that holds images of several patients which of them it shows."""
    of = defaultdict(set)
    for series in found:
        of[series.key[0]] |= {image.get("patient", 1) for image in series.images}
    for series in found:
        several = of[series.key[0]]
        if len(several) > 1:
            here = min(image.get("patient", 1) for image in series.images)
            told = "one StudyInstanceUID" if series.key[0] else "studies without a UID"
            series.warnings.append(f"images of {len(several)} patients lie under {told}; these are of patient {here}")
