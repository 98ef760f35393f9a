"""A BIDS dataset that the validators of the BIDS project accept, with the images unchanged in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from cohort_samples import TIMES, reviewed, tiny_grids, tiny_study

from mrmyo import Volume, label_table, process_cohort, read_dicom, read_nifti
from mrmyo.bids import BidsError, bids_label, visit_names, write_dataset
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.settings import Settings
from mrmyo.study_bids import write_bids_visit
from mrmyo.study_cohort import BIDS


def with_more_series(folder):
    """A study with all kinds of images that BIDS has a place for."""
    tiny_study(folder)
    grid, facts = tiny_grids()[0], {"PatientName": "SYNTHETIC^S", "PatientID": "S", "StudyDate": "20200101",
                                    "Manufacturer": "mrmyo synthetic scanner", "PatientPosition": "FFS"}
    values = 100 + np.indices(grid.shape).sum(0)
    dixon = {"ScanningSequence": "SE", "RepetitionTime": 5330.0}
    coronal = np.array([[3.0, 0, 0, -45], [0, 0, 4, -20], [0, 3, 0, -20], [0, 0, 0, 1]])  # slices from back to front

    def write(name, affine, te, image_type=("ORIGINAL", "PRIMARY", "M", "SE"), **series):
        volume = Volume(values, affine, (te,))
        write_dicom_series(volume, folder / name, study=facts, series=series, image_type=image_type)

    write("opposed", grid.affine, 51.0, DIXON_IMAGE_TYPES["opposed_phase"], SeriesNumber=3, **dixon)
    write("water", grid.affine, 51.0, DIXON_IMAGE_TYPES["water"], SeriesNumber=4, **dixon)
    write("fat", grid.affine, 51.0, DIXON_IMAGE_TYPES["fat"], SeriesNumber=6, **dixon)
    write("t1_coronal", coronal, 12.0, SeriesNumber=7, ScanningSequence="SE", RepetitionTime=600.0)
    write("t1_axial", grid.affine, 12.0, SeriesNumber=8, ScanningSequence="SE", RepetitionTime=600.0)
    write("t1_axial_again", grid.affine, 12.0, SeriesNumber=9, ScanningSequence="SE", RepetitionTime=600.0)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """(studies, output): a subject with two visits, and one with one."""
    root = tmp_path_factory.mktemp("bids")
    with_more_series(root / "a1")
    tiny_study(root / "a2", t2_ms=45, seed=2)
    tiny_study(root / "b", t2_ms=50, seed=3)
    folders = {("A-1", "base"): root / "a1", ("A-1", "year_1"): root / "a2", ("B", ""): root / "b"}
    out = root / "out"
    reviewed(out, "A-1/ses-base", "A-1/ses-year_1", "B")
    process_cohort(folders, out, n_jobs=1, bids=True, progress=False)
    return folders, out


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz"))


def test_where_everything_lies(cohort):
    root = cohort[1] / BIDS
    found = names(root / "sub-A1" / "ses-base")
    stem = "anat/sub-A1_ses-base"
    assert found == sorted([
        *(f"{stem}_acq-axial_echo-{n}_MESE.nii.gz" for n in (1, 2, 3, 4)),
        *(f"{stem}_acq-axialDixon_rec-{image}_T2w.nii.gz" for image in ("inphase", "opposedphase", "water", "fat")),
        f"{stem}_acq-coronal_T1w.nii.gz", f"{stem}_acq-axial_run-1_T1w.nii.gz", f"{stem}_acq-axial_run-2_T1w.nii.gz",
    ])
    computed = names(root / "derivatives" / "mrmyo" / "sub-B" / "ses-01")
    assert computed == [f"anat/sub-B_ses-01_space-{end}.nii.gz"
                        for end in ("MESE_T2map", "MESE_dseg", "structural_dseg")]
    table = pd.read_csv(root / "participants.tsv", sep="\t")
    assert list(table.participant_id) == ["sub-A1", "sub-B"]
    assert (root / "sub-A1" / "ses-year1").is_dir()


def test_images_are_those_of_the_study(cohort):
    folders, out = cohort
    series = read_dicom(folders["A-1", "base"])
    folder = out / BIDS / "sub-A1" / "ses-base" / "anat"
    echoes = series.volume("multi_echo")
    for n, time in enumerate(TIMES):
        image = nibabel.load(folder / f"sub-A1_ses-base_acq-axial_echo-{n + 1}_MESE.nii.gz")
        assert np.array_equal(image.get_fdata(), echoes.array[..., n])
        assert np.allclose(image.affine, echoes.affine, atol=1e-4)
        sidecar = json.loads((folder / f"sub-A1_ses-base_acq-axial_echo-{n + 1}_MESE.json").read_text())
        assert sidecar["EchoTime"] == time / 1000 and sidecar["RepetitionTimeExcitation"] == 3.0
    water = nibabel.load(folder / "sub-A1_ses-base_acq-axialDixon_rec-water_T2w.nii.gz")
    assert np.array_equal(water.get_fdata(), series.volume("water").array)


def test_maps_in_seconds_and_masks_with_names(cohort):
    derived = cohort[1] / BIDS / "derivatives" / "mrmyo"
    stem = derived / "sub-B" / "ses-01" / "anat" / "sub-B_ses-01_space-MESE"
    labels = read_nifti(f"{stem}_dseg.nii.gz")
    t2 = nibabel.load(f"{stem}_T2map.nii.gz").get_fdata()
    assert np.median(t2[labels.array == 1]) == pytest.approx(0.050, abs=0.001)
    facts = json.loads(Path(f"{stem}_T2map.json").read_text())
    assert facts["Units"] == "s"
    table = pd.read_csv(derived / "dseg.tsv", sep="\t").set_index("index")
    assert table.name[1] == "left vastus lateralis" and table.abbreviation[21] == "R-VL"
    assert set(label_table().value) <= set(table.index) and set(np.unique(labels.array)) <= set(table.index)
    assert table.abbreviation.is_unique and table.name.is_unique
    for path in derived.rglob("*.json"):  # what they refer to is there
        content = json.loads(path.read_text())
        for reference in [*content.get("Sources", []), *filter(None, [content.get("SpatialReference")])]:
            assert (cohort[1] / BIDS / reference.removeprefix("bids:raw:")).is_file(), reference
    links = json.loads((derived / "dataset_description.json").read_text())["DatasetLinks"]
    assert (derived / links["raw"]).resolve() == (cohort[1] / BIDS).resolve()
    assert "synthetic" in (cohort[1] / BIDS / "README").read_text()


def test_nothing_is_redone_and_what_is_gone_goes(cohort, tmp_path):
    folders, out = cohort
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    study = tmp_path / "a1"
    shutil.copytree(folders["A-1", "base"], study)
    ours = {**folders, ("A-1", "base"): study}
    stamps = {path: path.stat().st_mtime_ns for path in (copy / BIDS).rglob("*.nii.gz")}
    process_cohort(ours, copy, n_jobs=1, bids=True, progress=False)
    assert {path: path.stat().st_mtime_ns for path in (copy / BIDS).rglob("*.nii.gz")} == stamps
    mine = [copy / BIDS / "sub-A1" / "ses-base" / "anat" / name for name in ("sub-A1_ses-base_mine_T1w.nii.gz", "note")]
    for path in mine:
        path.write_text("a user's")
    shutil.rmtree(study / "t1_axial_again")
    (copy / BIDS / "sub-B" / "ses-01" / "anat" / "sub-B_ses-01_acq-axial_echo-2_MESE.nii.gz").unlink()
    process_cohort(ours, copy, n_jobs=1, bids=True, progress=False)
    assert all(path.read_text() == "a user's" for path in mine)
    mine[0].unlink()
    now = names(copy / BIDS)
    anat = copy / BIDS / "sub-A1" / "ses-base" / "anat"
    assert not list(anat.glob("*run-*"))  # nor a sidecar
    assert "sub-A1/ses-base/anat/sub-A1_ses-base_acq-axial_T1w.nii.gz" in now
    assert not [name for name in now if "run-" in name]
    assert "sub-B/ses-01/anat/sub-B_ses-01_acq-axial_echo-2_MESE.nii.gz" in now


@pytest.mark.parametrize(
    ("folders", "says"),
    [({"P-1": "x", "P1": "y"}, "P-1 and P1"), ({"P": {"a-1": "x", "a1": "y"}}, "take for one"),
     ({"sub-A": "x", "A": "y"}, "take for one")],
)
def test_keys_that_bids_would_confuse_are_refused_first(folders, says, tmp_path):
    with pytest.raises(BidsError, match=says):
        process_cohort(folders, tmp_path, n_jobs=1, bids=True, progress=False)
    assert not (tmp_path / "P1").exists()


def test_the_images_of_the_measured_patient_alone(tmp_path):
    """Somebody else's T1 in the folder is not taken along, nor that of another study."""
    tiny_study(tmp_path / "study")
    for kind, patient in (("T", {"PatientName": "T", "PatientID": "T"}),
                          ("U", {"PatientName": "SYNTHETIC^S", "PatientID": "S", "StudyInstanceUID": "1.2.3"})):
        volume = Volume(np.ones((8, 9, 5)), np.diag([1.0, 1, 5, 1]), (12.0,))
        write_dicom_series(volume, tmp_path / "study" / kind, study=patient,
                           series={"SeriesNumber": 9, "ScanningSequence": "SE", "RepetitionTime": 600.0},
                           image_type=("ORIGINAL", "PRIMARY", "M", "SE"))
    out = tmp_path / "out"
    reviewed(out, "P1")
    process_cohort({"P1": tmp_path / "study"}, out, n_jobs=1, bids=True, progress=False)
    found = names(out / BIDS / "sub-P1")
    assert len(found) == 5 and not [name for name in found if "T1w" in name]


