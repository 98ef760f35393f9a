"""The review widget as a reader uses it: a real JupyterLab in a real Chromium that can reach nothing but this machine.

What was painted is worked out here from where the mouse went, and compared with the journal on the disk, the kernel's
mask and the mask that the page shows.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from browser import ARGUMENTS, Server, answer_dialog, open_notebook, open_page, processes, run_all, write_notebook
from PIL import Image

from mrmyo.figures import label_colours
from mrmyo.journal import mask_version, replay
from mrmyo.journal_screen import to_screen
from mrmyo.nifti import read_nifti, write_nifti
from mrmyo.viewer import draw_surface, surface_points
from mrmyo.volume import Volume

ROOT = Path(__file__).resolve().parent.parent
playwright = pytest.importorskip("playwright.sync_api")

SHAPE, SPACING = (96, 72, 7), (1.25, 1.5, 6.0)
SETUP = """import mrmyo
image, labels, t2 = (mrmyo.read_nifti(f"{name}.nii.gz") for name in ("image", "labels", "t2"))
editor = mrmyo.review(image, labels, "review.jsonl", reviewer="R1", t2=t2)
editor"""
ROWS, COLUMNS = np.indices((SHAPE[1], SHAPE[0]))


def write_case(folder):
    """A drawn pair of thighs, its labels, and a T2 map on another grid."""
    x, y, _ = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    for centre, value, bone in ((24, 1, 51), (72, 21, 52)):  # stored as LPS: the patient's left is at the far end
        away = np.hypot(x - centre, (y - 36) * 1.2)
        labels[away < 20] = value + 20 * (value == 1) - 20 * (value == 21)
        labels[(away < 20) & (y > 36)] += 8
        labels[away < 4] = {51: 52, 52: 51}[bone]
    rng = np.random.default_rng(1)
    image = 200 + 300 * (labels > 0) - 150 * (labels > 50) + rng.normal(0, 20, SHAPE)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = 60, 54, -18
    wide = np.diag([-2.0, -2.5, 6.0, 1.0])
    wide[:3, 3] = 59, 53, -12
    t2 = Volume(rng.normal(40, 5, (60, 44, 5)).astype(np.float32), wide)
    write_nifti(Volume(image.astype(np.float32), affine), folder / "image.nii.gz")
    write_nifti(Volume(labels, affine), folder / "labels.nii.gz")
    write_nifti(t2, folder / "t2.nii.gz")


class Desk:
    """A notebook with a review, open in a browser."""

    def __init__(self, server, page):
        self.server, self.page = server, page
        self.path = server.folder / "review.jsonl"
        self.ready()

    def ready(self):
        """Wait until the page has all slices and everything is saved."""
        self.page.wait_for_selector(".mrmyo-review[data-loaded][data-status=saved]", timeout=60_000)
        self.root = self.page.locator(".mrmyo-review").first

    def data(self):
        return self.root.evaluate("root => ({...root.dataset})")

    def focus(self):
        self.root.evaluate("root => root.focusStage()")

    def key(self, *keys):
        self.focus()
        for one in keys:
            self.page.keyboard.press(one)

    def go(self, index):
        """To a slice, with the picture fitted and no cross where a stroke will be."""
        self.root.evaluate("(root, k) => { root.view.image.fit(); root.view.show(k); }", index)

    def use(self, tool, label):
        self.root.get_by_role("button", name=tool, exact=True).first.click()
        self.root.evaluate("(root, key) => root.view.setLabel(key)", label)

    def steady(self):
        """Wait until nothing on the page moves any more and no question of JupyterLab lies over it."""
        canvas, last = self.root.locator(".stage canvas").first, None
        for _ in range(60):
            answer_dialog(self.page)
            canvas.scroll_into_view_if_needed()
            box = canvas.bounding_box()
            if box == last:
                return
            last = box
            self.page.wait_for_timeout(120)

    def at(self, row, column):
        """Where a voxel's centre lies on the page, in whole pixels, and which place that is in voxels."""
        canvas = self.root.locator(".stage canvas").first
        box, told = canvas.bounding_box(), canvas.evaluate("c => ({...c.dataset})")
        x0, y0, dx, dy = (float(told[name]) for name in ("x0", "y0", "dx", "dy"))
        x, y = round(box["x"] + x0 + (column + 0.5) * dx), round(box["y"] + y0 + (row + 0.5) * dy)
        return x, y, (y - box["y"] - y0) / dy - 0.5, (x - box["x"] - x0) / dx - 0.5

    def drag(self, *places):
        """Press the mouse at the first place and let go at the last; gives the places in voxels."""
        self.steady()
        points = [self.at(*place) for place in places]
        self.page.mouse.move(*points[0][:2])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point[:2], steps=5)
        self.page.mouse.up()
        return [np.array(point[2:]) for point in points]

    def saved(self, revision):
        """Wait for an entry of the journal; gives the mask, which disk, kernel and page agree on."""
        self.page.wait_for_function("n => document.querySelector('.mrmyo-review').dataset.revision == n",
                                    arg=str(revision))
        self.page.wait_for_selector(".mrmyo-review[data-status=saved]")
        review = replay(self.path)
        assert review.revision == revision
        assert self.server.ask("editor.session.review.version") == mask_version(review.labels.array)
        shown = self.root.evaluate("root => [...root.view.store.masks].map(([k, mask]) => [k, Array.from(mask)])")
        assert len(shown) == SHAPE[2]
        for k, mask in shown:
            np.testing.assert_array_equal(np.array(mask, np.uint8).reshape(ROWS.shape), review.screen[k])
        return review.screen


