"""What mrmyo reads of real DICOM, and how it agrees with two other readers, as a page of Markdown.

``python scripts/read_real_data.py ../shared/real > docs/reading.md``: every folder of images under ``dicom_variety``
and ``knee_multiecho_dicom_ge`` is read by itself. What is read is compared voxel by voxel, and place by place, with
GDCM (in SimpleITK) and with dcm2niix, by the helpers that the tests use.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

import numpy as np

from mrmyo.overview_verdict import find_series

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from dicom_readers import dcm2niix_volumes, simpleitk_volume

ROOTS = ("dicom_variety", "knee_multiecho_dicom_ge")
INTRO = """# What of DICOM is read, and what is refused

Made by `scripts/read_real_data.py` from small real series of GE, Siemens, Philips and Hitachi that others have
published (MIT licence; they are not part of this repository). Each folder was read by itself.

A series is **read** when its images are one stack of parallel slices at even steps along their normal, with every slice
at every echo time, and its pixels can be decoded. Anything else is **refused**, with the reason, and its neighbours in
the folder are read all the same. No series is repaired or resampled on reading. `mrmyo check FOLDER` tells the same of
any folder. That a series is read says nothing of what it is good for: most of these show no thigh, and only the knee is
a multi-echo series.
"""
COMPARED = """
## Against two other readers

The largest distance between the places that two readers give to the corner voxels, and the largest difference of a
voxel's value as a share of the largest value, over all echoes. SimpleITK uses GDCM; dcm2niix is Debian's, which
is built without JPEG-LS. A dash means that the other reader does not read the series; what it said stands below.
"""


def difference(ours, theirs):
    """(largest distance of the corners in mm, largest difference of voxels as a share of the largest value)."""
    matrix = np.linalg.inv(ours.affine) @ theirs.affine
    turn, start = np.rint(matrix[:3, :3]).astype(int), np.rint(matrix[:3, 3]).astype(int)
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in theirs.shape])))
    own = corners @ turn.T + start
    if not np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) or tuple(own.max(axis=0) + 1) != ours.shape:
        raise ValueError("the grids differ")
    a, b = (np.column_stack([at, np.ones(8)]) @ v.affine.T for at, v in ((own, ours), (corners, theirs)))
    axes = [int(np.flatnonzero(turn[:, axis])[0]) for axis in range(3)]
    seen = ours.array.transpose(axes)[tuple(slice(None, None, turn[a, axis]) for axis, a in enumerate(axes))]
    values = np.asarray(theirs.array, float)
    scale = max(np.abs(values).max(), 1e-9)
    return np.linalg.norm((a - b)[:, :3], axis=1).max(), np.abs(seen - values).max() / scale


def rows_of(folder):
    """(table, row) for each series of a folder."""
    table = find_series(folder)
    return [(table, row) for row in table.itertuples()]


def compare(table, row, folder, tool):
    """The differences from SimpleITK and from dcm2niix; a text where a reader fails."""
    volume = table.volume(row.key)
    echoes = [volume] if volume.array.ndim == 3 else [volume.echo(e) for e in range(volume.array.shape[3])]
    files = list(dict.fromkeys(table.files(row.key)))
    found = []
    for read in (lambda: [simpleitk_volume(files[e :: len(echoes)] if len(files) > 1 else files)
                          for e in range(len(echoes))],
                 lambda: of_this_row(dcm2niix_volumes(tool, folder), echoes)):
        try:
            pairs = [difference(a, b) for a, b in zip(echoes, read(), strict=True)]
            found.append(tuple(max(values) for values in zip(*pairs, strict=True)))
        except Exception as error:  # another program may fail in any way; the page says so
            found.append(str(error).split(":")[0].strip() or type(error).__name__)
    return found


def of_this_row(volumes, echoes):
    """Of several kinds of image in one folder (magnitude and phase), those whose values are nearest."""
    n = len(echoes)
    groups = [volumes[k : k + n] for k in range(0, len(volumes), n)]
    return min(groups, key=lambda group: abs(float(group[0].array.min()) - float(echoes[0].array.min())))


def main(root):
    """Print the page."""
    root, tool = Path(root), shutil.which("dcm2niix")
    folders = sorted({path.parent for name in ROOTS for path in (root / name).rglob("*") if path.is_file()
                      and path.name != "LICENSE"})
    lines, compared, failed = [], [], []
    for folder in folders:
        name = str(folder.relative_to(root))
        for table, row in rows_of(folder):
            shape = " × ".join(map(str, row.shape)) + (f" × {row.n_echoes} echoes" if row.n_echoes > 1 else "")
            verdict = "read" if row.readable else "**refused**"
            lines.append(f"| `{name}` | {verdict} | {row.role} | {shape} | {row.problem.replace('|', '/')} |")
            if row.readable:
                cells = []
                for reader, result in zip(("SimpleITK", "dcm2niix"), compare(table, row, folder, tool), strict=True):
                    if isinstance(result, str):
                        failed.append(f"- {reader}, `{name}`: {result}")
                        cells += ["–", "–"]
                    else:
                        cells += [f"{result[0]:.1e}", "0" if result[1] == 0 else f"{result[1]:.0e}"]
                compared.append(f"| `{name}` | {' | '.join(cells)} |")
    print(INTRO)
    print("| folder | verdict | role | columns × rows × slices | reason |\n|---|---|---|---|---|")
    print("\n".join(lines))
    print(COMPARED)
    print("| folder | SimpleITK: place (mm) | voxel | dcm2niix: place (mm) | voxel |\n|---|---|---|---|---|")
    print("\n".join(compared))
    if failed:
        print("\n" + "\n".join(failed))


if __name__ == "__main__":
    main(sys.argv[1])
