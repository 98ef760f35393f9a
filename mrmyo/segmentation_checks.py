"""What cannot be segmented, and what the anatomy says against the header, for :mod:`mrmyo.segmentation`."""

from __future__ import annotations

import numpy as np

from mrmyo.labels import MUSCLES, RIGHT_OFFSET
from mrmyo.segmentation_crops import normalise, probabilities, sample
from mrmyo.segmentation_quality import features_of
from mrmyo.segmentation_sides import SegmentationError

__all__ = ["check_front", "check_image", "check_scope", "stack_note"]

# with their share of the area of all muscle, they tell how far a slice is from the knee
DISTAL, PROXIMAL = ("VM", "BFS", "SM"), ("RF", "AM", "ST", "AL", "OTH")
KNEE_AT_THE_TOP = ("the knee seems to be at the top: the header's slice order or patient position may be wrong, and "
                   "left and right exchanged with it")
FRONT_GAIN = 0.02  # of mean entropy
TRIED = 3  # slices that are also tried with front and back exchanged


def check_image(volume, canonical) -> None:
    """Refuse what is no finite magnitude image of axial slices."""
    if volume.array.ndim != 3:
        raise SegmentationError(f"Found an array of shape {volume.array.shape}; expected three axes. "
                                "Take one echo first: volume.echo(0).")
    if not np.isfinite(volume.array).all():
        raise SegmentationError(f"Found {int((~np.isfinite(volume.array)).sum())} voxels that are NaN or infinite; "
                                "expected a finite image. Replace them first.")
    if canonical.slice_axis != 2:
        plane = ("sagittal", "coronal")[canonical.slice_axis]
        raise SegmentationError(f"Found {plane} slices, {canonical.spacing_mm[canonical.slice_axis]:.1f} mm apart; "
                                "expected axial ones. Segment an axial series and align its labels to this one.")
    extent = canonical.spacing_mm[:2] * canonical.shape[:2]
    if extent.min() < 80 or min(canonical.shape[:2]) < 32:
        raise SegmentationError(f"Found a field of view of {extent[0]:.0f} × {extent[1]:.0f} mm with "
                                f"{canonical.shape[:2]} pixels; expected at least 80 mm and 32 pixels each way.")
    # interpolation leaves a little below zero; a real part, a phase or a standardised image leaves much
    below = float((volume.array < -0.02 * np.ptp(volume.array)).mean()) if volume.array.size else 0.0
    if below > 0.01:
        raise SegmentationError(f"Found {below:.0%} negative voxels, as in a phase, real-part or standardised image; "
                                "expected magnitudes, with air near 0. Take the magnitude image, or add an offset.")


def check_scope(scope) -> None:
    """Refuse a stack without a single slice that is likely one through thighs."""
    if scope.max() < 0.5:
        raise SegmentationError(f"Found no thigh: none of {len(scope)} slices looks like one through thighs (the "
                                f"likeliest {scope.max():.0%}). Expected axial slices between knee and hip, brighter "
                                "than the air around them.")


def check_front(network, stack, spacing, jobs, features, kept) -> None:
    """Refuse a stack whose anatomy is recognised far better with front and back exchanged.

    A turn by 180° about the long axis and a mirrored picture look alike to a network that sees one thigh at a time, so
    that one trial covers both. A mirroring of left and right alone cannot be noticed: a pair of thighs looks the same.

    Parameters
    ----------
    jobs : sequence of Job
    features : dict
        {(slice, side): features} of the jobs as they are.
    kept : sequence of int
        Slices that are not left empty; a few spread evenly over them are tried.
    """
    picked = np.unique(np.asarray(kept)[np.linspace(0, len(kept) - 1, min(TRIED, len(kept)) + 2).round().astype(int)])
    tried = [job for job in jobs if job.k in (picked[1:-1] if len(picked) > 2 else picked)]
    gains = []
    for job in tried:
        image = normalise(sample(stack[job.k], job, spacing)[None, :, ::-1])
        found, _, air = probabilities(network, image)
        turned = features_of(found, image, air)
        gains.append(features[job.k, job.side]["entropy"] - float(turned["entropy"][0]))
    gain = float(np.median([-1.0 if np.isnan(g) else g for g in gains]))
    if gain > FRONT_GAIN:
        raise SegmentationError(
            "Found thighs whose front lies behind: with front and back exchanged the muscles are recognised far "
            "better. Expected the patient's front where the header says (patient position, or the affine of a "
            "converted file). Correct the header, and with it left and right: a patient who lies the other way round "
            "has them exchanged too."
        )


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
