"""Other packages on the same signals, each in an environment of its own under a folder; never a dependency.

A peer that does not install or run says so in one line, and the benchmark goes on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

N_VOXELS = 2000  # a peer fits; most take a millisecond each

# what to install, and a program that reads in.npz (signal, times) and writes out.npz (t2 in ms)
PEERS = {
    "DOSMA 0.1.2": (["dosma==0.1.2", "numpy<2"], """
import numpy as np
from dosma.core.fitting import MonoExponentialFit
from dosma.core.med_volume import MedicalVolume
d = np.load("in.npz")
vols = [MedicalVolume(np.ascontiguousarray(echo.reshape(-1, 1, 1)), np.eye(4)) for echo in d["signal"].T]
fit = MonoExponentialFit(tc0=30.0, bounds=(0, 400), num_workers=0)
t2 = fit.fit(list(d["times"]), vols)[0]
np.savez("out.npz", t2=np.asarray(t2.volume, float).ravel())
"""),
    "ukat 0.7.3": (["ukat==0.7.3"], """
import numpy as np
from ukat.mapping.t2 import T2
d = np.load("in.npz")
fit = T2(d["signal"].reshape(-1, 1, 1, len(d["times"])), d["times"], np.eye(4), method="3p_exp", multithread=False)
np.savez("out.npz", t2=fit.t2_map.ravel())
"""),
}
# BART wants no environment, but its program: the model of bart mobafit -T is one exponential in R2
BART = "BART mobafit"


def install(folder) -> None:
    """Make the environments that are not there yet."""
    for name, (packages, _) in PEERS.items():
        place = _place(folder, name)
        if (place / "bin" / "python").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        done = subprocess.run([place / "bin" / "pip", "install", "-q", *packages], capture_output=True, text=True)
        if done.returncode:
            (place / "failed.txt").write_text(done.stderr)


def fit_all(signal, times, folder, *, stimulated):
    """(name, T2 in ms) of every peer; one that does not run gives NaN."""
    for name, (_, program) in PEERS.items():
        t2, spent = _run(name, program, signal, times, folder)
        if np.isfinite(spent):
            yield name + (", one exponential" if stimulated else ""), t2
    t2, spent = _bart(signal, times, folder)
    if np.isfinite(spent):
        yield BART + (", one exponential" if stimulated else ""), t2


def speed(folder) -> None:
    """Voxels per second of each, one process, on signals of one exponential."""
    rng = np.random.default_rng(3)
    times = np.arange(1, 11) * 10.0
    signal = 1000 * np.exp(-times / rng.uniform(25, 90, (N_VOXELS, 1))) + rng.normal(0, 10, (N_VOXELS, 10))
    for name, (_, program) in PEERS.items():
        _, spent = _run(name, program, np.abs(signal), times, folder)
        _, idle = _run(name, program, np.abs(signal[:10]), times, folder)
        if np.isfinite(spent):
            print(f"{name}: {N_VOXELS / max(spent - idle, 1e-9):.2g} voxels/s", flush=True)
    _, spent = _bart(np.abs(signal), times, folder)
    if np.isfinite(spent):
        print(f"{BART}: {N_VOXELS / spent:.2g} voxels/s", flush=True)


def _place(folder, name):
    return Path(folder) / name.replace(" ", "-")


def _run(name, program, signal, times, folder):
    """T2 and seconds; NaN where the peer fails, with the last line of what it says."""
    place = _place(folder, name)
    none = np.full(len(signal), np.nan), np.nan
    if (place / "failed.txt").exists() or not (place / "bin" / "python").exists():
        print(f"{name} did not install", flush=True)
        return none
    np.savez(place / "in.npz", signal=signal.astype(float), times=np.asarray(times, float))
    (place / "out.npz").unlink(missing_ok=True)
    start = time.perf_counter()
    done = subprocess.run([(place / "bin" / "python").absolute(), "-c", program], cwd=place, capture_output=True,
                          text=True)
    spent = time.perf_counter() - start
    if done.returncode:
        print(f"{name} did not run: {(done.stderr.strip().splitlines() or ['no reason'])[-1][:150]}", flush=True)
        return none
    return np.load(place / "out.npz")["t2"], spent


def _bart(signal, times, folder):
    """BART's model-based fit, through its own file format: column-major complex floats with a header of sizes."""
    place = Path(folder) / "bart"
    place.mkdir(parents=True, exist_ok=True)

    def write(stem, array, dims):
        sizes = " ".join(map(str, dims + [1] * (16 - len(dims))))
        (place / f"{stem}.hdr").write_text(f"# Dimensions\n{sizes}\n")
        array.astype(np.complex64).ravel(order="F").tofile(place / f"{stem}.cfl")

    write("echoes", signal[:, None, None, None, None, :], [len(signal), 1, 1, 1, 1, len(times)])
    write("times", np.asarray(times)[None, None, None, None, None] / 1000, [1, 1, 1, 1, 1, len(times)])
    start = time.perf_counter()
    try:
        done = subprocess.run(["bart", "mobafit", "-T", "times", "echoes", "fit"], cwd=place, capture_output=True,
                              text=True)
    except FileNotFoundError:
        print(f"{BART} is not installed (apt-get install bart)", flush=True)
        return np.full(len(signal), np.nan), np.nan
    spent = time.perf_counter() - start
    if done.returncode:
        print(f"{BART} did not run: {(done.stderr.strip().splitlines() or ['no reason'])[-1][:150]}", flush=True)
        return np.full(len(signal), np.nan), np.nan
    sizes = [int(n) for n in (place / "fit.hdr").read_text().splitlines()[1].split()]
    maps = np.fromfile(place / "fit.cfl", np.complex64).reshape(sizes, order="F").reshape(len(signal), -1)
    with np.errstate(divide="ignore"):
        return 1000 / maps[:, 1].real, spent