@pytest.fixture(scope="module")
def browser(system_tool):
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=system_tool("chromium"), args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def desk(browser, tmp_path_factory):
    folder, outside = tmp_path_factory.mktemp("lab"), []
    write_case(folder)
    write_notebook(folder / "review.ipynb", SETUP)
    server = Server(folder)
    try:
        page = open_page(browser, outside)
        page.set_default_timeout(30_000)
        open_notebook(page, server, "review.ipynb")
        yield Desk(server, page)
        assert not outside, f"the page asked for {outside}"
    finally:
        server.stop()


def before(desk):
    review = replay(desk.path)
    return review.screen.copy(), review.revision


def capsule(ends, radius):
    """Voxels whose centre lies within a radius (mm) of the line between two places (in voxels)."""
    (r0, c0), (r1, c1) = (end * [SPACING[1], SPACING[0]] for end in ends)
    y, x = ROWS * SPACING[1], COLUMNS * SPACING[0]
    along = (r1 - r0) ** 2 + (c1 - c0) ** 2
    share = np.clip(((y - r0) * (r1 - r0) + (x - c0) * (c1 - c0)) / max(along, 1e-12), 0, 1)
    return np.hypot(y - r0 - share * (r1 - r0), x - c0 - share * (c1 - c0)) <= radius


def test_a_painted_stroke_is_where_the_mouse_went(desk):
    mask, revision = before(desk)
    desk.go(3)
    desk.use("brush", "12")
    ends = desk.drag((20, 20), (34, 40))
    after = desk.saved(revision + 1)
    mask[3][capsule(ends, 4)] = 12
    np.testing.assert_array_equal(after, mask)


def test_the_screen_shows_the_label_there_and_nowhere_else(desk):
    mask, _ = before(desk)
    desk.go(3)
    desk.page.mouse.move(5, 5)
    desk.root.evaluate("root => { Object.assign(root.view, {opacity: 1, outline: false, cursor: [-99, -99]});"
                       " root.view.draw(); }")
    shot = np.array(Image.open(io.BytesIO(desk.root.locator(".stage").first.screenshot())).convert("RGB")).astype(int)
    canvas = desk.root.locator(".stage canvas").first
    told = canvas.evaluate("c => ({...c.dataset})")
    x0, y0, dx, dy = (float(told[name]) for name in ("x0", "y0", "dx", "dy"))
    colours = {value: np.round(255 * np.array(rgb)) for value, rgb in label_colours().items()}
    checked = 0
    for row in range(8, 60, 3):
        for column in range(6, 90, 3):
            x, y = round(x0 + (column + 0.5) * dx), round(y0 + (row + 0.5) * dy)
            if not (30 < y < shot.shape[0] - 40 and 4 < x < shot.shape[1] - 4):
                continue  # letters lie over the corners
            pixel, value = shot[y, x], mask[3][row, column]
            expected = colours[value] if value else np.repeat(pixel[:1], 3)  # grey, where there is no label
            assert np.abs(pixel - expected).max() <= 2, (row, column, value, pixel)
            checked += 1
    assert checked > 200
    desk.root.evaluate("root => { Object.assign(root.view, {opacity: 0.35, outline: true}); root.view.draw(); }")


