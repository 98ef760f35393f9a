"""Whole studies as hospitals send them: a scanner's map for echoes, water and fat alone, many series of one kind."""

from __future__ import annotations

import gzip
import json
import re
import shutil

import numpy as np
import pydicom
import pytest
from cohort_samples import TIMES, reviewed, tiny_grids, tiny_study
from dicom_enhanced import enhanced_dataset
from dicom_samples import edit

from mrmyo import fit_t2, process_study, read_dicom, read_nifti, write_nifti
from mrmyo.__main__ import main
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.labels import carry
from mrmyo.settings import Settings, read_settings
from mrmyo.study_series import StudyError, choose_series, structural_volume
from mrmyo.volume import Volume, resample


@pytest.fixture(scope="module")
def parts(synthetic_study):
    """The series of the synthetic study, its true mask, and what its own echoes give under that mask."""
    table = read_dicom(synthetic_study[0])
    mask = read_nifti(synthetic_study[1] / "labels_in_phase.nii.gz")
    return synthetic_study[0], {role: table.volume(role) for role in table.role}, mask


@pytest.fixture(scope="module")
def own(parts, tmp_path_factory):
    """The study as it is: (output folder, rows)."""
    out = tmp_path_factory.mktemp("own") / "P1"
    return out, process_study(parts[0], out, labels=parts[2], progress=False)


@pytest.fixture(scope="module")
def expected(own):
    return own[1]


def whole(rows):
    return rows[(rows.muscle == "whole muscle") & (rows.side == "both")].t2_ms.item()


def add(parts, folder, volume, number, image_type, **facts):
    """One more series of the same study, on the same table."""
    image = pydicom.dcmread(next((parts[0] / "02_in_phase").iterdir()))
    study = {key: image[key].value for key in ("StudyInstanceUID", "FrameOfReferenceUID", "Manufacturer",
                                               "MagneticFieldStrength", "PatientPosition")}
    write_dicom_series(volume, folder / f"{number:02d}", study=study, series={"SeriesNumber": number, **facts},
                       image_type=image_type)


def keep(parts, folder, *names):
    for name in names:
        shutil.copytree(parts[0] / name, folder / name)
    return folder


def test_a_site_without_echoes_measures_the_scanners_map(parts, expected, tmp_path):
    folder = keep(parts, tmp_path / "study", "02_in_phase")
    maps = fit_t2(parts[1]["multi_echo"])
    tenths = np.nan_to_num(maps.t2_ms * 10)
    add(parts, folder, maps.volume("t2_ms").with_array(tenths), 20, ("DERIVED", "PRIMARY", "T2 MAP"))
    percent = np.full((24, 24, 12), 90.0)
    percent[:, 0] = 0
    around = maps.affine @ np.diag([*(np.array(maps.t2_ms.shape) / percent.shape), 1])
    add(parts, folder, Volume(percent, around), 21, ("DERIVED", "PRIMARY", "B1 MAP"))
    out = tmp_path / "P1"
    rows = process_study(folder, out, labels=parts[2], progress=False)
    assert set(rows.t2_model) == {"scanner map"} and rows.t2_noise_ms.isna().all()
    assert whole(rows) == pytest.approx(whole(expected), abs=0.02)
    assert rows.n_failed.sum() == expected.n_failed.sum()
    b1 = read_nifti(out / "B1map.nii.gz").array
    assert np.isnan(b1[:, 0]).all() and b1[:, 1:] == pytest.approx(0.9)
    assert json.loads((out / "study.json").read_text())["inputs"]["t2"] == "scanner_map"
    # another unit changes the fit; without a B1 map none of an earlier run is left
    shutil.rmtree(folder / "21")
    told = process_study(folder, out, labels=parts[2], settings=Settings(t2_map_unit_ms=0.05), progress=False)
    assert whole(told) == pytest.approx(whole(expected) / 2, abs=0.02) and not (out / "B1map.nii.gz").exists()


