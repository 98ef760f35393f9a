"""`mrmyo evaluate`: files and folders to tables, figures and a page; what has no partner is refused."""

from __future__ import annotations

import json

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mrmyo import evaluate, figures, read_nifti, write_nifti
from mrmyo.__main__ import main
from mrmyo.evaluation import EvaluationError
from mrmyo.evaluation_files import evaluate_files
from mrmyo.evaluation_summary import summarise
from mrmyo.figures import FigureError
from mrmyo.nifti import write_t2map
from mrmyo.volume import Volume

AFFINE = np.diag([1.5, 1.5, 6.0, 1.0])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def pair(seed=0, *, shift=2):
    """Two thighs with two muscles each, and a mask of them that lies `shift` voxels off and misses the top slice."""
    rng = np.random.default_rng(seed)
    theirs = np.zeros((60, 30, 9), np.uint8)
    for start, offset in ((5, 0), (38, 20)):
        theirs[start:start + 12, 5:15, 1:8], theirs[start:start + 12, 15:25, 1:8] = 1 + offset, 9 + offset
    ours = np.roll(theirs, shift, axis=0)
    ours[..., 7] = 0
    t2 = (35 + 6 * (theirs > 0) + rng.normal(0, 1, theirs.shape)).astype(np.float32)
    return Volume(ours, AFFINE), Volume(theirs, AFFINE), Volume(t2, AFFINE)


@pytest.fixture
def cohort(tmp_path):
    for i in range(3):
        ours, theirs, t2 = pair(i, shift=i)
        write_nifti(ours, tmp_path / "ours" / f"case{i}.nii.gz")
        write_nifti(theirs, tmp_path / "theirs" / f"case{i}.nii.gz")
        write_t2map(t2, tmp_path / "t2" / f"case{i}.nii.gz")
        write_nifti(Volume(t2.array * 10, AFFINE), tmp_path / "images" / f"case{i}.nii.gz")
    return tmp_path