def test_erasing_takes_the_label_away(desk):
    mask, revision = before(desk)
    desk.go(2)
    desk.use("eraser", "whole muscle")
    ends = desk.drag((40, 66), (30, 80))
    after = desk.saved(revision + 1)
    where = capsule(ends, 4) & (mask[2] < 51)
    assert (mask[2][where] > 0).any()
    mask[2][where] = 0
    np.testing.assert_array_equal(after, mask)


def test_a_stroke_belongs_to_the_slice_and_the_tool_it_was_begun_with(desk):
    mask, revision = before(desk)
    desk.go(5)
    desk.use("brush", "13")
    x, y, *start = desk.at(12, 12)
    desk.page.mouse.move(x, y)
    desk.page.mouse.down()
    desk.page.mouse.wheel(0, -100)  # to the next slice, with the button down
    desk.page.mouse.move(x + 40, y)
    desk.page.mouse.up()
    mask[5][capsule([np.array(start)] * 2, 4)] = 13
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)
    assert desk.data()["slice"] == "6"
    desk.page.mouse.move(5, 5)
    desk.root.evaluate("root => { root.view.cursor = [50, 50]; }")
    desk.key("d", "ArrowRight", "e")  # the pen is down as a brush when the eraser is taken
    mask[6][capsule([np.array([50.0, 50.0]), np.array([50.0, 51.0])], 4)] = 13
    np.testing.assert_array_equal(desk.saved(revision + 2), mask)


ELSEWHERE = """import numpy
editor.session.views.clear()  # this page is not told
editor.session.handle({"kind": "edit", "op": "elsewhere", "base": REVISION, "tool": "brush", "slice": 0, "label": "11",
                       "reviewer": "R2"}, [numpy.array([[0, 30]], "uint32").tobytes()], print)
editor.session.views.append(editor._tell)"""


def test_what_another_view_changed_is_refused_and_shown(desk):
    """An edit that this page has not heard of: the stroke is refused, what waits behind it dropped; both are told."""
    mask, revision = before(desk)
    desk.go(0)
    desk.server.ask("None", ELSEWHERE.replace("REVISION", str(revision)))
    mask[0].reshape(-1)[:30] = 11
    # a stroke, and at once an undo that is meant for it
    desk.root.evaluate("root => { root.view.store.edit({kind: 'edit', reviewer: 'R1', tool: 'brush', slice: 0, "
                       "label: '6'}, new Uint8Array(new Uint32Array([40, 5]).buffer)); root.view.turn('undo'); }")
    desk.page.wait_for_function("() => document.querySelector('.mrmyo-review .message').innerText"
                                ".includes('elsewhere')")
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)
    assert "they came later: 1" in desk.root.locator(".message").inner_text()


def test_undo_and_redo_by_key(desk):
    mask, revision = before(desk)
    desk.go(1)
    desk.use("brush", "5")
    desk.drag((30, 30), (30, 44))
    painted = desk.saved(revision + 1).copy()
    assert (painted != mask).any()
    desk.key("z")
    np.testing.assert_array_equal(desk.saved(revision + 2), mask)
    desk.key("y")
    np.testing.assert_array_equal(desk.saved(revision + 3), painted)
    desk.key("Control+z")
    np.testing.assert_array_equal(desk.saved(revision + 4), mask)


