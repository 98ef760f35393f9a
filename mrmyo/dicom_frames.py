"""Files that hold more than one image: enhanced multi-frame objects and Siemens mosaics, as images like any other.

Enhanced objects keep the facts of a frame in functional groups: those of the frame win over the shared ones, and these
over the top level (DICOM PS3.3 C.7.6.16). They are given here under the keywords that classic images use. A mosaic
holds all slices of a stack as tiles of one picture; where they lie is said in Siemens' private CSA header.
"""

from __future__ import annotations

import warnings

import numpy as np
from pydicom.datadict import tag_for_keyword

__all__ = ["enhanced_images", "frame_scales", "mosaic_images", "private_value", "real_world_facts"]

# functional group: its keywords and those of a classic image, where they differ; of two alike the later wins
_FRAME_FACTS = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {
        "PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness",
        "SpacingBetweenSlices": "SpacingBetweenSlices",
    },
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRTimingAndRelatedParametersSequence": {
        "RepetitionTime": "RepetitionTime", "FlipAngle": "FlipAngle", "RFEchoTrainLength": "EchoTrainLength",
        "EchoTrainLength": "EchoTrainLength",
    },
    "MRModifierSequence": {
        "InversionTimes": "InversionTime", "InversionRecovery": "InversionRecovery",
        "SpectrallySelectedSuppression": "SpectrallySelectedSuppression",
        "SpectrallySelectedExcitation": "SpectrallySelectedExcitation",
    },
    "MRImagingModifierSequence": {"PixelBandwidth": "PixelBandwidth", "TransmitterFrequency": "ImagingFrequency"},
    "MRFOVGeometrySequence": {"InPlanePhaseEncodingDirection": "InPlanePhaseEncodingDirection"},
    "PixelValueTransformationSequence": {
        "RescaleSlope": "RescaleSlope", "RescaleIntercept": "RescaleIntercept", "RescaleType": "RescaleType",
    },
    "MRImageFrameTypeSequence": {
        "FrameType": "ImageType", "ComplexImageComponent": "ComplexImageComponent",
        "AcquisitionContrast": "AcquisitionContrast",
    },
    "FrameContentSequence": {"StackID": "StackID", "FrameAcquisitionNumber": "AcquisitionNumber"},
    "FrameAnatomySequence": {"FrameLaterality": "ImageLaterality"},
}
_CRITICAL = {"RescaleSlope", "RescaleIntercept", "EchoTime"}
_UNASSIGNED = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
_PULSES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
_SIEMENS_PRIVATE, _SIEMENS_IMAGE_TYPE = "SIEMENS MR SDI 02", 0x75
_PHILIPS_CREATOR, _PHILIPS_SCALE = "Philips MR Imaging DD 001", 0x0E
# what is looked at in a frame, in this order: what stands later wins
_GROUPS = {int(tag_for_keyword(name)): name for name in (*_UNASSIGNED, *_FRAME_FACTS, "RealWorldValueMappingSequence")}
_GROUPS |= {0x002111FE: "Siemens", 0x2005140F: "Philips"}
_MAX_TILES = 1024


def enhanced_images(dataset, file_facts, plain) -> list[dict]:
    """One dict a frame, by the keywords of classic images.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With both sequences of functional groups.
    file_facts : dict
        What `read_headers` found at the top level.
    plain : callable
        (keyword, value) → plain Python value, or None.
    """
    n_frames = file_facts.get("NumberOfFrames", 1)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    if len(per_frame) != n_frames:  # one too many in the middle would give all behind it another frame's place
        problem = f"an enhanced file describes {len(per_frame)} frames and holds {n_frames}; export it again"
        return [{**file_facts, "problem": problem}]
    known = {}
    common = {**_pulse_facts(dataset), **file_facts, **_group_facts(shared, plain, known)}
    return [_derived({**common, **_group_facts(group, plain, known), "frame": f}) for f, group in enumerate(per_frame)]