def test_a_cohort_becomes_tables_figures_and_one_page(cohort, capsys):
    out = cohort / "out"
    command = ["evaluate", cohort / "ours", cohort / "theirs", "--out", out, "--t2", cohort / "t2", "--image",
               cohort / "images"]
    assert main([str(part) for part in command]) == 0
    printed = capsys.readouterr().out
    assert "vastus lateralis" in printed and "Means of 3 case(s)" in printed and "delta_t2_ms" in printed
    table = pd.read_csv(out / "table.csv")
    assert list(table.subject.unique()) == ["case0", "case1", "case2"]
    expected = evaluate(*pair(2, shift=2)[:2], t2=pair(2)[2]).select_dtypes("number")
    found = table[table.subject == "case2"][expected.columns]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # the map went through seconds, in float32
    summary = pd.read_csv(out / "summary.csv")
    assert summary[summary.level == "all"].n.max() == 3
    assert set(pd.read_csv(out / "agreement.csv").quantity) == {"volume_ml", "t2_ms"}
    pictures = {"dice", "surface_distance", "volume", "t2", "levels", "masks_best", "masks_worst"}
    assert {path.stem for path in out.glob("*.png")} == pictures
    page = (out / "evaluation.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(pictures) and "http" not in page and "Research use only" in page
    assert "synthetic" not in page.lower()
    assert not list(out.glob(".partial-*"))


def test_one_pair_of_files_in_other_values(cohort):
    _, theirs, _ = pair()
    foreign = np.select([np.isin(theirs.array, (1, 21)), np.isin(theirs.array, (9, 29))], [3, 10]).astype(np.uint8)
    write_nifti(Volume(foreign, AFFINE), cohort / "foreign.nii.gz")
    rows, _ = evaluate_files(cohort / "ours" / "case0.nii.gz", cohort / "foreign.nii.gz", cohort / "one",
                             reference_values="thigh11", progress=False)
    plain = evaluate(pair(shift=0)[0], theirs)
    pd.testing.assert_frame_equal(rows.drop(columns="subject"), plain, check_dtype=False)
    assert set(rows.subject) == {"case0"} and not (cohort / "one" / "t2.png").exists()
    assert (cohort / "one" / "levels.png").exists()
    only, _ = evaluate_files(cohort / "ours" / "case0.nii.gz", cohort / "theirs" / "case0.nii.gz", cohort / "one",
                             only=["VL"], n_levels=1, progress=False)
    assert set(only.abbreviation) == {"VL", "ALL"} and not (cohort / "one" / "levels.png").exists()


def test_what_was_missed_or_left_out_is_on_the_page_in_the_summary_and_printed(cohort, capsys):
    ours, theirs, _ = pair()
    one_side = np.where(theirs.array > 20, theirs.array, 0)
    one_side[..., 2:5] = 0
    write_nifti(Volume(one_side.astype(np.uint8), AFFINE), cohort / "theirs" / "case0.nii.gz")
    lost = np.where(ours.array == 1, 0, ours.array)
    write_nifti(Volume(lost.astype(np.uint8), AFFINE), cohort / "ours" / "case1.nii.gz")
    out = cohort / "out"
    assert main(["evaluate", str(cohort / "ours"), str(cohort / "theirs"), "--out", str(out)]) == 0
    printed = capsys.readouterr().err
    page = (out / "evaluation.html").read_text(encoding="utf-8")
    for text in (printed, page):
        assert "muscle on one side only in 1 of 3 cases: case0 (right;" in text
        assert "empty slices between its lowest and its highest in 1 of 3 cases: case0 (" in text
        assert "empty in 3 of 7" in text
    for words in ("slices extra", "on the other side (ml)", "1 of 3 subjects (1 missed)"):
        assert words in page
    summary = pd.read_csv(out / "summary.csv").query("level == 'all'")
    summary = summary.set_index(["abbreviation", "side", "measure"]).sort_index()
    whole = summary.loc["ALL", "both"]
    assert whole.loc["n_extra_slices", "maximum"] == 3 and whole.loc["n_missed_slices", "mean"] == 1
    other_ml = 2 * 12 * 10 * 6 * 1.5 * 1.5 * 6 / 1000  # the left thigh in the six slices of the mask
    assert whole.loc["other_side_ml", "mean"] == pytest.approx(other_ml / 3, rel=1e-4)
    missed = summary.loc[("VL", "mean of sides", "hd95_in_plane_mm")]
    assert (missed.n, missed.n_missing, missed.n_parts_missing) == (2, 1, 1)


def test_files_of_others_in_the_folder_are_left_alone(cohort, capsys):
    out = cohort / "out"
    for name in ("t2.png", "dice.png", "volume.png", "table.csv", "evaluation.html"):
        out.mkdir(exist_ok=True)
        (out / name).write_bytes(b"somebody's own")
        assert main(["evaluate", str(cohort / "ours"), str(cohort / "theirs"), "--out", str(out)]) == 1
        assert f"holds {name} but no page" in capsys.readouterr().err
        assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [(name, b"somebody's own")]
        (out / name).unlink()
    (out / "notes.txt").write_text("mine")
    for _ in range(2):  # an earlier evaluation is replaced
        evaluate_files(cohort / "ours", cohort / "theirs", out, progress=False)
    assert (out / "notes.txt").read_text() == "mine" and (out / "summary.csv").exists()
    with pytest.raises(EvaluationError, match="expected a folder"):
        evaluate_files(cohort / "ours", cohort / "theirs", out / "notes.txt", progress=False)


def test_tables_are_there_only_where_all_is(cohort, monkeypatch):
    out = cohort / "out"
    evaluate_files(cohort / "ours", cohort / "theirs", out, progress=False)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:  # nothing of the old goes before the new can be drawn
        patch.setattr(figures, "mask_pair", fails)
        with pytest.raises(OSError, match="No space"):
            evaluate_files(cohort / "ours", cohort / "theirs", out, progress=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    with monkeypatch.context() as patch:  # a disk that is full after the page: no table that tells of an older run
        patch.setattr("pathlib.Path.write_bytes", fails)
        with pytest.raises(OSError, match="No space"):
            evaluate_files(cohort / "ours", cohort / "theirs", out, only=["VL"], progress=False)
    assert {path.name for path in out.iterdir()} == {"evaluation.html"}
    evaluate_files(cohort / "ours", cohort / "theirs", out, progress=False)  # and it can be run again
    assert {path.name for path in out.iterdir()} == set(kept)


def test_synthetic_images_are_called_so(cohort):
    sidecar = cohort / "images" / "case0.json"
    sidecar.write_text(json.dumps({"Manufacturer": "mrmyo synthetic scanner"}))
    evaluate_files(cohort / "ours", cohort / "theirs", cohort / "out", image=cohort / "images", progress=False)
    assert "All data on this page are synthetic" in (cohort / "out" / "evaluation.html").read_text(encoding="utf-8")


def test_what_has_no_partner_or_cannot_be_compared_is_refused(cohort, capsys):
    def refused(*arguments):
        assert main(["evaluate", *map(str, arguments), "--out", str(cohort / "out")]) == 1
        assert not (cohort / "out").exists()
        return capsys.readouterr().err

    assert "expected folders" in refused(cohort / "ours", cohort / "theirs" / "case0.nii.gz")
    assert "no file nowhere.nii.gz" in refused(cohort / "nowhere.nii.gz", cohort / "theirs" / "case0.nii.gz")
    (cohort / "empty").mkdir()
    assert "no .nii" in refused(cohort / "empty", cohort / "theirs")
    assert "Units" in refused(cohort / "ours", cohort / "theirs", "--t2", cohort / "images")
    assert "thigh11" in refused(cohort / "ours", cohort / "theirs", "--reference-values", "thigh12")
    assert "one grid" in refused(cohort / "ours" / "case0.nii.gz", cohort / "theirs" / "case0.nii.gz", "--image",
                                 write_nifti(Volume(np.ones((4, 4, 4)), AFFINE), cohort / "small.nii.gz"))
    (cohort / "ours" / "._case0.nii.gz").write_bytes(b"left by a viewer")  # no case
    twice = write_nifti(pair()[0], cohort / "ours" / "case0.nii")
    assert "case0.nii and case0.nii.gz" in refused(cohort / "ours", cohort / "theirs")
    twice.unlink()
    (cohort / "ours" / "case1.nii.gz").unlink()
    assert "no partner: case1" in refused(cohort / "ours", cohort / "theirs")
    write_nifti(pair()[0].with_array(np.full((60, 30, 9), 77, np.uint8)), cohort / "ours" / "case1.nii.gz")
    message = refused(cohort / "ours", cohort / "theirs")
    assert "1 of 3 cases" in message and "case1: In the labels: Found label values [77]" in message


def test_the_strip_shows_every_case_and_the_mean():
    rows = pd.concat([evaluate(*pair(i, shift=i)[:2]).assign(subject=f"S{i}") for i in range(3)])
    summary = summarise(rows)
    ax = figures.muscle_strip(rows, summary=summary, goal=0.9, synthetic=True)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["VL", "SM", "whole"]
    left = ax.collections[0].get_offsets()
    expected = rows[(rows.level == "all") & (rows.side == "left")]
    np.testing.assert_allclose(np.sort(left[:, 0]), np.sort(expected.dice))
    marks = [line for line in ax.lines if line.get_marker() == "D"]
    means = summary[(summary.measure == "dice") & (summary.level == "all")].set_index(["abbreviation", "side"])["mean"]
    shown = [means["VL", "mean of sides"], means["SM", "mean of sides"], means["ALL", "both"]]
    assert sorted(line.get_xdata()[0] for line in marks) == pytest.approx(sorted(shown))
    assert "n = 3" in ax.get_xlabel() and ax.get_title() == "Synthetic data"
    assert "3 without" in figures.muscle_strip(rows.assign(hd95_mm=rows.hd95_mm.where(rows.side != "both")),
                                               value="hd95_mm").get_xlabel()
    with pytest.raises(FigureError, match="no column"):
        figures.muscle_strip(rows, value="t2_ms")
    with pytest.raises(FigureError, match="distal"):
        figures.muscle_strip(rows, level="top")


def test_the_map_of_levels_holds_the_means():
    rows = evaluate(*pair(0, shift=2)[:2]).assign(subject="S")
    summary = summarise(rows)
    ax = figures.level_map(summary)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["all", "distal", "middle", "proximal"]
    shown = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.images[0].get_array(), strict=True))
    left_right = rows[(rows.abbreviation == "VL") & (rows.level == "middle")].dice.mean()
    assert shown["VL"][2] == pytest.approx(left_right) and set(shown) == {"VL", "SM", "whole", "mean"}
    with pytest.raises(FigureError, match="no measure"):
        figures.level_map(summary, value="t2_ms")


def test_the_pair_of_masks_is_drawn_at_its_place(cohort):
    ours, theirs, t2 = pair()
    ax = figures.mask_pair(t2, ours, theirs, slice_index=3, legend=True)
    filled = ax.images[1].get_array()
    assert (filled[..., 3] > 0).sum() == (ours.array[..., 3] > 0).sum()
    lines = np.concatenate([path.vertices for part in ax.collections for path in part.get_paths()])
    # the outline of the left vastus lateralis begins 5 voxels from the patient's left, on the right of the picture
    assert lines[:, 0].max() == pytest.approx(1.5 * (60 - 5), abs=0.8)
    figures.mask_pair(None, ours, read_nifti(cohort / "theirs" / "case0.nii.gz"))
    with pytest.raises(FigureError, match="one grid"):
        figures.mask_pair(None, Volume(ours.array[1:], AFFINE), theirs)