def test_water_and_fat_alone(parts, expected, tmp_path):
    folder = keep(parts, tmp_path / "study", "04_water", "05_fat", "10_multi_echo")
    rows = process_study(folder, tmp_path / "P1", labels=parts[2], progress=False)
    assert whole(rows) == pytest.approx(whole(expected), abs=0.02)  # aligned by an image that is nearly the same
    inputs = json.loads((tmp_path / "P1" / "study.json").read_text())["inputs"]
    assert inputs["structural"] == "in_phase (water + fat)"
    assert inputs["series"] == {"multi_echo": 10, "water": 4, "fat": 5}
    made, truly = read_nifti(tmp_path / "P1" / "structural.nii.gz").array, parts[1]["in_phase"].array
    bright = truly > 0.2 * truly.max()
    assert np.median(made[bright] / truly[bright]) == pytest.approx(1, abs=0.05)


def shifted(volume, z_mm):
    affine = volume.affine.copy()
    affine[2, 3] += z_mm
    return Volume(volume.array, affine)


def coronal(volume, spacing_mm):
    """The same body in coronal slices."""
    corners = volume.affine @ np.array([[0, 0, 0, 1], [*(np.array(volume.shape) - 1), 1]]).T
    low, high = corners[:3].min(axis=1), corners[:3].max(axis=1)
    shape = ((high - low) / spacing_mm).astype(int) + 1
    axes = np.diag(np.array(spacing_mm, dtype=float))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes[:, [0, 2, 1]] * [1, -1, 1], [low[0], low[1], high[2]]
    return resample(volume, Volume(np.zeros(shape[[0, 2, 1]], np.uint8), affine))


def test_six_stations_two_planes_two_t1w_and_then_a_repeat(parts, expected, tmp_path):
    folder = keep(parts, tmp_path / "study", "02_in_phase", "10_multi_echo")
    in_phase = parts[1]["in_phase"]
    reach = in_phase.shape[2] * in_phase.spacing_mm[2] - 20
    for number, station in enumerate((-3, -2, -1, 1, 2), start=11):
        add(parts, folder, shifted(in_phase, station * reach), number, DIXON_IMAGE_TYPES["in_phase"])
    add(parts, folder, coronal(in_phase, (4, 6, 4)), 30, DIXON_IMAGE_TYPES["in_phase"])
    t1w = {"ScanningSequence": "SE", "RepetitionTime": 600, "EchoTime": 12}
    add(parts, folder, coronal(in_phase, (4, 2.5, 4)), 31, ("ORIGINAL", "PRIMARY", "M"), **t1w)
    add(parts, folder, in_phase, 32, ("DERIVED", "SECONDARY", "MPR"), **t1w)
    rows = process_study(folder, tmp_path / "P1", labels=parts[2], progress=False)
    assert whole(rows) == pytest.approx(whole(expected), abs=0.02)  # aligned by an image that is nearly the same
    inputs = json.loads((tmp_path / "P1" / "study.json").read_text())["inputs"]
    assert inputs["series"] == {"multi_echo": 10, "in_phase": 2}

    secret = "in-phase of Jane Doe"
    add(parts, folder, in_phase, 40, DIXON_IMAGE_TYPES["in_phase"], SeriesDescription=secret)
    with pytest.raises(StudyError, match=r"2 images of the role in_phase.*series 2 \(axial, \d+% .*series 40 \(axial"):
        process_study(folder, tmp_path / "P2", labels=parts[2], progress=False)
    assert not (tmp_path / "P2").exists(), "a study that is refused leaves no folder"
    stated = Settings(roles={"in_phase": secret})
    assert whole(process_study(folder, tmp_path / "P2", labels=parts[2], settings=stated, progress=False)) \
        == whole(expected)
    assert json.loads((tmp_path / "P2" / "study.json").read_text())["inputs"]["series"]["in_phase"] == 40
    assert read_settings(tmp_path / "P2" / "settings.toml").roles == (("in_phase", 40),)
    for path in (tmp_path / "P2").iterdir():
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert b"Jane" not in content, path.name


NO_DIXON = "no water T2: no pair of Dixon images (water and fat, or in and opposed phase) lies over the T2 stack"


