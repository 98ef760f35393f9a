"""What a series is for, told from its physics: the part of reading DICOM that knows the vendors' spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["ROLES", "series_role"]

ROLES = (
    "multi_echo", "in_phase", "opposed_phase", "water", "fat", "fat_fraction", "t2_map", "t1w", "t2w", "stir", "other",
)

# ImageType tokens (upper case, blanks and hyphens as underscores). Siemens and GE write words, Philips letters.
_IMAGE_TYPE_ROLES = {
    "in_phase": {"IP", "IN_PHASE", "INPHASE", "IN"},
    "opposed_phase": {"OP", "OPP_PHASE", "OPPOSED_PHASE", "OUT_PHASE", "OUTPHASE", "OPPOSED", "OUT_OF_PHASE", "OPP"},
    "water": {"W", "WATER", "WATER_ONLY"},
    "fat": {"F", "FAT", "FAT_ONLY"},
    "fat_fraction": {"FF", "FAT_FRACTION", "FATFRAC", "PDFF", "FAT_FRAC"},
    "t2_map": {"T2_MAP", "T2MAP"},
}
# images that show neither signal magnitude nor one of the maps above
_NOT_MAGNITUDE = {
    "P", "P_SE", "PHASE", "PHASE_MAP", "R", "REAL", "I", "IMAGINARY", "B0", "B1", "FIELD_MAP", "R2", "R2_MAP",
    "R2_STAR", "R2_STAR_MAP", "T2_STAR", "T2_STAR_MAP", "T1_MAP", "T1MAP", "ADC", "S0", "SCREEN_SAVE", "LOCALIZER",
}
# only consulted for gradient echoes whose ImageType is silent: "fat sat" of a spin echo must not become "fat"
_DESCRIPTION_ROLES = (
    ("in_phase", r"\bin[ _-]?phase|[ _](in|ip)$"),
    ("opposed_phase", r"\b(opp(osed)?|out)[ _-]?(of[ _-]?)?phase|[ _](opp|op|out)$"),
    ("water", r"^water\b|[ _](w|water)$"),
    ("fat", r"^fat:|[ _](f|fat)$"),
)


def series_role(facts: Mapping, echo_times_ms: Sequence[float]) -> str:
    """The role of a series, one of `ROLES`.

    ImageType decides on Dixon images and maps; then ScanningSequence and the times decide: a spin echo with
    at least three echo times is ``multi_echo``; with one, TR up to 1000 ms and TE up to 30 ms is ``t1w``, TR from
    1500 ms and TE from 50 ms is ``t2w``, and an inversion time of 80–260 ms makes it ``stir``. The description is a
    hint for gradient echoes whose ImageType says nothing, never more.

    Parameters
    ----------
    facts : mapping
        By DICOM keyword: ImageType and ScanningSequence (tuples), RepetitionTime, InversionTime, SeriesDescription.
    echo_times_ms : sequence of float
        The different echo times, in ms.
    """
    tokens = {re.sub(r"[ -]+", "_", str(token).strip().upper()) for token in facts.get("ImageType") or ()}
    sequence = {str(token).strip().upper() for token in facts.get("ScanningSequence") or ()}
    found = [role for role, spellings in _IMAGE_TYPE_ROLES.items() if tokens & spellings]
    if len(found) == 1:
        return found[0]
    if found or tokens & _NOT_MAGNITUDE:
        return "other"
    if "DERIVED" in tokens and "T2" in tokens:
        return "t2_map"
    spin_echo = ("SE" in sequence or ("RM" in sequence and bool(tokens & {"SE", "M_SE"}))) and "EP" not in sequence
    if spin_echo:
        return _spin_echo_role(facts, sequence, echo_times_ms)
    if "SE" not in sequence:
        description = str(facts.get("SeriesDescription") or "").strip().lower()
        for role, pattern in _DESCRIPTION_ROLES:
            if re.search(pattern, description):
                return role
    return "other"


def _spin_echo_role(facts, sequence, echo_times_ms):
    if "IR" in sequence:
        inversion = facts.get("InversionTime")
        return "stir" if inversion is not None and 80 <= inversion <= 260 else "other"
    if len(echo_times_ms) >= 3:
        return "multi_echo"
    repetition = facts.get("RepetitionTime")
    if len(echo_times_ms) != 1 or repetition is None:
        return "other"
    if repetition <= 1000 and echo_times_ms[0] <= 30:
        return "t1w"
    return "t2w" if repetition >= 1500 and echo_times_ms[0] >= 50 else "other"
