"""Labels in three dimensions, inside the notebook. For research use only.

By itkwidgets where that is installed (the extra ``itk``) and its viewer can be fetched; else by a surface view of our
own, which needs no network.
"""

from __future__ import annotations

import base64
import io
import socket
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

from mrmyo.figures.pictures import label_colours
from mrmyo.labels import is_muscle, label_table
from mrmyo.volume import GridError, Volume, same_grid, to_canonical

__all__ = ["VIEWERS", "draw_surface", "surface_points", "view3d"]

VIEWERS = ("auto", "itk", "surface")
HERE = Path(__file__).parent
VIEWER_HOST = "cdn.jsdelivr.net"  # where itkwidgets fetches its viewer
STEP_MM = 2.5
LIGHT = np.array([-0.4, -0.75, 0.5])  # from the front, above and the patient's left, as one looks


def view3d(volume: Volume, labels: Volume, *, viewer: str = "auto", height: int = 420):
    """Turn the labels of an image in three dimensions.

    Parameters
    ----------
    volume, labels : Volume
        On one grid, 3-D.
    viewer : {"auto", "itk", "surface"}
        "auto" takes itkwidgets if it is installed and its viewer can be fetched (which asks the network), else the
        surface view; "surface" never asks.
    height : int
        Of the picture, in pixels.

    Returns
    -------
    widget
        Display it. A line in it says which viewer it is, and why.

    Raises
    ------
    GridError
        When image and labels are not 3-D on one grid.
    ValueError
        When the viewer is unknown, "itk" was asked for and cannot be had, or there is no label.
    """
    if viewer not in VIEWERS:
        raise ValueError(f"Found viewer={viewer!r}; expected one of {', '.join(VIEWERS)}.")
    if not isinstance(volume, Volume) or not isinstance(labels, Volume):
        raise GridError("Image and labels are to be Volumes; read files with mrmyo.read_nifti(path) first.")
    if volume.array.ndim != 3 or not same_grid(volume, labels):
        raise GridError(f"Found an image of shape {volume.array.shape} and labels of {labels.array.shape}, or at other "
                        "places; expected both on one grid. Take one echo, or carry the labels over (mrmyo.align).")
    is_muscle(labels.array)  # refuses values that the table does not know
    trouble = "it was asked for" if viewer == "surface" else _itk_trouble()
    if not trouble:
        return _itk(volume, labels)
    if viewer == "itk":
        raise ValueError(f"itkwidgets cannot be used: {trouble}. viewer='surface' needs nothing.")
    return _surface(volume, labels, f"surface view, offline ({trouble})", height)


def _itk_trouble() -> str:
    """Why itkwidgets cannot be used; empty when it can."""
    if find_spec("itkwidgets") is None or find_spec("imjoy_jupyterlab_extension") is None:
        return "itkwidgets is not installed: pip install 'mrmyo[itk]', after which every page asks a public network"
    try:
        socket.create_connection((VIEWER_HOST, 443), timeout=3).close()
    except OSError as error:
        return f"itkwidgets is installed, but its viewer comes from {VIEWER_HOST}, which cannot be reached: {error}"
    return ""


def _itk(volume, labels):
    """The viewer of itkwidgets on image and labels."""
    import itkwidgets
    from ngff_zarr import to_ngff_image

    def image(part, kind):
        canonical = to_canonical(part)
        last = np.array([canonical.shape[0] - 1, canonical.shape[1] - 1, 0, 1])
        corner = (np.diag([-1, -1, 1, 1]) @ canonical.affine @ last)[:3]  # axes and places as ITK has them: LPS
        array = np.ascontiguousarray(canonical.array[::-1, ::-1].transpose(2, 1, 0).astype(kind))
        scale, translation = (dict(zip("xyz", part.tolist(), strict=True)) for part in (canonical.spacing_mm, corner))
        return to_ngff_image(array, dims=("z", "y", "x"), scale=scale, translation=translation)

    print("view3d: itkwidgets, whose viewer comes from a public network")
    return itkwidgets.view(image(volume, np.float32), label_image=image(labels, np.uint8))


