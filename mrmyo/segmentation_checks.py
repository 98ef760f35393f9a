"""What cannot be segmented, and what the anatomy says against the header, for :mod:`mrmyo.segmentation`."""

from __future__ import annotations

import numpy as np

from mrmyo.labels import MUSCLES, RIGHT_OFFSET
from mrmyo.segmentation_crops import PIXEL_MM, normalise, probabilities, sample
from mrmyo.segmentation_quality import LEAST_CM2, SCOPE, features_of, scope_of_slices
from mrmyo.segmentation_sides import SegmentationError

__all__ = ["check_image", "check_thighs", "stack_note"]

# with their share of the area of all muscle, they tell how far a slice is from the knee
DISTAL, PROXIMAL = ("VM", "BFS", "SM"), ("RF", "AM", "ST", "AL", "OTH")
KNEE_AT_THE_TOP = ("the knee seems to be at the top: the header's slice order or patient position may be wrong, and "
                   "left and right exchanged with it")
FRONT_GAIN = 0.02  # of mean entropy
TRIED, TRIED_AT_MOST = 2, 5  # slices that are also tried with front and back exchanged; where none shows a thigh


def check_image(volume, canonical) -> None:
    """Refuse what is no finite magnitude image of axial slices."""
    if volume.array.ndim != 3:
        raise SegmentationError(f"Found an array of shape {volume.array.shape}; expected three axes. "
                                "Take one echo first: volume.echo(0).")
    if volume.array.dtype.kind not in "iuf" or not volume.array.size:
        raise SegmentationError(f"Found {volume.array.size} voxels of the type {volume.array.dtype}; expected an image "
                                "of numbers.")
    if not np.isfinite(volume.array).all() or np.abs(volume.array).max() > np.finfo(np.float32).max:
        raise SegmentationError(f"Found {int((~np.isfinite(volume.array)).sum())} voxels that are NaN or infinite, or "
                                "some beyond single precision; expected a finite image. Replace or rescale them first.")
    if canonical.slice_axis != 2:
        plane = ("sagittal", "coronal")[canonical.slice_axis]
        raise SegmentationError(f"Found {plane} slices, {canonical.spacing_mm[canonical.slice_axis]:.1f} mm apart; "
                                "expected axial ones. Segment an axial series and align its labels to this one.")
    extent = canonical.spacing_mm[:2] * canonical.shape[:2]
    if extent.min() < 80 or min(canonical.shape[:2]) < 32:
        raise SegmentationError(f"Found a field of view of {extent[0]:.0f} × {extent[1]:.0f} mm with "
                                f"{canonical.shape[:2]} pixels; expected at least 80 mm and 32 pixels each way.")
    # interpolation leaves a little below zero; a real part, a phase or a standardised image leaves much
    span = float(volume.array.max()) - float(volume.array.min())  # int16 would wrap
    below = float((volume.array < -0.02 * span).mean())
    if below > 0.01:
        raise SegmentationError(f"Found {below:.0%} negative voxels, as in a phase, real-part or standardised image; "
                                "expected magnitudes, with air near 0. Take the magnitude image, or add an offset.")


def check_thighs(network, stack, spacing, jobs, found) -> None:
    """Refuse a stack without thighs, and one whose thighs are recognised far better with front and back exchanged.

    A turn by 180° about the long axis and a mirrored picture look alike to a network that sees one thigh at a time, so
    that one trial covers both. Of 40 random thighs and 6 real image stacks none was recognised better the wrong way
    round: the entropy rose by 0.05 or more and the likelihood of a thigh never did. A mirroring of left and right alone
    cannot be noticed: a pair of thighs looks the same.
    """
    by_slice = scope_of_slices(found.scope)
    likeliest = float(by_slice.max())
    area = np.zeros(len(stack))
    for (k, _), known in found.features.items():
        area[k] += known["muscle_pixels"] * PIXEL_MM**2 / 100
    any_thigh = bool(((by_slice >= 0.5) & (area >= LEAST_CM2)).any())
    slices = np.flatnonzero(by_slice >= SCOPE * likeliest) if any_thigh else np.arange(len(stack))
    n = min(TRIED if any_thigh else TRIED_AT_MOST, len(slices))
    picked = slices[((np.arange(n) + 0.5) * len(slices) / n).astype(int)]
    better = []
    for i, k in enumerate(picked):
        here = [job for job in jobs if job.k == k]
        if not here:
            continue  # no body
        job = here[i % len(here)]
        image = normalise(sample(stack[k], job, spacing)[None, :, ::-1])
        probability, scope, air = probabilities(network, image)
        turned, upright = features_of(probability, image, air), found.features[k, job.side]
        gain = np.nan_to_num(upright["entropy"], nan=1.0) - float(turned["entropy"][0])
        better.append(bool(gain > FRONT_GAIN and scope[0] > max(upright["in_scope"], 0.9)))
    if all(better) if any_thigh else sum(better) > len(better) / 2:
        raise SegmentationError(
            "Found thighs whose front lies behind: with front and back exchanged the muscles are recognised far "
            "better. Expected the patient's front where the header says (patient position, or the affine of a "
            "converted file). Correct the header, and with it left and right: a patient who lies the other way round "
            "has them exchanged too."
        )
    if not any_thigh:
        raise SegmentationError(f"Found no thigh: none of {len(stack)} slices looks like one through thighs (the "
                                f"likeliest {likeliest:.0%}, the most muscle {area.max():.0f} cm²). Expected axial "
                                "slices between knee and hip, brighter than the air around them.")



def stack_note(labels, slice_mm) -> str:
    """What the order of the slices (slices, x, y; from the feet upwards) says against the header; empty if nothing.

    Towards the knee, vastus medialis, short biceps and semimembranosus have more of the area. Over 58 public label
    maps their share falls steadily from the knee to mid-thigh; above, it hardly changes, and nothing is said.
    """
    from scipy.stats import spearmanr

    names = [row[1] for row in MUSCLES]
    weight = np.array([(name in DISTAL) - (name in PROXIMAL) for name in names], float)
    areas = np.stack([[(plane % RIGHT_OFFSET == value).sum() for value in range(1, len(names) + 1)]
                      for plane in np.where((labels > 0) & (labels < 40), labels, 0)]).astype(float)
    total = areas.sum(1)
    kept = np.flatnonzero(total > 0.2 * total.max())
    if len(kept) < 4 or np.ptp(kept) * slice_mm < 50:
        return ""
    distal = areas[kept] @ weight / total[kept]
    rises = spearmanr(distal, kept)[0] > 0.8 and distal[-1] - distal[0] > 0.2
    return KNEE_AT_THE_TOP if rises else ""