def _group_facts(group, plain, known):
    """What one item of functional groups says, under classic keywords.

    Most sequences are the same bytes in every frame: `known` keeps what those say, so that each is parsed once.
    """
    facts = {}
    elements = {} if group is None else dict(group.items())
    for tag in _GROUPS:
        element = elements.get(tag)
        if element is None:
            continue
        raw = element.value if isinstance(element.value, bytes) else None
        if raw is None or (tag, raw) not in known:
            told = _sequence_facts(group, tag, plain)
            if raw is not None:
                known[tag, raw] = told
        else:
            told = known[tag, raw]
        facts |= told
    return facts


def _sequence_facts(group, tag, plain):
    """What the first item of one sequence of a group says."""
    sequence, name = group[tag].value, _GROUPS[tag]
    if not sequence:
        return {}
    if name in _UNASSIGNED:  # legacy converted objects keep there what has no group of its own
        told = {element.keyword: plain(element.keyword, element.value) for element in sequence[0] if element.VR != "SQ"}
    elif name in _FRAME_FACTS:
        given = {keyword: sequence[0].get(name) for name, keyword in _FRAME_FACTS[name].items()}
        told = {keyword: plain(keyword, value) for keyword, value in given.items()}
        for keyword in _CRITICAL & told.keys():
            if told[keyword] is None and given[keyword] not in (None, ""):
                told["problem"] = f"a file is damaged in its header: {keyword} of a frame makes no sense"
    elif name == "RealWorldValueMappingSequence":
        told = real_world_facts(group, plain)
    elif name == "Siemens":
        tokens = private_value(sequence, _SIEMENS_PRIVATE, 0x0021, _SIEMENS_IMAGE_TYPE)
        tokens = [tokens] if isinstance(tokens, str) else tokens or ()
        told = {"_tokens": tuple(str(token) for token in tokens)}
    else:
        scale = private_value(sequence, _PHILIPS_CREATOR, 0x2005, _PHILIPS_SCALE)
        told = {"scale": scale if isinstance(scale, float) else None}
    return {keyword: value for keyword, value in told.items() if keyword and value is not None}


def real_world_facts(dataset, plain) -> dict:
    """Units, slope and intercept of the first real world value mapping; they apply to stored values."""
    mapping = dataset.get("RealWorldValueMappingSequence")
    if not mapping:
        return {}
    facts = {name: plain(name, mapping[0].get(name)) for name in ("RealWorldValueSlope", "RealWorldValueIntercept")}
    units = mapping[0].get("MeasurementUnitsCodeSequence")
    facts["RealWorldValueUnits"] = plain("CodeValue", units[0].get("CodeValue")) if units else None
    return {name: value for name, value in facts.items() if value is not None}


def private_value(holder, creator, group, element):
    """A private value of a dataset or of the first item of a sequence; None where it is absent."""
    if holder is None:
        return None
    holder = getattr(holder, "value", holder)
    try:
        holder = holder if hasattr(holder, "private_block") else holder[0]
        return holder.private_block(group, creator)[element].value
    except (KeyError, IndexError, TypeError, AttributeError):
        return None


def _pulse_facts(dataset):
    """ScanningSequence in classic words."""
    pulses = list(_PULSES.get(str(dataset.get("EchoPulseSequence") or ""), ()))
    pulses += ["EP"] if dataset.get("EchoPlanarPulseSequence") == "YES" else []
    return {"ScanningSequence": tuple(pulses)} if pulses else {}


def _derived(image):
    """The facts that take more than one value to tell."""
    tokens = image.pop("_tokens", ())
    component = image.get("ComplexImageComponent", "MAGNITUDE")
    kind = image.get("ImageType", ())
    extra = (*tokens, *(() if component in ("MAGNITUDE", "MIXED") else (component,)))
    image["ImageType"] = (*kind, *(token for token in dict.fromkeys(extra) if token not in kind))
    if image.pop("InversionRecovery", "NO") == "YES" and "ScanningSequence" in image:
        image["ScanningSequence"] = tuple(dict.fromkeys((*image["ScanningSequence"], "IR")))
    suppressed = "FAT" in image.get("SpectrallySelectedSuppression", "")
    if suppressed or image.get("SpectrallySelectedExcitation") == "WATER":
        image["ScanOptions"] = tuple(dict.fromkeys((*image.get("ScanOptions", ()), "FS")))
    if image.get("InPlanePhaseEncodingDirection") == "COLUMN":
        image["InPlanePhaseEncodingDirection"] = "COL"
    if image.get("ImageLaterality") not in ("L", "R"):
        image.pop("ImageLaterality", None)
    return image


