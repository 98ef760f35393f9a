"""Real series: a verdict for each, and their places and voxels against GDCM (in SimpleITK), dcm2niix and nibabel."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dicom_readers import LPS_TO_RAS, assert_same_points, dcm2niix_volumes, nibabel_example, simpleitk_volume

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.volume import Volume

# folder: how many volumes it holds, or why it is refused
VERDICTS = {
    "dicom_variety/ge/anatomical/001": 1,
    "dicom_variety/generic/anatomical/001": 1,
    "dicom_variety/generic/anatomical/001_implicit": 1,
    "dicom_variety/generic/anatomical/002_non_isotropic": 1,
    "dicom_variety/generic/compressed/001": 1,
    "dicom_variety/generic/compressed_j2k/001": 1,
    "dicom_variety/generic/compressed_jpeg/001": 1,
    "dicom_variety/generic/compressed_jpegls/001": 1,
    "dicom_variety/generic/compressed_rle/001": 1,
    "dicom_variety/hitachi/anatomical/001": 1,
    "dicom_variety/philips/anatomical/002": 2,  # magnitude and phase under one SeriesInstanceUID
    "dicom_variety/philips_enhanced/anatomical/001": 1,
    "dicom_variety/siemens_multiframe/anatomical/001": 1,
    "knee_multiecho_dicom_ge": 1,
    "dicom_variety/generic/rgb/001": "colour images",
    "dicom_variety/failing/gantrytilting/001": r"modality is CT.*gantry tilt: slices step up to 14\.0°",
    "dicom_variety/failing/notavolume/001": r"modality is CT.*up to 4 images share one slice position",
    "dicom_variety/failing/slicecount/001": "too few slices: found 2",
    "dicom_variety/failing/sliceincrement/001": r"uneven slice spacing: gaps from 5\.000 to 10\.000 mm",
    "dicom_variety/failing/sliceincrement/002": r"uneven slice spacing: gaps from 0\.750 to 1\.499 mm",
    "dicom_variety/failing/sliceorientation/001": r"mixed planes.*90\.0° apart \(axial, sagittal\)",
    "dicom_variety/incomplete_multiecho": "of 3 slice positions found 20 ms: 3, 40 ms: 2, 60 ms: 2",
}
READ = [name for name, verdict in VERDICTS.items() if isinstance(verdict, int)]
REFUSED = [name for name, verdict in VERDICTS.items() if isinstance(verdict, str)]
NO_DCM2NIIX = {"dicom_variety/generic/compressed_jpegls/001"}  # Debian builds it without CharLS


def volumes_of(table):
    """Every readable row as 3-D volumes, one an echo, by echo time; ``meta`` knows the row."""
    found = []
    for row in table[table["readable"]].itertuples():
        volume = table.volume(row.key)
        assert volume.array.dtype == np.float32 and tuple(volume.shape) == tuple(row.shape)
        found += [volume] if volume.array.ndim == 3 else [volume.echo(e) for e in range(volume.array.shape[3])]
    return sorted(found, key=lambda volume: volume.echo_times_ms or (0.0,))


@pytest.mark.realdata
def test_no_folder_is_left_out(real_data):
    roots = ("dicom_variety", "knee_multiecho_dicom_ge")
    files = [path for root in roots for path in (real_data / root).rglob("*") if path.is_file()]
    folders = {str(path.parent.relative_to(real_data)) for path in files if path.name != "LICENSE"}
    assert folders == set(VERDICTS)


@pytest.mark.realdata
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(real_data, name):
    with pytest.raises(DicomError, match=VERDICTS[name]):
        read_dicom(real_data / name)


@pytest.mark.realdata
@pytest.mark.parametrize("name", READ)
def test_read_as_simpleitk_reads_it(real_data, name):
    table = read_dicom(real_data / name)
    assert table["readable"].all() and len(table) == VERDICTS[name]
    for row in table.itertuples():
        volume = table.volume(row.key)
        files = list(dict.fromkeys(table.files(row.key)))
        assert len(files) == row.n_files
        if row.n_echoes == 1:
            assert_same_points(volume, simpleitk_volume(files))
        else:
            for e in range(row.n_echoes):
                assert_same_points(volume.echo(e), simpleitk_volume(files[e::row.n_echoes]))


@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name in READ if name not in NO_DCM2NIIX])
def test_read_as_dcm2niix_reads_it(real_data, system_tool, name):
    ours = volumes_of(read_dicom(real_data / name))
    theirs = dcm2niix_volumes(system_tool("dcm2niix"), real_data / name)
    assert len(ours) == len(theirs)
    if len({volume.echo_times_ms for volume in ours}) < len(ours):  # magnitude and phase: the order means nothing
        ours, theirs = ([*sorted(some, key=lambda volume: volume.array.min())] for some in (ours, theirs))
    for our, their in zip(ours, theirs, strict=True):
        assert_same_points(our, their)
        if their.echo_times_ms and our.echo_times_ms:
            assert our.echo_times_ms == pytest.approx(their.echo_times_ms, abs=0.005)


@pytest.mark.realdata
def test_all_folders_at_once(real_data):
    """A bad series does not stop its neighbours; copies of one image in other syntaxes count once."""
    table = read_dicom(real_data / "dicom_variety")
    alone = {}
    for name in READ:
        if name.startswith("dicom_variety"):
            part = read_dicom(real_data / name)
            alone.update({(row.series, row.manufacturer, row.shape, row.image_type): row for row in part.itertuples()})
    found = {
        (row.series, row.manufacturer, row.shape, row.image_type): row for row in table.itertuples() if row.readable
    }
    assert set(found) == set(alone)
    for row in table[~table["readable"]].itertuples():
        with pytest.raises(DicomError):
            table.volume(row.key)


# -- Siemens mosaics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["siemens_dwi_0", "siemens_dwi_1000"])
def test_mosaic_as_nibabel_and_dcm2niix_read_it(tmp_path, system_tool, name):
    nibabel_example(name).save_as(tmp_path / "mosaic.dcm")
    table = read_dicom(tmp_path)
    (volume,) = volumes_of(table)
    assert volume.shape == (128, 128, 48) and table["n_slices"].tolist() == [48]
    from nibabel.nicom import dicomwrappers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapper = dicomwrappers.wrapper_from_file(tmp_path / "mosaic.dcm")
        theirs = Volume(wrapper.get_data(), LPS_TO_RAS @ wrapper.affine)
    assert_same_points(volume, theirs)
    assert_same_points(volume, dcm2niix_volumes(system_tool("dcm2niix"), tmp_path)[0])


def test_two_mosaics_at_one_place_are_no_volume(tmp_path):
    for name in ("siemens_dwi_0", "siemens_dwi_1000"):
        nibabel_example(name).save_as(tmp_path / name)
    with pytest.raises(DicomError, match="share one slice position"):
        read_dicom(tmp_path)


def test_whole_enhanced_philips_volume(tmp_path, system_tool):
    """176 frames, sagittal; its private copies of the positions lie half a voxel off the standard's."""
    dataset = nibabel_example("philips_mprage")
    dataset.save_as(tmp_path / "all.dcm")
    (volume,) = volumes_of(read_dicom(tmp_path))
    assert volume.shape == (256, 256, 176) and volume.array.max() > 1000
    assert_same_points(volume, simpleitk_volume([tmp_path / "all.dcm"]))
    assert_same_points(volume, dcm2niix_volumes(system_tool("dcm2niix"), tmp_path)[0])
