"""How quick the review widget is, in a real JupyterLab and Chromium, on a volume of 320 × 320 × 40 voxels.

    python benchmarks/editor.py [--strokes 40] [--shot review.png]

Time from letting go of the mouse to Python's acknowledgement (the stroke is on the disk then), bytes of a stroke, time
to show another slice, time to the first picture, size of the notebook file once it is saved. Needs the extras lab and
dev, and Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import ARGUMENTS, Server, open_notebook, open_page, write_notebook
from playwright.sync_api import sync_playwright

from mrmyo.anatomy import draw_anatomy
from mrmyo.labels import carry
from mrmyo.nifti import write_nifti
from mrmyo.volume import Volume

SHAPE = (320, 320, 40)
CELL = """import mrmyo
image, labels, t2 = (mrmyo.read_nifti(f"{name}.nii.gz") for name in ("image", "labels", "t2"))
editor = mrmyo.review(image, labels, "review.jsonl", reviewer="R1", t2=t2)
editor"""


def write_case(folder):
    """Drawn thighs on a large grid, and a T2 map of the usual size."""
    rng = np.random.default_rng(0)
    anatomy = draw_anatomy(rng, sex="M", level=0.75, length_mm=250, spacing_mm=(2, 2, 5))
    affine = np.diag([-1.3, -1.3, 6.0, 1.0])
    affine[:3, 3] = 208, 208, -117
    labels = carry(anatomy.labels, Volume(np.zeros(SHAPE, np.uint8), affine), samples=(1, 1, 1))
    image = 300 * (labels.array > 0) + rng.normal(200, 30, SHAPE)
    wide = np.diag([-1.65, -2.75, 6.0, 1.0])
    wide[:3, 3] = 208, 114, -57
    write_nifti(Volume(image.astype(np.float32), affine), folder / "image.nii.gz")
    write_nifti(labels, folder / "labels.nii.gz")
    write_nifti(Volume(rng.normal(40, 5, (254, 84, 20)).astype(np.float32), wide), folder / "t2.nii.gz")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strokes", type=int, default=40)
    parser.add_argument("--shot", help="a picture of the widget")
    options = parser.parse_args()
    outside = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        folder = Path(folder)
        write_case(folder)
        write_notebook(folder / "review.ipynb", CELL)
        server = Server(folder)
        try:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            page = open_page(browser, outside)
            open_notebook(page, server, "review.ipynb")
            page.wait_for_selector(".mrmyo-review[data-loaded]", timeout=60_000)
            root = page.locator(".mrmyo-review")
            first = float(root.evaluate("root => root.dataset.firstMs"))
            rng = np.random.default_rng(1)
            canvas = root.locator(".stage canvas").first.bounding_box()
            for stroke in range(options.strokes):
                root.evaluate("(root, label) => root.view.setLabel(label)", "whole muscle" if stroke % 2 else "12")
                x, y = canvas["x"] + canvas["width"] * rng.uniform(0.2, 0.8), canvas["y"] + canvas["height"] * 0.5
                page.mouse.move(x, y)
                page.mouse.down()
                page.mouse.move(x + 60, y + 40, steps=15)
                page.mouse.up()
                page.wait_for_selector(f".mrmyo-review[data-revision='{stroke + 1}'][data-status=saved]")
            told = root.evaluate("root => ({...root.dataset})")
            acknowledged, sizes = json.loads(told["ackMs"]), json.loads(told["sizes"])
            root.evaluate("root => root.focusStage()")
            page.keyboard.press("Home")
            drawn = []
            for _ in range(SHAPE[2] - 1):
                page.keyboard.press("PageUp")
                drawn.append(float(root.evaluate("root => root.dataset.drawMs")))
            if options.shot:
                root.evaluate("root => root.view.show(20)")
                page.wait_for_timeout(500)
                root.screenshot(path=options.shot)
            page.locator(".jp-Notebook .jp-InputArea-editor").first.click()
            page.keyboard.press("Control+s")
            page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
            size = (folder / "review.ipynb").stat().st_size
            page.context.unroute_all(behavior="ignoreErrors")
            browser.close()
        finally:
            server.stop()
    print(f"stroke to acknowledgement: median {np.median(acknowledged):.0f} ms, 95 % "
          f"{np.percentile(acknowledged, 95):.0f} ms (goal 50); bytes of a stroke: {np.median(sizes):.0f}, at most "
          f"{max(sizes)} (goal 20,000)")
    print(f"another slice: median {np.median(drawn):.1f} ms, 95 % {np.percentile(drawn, 95):.1f} ms (goal 16)")
    print(f"first picture: {first:.0f} ms (goal 1000); notebook file: {size / 1000:.0f} kB (goal 100)")
    print(f"requests beyond this machine: {outside}")


if __name__ == "__main__":
    main()
