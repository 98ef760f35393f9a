"""Other people's label values become ours, each side by place, or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.evaluation import EvaluationError
from mrmyo.evaluation_values import BUILT_IN, convert, read_values
from mrmyo.labels import label_table
from mrmyo.training_maps import TO_MRMYO
from mrmyo.volume import Volume, in_axis_order_of, to_canonical


def thighs(values=(3, 3), *, affine=None):
    """Two square thighs of 30 mm with a gap of 20 mm: the first is the patient's left."""
    array = np.zeros((100, 40, 6), np.uint8)
    array[10:40, 5:35], array[60:90, 5:35] = values
    return Volume(array, np.diag([1.0, 1.0, 8.0, 1.0]) if affine is None else affine)


def test_the_built_in_list_is_that_of_the_training():
    table = label_table().query("side == 'left'").set_index("abbreviation").value
    ours = [0 if name == 0 else int(table[name]) for name in BUILT_IN["thigh11"].values()]
    assert list(BUILT_IN["thigh11"]) == list(range(12)) and ours == TO_MRMYO.tolist()


@pytest.mark.parametrize("turn", [(1, 1), (-1, 1), (-1, -1)])
def test_left_and_right_are_told_by_the_affine(turn):
    plain = convert(thighs(), read_values("thigh11")).array
    assert set(plain[:50].flat) == {0, 1} and set(plain[50:].flat) == {0, 21}  # x grows to the patient's right
    affine = np.diag([turn[0], turn[1], 8.0, 1.0])
    turned = convert(Volume(to_canonical(thighs()).array[:: turn[0], :: turn[1]], affine), BUILT_IN["thigh11"])
    np.testing.assert_array_equal(to_canonical(turned).array, plain)
    angle = np.deg2rad(10)
    oblique = np.eye(4)
    oblique[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert (convert(thighs(affine=oblique), BUILT_IN["thigh11"]).array == plain).all()


def test_files_name_sides_values_and_background(tmp_path):
    toml, table = tmp_path / "values.toml", tmp_path / "values.csv"
    toml.write_text('[values]\n1 = "left VL"\n2 = "right vl"\n3 = "RF"\n4 = 51\n5 = 0\n', encoding="utf-8")
    table.write_text("theirs,ours\n1,left VL\n2,Right VL\n3,RF\n4,51\n5,0\n", encoding="utf-8")
    assert read_values(toml) == read_values(table) == {1: 1, 2: 21, 3: "RF", 4: 51, 5: 0}
    array = np.array([1, 2, 4, 5, 0, 0], np.int16).reshape(6, 1, 1)
    assert convert(Volume(array, np.eye(4)), read_values(toml)).array.ravel().tolist() == [1, 21, 51, 0, 0, 0]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.toml", "[values]\n1 = \"XY\"\n", "'XY'"),
    ("a.toml", "[values]\n1 = 99\n", "no such one"),
    ("a.toml", "values = 3\n", "no table"),
    ("a.toml", "[values\n", "cannot be read"),
    ("a.toml", "[values]\n", "lists no label value"),
    ("a.csv", "a,b\n1,VL\n", "expected theirs and ours"),
    ("a.csv", "theirs,ours\n1,VL\n1,VM\n", "twice"),
    ("a.csv", "theirs,ours\nx,VL\n", "whole number"),
    ("a.txt", "", "thigh11"),
])
def test_lists_that_cannot_be_used(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match=words):
        read_values(path)


def test_maps_that_cannot_be_converted():
    with pytest.raises(EvaluationError, match=r"values \[12\].*does not have"):
        convert(thighs((3, 12)), BUILT_IN["thigh11"])
    with pytest.raises(EvaluationError, match="three axes"):
        convert(Volume(np.zeros((4, 4, 4, 2)), np.eye(4)), BUILT_IN["thigh11"])
    one = thighs((3, 0))
    with pytest.raises(EvaluationError, match="two thighs"):
        convert(one, BUILT_IN["thigh11"])
    assert set(convert(one, {3: 1}).array.flat) == {0, 1}  # said, not told by place
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_values("nowhere.toml")


@pytest.mark.realdata
def test_real_maps_split_in_the_gap(real_data):
    import nibabel

    image = nibabel.load(real_data / "thigh_dixon" / "labels_machine.nii.gz")
    found = Volume(np.asarray(image.dataobj).astype(np.uint8), image.affine)
    ours = convert(found, BUILT_IN["thigh11"])
    place = to_canonical(ours).array[::4, ::4]
    for value in range(1, 12):
        entries = label_table().query(f"abbreviation == '{BUILT_IN['thigh11'][value]}'")
        left, right = entries.sort_values("value").value
        x = [np.argwhere(place == side)[:, 0] for side in (left, right)]
        assert len(x[0]) and len(x[1]) and x[0].max() < x[1].min()  # no muscle of one side beyond one of the other
    mirrored = found.affine.copy()
    mirrored[:3, 0] *= -1
    turned = in_axis_order_of(convert(Volume(found.array, mirrored), BUILT_IN["thigh11"]), found)
    assert (turned.array > 0).sum() == (ours.array > 0).sum()