def test_a_polygon_takes_what_lies_within(desk):
    mask, revision = before(desk)
    desk.go(4)
    desk.use("polygon", "11")
    corners = []
    for place in ((15, 15), (15, 40), (50, 40), (30, 25), (50, 15)):
        corners += desk.drag(place)
    desk.key("Enter")
    after = desk.saved(revision + 1)
    within = np.zeros(ROWS.shape, bool)
    for row, column in np.ndindex(ROWS.shape):  # even-odd, by a ray to the left
        crossings = 0
        for (r0, c0), (r1, c1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if (r0 <= row) != (r1 <= row) and c0 + (row - r0) / (r1 - r0) * (c1 - c0) <= column:
                crossings += 1
        within[row, column] = crossings % 2 == 1
    mask[4][within] = 11
    np.testing.assert_array_equal(after, mask)


def test_filling_a_region_of_one_label(desk):
    mask, revision = before(desk)
    desk.go(5)
    desk.use("fill", "3")
    region = mask[5] == 2 if (mask[5] == 2).any() else mask[5] == mask[5][30, 70]
    row, column = np.argwhere(region)[len(np.argwhere(region)) // 2]
    desk.drag((row, column))
    after = desk.saved(revision + 1)
    from scipy import ndimage

    parts, _ = ndimage.label(mask[5] == mask[5][row, column])
    mask[5][parts == parts[row, column]] = 3
    np.testing.assert_array_equal(after, mask)


def test_interpolation_between_painted_slices_and_the_keyboard_alone(desk):
    """No pointer at all: slices, label, cross, drawing, marking and interpolation by keys."""
    _, revision = before(desk)
    desk.use("brush", "13")
    desk.page.mouse.move(5, 5)
    desk.key("Home", "PageUp")
    desk.root.evaluate("root => { root.view.cursor = [10, 10]; }")
    desk.key("Shift+ArrowRight", "ArrowDown", " ", "m")  # a disc at row 11, column 18
    first = desk.saved(revision + 1).copy()
    disc = capsule([np.array([11.0, 18.0])] * 2, 4)
    np.testing.assert_array_equal(first[1] == 13, disc)
    desk.key("PageUp", "PageUp", "ArrowRight", "ArrowRight", " ")
    second = desk.saved(revision + 2).copy()
    np.testing.assert_array_equal(second[3] == 13, capsule([np.array([11.0, 20.0])] * 2, 4))
    desk.key("i")
    after = desk.saved(revision + 3)
    between = after[2] == 13
    assert np.argwhere(between).mean(axis=0) == pytest.approx([11, 19], abs=0.3)
    assert abs(between.sum() / disc.sum() - 1) < 0.25
    np.testing.assert_array_equal(after[[0, 1, 3, 4, 5, 6]], second[[0, 1, 3, 4, 5, 6]])


def test_the_pen_draws_while_the_cross_moves(desk):
    mask, revision = before(desk)
    desk.go(6)
    desk.use("brush", "4")
    desk.page.mouse.move(5, 5)
    desk.root.evaluate("root => { root.view.cursor = [30, 30]; }")
    desk.key("d", *["ArrowRight"] * 6, "d")
    mask[6][capsule([np.array([30.0, 30.0]), np.array([30.0, 36.0])], 4)] = 4
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)


def test_the_picture_follows_the_cross_by_keys(desk):
    desk.go(6)
    desk.root.evaluate("root => { root.view.cursor = [36, 48]; }")
    desk.key(*["+"] * 8, *["Shift+ArrowRight"] * 5)
    canvas = desk.root.locator(".stage canvas").first
    x, y, *_ = desk.at(36, 88)
    box = canvas.bounding_box()
    assert box["x"] < x < box["x"] + box["width"] and box["y"] < y < box["y"] + box["height"]
    assert desk.root.evaluate("root => root.view.cursor") == [36, 88]
    desk.key("0")


def test_only_within_a_range_of_intensity(desk):
    mask, revision = before(desk)
    image = to_screen(read_nifti(desk.server.folder / "image.nii.gz"))[6]
    desk.go(6)
    desk.use("brush", "8")
    desk.root.get_by_label("only within").check()
    desk.root.get_by_title("lowest intensity").fill("300")
    desk.root.get_by_title("highest intensity").fill("600")
    ends = desk.drag((36, 60), (36, 76))
    after = desk.saved(revision + 1)
    mask[6][capsule(ends, 4) & (image >= 300) & (image <= 600)] = 8
    np.testing.assert_array_equal(after, mask)
    desk.root.get_by_label("only within").uncheck()


def test_nudging_moves_the_mask_on_the_map_and_tells_how_it_lies(desk):
    _, revision = before(desk)
    desk.go(3)
    desk.use("align", "12")
    desk.key("ArrowRight", "ArrowRight", "Shift+ArrowUp", ",")
    desk.page.wait_for_function("() => document.querySelector('.mrmyo-review').view.store.queue.length === 0")
    last = int(desk.data()["revision"])
    assert last > revision
    desk.saved(last)
    assert replay(desk.path).pose == (-1.0, 2.0, 0.0, 0.5)  # to the patient's left, forwards
    desk.page.wait_for_function("n => { const text = document.querySelector('.mrmyo-review').dataset.overlap;"
                                " return text && JSON.parse(text).revision == n; }", arg=last)
    told = desk.root.evaluate("root => JSON.parse(root.dataset.overlap)")
    for name, value in desk.server.ask(
        "editor.session.t2.overlap(editor.session.t2.labels(editor.labels, editor.session.review.pose))"
    ).items():
        assert told[name] == value
    assert told["dice_start"] < 1
    while replay(desk.path).pose != (0.0, 0.0, 0.0, 0.0):
        desk.key("z")
        last += 1
        desk.saved(last)


def test_accepting_is_recorded_for_the_mask_as_it_is(desk):
    _, revision = before(desk)
    desk.go(2)
    desk.root.get_by_label("comment").fill("looks right")
    desk.key("Alt+1")
    desk.saved(revision + 1)
    assert desk.root.get_by_label("comment").input_value() == ""  # it was on that slice
    desk.root.get_by_label("comment").fill("all of it")
    desk.root.get_by_role("button", name="accept", exact=True).click()
    desk.saved(revision + 2)
    review = replay(desk.path)
    assert review.decision["stands"] and review.decision["comment"] == "all of it"
    assert review.decisions[2]["decision"] == "accepted" and review.decisions[2]["comment"] == "looks right"
    assert desk.data()["decision"] == "accepted"
    desk.use("brush", "9")
    desk.drag((20, 20), (24, 24))
    desk.saved(revision + 3)
    assert not replay(desk.path).decision["stands"] and desk.data()["decision"] == "open"


def test_a_second_view_and_a_reloaded_page_show_the_same(desk):
    mask, revision = before(desk)
    desk.go(3)
    desk.use("brush", "6")
    first = desk.drag((50, 10), (50, 30))
    mask[3][capsule(first, 4)] = 6
    desk.saved(revision + 1)
    desk.page.keyboard.press("Escape")
    desk.page.locator(".jp-Notebook .jp-InputArea-editor").first.click()
    desk.page.keyboard.press("Control+s")
    desk.page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    size = (desk.server.folder / "review.ipynb").stat().st_size
    assert size < 100_000, size
    desk.page.reload()
    desk.page.wait_for_selector(".mrmyo-review[data-loaded][data-status=saved]", timeout=60_000)
    desk.ready()
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)
    desk.go(3)
    desk.use("brush", "7")
    second = desk.drag((60, 10), (60, 30))  # in the middle of the work
    mask[3][capsule(second, 4)] = 7
    np.testing.assert_array_equal(desk.saved(revision + 2), mask)


