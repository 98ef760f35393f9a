"""Labels in three dimensions: points lie on the surface, normals lead outwards, and a word says which viewer it is."""

from __future__ import annotations

import socket
import sys
from types import ModuleType

import numpy as np
import pytest

import mrmyo
from mrmyo import viewer
from mrmyo.viewer import draw_surface, surface_points
from mrmyo.volume import GridError, Volume


def ball(radius=20.0, spacing=(1.2, 1.5, 4.0), value=21):
    """A ball of one label in a volume stored as LPS, with a smaller one of another label inside its upper half."""
    shape = [int(2.6 * radius / step) for step in spacing]
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = [n * s / 2 * w for n, s, w in zip(shape, spacing, (1, 1, -1), strict=True)]
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    away = np.linalg.norm(places, axis=-1)
    return Volume(np.where(away < radius, value, 0).astype(np.uint8), affine), places


def test_points_lie_on_a_ball_and_normals_lead_out_of_it():
    labels, _ = ball()
    points, normals, values = surface_points(labels, step_mm=1.5)
    assert set(values) == {21} and len(points) > 1500
    away = np.linalg.norm(points, axis=1)
    assert away.mean() == pytest.approx(20, abs=1.2) and away.std() < 1.0
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert np.median(np.sum(normals * points / away[:, None], axis=1)) > 0.97


def test_places_are_the_patients_however_the_file_is_ordered():
    labels, places = ball()
    upper = labels.with_array(np.where((labels.array > 0) & (places[..., 2] > 0), 1, labels.array))
    points, _, values = surface_points(upper)
    assert points[values == 1][:, 2].mean() > 5 > -5 > points[values == 21][:, 2].mean()
    turned = Volume(upper.array.transpose(2, 0, 1), upper.affine[:, [2, 0, 1, 3]])
    other, _, names = surface_points(turned)
    assert len(other) == len(points)
    np.testing.assert_allclose(np.sort(other[names == 1], axis=0), np.sort(points[values == 1], axis=0), atol=1e-4)


def test_the_picture_shows_the_nearest_surface_on_the_side_it_is_on():
    labels, places = ball()
    sides = labels.with_array(np.where((labels.array > 0) & (places[..., 0] > 0), 22, np.where(labels.array > 0, 1, 0)))
    front = labels.with_array(np.where((labels.array > 0) & (places[..., 1] > 0), 4, np.where(labels.array > 0, 9, 0)))
    picture = draw_surface(*surface_points(sides), yaw_deg=0, pitch_deg=0, size=(200, 200)).astype(int)
    shown = picture.max(axis=-1) > 0
    assert shown.sum() / shown.size == pytest.approx(np.pi / 4 * 0.92**2, abs=0.12)  # a disc
    left, right = picture[100, 70], picture[100, 130]  # the patient's right (VM, light blue) on the left
    assert left[1] > 1.3 * left[0] and left[1] / left[2] > right[1] / right[2]
    red = draw_surface(*surface_points(front), yaw_deg=0, pitch_deg=0, size=(200, 200))[100, 100].astype(int)
    green = draw_surface(*surface_points(front), yaw_deg=180, pitch_deg=0, size=(200, 200))[100, 100].astype(int)
    assert red[0] > 1.5 * red[1] and green[1] > 1.5 * green[0]  # RF in front, SM behind


def test_which_viewer_and_why(monkeypatch):
    labels, _ = ball()
    image = labels.with_array(labels.array.astype(np.float32))

    def never(*_, **__):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(viewer, "find_spec", lambda name: None)
    widget = mrmyo.view3d(image, labels)
    assert "offline" in widget.facts["told"] and "mrmyo[itk]" in widget.facts["told"]
    assert "asked for" in mrmyo.view3d(image, labels, viewer="surface").facts["told"]
    with pytest.raises(ValueError, match="not installed"):
        mrmyo.view3d(image, labels, viewer="itk")

    def unreachable(address, timeout):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(viewer, "find_spec", lambda name: ModuleType(name))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert "cannot be reached: Network is unreachable" in mrmyo.view3d(image, labels).facts["told"]
    with pytest.raises(ValueError, match="cannot be reached"):
        mrmyo.view3d(image, labels, viewer="itk")


def test_itkwidgets_gets_image_and_labels_at_their_place(monkeypatch, capsys):
    """A stand-in that notes what it is called with: the real one fetches its viewer from a public network."""
    labels, places = ball()
    labels = labels.with_array(np.where((labels.array > 0) & (places[..., 2] > 0), 1, labels.array))
    noted, ngff, widgets = {}, ModuleType("ngff_zarr"), ModuleType("itkwidgets")
    ngff.to_ngff_image = lambda array, **facts: (array, facts)
    widgets.view = lambda image, label_image: noted.update(image=image, labels=label_image) or "the viewer"
    monkeypatch.setitem(sys.modules, "ngff_zarr", ngff)
    monkeypatch.setitem(sys.modules, "itkwidgets", widgets)
    monkeypatch.setattr(viewer, "_itk_trouble", lambda: "")
    image = labels.with_array(places[..., 0].astype(np.float32))
    assert mrmyo.view3d(image, labels) == "the viewer" and "public network" in capsys.readouterr().out
    array, facts = noted["image"]
    assert facts["dims"] == ("z", "y", "x")
    left = facts["translation"]["x"] + 7 * facts["scale"]["x"]
    assert array[3, 5, 7] == pytest.approx(-left)  # there, what lies to the patient's left is positive
    upper = noted["labels"][0] == 1
    height = facts["translation"]["z"] + np.argwhere(upper)[:, 0].mean() * facts["scale"]["z"]
    assert height == pytest.approx(places[labels.array == 1][:, 2].mean())


def test_refusals():
    labels, _ = ball()
    with pytest.raises(GridError, match="one grid"):
        mrmyo.view3d(labels.with_array(labels.array[..., None]), labels)
    with pytest.raises(ValueError, match="expected one of auto, itk, surface"):
        mrmyo.view3d(labels, labels, viewer="vtk")
    empty = labels.with_array(np.zeros_like(labels.array))
    with pytest.raises(ValueError, match="no label"):
        mrmyo.view3d(labels, empty, viewer="surface")
    with pytest.raises(ValueError, match=r"\[99\]"):
        mrmyo.view3d(labels, labels.with_array(np.full_like(labels.array, 99)), viewer="surface")
