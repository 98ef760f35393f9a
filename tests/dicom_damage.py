"""Damage done to the bytes and the tags of a DICOM file at random; each function takes (bytes, rng) and gives bytes."""

from __future__ import annotations

import pydicom
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

SYNTAXES = [
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
]
ABSURD = {
    "Rows": [0, 1, 32, 34, 65535], "Columns": [0, 1, 35, 37, 65535], "NumberOfFrames": ["0", "-1", "3", "2147483647"],
    "BitsAllocated": [0, 1, 7, 8, 12, 32, 64, 65535], "BitsStored": [0, 1, 17, 65535], "HighBit": [0, 65535],
    "PixelRepresentation": [1, 2, 65535], "SamplesPerPixel": [0, 2, 3, 65535],
    "PixelSpacing": [
        "0\\0", "-1\\1", "nan\\nan", "inf\\1", "1e-30\\1e-30", "1e300\\1e300", "1", "1\\1\\1", "a\\b", "\\",
    ],
    "ImagePositionPatient": ["0\\0\\0", "nan\\nan\\nan", "inf\\0\\0", "1e308\\1e308\\1e308", "0\\0", "", "a\\b\\c"],
    "ImageOrientationPatient": [
        "0\\0\\0\\0\\0\\0", "1\\0\\0\\1\\0\\0", "nan\\0\\0\\0\\1\\0", "2\\0\\0\\0\\2\\0", "1\\0\\0",
        "1e200\\0\\0\\0\\1e200\\0", "0\\1\\0\\1\\0\\0", "-1\\0\\0\\0\\-1\\0", "inf\\0\\0\\0\\1\\0",
    ],
    "EchoTime": ["abc", "1\\2\\3", "nan", "inf", "-8.5", "0", "1e400", "", "8.5 ms", "17", "25.50001"],
    "RescaleSlope": ["0", "nan", "inf", "-1", "abc", "1\\2", "1e300", ""], "RescaleIntercept": ["nan", "abc", "-1e300"],
    "SeriesNumber": ["abc", "1.5", "", "99999999999999", "1\\2", "6"], "InstanceNumber": ["abc", "", "1e9"],
    "SeriesInstanceUID": ["", "1.2", "../../etc", "1.2.3\\1.2.4"], "StudyInstanceUID": ["", "x"],
    "SOPInstanceUID": ["", "1.2"], "SOPClassUID": ["", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4.1", "9"],
    "ImageType": ["", "MOSAIC", "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC", "A" * 500, "\\\\\\"], "Modality": ["", "CT", "OT"],
    "PhotometricInterpretation": ["", "RGB", "PALETTE COLOR", "YBR_FULL_422"], "RepetitionTime": ["nan", "x", "-1"],
    "SpecificCharacterSet": ["", "ISO 2022 IR 149", "no such set", "ISO_IR 100\\ISO 2022 IR 87"],
    "PlanarConfiguration": [1, 7], "BurnedInAnnotation": ["YES"], "PatientPosition": ["???"],
    "EffectiveEchoTime": [-1.0, float("nan"), float("inf"), 0.0, 1e308],
}
VRS = [
    "AE", "AS", "AT", "CS", "DA", "DS", "FL", "FD", "IS", "LO", "OB", "OW", "PN", "SH", "SL", "SQ", "SS", "UI", "UL",
    "UN", "US", "UT", "??", "\0\0",
]
LENGTHS = [0, 1, 2, 7, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


def all_datasets(dataset):
    """The dataset and every item of its sequences, at any depth."""
    found = [dataset]
    for element in dataset:
        if element.VR == "SQ":
            found += [inner for item in element.value for inner in all_datasets(item)]
    return found


def header_end(data):
    """Where the pixels' element begins, in any of the syntaxes that are not deflated; the whole length if unknown."""
    places = [at for tag in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10") if (at := data.rfind(tag)) > 0]
    return max(places, default=len(data))


def elements(data, end):
    """Offsets where an explicit element's VR seems to stand, in the header."""
    known = {vr.encode() for vr in VRS[:22]}
    return [at for at in range(136, min(end, len(data) - 8)) if data[at : at + 2] in known]


def flipped(data, rng, low, high, most=16):
    data = bytearray(data)
    for at in rng.integers(low, max(high, low + 1), rng.integers(1, most + 1)):
        if at < len(data):
            data[at] = rng.choice([data[at] ^ (1 << rng.integers(8)), rng.integers(256), 0, 255, 0x5C, 0x20])
    return bytes(data)


def truncate(data, rng):
    low = 0 if rng.random() < 0.5 else header_end(data)
    return data[: rng.integers(low, max(len(data), low + 1))]


def zeros_from(data, rng):
    """A copy that broke off and was filled up, sometimes far beyond the end."""
    at = rng.integers(150, len(data))
    return data[:at] + bytes(len(data) - at + int(rng.choice([0, 0, 1 << 10, 1 << 20])))


def flip_header(data, rng):
    return flipped(data, rng, 0, header_end(data))


def flip_pixels(data, rng):
    return flipped(data, rng, header_end(data), len(data), most=40)


def flip_digit(data, rng):
    """Another digit in a number written as text: the damage that looks most like sense."""
    end = header_end(data)
    digits = [at for at in range(400, min(end, len(data))) if 48 <= data[at] <= 57]
    if not digits:
        return flip_header(data, rng)
    at = rng.choice(digits)
    return data[:at] + bytes([rng.integers(48, 58)]) + data[at + 1 :]


def wrong_vr(data, rng):
    places = elements(data, header_end(data))
    if not places:
        return flip_header(data, rng)
    at = rng.choice(places)
    return data[:at] + rng.choice(VRS).encode()[:2] + data[at + 2 :]


def wrong_length(data, rng):
    places = elements(data, header_end(data) + 8)
    if not places:
        return flip_header(data, rng)
    at, size = rng.choice(places), int(rng.choice([2, 4]))
    length = int(rng.choice(LENGTHS)) & (2 ** (8 * size) - 1)
    at += 2 if size == 2 else 4
    return data[:at] + length.to_bytes(size, rng.choice(["little", "big"])) + data[at + size :]


def shuffle_bytes(data, rng):
    """A piece cut out, doubled, or put elsewhere."""
    a, b = sorted(rng.integers(0, len(data), 2))
    b = min(b, a + rng.integers(1, 200))
    to = rng.integers(0, len(data))
    return [data[:a] + data[b:], data[:b] + data[a:b] + data[b:], data[:to] + data[a:b] + data[to:]][rng.integers(3)]


def other_syntax(data, rng):
    """The file says of itself that it is written another way."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    own = str(dataset.file_meta.TransferSyntaxUID).encode()
    other = rng.choice([*SYNTAXES, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.201",
                        "1.2.840.10008.1.2.4.50", "1.2.3", ""]).encode()
    width = len(own) + len(own) % 2
    at = data.find(own)
    return data[:at] + other[:width].ljust(width, b"\0") + data[at + width :]


def junk(data, rng):
    kind = rng.integers(4)
    noise = rng.bytes(int(rng.integers(1, 3000)))
    return [b"", noise, data[:132] + noise, data[: header_end(data)] + noise][kind]


def nested(data, rng):
    """Sequences within sequences, to a depth no reader expects, before the pixels or instead of all."""
    depth = int(rng.choice([5, 50, 500, 3000]))
    first = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    deep = first * depth + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * (depth if rng.random() < 0.5 else 0)
    at = 132 + 12 + int.from_bytes(data[140:144], "little")
    return data[:at] + deep + data[at:]


def _saved(dataset):
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def remove_tag(data, rng):
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    for _ in range(rng.integers(1, 4)):
        parts = [part for part in all_datasets(dataset) if len(part)]
        part = parts[rng.integers(len(parts))]
        del part[rng.choice([int(tag) for tag in part])]
    return _saved(dataset)


def absurd_tag(data, rng):
    """A value that makes no sense, where the tag stands (in one frame, too) or, if nowhere, at the top."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    keyword = str(rng.choice(list(ABSURD)))
    value = ABSURD[keyword][rng.integers(len(ABSURD[keyword]))]
    holders = [part for part in all_datasets(dataset) if keyword in part] or [dataset]
    holder = holders[rng.integers(len(holders))]
    vr = pydicom.datadict.dictionary_VR(keyword)
    vr = "US" if vr.startswith("US") else vr
    if isinstance(value, str):  # as text in its own VR, however wrong: written by way of UN bytes
        element = DataElement(pydicom.datadict.tag_for_keyword(keyword), "LO", value.split("\\"))
    else:
        element = DataElement(pydicom.datadict.tag_for_keyword(keyword), vr, value)
    holder[element.tag] = element
    data = _saved(dataset)
    if isinstance(value, str):
        tag = element.tag.group.to_bytes(2, "little") + element.tag.element.to_bytes(2, "little")
        data = data.replace(tag + b"LO", tag + vr.encode())
    return data


def drop_or_double_frame(data, rng):
    """One frame's description too many, too few, or another frame's."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    frames = dataset.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        return remove_tag(data, rng)
    frames, at, other = list(frames), rng.integers(len(frames)), rng.integers(len(frames))
    kind = rng.integers(4)
    if kind == 0:
        del frames[at]
    elif kind == 1:
        frames.insert(at, frames[other])
    elif kind == 2:
        frames[at] = frames[other]
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    if kind == 3:
        dataset.NumberOfFrames = int(dataset.NumberOfFrames) + rng.choice([-3, -1, 1, 3])
    return _saved(dataset)


DAMAGES = [
    truncate, zeros_from, flip_header, flip_pixels, flip_digit, wrong_vr, wrong_length, shuffle_bytes, other_syntax,
    junk, nested, remove_tag, absurd_tag, absurd_tag, drop_or_double_frame,
]
RAW_ONLY = [truncate, zeros_from, flip_header, flip_pixels, shuffle_bytes, junk]  # for a zip file