def mosaic_images(dataset, image) -> list[dict]:
    """One dict a slice of a Siemens mosaic, each with its own position and its ``tile`` (row, column of its corner).

    ImagePositionPatient of the file is the corner that the whole picture would have if it were centred on the slice,
    so that half the difference of the sizes has to be gone in; slices follow each other along SliceNormalVector
    (https://nipy.org/nibabel/dicom/dicom_mosaic.html).
    """
    told = _csa_facts(dataset)
    n_slices, normal = told.get("n_slices"), told.get("normal")
    spacing = image.get("SpacingBetweenSlices", told.get("spacing"))
    lacking = [name for name, value in (
        ("the number of slices", n_slices), ("the slice normal", normal), ("the slice spacing", spacing),
    ) if not value]
    if lacking:
        problem = (
            f"mosaic images (all slices in one picture) whose private header lacks {', '.join(lacking)}; expected "
            "Siemens' CSA header. Export without mosaic, or keep private tags when pseudonymising"
        )
        return [{**image, "problem": problem}]
    if not all(key in image for key in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "Columns")):
        return [image]  # refused for its geometry later
    side = int(np.ceil(np.sqrt(n_slices)))
    rows, columns = image["Rows"] // side, image["Columns"] // side
    across, down = np.array(image["ImageOrientationPatient"], float).reshape(2, 3)
    normal, own_normal = np.array(normal, float), np.cross(across, down)
    fits = rows * side == image["Rows"] and columns * side == image["Columns"] and min(rows, columns) > 0
    if not fits or not np.isclose(abs(normal @ own_normal), 1, atol=1e-3):
        problem = (
            f"mosaic images whose private header contradicts their picture ({n_slices} slices in {image['Columns']} × "
            f"{image['Rows']} pixels, slice normal {tuple(np.round(normal, 3).tolist())}); export without mosaic"
        )
        return [{**image, "problem": problem}]
    down_mm, across_mm = image["PixelSpacing"]
    inwards = across * across_mm * (image["Columns"] - columns) / 2 + down * down_mm * (image["Rows"] - rows) / 2
    first = np.array(image["ImagePositionPatient"], float) + inwards
    step = normal / np.linalg.norm(normal) * spacing
    return [
        {
            **image, "Rows": rows, "Columns": columns, "tile": (rows * (k // side), columns * (k % side)),
            "ImagePositionPatient": tuple((first + k * step).tolist()),
        }
        for k in range(n_slices)
    ]


def _csa_facts(dataset):
    """n_slices, normal and spacing of Siemens' private image header, as far as it can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its own reader experimental
        from nibabel.nicom import csareader
    try:
        tags = csareader.get_csa_header(dataset, "image")["tags"]
        values = {name: tags[name]["items"] for name in ("NumberOfImagesInMosaic", "SliceNormalVector") if name in tags}
        spacing = tags.get("SpacingBetweenSlices", {}).get("items") or [None]
    except Exception:  # damaged headers raise much
        return {}
    n_slices, normal = (values.get("NumberOfImagesInMosaic") or [0])[0], values.get("SliceNormalVector")
    usable = isinstance(n_slices, int) and 0 < n_slices <= _MAX_TILES
    normal = normal if normal and len(normal) == 3 and np.isfinite(normal).all() else None
    return {"n_slices": n_slices if usable else None, "normal": normal, "spacing": spacing[0]}


def frame_scales(stack) -> dict:
    """``FrameScales``, where the slices of a single-echo stack are scaled differently; else nothing.

    For each slice the slope and intercept that reading applies, those of the header, and slope, intercept and unit of
    real-world values (1, 0 and None where there are none).
    """
    if not stack or len(stack[0]) > 1:
        return {}
    scales = tuple(
        (image["slope"], image["intercept"], image.get("RescaleSlope", 1), image.get("RescaleIntercept", 0),
         image.get("RealWorldValueSlope", 1), image.get("RealWorldValueIntercept", 0), image.get("RealWorldValueUnits"))
        for image, in stack
    )
    return {"FrameScales": scales} if len(set(scales)) > 1 else {}
