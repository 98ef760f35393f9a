"""One synthetic study from end to end: the truth it promises, the DICOM it leaves, and nothing besides."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from mrmyo import anatomy, scanner, simulation
from mrmyo.dicom import read_dicom
from mrmyo.nifti import read_nifti
from mrmyo.settings import Settings
from mrmyo.simulation import simulate_study
from mrmyo.study_series import choose_series
from mrmyo.t2 import fit_t2
from mrmyo.volume import reformat, resample, same_grid

SUBJECT = {"subject": "SYN-TEST-01", "group": "IIM", "sex": "F", "age": 52, "t2_ms": 41.3}
MUSCLE_VALUES = [*range(1, 14), *range(21, 34)]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    # the whole protocol, of an anatomy a little coarser than usual, which is drawn in a third of the time
    coarser = functools.partial(anatomy.draw_anatomy, spacing_mm=(1.5, 1.5, 4.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "draw_anatomy", coarser)
        truth = simulate_study(SUBJECT, folder / "study", folder / "truth", seed=11)
    return folder, truth


@pytest.fixture(scope="module")
def series(scan):
    return read_dicom(scan[0] / "study")


@pytest.fixture(scope="module")
def truth_maps(scan):
    """Label and T2 arrays of the truth, read without mrmyo."""
    return {name: np.asarray(nibabel.load(scan[0] / "truth" / f"{name}.nii.gz").dataobj)
            for name in ("labels_t2", "labels_in_phase", "t2_apparent")}


@pytest.fixture
def quick(monkeypatch):
    """A coarse anatomy and few slices, for what does not depend on either."""
    coarse = functools.partial(anatomy.draw_anatomy, spacing_mm=(2.4, 2.4, 6.0), length_mm=48.0)
    monkeypatch.setattr(simulation, "draw_anatomy", coarse)
    for protocol in (scanner.MULTI_ECHO, scanner.DIXON):
        monkeypatch.setitem(protocol, "n_slices", 5)
        monkeypatch.setitem(protocol, "matrix", (128, 70))
    for name, value in (("matrix", (105, 20)), ("field_mm", (420.0, 30.0)), ("n_slices", 77), ("spacing_mm", 3.0),
                        ("SliceThickness", 3.0)):
        monkeypatch.setitem(scanner.CORONAL_T1, name, value)


def pixels(folder: Path) -> dict:
    return {p.relative_to(folder).as_posix(): pydicom.dcmread(p).PixelData for p in sorted(folder.rglob("*.dcm"))}


def test_the_truth_reaches_the_t2_that_was_asked_for(scan, truth_maps):
    truth = scan[1]
    assert truth["t2_apparent_ms"] == pytest.approx(SUBJECT["t2_ms"], abs=0.005)
    # and is the mean of its own map over its own muscle, femur and background left out
    muscle = np.isin(truth_maps["labels_t2"], MUSCLE_VALUES)
    t2_ms = truth_maps["t2_apparent"].astype(float)
    if np.nanmax(t2_ms) < 1:  # BIDS keeps T2 in seconds
        t2_ms = 1000 * t2_ms
    assert t2_ms[muscle].mean() == pytest.approx(truth["t2_apparent_ms"], abs=1e-4)
    assert np.isnan(t2_ms[~muscle]).all() and muscle.sum() == truth["n_muscle_voxels"] > 20_000
    assert json.loads((scan[0] / "truth" / "truth.json").read_text()) == truth


def test_stimulated_echoes_and_fat_make_the_apparent_t2_longer_than_that_of_water(scan):
    assert 3 < scan[1]["t2_apparent_ms"] - scan[1]["t2_water_ms"] < 12


def test_the_truth_has_both_sides_and_the_femur_on_both_grids(truth_maps, series):
    for name, role in (("labels_t2", "multi_echo"), ("labels_in_phase", "in_phase")):
        assert {1, 2, 3, 4, 5, 21, 22, 23, 24, 25, 51, 52} <= set(np.unique(truth_maps[name]).tolist())
        assert truth_maps[name].shape == series.volume(role).shape


def test_the_dicom_reads_back_as_the_protocol_of_the_paper(series):
    assert sorted(series.role) == ["fat", "in_phase", "multi_echo", "opposed_phase", "water"]
    assert series.readable.all() and series.attrs["skipped_files"] == series.attrs["duplicate_files"] == 0
    multi_echo = series[series.role == "multi_echo"].iloc[0]
    assert tuple(multi_echo["shape"]) == (254, 84, 20) and multi_echo.n_files == 200
    assert tuple(multi_echo.spacing_mm) == pytest.approx((1.6535, 2.75, 6.0), abs=1e-3)
    assert tuple(multi_echo.echo_times_ms) == tuple(range(10, 101, 10)) and multi_echo.repetition_time_ms == 6690
    for _, row in series[series.role != "multi_echo"].iterrows():
        assert tuple(row["shape"]) == (320, 176, 26) and tuple(row.spacing_mm) == pytest.approx((1.3125, 1.3125, 6.0))
        assert tuple(row.echo_times_ms) == (51,) and row.repetition_time_ms == 5330
    frames = {series.volume(role).meta["FrameOfReferenceUID"] for role in series.role}
    assert len(frames) == 1 and None not in frames


def test_the_truth_lies_on_the_grids_of_the_dicom_and_tells_muscle_from_fat(scan, series):
    truth = scan[0] / "truth"
    water, fat = series.volume("water"), series.volume("fat")
    labels = read_nifti(truth / "labels_in_phase.nii.gz")
    assert same_grid(labels, water) and same_grid(read_nifti(truth / "labels_t2.nii.gz"), series.volume("multi_echo"))
    share = fat.array / np.maximum(water.array + fat.array, 1)
    muscle, femur = np.isin(labels.array, MUSCLE_VALUES), np.isin(labels.array, [51, 52])
    assert np.median(share[muscle]) < 0.15 and np.percentile(share[femur], 60) > 0.7


def test_the_t2_of_the_dicom_is_that_of_the_truth_voxel_by_voxel(series, truth_maps):
    volume = series.volume("multi_echo")
    some = np.isin(truth_maps["labels_t2"], MUSCLE_VALUES) & (np.arange(20) % 4 == 1)
    found = fit_t2(volume.array[some], volume.echo_times_ms).t2_ms
    truth = truth_maps["t2_apparent"][some].astype(float)
    truth = truth * (1000 if truth.max() < 1 else 1)
    assert np.nanmean(found - truth) == pytest.approx(0, abs=0.3)  # noise alone; the whole pipeline is allowed no more
    assert np.corrcoef(found, truth)[0, 1] > 0.8, "maps and images lie apart"
    assert np.nanstd(found - truth) < 3


def test_identities_are_plainly_synthetic(scan):
    for path in [next((scan[0] / "study" / part).iterdir()) for part in ("02_in_phase", "10_multi_echo")]:
        dataset = pydicom.dcmread(path)
        assert str(dataset.PatientName) == "SYNTHETIC^SYN-TEST-01" and dataset.PatientID == "SYN-TEST-01"
        assert "SYNTHETIC" in dataset.StudyDescription and "synthetic" in dataset.Manufacturer
        assert dataset.PatientBirthDate in ("", None) and dataset.PatientAge == "052Y" and dataset.PatientSex == "F"
        assert dataset.StudyDate == "20200101" and not dataset.get("InstitutionName")


def test_the_study_holds_dicom_and_nothing_of_the_truth(scan):
    files = [p for p in (scan[0] / "study").rglob("*") if p.is_file()]
    assert len(files) == 200 + 4 * 26 and {p.suffix for p in files} == {".dcm"}
    assert sorted(p.name for p in scan[0].iterdir()) == ["study", "truth"]  # no half-written folder is left
    named = {element.keyword for path in files[::60] for element in pydicom.dcmread(path, stop_before_pixels=True)}
    assert not named & {"ImageComments", "PatientComments", "StudyComments", "AdditionalPatientHistory"}


def test_a_validator_finds_no_error(scan, system_tool):
    tool = system_tool("dciodvfy")
    folders = sorted((scan[0] / "study").iterdir())
    assert len(folders) == 5
    for folder in folders:
        done = subprocess.run([tool, str(next(folder.iterdir()))], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()
        assert any("MRImage" in line for line in said), "the validator did not recognise the object"
        assert not [line for line in said if line.startswith("Error")], folder.name


def test_the_same_seed_makes_the_same_study_and_replaces_an_older_one_whole(quick, tmp_path):
    one = simulate_study(SUBJECT, tmp_path / "one", tmp_path / "truth", seed=3)
    (tmp_path / "again" / "02_in_phase").mkdir(parents=True)
    (tmp_path / "again" / "02_in_phase" / "IM99999.dcm").write_bytes(b"of an older study")
    (tmp_path / "again" / "notes.txt").write_text("older")
    assert simulate_study(SUBJECT, tmp_path / "again", seed=3) == one
    first, second = pixels(tmp_path / "one"), pixels(tmp_path / "again")
    assert first == second and len(first) == 50 + 4 * 5
    assert not (tmp_path / "again" / "notes.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "one", "truth"]


def test_another_name_or_seed_makes_another_study(quick, tmp_path):
    subject = {**SUBJECT, "group": "HC", "t2_ms": 34.0}
    truths = [simulate_study({**subject, "subject": name}, tmp_path / str(i), seed=seed)
              for i, (name, seed) in enumerate([("SYN-A", 1), ("SYN-B", 1), ("SYN-A", 2)])]
    assert len({truth["snr"] for truth in truths}) == 3 and {truth["disease"] for truth in truths} == {0.0}
    images = [list(pixels(tmp_path / str(i)).values()) for i in range(3)]
    assert images[0] != images[1] and images[0] != images[2]


@pytest.mark.parametrize("inside", [".", "truth", "a/../truth"])
def test_a_truth_within_the_study_is_refused_before_anything_is_written(inside, tmp_path):
    with pytest.raises(ValueError, match="within study_dir"):
        simulate_study(SUBJECT, tmp_path / "study", tmp_path / "study" / inside)
    assert not (tmp_path / "study").exists()


def test_an_interrupted_run_leaves_no_older_truth_behind(quick, tmp_path, monkeypatch):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "truth.json").write_text("{}")

    def interrupted(volume, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "write_nifti", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate_study(SUBJECT, tmp_path / "study", tmp_path / "truth")
    assert not (tmp_path / "truth" / "truth.json").exists()


@pytest.fixture
def coronal(quick, tmp_path):
    simulate_study(SUBJECT, tmp_path / "study", tmp_path / "truth", seed=3, coronal_t1=True)
    return tmp_path


def test_the_coronal_t1_leaves_every_other_image_as_it_was(coronal):
    simulate_study(SUBJECT, coronal / "plain", seed=3)
    plain, beside = pixels(coronal / "plain"), pixels(coronal / "study")
    added = {name for name in beside if name.startswith("06_coronal_t1/")}
    assert len(added) == 77 and {name: beside[name] for name in beside if name not in added} == plain
    files = [next((coronal / "study" / part).iterdir()) for part in ("02_in_phase", "06_coronal_t1", "10_multi_echo")]
    assert len({pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in files}) == 1


def test_the_coronal_t1_is_read_as_such_and_not_chosen(coronal):
    series = read_dicom(coronal / "study")
    row = series[series.role == "t1w"].iloc[0]
    assert row.series == 6 and row.plane == "coronal" and tuple(row.spacing_mm) == pytest.approx((4.0, 1.5, 3.0))
    assert row.repetition_time_ms == 6.73 and tuple(row.echo_times_ms) == (2.46,) and not row.warnings
    header = pydicom.dcmread(next((coronal / "study" / "06_coronal_t1").iterdir()), stop_before_pixels=True)
    assert (header.FlipAngle, header.ScanningSequence, header.MRAcquisitionType) == (12, "GR", "3D")
    assert header.SliceThickness == header.SpacingBetweenSlices == 3.0
    chosen = choose_series(series, Settings())
    assert chosen.structural_name == "in_phase" and chosen.notes == chosen.flags == ()
    assert "t1w" not in dict(chosen.roles)


def test_the_coronal_t1_shows_fat_bright_and_muscle_dark_where_the_dixon_images_do(coronal):
    series = read_dicom(coronal / "study")
    water, fat = series.volume("water"), series.volume("fat")
    t1 = series.volume("t1w")
    assert reformat(t1).shape == (105, 77, 6)  # as the paper reformats it, to axial slices of 5 mm
    image = resample(t1, water).array[:, :, 1:4]
    share = (fat.array / np.maximum(water.array + fat.array, 1))[:, :, 1:4]
    bright = (water.array + fat.array)[:, :, 1:4] > 200
    muscle = np.isin(read_nifti(coronal / "truth" / "labels_in_phase.nii.gz").array[:, :, 1:4], MUSCLE_VALUES)
    assert np.median(image[bright & (share > 0.85)]) > 1.7 * np.median(image[muscle & (share < 0.15)]) > 200
    assert np.corrcoef(image[bright], share[bright])[0, 1] > 0.8, "the images lie apart"


def test_a_later_visit_is_a_new_scan_of_the_same_thighs(quick, tmp_path):
    first, later, again = (simulate_study(SUBJECT, tmp_path / name, tmp_path / f"truth {name}", seed=3, visit=visit)
                           for name, visit in (("first", 0), ("later", 2), ("again", 2)))
    assert again == later and (first["visit"], later["visit"]) == (0, 2)
    assert first["disease"] == later["disease"] and first["t1_scale"] == later["t1_scale"]
    # the same tissues: what the scan does to the apparent T2 is a fraction of a millisecond, but not nothing
    assert 0.001 < abs(first["t2_apparent_ms"] - later["t2_apparent_ms"]) < 1
    assert first["t2_water_ms"] == pytest.approx(later["t2_water_ms"], abs=0.5)  # of the part that the slices cover
    for name in ("snr", "motion"):
        assert first[name] != later[name]
    assert pixels(tmp_path / "later") == pixels(tmp_path / "again") != pixels(tmp_path / "first")
    # the scanner's table has moved, the thighs in it have not
    one, other = (read_nifti(tmp_path / f"truth {name}" / "labels_in_phase.nii.gz") for name in ("first", "later"))
    assert not same_grid(one, other)
    moved = resample(other, one, order=0).array
    both = (one.array > 0) & (moved > 0)
    assert (one.array == moved)[both].mean() > 0.93 and both.sum() > 0.6 * (one.array > 0).sum()
    headers = [pydicom.dcmread(next((tmp_path / name / "02_in_phase").iterdir())) for name in ("first", "later")]
    assert [header.StudyDate for header in headers] == ["20200101", "20200629"]
    assert headers[0].StudyInstanceUID != headers[1].StudyInstanceUID
    assert headers[0].PatientID == headers[1].PatientID


def test_a_visit_may_have_a_t2_of_its_own_in_the_anatomy_of_the_first(quick, tmp_path):
    before, after = (simulate_study(SUBJECT, tmp_path / f"study {visit}", tmp_path / f"truth {visit}", seed=3,
                                    visit=visit, t2_ms=t2_ms) for visit, t2_ms in ((0, None), (1, 36.2)))
    assert before["t2_apparent_ms"] == pytest.approx(41.3, abs=0.005)
    assert after["t2_apparent_ms"] == pytest.approx(36.2, abs=0.5)  # exactly so in a scan like the first
    assert before["disease"] == after["disease"]
    one, other = (read_nifti(tmp_path / f"truth {visit}" / "labels_in_phase.nii.gz") for visit in (0, 1))
    both = (one.array > 0) & ((moved := resample(other, one, order=0).array) > 0)
    assert (one.array == moved)[both].mean() > 0.93


def test_a_validator_finds_no_error_in_the_coronal_t1(coronal, system_tool):
    path = next((coronal / "study" / "06_coronal_t1").iterdir())
    done = subprocess.run([system_tool("dciodvfy"), str(path)], capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    assert any("MRImage" in line for line in said) and not [line for line in said if line.startswith("Error")]
