"""Enhanced (multi-frame) MR files written by hand, frame by frame, for tests of reading."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid


def _item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _decimals(values):
    return [f"{float(value) + 0.0:.10g}" for value in values]


def enhanced_dataset(volume, *, shared=True, order=None, echo_times_ms=None, slopes=None, uid="enhanced", number=5):
    """A volume (column, row, slice[, echo]) of stored integers as one Enhanced MR object.

    `shared` puts what all frames have in common into the shared groups, else every frame says it all. `order` is the
    order of the frames, slice by slice with the echoes together unless given. `slopes` are one (slope, intercept) a
    frame.
    """
    stored = np.asarray(volume.array, dtype="<u2")
    stored = stored if stored.ndim == 4 else stored[..., None]
    times = echo_times_ms or volume.echo_times_ms
    matrix = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)[:3]
    across, down, step, first = matrix.T
    lengths = np.linalg.norm([across, down, step], axis=1)
    cells = [(k, e) for k in range(stored.shape[2]) for e in range(stored.shape[3])]
    cells = cells if order is None else [cells[i] for i in order]
    common = {
        "PixelMeasuresSequence": [_item(PixelSpacing=_decimals(lengths[1::-1]), SliceThickness=f"{lengths[2]:.6g}")],
        "PlaneOrientationSequence": [
            _item(ImageOrientationPatient=_decimals([*(across / lengths[0]), *(down / lengths[1])]))
        ],
        "MRTimingAndRelatedParametersSequence": [_item(RepetitionTime="3000", FlipAngle="90", EchoTrainLength=1)],
        "MRImageFrameTypeSequence": [_item(FrameType=["ORIGINAL", "PRIMARY", "T2", "NONE"])],
    }
    frames = []
    for f, (k, e) in enumerate(cells):
        slope, intercept = (1, 0) if slopes is None else slopes[f]
        own = {
            "FrameContentSequence": [
                _item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[1, k + 1, e + 1])
            ],
            "PlanePositionSequence": [_item(ImagePositionPatient=_decimals(first + k * step))],
            "PixelValueTransformationSequence": [
                _item(RescaleSlope=f"{slope:.10g}", RescaleIntercept=f"{intercept:.10g}", RescaleType="US")
            ],
        }
        if times is not None:
            own["MREchoSequence"] = [_item(EffectiveEchoTime=float(times[e]))]
        frames.append(_item(**own, **({} if shared else common)))
    dataset = _item(
        SOPClassUID=EnhancedMRImageStorage, SOPInstanceUID=generate_uid(entropy_srcs=[uid, "instance", str(number)]),
        StudyInstanceUID=generate_uid(entropy_srcs=["study"]), SeriesInstanceUID=generate_uid(entropy_srcs=[uid]),
        FrameOfReferenceUID=generate_uid(entropy_srcs=["frame of reference"]), Modality="MR", Manufacturer="SIEMENS",
        PatientName="Muster^Enhanced", PatientID="S-008", StudyDate="20200101", StudyTime="101500", StudyID="1",
        SeriesNumber=number, InstanceNumber=number, SeriesDescription="t2_mese", PatientPosition="FFS",
        ImageType=["ORIGINAL", "PRIMARY", "T2", "NONE"], PulseSequenceName="se", EchoPulseSequence="SPIN",
        MultipleSpinEcho="YES", MRAcquisitionType="2D", MagneticFieldStrength=3.0, SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2", Rows=stored.shape[1], Columns=stored.shape[0], BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=0, NumberOfFrames=len(cells),
        SharedFunctionalGroupsSequence=[_item(**(common if shared else {}))], PerFrameFunctionalGroupsSequence=frames,
    )
    dataset.add_new("PixelData", "OW", np.stack([stored[:, :, k, e].T for k, e in cells]).tobytes())
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_enhanced(volume, path, **options):
    dataset = enhanced_dataset(volume, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
