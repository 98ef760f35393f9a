"""Independent readers of DICOM (GDCM in SimpleITK, dcm2niix, nibabel) as Volumes, and how two Volumes are compared."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import subprocess
import tempfile
from pathlib import Path

import gdcm
import nibabel
import numpy as np
import openjpeg
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from mrmyo.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def simpleitk_volume(files) -> Volume:
    """The files of one stack, ordered along their normal by GDCM itself; one multi-frame file is read as it is."""
    import SimpleITK as sitk

    files = [str(path) for path in files]
    if len(files) == 1:
        image = sitk.ReadImage(files[0])
    else:
        with tempfile.TemporaryDirectory() as folder:  # GDCM sorts only what lies in one folder of its own
            for number, path in enumerate(files):
                (Path(folder) / f"{number:05d}").symlink_to(Path(path).resolve())
            found = {
                name for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder)
                for name in [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, uid)]
            }
            assert len(found) == 1, "GDCM sees several series"
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(found.pop())
            image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS_TO_RAS @ affine)


def dcm2niix_volumes(tool, folder) -> list[Volume]:
    """Every 3-D image that dcm2niix makes of a folder, ascending by echo time; ``meta`` holds its sidecar.

    `-p n` keeps the standard's rescale slope (Philips' display values); `-m n` merges nothing by itself.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [tool, "-z", "n", "-b", "y", "-m", "n", "-p", "n", "-f", "%s_%e_%u_%r", "-o", out, str(folder)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120)
        volumes = []
        for path in sorted(Path(out).glob("*.nii")):
            sidecar = json.loads(path.with_suffix(".json").read_text())
            image = nibabel.load(path)
            array = np.asarray(image.dataobj)
            arrays = [array] if array.ndim == 3 else list(np.moveaxis(array, 3, 0))
            times = sidecar.get("EchoTime")
            volumes += [
                Volume(part, image.affine, None if times is None else (1000 * times,), sidecar) for part in arrays
            ]
    assert volumes, f"dcm2niix made nothing of the folder:\n{told.stdout[-2000:]}"
    return sorted(volumes, key=lambda volume: volume.echo_times_ms or (0.0,))


def assert_same_points(ours: Volume, theirs: Volume, *, tolerance_mm=0.01, relative=1e-6):
    """Every voxel has the same value at the same place, whatever the order and direction of the axes."""
    matrix = np.linalg.inv(ours.affine) @ theirs.affine
    turn = np.rint(matrix[:3, :3]).astype(int)
    assert np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]), f"the grids differ:\n{matrix}"
    start = np.rint(matrix[:3, 3]).astype(int)
    assert ours.array.ndim == theirs.array.ndim == 3
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in theirs.shape])))
    own = corners @ turn.T + start
    assert (own.min(axis=0) == 0).all() and tuple(own.max(axis=0) + 1) == ours.shape
    places = [np.column_stack([at, np.ones(8)]) @ volume.affine.T for at, volume in ((own, ours), (corners, theirs))]
    assert np.abs(places[0] - places[1]).max() < tolerance_mm, f"up to {np.abs(places[0] - places[1]).max():.4f} mm off"
    # the array of ours seen along their axes: no copy of an index per voxel
    axes = [int(np.flatnonzero(turn[:, axis])[0]) for axis in range(3)]
    seen = ours.array.transpose(axes)[tuple(slice(None, None, turn[a, axis]) for axis, a in enumerate(axes))]
    scale = np.abs(theirs.array).max()
    assert np.abs(seen.astype(float) - theirs.array).max() <= relative * scale, "the voxels differ"


def transcode(source, target, syntax):
    """Write a DICOM file in another transfer syntax: JPEG 2000 by OpenJPEG, the rest by GDCM."""
    if str(syntax) == JPEG2000Lossless:  # GDCM's own encoder writes beyond its memory where an image is small
        dataset = pydicom.dcmread(source)
        stream = openjpeg.encode(dataset.pixel_array, bits_stored=dataset.BitsStored, codec_format=0)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.save_as(target)
        return
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def nibabel_example(name):
    """A real DICOM file that nibabel ships, as a dataset.

    Most had their pixels blanked at the source; those are drawn here, so that another picture lies in every tile of a
    mosaic and in every frame.
    """
    path = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / f"{name}.dcm.gz"
    dataset = pydicom.dcmread(io.BytesIO(gzip.decompress(path.read_bytes())))
    pixels = np.frombuffer(dataset.PixelData, "<u2")
    if pixels.max() == 0:
        dataset.PixelData = np.random.default_rng(4).integers(0, 4096, pixels.size).astype("<u2").tobytes()
    return dataset
