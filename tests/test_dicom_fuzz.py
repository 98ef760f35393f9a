"""Damaged DICOM files: read rightly or refused in words; never a crash, a hang, a flood of memory, a wrong place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from dicom_fuzzing import MEMORY_BYTES, make_seeds

PROGRAM = Path(__file__).with_name("dicom_fuzzing.py")


@pytest.fixture(scope="module")
def seeds():
    """A folder of sound series in memory, where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as root:
        sound = Path(root) / "sound"
        make_seeds(sound)
        yield sound


def damage(seeds, log, start, stop):
    """Work through the mutations; one that ends the process is written down, and the next begins after it."""
    results, seen = [], 0
    while start < stop:
        command = [sys.executable, PROGRAM, seeds, log, str(start), str(stop)]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each thread claims address space
        run = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True)
        lines = [json.loads(line) for line in log.read_text().splitlines()[seen:]] if log.exists() else []
        seen += len(lines)
        assert lines, run.stderr[-3000:]
        results += [line for line in lines if "done" in line]
        if run.returncode == 0:
            break
        last = lines[-1]
        assert "start" in last, run.stderr[-3000:]
        why = run.stderr.strip().splitlines()[-30:]
        results.append({**last, "done": last["start"], "kind": "", "grown_mib": 0, "verdict": f"CRASHED: {why}"})
        start = last["start"] + 1
    return results


def assert_sound(results, expected):
    failures = [line for line in results if line["verdict"] not in ("read", "refused", "refused late")]
    assert not failures, f"{len(failures)} of {expected}:\n" + "\n".join(map(str, failures[:20]))
    assert len(results) == expected
    assert max(line["grown_mib"] for line in results) < MEMORY_BYTES / 2**20 / 6
    counts = Counter(line["verdict"] for line in results)
    assert counts["read"] > expected / 10 and counts["refused"] > expected / 5  # the damage is neither all nor nothing


def test_damaged_files(seeds, tmp_path):
    assert_sound(damage(seeds, tmp_path / "log", 0, 600), 600)


@pytest.mark.slow
def test_ten_thousand_damaged_files(seeds, tmp_path):
    assert_sound(damage(seeds, tmp_path / "log", 0, 10_000), 10_000)


# -- floods: little on disk, much in memory or in time -----------------------------------------------------------------


def read_within(folder, *, memory_bytes=1 << 30, seconds=30):
    """What a process with so much memory beyond its libraries says of a folder."""
    code = (
        "import resource, sys; from mrmyo.dicom import DicomError, read_dicom\n"
        "used = 4096 * int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)\n"
        "try:\n"
        "    table = read_dicom(sys.argv[1])\n"
        "    shapes = [table.volume(key).shape for key in table.loc[table['readable'], 'key']]\n"
        "    print('read', shapes, *table['warnings'])\n"
        "except DicomError as error:\n"
        "    print('refused', error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, folder, str(memory_bytes)], capture_output=True, text=True, timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.fixture
def series(seeds, tmp_path):
    def copy(name):
        return Path(shutil.copytree(seeds / name, tmp_path / name))

    return copy


@pytest.mark.parametrize("name", ["explicit", "implicit", "big_endian"])
def test_a_tail_of_zeros_is_damage(series, name):
    """A copy that broke off and was filled up: read as elements, the zeros would be millions."""
    path = sorted(series(name).iterdir())[2]
    path.write_bytes(path.read_bytes()[:600] + bytes(64 << 20))
    assert read_within(path.parent).startswith("refused")


def test_a_zip_member_of_zeros_is_left_out(series):
    path = series("zip") / "study.zip"
    head = next(iter(sorted(series("explicit").iterdir()))).read_bytes()[:600]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("big", "w") as member:
        member.write(head)
        for _ in range(256):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    assert read_within(path).startswith("read [(36, 33, 5)]")


def test_a_deflated_flood_is_not_inflated(series):
    path = sorted(series("deflated").iterdir())[2]
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    flood = deflate.compress(zlib.decompress(data[start:], -15))
    for _ in range(512):
        flood += deflate.compress(bytes(1 << 20))
    path.write_bytes(data[:start] + flood + deflate.flush())
    assert path.stat().st_size < 1 << 20
    # the image is whole; what follows it is left as it is
    assert read_within(path.parent, memory_bytes=384 << 20).startswith("read [(36, 33, 5)]")


@pytest.mark.parametrize("name", ["rle", "jpeg_lossless", "jpeg_ls", "jpeg_2000"])
def test_a_header_that_announces_gigabytes_is_refused(series, name):
    folder = series(name)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 8000
        dataset.save_as(path)
    assert read_within(folder).startswith("refused")
