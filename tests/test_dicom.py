"""Reading and writing DICOM, against SimpleITK's reader, dciodvfy and volumes whose place is known."""

from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.dicom_roles import series_role
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.volume import Volume

STUDY = {
    "PatientName": "Muster^Änne", "PatientID": "S-007", "PatientSex": "F", "PatientAge": "045Y",
    "StudyDate": "20200101", "StudyTime": "101500", "StudyID": "1", "PatientPosition": "FFS",
    "Manufacturer": "Synthetic", "ManufacturerModelName": "Model", "MagneticFieldStrength": 3.0,
    "ImagedNucleus": "1H", "ImagingFrequency": 123.2,
}
MESE = {
    "SeriesNumber": 5, "SeriesDescription": "t2_mese", "ScanningSequence": "SE", "SequenceVariant": "SK",
    "ScanOptions": "FS", "RepetitionTime": 3000.0, "SliceThickness": 6.0, "SpacingBetweenSlices": 8.0, "FlipAngle": 90,
    "AcquisitionMatrix": [0, 254, 84, 0], "NumberOfPhaseEncodingSteps": 84, "PixelBandwidth": 300,
    "InPlanePhaseEncodingDirection": "COL",
}


def small_volume(affine=None, *, shape=(7, 6, 5), n_echoes=None, seed=1):
    values = np.random.default_rng(seed).integers(0, 4000, shape if n_echoes is None else (*shape, n_echoes))
    affine = np.diag([-1.5, -2.5, 8.0, 1.0]) if affine is None else affine
    return Volume(values.astype(np.uint16), affine, n_echoes and tuple(8.5 * np.arange(1, n_echoes + 1)))


def write(volume, folder, image_type=("ORIGINAL", "PRIMARY", "OTHER"), **series):
    return write_dicom_series(volume, folder, study=STUDY, series={**MESE, **series}, image_type=image_type)


def edit(path, **changes):
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def assert_same_points(ours, theirs, tolerance_mm=0.01):
    """Every voxel has the same value at the same place, whatever the order of the axes."""
    matrix = np.linalg.inv(ours.affine) @ theirs.affine
    turn = np.rint(matrix[:3, :3]).astype(int)
    assert np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1])
    index = np.indices(theirs.shape).reshape(3, -1)
    mapped = turn @ index + np.rint(matrix[:3, 3]).astype(int)[:, None]
    assert sorted(ours.shape) == sorted(theirs.shape)
    corners = list(itertools.product(*[(0, n - 1) for n in theirs.shape]))
    for corner in corners:
        own = turn @ corner + np.rint(matrix[:3, 3])
        distance = ours.affine @ [*own, 1] - theirs.affine @ [*corner, 1]
        assert np.abs(distance).max() < tolerance_mm
    assert np.array_equal(ours.array[tuple(mapped)], theirs.array[tuple(index)])


# -- real series against SimpleITK ---------------------------------------------------------------------------------


