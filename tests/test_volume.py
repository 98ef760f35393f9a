"""Volumes know their place: grids compared, axes turned, positions sampled as SimpleITK samples them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrmyo.volume import (
    GridError,
    Volume,
    axis_codes,
    in_axis_order_of,
    reformat,
    resample,
    resample_mean,
    same_grid,
    to_canonical,
)

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def oblique(rng, *, spread_deg=40.0) -> np.ndarray:
    """A random affine: any order and direction of the axes, then tilted."""
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    turn = Rotation.from_rotvec(np.deg2rad(spread_deg) * rng.uniform(-1, 1, 3)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes @ np.diag(rng.uniform(0.7, 3.0, 3))
    affine[:3, 3] = rng.normal(0, 30, 3)
    return affine


def centred(affine, shape, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    affine = affine.copy()
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def positions(volume) -> np.ndarray:
    """RAS position of every voxel, (i, j, k, 3), one at a time."""
    out = np.empty((*volume.shape, 3))
    for index in np.ndindex(*volume.shape):
        out[index] = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
    return out


def as_itk(sitk, volume):
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((RAS_TO_LPS @ volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((RAS_TO_LPS @ volume.affine[:3, 3]).tolist())
    return image


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_resample_agrees_with_simpleitk_on_oblique_grids(order, seed):
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(seed)
    shape, other = (11, 9, 7), (13, 8, 10)
    volume = Volume(rng.normal(size=shape).astype(np.float32), centred(oblique(rng), shape))
    like = Volume(np.zeros(other), centred(oblique(rng), other, rng.normal(0, 3, 3)))
    how = sitk.sitkNearestNeighbor if order == 0 else sitk.sitkLinear
    expected = sitk.Resample(as_itk(sitk, volume), as_itk(sitk, like), sitk.Transform(), how, -7.0)
    expected = sitk.GetArrayFromImage(expected).T
    assert 0.1 < (expected == -7).mean() < 0.95, "the grids should overlap in part"
    found = resample(volume, like, order=order, fill=-7)
    np.testing.assert_allclose(found.array, expected, atol=2e-5)
    assert same_grid(found, like)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resampling_onto_its_own_grid_changes_nothing_not_even_at_the_border(order):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        volume = Volume(rng.normal(size=(6, 5, 4)).astype(np.float32), oblique(rng))
        np.testing.assert_allclose(resample(volume, volume, order=order, fill=9).array, volume.array, atol=1e-4)


def test_the_field_of_view_ends_half_a_voxel_beyond_the_outermost_centres():
    volume = Volume(np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1), np.diag([2.0, 1, 1, 1]))
    like = Volume(np.zeros((6, 1, 1)), np.array([[1.96, 0, 0, -1.9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    places = [-0.95, 0.03, 1.01, 1.99, 2.97, 3.95]  # in voxels of the volume
    expected = [-1, *np.interp(places[1:5], range(4), range(1, 5)), -1]
    np.testing.assert_allclose(resample(volume, like, fill=-1).array.ravel(), expected, atol=1e-5)
    nearer = like.with_array(like.array, affine=like.affine + np.array([[0, 0, 0, 1.0], *[[0] * 4] * 3]))
    assert resample(volume, nearer, fill=-1).array[0, 0, 0] == 1.0  # 0.45 voxels out: the first voxel still


def test_cubic_is_nearer_to_a_smooth_function_than_linear():
    shape = (24, 22, 20)
    volume = Volume(np.zeros(shape), centred(np.diag([2.0, 2.0, 2.0, 1]), shape))
    volume = volume.with_array(np.exp(-(positions(volume) ** 2).sum(-1) / 2 / 6**2))
    like = Volume(np.zeros((9, 9, 9)), centred(oblique(np.random.default_rng(5)), (9, 9, 9)))
    truth = np.exp(-(positions(like) ** 2).sum(-1) / 2 / 6**2)
    cubic, linear = (np.abs(resample(volume, like, order=order).array - truth).max() for order in (3, 1))
    assert cubic < 1e-3 < linear


def test_resample_keeps_labels_whole_and_refuses_echoes():
    rng = np.random.default_rng(0)
    labels = Volume(rng.integers(0, 53, (5, 5, 5)).astype(np.uint8), np.eye(4), meta={"Modality": "MR"})
    like = Volume(np.zeros((4, 4, 4, 2)), np.diag([1.1, 1.1, 1.1, 1]), (10.0, 20.0))
    before = labels.array.copy()
    found = resample(labels, like, order=0)
    assert found.array.dtype == np.uint8 and found.array.shape == (4, 4, 4) and found.echo_times_ms is None
    assert set(np.unique(found.array)) <= set(np.unique(labels.array)) and found.meta["Modality"] == "MR"
    np.testing.assert_array_equal(labels.array, before)
    with pytest.raises(GridError, match="Take one echo"):
        resample(like, labels)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))), ids=str)
def test_to_canonical_moves_no_voxel(axes):
    for signs in itertools.product([-1, 1], repeat=3):
        tilt = Rotation.from_rotvec([0.2, -0.1, 0.15]).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = tilt @ np.eye(3)[list(axes)].T @ np.diag(np.array(signs) * [1.0, 2.0, 3.0])
        affine[:3, 3] = [5, -6, 7]
        volume = Volume(np.arange(24.0).reshape(2, 3, 4), affine, meta={"EchoTime": 1.0})
        found = to_canonical(volume)
        assert axis_codes(found.affine) == "RAS" and found.meta == volume.meta
        where = dict(zip(volume.array.ravel(), positions(volume).reshape(-1, 3), strict=True))
        for value, place in zip(found.array.ravel(), positions(found).reshape(-1, 3), strict=True):
            np.testing.assert_allclose(place, where[value], atol=1e-9)
        np.testing.assert_array_equal(volume.array, np.arange(24.0).reshape(2, 3, 4))


def test_to_canonical_keeps_echoes_last():
    array = np.arange(48.0).reshape(2, 3, 4, 2)
    found = to_canonical(Volume(array, np.diag([-1.0, -1, 1, 1]), (10, 20)))
    np.testing.assert_array_equal(found.array, array[::-1, ::-1])
    assert found.echo_times_ms == (10.0, 20.0)


def test_axis_codes_name_where_an_axis_leads():
    assert axis_codes(np.diag([-1.0, -2, 3, 1])) == "LPS"
    sagittal = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    assert axis_codes(sagittal) == "AIR"


def test_same_grid_holds_every_corner_to_the_tolerance():
    def moved(change, shape=(101, 5, 5)):
        return Volume(np.zeros(shape), np.eye(4) + change)

    a = moved(0)
    shift, stretch = np.zeros((4, 4)), np.zeros((4, 4))
    shift[1, 3], stretch[0, 0] = 1, 1
    assert same_grid(a, moved(0.009 * shift)) and not same_grid(a, moved(0.011 * shift))
    # 100 steps away a hundredth of the error is too much already
    assert same_grid(a, moved(0.9e-4 * stretch)) and not same_grid(a, moved(1.1e-4 * stretch))
    assert same_grid(a, moved(0.5 * shift), tolerance_mm=0.6)
    assert not same_grid(a, moved(0, shape=(101, 5, 4)))
    assert same_grid(a, Volume(np.zeros((101, 5, 5, 3)), np.eye(4)))  # echoes have no place of their own


def test_the_slice_axis_is_the_widest_spacing_and_k_when_in_doubt():
    assert [Volume(np.zeros((2, 2, 2)), np.diag([*s, 1])).slice_axis for s in ([1, 1, 6], [6, 1, 1], [1, 1, 1],
                                                                               [1.04, 1, 1])] == [2, 0, 2, 2]


def test_one_echo_of_many():
    volume = Volume(np.arange(16.0).reshape(2, 2, 2, 2), np.eye(4), (10, 20))
    second = volume.echo(1)
    assert second.echo_times_ms == (20.0,) and second.shape == volume.shape
    np.testing.assert_array_equal(second.array, volume.array[..., 1])
    with pytest.raises(GridError, match="no echoes"):
        second.echo(0)


@pytest.mark.parametrize(("array", "affine", "times", "message"), [
    (np.zeros((2, 2)), np.eye(4), None, "3 axes"),
    (np.zeros((2, 2, 2)), np.eye(3), None, r"\(4, 4\)"),
    (np.zeros((2, 2, 2)), np.diag([1.0, 1, 0, 1]), None, "invertible"),
    (np.zeros((2, 2, 2)), np.diag([1.0, 1, np.nan, 1]), None, "finite"),
    (np.zeros((2, 2, 2, 3)), np.eye(4), (10, 20), "2 echo times for 3"),
    (np.zeros((2, 2, 2)), np.eye(4), (10, 20), "2 echo times for 1"),
])
def test_a_volume_that_makes_no_sense_is_refused(array, affine, times, message):
    with pytest.raises(GridError, match=message):
        Volume(array, affine, times)


def test_the_affine_is_a_copy_that_nobody_can_write_to():
    affine = np.eye(4)
    volume = Volume(np.zeros((2, 2, 2)), affine)
    affine[0, 3] = 99
    assert volume.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 3] = 1


# -- reformatting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_reformat_keeps_every_place(plane, seed):
    """The mean of what is linear over a slab is its value in the slab's middle, wherever the axes point."""
    rng = np.random.default_rng(seed)
    affine = oblique(rng, spread_deg=20)
    shape = (15, 18, 16)
    slope = rng.normal(0, 1, 3)
    where = Volume(np.zeros(shape), affine)
    found = reformat(where.with_array(positions(where) @ slope + 7), plane=plane, spacing_mm=7.3)
    # a voxel counts as of one value throughout: a part of one at either end is off by at most an eighth of its step
    across = to_canonical(where).affine[:3, {"sagittal": 0, "coronal": 1, "axial": 2}[plane]]
    bound = abs(slope @ across) * np.linalg.norm(across) / 8 / 7.3
    np.testing.assert_allclose(found.array, positions(found) @ slope + 7, rtol=0, atol=bound + 1e-4)
    assert found.spacing_mm[2] == pytest.approx(7.3)
    assert axis_codes(found.affine)[2] == {"axial": "S", "coronal": "A", "sagittal": "R"}[plane]
    # the slabs lie within the volume, in its middle
    inside = np.linalg.inv(affine) @ found.affine @ [*((np.array(found.shape) - 1) / 2), 1]
    np.testing.assert_allclose(inside[:3], (np.array(shape) - 1) / 2, atol=1e-6)


