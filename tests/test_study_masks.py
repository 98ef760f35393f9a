"""`mrmyo segment` on one image and on several, and what a study keeps of its slices. All images here are synthetic."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from thighs import draw_thighs

from mrmyo import read_nifti, write_nifti
from mrmyo.__main__ import main
from mrmyo.figures.pages import write_quality_page
from mrmyo.provenance import file_digest
from mrmyo.segmentation import segment, slice_quality
from mrmyo.study_masks import output_names
from mrmyo.study_results import SLICE_QUALITY
from mrmyo.study_stages import Stages
from mrmyo.volume import Volume


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two slices through thighs in one file, the same in another, and one that shows none."""
    folder = tmp_path_factory.mktemp("images")
    image = draw_thighs(20260722)[0]
    image = Volume(image.array[..., 1:3], image.affine)
    for name in ("first", "second"):
        write_nifti(image, folder / f"{name}.nii.gz")
    write_nifti(image.with_array(np.random.default_rng(0).rayleigh(1, image.shape).astype(np.float32)),
                folder / "noise.nii.gz")
    return folder


def test_one_image_gives_labels_quality_and_a_word_on_the_slices(images, tmp_path, capsys):
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", str(images / "first.nii.gz"), str(out), "--probability"]) == 0
    quality = pd.read_csv(tmp_path / "labels_quality.csv")
    assert len(quality) == 4 and {"slice", "side", "expected_dice", "flag"} <= set(quality.columns)
    assert quality.expected_dice.between(0.5, 1).all()
    probability = read_nifti(tmp_path / "labels_probability.nii.gz").array
    labels = read_nifti(out).array
    assert ((probability > 0.5) == ((labels > 0) & (labels < 40))).mean() > 0.99
    assert (tmp_path / "labels_entropy.nii.gz").is_file()
    printed = capsys.readouterr().out
    assert "nothing was noticed" in printed and "n_voxels" in printed


def test_what_is_flagged_is_printed(images, tmp_path, capsys):
    image = read_nifti(images / "first.nii.gz")
    half = image.shape[0] // 2
    write_nifti(Volume(image.array[:half], image.affine), tmp_path / "one_leg.nii.gz")
    assert main(["segment", str(tmp_path / "one_leg.nii.gz"), str(tmp_path / "out.nii.gz")]) == 0
    assert "left thigh, slices 0–1: left or right by position alone" in capsys.readouterr().out


def test_further_contrasts_of_one_image(images, tmp_path, capsys):
    first = images / "first.nii.gz"
    image = read_nifti(first)
    # the other contrast lies 10 voxels astray, so the mask of both is neither's own
    other, out = tmp_path / "astray.nii.gz", tmp_path / "labels.nii.gz"
    astray = image.with_array(np.roll(image.array, 10, axis=0))
    write_nifti(astray, other)
    assert main(["segment", str(first), str(out), "--beside", str(other), str(first)]) == 0
    expected = segment(image, progress=False, beside=[astray, image])
    np.testing.assert_array_equal(read_nifti(out).array, expected.array)
    assert (expected.array != segment(image, progress=False).array).mean() > 0.001
    # no such file; an output that is an input; the contrasts of one image beside two
    second = images / "second.nii.gz"
    for images_and_out, beside, says in (([first, "no.nii.gz"], "one.nii.gz", "one.nii.gz"),
                                         ([first, other], other, "would be lost"),
                                         ([first, second, "folder"], other, "expected the one image")):
        arguments = [str(tmp_path / path) for path in images_and_out]
        assert main(["segment", *arguments, "--beside", str(tmp_path / beside)]) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "no.nii.gz").exists() and read_nifti(other).shape == image.shape


def test_several_images_go_to_a_folder_and_a_bad_one_stops_no_other(images, tmp_path, capsys):
    names = ["first", "noise", "second"]
    assert main(["segment", *(str(images / f"{name}.nii.gz") for name in names), str(tmp_path / "out")]) == 1
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"first_labels.nii.gz", "first_labels_quality.csv", "second_labels.nii.gz"} <= made
    assert not any("noise" in name for name in made)
    assert "noise_labels.nii.gz was not made" in capsys.readouterr().err
    first, second = (read_nifti(tmp_path / "out" / f"{name}_labels.nii.gz").array for name in ("first", "second"))
    np.testing.assert_array_equal(first, second)


