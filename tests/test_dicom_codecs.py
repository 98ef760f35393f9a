"""Compressed frames: values as encoded, and streams that contradict their file's header never reach a decoder."""

from __future__ import annotations

import subprocess

import numpy as np
import pydicom
import pytest
from dicom_readers import transcode
from dicom_samples import small_volume, write
from pydicom.encaps import encapsulate, generate_frames

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.dicom_codecs import StreamError, decode_frame

SYNTAXES = {
    "rle": "1.2.840.10008.1.2.5", "jpeg_lossless": "1.2.840.10008.1.2.4.70", "jpeg_ls": "1.2.840.10008.1.2.4.80",
    "jpeg_2000": "1.2.840.10008.1.2.4.90",
}


def frame_of(tmp_path, name):
    """One compressed frame, its layout, and its pixels."""
    path = write(small_volume(shape=(36, 33, 3)), tmp_path / "a")[0]
    target = tmp_path / "packed.dcm"
    transcode(path, target, SYNTAXES[name])
    dataset = pydicom.dcmread(target)
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    layout = {
        "syntax": SYNTAXES[name], "rows": 33, "columns": 36, "frames": 1, "allocated": 16, "stored": 16, "high": 15,
        "signed": 0,
    }
    return stream, layout, pydicom.dcmread(path).pixel_array


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_frame_returns_its_pixels_and_no_other_size(tmp_path, name):
    stream, layout, pixels = frame_of(tmp_path, name)
    assert np.array_equal(decode_frame(stream, layout), pixels)
    with pytest.raises(Exception, match=r"compressed stream|RLE|[Ff]rame|length"):
        decode_frame(stream, {**layout, "rows": 36, "columns": 33 if name != "rle" else 40})
    for start in (b"", stream[:30], b"\x09" + stream[1:]):
        with pytest.raises((StreamError, ValueError, RuntimeError)):
            decode_frame(start, layout)


def test_a_cut_jpeg_ls_stream_is_refused_at_once(tmp_path):
    stream, layout, _ = frame_of(tmp_path, "jpeg_ls")
    with pytest.raises(StreamError, match="cut short"):
        decode_frame(stream[: len(stream) // 2], layout)


def test_an_odd_comment_does_not_reach_gdcm(tmp_path):
    stream, layout, pixels = frame_of(tmp_path, "jpeg_lossless")
    odd = stream[:2] + b"\xff\xe0\x00\x10JFIF\x00\x7c\x01\x00\x00\x78\x00\x01\x00\x00" + stream[2:]
    assert np.array_equal(decode_frame(odd, layout), pixels)  # GDCM would end the process over this version


@pytest.mark.parametrize("option", ["+el", "+e1"])
@pytest.mark.parametrize("signed", [0, 1])
def test_lossless_jpeg_of_dcmtk(tmp_path, system_tool, option, signed):
    values = np.random.default_rng(2).integers(-2000 * signed, 2000, (5, 33, 36)).astype(np.int16)
    for path, value in zip(write(small_volume(shape=(36, 33, 5)), tmp_path / "a"), values, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.PixelData, dataset.PixelRepresentation = value.tobytes(), signed
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.save_as(path)
        subprocess.run([system_tool("dcmcjpeg"), option, str(path), str(path)], check=True, capture_output=True)
    assert np.array_equal(read_dicom(tmp_path).volume(5).array, values.transpose(2, 1, 0))


def test_a_damaged_frame_is_named_by_its_place(tmp_path):
    for path in write(small_volume(shape=(36, 33, 4)), tmp_path / "a"):
        transcode(path, path, SYNTAXES["rle"])
    dataset = pydicom.dcmread(path)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([b"\x09" + frame[1:]])
    dataset.save_as(path)
    with pytest.raises(DicomError, match=r"series 5, slice 4 of 4, echo 1 of 1.*the RLE header is damaged"):
        read_dicom(tmp_path).volume(5)
