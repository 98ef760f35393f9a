"""How long both thighs take from file to labels, how much memory, and what simpler methods reach.

    python benchmarks/segment.py [--repeats 3] [--model FILE] [--real FOLDER] [--only time memory methods]

Time: a synthetic pair of thighs, 30 slices of 320 × 320, from a NIfTI file to labels, in a process that has imported
torch. Beside it, in turns, the same network on crops of 192 pixels for every slice, and that without folded batch norm;
the ratios are those of the medians, by the clock and of the time that all cores spent, which other work on the machine
hardly changes. One turn is not counted.
Memory: the highest resident size of a process that does nothing else (Linux only), in all and above torch alone.
Methods: Dice of the whole muscle by Otsu's threshold, k-means (three classes of intensity), and a fat ring (what lies
inside the subcutaneous fat, is darker than fat, and is no bone), beside the network, on the in-phase image of a
synthetic study, which is of the kind that the network was trained on, and on `thigh_dixon` (water + fat, mid-thigh; its
labels are a network's and leave some muscle out, which costs the simple methods more than ours).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from mrmyo import load_cohort, read_dicom, read_nifti, simulate_study, write_nifti
from mrmyo.anatomy import draw_anatomy
from mrmyo.labels import is_muscle
from mrmyo.segmentation import MODEL_PATH, build_network, load_model, segment
from mrmyo.segmentation_sides import _otsu, find_body
from mrmyo.volume import Volume, to_canonical

ROOT = Path(__file__).resolve().parent.parent
WATER = np.array([0, 0.8, 0.8, 0.3, 1, 1, 0.03, 0.8, 0.2, 1.8])


def draw_stack(path):
    """A synthetic in-phase image of 30 slices of 320 × 320, 1.5 mm, 6 mm apart."""
    rng = np.random.default_rng(1)
    anatomy = draw_anatomy(rng, sex="M", level=0.75, length_mm=180, spacing_mm=(1.5, 1.5, 6.0))
    fat = anatomy.fat_fraction.array
    image = ((1 - fat) * WATER[anatomy.tissue.array] + 2.2 * fat)[..., :30]
    around = [(max(320 - n, 0) // 2, max(320 - n + 1, 0) // 2) for n in image.shape[:2]]
    image = np.pad(image, [*around, (0, 0)])
    image = image[:320, :320] + rng.normal(0, 0.05, (320, 320, image.shape[2]))
    write_nifti(Volume(np.abs(image).astype(np.float32), np.diag([1.5, 1.5, 6.0, 1.0])), path)


def unfused(model, path):
    """The model with batch normalisation as it was trained."""
    from safetensors.torch import load_file

    made = model.card["architecture"]
    network = build_network(channels=made["channels"], n_classes=made["classes"], kind=made["kind"]).eval()
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return replace(model, network=network)


def with_crops_of(model, pixels):
    """The model, told to use no smaller crops."""
    return replace(model, card={**model.card, "input": {**model.card["input"], "smallest_crop": pixels}})


def times_s(path, model, model_path, repeats):
    """{variant: median seconds from file to labels, by the clock and of all cores together}."""
    whole = with_crops_of(model, 192)
    variants = {"mrmyo": model, "crops of 192 pixels": whole, "and batch norm apart": unfused(whole, model_path)}
    times = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, variant in variants.items():
            clock, work = time.perf_counter(), time.process_time()
            segment(read_nifti(path), variant, progress=False)
            times[name] += [(time.perf_counter() - clock, time.process_time() - work)] if turn else []
    return {name: [statistics.median(column) for column in zip(*values, strict=True)]
            for name, values in times.items()}


def peak_mib(path, model_path):
    """Highest resident size of a process that segments the file: in all, and above that of torch."""
    code = ("import sys, json, torch\n"
            "def status(key):\n"
            "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(key)) / 1024\n"
            "before = status('VmRSS')\n"
            "from mrmyo import read_nifti, segment\n"
            "segment(read_nifti(sys.argv[1]), sys.argv[2], progress=False)\n"
            "print(json.dumps([status('VmHWM'), before]))")
    run = subprocess.run([sys.executable, "-c", code, str(path), str(model_path)], capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stderr
    peak, before = json.loads(run.stdout)
    return peak, peak - before


def by_otsu(plane, body):
    """Darker than Otsu's threshold within the body."""
    return body & (plane < _otsu(plane[body]))


def by_kmeans(plane, body):
    """The larger of the two darker of three classes of intensity within the body."""
    centres, label = kmeans2(plane[body].astype(float), np.percentile(plane[body], [10, 50, 90]), minit="matrix")
    out = np.zeros(plane.shape, bool)
    darker = np.argsort(centres)[:2]
    out[body] = label == darker[np.bincount(label, minlength=3)[darker].argmax()]
    return out


