"""Two series of one synthetic patient who moved in between by a known amount: what an alignment is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mrmyo import scanner
from mrmyo.anatomy import draw_anatomy
from mrmyo.labels import carry, is_muscle
from mrmyo.volume import Volume

__all__ = ["POINTS", "Pair", "simulate_pair"]

# finer than the slices of the scan, and no divisor of their thickness: else the grid itself would move the images
SPACING_MM, POINTS = (0.9, 0.9, 1.0), (2, 3, 4)
LENGTH_MM = 190.0
SNR = {"echoes": 65.0, "dixon": 35.0}


@dataclass(frozen=True)
class Pair:
    """A synthetic Dixon series and a multi-echo series, with what is true of them.

    Attributes
    ----------
    dixon : mapping of Volume
        ``in_phase``, ``opposed_phase``, ``water``, ``fat``.
    echoes : Volume
        On another grid.
    labels, labels_t2 : Volume
        The true mask on either grid.
    motion : numpy.ndarray
        (4, 4): from positions in the echoes to positions in the Dixon images.
    """

    dixon: Mapping[str, Volume]
    echoes: Volume
    labels: Volume
    labels_t2: Volume
    motion: np.ndarray


def simulate_pair(seed: int, *, shift_mm=0.0, turn_deg=0.0, disease: float = 0.4, sex: str = "F",
                  slices_mm=None, spacing_mm=SPACING_MM, points=POINTS) -> Pair:
    """Scan one synthetic patient twice, moved in between.

    Parameters
    ----------
    seed : int
    shift_mm, turn_deg : float or (3,) array
        Of `Pair.motion`, in RAS mm and about x, y and z through the isocentre: the echoes show the patient moved the
        other way. A number gives the size, in a direction drawn at random.
    disease : float
        0 healthy to 1.
    sex : {"F", "M"}
    slices_mm : array, (n_slices, 3), optional
        And as much more of it during each slice of the echoes.
    spacing_mm : tuple of float
        Of the anatomy.
    points : tuple of int
        How many points of it make a voxel of the echoes along columns, rows and slices. Few points blur where the
        muscle ends by a tenth of a millimetre, and a thigh that tapers little then seems to lie half a millimetre
        further up or down.

    Returns
    -------
    Pair
    """
    rng = np.random.default_rng([4, seed])
    anatomy = draw_anatomy(rng, sex=sex, disease=disease, level=0.75 + 0.05 * rng.normal(), length_mm=LENGTH_MM,
                           spacing_mm=spacing_mm)
    tissues = scanner.tissues_of(anatomy, muscle_t2_ms=29 + 8 * disease, oedema_contrast=0.8)
    motion = scanner.rigid(_drawn(shift_mm, rng), _drawn(turn_deg, rng))
    in_plane = rng.normal(0, 4, 2)
    grid = scanner.stack(scanner.MULTI_ECHO, centre_mm=(*in_plane, 0.0))
    dixon_grid = scanner.stack(scanner.DIXON, centre_mm=(*(in_plane + rng.normal(0, 3, 2)), rng.normal(0, 2)))
    b1 = scanner.smooth_field(grid, rng, mean=0.9, sd=0.03)
    residual_fat = np.clip(scanner.smooth_field(grid, rng, mean=0.06, sd=0.02), 0.01, None)
    shading = scanner.smooth_field(grid, rng, mean=1, sd=0.15)
    motions = motion if slices_mm is None else motion @ _shifts(slices_mm)
    signal = _echoes(tissues, grid, motions, b1, residual_fat, points) * shading[..., None]
    labels_t2 = carry(anatomy.labels, grid, transform=motions, samples=(3, 3, points[2]))
    level = float(np.median(signal[is_muscle(labels_t2.array)][:, 0]))
    signal = scanner.add_noise(signal, rng, sigma=level / SNR["echoes"]) * (1000 / level)
    water, fat = scanner.acquire_dixon(tissues, dixon_grid, samples=(points[0], points[0], points[2]))
    shading = scanner.smooth_field(dixon_grid, rng, mean=1, sd=0.15)
    dixon = scanner.dixon_series(water, fat, shading, rng, snr=SNR["dixon"])
    times = scanner.MULTI_ECHO["echo_times_ms"]
    return Pair({name: dixon_grid.with_array(np.asarray(image, np.float32)) for name, image in dixon.items()},
                grid.with_array(signal.astype(np.float32), echo_times_ms=times),
                carry(anatomy.labels, dixon_grid, samples=(3, 3, points[2])), labels_t2, motion)


def _drawn(size, rng):
    direction = rng.normal(size=3)
    return np.asarray(size) if np.ndim(size) else size * direction / np.linalg.norm(direction)


def _shifts(slices_mm):
    steps = np.tile(np.eye(4), (len(slices_mm), 1, 1))
    steps[:, :3, 3] = slices_mm
    return steps


def _echoes(tissues, grid, motions, b1, residual_fat, samples):
    """The noise-free echoes; of every slice under its own motion where there are several."""
    if motions.ndim == 2:
        return scanner.acquire_multi_echo(tissues, grid, b1=b1, residual_fat=residual_fat, motion=motions,
                                          samples=samples)
    slabs = []
    for k, motion in enumerate(motions):
        step = np.eye(4)
        step[2, 3] = k
        slab = Volume(grid.array[:, :, [k]], grid.affine @ step, meta=grid.meta)
        slabs.append(scanner.acquire_multi_echo(tissues, slab, b1=b1[:, :, [k]], residual_fat=residual_fat[:, :, [k]],
                                                motion=motion, samples=samples))
    return np.concatenate(slabs, axis=2)