def test_a_killed_kernel_blocks_acceptance_and_loses_no_acknowledged_stroke(desk):
    mask, revision = before(desk)
    desk.go(4)
    desk.use("brush", "10")
    ends = desk.drag((10, 60), (20, 60))
    mask[4][capsule(ends, 4)] = 10
    desk.saved(revision + 1)
    (process,) = desk.server.kernel_processes()
    os.kill(process, signal.SIGKILL)
    desk.page.wait_for_timeout(300)
    for _ in range(5):  # nobody hears of this one; JupyterLab's word on the kernel may come between
        desk.drag((50, 60), (60, 60))
        if desk.data()["pending"] != "0":
            break
    desk.page.wait_for_selector(".mrmyo-review[data-status=unsaved]", timeout=30_000)
    assert "unsaved" in desk.root.locator(".status").inner_text()
    assert desk.root.get_by_role("button", name="accept", exact=True).is_disabled()
    desk.root.screenshot(path=os.environ.get("MRMYO_SHOTS", str(desk.server.folder)) + "/unsaved.png")
    assert replay(desk.path).revision == revision + 1
    for _ in range(40):  # JupyterLab starts the kernel anew, and tells of it
        if answer_dialog(desk.page):
            break
        desk.page.wait_for_timeout(500)
    desk.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
    run_all(desk.page)
    desk.page.wait_for_selector(".mrmyo-review[data-loaded][data-status=saved]", timeout=60_000)
    desk.ready()
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)
    desk.go(4)
    desk.use("brush", "10")
    ends = desk.drag((50, 60), (60, 60))
    mask[4][capsule(ends, 4)] = 10
    np.testing.assert_array_equal(desk.saved(revision + 2), mask)