def by_fat_ring(plane, body, spacing):
    """Inside the subcutaneous fat, darker than fat, no cortical bone."""
    fat = body & (plane >= _otsu(plane[body]))
    width = max(round(float(3 / spacing[0])), 1)
    rim = body & ~ndimage.binary_erosion(body, iterations=2 * width)
    parts, n = ndimage.label(ndimage.binary_opening(fat, iterations=max(width // 2, 1)))
    ring = np.isin(parts, np.setdiff1d(np.unique(parts[rim]), 0)) if n else np.zeros_like(body)
    inside = ndimage.binary_opening(ndimage.binary_fill_holes(body & ~ring), iterations=width)
    muscle = inside & ~fat
    if not muscle.any():
        return muscle
    return ndimage.binary_opening(muscle & (plane > 0.5 * np.median(plane[muscle])))


def dice_of_methods(volume, truth, model, slices):
    """{method: Dice of the whole muscle over the slices}; the image has fat brighter than muscle."""
    canonical = to_canonical(volume)
    true = to_canonical(volume.with_array(truth.astype(np.uint8))).array[..., slices] > 0
    stack = np.moveaxis(canonical.array, 2, 0)[slices].astype(np.float32)
    spacing = canonical.spacing_mm[:2]
    body = find_body(stack, spacing)
    flat = [plane / np.maximum(ndimage.gaussian_filter(plane, 40 / spacing) + 0.1 * plane.mean(), 1e-6)
            for plane in stack]  # a coil's shading would cost the simple methods much
    masks = {"Otsu": [by_otsu(p, b) for p, b in zip(flat, body, strict=True)],
             "k-means": [by_kmeans(p, b) for p, b in zip(flat, body, strict=True)],
             "fat ring": [by_fat_ring(p, b, spacing) for p, b in zip(flat, body, strict=True)]}
    found = to_canonical(segment(volume, model, progress=False)).array[..., slices]
    out = {name: np.moveaxis(np.stack(mask), 0, 2) for name, mask in masks.items()} | {"mrmyo": is_muscle(found)}
    return {name: 2 * (mask & true).sum() / (mask.sum() + true.sum()) for name, mask in out.items()}


def methods(model, real, folder):
    """A row per image."""
    subject = load_cohort().query("subject == 'SYN-IIM-01'")
    subject = (subject if len(subject) else load_cohort().query("group == 'IIM'")).iloc[0].to_dict()
    simulate_study(subject, folder / "study", folder / "truth")
    image = read_dicom(folder / "study").volume("in_phase")
    truth = read_nifti(folder / "truth" / "labels_in_phase.nii.gz")
    truth = to_canonical(truth).array
    image = to_canonical(image)
    rows = {f"synthetic study, {subject['group']}": dice_of_methods(image, is_muscle(truth), model,
                                                                    slice(3, image.shape[2] - 3))}
    if real.is_dir():
        water, fat, labels = (read_nifti(real / "thigh_dixon" / f"{name}.nii.gz")
                              for name in ("water", "fat", "labels_machine"))
        both = water.with_array(water.array.astype(np.float32) + fat.array)
        rows["thigh_dixon, mid-thigh"] = dice_of_methods(both, labels.array > 0, model, slice(3, 10))
    return rows


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    real = os.environ.get("MRMYO_REAL_DATA", ROOT.parent / "shared" / "real")
    parser.add_argument("--real", type=Path, default=Path(real))
    parser.add_argument("--only", nargs="*", default=["time", "memory", "methods"])
    options = parser.parse_args()
    import torch

    model = load_model(options.model)
    print(f"model {model.hash}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = folder / "thighs.nii.gz"
        draw_stack(path)
        if "time" in options.only:
            times = times_s(path, model, options.model, options.repeats)
            print(f"{'':24s} {'clock':>8s} {'ratio':>6s} {'cores':>8s} {'ratio':>6s}")
            for name, spent in times.items():
                print(f"{name:24s} " + " ".join(f"{s:6.2f} s {s / own:6.2f}"
                                                for s, own in zip(spent, times["mrmyo"], strict=True)), flush=True)
        if "memory" in options.only:
            peak, above = peak_mib(path, options.model)
            print(f"peak {peak:.0f} MiB, {above:.0f} MiB above torch", flush=True)
        if "methods" in options.only:
            for name, row in methods(model, options.real, folder).items():
                print(f"{name:28s} " + "  ".join(f"{method} {value:.3f}" for method, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
