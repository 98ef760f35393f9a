"""How long reading a study of 900 images takes, against pydicom alone, and how much memory.

    python benchmarks/read_dicom.py [--repeats 5] [--folder FOLDER] [--only classic]

Time: `read_dicom` and every volume, against `dcmread` and `pixel_array` of every file, and the place and echo time of
every frame of an enhanced one (which stacks, orders and checks nothing).
The two take turns in one process after one turn that is not counted; the ratio is that of their medians.
Memory: the highest resident size of a process that reads all volumes and keeps them, above its size before, over the
bytes of the arrays returned (float32) and over the bytes stored (16 bits). Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from scipy import ndimage

from mrmyo.dicom import read_dicom
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.volume import Volume

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # what compresses and writes enhanced files

STUDY = {"PatientID": "BENCH", "StudyDate": "20200101", "StudyTime": "101500", "PatientPosition": "FFS"}
SYNTAXES = {
    "rle": RLELossless, "jpeg": JPEGLosslessSV1, "jpeg_ls": JPEGLSLossless, "jpeg_2000": JPEG2000Lossless,
}
SPIN_ECHO = {"ScanningSequence": "SE", "SequenceVariant": "SK", "RepetitionTime": 3000.0}


def picture(n_slices, n_echoes, *, size=256, seed=0):
    """A smooth limb in noise, decaying: 12 bits that compress about as much as an image does."""
    rng = np.random.default_rng(seed)
    limb = ndimage.gaussian_filter(rng.uniform(0, 1, (size, size, n_slices)), (9, 9, 1))
    limb = 2500 * (limb - limb.min()) / np.ptp(limb)
    times = 8.5 * np.arange(1, n_echoes + 1)
    signal = limb[..., None] * np.exp(-times / 45) if n_echoes > 1 else limb
    array = np.abs(signal + rng.normal(0, 12, signal.shape)).round().astype(np.uint16)
    return Volume(array, np.diag([-1.5, -1.5, 6.0, 1.0]), tuple(times) if n_echoes > 1 else None)


def write_classic(folder):
    """30 slices × 17 echoes, four Dixon images of 80 slices, 70 slices of T1: 900 files in six series."""
    write_dicom_series(picture(30, 17), folder / "mese", study=STUDY, series={**SPIN_ECHO, "SeriesNumber": 5},
                       image_type=("ORIGINAL", "PRIMARY", "OTHER"))
    for number, image_type in enumerate(DIXON_IMAGE_TYPES.values(), start=6):
        series = {"SeriesNumber": number, "ScanningSequence": "GR", "EchoTime": 2.4, "RepetitionTime": 7.0}
        write_dicom_series(picture(80, 1, seed=number), folder / str(number), study=STUDY, series=series,
                           image_type=image_type)
    series = {**SPIN_ECHO, "SeriesNumber": 10, "RepetitionTime": 500.0, "EchoTime": 10.0}
    write_dicom_series(picture(70, 1, seed=10), folder / "t1", study=STUDY, series=series,
                       image_type=("ORIGINAL", "PRIMARY", "OTHER"))


def write_compressed(classic, folder, syntax):
    from dicom_readers import transcode

    folder.mkdir()
    for number, path in enumerate(files(classic)):
        transcode(path, folder / f"{number:04d}.dcm", syntax)


def write_enhanced_900(folder):
    from dicom_enhanced import write_enhanced

    write_enhanced(picture(30, 30), folder / "all.dcm")


def read_by_pydicom(folder):
    total = 0
    for path in files(folder):
        dataset = pydicom.dcmread(path)
        total += dataset.pixel_array.nbytes
        # pydicom parses a frame's groups only when asked; without their places the frames are no images
        for frame in dataset.get("PerFrameFunctionalGroupsSequence", ()):
            _ = frame.PlanePositionSequence[0].ImagePositionPatient, frame.MREchoSequence[0].EffectiveEchoTime
    return total


def read_by_mrmyo(folder):
    table = read_dicom(folder)
    assert table["readable"].all()
    return sum(table.volume(key).array.nbytes for key in table["key"])


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def times_s(folder, repeats):
    turns = {read_by_pydicom: [], read_by_mrmyo: []}
    for turn in range(repeats + 1):
        for reader, times in turns.items():
            start = time.perf_counter()
            reader(folder)
            times += [time.perf_counter() - start] if turn else []
    return [statistics.median(times) for times in turns.values()]


def peak_memory(folder):
    """In a process of its own: (bytes above the start, bytes returned)."""
    code = (
        "import sys, json; from pathlib import Path; from mrmyo.dicom import read_dicom\n"
        "def status(key):\n"
        "    return 1024 * next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(key))\n"
        "warm = read_dicom(sys.argv[1]); warm.volume(warm['key'].iloc[0]); del warm\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"  # the high-water mark begins anew
        "before = status('VmRSS')\n"
        "table = read_dicom(sys.argv[2]); kept = [table.volume(key).array for key in table['key']]\n"
        "print(json.dumps([status('VmHWM') - before, sum(array.nbytes for array in kept)]))"
    )
    with tempfile.TemporaryDirectory() as small:
        for number, path in enumerate(files(folder)[-4:] if len(files(folder)) > 1 else files(folder)):
            (Path(small) / str(number)).symlink_to(path.resolve())
        run = subprocess.run([sys.executable, "-c", code, small, str(folder)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the studies here and use them again")
    parser.add_argument("--only", nargs="*", default=["classic", *SYNTAXES, "enhanced"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        writers = {
            "classic": write_classic,
            **{
                name: lambda folder, syntax=syntax: write_compressed(root / "classic", folder, syntax)
                for name, syntax in SYNTAXES.items()
            },
            "enhanced": write_enhanced_900,
        }
        print(f"{'study':<10} {'files':>5} {'pydicom s':>10} {'mrmyo s':>8} {'ratio':>6} "
              f"{'returned MiB':>13} {'peak MiB':>9} {'/returned':>9} {'/stored':>8}")
        for name, write in writers.items():
            if not (root / name).exists() and (name in options.only or name == "classic"):
                write(root / name)
            if name in options.only:
                pydicom_s, mrmyo_s = times_s(root / name, options.repeats)
                peak, returned = peak_memory(root / name)
                print(f"{name:<10} {len(files(root / name)):>5} {pydicom_s:>10.2f} {mrmyo_s:>8.2f} "
                      f"{mrmyo_s / pydicom_s:>6.2f} {returned / 2**20:>13.0f} {peak / 2**20:>9.0f} "
                      f"{peak / returned:>9.2f} {peak / (returned / 2):>8.2f}", flush=True)


if __name__ == "__main__":
    main()