def sitk_volume(files):
    """What SimpleITK's reader makes of the files in this order, with the affine turned from LPS to RAS+."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(array.astype(np.float32), np.diag([-1, -1, 1, 1]) @ affine)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [
    "ge/anatomical/001", "generic/anatomical/001", "generic/anatomical/001_implicit",
    "generic/anatomical/002_non_isotropic", "generic/compressed_rle/001", "hitachi/anatomical/001",
])
def test_real_series_equal_simpleitk(real_data, name):
    import SimpleITK as sitk

    folder = real_data / "dicom_variety" / name
    table = read_dicom(folder)
    assert table["readable"].all() and len(table) == 1
    # GDCM sorts the files itself, so that the slice order too is checked
    theirs = sitk_volume(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert_same_points(table.volume(int(table["series"].iloc[0])), theirs)


@pytest.mark.realdata
def test_ge_multi_echo_equals_simpleitk(real_data):
    table = read_dicom(real_data / "knee_multiecho_dicom_ge")
    row = table.iloc[0]
    assert (row["role"], row["n_slices"], row["n_echoes"], row["plane"]) == ("multi_echo", 6, 8, "sagittal")
    assert row["spacing_mm"] == pytest.approx((0.625, 0.625, 4.0), abs=1e-5)  # 3 mm slices, 4 mm apart
    volume = table.volume("multi_echo")
    assert volume.array.shape == (256, 256, 6, 8) and volume.array.dtype == np.float32
    assert volume.echo_times_ms == pytest.approx(6.312 * np.arange(1, 9))
    files = table.files("multi_echo")
    for echo in range(8):
        assert_same_points(volume.echo(echo), sitk_volume(files[echo::8]))


@pytest.mark.realdata
def test_magnitude_and_phase_of_one_series_are_two_rows(real_data):
    table = read_dicom(real_data / "dicom_variety" / "philips")
    assert len(table) == 2 and table["readable"].all()
    with pytest.raises(DicomError, match=r"2 rows have series number 501.*SW_M_FFE.*SW_P_FFE"):
        table.volume(501)
    phase = table[["SW_P" in kind for kind in table["image_type"]]]
    assert_same_points(phase.volume(501), sitk_volume(phase.files(501)))


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "found"), [
    ("failing/gantrytilting", r"modality is CT.*gantry tilt: slices step up to 14\.0°"),
    ("failing/notavolume", "up to 4 images share one slice position"),
    ("failing/slicecount", "too few slices: found 2"),
    ("failing/sliceincrement/001", r"uneven slice spacing: gaps from 5\.000 to 10\.000 mm"),
    ("failing/sliceincrement/002", r"uneven slice spacing: gaps from 0\.750 to 1\.499 mm"),
    ("failing/sliceorientation", r"mixed planes.*90\.0° apart \(axial, sagittal\)"),
    ("incomplete_multiecho", "missing slices at some echoes: of 3 slice positions found 20 ms: 3, 40 ms: 2, 60 ms: 2"),
    ("generic/rgb", "colour images"),
    ("philips_enhanced", "multi-frame"),
])
def test_what_is_no_volume_is_refused_by_name(real_data, name, found):
    with pytest.raises(DicomError, match=found):
        read_dicom(real_data / "dicom_variety" / name)


# -- places ----------------------------------------------------------------------------------------------------------

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3)))


@pytest.mark.parametrize(("order", "signs"), ORDERS, ids=[f"{o}{s}" for o, s in ORDERS])
def test_every_orientation_returns_to_the_same_points(tmp_path, order, signs):
    seed = ORDERS.index((order, signs))
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
    turn *= np.sign(np.diag(turn))  # QR may flip an axis; keep the drawn direction near the nominal one
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, order] * signs) @ np.diag([1.5, 2.5, 8.0])
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    volume = small_volume(affine, seed=seed)
    write(volume, tmp_path / "series")
    assert_same_points(read_dicom(tmp_path).volume(5), volume)


def test_left_is_the_patients_left(tmp_path):
    array = np.zeros((8, 6, 4), dtype=np.uint16)
    array[1, 2, 3] = 1000
    paths = write(Volume(array, np.diag([2.0, 2.0, 5.0, 1.0]) + np.outer([-50, 0, 0, 0], [0, 0, 0, 1])), tmp_path / "a")
    bright = [p for p in paths if pydicom.dcmread(p).pixel_array.any()]
    dataset = pydicom.dcmread(bright[0])
    row, column = np.argwhere(dataset.pixel_array)[0]
    # DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1: the voxel at x = -48 mm RAS is at +48 mm towards the left
    point = (
        np.array(dataset.ImagePositionPatient, float)
        + np.array(dataset.ImageOrientationPatient[:3], float) * float(dataset.PixelSpacing[1]) * column
        + np.array(dataset.ImageOrientationPatient[3:], float) * float(dataset.PixelSpacing[0]) * row
    )
    assert len(bright) == 1 and point == pytest.approx([48.0, -4.0, 15.0])
    volume = read_dicom(tmp_path).volume(5)
    index = np.argwhere(volume.array)[0]
    assert (volume.affine @ [*index, 1])[:3] == pytest.approx([-48.0, 4.0, 15.0])


def test_names_and_instance_numbers_mean_nothing(tmp_path):
    volume = small_volume(n_echoes=4)
    write(volume, tmp_path / "plain")
    paths = write(volume, tmp_path / "shuffled")
    rng = np.random.default_rng(3)
    for path, number, name in zip(paths, rng.permutation(900), rng.permutation(900), strict=False):
        edit(path, InstanceNumber=int(number), EchoNumbers=None, SliceThickness=3, SpacingBetweenSlices=99)
        path.rename(tmp_path / "shuffled" / f"{name}")  # no ending either
    plain, shuffled = (read_dicom(tmp_path / name).volume("multi_echo") for name in ("plain", "shuffled"))
    assert np.array_equal(plain.array, shuffled.array) and np.array_equal(plain.affine, shuffled.affine)
    assert np.array_equal(plain.array, volume.array)  # this affine has its slices along the normal already
    assert plain.echo_times_ms == shuffled.echo_times_ms == (8.5, 17.0, 25.5, 34.0)


# -- roles and the table -------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    write(small_volume(n_echoes=4), tmp_path / "t2", SeriesDescription="")
    for number, (role, image_type) in enumerate(DIXON_IMAGE_TYPES.items(), start=10):
        write(small_volume(seed=number), tmp_path / role, image_type, SeriesNumber=number, SeriesDescription="",
              ScanningSequence="GR", EchoTime=2.4)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_roles_need_no_description(study):
    table = read_dicom(study)
    assert list(table["role"]) == ["multi_echo", "in_phase", "opposed_phase", "water", "fat"]
    assert table["readable"].all() and table.attrs["skipped_files"] == 1
    assert np.array_equal(table.volume("water").array, small_volume(seed=12).array)
    assert table.volume("multi_echo").meta["RepetitionTime"] == 3000


@pytest.mark.parametrize(("image_type", "role"), [
    (r"ORIGINAL\PRIMARY\W\W\DERIVED", "water"), (r"ORIGINAL\PRIMARY\F\F\DERIVED", "fat"),  # Philips mDIXON
    (r"ORIGINAL\PRIMARY\IP\IP\DERIVED", "in_phase"), (r"ORIGINAL\PRIMARY\OP\OP\DERIVED", "opposed_phase"),
    (r"DERIVED\PRIMARY\M\ND\WATER", "water"), (r"ORIGINAL\PRIMARY\M\ND\OPP_PHASE", "opposed_phase"),  # Siemens
    (r"ORIGINAL\PRIMARY\M\ND\IN_PHASE", "in_phase"), (r"DERIVED\PRIMARY\DIXON\FAT", "fat"),
    (r"DERIVED\PRIMARY\T2 MAP\T2\UNSPECIFIED", "t2_map"), (r"DERIVED\PRIMARY\FF\FF\DERIVED", "fat_fraction"),
    (r"ORIGINAL\PRIMARY\M_FFE\M\FFE", "other"), (r"ORIGINAL\PRIMARY\PHASE MAP\P\SE", "other"),
])
def test_vendor_spellings(image_type, role):
    facts = {"ImageType": tuple(image_type.split("\\")), "ScanningSequence": ("GR",)}
    assert series_role(facts, (1.2,)) == role


@pytest.mark.parametrize(("facts", "times", "role"), [
    ({"ScanningSequence": ("SE",), "RepetitionTime": 600}, (12.0,), "t1w"),
    ({"ScanningSequence": ("SE",), "RepetitionTime": 4000}, (90.0,), "t2w"),
    ({"ScanningSequence": ("SE", "IR"), "RepetitionTime": 4000, "InversionTime": 210}, (50.0,), "stir"),
    ({"ScanningSequence": ("SE",), "RepetitionTime": 4000}, (20.0, 90.0), "other"),
    ({"ScanningSequence": ("GR",)}, (5.0, 10.0, 15.0), "other"),  # gradient echoes decay with T2*, not T2
    ({"ScanningSequence": ("SE",), "ImageType": ("ORIGINAL", "PRIMARY", "P")}, (5.0, 10.0, 15.0), "other"),
    ({"ScanningSequence": ("GR",), "SeriesDescription": "WATER: LAVA-Flex"}, (2.0,), "water"),
    ({"ScanningSequence": ("GR",), "SeriesDescription": "t1_vibe_dixon_opp"}, (2.0,), "opposed_phase"),
    ({"ScanningSequence": ("GR",), "SeriesDescription": "fl3d fat sat"}, (2.0,), "other"),
])
def test_physics_decides_the_role(facts, times, role):
    assert series_role(facts, times) == role


def test_parts_of_the_table_still_read(study):
    table = read_dicom(study)
    part = table[table["plane"] == "axial"].sort_values("series", ascending=False).reset_index(drop=True)
    assert np.array_equal(part.volume("fat").array, small_volume(seed=13).array)
    assert np.array_equal(pickle.loads(pickle.dumps(table)).volume(13).array, small_volume(seed=13).array)
    with pytest.raises(DicomError, match="lost its tie"):
        table.drop(columns="key").volume("fat")


def test_asking_for_what_is_not_there_or_twice(study):
    write(small_volume(), study / "again", DIXON_IMAGE_TYPES["water"], SeriesNumber=20, ScanningSequence="GR")
    table = read_dicom(study)
    with pytest.raises(DicomError, match=r"2 rows have role 'water': series 12, water.*series 20, water"):
        table.volume("water")
    with pytest.raises(DicomError, match="No series has role 't1w'; found 5: multi_echo, 10: in_phase"):
        table.volume("t1w")


def test_one_series_with_all_dixon_images(tmp_path):
    uid = generate_uid(entropy_srcs=["dixon"])
    for number, image_type in enumerate(DIXON_IMAGE_TYPES.values()):
        folder = tmp_path / str(number)
        write(small_volume(seed=number), folder, image_type, SeriesInstanceUID=uid, ScanningSequence="GR")
    table = read_dicom(tmp_path)
    assert set(table["role"]) == {"in_phase", "opposed_phase", "water", "fat"} and set(table["series"]) == {5}
    assert np.array_equal(table.volume("fat").array, small_volume(seed=3).array)


def test_no_identity_leaves(study):
    edit(next((study / "t2").iterdir()), ImagePositionPatient=[0, 0, 999])  # so that a problem is told too
    table = read_dicom(study)
    told = table.to_csv() + repr(table.attrs) + repr([dict(table.volume("fat").meta)])
    with pytest.raises(DicomError) as refused:
        table.volume("multi_echo")
    for secret in ("Muster", "S-007", "20200101", "045Y", table.files("fat")[0].name):
        assert secret not in told and secret not in str(refused.value)


# -- refusals ------------------------------------------------------------------------------------------------------


def damage(name):
    def cut(path):
        path.write_bytes(path.read_bytes()[:-40])

    def cut_header(path):
        path.write_bytes(path.read_bytes()[:700])

    return {
        "one slice gone": (lambda paths: paths[2].unlink(), "uneven slice spacing"),
        "a slice 0.2 mm off": (lambda paths: edit(paths[2], ImagePositionPatient=[0, 0, 16.2]), "uneven slice spacing"),
        "a slice aside": (lambda paths: edit(paths[2], ImagePositionPatient=[0, 1, 16]), "off their normal"),
        "a slice again": (lambda paths: edit(paths[2], ImagePositionPatient=[0, 0, 8]), "duplicated positions"),
        "another matrix": (lambda paths: edit(paths[2], Rows=3, Columns=14), "inconsistent matrix"),
        "another spacing": (lambda paths: edit(paths[2], PixelSpacing=[2.5, 1.6]), "pixel spacings"),
        "no position": (lambda paths: edit(paths[2], ImagePositionPatient=None), "lack ImagePositionPatient"),
        "cut short": (lambda paths: cut(paths[2]), "holds fewer pixels"),
        "cut in its header": (lambda paths: cut_header(paths[2]), "cut short in its header"),
        "one slice a mosaic": (lambda paths: [edit(p, ImageType=["O", "P", "MOSAIC"]) for p in paths], "mosaic"),
        "a CT": (lambda paths: [edit(p, Modality="CT") for p in paths], "modality is CT"),
    }[name]


@pytest.mark.parametrize("name", [
    "one slice gone", "a slice 0.2 mm off", "a slice aside", "a slice again", "another matrix", "another spacing",
    "no position", "cut short", "cut in its header", "one slice a mosaic", "a CT",
])
def test_a_bad_series_keeps_its_row(tmp_path, name):
    change, found = damage(name)
    write(small_volume(), tmp_path / "good", SeriesNumber=1)
    change(write(small_volume(), tmp_path / "bad", SeriesNumber=2))
    table = read_dicom(tmp_path)
    bad = table[~table["readable"]]
    assert table.volume(1).shape == (7, 6, 5)
    assert any(found in problem for problem in bad["problem"]), list(bad["problem"])
    assert not table["readable"][table["series"] == 2].any()
    shutil.rmtree(tmp_path / "good")
    with pytest.raises(DicomError, match=found):
        read_dicom(tmp_path)


def test_an_aborted_scan_does_not_hide_the_repeated_one(tmp_path):
    write(small_volume(n_echoes=3), tmp_path / "aborted", SeriesNumber=4)[-1].unlink()
    write(small_volume(n_echoes=3, seed=8), tmp_path / "repeated", SeriesNumber=6)
    table = read_dicom(tmp_path)
    assert list(table["role"]) == ["multi_echo"] * 2 and list(table["readable"]) == [False, True]
    assert np.array_equal(table.volume("multi_echo").array, small_volume(n_echoes=3, seed=8).array)
    with pytest.raises(DicomError, match=r"Series 4 \(multi_echo\) cannot be read: missing slices at some echoes"):
        table.volume(4)


def test_an_echo_that_moved_is_refused(tmp_path):
    paths = write(small_volume(n_echoes=3), tmp_path / "a")
    edit(paths[4], ImagePositionPatient=[1, 0, 8])  # the second slice's second echo: same height, 1 mm aside
    with pytest.raises(DicomError, match=r"slices lie 1\.00 mm off a straight stack"):
        read_dicom(tmp_path)


def test_a_tilted_stack_is_refused(tmp_path):
    for k, path in enumerate(write(small_volume(), tmp_path / "a")):
        edit(path, ImagePositionPatient=[0, 0.5 * k, 8 * k])
    with pytest.raises(DicomError, match=r"gantry tilt: slices step up to 3\.6°"):
        read_dicom(tmp_path)


def test_a_missing_decoder_is_named(tmp_path):
    for path in write(small_volume(), tmp_path / "a"):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.HEVCMP51  # no decoder for video anywhere
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    with pytest.raises(DicomError, match="no decoder for HEVC"):
        read_dicom(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DicomError, match="Found 0 files"):
        read_dicom(tmp_path)
    (tmp_path / "a.dcm").write_text("not DICOM")
    with pytest.raises(DicomError, match="Found 1 files in the folder, none a DICOM image"):
        read_dicom(tmp_path)
    with pytest.raises(DicomError, match="does not exist"):
        read_dicom(tmp_path / "nowhere")


def test_copies_count_once(tmp_path):
    write(small_volume(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    table = read_dicom(tmp_path)
    assert table["readable"].all() and len(table) == 1 and table.attrs["duplicate_files"] == 5


# -- writing -------------------------------------------------------------------------------------------------------


def test_dciodvfy_finds_no_error(tmp_path, system_tool):
    tool = system_tool("dciodvfy")
    paths = write(small_volume(n_echoes=3), tmp_path / "t2")[:2]
    for role, image_type in DIXON_IMAGE_TYPES.items():
        paths += write(small_volume(), tmp_path / role, image_type, ScanningSequence="GR", EchoTime=1.2)[-1:]
    image_type = ["ORIGINAL", "PRIMARY", "OTHER"]
    bare = write_dicom_series(small_volume(), tmp_path / "bare", study={}, series={}, image_type=image_type)
    for path in [*paths, bare[0]]:
        said = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True).stderr
        assert "MRImage" in said and "Error -" not in said, said
    edit(bare[0], ImageType=None)  # the tool does find errors
    assert "Error -" in subprocess.run([tool, "-new", str(bare[0])], capture_output=True, text=True).stderr


def test_values_return_exactly_and_uids_are_repeatable(tmp_path):
    volume = small_volume(np.diag([1.2, 3.6, 8, 1.0]), shape=(25, 8, 4), n_echoes=3)
    paths = write(volume, tmp_path / "a")
    again = write(volume, tmp_path / "b")
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    assert len({pydicom.dcmread(p).SOPInstanceUID for p in paths}) == 12
    header = pydicom.dcmread(paths[4])
    assert (header.InstanceNumber, header.EchoNumbers, header.EchoTime, header.EchoTrainLength) == (5, 2, 17.0, 3)
    assert (header.Rows, header.Columns, list(header.PixelSpacing)) == (8, 25, [3.6, 1.2])
    fractional = Volume(np.linspace(0, 1, 60).reshape(5, 4, 3), np.eye(4))
    image_type = ["DERIVED", "PRIMARY", "OTHER"]
    write_dicom_series(fractional, tmp_path / "c", study={}, series={}, image_type=image_type, slope=1e-4)
    again = read_dicom(tmp_path / "c").volume(1)
    assert np.abs(again.array - fractional.array).max() <= 0.51e-4


@pytest.mark.parametrize(("array", "found"), [
    (np.full((3, 3, 3), -1.0), "span -1.0"), (np.full((3, 3, 3), np.nan), "span nan"),
    (np.full((3, 3, 3), 70000), "0 to 65535"),
])
def test_voxels_that_do_not_fit_are_refused(tmp_path, array, found):
    with pytest.raises(DicomError, match=found):
        write(Volume(array, np.eye(4)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []  # and nothing half written stays


def test_writing_refuses_what_reading_would(tmp_path):
    sheared = np.eye(4)
    sheared[1, 2] = 0.5
    with pytest.raises(DicomError, match="not perpendicular"):
        write(small_volume(sheared), tmp_path / "a")
    write(small_volume(), tmp_path / "b")
    with pytest.raises(DicomError, match="not empty"):
        write(small_volume(), tmp_path / "b")
    with pytest.raises(DicomError, match="Found 2 echoes without echo times"):
        write(Volume(np.ones((3, 3, 3, 2)), np.eye(4)), tmp_path / "c")
    with pytest.raises(DicomError, match="at least three values"):
        write(small_volume(), tmp_path / "c", image_type=["ORIGINAL", "PRIMARY"])
    with pytest.raises(DicomError, match="'RepititionTime' is no DICOM keyword"):
        write(small_volume(), tmp_path / "c", RepititionTime=3)


def test_laterality_reaches_the_volume(tmp_path):
    write(small_volume(), tmp_path / "lone", ImageLaterality="R")
    assert read_dicom(tmp_path).volume(5).meta["ImageLaterality"] == "R"


@pytest.mark.parametrize("changes", [{"Rows": 0}, {"PixelSpacing": ["nan", "1"]}])
def test_absurd_geometry_spoils_one_series_only(changes, tmp_path):
    write(small_volume(n_echoes=3), tmp_path / "good")
    for path in write(small_volume(), tmp_path / "bad", SeriesNumber=6):
        edit(path, **changes)
    table = read_dicom(tmp_path).set_index("series")
    assert table.readable[5] and not table.readable[6]
    assert "geometry" in table.problem[6]


def test_series_tell_which_study_they_are_of(tmp_path):
    write(small_volume(), tmp_path / "a")
    write(small_volume(), tmp_path / "b", StudyInstanceUID=generate_uid())
    assert sorted(read_dicom(tmp_path).study) == [1, 2]