def test_a_thin_coronal_t1w_alone(parts, expected, tmp_path):
    folder = keep(parts, tmp_path / "study", "10_multi_echo")
    add(parts, folder, coronal(parts[1]["in_phase"], (2, 2, 2)), 31, ("ORIGINAL", "PRIMARY", "M"),
        ScanningSequence="SE", RepetitionTime=600, EchoTime=12)
    series = read_dicom(folder)
    axial = structural_volume(series, choose_series(series, Settings()))
    assert axial.slice_axis == 2 and axial.spacing_mm == pytest.approx([2, 2, 5])
    rows = process_study(folder, tmp_path / "P1", labels=carry(parts[2], axial), progress=False)
    assert whole(rows) == pytest.approx(whole(expected), abs=0.3)
    study = json.loads((tmp_path / "P1" / "study.json").read_text())
    assert study["inputs"]["structural"] == "t1w, reformatted to axial 5 mm"
    assert study["notes"] == ["the coronal series was reformatted to axial slabs of 5 mm", NO_DIXON]
    shutil.rmtree(tmp_path / "P1")
    rows = process_study(folder, tmp_path / "P1", progress=False)  # the network draws on the reformatted image
    assert whole(rows) == pytest.approx(whole(expected), abs=1.0)


def test_stated_roles_belong_to_the_key_of_a_stage(parts, own, tmp_path):
    out = tmp_path / "P1"
    shutil.copytree(own[0], out)

    def keys(labels=None, **options):
        process_study(parts[0], out, labels, settings=Settings(**options), progress=False)
        return {name: note["key"] for name, note in json.loads((out / "stages.json").read_text()).items()}

    plain, same, water = keys(), keys(roles={"in_phase": 2}), keys(parts[2], roles={"in_phase": 4})
    assert {name for name in plain if plain[name] != same[name]} == {"measure"}
    changed = {name for name in plain if plain[name] != water[name]}
    assert changed == {"read", "align", "water", "reliability", "region", "measure"}
    assert read_settings(out / "settings.toml").roles == (("in_phase", 4),)


def test_slices_without_muscle_and_a_b1_map_of_no_known_unit_are_told(parts, own, tmp_path):
    shutil.copytree(own[0], tmp_path / "P1")
    folder = keep(parts, tmp_path / "study", "02_in_phase", "10_multi_echo")
    grid, cut = parts[1]["in_phase"], parts[2].array.copy()
    cut[:, :, : cut.shape[2] // 2] = 0
    add(parts, folder, Volume(np.full(grid.shape, 7000.0), grid.affine), 21, ("DERIVED", "PRIMARY", "B1 MAP"))
    process_study(folder, tmp_path / "P1", labels=parts[2].with_array(cut), progress=False)
    study = json.loads((tmp_path / "P1" / "study.json").read_text())
    assert any("of the T2 slices hold no muscle of the mask" in flag for flag in study["flags"])
    assert "the B1 map was not kept" in study["notes"][0] and not (tmp_path / "P1" / "B1map.nii.gz").exists()


def tiny(folder, *, series=("in_phase", "multi_echo"), **facts):
    """Part of a study of boxes, with its reviewed mask in the output folder."""
    tiny_study(folder / "whole", **facts)
    for name in series:
        shutil.move(folder / "whole" / name, folder / "study" / name)
    shutil.rmtree(folder / "whole")
    if not (folder / "out").exists():
        reviewed(folder, "out")
    return folder / "study", folder / "out"


def measured(study, out, **more):
    rows = process_study(study, out, progress=False, **more)
    return whole(rows), json.loads((out / "study.json").read_text())


def test_which_image_of_a_file_was_read_belongs_to_the_key_of_a_stage(tmp_path):
    study, out = tiny(tmp_path)
    classic = pydicom.dcmread(next((study / "multi_echo").iterdir()))
    shutil.rmtree(study / "multi_echo")
    grid = tiny_grids()[1]
    n = grid.shape[2] * len(TIMES)
    signal = [np.round(1000 * np.exp(-np.array(TIMES) / t2)) * np.ones((*grid.shape, 1)) for t2 in (30.0, 60.0)]
    both = enhanced_dataset(Volume(np.concatenate(signal, axis=2).astype(np.uint16), grid.affine, TIMES))
    del both.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence
    frames = both.PerFrameFunctionalGroupsSequence
    for k, frame in enumerate(frames):
        frame.PlanePositionSequence[0].ImagePositionPatient = \
            frames[k % n].PlanePositionSequence[0].ImagePositionPatient
        kind = pydicom.Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "M", "NORM" if k >= n else "NONE"]
        frame.MRImageFrameTypeSequence = [kind]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        setattr(both, keyword, classic.get(keyword))
    both.PatientBirthDate = classic.get("PatientBirthDate", "")
    both.save_as(study / "both.dcm", enforce_file_format=True)
    table = read_dicom(study)
    keys = {table.grid(key).meta["ImageType"][3]: key for key in table[table.role == "multi_echo"].key}
    for kind, t2 in (("NONE", 30.0), ("NORM", 60.0), ("NONE", 30.0)):
        found, told = measured(study, out, settings=Settings(roles={"multi_echo": keys[kind]}))
        assert found == pytest.approx(t2, abs=0.1)
        # two rows of one number: only the key names one of them
        assert read_settings(out / "settings.toml").roles == (("multi_echo", keys[kind]),)
    assert set(told["inputs"]["rows"]) == {"in_phase", "multi_echo"}