def test_names_of_outputs(tmp_path):
    (tmp_path / "Doe^Jane").mkdir()
    names = output_names([tmp_path / "Doe^Jane", tmp_path / "b.nii"], tmp_path / "out")
    assert [name.name for name in names] == ["image-01_labels.nii.gz", "b_labels.nii.gz"]
    with pytest.raises(ValueError, match="same name"):
        output_names([tmp_path / "x" / "a.nii", tmp_path / "y" / "a.nii.gz"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"ends in \.nii"):
        output_names([tmp_path / "a.nii"], tmp_path / "out")
    with pytest.raises(ValueError, match="input itself"):
        output_names([tmp_path / "a.nii"], tmp_path / "a.nii")


def rows_of_a_study():
    columns = {"t2_ms": 40.0, "t2_sd_ms": 5.0, "t2_median_ms": 40.0, "t2_noise_ms": 1.0, "t2_mean_sd_ms": 0.1,
               "n_voxels": 100, "n_failed": 0,
               "volume_ml": 10.0}
    return pd.DataFrame([{"side": side, "muscle": "whole muscle", **columns} for side in ("left", "right", "both")])


@pytest.mark.parametrize("upwards", [True, False])
def test_the_page_shows_the_flagged_slices(images, tmp_path, upwards, monkeypatch):
    image = read_nifti(images / "first.nii.gz")
    if not upwards:
        affine = image.affine.copy()
        affine[:3, 3] += affine[:3, 2]
        affine[:3, 2] *= -1
        image = Volume(image.array[..., ::-1], affine)
    labels = segment(image, progress=False)
    quality = slice_quality(labels)
    quality.loc[quality["slice"] == 1, "flag"] = "a reason to look"
    shown = []
    from mrmyo.figures import pictures

    plain = pictures.overlay
    monkeypatch.setattr(pictures, "overlay", lambda *args, **options: shown.append(options["slice_index"]) or plain(
        *args, **options))
    path = write_quality_page(tmp_path / "quality.html", rows=rows_of_a_study(), flags=[], facts={"subject": "SYN"},
                              structural=image, mask=labels, t2=image.with_array(30 + 0 * image.array),
                              labels=labels, slices=quality)
    page = path.read_text()
    assert page.count("a reason to look") == 2 and "Slices to look at first" in page
    assert shown[-4 if len(shown) > 4 else 0:] and (1 if upwards else 0) in shown


def test_a_study_tells_of_flagged_slices_and_of_none_for_a_reviewed_mask(tmp_path):
    from mrmyo.study_results import _slices

    frame = pd.DataFrame([{"slice": 3, "side": "left", "expected_dice": 0.5, "empty": False, "muscle_cm2": 50.0,
                           "flag": "cut off by the edge of the image"}])
    frame.to_csv(tmp_path / SLICE_QUALITY, index=False)
    assert _slices(tmp_path, {"mask": "reviewed 1234"}) is None
    pd.testing.assert_frame_equal(_slices(tmp_path, {"mask": "automatic 1234"}), frame)


def test_a_stage_knows_which_of_its_outputs_was_changed(tmp_path):
    stages = Stages(tmp_path)

    def make():
        for name in ("a", "b"):
            (tmp_path / name).write_text(name)

    stages.run("s", 1, ["a", "b"], make)
    assert not stages.changed_by_hand("s", ["a"])
    (tmp_path / "b").write_text("other")
    assert not stages.changed_by_hand("s", ["a"]) and stages.changed_by_hand("s", ["b"])
    stages.run("s", 1, ["a", "b"], make)
    assert (tmp_path / "b").read_text() == "b"
    assert set(json.loads((tmp_path / "stages.json").read_text())["s"]["outputs"]) == {"a", "b"}


def test_a_stage_in_a_moved_folder_and_one_of_an_earlier_version(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    stages = Stages(here)
    stages.run("s", 1, [str(here / "a")], lambda: (here / "a").write_text("a"))  # a whole path, as of a BIDS dataset
    shutil.copytree(here, there)
    Stages(there).run("s", 1, [str(there / "a")], lambda: pytest.fail("what was moved is done all the same"))
    stages.notes["s"]["outputs"] = file_digest([here / "a"])  # as earlier versions noted it
    assert not stages.changed_by_hand("s", ["a"])
    (here / "a").write_text("edited")
    assert stages.changed_by_hand("s", ["a"])


def test_no_output_takes_the_place_of_an_image(tmp_path):
    images = [tmp_path / "a.nii.gz", tmp_path / "a_labels.nii.gz"]
    with pytest.raises(ValueError, match=r"a_labels\.nii\.gz is one of the images"):
        output_names(images, tmp_path)
    names = output_names(images, tmp_path / "out")
    assert [name.name for name in names] == ["a_labels.nii.gz", "a_labels_labels.nii.gz"]
