"""What a scanner would make of a thigh: Dixon, multi-echo and T1-weighted series from tissue maps, with real errors.

The scanner knows more than the fit that will follow: it resolves the slice profile, uses several T1 values, a fat
spectrum of six peaks with two T2 values, and mixes tissues within each voxel. So recovering T2 is no foregone
conclusion.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mrmyo import anatomy as an
from mrmyo.dixon import FAT_PEAKS, combine, dixon_images, fat_dephasing
from mrmyo.epg import lookup, signal_table, slice_profile
from mrmyo.labels import FEMUR
from mrmyo.volume import Volume

__all__ = [
    "CORONAL_T1",
    "DIXON",
    "MULTI_ECHO",
    "Tissues",
    "acquire_dixon",
    "acquire_multi_echo",
    "acquire_t1",
    "add_noise",
    "coronal_stack",
    "dixon_series",
    "rigid",
    "smooth_field",
    "spoiled_echo",
    "stack",
    "tissues_of",
]

# The protocol of the paper (3 T). The matrix of the multi-echo series is the acquired one; nothing is interpolated.
MULTI_ECHO = {
    "RepetitionTime": 6690.0, "echo_times_ms": tuple(10.0 * n for n in range(1, 11)), "matrix": (254, 84),
    "field_mm": (420.0, 231.0), "SliceThickness": 5.0, "spacing_mm": 6.0, "n_slices": 20,
}
DIXON = {
    "RepetitionTime": 5330.0, "EchoTime": 51.0, "matrix": (320, 176), "field_mm": (420.0, 231.0),
    "SliceThickness": 5.0, "spacing_mm": 6.0, "n_slices": 26,
}
# TR, TE, thickness and gap are the paper's. It prints no flip angle and no matrix: both are assumed, the extent is that
# of the Dixon stack.
CORONAL_T1 = {
    "RepetitionTime": 6.73, "EchoTime": 2.46, "FlipAngle": 12.0, "matrix": (320, 120), "field_mm": (420.0, 156.0),
    "SliceThickness": 1.0, "spacing_mm": 1.0, "n_slices": 231,
}
FIELD_T = 3.0
T2_GRID_MS = np.arange(14.0, 261.0, 1.0)
B1_GRID = np.arange(0.50, 1.301, 0.02)
FAT_T2_MS, FAT_T1_MS = (65.0, 160.0), 370.0
# proton density and T2 in ms of the water of each tissue in `anatomy.TISSUES`; muscle has its own T2 map
WATER = {"skin": (0.7, 25), "fascia": (0.35, 18), "cortical bone": (0.03, 15), "artery": (0.04, 100),
         "vein": (0.6, 90), "muscle": (0.80, 30), "intermuscular fat": (0.6, 35), "subcutaneous fat": (0.6, 35),
         "marrow": (0.6, 35), "air": (0.0, 30)}
FAT_DENSITY = 0.90


@dataclass(frozen=True)
class Tissues:
    """What the scanner sees, on one fine grid: amounts of water and fat, and the T2 of the water in ms.

    Parameters
    ----------
    water, fat : Volume
        Amount per voxel (proton density times share).
    t2_ms : Volume
        T2 of the water.
    labels : Volume
        Values of `mrmyo.label_table`.
    """

    water: Volume
    fat: Volume
    t2_ms: Volume
    labels: Volume


def tissues_of(anatomy: an.Anatomy, *, muscle_t2_ms: float, oedema_contrast: float = 0.0) -> Tissues:
    """Tissue properties of an anatomy.

    Parameters
    ----------
    anatomy : Anatomy
    muscle_t2_ms : float
        T2 of the water of muscle without oedema, in ms.
    oedema_contrast : float
        T2 grows by this share where the anatomy's oedema is 1.
    """
    density = np.array([WATER[name][0] for name in an.TISSUES], np.float32)
    t2 = np.array([WATER[name][1] for name in an.TISSUES], np.float32)
    tissue, share = anatomy.tissue.array, anatomy.fat_fraction.array
    oedema = anatomy.oedema.array
    muscle_t2 = muscle_t2_ms * (1 + oedema_contrast * oedema)
    swollen = 1 + 0.12 * oedema * min(oedema_contrast, 1.0)  # oedema is water between the fibres
    water = density[tissue] * (1 - share) * np.where(tissue == an.MUSCLE, swollen, 1)
    volume = anatomy.labels.with_array
    return Tissues(
        water=volume(water.astype(np.float32)), fat=volume((FAT_DENSITY * share).astype(np.float32)),
        t2_ms=volume(np.where(tissue == an.MUSCLE, muscle_t2, t2[tissue]).astype(np.float32)), labels=anatomy.labels,
    )


def stack(protocol, *, centre_mm=(0.0, 0.0, 0.0)) -> Volume:
    """An empty axial grid of a protocol, its columns leading to the left and its rows backwards as in DICOM."""
    n = (*protocol["matrix"], protocol["n_slices"])
    step = np.array([-protocol["field_mm"][0] / n[0], -protocol["field_mm"][1] / n[1], protocol["spacing_mm"]])
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = np.asarray(centre_mm) - step * (np.array(n) - 1) / 2
    return Volume(np.zeros(n, np.uint8), affine, meta={"SliceThickness": protocol["SliceThickness"]})


def coronal_stack(protocol, *, centre_mm=(0.0, 0.0, 0.0)) -> Volume:
    """An empty coronal grid of a protocol: columns lead to the left, rows downwards, slices from front to back."""
    across, down = (f / n for f, n in zip(protocol["field_mm"], protocol["matrix"], strict=True))
    n = (*protocol["matrix"], protocol["n_slices"])
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = -across, -down, -protocol["spacing_mm"], 1
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.array(n) - 1) / 2)
    return Volume(np.zeros(n, np.uint8), affine, meta={"SliceThickness": protocol["SliceThickness"]})


def rigid(shift_mm, angles_deg) -> np.ndarray:
    """A rigid motion about the origin as a (4, 4) matrix: rotations about x, then y, then z, then the shift."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def smooth_field(grid: Volume, rng, *, mean, sd) -> np.ndarray:
    """A field that varies slowly over the grid: a random quadratic of the position, of the given mean and SD."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape], indexing="ij", sparse=True)
    a = rng.normal(size=8)
    field = (
        a[0] * x + a[1] * y + 0.5 * a[2] * z + a[3] * x * x + a[4] * y * y + a[5] * x * y + a[6] * np.cos(4 * x + a[7])
    )
    return (mean + sd * (field - field.mean()) / field.std()).astype(np.float32)


def _points(volume, grid, motion, samples, k):
    """For slice k of the grid, flat indices into the volume of every sampled point: (n_samples, n_columns * n_rows).

    Points outside the volume get the index of its first voxel, a corner of air.
    """
    to_index = np.linalg.inv(volume.affine) @ motion @ grid.affine
    extent = (1, 1, grid.meta["SliceThickness"] / grid.spacing_mm[2])
    i, j = (np.arange(n, dtype=np.float32) for n in grid.shape[:2])
    rows = []
    for offset in itertools.product(
        *[((np.arange(n) + 0.5) / n - 0.5) * e for n, e in zip(samples, extent, strict=True)]
    ):
        start = to_index[:3, :3] @ (np.array(offset) + [0, 0, k]) + to_index[:3, 3]
        flat, inside = 0, True
        for a, n in enumerate(volume.shape):
            index = np.rint((to_index[a, 0] * i)[:, None] + to_index[a, 1] * j + start[a]).astype(np.int32)
            inside = inside & (index >= 0) & (index < n)
            flat = flat * n + index
        rows.append(np.where(inside, flat, 0).ravel())
    return np.array(rows)


def _water_t1(t2_ms, t1_scale):
    """T1 of water by its T2, for oedema lengthens both: 1400 ms in muscle at 30 ms, 1940 ms in a vein at 90 ms."""
    return t1_scale * (1400 + 9 * (t2_ms - 30))


@lru_cache(maxsize=8)
def _tables(spacing_ms, n_echoes, t1_scale):
    """Signal of water by T2 and B1 and of fat by B1, with the slice profile resolved."""
    profile = slice_profile(
        n_positions=11, refocusing_width_ratio=1.8
    )  # wider, as vendors do against stimulated echoes
    options = {"echo_spacing_ms": spacing_ms, "n_echoes": n_echoes, "profile": profile}
    water = signal_table(T2_GRID_MS, B1_GRID, t1_ms=_water_t1(T2_GRID_MS, t1_scale), **options)
    fat = signal_table(np.array(FAT_T2_MS), B1_GRID, t1_ms=FAT_T1_MS, **options).mean(0)
    return water, fat


def acquire_multi_echo(tissues: Tissues, grid: Volume, *, b1, residual_fat, motion=None, t1_scale=1.0, protocol=None,
                       samples=(2, 3, 3), only=None, t2_scale=1.0) -> np.ndarray:
    """The noise-free echoes of a fat-suppressed multi-echo spin-echo series.

    Parameters
    ----------
    tissues : Tissues
    grid : Volume
        Where to acquire; see `stack`.
    b1, residual_fat : array
        Shaped like the grid: transmit field as a share of the nominal one; share of the fat that the suppression
        left. The peaks of fat near water are never suppressed.
    motion : array, (4, 4), optional
        From scanner positions to positions in the tissues, in RAS mm.
    t1_scale : float
        Scales the T1 of all water.
    protocol : mapping, optional
        `MULTI_ECHO` when None.
    samples : tuple of int
        Points per voxel along i, j, k.
    only : array of bool, optional
        Acquire only these voxels of the grid and return them as rows.
    t2_scale : float
        Multiplies the T2 of muscle: for finding the T2 that gives an apparent T2.

    Returns
    -------
    numpy.ndarray of float32
        (i, j, k, n_echoes), or (n_voxels, n_echoes) with `only`.
    """
    times = (protocol or MULTI_ECHO)["echo_times_ms"]
    water_table, fat_table = _tables(times[0], len(times), float(t1_scale))
    motion = np.eye(4) if motion is None else motion
    parts = [v.array.reshape(-1) for v in (tissues.water, tissues.fat, tissues.t2_ms, tissues.labels)]
    unsuppressed = sum(share for ppm, share in FAT_PEAKS if ppm > -1.0)
    out = []
    for k in range(grid.shape[2]):
        chosen = np.arange(np.prod(grid.shape[:2])) if only is None else np.flatnonzero(only[:, :, k])
        index = _points(tissues.water, grid, motion, samples, k)[:, chosen]
        water, fat, t2, label = (part[index] for part in parts)
        b1_here = np.clip(b1[:, :, k].ravel()[chosen], B1_GRID[0], B1_GRID[-1])
        t2 = np.where((label > 0) & (label < FEMUR["left"]), t2 * np.float32(t2_scale), t2)
        signal = np.zeros((chosen.size, len(times)), np.float32)
        for w, t in zip(water, t2, strict=True):
            wet = np.flatnonzero(w)
            t = np.clip(t[wet], T2_GRID_MS[0], T2_GRID_MS[-1])
            signal[wet] += w[wet, None] * lookup(water_table, T2_GRID_MS, B1_GRID, t, b1_here[wet])
        left = residual_fat[:, :, k].ravel()[chosen] + unsuppressed
        fatty = lookup(fat_table[None].repeat(2, 0), np.array([0.0, 1.0]), B1_GRID, np.zeros_like(b1_here), b1_here)
        out.append(signal / len(index) + (left * fat.mean(0))[:, None] * fatty)
    if only is not None:
        return np.concatenate(out)
    return np.stack([slab.reshape(*grid.shape[:2], -1) for slab in out], axis=2)


def acquire_dixon(tissues: Tissues, grid: Volume, *, motion=None, protocol=None, samples=(2, 2, 3)):
    """Noise-free water and fat signals of a T2-weighted Dixon series on the grid: two float32 arrays.

    Fat is bright, as in turbo spin echo, whose many pulses undo its scalar coupling.
    """
    protocol = protocol or DIXON
    motion = np.eye(4) if motion is None else motion
    recovery = 1 - np.exp(-protocol["RepetitionTime"] / 1500.0)
    water = tissues.water.array * np.exp(-protocol["EchoTime"] / tissues.t2_ms.array) * recovery
    fat = tissues.fat.array * np.float32(np.mean(np.exp(-protocol["EchoTime"] / np.array((90.0, 180.0)))))
    return _sampled(tissues.water, (water, fat), grid, motion, samples)


def _sampled(volume, parts, grid, motion, samples):
    """Each of two arrays on the grid of a volume, as the mean over the points of every voxel of another grid."""
    images = np.zeros((2, *grid.shape), np.float32)
    for k in range(grid.shape[2]):
        index = _points(volume, grid, motion, samples, k)
        for image, part in zip(images, parts, strict=True):
            image[:, :, k] = part.reshape(-1)[index].mean(0).reshape(grid.shape[:2])
    return images[0], images[1]


def spoiled_echo(t1_ms, t2_ms, protocol) -> np.ndarray:
    """The steady signal of a spoiled gradient echo per unit of magnetisation (Ernst and Anderson, 1966).

    Spoiling is perfect, the flip angle is reached everywhere, and T2 stands for T2*, of which so short an echo time
    sees little.

    Parameters
    ----------
    t1_ms, t2_ms : float or array
    protocol : mapping
        RepetitionTime and EchoTime in ms, FlipAngle in degrees.
    """
    flip = np.deg2rad(protocol["FlipAngle"])
    left = np.exp(-protocol["RepetitionTime"] / t1_ms)
    return np.sin(flip) * (1 - left) / (1 - np.cos(flip) * left) * np.exp(-protocol["EchoTime"] / t2_ms)


def acquire_t1(tissues: Tissues, grid: Volume, *, t1_scale=1.0, t2_scale=1.0, motion=None, protocol=None,
               samples=(2, 2, 1)) -> np.ndarray:
    """The noise-free magnitude of a T1-weighted spoiled gradient echo on the grid, as float32.

    Water has the T1 that the multi-echo series knows, fat 370 ms; both add with the phase that they have to each other
    at the echo time.

    Parameters
    ----------
    tissues : Tissues
    grid : Volume
        Where to acquire; see `coronal_stack`.
    t1_scale, t2_scale, motion, samples
        As for `acquire_multi_echo`.
    protocol : mapping, optional
        `CORONAL_T1` when None.
    """
    protocol = protocol or CORONAL_T1
    motion = np.eye(4) if motion is None else motion
    muscle = (tissues.labels.array > 0) & (tissues.labels.array < FEMUR["left"])
    t2_ms = np.where(muscle, tissues.t2_ms.array * np.float32(t2_scale), tissues.t2_ms.array)
    water = tissues.water.array * spoiled_echo(_water_t1(t2_ms, t1_scale), t2_ms, protocol)
    fat = tissues.fat.array * np.float32(spoiled_echo(FAT_T1_MS, np.array(FAT_T2_MS), protocol).mean())
    water, fat = _sampled(tissues.water, (water, fat), grid, motion, samples)
    turned = complex(fat_dephasing(protocol["EchoTime"], FIELD_T))
    return combine(water, abs(turned) * fat, phase=np.angle(turned)).astype(np.float32)


def add_noise(signal, rng, *, sigma) -> np.ndarray:
    """The magnitude of a signal with Gaussian noise of SD `sigma` in its real and imaginary part (Rician)."""
    real = signal + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, sigma * rng.standard_normal(signal.shape, dtype=np.float32))


def dixon_series(water, fat, shading, rng, *, snr) -> dict[str, np.ndarray]:
    """In-phase, opposed-phase, water and fat magnitudes with coil shading and noise."""
    water, fat = water * shading, fat * shading
    sigma = float(np.median(water[water > 0.3 * water.max()])) / snr
    return dixon_images(water, fat, field_t=FIELD_T, sigma=sigma, rng=rng)
