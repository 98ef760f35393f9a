"""Decoding one compressed frame: RLE, lossless and lossy JPEG, JPEG-LS, JPEG 2000.

Decoders are C code, and a damaged stream can end the whole process there (GDCM does). So each stream's own header is
walked first and must agree with the file's; only then one named decoder sees it: pydicom (RLE), CharLS (JPEG-LS),
OpenJPEG (JPEG 2000), GDCM (lossless JPEG), Pillow (lossy JPEG of 8 bits).
"""

from __future__ import annotations

import io
import struct
from importlib.util import find_spec

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID

__all__ = ["LOSSY", "StreamError", "can_decode", "decode_frame", "values"]

_J = "1.2.840.10008.1.2.4."
_RLE, _JPEG_LS = {"1.2.840.10008.1.2.5"}, {_J + "80", _J + "81"}
_LOSSLESS, _BASELINE = {_J + "57", _J + "70"}, {_J + "50", _J + "51"}
_JPEG_2000 = {_J + "90", _J + "91", _J + "201", _J + "202", _J + "203"}
LOSSY = {_J + "50", _J + "51", _J + "81"}  # always; JPEG 2000 (.91, .203) may or may not be
_PACKAGES = {"jpeg_ls": _JPEG_LS, "gdcm": _LOSSLESS, "PIL": _BASELINE, "openjpeg": _JPEG_2000}


_COMMENTS = {*range(0xE0, 0xF0), 0xFE}  # APPn and COM


class StreamError(ValueError):
    """What is wrong with a stream, in words that hold no patient's name."""


def can_decode(syntax, bits) -> bool:
    """Whether frames of this compressed transfer syntax can be decoded here; lossy JPEG only of 8 bits."""
    if syntax in _BASELINE and bits > 8:
        return False
    packages = [package for package, syntaxes in _PACKAGES.items() if syntax in syntaxes]
    return syntax in _RLE or (bool(packages) and find_spec(packages[0]) is not None)


def decode_frame(stream, layout) -> np.ndarray:
    """Stored values, shaped (rows, columns), of one compressed frame.

    Raises
    ------
    StreamError
        When the stream is damaged or does not hold what the file's header announces; decoders may raise others.
    """
    syntax, shape = layout["syntax"], (layout["rows"], layout["columns"])
    if syntax in _RLE:
        pixels = _rle(stream, layout)
    elif syntax in _JPEG_2000:
        pixels = _jpeg_2000(stream, layout)
    else:
        precision, stream = _checked_jpeg(stream, layout)
        if syntax in _BASELINE:
            from PIL import Image

            with Image.open(io.BytesIO(stream)) as image:
                pixels = np.asarray(image)
        else:
            plugin = "pyjpegls" if syntax in _JPEG_LS else "gdcm"
            pixels = _with_pydicom(stream, layout, plugin, bits_stored=precision)
    if pixels.shape != shape:
        raise StreamError(f"the compressed stream holds pixels shaped {pixels.shape}")
    return pixels


def values(raw, layout) -> np.ndarray:
    """Stored values of unsigned words: the bits from HighBit down, with sign; overlays beside them are cut off."""
    size, bits = layout["allocated"] // 8, layout["stored"]
    raw = raw.astype(f"=u{size}", copy=False)
    if bits == layout["allocated"]:
        return raw.view(f"=i{size}") if layout["signed"] else raw
    raw = np.left_shift(raw, layout["allocated"] - 1 - layout["high"])  # the value's highest bit to the top
    return np.right_shift(raw.view(f"=i{size}") if layout["signed"] else raw, layout["allocated"] - bits)


def _with_pydicom(stream, layout, plugin, **options):
    options = {
        "rows": layout["rows"], "columns": layout["columns"], "number_of_frames": 1, "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2", "pixel_representation": layout["signed"],
        "bits_allocated": layout["allocated"], "bits_stored": layout["stored"], "pixel_keyword": "PixelData", **options,
    }
    decoder = get_decoder(UID(layout["syntax"]))
    return decoder.as_array(encapsulate([stream], has_bot=False), raw=True, decoding_plugin=plugin, **options)[0]