def test_sources_follow_the_image_that_the_mask_was_drawn_on(cohort, tmp_path):
    """Another choice of the image is noted, though all files are the same."""
    copy, study = tmp_path / "out", cohort[0]["A-1", "base"]
    shutil.copytree(cohort[1], copy)
    for role, image in (("in_phase", "inphase"), ("water", "water")):
        write_bids_visit(study, copy / "A-1" / "ses-base", copy / BIDS, subject="A-1", session="base",
                         settings=Settings(segment_on=(role,)))
        folder = copy / BIDS / "derivatives" / "mrmyo" / "sub-A1" / "ses-base" / "anat"
        facts = json.loads((folder / "sub-A1_ses-base_space-structural_dseg.json").read_text())
        source = f"bids:raw:sub-A1/ses-base/anat/sub-A1_ses-base_acq-axialDixon_rec-{image}_T2w.nii.gz"
        assert facts["Sources"] == [facts["SpatialReference"]] == [source]


def test_labels_and_names():
    assert bids_label("sub-01_a.b-c") == "01abc" and bids_label("ses-2", prefix="ses-") == "2"
    with pytest.raises(BidsError, match="letters or digits"):
        bids_label("sub-")
    oblique = np.eye(4)
    oblique[:3, :3] = [[1, 0, 0], [0, 0.3, -4.9], [0, 0.9, 1.5]]
    gradient = Volume(np.zeros((2, 2, 2)), oblique, (2.4,), {"RepetitionTime": 7.0})
    assert visit_names("P", "1", [("fat", gradient)]) == ["sub-P/ses-1/anat/sub-P_ses-1_acq-coronalDixon_rec-fat_T1w"]


