"""Enhanced multi-frame files and mosaics: where each fact of a frame comes from, and what is refused."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_enhanced import enhanced_dataset, write_enhanced
from dicom_samples import assert_same_points, small_volume
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import RLELossless, generate_uid

from mrmyo import dicom_pixels
from mrmyo.dicom import DicomError, read_dicom


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def frames_of(dataset):
    return dataset.PerFrameFunctionalGroupsSequence


# -- facts of frames ---------------------------------------------------------------------------------------------------


def test_a_frame_wins_over_the_shared_groups_and_these_over_the_top(tmp_path):
    volume = small_volume(n_echoes=3)
    dataset = enhanced_dataset(volume)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.MREchoSequence = [item(EffectiveEchoTime=99.0)]
    shared.PixelValueTransformationSequence = [item(RescaleSlope="7", RescaleIntercept="7", RescaleType="US")]
    dataset.EchoTime, dataset.RepetitionTime, dataset.RescaleSlope = "77", "1", "5"
    save(dataset, tmp_path / "a.dcm")
    read = read_dicom(tmp_path).volume("multi_echo")
    assert_same_points(read.echo(1), volume.echo(1))
    assert read.echo_times_ms == volume.echo_times_ms and read.meta["RepetitionTime"] == 3000


def test_classic_words_are_filled_in(tmp_path):
    dataset = enhanced_dataset(small_volume(n_echoes=3))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    modifier = {"SpectrallySelectedSuppression": "FAT", "InversionRecovery": "YES", "InversionTimes": [180.0]}
    shared.MRModifierSequence = [item(**modifier)]
    shared.MRImagingModifierSequence = [item(PixelBandwidth="250", TransmitterFrequency=123.2)]
    shared.MRFOVGeometrySequence = [item(InPlanePhaseEncodingDirection="COLUMN")]
    shared.FrameAnatomySequence = [item(FrameLaterality="R")]
    save(dataset, tmp_path / "a.dcm")
    meta = read_dicom(tmp_path).grid(5).meta
    expected = {
        "ScanningSequence": ("SE", "IR"), "ScanOptions": ("FS",), "InversionTime": 180, "PixelBandwidth": 250,
        "ImagingFrequency": 123.2, "InPlanePhaseEncodingDirection": "COL", "ImageLaterality": "R", "FlipAngle": 90,
        "ImageType": ("ORIGINAL", "PRIMARY", "T2", "NONE"),
    }
    assert {key: meta[key] for key in expected} == expected


def test_magnitude_and_phase_of_one_file_are_two_rows(tmp_path):
    volume = small_volume(n_echoes=2)
    dataset = enhanced_dataset(volume, shared=False)
    dataset.MultipleSpinEcho = "NO"
    for f, frame in enumerate(frames_of(dataset)):
        frame.MREchoSequence[0].EffectiveEchoTime = 8.5
        kind = {"FrameType": ["ORIGINAL", "PRIMARY", "T2", "NONE"]}
        frame.MRImageFrameTypeSequence = [item(**kind, ComplexImageComponent=("MAGNITUDE", "PHASE")[f % 2])]
    save(dataset, tmp_path / "a.dcm")
    table = read_dicom(tmp_path)
    assert len(table) == 2 and table["readable"].all()
    phase = next(row for row in table.itertuples() if "PHASE" in row.image_type)
    assert np.array_equal(table.volume(phase.key).array, volume.array[..., 1]) and phase.role == "other"


def test_siemens_own_image_type_tells_more(tmp_path):
    dataset = enhanced_dataset(small_volume(), echo_times_ms=(2.4,), shared=False)
    dataset.EchoPulseSequence, dataset.MultipleSpinEcho = "GRADIENT", "NO"
    for frame in frames_of(dataset):
        private = Dataset()
        block = private.private_block(0x0021, "SIEMENS MR SDI 02", create=True)
        block.add_new(0x75, "CS", ["ORIGINAL", "DIXON", "WATER"])
        frame.add_new(0x002111FE, "SQ", [private])
        frame.private_block(0x0021, "SIEMENS MR SDI 02", create=True)
    save(dataset, tmp_path / "a.dcm")
    assert list(read_dicom(tmp_path)["role"]) == ["water"]


def test_stacks_of_one_file_become_rows(tmp_path):
    volume = small_volume(shape=(7, 6, 8))
    dataset = enhanced_dataset(volume)
    for f, frame in enumerate(frames_of(dataset)):
        frame.FrameContentSequence[0].StackID = "12"[f // 4]
        if f >= 4:  # the second stack lies 200 mm higher and to the side
            frame.PlanePositionSequence[0].ImagePositionPatient = [30, 0, 200 + 8 * f]
    save(dataset, tmp_path / "a.dcm")
    table = read_dicom(tmp_path)
    assert len(table) == 2 and list(table["n_slices"]) == [4, 4]
    arrays = [table.volume(key).array for key in table["key"]]
    assert any(np.array_equal(array, volume.array[:, :, 4:]) for array in arrays)


def test_legacy_converted_objects(tmp_path):
    volume = small_volume(n_echoes=3)
    dataset = enhanced_dataset(volume)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.4"
    del dataset.EchoPulseSequence, dataset.MultipleSpinEcho
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.MRTimingAndRelatedParametersSequence
    shared.UnassignedSharedConvertedAttributesSequence = [item(ScanningSequence="SE", RepetitionTime="2500")]
    for frame in frames_of(dataset):
        time = frame.MREchoSequence[0].EffectiveEchoTime
        del frame.MREchoSequence
        frame.UnassignedPerFrameConvertedAttributesSequence = [item(EchoTime=str(time))]
    save(dataset, tmp_path / "a.dcm")
    read = read_dicom(tmp_path).volume("multi_echo")
    assert np.array_equal(read.array, volume.array) and read.meta["RepetitionTime"] == 2500


# -- refusals ----------------------------------------------------------------------------------------------------------


def spoil(name, dataset):
    frames = frames_of(dataset)
    if name == "a frame undescribed":
        dataset.PerFrameFunctionalGroupsSequence = frames[:-1]
    elif name == "a frame too many":
        dataset.PerFrameFunctionalGroupsSequence = [*frames, frames[3]]
    elif name == "frames without pixels":
        dataset.PixelData = dataset.PixelData[:-100]
    elif name == "no positions":
        for frame in frames:
            del frame.PlanePositionSequence
    elif name == "a slice gone":
        dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = frames[:3] + frames[6:], 12
        length = dataset.Rows * dataset.Columns * 2
        dataset.PixelData = dataset.PixelData[: 3 * length] + dataset.PixelData[6 * length :]
    elif name == "a slope gone mad":
        frames[4].PixelValueTransformationSequence = [item(RescaleSlope="1e999", RescaleIntercept="0")]
    elif name == "one echo":
        for frame in frames:
            frame.MREchoSequence[0].EffectiveEchoTime = 8.5
        keep = list(range(0, 15, 3))
        length = dataset.Rows * dataset.Columns * 2
        dataset.PixelData = b"".join(dataset.PixelData[f * length : (f + 1) * length] for f in keep)
        dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = [frames[f] for f in keep], 5


@pytest.mark.parametrize(("name", "found"), [
    ("a frame undescribed", "describes 14 frames and holds 15"),
    ("a frame too many", "describes 16 frames and holds 15"),
    ("frames without pixels", "holds fewer pixels"), ("no positions", "15 of 15 images lack ImagePositionPatient"),
    ("a slope gone mad", "RescaleSlope of a frame makes no sense"), ("a slice gone", "uneven slice spacing"),
    ("one echo", "one echo only (8.5 ms) of a multiple spin echo"),
])
def test_what_is_no_volume_is_refused(tmp_path, name, found):
    write_enhanced(small_volume(), tmp_path / "good.dcm", echo_times_ms=(8.5,), uid="good", number=1)
    good = pydicom.dcmread(tmp_path / "good.dcm")
    good.MultipleSpinEcho = "NO"
    good.save_as(tmp_path / "good.dcm")
    dataset = enhanced_dataset(small_volume(n_echoes=3), number=6)
    spoil(name, dataset)
    save(dataset, tmp_path / "bad.dcm")
    table = read_dicom(tmp_path).set_index("series")
    assert table.readable[1] and not table.readable[6] and found in table.problem[6]


def test_a_mosaic_without_its_private_header_is_refused(tmp_path):
    data = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / "siemens_dwi_0.dcm.gz"
    (tmp_path / "a.dcm").write_bytes(gzip.decompress(data.read_bytes()))
    assert list(read_dicom(tmp_path)["n_slices"]) == [48]
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(DicomError, match=r"lacks the number of slices, the slice normal; .*keep private tags"):
        read_dicom(tmp_path)


# -- cost --------------------------------------------------------------------------------------------------------------


def test_each_frame_is_decoded_once_and_the_file_never_held_whole(tmp_path, monkeypatch):
    volume = small_volume(shape=(128, 128, 40), n_echoes=6)
    dataset = enhanced_dataset(volume)
    frames = np.frombuffer(dataset.PixelData, "<u2").reshape(-1, 128, 128)
    (tmp_path / "plain").mkdir()
    write_enhanced(volume, tmp_path / "plain" / "a.dcm")
    options = {
        "rows": 128, "columns": 128, "number_of_frames": 1, "samples_per_pixel": 1, "bits_allocated": 16,
        "bits_stored": 16, "photometric_interpretation": "MONOCHROME2", "pixel_representation": 0,
    }
    encoder = get_encoder(RLELossless)
    dataset.PixelData = encapsulate([encoder.encode(frame.tobytes(), **options) for frame in frames])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    save(dataset, tmp_path / "packed" / "a.dcm")
    decoded = []
    real = dicom_pixels.decode_frame
    monkeypatch.setattr(dicom_pixels, "decode_frame", lambda *args: decoded.append(1) or real(*args))
    for name, calls in (("plain", 0), ("packed", 240)):
        table = read_dicom(tmp_path / name)
        tracemalloc.start()
        read = table.volume("multi_echo")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(read.array, volume.array) and len(decoded) == calls
        assert peak < 1.1 * read.array.nbytes  # an allocation count, not a time