def surface_points(labels: Volume, *, step_mm: float = STEP_MM):
    """Points on the surfaces of labels, evenly spaced, with their normals.

    Parameters
    ----------
    labels : Volume
    step_mm : float
        Distance of the points along each axis.

    Returns
    -------
    points : numpy.ndarray
        (n, 3), float32: mm to the right, forwards and upwards from the middle of the labels.
    normals : numpy.ndarray
        (n, 3), float32, of length 1, outwards.
    values : numpy.ndarray
        (n,), uint8: the label that each lies on.

    Raises
    ------
    ValueError
        When there is no label.
    """
    canonical = to_canonical(labels)
    found = ndimage.find_objects((canonical.array > 0).astype(np.uint8))
    if not found:
        raise ValueError("Found no label to show in three dimensions; draw or segment one first.")
    start = [part.start for part in found[0]]
    inside = canonical.array[found[0]]
    spacing = canonical.spacing_mm
    shape = np.maximum(np.round(np.array(inside.shape) * spacing / step_mm).astype(int), 1)
    step = np.array(inside.shape) * spacing / shape
    # the indicator of each label is smoothed to the new grid; the largest one names a voxel
    best, names = np.full(shape, 0.5, np.float32), np.zeros(shape, np.uint8)
    grid = [(np.arange(n) + 0.5) * have / n - 0.5 for n, have in zip(shape, inside.shape, strict=True)]
    places = np.meshgrid(*grid, indexing="ij", sparse=False)
    for value in np.unique(inside[inside > 0]):
        soft = ndimage.gaussian_filter((inside == value).astype(np.float32), step / spacing / 2, mode="constant")
        soft = ndimage.map_coordinates(soft, places, order=1, mode="constant")
        names[soft > best] = value
        best = np.maximum(best, soft)
    padded = np.pad(names, 1)
    core = tuple([slice(1, -1)] * 3)
    border = np.zeros(shape, bool)
    for axis in range(3):
        for way in (1, -1):
            border |= np.roll(padded, way, axis)[core] != names
    border &= names > 0
    index = np.argwhere(border)
    normals = np.zeros((len(index), 3), np.float32)
    values = names[border]
    for value in np.unique(values):
        soft = ndimage.gaussian_filter((padded == value).astype(np.float32), 1.2)
        slope = np.stack(np.gradient(soft), axis=-1)[core]
        normals[values == value] = -slope[border][values == value] / step
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    turn = canonical.affine[:3, :3] / spacing
    points = (start * spacing + (index + 0.5) * step) @ turn.T
    return (points - (points.min(axis=0) + points.max(axis=0)) / 2).astype(np.float32), normals @ turn.T, values


def draw_surface(points, normals, values, *, yaw_deg=-25.0, pitch_deg=-15.0, size=(420, 420), step_mm=STEP_MM):
    """A picture of surface points as the widget draws them: from the front, nearest points last, lit from above.

    Parameters
    ----------
    points, normals, values : numpy.ndarray
        Of `surface_points`.
    yaw_deg, pitch_deg : float
        Turned about the axis of the body, and tipped away from the reader.
    size : (int, int)
        Height and width in pixels.
    step_mm : float

    Returns
    -------
    numpy.ndarray
        (height, width, 3), uint8.
    """
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    about = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    turn = (tip @ about).astype(np.float32)
    at, out = points @ turn.T, normals @ turn.T
    zoom = 0.92 * min(size) / (2 * np.linalg.norm(points, axis=1).max() + step_mm)
    shade = 0.35 + 0.65 * np.clip(out @ (LIGHT * [1, -1, 1]) / np.linalg.norm(LIGHT), 0, 1)
    colours = np.zeros((256, 3))
    for value, rgb in label_colours().items():
        colours[value] = rgb
    picture = np.zeros((*size, 3), np.uint8)
    order = np.argsort(at[:, 1])  # forwards is towards the reader, who sees the patient's right on the left
    half = max(int(np.ceil(step_mm * zoom / 2)), 1)
    columns = np.round(size[1] / 2 - at[order, 0] * zoom).astype(int)
    rows = np.round(size[0] / 2 - at[order, 2] * zoom).astype(int)
    rgb = np.round(255 * colours[values[order]] * shade[order, None]).astype(np.uint8)
    down, across = (part.ravel() for part in np.mgrid[-half:half + 1, -half:half + 1])
    r, c = (rows[:, None] + down).ravel(), (columns[:, None] + across).ravel()
    inside = (r >= 0) & (r < size[0]) & (c >= 0) & (c < size[1])
    picture[r[inside], c[inside]] = np.repeat(rgb, down.size, axis=0)[inside]  # where several meet, the last one stays
    return picture


def _surface(volume, labels, told, height):
    """Our own widget."""
    import anywidget
    import traitlets
    from PIL import Image

    points, normals, values = surface_points(labels)
    half = np.abs(points).max() or 1.0
    packed = [np.round(points / half * 32767).astype("<i2"), np.round(normals * 127).astype(np.int8), values]
    table = label_table().set_index("value")
    present = [int(value) for value in np.unique(values)]

    class Surface(anywidget.AnyWidget):
        """Labels that can be turned."""

        _esm = HERE / "viewer.js"
        facts = traitlets.Dict().tag(sync=True)

        def _repr_mimebundle_(self, **kwargs):
            found = super()._repr_mimebundle_(**kwargs)
            data, *more = found if isinstance(found, tuple) else (found or {},)
            buffer = io.BytesIO()
            Image.fromarray(draw_surface(points, normals, values)).quantize(64).save(buffer, "PNG", optimize=True)
            return ({**data, "image/png": base64.b64encode(buffer.getvalue()).decode()}, *(more or [{}]))

    def answer(widget, content, _):
        if isinstance(content, dict) and content.get("kind") == "hello":
            widget.send({"kind": "points", "view": content.get("view")}, [part.tobytes() for part in packed])

    from matplotlib.colors import to_hex

    colours = {value: to_hex(rgb) for value, rgb in label_colours().items()}
    widget = Surface(facts={
        "told": told, "height": height, "half_mm": float(half), "step_mm": STEP_MM, "light": LIGHT.tolist(),
        "labels": [{"value": value, "name": f"{table.name[value]} {table.side[value]}", "colour": colours[value]}
                   for value in present],
    })
    widget.on_msg(answer)
    return widget