def test_a_killed_browser_loses_nothing_but_the_stroke_it_was_at(desk, browser, system_tool):
    mask, revision = before(desk)
    mark = f"--of-test-{os.getpid()}"
    other = browser.browser_type.launch(executable_path=system_tool("chromium"), args=[*ARGUMENTS, mark])
    page = open_page(other, [])
    open_notebook(page, desk.server, "review.ipynb")
    second = Desk(desk.server, page)
    second.go(0)
    second.use("brush", "3")
    ends = second.drag((40, 20), (40, 30))
    mask[0][capsule(ends, 4)] = 3
    second.saved(revision + 1)
    x, y, *_ = second.at(20, 20)
    page.mouse.move(x, y)
    page.mouse.down()  # a stroke that never ends
    page.mouse.move(x + 30, y)
    for process in processes(mark):
        os.kill(process, signal.SIGKILL)
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)  # the other view has heard of the first stroke
    open_notebook(desk.page, desk.server, "review.ipynb")  # where the notebook was not saved, its cell is run again
    desk.ready()
    np.testing.assert_array_equal(desk.saved(revision + 1), mask)


def test_labels_turn_in_three_dimensions_offline(browser, tmp_path):
    outside = []
    write_case(tmp_path)
    write_notebook(tmp_path / "view.ipynb", "import mrmyo\nimage, labels = (mrmyo.read_nifti(f'{n}.nii.gz') for n in ("
                   "'image', 'labels'))\nmrmyo.view3d(image, labels, viewer='surface', height=300)")
    server = Server(tmp_path)
    try:
        page = open_page(browser, outside)
        open_notebook(page, server, "view.ipynb")
        page.wait_for_selector(".mrmyo-surface[data-drawn]", timeout=60_000)
        assert "offline" in page.locator(".mrmyo-surface").inner_text()
        points = surface_points(read_nifti(tmp_path / "labels.nii.gz"))
        canvas = page.locator(".mrmyo-surface canvas")
        for yaw in (-25, -5):  # what Python draws is what the page draws
            if yaw == -5:
                canvas.focus()
                page.keyboard.press("ArrowRight")
                page.keyboard.press("ArrowRight")
                page.wait_for_selector(".mrmyo-surface[data-yaw='-5']")
            drawn = draw_surface(*points, yaw_deg=yaw, size=(300, 375)).astype(int)
            shown = canvas.evaluate(
                "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
            shown = np.array(shown).reshape(300, 375, 4)[..., :3]
            assert (np.abs(shown - drawn).max(axis=-1) <= 24).mean() > 0.98 and (shown > 0).mean() > 0.15
        page.locator(".mrmyo-surface").screenshot(path=os.environ.get("MRMYO_SHOTS", str(tmp_path)) + "/surface.png")
    finally:
        server.stop()
    assert not outside


def test_voila_shows_the_review_of_a_study_without_code(browser, processed_study, tmp_path):
    """What `make page` does."""
    outside = []
    shutil.copytree(processed_study[0], tmp_path / "P1")
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "voila.log"
    with open(log, "w") as file:
        voila = subprocess.Popen([sys.executable, "-m", "voila", "review_page.ipynb", "--no-browser", f"--port={port}"],
                                 cwd=ROOT / "notebooks", env={**os.environ, "MRMYO_REVIEW": str(tmp_path / "P1")},
                                 stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while "is running at" not in log.read_text() and time.monotonic() < deadline:
            assert voila.poll() is None, log.read_text()
            time.sleep(0.2)
        page = open_page(browser, outside)
        page.goto(f"http://localhost:{port}/")
        page.wait_for_selector(".mrmyo-review[data-loaded][data-status=saved]", timeout=60_000)
        assert "review_inputs" not in page.locator("body").inner_text()
        page.get_by_label("reviewer").fill("R7")
        page.locator(".mrmyo-review").evaluate("root => { root.view.setLabel('12'); root.view.cursor = [88, 160]; }")
        page.locator(".mrmyo-review").evaluate("root => root.focusStage()")
        page.keyboard.press(" ")
        page.wait_for_selector(".mrmyo-review[data-revision='1'][data-status=saved]")
        review = replay(tmp_path / "P1" / "review.jsonl")
        assert review.reviewers == ["R7"] and review.screen[review.touched.index(1)][88, 160] == 12
        page.screenshot(path=os.environ.get("MRMYO_SHOTS", str(tmp_path)) + "/page.png")
    finally:
        os.killpg(voila.pid, signal.SIGKILL)
        voila.wait()
    assert not outside, outside