def test_a_reformat_equals_simpleitk_of_a_filtered_image():
    """5 mm axial slabs of a 1 mm coronal stack: SimpleITK's mean over five rows, sampled in the slabs' middles."""
    import SimpleITK as sitk

    affine = np.array([[1.2, 0, 0, -20], [0, 0, 1.0, -9], [0, -1.0, 0, 30], [0, 0, 0, 1]])
    array = np.random.default_rng(4).normal(100, 30, (30, 40, 20)).astype(np.float32)
    coronal = Volume(array, affine)
    found = reformat(coronal, plane="axial", spacing_mm=5.0)
    assert found.shape == (30, 20, 8)
    smooth = sitk.Mean(as_itk(sitk, coronal), [0, 2, 0])
    theirs = sitk.Resample(smooth, as_itk(sitk, found), sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    np.testing.assert_allclose(found.array, sitk.GetArrayFromImage(theirs).transpose(2, 1, 0), rtol=1e-5)


def test_a_reformat_has_no_alias_and_counts_parts_of_voxels():
    stripes = np.tile(np.where(np.arange(40) % 2, 200.0, 0.0), (8, 8, 1))
    found = reformat(Volume(stripes, np.eye(4)), spacing_mm=4.0)
    np.testing.assert_allclose(found.array, 100.0, rtol=1e-6)
    ramp = np.tile(np.arange(6.0), (2, 2, 1))
    found = reformat(Volume(ramp, np.eye(4)), spacing_mm=1.5)
    # the first slab holds all of voxel 0 and half of voxel 1
    np.testing.assert_allclose(found.array[0, 0], [1 / 3, 5 / 3, 10 / 3, 14 / 3], rtol=1e-6)
    assert found.meta["SliceThickness"] == 1.5


def test_what_cannot_be_reformatted_is_refused():
    thick = Volume(np.zeros((8, 8, 8)), np.diag([1.0, 1, 6, 1]))
    with pytest.raises(GridError, match=r"8 voxels of 6\.00 mm.*no larger than the slab of 5 mm"):
        reformat(thick)
    with pytest.raises(GridError, match="at least one slab"):
        reformat(thick, plane="coronal", spacing_mm=9)
    with pytest.raises(GridError, match="expected one of sagittal"):
        reformat(thick, plane="transversal")
    with pytest.raises(GridError, match="one echo first"):
        reformat(Volume(np.zeros((8, 8, 8, 2)), np.eye(4)))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA", "PIR"])
def test_another_axis_order_is_the_same_place(codes):
    import nibabel

    volume = Volume(np.random.default_rng(4).integers(0, 9, (4, 5, 6)), np.array(
        [[-1.5, 0.1, 0, 7], [0.15, 1.4, 0.2, -3], [0, -0.3, 6, 2], [0, 0, 0, 1]]))
    image = nibabel.Nifti1Image(volume.array.astype(np.int16), volume.affine)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(codes)))
    back = in_axis_order_of(Volume(np.asarray(turned.dataobj), turned.affine), volume)
    assert np.allclose(back.affine, volume.affine) and np.array_equal(back.array, volume.array)


