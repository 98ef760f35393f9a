"""Surface distances against geometry and against SimpleITK 2.5.7 (signed Maurer distance maps, label contours)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

import mrmyo
from mrmyo.evaluation_surfaces import surface, surface_distances
from mrmyo.volume import Volume

sitk = pytest.importorskip("SimpleITK")

SPACING = np.array([0.9, 1.3, 5.0])


def ball(radius_mm, *, centre_mm=(0, 0, 0), spacing=(1.0, 1.0, 1.0), n=48):
    grid = np.stack(np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for s in spacing], indexing="ij"), -1)
    return ((grid - np.array(centre_mm)) ** 2).sum(-1) <= radius_mm**2


def blobs(seed, shape=(40, 36, 12)):
    """Two random masks that overlap, away from the border of the array."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), (4, 3, 1))
    other = ndimage.gaussian_filter(rng.normal(size=shape), (4, 3, 1))
    inner = np.zeros(shape, bool)
    inner[3:-3, 3:-3, 2:-2] = True
    return noise.__gt__(0.2 * noise.std()) & inner, (noise + 0.7 * other > 0.3 * noise.std()) & inner


def oblique(spacing=SPACING):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (15, -8, 25), degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = 7.0, -20.0, 3.0
    return affine


def itk(mask, affine):
    """The mask at its place, in LPS as ITK has it."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8).T)
    flip = np.diag([-1.0, -1.0, 1.0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((flip @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((flip @ affine[:3, 3]).tolist())
    return image


def itk_distances(a, b, affine, *, of_contour=True):
    """Both ways: the distance map of the other's contour, or of the other mask, read on the contour of each."""
    contours = [sitk.LabelContour(itk(mask, affine), fullyConnected=False) for mask in (a, b)]
    sources = contours if of_contour else [itk(mask, affine) for mask in (a, b)]
    far = [sitk.Abs(sitk.SignedMaurerDistanceMap(source, squaredDistance=False, useImageSpacing=True))
           for source in sources]
    return np.concatenate([sitk.GetArrayFromImage(far[1 - i])[sitk.GetArrayFromImage(contours[i]) > 0]
                           for i in (0, 1)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("place", [np.diag([*SPACING, 1.0]), oblique()], ids=["straight", "oblique"])
def test_the_sample_of_distances_is_that_of_simpleitk(seed, place):
    a, b = blobs(seed)
    ours = surface_distances(a, b, place).mm
    theirs = itk_distances(a, b, place)
    assert ours.size == theirs.size > 500
    np.testing.assert_allclose(np.sort(ours), np.sort(theirs), atol=2e-3)  # ITK's map is in single precision
    rows = mrmyo.evaluate(Volume(a.astype(np.uint8), place), Volume(b.astype(np.uint8), place))
    row = rows[(rows.abbreviation == "VL") & (rows.level == "all")].iloc[0]
    assert row.hd95_mm == pytest.approx(np.percentile(theirs, 95), abs=2e-3)
    assert row.surface_distance_mm == pytest.approx(theirs.mean(), abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_distance_map_of_a_mask_has_a_thicker_surface(seed):
    """ITK's map of a mask is 0 also on voxels that touch the outside by an edge or a corner alone.

    The usual recipe, which reads that map, therefore gives somewhat less than ours; by how much is held here.
    """
    a, b = blobs(seed)
    place = np.diag([*SPACING, 1.0])
    ours, theirs = surface_distances(a, b, place).mm, itk_distances(a, b, place, of_contour=False)
    assert -1e-3 < ours.mean() - theirs.mean() < 0.2
    assert abs(np.percentile(ours, 95) - np.percentile(theirs, 95)) < SPACING[1]


@pytest.mark.parametrize("seed", range(4))
def test_overlap_and_volume_are_those_of_simpleitk(seed):
    a, b = blobs(seed)
    place = oblique()
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(itk(b, place), itk(a, place))
    rows = mrmyo.evaluate(Volume(a.astype(np.uint8), place), Volume(b.astype(np.uint8), place), n_levels=1)
    row = rows[rows.abbreviation == "VL"].iloc[0]
    assert row.dice == pytest.approx(measures.GetDiceCoefficient())
    shape = sitk.LabelShapeStatisticsImageFilter()
    volumes = []
    for mask in (a, b):
        shape.Execute(itk(mask, place))
        volumes.append(shape.GetPhysicalSize(1) / 1000)
    assert [row.volume_ml, row.reference_volume_ml] == pytest.approx(volumes)


@pytest.mark.parametrize("seed", range(4))
def test_the_hausdorff_distance_of_whole_masks_is_never_larger(seed):
    """ITK's filter measures to the mask and not to its surface: a voxel within the other mask is 0 from it there."""
    a, b = blobs(seed)
    place = np.diag([*SPACING, 1.0])
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(itk(a, place), itk(b, place))
    found = surface_distances(a, b, place)
    assert hausdorff.GetHausdorffDistance() <= found.mm.max() + 1e-3
    outside = np.concatenate([~b[surface(a)], ~a[surface(b)]])
    assert found.mm[outside].max() == pytest.approx(hausdorff.GetHausdorffDistance(), abs=2e-3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.2, 2.0)])
def test_concentric_balls_are_their_radii_apart(spacing):
    mm = surface_distances(ball(12, spacing=spacing), ball(17, spacing=spacing), np.diag([*spacing, 1.0])).mm
    assert mm.mean() == pytest.approx(5.0, abs=0.25 * max(spacing))
    assert np.abs(mm - 5).max() < np.linalg.norm(spacing)
    volume = Volume(ball(17, spacing=spacing).astype(np.uint8), np.diag([*spacing, 1.0]))
    rows = mrmyo.evaluate(volume, volume)
    assert rows.volume_ml.iloc[0] == pytest.approx(4 / 3 * np.pi * 17**3 / 1000, rel=0.01)
    assert (rows.hd95_mm == 0).all() and (rows.surface_distance_in_plane_mm == 0).all()


def test_balls_side_by_side_are_as_far_as_the_shift():
    mm = surface_distances(ball(10), ball(10, centre_mm=(6, 0, 0)), np.eye(4)).mm
    assert mm.max() == pytest.approx(6.0, abs=1e-9)
    # the mean over a sphere of |distance to a shifted sphere|, by integration over its latitudes
    u = np.linspace(-1, 1, 20001)
    analytic = np.abs(np.sqrt(100 + 36 - 120 * u) - 10).mean()
    assert mm.mean() == pytest.approx(analytic, abs=0.25)


def test_slabs_and_the_border_of_the_field_of_view():
    a, b = np.zeros((12, 10, 6), bool), np.zeros((12, 10, 6), bool)
    a[2:5], b[2:9] = True, True  # both go on beyond the field of view along y and z
    assert surface(a).sum() == 2 * 60  # two faces, no rim
    mm = surface_distances(a, b, np.diag([2.0, 3.0, 7.0, 1.0])).mm
    assert sorted(set(mm.tolist())) == [0.0, 4.0, 8.0]  # near faces 0; far face 4 voxels of 2 mm; 2 voxels from within
    assert surface(np.ones((3, 3, 3), bool)).sum() == 0
    assert surface_distances(np.ones((3, 3, 3), bool), b[:3, :3, :3], np.eye(4)).mm.size == 0


def test_a_sheared_grid_is_measured_in_mm():
    """A gantry tilt shears a stack: the distance between two voxels is that of their places."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 2.0
    a, b = np.zeros((5, 12, 6), bool), np.zeros((5, 12, 6), bool)
    a[2, 3, 1], b[2, 6, 3] = True, True
    assert surface_distances(a, b, affine).mm.tolist() == pytest.approx([np.hypot(3 + 4, 10)] * 2)


def test_in_plane_each_slice_stands_for_itself():
    a, b = np.zeros((20, 20, 4), bool), np.zeros((20, 20, 4), bool)
    a[5, 5, :3], b[5, 9, 1:] = True, True
    found = surface_distances(a, b, np.diag([1.0, 2.0, 9.0, 1.0]), in_plane=True)
    assert found.mm.tolist() == [8.0] * 4 and found.slices.tolist() == [1, 1, 2, 2]
    assert found.within([False, True, False, False]).size == 2
