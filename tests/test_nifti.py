"""NIfTI round trips, against nibabel and SimpleITK as readers and writers of their own."""

from __future__ import annotations

import gzip
import json

import nibabel
import numpy as np
import pytest

from mrmyo.nifti import NiftiError, read_nifti, write_nifti
from mrmyo.volume import Volume

DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", ">i2"]


def oblique_affine(seed=0, spacing=(0.9, 1.3, 7.0)):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(spacing), rng.uniform(-200, 200, 3)
    return affine


def some_volume(dtype="float32", shape=(5, 4, 3), **facts):
    values = np.random.default_rng(2).integers(0, 100, shape).astype(dtype)
    return Volume(values, oblique_affine(), **facts)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_keeps_type_and_voxels(tmp_path, dtype, ending):
    volume = some_volume(dtype)
    before = volume.array.copy()
    again = read_nifti(write_nifti(volume, tmp_path / f"a{ending}"))
    assert again.array.dtype == volume.array.dtype.newbyteorder("=")
    assert np.array_equal(again.array, volume.array) and np.array_equal(volume.array, before)
    assert np.abs(again.affine - volume.affine).max() < 2e-5  # float32 of positions up to 200 mm
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]  # no sidecar without facts, nothing left over


def test_extremes_survive(tmp_path):
    array = np.array([np.nan, np.inf, -np.inf, 1e-40, 3.4e38, -0.0, 1 / 3, 0.1], dtype=np.float32).reshape(2, 2, 2)
    again = read_nifti(write_nifti(Volume(array, np.eye(4)), tmp_path / "a.nii.gz"))
    assert again.array.tobytes("F") == array.tobytes("F")
    mask = np.arange(8).reshape(2, 2, 2) > 3
    again = read_nifti(write_nifti(Volume(mask, np.eye(4)), tmp_path / "m.nii.gz"))
    assert again.array.dtype == np.uint8 and np.array_equal(again.array, mask)


def test_others_read_what_we_write(tmp_path):
    import SimpleITK as sitk

    volume = some_volume()
    path = write_nifti(volume, tmp_path / "a.nii.gz")
    image = nibabel.load(path)
    assert np.array_equal(image.get_fdata(), volume.array) and np.allclose(image.affine, volume.affine, atol=2e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert np.allclose(image.get_qform(), volume.affine, atol=1e-4) and image.header.get_xyzt_units()[0] == "mm"
    theirs = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(theirs).transpose(2, 1, 0), volume.array)
    for corner in [(0, 0, 0), (4, 0, 0), (0, 3, 0), (4, 3, 2)]:
        ras = np.array(theirs.TransformIndexToPhysicalPoint(corner)) * [-1, -1, 1]
        assert ras == pytest.approx((volume.affine @ [*corner, 1])[:3], abs=1e-3)


def test_we_read_what_others_write(tmp_path):
    import SimpleITK as sitk

    volume = some_volume("int16")
    nibabel.save(nibabel.Nifti1Image(volume.array, volume.affine), tmp_path / "nibabel.nii.gz")
    image = sitk.GetImageFromArray(volume.array.transpose(2, 1, 0))
    turn = np.diag([-1, -1, 1]) @ volume.affine[:3, :3]
    image.SetSpacing([float(s) for s in volume.spacing_mm])
    image.SetDirection((turn / volume.spacing_mm).ravel().tolist())
    image.SetOrigin([float(x) for x in np.array([-1, -1, 1]) * volume.affine[:3, 3]])
    sitk.WriteImage(image, str(tmp_path / "sitk.nii.gz"))
    for name in ("nibabel", "sitk"):
        again = read_nifti(tmp_path / f"{name}.nii.gz")
        assert np.array_equal(again.array, volume.array) and again.array.dtype == np.int16
        assert np.abs(again.affine - volume.affine).max() < 1e-3


def test_a_sheared_affine_is_kept_by_the_sform_alone(tmp_path):
    affine = np.diag([1.0, 1.0, 6.0, 1.0])
    affine[1, 2] = 1.5
    path = write_nifti(Volume(np.ones((3, 3, 3), np.float32), affine), tmp_path / "a.nii")
    assert np.array_equal(read_nifti(path).affine, affine)
    assert int(nibabel.load(path).header["qform_code"]) == 0  # a wrong second answer would be worse than none


def test_scaled_integers_and_other_units(tmp_path):
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.diag([0.001, 0.001, 0.005, 1]))
    image.header.set_slope_inter(0.5, 10)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    assert volume.spacing_mm == pytest.approx([1, 1, 5])
    assert np.array_equal(volume.array, nibabel.load(tmp_path / "a.nii").get_fdata())


# -- echo times ----------------------------------------------------------------------------------------------------