def test_an_empty_dataset_is_still_one(tmp_path):
    write_dataset(tmp_path, version="0")
    assert (tmp_path / "participants.tsv").read_text() == "participant_id\n"
    assert "synthetic" not in (tmp_path / "README").read_text()


# -- the validators of the BIDS project ----------------------------------------------------------------------------


def validate(program, folder):
    command = [str(part) for part in (*program, folder, "--json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.lstrip().startswith("{"), done.stdout + done.stderr
    return json.loads(done.stdout)["issues"]


@pytest.fixture(scope="module")
def schema_validator():
    """The validator that knows derivatives too; it comes with the extra ``dev``."""
    path = Path(sys.executable).with_name("bids-validator-deno")
    path = path if path.exists() else shutil.which("bids-validator-deno")
    if not path:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no bids-validator-deno here; the extra dev has it")
    return [path]


@pytest.fixture(scope="module")
def npm_validator():
    """The validator from npm, installed once into the folder that MRMYO_NPM names: never unasked."""
    cache = os.environ.get("MRMYO_NPM")
    if not cache:
        pytest.skip("MRMYO_NPM names no folder to install the npm validator into")
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    program = Path(cache) / "node_modules" / ".bin" / "bids-validator"
    if not program.exists():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", cache, "bids-validator@1.15.0"],
                       check=True, capture_output=True)
    return [program]


@pytest.mark.parametrize("part", ["raw", "derivatives/mrmyo"])
def test_the_schema_finds_no_error(part, cohort, schema_validator, tmp_path):
    folder = cohort[1] / BIDS / (part if part != "raw" else "")
    issues = validate(schema_validator, folder)["issues"]
    assert not [issue for issue in issues if issue["severity"] == "error"]
    assert {issue["code"] for issue in issues} <= {  # of what an archive may add, and we do not know or tell
        "TOO_FEW_AUTHORS", "NO_AUTHORS", "JSON_KEY_RECOMMENDED", "SIDECAR_KEY_RECOMMENDED", "UNKNOWN_BIDS_VERSION",
    }
    spoiled = tmp_path / "spoiled"
    shutil.copytree(folder, spoiled)
    (spoiled / "sub-B" / "ses-01" / "anat" / "sub-B_ses-01_dixon.nii.gz").write_bytes(b"")
    assert [issue for issue in validate(schema_validator, spoiled)["issues"] if issue["severity"] == "error"]


def test_the_validator_from_npm_finds_no_error(cohort, npm_validator, tmp_path):
    issues = validate(npm_validator, cohort[1] / BIDS)
    assert not issues["errors"]  # and that the subjects have other sessions and images is so
    assert {issue["key"] for issue in issues["warnings"]} <= {"NO_AUTHORS", "MISSING_SESSION", "INCONSISTENT_SUBJECTS"}
    shutil.copytree(cohort[1] / BIDS, tmp_path / "spoiled")
    (tmp_path / "spoiled" / "sub-B" / "ses-01" / "anat" / "sub-B_ses-01_dixon.nii.gz").write_bytes(b"")
    assert validate(npm_validator, tmp_path / "spoiled")["errors"]
