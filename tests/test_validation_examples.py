"""Real public images are found, told with their licences, and scored only where they have labels."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mrmyo.labels import label_table
from mrmyo.segmentation import MODEL_PATH
from mrmyo.segmentation_card import card_facts, card_scores, claim_facts
from mrmyo.t2 import fit_t2
from mrmyo.training_maps import TO_MRMYO
from mrmyo.validation_borders import t2_by_border
from mrmyo.validation_examples import TO_MRMYO as IN_EXAMPLES
from mrmyo.validation_examples import (
    dice_by_contrast,
    dice_by_slice,
    find_real_data,
    list_real_data,
    mean_by_muscle,
    read_label_map,
    read_thigh_example,
    take_slices,
)
from mrmyo.volume import GridError, Volume

AFFINE = np.diag([2.0, 3.0, 10.0, 1.0])


def test_where_no_folder_is_named_a_sentence_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("MRMYO_REAL_DATA", raising=False)
    assert find_real_data()[0] is None and "is not set" in find_real_data()[1]
    monkeypatch.setenv("MRMYO_REAL_DATA", str(tmp_path / "nowhere"))
    assert find_real_data()[0] is None and "does not exist" in find_real_data()[1]


def test_a_relative_folder_is_found_from_the_notebooks_too(monkeypatch, tmp_path):
    (tmp_path / "real" / "thigh_dixon").mkdir(parents=True)
    monkeypatch.setenv("MRMYO_REAL_DATA", "real")
    monkeypatch.chdir(tmp_path)
    assert find_real_data()[0] == (tmp_path / "real").resolve() and "thigh_dixon" in find_real_data()[1]
    root = Path(__file__).resolve().parent.parent
    monkeypatch.setenv("MRMYO_REAL_DATA", "tests")  # a folder beside the package, seen from anywhere
    assert find_real_data()[0] == root / "tests"


def test_licences_are_read_from_the_files(tmp_path):
    texts = {"a": "Apache License\nVersion 2.0", "b": "Redistribution and use in source\nNeither the\n name of",
             "c": "The MIT License", "d": "Redistribution and use in source", "e": "something else"}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "LICENSE").write_text(text)
        (tmp_path / name / "image").write_bytes(b"0" * 300_000)
    (tmp_path / "f").mkdir()
    table = list_real_data(tmp_path).set_index("folder")
    assert table.licence.to_dict() == {"a": "Apache-2.0", "b": "BSD-3-Clause", "c": "MIT", "d": "BSD-2-Clause",
                                       "e": "see its LICENSE", "f": "not told"}
    assert table.n_files.to_list() == [1] * 5 + [0] and table.size_mb["a"] == pytest.approx(0.3)


def write_map(path, array, codes="RAS"):
    image = nibabel.Nifti1Image(array.astype(np.uint8), AFFINE)
    ornt = nibabel.orientations.axcodes2ornt(codes)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), ornt)), path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL"])
def test_sides_of_a_label_map_follow_from_the_affine(tmp_path, codes):
    array = np.zeros((20, 10, 4), np.uint8)
    array[2, 5, 1], array[17, 5, 1] = 3, 3  # vastus lateralis of the left (low x) and of the right
    array[4, 5, 1], array[15, 5, 1] = 7, 7  # gracilis
    labels = read_label_map(write_map(tmp_path / "map.nii.gz", array, codes))
    for value, x in ((1, 2), (21, 17), (6, 4), (26, 15)):
        (voxel,) = np.argwhere(labels.array == value)
        np.testing.assert_allclose((labels.affine @ [*voxel, 1])[0], 2.0 * x)
    table = label_table().set_index("value")
    assert table.abbreviation[1] == "VL" and table.abbreviation[26] == "GRA"


def test_other_values_are_no_public_map(tmp_path):
    array = np.zeros((20, 10, 4), np.uint8)
    with pytest.raises(ValueError, match="label values"):
        read_label_map(write_map(tmp_path / "empty.nii.gz", array))
    array[0] = 21
    with pytest.raises(ValueError, match=r"\[0, 21\]"):
        read_label_map(write_map(tmp_path / "ours.nii.gz", array))


def test_training_and_examples_read_the_maps_alike():
    np.testing.assert_array_equal(IN_EXAMPLES, TO_MRMYO)


def masks():
    """The reference names two muscles over four slices; ours is one row narrower, and has a muscle of its own."""
    theirs, ours = np.zeros((2, 10, 10, 4), np.uint8)
    theirs[2:6, 2:6], theirs[2:6, 6:9] = 1, 2
    ours[2:6, 2:5], ours[2:6, 6:9] = 1, 2
    ours[7:9] = 8  # the reference does not know it
    ours[..., 3] = 0
    return Volume(ours, AFFINE), Volume(theirs, AFFINE)


def test_muscles_that_the_reference_does_not_name_cost_nothing():
    ours, theirs = masks()
    table = dice_by_contrast({"water": ours, "itself": theirs}, theirs, slices=(0, 2))
    found = table.pivot(index="abbreviation", columns="contrast", values="dice")
    assert found.itself.tolist() == [1] * 3
    assert found.water.to_dict() == pytest.approx({"ALL": 2 * 24 / (24 + 28), "VL": 2 * 12 / (12 + 16), "VM": 1.0})
    with pytest.raises(GridError, match="0 to 3"):
        dice_by_contrast({"water": ours}, theirs, slices=(0, 4))
    with pytest.raises(GridError, match="one grid"):
        dice_by_contrast({"water": Volume(ours.array, np.eye(4))}, theirs)


def test_dice_of_each_slice():
    rows = dice_by_slice(*masks())
    assert rows["slice"].tolist() == [0, 1, 2, 3] and set(rows.side) == {"left"}
    np.testing.assert_allclose(rows.dice, [(2 * 12 / 28 + 1) / 2] * 3 + [0])
    np.testing.assert_allclose(rows.dice_whole, [2 * 24 / 52] * 3 + [0])


def test_mean_within_every_muscle():
    _, theirs = masks()
    array = np.zeros(theirs.shape)
    array[theirs.array == 1], array[..., 3] = 5.0, np.nan
    rows = mean_by_muscle(Volume(array, AFFINE), theirs, name="fat_percent")
    assert dict(zip(rows.abbreviation, rows.fat_percent, strict=True)) == {"VL": 5.0, "VM": 0.0}
    assert mean_by_muscle(Volume(array, AFFINE), theirs, name="x", slices=(3, 3)).empty
    with pytest.raises(GridError, match="one grid"):
        mean_by_muscle(Volume(array, np.eye(4)), theirs, name="x")


def test_slices_that_are_taken_keep_their_place():
    volume = Volume(np.arange(24).reshape(2, 3, 4), AFFINE)
    part = take_slices(volume, 1, 2)
    assert part.shape == (2, 3, 2)
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], volume.affine @ [0, 0, 1, 1])
    np.testing.assert_array_equal(part.array, volume.array[..., 1:3])


def test_the_border_takes_in_what_lies_beside():
    times = (10.0, 20.0, 30.0, 40.0)
    t2_ms = np.full((21, 21, 2), 80.0)
    labels = np.zeros(t2_ms.shape, np.uint8)
    labels[5:16, 5:16] = 1
    t2_ms[5:16, 5:16] = 40.0
    signal = 1000 * np.exp(-np.array(times) / t2_ms[..., None])
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    maps = fit_t2(Volume(signal, affine, times))
    rows = t2_by_border(maps, Volume(labels, affine), borders_mm=(-2.5, 0, 2.5)).set_index("border_mm")
    assert rows.n_voxels.to_dict() == {-2.5: 2 * 81, 0.0: 2 * 121, 2.5: 2 * (121 + 44)}
    assert rows.t2_ms.to_dict() == pytest.approx({-2.5: 40, 0: 40, 2.5: (121 * 40 + 44 * 80) / 165}, abs=0.01)
    with pytest.raises(GridError, match="one grid"):
        t2_by_border(maps, Volume(labels, np.eye(4)))


def test_an_empty_and_a_full_slice_have_no_border():
    maps = fit_t2(Volume(np.full((4, 4, 2, 3), 100.0) * [3, 2, 1], np.eye(4), (10, 20, 30)))
    labels = np.zeros((4, 4, 2), np.uint8)
    labels[..., 1] = 1
    rows = t2_by_border(maps, Volume(labels, np.eye(4)), borders_mm=(-3, 0, 3))
    assert rows.n_voxels.tolist() == [16, 16, 16]


def test_card_as_tables():
    card = {"name": "n", "sha256": "ab", "architecture": {"channels": [8, 16], "parameters": 1984370},
            "scores": {"real": {"water, all": {"VL": 0.9, "mean": 0.8}, "fat": {"VL": 0.8, "AM": 0.7, "worst": 0.7}},
                       "held out": {"muscle_dice": {"VL": 0.95}, "mean_of_11": 0.9},
                       "folds": {"worst": [0.8, 0.7, 0.75]}, "knees": "0 of 30 painted"},
            "known_failures": ["x"]}
    scores = card_scores(card)
    assert scores.columns.tolist()[:4] == ["set", "images", "VL", "AM"]
    assert scores.set.tolist() == ["real", "real", "held out"] and scores.VL.tolist() == [0.9, 0.8, 0.95]
    facts = card_facts(card).set_index("what").found
    assert facts["architecture"] == "channels: 8, 16; parameters: 1,984,370"
    assert facts["folds"] == "worst: 0.7 to 0.8 (n = 3)" and facts["knees"] == "0 of 30 painted"
    assert set(facts.index) == {"name", "sha256", "architecture", "folds", "knees"}  # the rest is by muscle
    assert card_scores({}).empty and card_facts({}).empty


def test_the_shipped_card_fits_the_tables():
    card = json.loads(MODEL_PATH.with_suffix(".json").read_text())
    scores = card_scores(card)
    muscles = [name for name in scores.columns if name in set(label_table().abbreviation)]
    assert len(scores) and len(muscles) >= 11 and scores[muscles].stack().between(0, 1).all()
    assert card["sha256"] in set(card_facts(card).found)


@pytest.mark.realdata
def test_scores_agree_with_those_of_the_script(real_data):
    spec = importlib.util.spec_from_file_location("evaluate_real", "scripts/evaluate_real.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    volumes, theirs = script.read(real_data / "thigh_dixon")
    images, reference = read_thigh_example(real_data / "thigh_dixon")
    np.testing.assert_array_equal(reference.array, theirs.array)
    np.testing.assert_array_equal(images["opposed-phase"].array, volumes["opposed"].array)
    ours = np.roll(reference.array, 6, 0)  # any other mask
    ours[200:220, 200:240] = 8
    scores = script.score(theirs.with_array(ours), theirs, range(3, 10))
    rows = dice_by_contrast({"water": reference.with_array(ours)}, reference, slices=(3, 9))
    means = rows.groupby("abbreviation").dice.mean()
    assert means.drop("ALL").to_dict() == pytest.approx({name: scores[name] for name in means.drop("ALL").index})
    assert means["ALL"] == pytest.approx(scores["whole"])
    assert set(list_real_data(real_data).licence) <= {"Apache-2.0", "BSD-3-Clause", "MIT", "not told"}


def test_a_card_fills_what_claim_asks_of_the_model():
    from mrmyo.segmentation import load_model
    from mrmyo.stats import claim

    card = load_model().card
    facts = claim_facts(card)
    assert facts["model_hash"] == card["sha256"] and facts["failure_analysis"].startswith(card["known_failures"][0])
    listed = claim(facts).set_index("item")
    filled = listed.index[listed.status == "filled"].tolist()
    assert filled == ["22", "25"] and card["name"] in listed.answer["22"] and card["data"] in listed.answer["25"]
    assert claim_facts({}) == {}