def test_echo_times_travel_in_seconds(tmp_path):
    times = tuple(7.7 * n for n in range(1, 18))
    volume = some_volume(shape=(3, 3, 2, 17), echo_times_ms=times, meta={"RepetitionTime": 3000.0, "FlipAngle": 90})
    path = write_nifti(volume, tmp_path / "sub-1_MESE.nii.gz")
    sidecar = json.loads((tmp_path / "sub-1_MESE.json").read_text())
    assert sidecar["EchoTime"][0] == pytest.approx(0.0077) and sidecar["RepetitionTimeExcitation"] == 3.0
    again = read_nifti(path)
    assert again.echo_times_ms == pytest.approx(times, abs=1e-6) and again.echo_times_ms[0] == 7.7
    assert again.meta == {"RepetitionTime": 3000.0, "FlipAngle": 90}
    assert read_nifti(path, range(1, 18)).echo_times_ms[16] == 17  # the argument wins
    single = write_nifti(some_volume(echo_times_ms=(4.6,)), tmp_path / "single.nii")
    assert json.loads((tmp_path / "single.json").read_text()) == {"EchoTime": 0.0046}
    assert read_nifti(single).echo_times_ms == (4.6,)


def test_without_echo_times_a_series_is_still_read(tmp_path):
    path = write_nifti(some_volume(shape=(3, 3, 2, 4)), tmp_path / "a.nii")
    assert read_nifti(path).echo_times_ms is None and read_nifti(path).array.shape == (3, 3, 2, 4)
    with pytest.raises(NiftiError, match="holds 4 volumes but the argument gives 3 echo times"):
        read_nifti(path, [1, 2, 3])


def test_overwriting_leaves_no_stale_echo_times(tmp_path):
    path = tmp_path / "a.nii"
    write_nifti(some_volume(shape=(3, 3, 2, 2), echo_times_ms=(1, 2)), path)
    write_nifti(some_volume("uint8"), path)
    assert read_nifti(path).echo_times_ms is None and not (tmp_path / "a.json").exists()
    (tmp_path / "a.json").write_text('{"TaskName": "rest", "EchoTime": 0.001}')
    write_nifti(some_volume(), path)
    assert json.loads((tmp_path / "a.json").read_text()) == {"TaskName": "rest"}


# -- refusals ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_refused(tmp_path):
    def saved(array):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "x.nii.gz")
        return tmp_path / "x.nii.gz"

    with pytest.raises(NiftiError, match=r"no file nowhere\.nii"):
        read_nifti(tmp_path / "nowhere.nii")
    with pytest.raises(NiftiError, match=r"\(2, 2, 2, 3, 2\).*expected real numbers on 3 or 4 axes"):
        read_nifti(saved(np.ones((2, 2, 2, 3, 2), np.float32)))
    with pytest.raises(NiftiError, match="complex64"):
        read_nifti(saved(np.ones((2, 2, 2), np.complex64)))
    with pytest.raises(NiftiError, match="expected real numbers"):
        read_nifti(saved(np.ones((2, 2), np.float32)))
    (tmp_path / "text.nii").write_text("no image at all " * 50)
    with pytest.raises(NiftiError, match=r"text\.nii is no NIfTI image"):
        read_nifti(tmp_path / "text.nii")
    write_nifti(some_volume(shape=(3, 3, 2, 2), echo_times_ms=(1, 2)), tmp_path / "a.nii")
    (tmp_path / "a.json").write_text('{"EchoTime": [0.001]}')
    with pytest.raises(NiftiError, match="holds 2 volumes but its sidecar gives 1 echo times"):
        read_nifti(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(NiftiError, match=r"a\.json is no JSON object"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path, ending, kept):
    noise = np.random.default_rng(0).normal(size=(30, 30, 20)).astype(np.float32)
    path = write_nifti(Volume(noise, np.eye(4)), tmp_path / f"a{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(NiftiError, match="cut short"):
        read_nifti(path)


def test_what_cannot_be_written_is_refused(tmp_path):
    for array in (np.ones((2, 2, 2), complex), np.ones((2, 2, 2), np.float16), np.full((2, 2, 2), "a")):
        with pytest.raises(NiftiError, match="Cannot store"):
            write_nifti(Volume(array, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(NiftiError, match=r"ends in \.nii or \.nii\.gz"):
        write_nifti(some_volume(), tmp_path / "a.img")
    assert list(tmp_path.iterdir()) == []


def test_same_volume_gives_the_same_bytes(tmp_path):
    one, two = (write_nifti(some_volume(), tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    assert one.read_bytes() == two.read_bytes()  # caches are keyed by hash
    assert gzip.decompress(one.read_bytes())[344:347] == b"n+1"


@pytest.mark.realdata
def test_real_labels_equal_nibabel(real_data):
    path = sorted((real_data / "thigh_labels").glob("*.nii.gz"))[0]
    volume, image = read_nifti(path), nibabel.load(path)
    assert volume.array.dtype == np.uint8 and np.array_equal(volume.array, np.asarray(image.dataobj))
    assert np.array_equal(volume.affine, image.affine)
