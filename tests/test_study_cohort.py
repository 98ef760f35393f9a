"""Many studies to one table: keys, sessions, the summary, the command."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pandas as pd
import pytest
from cohort_samples import reviewed, tiny

from mrmyo import process_cohort, process_study, read_nifti, study_cohort, write_nifti
from mrmyo.__main__ import main
from mrmyo.files import FolderInUseError, locked, remove_leftovers, replacing
from mrmyo.study import StudyError
from mrmyo.study_results import read_rows
from mrmyo.study_subjects import KEYS, visits_of

__all__ = ["tiny"]  # a fixture


def summary_of(out):
    return pd.read_csv(out / "summary.csv", keep_default_na=False, dtype=str)


def whole(rows):
    both = rows[(rows.muscle == "whole muscle") & (rows.side == "both")]
    return {(row.subject, row.session): round(row.t2_ms) for row in both.itertuples()}


def test_rows_of_subject_session_side_and_muscle(tiny, tmp_path):
    reviewed(tmp_path, "P1/ses-01", "P1/ses-02", "P2")
    folders = {"P1": {"ses-02": tiny / "a", "01": tiny / "a_before"}, "P2": tiny / "b"}
    rows = process_cohort(folders, tmp_path, n_jobs=1, progress=False)
    assert whole(rows) == {("P1", "01"): 40, ("P1", "02"): 35, ("P2", "01"): 45}
    keys = ["subject", "session", "side", "muscle"]
    assert not rows.duplicated(keys).any() and list(rows.columns[:2]) == ["subject", "session"]
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path))
    pairs = {(s, n): f for s, value in folders.items() if isinstance(value, dict) for n, f in value.items()}
    again = process_cohort({**pairs, ("P2", ""): tiny / "b"}, tmp_path, n_jobs=1, progress=False)
    pd.testing.assert_frame_equal(again, rows)
    summary = summary_of(tmp_path)
    assert list(summary.outcome) == ["unchanged"] * 3
    assert list(summary.columns) == ["subject", "session", "outcome", "reason", "flags", "seconds", "n_rows"]


def test_what_changed_is_measured_and_told(tiny, tmp_path):
    reviewed(tmp_path, "P1", "P2")
    folders = {"P1": tiny / "a", "P2": tiny / "b"}
    process_cohort(folders, tmp_path, n_jobs=1, progress=False)
    assert list(summary_of(tmp_path).outcome) == ["measured", "measured"]
    mask = read_nifti(tmp_path / "P2" / "labels_reviewed.nii.gz")
    smaller = mask.array.copy()
    smaller[:, :5] = 0
    write_nifti(mask.with_array(smaller), tmp_path / "P2" / "labels_reviewed.nii.gz")
    process_cohort(folders, tmp_path, n_jobs=1, progress=False)
    assert list(summary_of(tmp_path).outcome) == ["unchanged", "measured"]


def tmp_path_of(root, name):
    (root / name).mkdir()
    return root / name


def test_the_same_study_twice_is_measured_once(tiny, tmp_path):
    shutil.copytree(tiny / "a", tmp_path / "copy")
    out = tmp_path_of(tmp_path, "out")
    visit = visits_of([tiny / "a", tmp_path / "copy"], out)[0]
    reviewed(out, visit.place)
    rows = process_cohort([tiny / "a", tmp_path / "copy"], out, n_jobs=1, progress=False)
    assert not rows.duplicated(["subject", "session", "side", "muscle"]).any()
    summary = summary_of(out)
    assert list(summary.outcome) == ["measured", "skipped"]
    assert summary.reason[1] == f"holds the same study as the folder of {visit.place}"


@pytest.mark.parametrize("key", ["NA", "None", "null", "nan", "007"])
def test_a_key_stays_as_it_is(key, tiny, tmp_path):
    reviewed(tmp_path, f"{key}/ses-{key}")
    rows = process_cohort({key: {key: tiny / "a"}}, tmp_path, n_jobs=1, progress=False)
    again = process_cohort({(key, key): tiny / "a"}, tmp_path, n_jobs=1, progress=False)
    for table in (rows, again):
        assert set(table.subject) == set(table.session) == {key} and table.t2_ms.dtype == float
    assert (tmp_path / "rows.csv").read_text().splitlines()[1].startswith(f"{key},{key},mono")
    assert list(summary_of(tmp_path).subject) == [key]


def test_what_failed_now_does_not_pass_for_current(tiny, tmp_path):
    reviewed(tmp_path, "P1", "P2")
    folders = {}
    for key, name in (("P1", "a"), ("P2", "b")):
        folders[key] = tmp_path_of(tmp_path, f"study_{key}") / name
        shutil.copytree(tiny / name, folders[key])
    process_cohort(folders, tmp_path, n_jobs=1, bids=True, progress=False)
    mine = tmp_path / "bids" / "sub-P1" / "ses-01" / "anat" / "mine.txt"
    mine.write_text("a user's")
    shutil.rmtree(folders["P1"])
    process_cohort(folders, tmp_path, n_jobs=1, bids=True, progress=False)
    bids = tmp_path / "bids"
    assert [path for path in bids.rglob("*") if "P1" in str(path.relative_to(bids)) and path.is_file()] == [mine]
    assert (bids / "participants.tsv").read_text().split() == ["participant_id", "sub-P2"]
    assert "Earlier results remain" in summary_of(tmp_path).reason[0] and (tmp_path / "P1" / "rows.csv").is_file()
    shutil.rmtree(folders["P2"])
    with pytest.raises(StudyError, match="None of the 2"):
        process_cohort(folders, tmp_path, n_jobs=1, progress=False)
    assert not (tmp_path / "rows.csv").exists() and not (bids / "sub-P2").exists()
    assert (bids / "participants.tsv").read_text().split() == ["participant_id"]


def test_one_bad_study_does_not_stop_the_others(tiny, tmp_path):
    bad = tmp_path / "Doe_Jane"
    bad.mkdir()
    (bad / "notes.txt").write_text("not an image")
    out = tmp_path_of(tmp_path, "out")
    reviewed(out, visits_of([tiny / "a"], out)[0].place)
    rows = process_cohort([tiny / "a", bad, tmp_path / "Doe_John"], out, n_jobs=1, progress=False)
    summary = summary_of(out)
    assert sorted(summary.outcome) == ["failed", "failed", "measured"]
    assert (summary.reason[summary.outcome == "failed"].str.len() > 20).all()
    assert rows.subject.nunique() == 1
    assert not [p for p in out.rglob("*") if "Doe" in p.name]
    assert b"Doe" not in (out / "summary.csv").read_bytes()
    keys = out / KEYS
    assert set(pd.read_csv(keys).subject) == set(summary.subject) and keys.stat().st_mode & 0o077 == 0
    failed = summary.subject[summary.outcome == "failed"].iloc[0]
    assert not (out / failed).exists()  # what was refused leaves no empty folder
    with pytest.raises(StudyError, match="None of the 1 studies"):
        process_cohort({"A": bad}, tmp_path / "other", n_jobs=1, progress=False)


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ({"../escaped": "x"}, "keys"), ({"": "x"}, "keys"), ({".": "x"}, "keys"), ({"a/b": "x"}, "keys"),
        ({"bids": "x"}, "keys"), ({"rows.csv": "x"}, "keys"), ({"P": {"a b": "x"}}, "keys"), ({"Jürgen": "x"}, "keys"),
        ({"P1": "x", "p1": "y"}, "twice"), ({("P", ""): "x", ("P", "01"): "y"}, "twice"), ({1: "x", "1": "y"}, "twice"),
        ({("P", "1", "2"): "x"}, "3 parts"), ({}, "no study folders"), ([], "no study folders"),
    ],
    ids=str,
)
def test_keys_that_cannot_be_are_refused(folders, says, tmp_path):
    with pytest.raises(StudyError, match=says):
        process_cohort(folders, tmp_path / "out", n_jobs=1, progress=False)


@pytest.mark.parametrize("kind", [str, Path])
def test_one_path_is_no_list(kind, tiny, tmp_path):
    with pytest.raises(StudyError, match="list"):
        process_cohort(kind(tiny / "a"), tmp_path / "out", n_jobs=1, progress=False)


def test_options_that_cannot_be_are_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/out"):
        with pytest.raises(StudyError, match="a file where the output folder"):
            process_cohort([tiny / "a"], tmp_path / out, n_jobs=1, progress=False)
    for n_jobs in (0, 1.5, "2"):
        with pytest.raises(StudyError, match="number of studies at a time"):
            process_cohort([tiny / "a"], tmp_path / "out", n_jobs=n_jobs, progress=False)


def test_an_unforeseen_failure_is_reported_without_paths(tiny, tmp_path, monkeypatch):
    def explode(folder, *_, **__):
        raise errors.pop()

    monkeypatch.setattr(study_cohort, "process_study", explode)
    errors = [
        MemoryError("no room"), PermissionError(errno.EACCES, "Permission denied", str(tiny / "Doe^Jane.dcm")),
        RuntimeError(f"decoder: could not open {tiny}/Doe^Jane.dcm"), ValueError("invalid literal: 'Doe^Jane'"),
    ]
    for says in ("ValueError: invalid literal: …", "RuntimeError: decoder", "Permission denied", "no room"):
        with pytest.raises(StudyError, match=says) as told:
            process_cohort({"A": tiny / "a"}, tmp_path / "out", n_jobs=1, progress=False)
        text = str(told.value) + (tmp_path / "out" / "summary.csv").read_text()
        assert "Doe" not in text and str(tiny) not in text


def test_a_corrected_mask_counts_in_the_cohort_too(tiny, tmp_path):
    reviewed(tmp_path, "P1")
    before = process_cohort({"P1": tiny / "a"}, tmp_path, n_jobs=1, progress=False)
    mask = read_nifti(tmp_path / "P1" / "mask.nii.gz")
    left = mask.with_array((mask.array * (mask.array < 20)).astype("uint8"))
    corrected = process_study(tiny / "a", tmp_path / "P1", labels=left, progress=False)
    rows = process_cohort({"P1": tiny / "a"}, tmp_path, n_jobs=1, progress=False)
    pd.testing.assert_frame_equal(rows, corrected)
    assert list(summary_of(tmp_path).outcome) == ["unchanged"] and len(rows) < len(before)


# -- the command ---------------------------------------------------------------------------------------------------


def test_a_table_states_the_keys(tiny, tmp_path, capsys):
    table = tmp_path / "subjects.csv"
    table.write_text(f"\ufeffSubject;Session;Folder\n007;02;{tiny / 'a'}\n007;01;{tiny / 'a_before'}\n")
    out = tmp_path / "out"
    reviewed(out, "007/ses-01", "007/ses-02")
    assert main(["cohort", "--subjects", str(table), "--out", str(out), "--jobs", "1"]) == 0
    assert "2 studies: 2 measured" in capsys.readouterr().out
    rows = pd.read_csv(out / "rows.csv", dtype={"subject": str, "session": str})
    assert whole(rows) == {("007", "01"): 40, ("007", "02"): 35}


@pytest.mark.parametrize(
    ("text", "says"),
    [("subject,path\nP1,x\n", "columns subject and folder"), ("subject,folder\nP1,\n", "without subject or folder"),
     ("subject,folder\nP1,x\nP1,y\n", "twice"), ("", "cannot be read"), (None, "cannot be read")],
)
def test_a_table_that_cannot_be_used(text, says, tmp_path, capsys):
    table = tmp_path / "t.csv"
    if text is not None:
        table.write_text(text)
    assert main(["cohort", "--subjects", str(table), "--out", str(tmp_path / "out")]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_or_a_table(tmp_path, capsys):
    assert main(["cohort", "--out", str(tmp_path / "out")]) == 1
    assert "--subjects" in capsys.readouterr().err


def test_sessions_told_by_identity_are_pointed_out(tiny, tmp_path, capsys):
    folders = [tiny / "a", tiny / "a_before", tiny / "b"]
    places = [visit.place for visit in visits_of(folders, tmp_path)]
    reviewed(tmp_path, *places)
    assert main(["cohort", *map(str, folders), "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert "sessions of one subject" in capsys.readouterr().out
    summary = summary_of(tmp_path)
    assert list(summary["flags"].str.contains("identity")) == list(summary.subject.duplicated(keep=False))


# -- files ---------------------------------------------------------------------------------------------------------


def test_files_are_complete_or_absent(tmp_path):
    path = tmp_path / "a.csv"
    with replacing(path, private=True) as partial:
        partial.write_text("old")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    (tmp_path / ".partial-1").mkdir()
    (tmp_path / ".partial-1" / "x").write_text("")
    (tmp_path / ".partial-2").write_text("")
    (tmp_path / ".mine").write_text("")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine", "a.csv"]


def test_two_runs_at_one_folder_are_refused(tiny, tmp_path):
    with locked(tmp_path), pytest.raises(FolderInUseError, match="wait until it ends"):
        process_cohort({"A": tiny / "a"}, tmp_path, n_jobs=1, progress=False)
    with locked(tmp_path):  # let go of
        pass