def _rle(stream, layout):
    size = layout["rows"] * layout["columns"] * layout["allocated"] // 8
    if len(stream) < 64 or struct.unpack_from("<I", stream)[0] != layout["allocated"] // 8:
        raise StreamError("the RLE header is damaged")
    if len(stream) * 64 < size:  # two bytes become 128 at most
        raise StreamError("the RLE stream is cut short")
    words = {"bits_stored": layout["allocated"], "pixel_representation": 0}  # HighBit and overlays are seen to after
    pixels = _with_pydicom(stream, layout, "pydicom", **words)
    return values(pixels.ravel(), layout).reshape(pixels.shape)


def _jpeg_2000(stream, layout):
    import openjpeg

    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)  # within a JP2 box where some put one
    if start < 0 or len(stream) < start + 43:
        raise StreamError("the compressed stream has no header")
    right, lower, left, upper = struct.unpack_from(">4I", stream, start + 8)
    components, depth = struct.unpack_from(">HB", stream, start + 40)
    precision = (depth & 0x7F) + 1
    _agree((lower - upper, right - left, components, precision), layout)
    pixels = openjpeg.decode(bytes(stream[start:]), j2k_format=0)
    # the stream's own sign may differ from the file's, which counts
    words = pixels.astype(f"=u{layout['allocated'] // 8}")
    return values(words, {**layout, "stored": precision, "high": precision - 1})


def _agree(found, layout):
    rows, columns, components, precision = found
    expected = (layout["rows"], layout["columns"], 1)
    # GDCM ends the process over 32 bits allocated for fewer in the stream
    fits = 2 <= precision <= layout["allocated"] <= 16
    if (rows, columns, components) != expected or not fits:
        raise StreamError(
            f"the compressed stream holds {columns} × {rows} pixels of {components} × {precision} bits; its file's "
            f"header says {layout['columns']} × {layout['rows']} of {layout['allocated']}"
        )


def _checked_jpeg(stream, layout):
    """The bits of a pixel and the stream without comments, when every marker up to its scan is well formed."""
    if layout["syntax"] in _JPEG_LS and not stream[-64:].rstrip(b"\0").endswith(b"\xff\xd9"):
        raise StreamError("the compressed stream is cut short")  # CharLS reads on for seconds
    frames = {0xF7} if layout["syntax"] in _JPEG_LS else {0xC3} if layout["syntax"] in _LOSSLESS else {0xC0, 0xC1, 0xC2}
    place, precision, tables, kept = 2, None, False, [bytes(stream[:2])]
    while stream[:2] == b"\xff\xd8" and place + 4 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], struct.unpack_from(">H", stream, place + 2)[0]
        segment = stream[place + 4 : place + 2 + length]
        if length < 2 or place + 2 + length > len(stream):
            break
        if marker in frames and precision is None and len(segment) == 9:
            precision, *size = struct.unpack_from(">BHHB", segment)
            _agree((*size, precision), layout)
        elif marker == 0xC4:
            tables = _huffman(segment, *((17, 16) if layout["syntax"] in _LOSSLESS else (256, 255)))
            if not tables:
                break
        elif marker == 0xDA:
            if precision is None or (layout["syntax"] in _LOSSLESS and not (tables and _lossless_scan(segment))):
                break
            return precision, b"".join([*kept, stream[place:]])
        elif marker not in _COMMENTS and marker not in (0xDD, 0xDB, 0xF8):
            break
        if marker not in _COMMENTS:  # GDCM ends the process over an odd version of JFIF
            kept.append(stream[place : place + 2 + length])
        place += 2 + length
    raise StreamError("the compressed stream's header is damaged")


def _lossless_scan(segment):
    return len(segment) == 6 and segment[0] == 1 and 1 <= segment[3] <= 7


def _huffman(segment, most, highest):
    """Whether the Huffman tables of a segment are complete, with `most` codes and no value above `highest`."""
    place = 0
    while place < len(segment):
        counts = segment[place + 1 : place + 17]
        total, code = sum(counts), 0
        if len(counts) < 16 or not 0 < total <= most or len(segment) < place + 17 + total:
            return False
        for bits, count in enumerate(counts, start=1):
            code += count
            if code > 1 << bits:
                return False
            code <<= 1
        if max(segment[place + 17 : place + 17 + total]) > highest:
            return False
        place += 17 + total
    return place > 0