def test_a_mean_over_the_voxel_honours_a_shift():
    """A linear image has at every place the mean of its voxel; 3 mm are 3 mm in whatever grid."""
    rng = np.random.default_rng(2)
    fine = Volume(np.zeros((30, 28, 12), np.float32), centred(oblique(rng, spread_deg=8), (30, 28, 12)))
    fine = fine.with_array(positions(fine) @ [2.0, -1.0, 0.5])
    like = Volume(np.zeros((5, 6, 3)), centred(oblique(rng, spread_deg=8), (5, 6, 3)))
    shift = np.eye(4)
    shift[0, 3] = 3.0
    still, moved = resample_mean(fine, like), resample_mean(fine, like, transform=shift)
    inside = np.isfinite(still.array) & np.isfinite(moved.array)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(still.array[inside], (positions(like) @ [2.0, -1.0, 0.5])[inside], atol=1e-3)
    np.testing.assert_allclose((moved.array - still.array)[inside], 6.0, atol=1e-3)
    far = np.eye(4)
    far[2, 3] = 500.0
    assert np.isnan(resample_mean(fine, like, transform=far).array).all()


def test_a_mean_over_the_voxel_sees_all_of_it():
    """Half of each large voxel is bright; a single sample in its middle would see all or nothing."""
    stripes = np.zeros((40, 8, 8), np.float32)
    stripes[(np.arange(40) // 2) % 2 == 0] = 1
    fine = Volume(stripes, np.diag([1.0, 1, 1, 1]))
    like = Volume(np.zeros((8, 4, 4)), np.array([[4.0, 0, 0, 1.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]]))
    found = resample_mean(fine, like, samples=(4, 1, 1)).array
    assert found[1:-1, 1:-1, 1:-1] == pytest.approx(0.5)


def test_a_mean_over_the_voxel_leaves_the_gap_between_slices_out():
    stack = np.broadcast_to(np.arange(60, dtype=np.float32) ** 2, (4, 4, 60))
    fine = Volume(stack, np.diag([1.0, 1, 0.2, 1]))
    like = Volume(np.zeros((4, 4, 1)), np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 10, 6], [0, 0, 0, 1]]),
                  meta={"SliceThickness": 2.0})
    found = resample_mean(fine, like, samples=(1, 1, 50)).array[0, 0, 0]
    assert found == pytest.approx(30.0**2 + 10.0**2 / 12, rel=2e-3)  # the mean of x² over 30 ± 5 in fine voxels