def test_warnings_of_the_series_are_flags(tmp_path, capsys):
    study, out = tiny(tmp_path)
    for path in (study / "multi_echo").iterdir():
        edit(path, BurnedInAnnotation="YES", LossyImageCompression="01")
    last = max((study / "in_phase").iterdir())
    (study / "cut.dcm").write_bytes(last.read_bytes()[:300])
    assert main(["run", str(study), str(out)]) == 0
    flags = json.loads((out / "study.json").read_text())["flags"]
    assert flags[:2] == ["series 5: text burned into the images: pictures and NIfTI show it",
                         "series 5: lossy compression has changed the pixel values; T2 from them is not exact"]
    assert re.fullmatch(r"series 5, 2: .*files .*1 damaged", flags[2])
    page, printed = (out / "quality.html").read_text(), capsys.readouterr().err
    assert all(flag in page and flag in printed for flag in flags)


def test_echoes_that_cannot_be_read_are_not_replaced_by_a_map(tmp_path):
    study, out = tiny(tmp_path)
    first = pydicom.dcmread(next((study / "multi_echo").iterdir()))
    uids = {key: first[key].value for key in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName")}
    grid = tiny_grids()[1]
    write_dicom_series(grid.with_array(np.full(grid.shape, 55.0)), study / "map", study=uids,
                       series={"SeriesNumber": 8, "ScanningSequence": "SE"},
                       image_type=("DERIVED", "PRIMARY", "T2 MAP"))
    min((study / "multi_echo").iterdir()).unlink()
    with pytest.raises(StudyError, match=r'series 5: missing slices.*t2_source = "scanner_map"'):
        measured(study, out)
    assert measured(study, out, settings=Settings(t2_source="scanner_map"))[0] == pytest.approx(55.0, abs=0.01)


def test_a_reviewed_mask_stays_with_its_image(tmp_path):
    study, out = tiny(tmp_path)
    measured(study, out)
    for path in (study / "in_phase").iterdir():
        edit(path, InstitutionName="renamed")  # other files, the same image
    before = measured(study, out)[0]
    shutil.rmtree(study)
    tiny(tmp_path, seed=4, t2_ms=50.0)
    with pytest.raises(StudyError, match="drawn on another structural image"):
        measured(study, out)
    mask = read_nifti(out / "labels_reviewed.nii.gz")
    assert measured(study, out, labels=mask)[0] == pytest.approx(before + 10, abs=0.5)
    assert measured(study, out)[0] == pytest.approx(before + 10, abs=0.5)
    # drawn anew by hand, in place of the kept one
    shutil.rmtree(study)
    tiny(tmp_path, seed=5)
    smaller = mask.array.copy()
    smaller[:4] = 0
    write_nifti(mask.with_array(smaller), out / "labels_reviewed.nii.gz")
    assert measured(study, out)[0] == pytest.approx(before, abs=0.5)


def test_a_refused_b1_map_leaves_no_older_one(tmp_path):
    study, out = tiny(tmp_path)
    first = pydicom.dcmread(next((study / "multi_echo").iterdir()))
    uids = {key: first[key].value for key in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName")}
    grid = tiny_grids()[1]
    for percent, kept in ((90.0, True), (5000.0, False)):
        shutil.rmtree(study / "b1", ignore_errors=True)
        write_dicom_series(grid.with_array(np.full(grid.shape, percent)), study / "b1", study=uids,
                           series={"SeriesNumber": 8, "ScanningSequence": "GR"},
                           image_type=("DERIVED", "PRIMARY", "B1 MAP"))
        notes = [note for note in measured(study, out)[1]["notes"] if note != NO_DIXON]
        assert (out / "B1map.nii.gz").exists() is kept and bool(notes) is not kept
