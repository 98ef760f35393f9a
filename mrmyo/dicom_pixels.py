"""Pixels of DICOM files: found, checked against what the header announces, decoded a frame at a time, rescaled.

Uncompressed pixels are read straight from their place in the file, compressed ones by `mrmyo.dicom_codecs`.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from mrmyo.dicom_codecs import StreamError, can_decode, decode_frame, values
from mrmyo.dicom_geometry import DicomError
from mrmyo.dicom_sources import open_binary

__all__ = ["comparable", "has_decoder", "inflated", "pixel_layout", "read_stack"]

NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
_MAX_PIXELS = 1 << 26  # one image of 8192 × 8192; a header that announces more is damaged
_MAX_INFLATED = 64  # times its own size, and 64 MiB: more than any image gains by deflation
# how many times smaller than its pixels a compressed file may be; other codecs may shrink an empty image to nothing
_MAX_RATIO = {RLELossless: 64, JPEGLossless: 32, JPEGLosslessSV1: 32}
_MAX_EMPTY = 64 << 20


def inflated(file):
    """The header and the inflated dataset of a deflated file, as a file in memory that says it is not deflated."""
    start = file.read(144)
    group_length = struct.unpack_from("<I", start, 140)[0]
    meta = file.read(group_length)
    packed = file.read()
    limit = _MAX_INFLATED * len(packed) + (64 << 20)
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
    deflated, plain = (uid.encode() for uid in (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian))
    return io.BytesIO(start + meta.replace(deflated, plain.ljust(len(deflated), b"\0"), 1) + data)


def pixel_layout(file, size, facts, syntax) -> tuple[dict, str]:
    """Where and how the pixels of a file are stored, and what is wrong with them ('' if nothing).

    `file` stands at the pixel element, `size` is that of the whole file, `facts` are its header's.
    """
    rows, columns = facts.get("Rows", 0), facts.get("Columns", 0)
    frames, allocated = facts.get("NumberOfFrames", 1), facts.get("BitsAllocated", 16)
    stored = facts.get("BitsStored", allocated)
    layout = {
        "syntax": str(syntax), "rows": rows, "columns": columns, "frames": frames, "allocated": allocated,
        "stored": stored, "high": facts.get("HighBit", stored - 1), "signed": facts.get("PixelRepresentation", 0),
    }
    if frames < 1 or not 0 < rows * columns <= _MAX_PIXELS:
        return layout, f"no usable geometry: {columns} × {rows} pixels in {frames} frames"
    usual = allocated in (8, 16, 32) and layout["signed"] in (0, 1)
    if not usual or not 1 <= stored <= layout["high"] + 1 <= allocated:
        return layout, f"pixels of {stored} bits (highest bit {layout['high']}) in {allocated}; expected 8, 16 or 32"
    header = file.read(12)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    if len(header) < 8 or struct.unpack(order + "HH", header[:4]) != (0x7FE0, 0x0010):
        return layout, "a file holds no pixels (cut short in its header, or pixels stored as fractions)"
    explicit = header[4:6].isalpha() and header[4:6].isupper()
    length = struct.unpack_from(order + "I", header, 8 if explicit else 4)[0]
    layout |= {"offset": file.tell() - len(header) + (12 if explicit else 8), "words": header[4:6] == b"OW"}
    expected = rows * columns * facts.get("SamplesPerPixel", 1) * frames * allocated // 8
    if syntax not in NATIVE:
        most = (size - layout["offset"]) * _MAX_RATIO.get(syntax, 4096)
        if expected > (most if syntax in _MAX_RATIO else max(most, _MAX_EMPTY)):
            return layout, "a file is cut short: its compressed pixels cannot fill the matrix that its header announces"
        return layout, "" if length == 0xFFFFFFFF else "compressed pixels that are not packed as such; export again"
    if size - layout["offset"] < expected or length < expected:
        return layout, "a file is cut short: it holds fewer pixels than its header announces"
    if length != 0xFFFFFFFF and length - expected >= columns * allocated // 8:
        return layout, "a file holds more pixels than its header announces; its matrix or number of frames is wrong"
    return layout, "" if length != 0xFFFFFFFF else "a file's pixels do not fit its transfer syntax; export again"


def has_decoder(syntax, bits) -> bool:
    """Whether pixels of this transfer syntax and so many bits can be read here."""
    return UID(syntax) in NATIVE or can_decode(str(syntax), bits)


def comparable(stack) -> tuple[list, list[str]]:
    """The stack with slopes that make its images comparable with each other, and what there is to say of it.

    Voxels are displayed values, stored × RescaleSlope + RescaleIntercept. Philips scales display by a further number
    (2005,100E), which may differ between the images of one series: signal is displayed value / (RescaleSlope × scale)
    (Chenevert et al., Transl Oncol 2014;7:65-71, PMC3998685). Where that product is one for all images, as it nearly
    always is, nothing changes; where it is not, each image is brought to the first one's, so that a decay is a decay.
    """
    images = [image for echoes in stack for image in echoes]
    philips = "philips" in images[0].get("Manufacturer", "").lower()
    if not philips or len({image["slope"] for image in images}) == 1 == len({image.get("scale") for image in images}):
        return stack, []
    if any(not image.get("scale") for image in images):
        return stack, ["rescale slopes differ between images and the private Philips scale is gone: check its decay"]
    factors = np.array([image["slope"] * image["scale"] for image in images])
    factors = factors[0] / factors
    if np.abs(factors - 1).max() < 1e-3:
        return stack, []
    scaled = iter([
        {**image, "slope": image["slope"] * factor, "intercept": image["intercept"] * factor}
        for image, factor in zip(images, factors.tolist(), strict=True)
    ])
    stack = [[next(scaled) for _ in echoes] for echoes in stack]
    return stack, ["its images had different private Philips scales and were brought to the first one's"]


def read_stack(stack, shape, name) -> np.ndarray:
    """The voxels of one series.

    Every file is opened once and every frame decoded once, one at a time: beyond the result, no more than one frame
    (and one deflated file) is in memory.

    Parameters
    ----------
    stack : list of list of dict
        Images, by slice and echo: path, layout, frame, tile (or None), slope, intercept.
    shape : tuple of int
        Columns and rows.
    name : str
        Names the series in an error.

    Returns
    -------
    numpy.ndarray
        float32, shaped (column, row, slice, echo); columns lie next to each other in memory, as in the files.

    Raises
    ------
    DicomError
        When a file is gone or its pixels cannot be decoded.
    """
    columns, rows = shape
    try:
        array = np.empty((len(stack[0]), len(stack), rows, columns), dtype=np.float32)
    except MemoryError:
        size = len(stack[0]) * len(stack) * rows * columns * 4 / 2**30
        raise DicomError(f"The voxels of {name} take {size:.1f} GiB; expected that they fit in memory.") from None
    wanted = {}  # path → frame → images with the slice and echo they are for
    for k, echoes in enumerate(stack):
        for e, image in enumerate(echoes):
            wanted.setdefault(image["path"], {}).setdefault(image["frame"], []).append((k, e, image))
    for path, of_frame in wanted.items():
        k, e, image = next(iter(of_frame.values()))[0]
        where = f"{name}, slice {k + 1} of {len(stack)}, echo {e + 1} of {len(stack[0])}"
        for frame, stored in _frames(path, image["layout"], sorted(of_frame), where):
            for k, e, image in of_frame[frame]:
                top, left = image["tile"] or (0, 0)
                part = stored[top : top + rows, left : left + columns]
                if part.shape != (rows, columns):
                    raise DicomError(f"The pixels of {where} are shaped {part.shape}; expected {(rows, columns)}.")
                out = array[e, k]
                if (image["slope"], image["intercept"]) == (1, 0):
                    out[...] = part
                else:  # in double precision, then rounded once
                    out[...] = part * np.float64(image["slope"]) + image["intercept"]
    return array.transpose(3, 2, 1, 0)


def _frames(path, layout, frames, where):
    """(frame, 2-D array of stored values) for each of the frames asked for, in order."""
    try:
        file, _ = open_binary(path)
        with file:
            if layout["syntax"] == DeflatedExplicitVRLittleEndian:
                file = inflated(file)
            file.seek(layout["offset"])
            read = _native_frames if UID(layout["syntax"]) in NATIVE else _encapsulated_frames
            yield from read(file, layout, frames)
    except DicomError:
        raise
    except Exception as error:  # decoders raise whatever they like
        kind = f"{type(error).__name__}: {error}" if isinstance(error, StreamError) else type(error).__name__
        raise DicomError(f"The pixels of {where} cannot be decoded ({kind}); export the series again.") from None


def _native_frames(file, layout, frames):
    order = ">" if layout["syntax"] == ExplicitVRBigEndian else "<"
    shape, size = (layout["rows"], layout["columns"]), layout["allocated"] // 8
    length = shape[0] * shape[1] * size
    swapped = order == ">" and size == 1 and layout["words"]  # bytes stored as big-endian words
    if swapped and length % 2:
        raise StreamError("an odd number of bytes in big-endian words")
    for frame in frames:
        file.seek(layout["offset"] + frame * length)
        data = file.read(length)
        if len(data) < length:
            raise StreamError("the file is cut short")
        raw = np.frombuffer(data, f"{order}u{size}")
        raw = np.frombuffer(data, ">u2").astype("<u2").view("u1") if swapped else raw
        yield frame, values(raw, layout).reshape(shape)


def _encapsulated_frames(file, layout, frames):
    wanted, count = set(frames), 0
    for frame, stream in enumerate(generate_frames(file, number_of_frames=layout["frames"])):
        if frame > frames[-1]:
            break
        if frame in wanted:
            count += 1
            yield frame, decode_frame(stream, layout)
    if count < len(frames):
        raise StreamError("the file is cut short")
