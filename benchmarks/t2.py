"""How accurate and how fast the T2 fits are, beside the limit and beside other packages, in one run.

    python benchmarks/t2.py [--voxels 20000] [--peers] [--only accuracy mismatch speed] [--torch]

Accuracy: the signals are those of isochromats followed one by one (`t2_signals.py`), with Rician noise; 10 echoes at 10
to 100 ms, T2 evenly between 25 and 90 ms. "limit" is the root mean square of the Cramér-Rao bound for Rician magnitudes
over the same voxels, "of the limit" that over the root mean square error.
Mismatch: without noise, what becomes of T2 where the fit assumes what is not so.
Speed: voxels per second of CPU time (all threads together), and the share of the time that reading the signals from
memory alone would take, measured in the same run; with --torch also what PyTorch fits in a second by the clock, with
one thread on the CPU and, where there is one, on the GPU, the way of the signals there and back included.
Peers: with --peers other packages fit the same signals, each in an environment of its own (`t2_peers.py`).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import t2_peers
from t2_signals import TIMES, bound, magnitudes, spin_train

from mrmyo import fit_t2
from mrmyo.epg import slice_profile
from mrmyo.t2 import FITTED
from mrmyo.t2_epg import EpgAssumptions

S0 = 1000.0
MADE = EpgAssumptions()


def mono(p):
    """Signals of (T2, s0)."""
    return p[:, 1:2] * np.exp(-TIMES / p[:, :1])


def water(p):
    """Signals of (T2, s0, B1)."""
    return p[:, 1:2] * spin_train(p[:, 0], p[:, 2])


def both(p):
    """Signals of (T2, s0, B1, fat fraction), fat not suppressed."""
    lipid = spin_train(np.full(len(p), MADE.fat_t2_ms), p[:, 2], t1_ms=MADE.fat_t1_ms)
    return p[:, 1:2] * ((1 - p[:, 3:4]) * spin_train(p[:, 0], p[:, 2]) + p[:, 3:4] * lipid)


def scenes(n):
    """Each: name, noisy signals, noise, truth, the limit, and what to fit it with."""
    rng = np.random.default_rng(1)
    t2, s0 = rng.uniform(25, 90, n), np.full(n, S0)
    b1, fat = rng.uniform(0.7, 1.0, n), rng.uniform(0, 0.3, n)
    found = []
    for snr in (20, 50, 100):
        p, sigma = np.column_stack([t2, s0]), S0 / snr
        found.append((f"mono, SNR {snr}", magnitudes(mono(p), sigma, snr), sigma, t2, bound(mono, p, sigma),
                      {"": {"sigma": sigma}}))
    sigma = S0 / 50
    p = np.column_stack([t2, s0, b1])
    found.append(("stimulated echoes, SNR 50", magnitudes(water(p), sigma, 4), sigma, t2, bound(water, p, sigma),
                  {"B1 free": {"model": "epg", "sigma": sigma}}))
    p = np.column_stack([t2, s0, b1, fat])
    told, about = fat + rng.normal(0, 0.02, n), b1 + rng.normal(0, 0.03, n)
    free = bound(both, p, sigma, prior=[np.inf, np.inf, np.inf, 0.02])
    noisy = magnitudes(both(p), sigma, 5)
    found.append(("fat 0-30 % and stimulated echoes, SNR 50", noisy, sigma, t2, free,
                  {"Dixon fat ± 2 %, B1 free": {"model": "epg", "sigma": sigma, "fat_fraction": told}}))
    known = bound(both, p, sigma, prior=[np.inf, np.inf, 0.03, 0.02])
    found.append(("the same, B1 known to ± 0.03", noisy, sigma, t2, known,
                  {"": {"model": "epg", "sigma": sigma, "fat_fraction": told, "b1": about}}))
    return found


def line(name, who, t2, truth, limit):
    ok = np.isfinite(t2) & (t2 > 0)
    error = t2[ok] - truth[ok]
    rmse = np.sqrt((error**2).mean()) if ok.any() else np.nan
    least = np.sqrt((limit**2).mean())
    print(f"| {name} | {who} | {rmse:.2f} | {least:.2f} | {least / rmse:.2f} | {error.mean():+.2f} | "
          f"{100 * (1 - ok.mean()):.2f} % |", flush=True)


def accuracy(n, with_peers, folder):
    print("\n| signals | fit | RMSE (ms) | limit (ms) | of the limit | bias (ms) | failed |\n|" + "---|" * 7)
    for name, signal, sigma, truth, limit, options in scenes(n):
        for how, option in options.items():
            maps = fit_t2(signal, TIMES, **option)
            line(name, f"mrmyo {how}".strip(), np.where(maps.status == FITTED, maps.t2_ms, np.nan), truth, limit)
        if name.startswith("mono"):
            line(name, "mrmyo, least squares", fit_t2(signal, TIMES).t2_ms, truth, limit)
        elif "known" not in name:
            line(name, "mrmyo, one exponential", fit_t2(signal, TIMES, sigma=sigma).t2_ms, truth, limit)
        if with_peers and "known" not in name:
            few = slice(0, t2_peers.N_VOXELS)
            for peer, t2 in t2_peers.fit_all(signal[few], TIMES, folder, stimulated="stimulated" in name):
                line(name, peer, t2, truth[few], limit[few])


def mismatch():
    """T2 of 30, 40 and 60 ms, B1 0.75 to 1, a fat fraction of 0.15; the fit is told the rest wrongly."""
    t2, b1 = (a.ravel() for a in np.meshgrid([30.0, 40.0, 60.0], np.linspace(0.75, 1.0, 11)))
    fat = np.full(t2.shape, 0.15)

    def made(residual=1.0, *, t2=t2, b1=b1, t1=MADE.t1_ms, fat_t2=MADE.fat_t2_ms, flips=None):
        lipid = spin_train(np.full(t2.shape, fat_t2), b1, t1_ms=MADE.fat_t1_ms, flips=flips)
        return S0 * ((1 - fat)[:, None] * spin_train(t2, b1, t1_ms=t1, flips=flips) + residual * fat[:, None] * lipid)

    def selective(ratio):
        profile = slice_profile(refocusing_width_ratio=ratio)

        def flips(b1):
            pairs = zip(profile.weights, profile.flips_deg(b1), strict=True)
            return [(weight, np.deg2rad(a), np.deg2rad(b)) for weight, (a, b) in pairs]
        return profile, flips

    left = replace(MADE, residual_fat=0.15)
    right, flips = selective(1.8)
    high = np.linspace(1.02, 1.2, len(t2))
    cases = [
        ("nothing", 1.0, {}, MADE, fat), ("nothing; fat suppressed to 15 %", 0.15, {}, left, fat),
        ("T1 + 30 %", 1.0, {"t1": 1.3 * MADE.t1_ms}, MADE, fat),
        ("T1 - 30 %", 1.0, {"t1": 0.7 * MADE.t1_ms}, MADE, fat),
        ("fat's T2 + 20 %", 1.0, {"fat_t2": 1.2 * MADE.fat_t2_ms}, MADE, fat),
        ("fat's T2 - 20 %", 1.0, {"fat_t2": 0.8 * MADE.fat_t2_ms}, MADE, fat),
        ("fat's T2 + 20 %; suppressed to 15 %", 0.15, {"fat_t2": 1.2 * MADE.fat_t2_ms}, left, fat),
        ("fat fraction too high by 0.03", 1.0, {}, MADE, fat + 0.03),
        ("fat fraction too low by 0.03", 1.0, {}, MADE, fat - 0.03),
        ("residual fat 0.25 where 0.15 is assumed", 0.25, {}, left, fat),
        ("residual fat 0.05 where 0.15 is assumed", 0.05, {}, left, fat),
        ("slice profile (ratio 1.8), hard pulses assumed", 0.15, {"flips": flips}, left, fat),
        ("slice profile of ratio 1.8, 1.2 assumed", 0.15, {"flips": flips},
         replace(left, profile=slice_profile(refocusing_width_ratio=1.2)), fat),
        ("slice profile of ratio 1.8, 1.6 assumed", 0.15, {"flips": flips},
         replace(left, profile=slice_profile(refocusing_width_ratio=1.6)), fat),
        ("slice profile told rightly", 0.15, {"flips": flips}, replace(left, profile=right), fat),
        ("B1 up to 1.2 (1.02 to 1.2), hard pulses", 1.0, {"b1": high}, MADE, fat),
        ("B1 up to 1.2 (1.02 to 1.2), slice profile told", 0.15, {"b1": high, "flips": flips},
         replace(left, profile=right), fat),
        ("everything at once: T1 - 30 %, fat's T2 + 20 %, residual 0.25, ratio 1.6 assumed", 0.25,
         {"t1": 0.7 * MADE.t1_ms, "fat_t2": 1.2 * MADE.fat_t2_ms, "flips": flips},
         replace(left, profile=slice_profile(refocusing_width_ratio=1.6)), fat),
    ]
    print("\n| what is not as the fit assumes | mean error (ms) | from | to | not fitted |\n|---|---|---|---|---|")
    for name, residual, options, assumed, fraction in cases:
        maps = fit_t2(made(residual, **options), TIMES, model="epg", fat_fraction=fraction, assumptions=assumed)
        error = (maps.t2_ms - t2)[maps.status == FITTED]
        print(f"| {name} | {error.mean():+.2f} | {error.min():+.2f} | {error.max():+.2f} | "
              f"{(maps.status != FITTED).sum()} of {t2.size} |", flush=True)


def cpu_s(run):
    """CPU seconds of the best of three turns, all threads together, and its seconds by the clock."""
    best = (np.inf, np.inf)
    for _ in range(3):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        run()
        after, stop = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, (spent, stop - start))
    return best


def torch_devices():
    """Those on which PyTorch can fit here, the CPU with one thread."""
    import torch

    torch.set_num_threads(1)
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def speed(n, with_torch=False):
    rng = np.random.default_rng(2)
    small = max(n // 10, 100_000)
    t2, b1, fat = rng.uniform(25, 90, n), rng.uniform(0.7, 1.0, n), rng.uniform(0, 0.3, n)
    one = magnitudes(mono(np.column_stack([t2, np.full(n, S0)])), S0 / 50, 1).astype(np.float32)
    part = np.column_stack([t2, np.full(n, S0), b1, fat])[:20_000]
    waters = np.resize(magnitudes(water(part[:, :3]), S0 / 50, 2), (small, 10)).astype(np.float32)
    fats = np.resize(magnitudes(both(part), S0 / 50, 3), (small, 10)).astype(np.float32)
    shares, known = np.resize(part[:, 3], small), np.resize(part[:, 2], small)
    place = np.empty_like(one)
    reading, clock = cpu_s(lambda: np.copyto(place, one))
    limit = n / (reading / 2)  # a copy reads and writes
    rate = 2 * one.nbytes / reading / 1e9
    print(f"\nmemory: {rate:.1f} GB/s (copy, read and write), so {limit:.2g} voxels/s at most")
    devices = torch_devices() if with_torch else []
    heads = ["fit", "voxels", "voxels per CPU-s", "of the memory limit", "voxels/s by the clock"]
    heads += [f"PyTorch, {device}, by the clock" for device in devices]
    print(f"\n| {' | '.join(heads)} |\n|" + "---|" * len(heads))
    for name, signal, options in [
        ("mono", one, {}), ("mono, Rician (known noise)", one[:n // 5], {"sigma": S0 / 50}),
        ("epg, B1 free", waters, {"model": "epg"}),
        ("epg, B1 free, Rician", waters, {"model": "epg", "sigma": S0 / 50}),
        ("epg with fat, B1 free", fats, {"model": "epg", "fat_fraction": shares}),
        ("epg with fat, B1 known", fats, {"model": "epg", "fat_fraction": shares, "b1": known}),
    ]:
        fit_t2(signal[:2000], TIMES, **{k: v[:2000] if isinstance(v, np.ndarray) else v for k, v in options.items()})
        spent, clock = cpu_s(lambda signal=signal, options=options: fit_t2(signal, TIMES, **options))
        rate = len(signal) / spent
        cells = [name, f"{len(signal):.2g}", f"{rate:.2g}", f"{rate / limit:.3f}", f"{len(signal) / clock:.2g}"]
        for device in devices:
            fit_t2(signal[:2000], TIMES, device=device,
                   **{k: v[:2000] if isinstance(v, np.ndarray) else v for k, v in options.items()})
            _, clock = cpu_s(lambda s=signal, o=options, d=device: fit_t2(s, TIMES, device=d, **o))
            cells.append(f"{len(signal) / clock:.2g}")
        print(f"| {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=20_000, help="for accuracy")
    parser.add_argument("--speed-voxels", type=int, default=5_000_000)
    parser.add_argument("--peers", action="store_true", help="install and run other packages (network)")
    parser.add_argument("--folder", type=Path, help="where the environments of the peers are kept")
    parser.add_argument("--only", nargs="*", default=["accuracy", "mismatch", "speed"])
    parser.add_argument("--torch", action="store_true", help="measure the speed of fit_t2(device=...) too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.peers:
            t2_peers.install(folder)
        if "accuracy" in options.only:
            accuracy(options.voxels, options.peers, folder)
        if "mismatch" in options.only:
            mismatch()
        if "speed" in options.only:
            speed(options.speed_voxels, options.torch)
            if options.peers:
                t2_peers.speed(folder)


if __name__ == "__main__":
    main()
