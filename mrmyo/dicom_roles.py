"""What a series is for, told from its physics: the part of reading DICOM that knows the vendors' spellings.

The order of trust: ImageType where it names a kind of image (Dixon, maps); then the sequence and its times; then which
series lie beside each other (`siblings`); the descriptions last, as a hint where all else is silent, for anyone may
have typed, translated or blanked them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["DERIVED_FACTS", "ROLES", "ROLE_KEYWORDS", "TEXT_KEYWORDS", "presumed", "series_role", "siblings"]

ROLES = (
    "multi_echo", "in_phase", "opposed_phase", "water", "fat", "fat_fraction", "t2_map", "b1_map",
    "t1w", "t2w", "t2w_fs", "stir", "other",
)
# free text: read for hints, and never to leave the room
TEXT_KEYWORDS = ("SeriesDescription", "ProtocolName", "SequenceName", "ImageComments")
# what a role, or the unit of a map, may be told from
ROLE_KEYWORDS = (
    "Manufacturer", "MagneticFieldStrength", "ImagingFrequency", "MRAcquisitionType", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "ImageType", "RepetitionTime", "InversionTime", "FlipAngle", "EchoTrainLength",
    "ComplexImageComponent", "AcquisitionContrast", "RescaleType", "RescaleSlope", "RescaleIntercept", "Units",
    "MultipleSpinEcho", "PixelPaddingValue", "BitsStored", "PixelRepresentation", *TEXT_KEYWORDS,
)
# facts that have no keyword of their own at the top of a header: the first item of RealWorldValueMappingSequence, its
# slope and intercept (of stored values) and the code of its units, as UCUM writes them
DERIVED_FACTS = ("RealWorldValueSlope", "RealWorldValueIntercept", "RealWorldValueUnits")

# ImageType tokens (upper case, blanks and hyphens as underscores). Siemens, GE and United Imaging write words, Philips
# letters, Canon and Fujifilm (Hitachi) either.
_IMAGE_TYPE_ROLES = {
    "in_phase": {"IP", "IN_PHASE", "INPHASE", "IN", "IN_PHASE_IMAGE", "DIXON_IN", "DIXON_IP", "INP"},
    "opposed_phase": {"OP", "OPP_PHASE", "OPPOSED_PHASE", "OUT_PHASE", "OUTPHASE", "OPPOSED", "OUT_OF_PHASE", "OPP",
                      "OUT", "OOP", "OPPPHASE", "DIXON_OPP", "DIXON_OP"},
    "water": {"W", "WATER", "WATER_ONLY", "WATER_IMAGE", "DIXON_W", "DIXON_WATER"},
    "fat": {"F", "FAT", "FAT_ONLY", "FAT_IMAGE", "DIXON_F", "DIXON_FAT"},
    "fat_fraction": {"FF", "FAT_FRACTION", "FATFRAC", "PDFF", "FAT_FRAC", "FATFRACTION", "FATPERCENT", "FAT_RATIO"},
    "t2_map": {"T2_MAP", "T2MAP"},
    "b1_map": {"B1", "B1_MAP", "B1MAP", "FLIP_ANGLE_MAP", "FLIPANGLE_MAP", "FA_MAP"},
}
# images that show neither signal magnitude nor one of the maps above
_NOT_MAGNITUDE = {
    "P", "P_SE", "P_FFE", "P_IR", "PHASE", "PHASE_MAP", "R", "REAL", "R_SE", "R_FFE", "R_IR", "I", "IMAGINARY", "I_SE",
    "I_FFE", "I_IR", "B0", "B0_MAP", "FIELD_MAP", "R2", "R2_MAP", "R2_STAR", "R2_STAR_MAP", "R2STAR", "T2_STAR",
    "T2_STAR_MAP", "T2*", "T1_MAP", "T1MAP", "ADC", "EADC", "TRACE", "TRACEW", "FA", "DIFFUSION", "S0", "RHO",
    "SCREEN_SAVE", "SCREEN_SHOT", "LOCALIZER", "SCOUT", "PROJECTION_IMAGE", "MIP", "SUBTRACT", "SUBTRACTION",
    "SUB", "SENSITIVITY_MAP",
}
# hints: for gradient echoes whose ImageType is silent ("fat sat" of a spin echo must not become "fat")
_GRADIENT_HINTS = (
    ("in_phase", r"\bin[ _-]?phase|[ _](in|ip)$"),
    ("opposed_phase", r"\b(opp(osed)?|out)[ _-]?(of[ _-]?)?phase|[ _](opp|op|out)$"),
    ("water", r"^water\b|[ _](w|water)$"),
    ("fat", r"^fat:|[ _](f|fat)$"),
)
_MAP_HINTS = (("t2_map", r"\bt2[ _-]?map"), ("b1_map", r"\bb1[ _-]?map"))  # for derived images only
# not "us": as a RescaleType that is "unspecified"
_TIME_UNITS = {"ms", "msec", "millisecond", "milliseconds", "s", "sec", "second", "seconds", "µs"}

FAT_SHIFT_PPM = 3.4  # of the main fat peak against water
PHASE_TOLERANCE_TURNS = 0.12  # 43°: |W + F| then still shows 93 % of equal parts of water and fat
MOST_TURNS = 3.3  # later, the tenth of a ppm by which tables differ fills the tolerance
EVEN_ECHOES = 0.05  # of the echo spacing
LONG_TR_MS, LATE_ECHO_MS, LARGE_FLIP_DEG = 1000.0, 60.0, 80.0


def series_role(facts: Mapping, echo_times_ms: Sequence[float]) -> str:
    """The role of a series, one of `ROLES`.

    ImageType decides on Dixon images and maps (and ComplexImageComponent on what is no magnitude); then the sequence
    and its times:

    - spin echo (or GraSE), at least three echo times: ``multi_echo``. Where the header does not tell the sequence, it
      is presumed of a flip angle from 80°, a TR from 1000 ms and evenly spaced echoes that reach 60 ms, without
      spoiling; a slow multi-gradient-echo scan could look so, and `presumed` warns of it;
    - spin echo, one echo time: an inversion time of 80–260 ms makes it ``stir``; TR up to 1000 ms with TE up to 30 ms
      is ``t1w``; TR from 1500 ms with TE from 50 ms is ``t2w``, or ``t2w_fs`` where ScanOptions say that fat is
      suppressed;
    - gradient echo, one echo time: ``opposed_phase`` where fat stands against water by echo time and field strength
      (3.4 ppm, within 0.12 of a turn, in the first three turns), unless it looks like a localizer (2-D, TR below
      20 ms). A three-dimensional spoiled one with a TR below 20 ms and no fat suppression (VIBE, SPGR, LAVA, THRIVE)
      is ``t1w``: it is so weighted, and shows muscle against fat, which is what masks are drawn by. At an echo time at
      which fat and water agree it counts as ``in_phase`` only beside its opposed-phase sibling (`siblings`), so that a
      scout or a VIBE never competes with a true Dixon image.

    Parameters
    ----------
    facts : mapping
        By DICOM keyword (`ROLE_KEYWORDS`, `DERIVED_FACTS`); ImageType, ScanningSequence and ScanOptions are tuples.
    echo_times_ms : sequence of float
        The different echo times, in ms.
    """
    tokens, sequence = _tokens(facts, "ImageType"), _tokens(facts, "ScanningSequence")
    found = [role for role, spellings in _IMAGE_TYPE_ROLES.items() if tokens & spellings]
    if len(found) == 1:
        return found[0]
    component = str(facts.get("ComplexImageComponent") or "").upper()
    if found or tokens & _NOT_MAGNITUDE or component in ("PHASE", "REAL", "IMAGINARY"):
        return "other"
    spin_echo = _is_spin_echo(facts) and "EP" not in sequence
    timed = _in_time_units(facts) and ("T2" in tokens or (spin_echo and "IR" not in sequence))
    # a bare T2 is no map: third, it is a flavour, "T2 weighted" (PS3.3 C.8.16.1.3); Philips' maps have it fourth
    if "DERIVED" in tokens and (timed or _fourth(facts) == "T2"):
        return "t2_map"
    if spin_echo:
        role = _spin_echo_role(facts, sequence, echo_times_ms)
    elif not sequence & {"GR", "EP"} and _is_echo_train(facts, echo_times_ms):
        role = "multi_echo"
    elif sequence & {"SE", "EP"}:
        role = "other"
    else:
        role = _gradient_echo_role(facts, sequence, echo_times_ms)
    return (_hinted(facts, _MAP_HINTS) or role) if role == "other" and "DERIVED" in tokens else role


def siblings(rows: Sequence[Mapping]) -> list[str]:
    """The roles once it is known who lies beside whom: gradient echoes in phase and opposed, taken together.

    Parameters
    ----------
    rows : sequence of mapping
        Of each series its ``role``, ``facts``, ``echo_times_ms``, ``shape`` and ``affine`` (None where unknown).

    Returns
    -------
    list of str
        Of each series its role: that of before, save that a gradient echo whose echo time has fat and water in phase
        becomes ``in_phase`` where an ``opposed_phase`` of the same grid and TR was told by echo time.
    """
    roles = [row["role"] for row in rows]
    for k, row in enumerate(rows):
        if row["role"] in ("t1w", "other") and _phase_by_time(row["facts"], row["echo_times_ms"]) == "in_phase":
            beside = (other for other in rows if other["role"] == "opposed_phase" and _beside(row, other))
            if next(beside, None) is not None:
                roles[k] = "in_phase"
    return roles


def _tokens(facts, keyword):
    values = facts.get(keyword) or ()
    return {re.sub(r"[ -]+", "_", str(v).strip().upper()) for v in ([values] if isinstance(values, str) else values)}


def _fourth(facts):
    kind = facts.get("ImageType") or ()
    return str(kind[3]).strip().upper() if not isinstance(kind, str) and len(kind) > 3 else ""


def _is_spin_echo(facts):
    sequence = _tokens(facts, "ScanningSequence")
    said = "SE" in sequence or (facts.get("MultipleSpinEcho") == "YES" and "GR" not in sequence)
    return said or bool(_tokens(facts, "ImageType") & {"SE", "M_SE"})


def presumed(facts: Mapping, role: str) -> list[str]:
    """A warning where a series is ``multi_echo`` though nothing in its header says that its echoes are spin echoes."""
    stated = role != "multi_echo" or _is_spin_echo(facts)
    return [] if stated else ["sequence not stated; taken for a spin echo by its flip angle and times"]


def _in_time_units(facts):
    units = {str(facts.get(key) or "").strip().lower() for key in ("RescaleType", "Units", "RealWorldValueUnits")}
    return bool(units & _TIME_UNITS)


def _hinted(facts, hints):
    texts = [str(facts.get(key) or "").strip().lower() for key in ("SeriesDescription", "ProtocolName")]
    return next((role for text in texts for role, pattern in hints if re.search(pattern, text)), None)


def fat_is_suppressed(facts: Mapping) -> bool:
    """Whether ScanOptions say so, in the standard's word (FS) or in a vendor's."""
    options = _tokens(facts, "ScanOptions")
    named = {"FS", "FAT_SAT", "FATSAT", "FATSAT_GEMS", "SPIR", "SPAIR", "SPECIAL_GEMS", "CHESS", "WE", "PROSET"}
    return bool(options & named)


def _spin_echo_role(facts, sequence, echo_times_ms):
    inversion = facts.get("InversionTime")
    if "IR" in sequence or (inversion and 80 <= inversion <= 260):
        return "stir" if inversion is not None and 80 <= inversion <= 260 else "other"
    if len(echo_times_ms) >= 3:
        return "multi_echo"
    repetition = facts.get("RepetitionTime")
    if len(echo_times_ms) != 1 or repetition is None:
        return "other"
    if repetition <= 1000 and echo_times_ms[0] <= 30:
        return "t1w"
    if repetition >= 1500 and echo_times_ms[0] >= 50:
        return "t2w_fs" if fat_is_suppressed(facts) else "t2w"
    return "other"


def _is_echo_train(facts, echo_times_ms):
    """Evenly spaced echoes that are hardly gradient echoes: late, slow, of a large flip angle, not spoiled."""
    if len(echo_times_ms) < 3 or (facts.get("RepetitionTime") or 0) < LONG_TR_MS or max(echo_times_ms) < LATE_ECHO_MS:
        return False
    if (facts.get("FlipAngle") or 0) < LARGE_FLIP_DEG or _tokens(facts, "SequenceVariant") & {"SP", "SPOILED"}:
        return False
    gaps = np.diff(sorted(echo_times_ms))
    return bool(np.ptp(gaps) <= EVEN_ECHOES * gaps.mean() + 0.02)  # headers may round to a hundredth of a ms


def _gradient_echo_role(facts, sequence, echo_times_ms):
    repetition = facts.get("RepetitionTime") or np.nan
    spoiled = bool(_tokens(facts, "SequenceVariant") & {"SP", "SPOILED"})
    volume = str(facts.get("MRAcquisitionType") or "").upper() == "3D"
    hinted = _hinted(facts, _GRADIENT_HINTS) if len(echo_times_ms) < 2 else None
    if "GR" in sequence:
        phase = _phase_by_time(facts, echo_times_ms)
        if phase == "opposed_phase" and hinted in (None, phase) and (volume or repetition >= 20):
            return phase
        if hinted in ("in_phase", "opposed_phase") and phase not in (None, hinted):
            hinted = None  # a description that the echo time contradicts
        if hinted is None and volume and spoiled and repetition < 20 and not fat_is_suppressed(facts):
            return "t1w" if len(echo_times_ms) == 1 else "other"
    return hinted or "other"


def _phase_by_time(facts, echo_times_ms):
    """'in_phase' or 'opposed_phase' for a gradient echo of one echo time, by how far fat has turned; else None."""
    if len(echo_times_ms) != 1 or "GR" not in _tokens(facts, "ScanningSequence"):
        return None
    frequency = facts.get("ImagingFrequency") or 42.577 * (facts.get("MagneticFieldStrength") or 0)  # MHz
    turns = echo_times_ms[0] * 1e-3 * FAT_SHIFT_PPM * frequency
    if not 0.5 - PHASE_TOLERANCE_TURNS <= turns <= MOST_TURNS:
        return None
    off = turns % 1
    if abs(off - 0.5) <= PHASE_TOLERANCE_TURNS:
        return "opposed_phase"
    return "in_phase" if min(off, 1 - off) <= PHASE_TOLERANCE_TURNS else None


def _beside(a, b):
    """Whether two series are images of one acquisition: same grid, same TR."""
    if a["affine"] is None or b["affine"] is None or tuple(a["shape"]) != tuple(b["shape"]):
        return False
    same_time = a["facts"].get("RepetitionTime") == b["facts"].get("RepetitionTime")
    return same_time and bool(np.abs(np.asarray(a["affine"]) - np.asarray(b["affine"])).max() < 0.01)
