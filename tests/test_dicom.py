"""Reading and writing DICOM, against SimpleITK's reader, dciodvfy and volumes whose place is known."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pydicom
import pytest
from dicom_samples import assert_same_points, edit, small_volume, write
from pydicom.uid import generate_uid

from mrmyo.dicom import DicomError, read_dicom
from mrmyo.dicom_roles import series_role
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES
from mrmyo.volume import Volume

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


def test_the_grid_of_a_series_needs_no_pixels(study):
    table = read_dicom(study)
    for path in study.rglob("*.dcm"):
        path.write_bytes(b"")  # only the headers read before count
    grid = table.grid("multi_echo")
    assert grid.array.shape == (7, 6, 5, 4) and not any(grid.array.strides) and not grid.array.flags.writeable
    assert np.array_equal(grid.affine, small_volume().affine) and grid.echo_times_ms == (8.5, 17.0, 25.5, 34.0)
    assert grid.meta["RepetitionTime"] == 3000 and table.grid("fat").shape == (7, 6, 5)
    assert table["coverage_mm"][0] == pytest.approx((-4.0, 36.0))  # five slices of 8 mm, with their edges
    with pytest.raises(DicomError, match="cannot be decoded"):
        table.volume("fat")


def test_a_key_names_one_row(study):
    write(small_volume(seed=7), study / "again", DIXON_IMAGE_TYPES["water"], SeriesNumber=12, ScanningSequence="GR")
    table = read_dicom(study)
    waters = table[table["role"] == "water"]
    assert set(waters["series"]) == {12} and all(len(key) == 12 for key in waters["key"])
    first = {table.volume(key).array[0, 0, 0] for key in waters["key"]}
    assert first == {small_volume(seed=seed).array[0, 0, 0] for seed in (7, 12)}
    assert set(read_dicom(study)["key"]) == set(table["key"])


@pytest.mark.parametrize("which", [11, " Sag OPP  Phase", "key"])
def test_a_stated_role_wins(study, which):
    for path in (study / "opposed_phase").iterdir():
        edit(path, SeriesDescription="sag opp phase")
    key = read_dicom(study).set_index("series").key[11]
    table = read_dicom(study, roles={"water": key if which == "key" else which}).set_index("series")
    assert table.role[11] == "water" and table.role[12] == "other" and table.role[13] == "fat"


@pytest.mark.parametrize(("roles", "found"), [
    ({"water": 99}, "0 series are what the settings state for role 'water'.*Found 5 "),
    ({"water": "Muster"}, "0 series are what"), ({"wine": 5}, "'wine' is no role"), ({"t1w": "same"}, "2 series are"),
])
def test_a_statement_that_fits_nothing_or_twice_is_refused(study, roles, found):
    for path in [*(study / "fat").iterdir(), *(study / "water").iterdir()]:
        edit(path, SeriesDescription="same")
    with pytest.raises(DicomError, match=found) as refused:
        read_dicom(study, roles=roles)
    assert "Muster" not in str(refused.value) and "same" not in str(refused.value)


def test_words_of_another_alphabet_and_odd_values_spoil_nothing(tmp_path):
    for path in write(small_volume(), tmp_path / "a", SeriesDescription="Oberschenkel_räumlich_Ödem"):
        data = bytearray(path.read_bytes())
        place = data.index(b"\x18\x00\x14\x13DS")  # FlipAngle
        data[place + 8 : place + 10] = b"9,"
        path.write_bytes(data)
    table = read_dicom(tmp_path, roles={"t1w": "OBERSCHENKEL_RÄUMLICH_ÖDEM"})
    assert np.array_equal(table.volume("t1w").array, small_volume().array)


@pytest.mark.parametrize("position", ["HFS", "FFP", "HFDL", "FFDR"])
def test_the_patients_position_moves_nothing(tmp_path, position):
    write(small_volume(), tmp_path / position, PatientPosition=position)
    assert np.array_equal(read_dicom(tmp_path).grid(5).affine, small_volume().affine)


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_beside_the_value_are_cut_off(tmp_path, signed):
    paths = write(small_volume(), tmp_path / "a")
    values = np.random.default_rng(5).integers(-2048 if signed else 0, 2048, (5, 6, 7)).astype(np.int16)
    for path, value in zip(paths, values, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 13, signed
        dataset.PixelData = (((value.view(np.uint16) & 0xFFF) << 2) | 0x8001).tobytes()  # overlays above and below
        dataset.save_as(path)
    assert np.array_equal(read_dicom(tmp_path).volume(5).array, values.transpose(2, 1, 0))


def test_laterality_reaches_the_volume(tmp_path):
    write(small_volume(), tmp_path / "lone", ImageLaterality="R")
    assert read_dicom(tmp_path).volume(5).meta["ImageLaterality"] == "R"


def test_series_tell_which_study_they_are_of(tmp_path):
    write(small_volume(), tmp_path / "a")
    write(small_volume(), tmp_path / "b", StudyInstanceUID=generate_uid())
    assert sorted(read_dicom(tmp_path).study) == [1, 2]
