"""`mrmyo check` tells what is there, in the images' own numbers, and says yes or no as the pipeline would."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import matplotlib.text
import numpy as np
import pytest
from dicom_samples import edit, small_volume, write

from mrmyo.__main__ import main
from mrmyo.overview import as_ascii, look
from mrmyo.overview_picture import draw_overview, middle_slice
from mrmyo.settings import Settings, write_settings
from mrmyo.study_series import StudyError, choose_series
from mrmyo.volume import Volume

IN_PHASE = ("ORIGINAL", "PRIMARY", "DIXON", "IN_PHASE")
OPPOSED = ("ORIGINAL", "PRIMARY", "DIXON", "OPP_PHASE")
ECHOES = ("ORIGINAL", "PRIMARY", "M", "SE")


def placed(low, n_slices, *, n_echoes=None, x=10.0, step=8.0, seed=1):
    """A stack whose lowest voxel edge lies at `low` mm, of slices `step` mm apart."""
    affine = np.diag([-1.5, -2.5, step, 1.0])
    affine[:3, 3] = x, 10.0, low + step / 2
    return small_volume(affine, shape=(14, 12, n_slices), n_echoes=n_echoes, seed=seed)


def write_dixon(folder, number, image_type=IN_PHASE, low=0.0, n_slices=20, **more):
    times = {"RepetitionTime": 5330.0, "EchoTime": 51.0, "ScanOptions": "PFP", **more}
    return write(placed(low, n_slices, seed=number), folder / f"{number}", image_type, SeriesNumber=number, **times)


@pytest.fixture
def study(tmp_path):
    """Two Dixon images from 0 to 160 mm, and four echoes from 40 to 120 mm."""
    folder = tmp_path / "Muster_Aenne_S-007"
    write_dixon(folder, 3)
    write_dixon(folder, 4, OPPOSED)
    write(placed(40.0, 10, n_echoes=4), folder / "9", ECHOES, SeriesNumber=9)
    return folder


def bars(text):
    """The bar of each series: (number, cells, what follows)."""
    width = 80 - 34 - 1  # one digit for the number
    found = {}
    for line in text.splitlines():
        match = re.match(rf"  (\d)  ([ █░]{{{width}}})  (\d+ slices?, \d+ mm.*)", line)
        if match:
            found[int(match[1])] = (match[2], match[3])
    return found


def test_the_numbers_are_those_of_the_images(study):
    text, series, verdict = look(study)
    rows = {int(m[1]): m[2] for m in re.finditer(r"^  +(\d+)  (\S.* mm.*|\S.*\d)$", text, re.M) if "slices" not in m[2]}
    assert set(rows) == {3, 4, 9}
    assert re.fullmatch(r"T2w Dixon, in-phase\s+axial\s+14×12\s+1\.5×2\.5×8\s+51\s+5330", rows[3])
    assert re.fullmatch(r"T2w Dixon, opposed-phase\s+axial\s+14×12\s+1\.5×2\.5×8\s+51\s+5330", rows[4])
    assert re.fullmatch(r"multi-echo spin echo\s+axial\s+14×12\s+1\.5×2\.5×8\s+8\.5–34\s+3000", rows[9])
    assert "(4 echoes)" in text
    assert text.startswith("1 study, 3 series, 80 images") and "Research use only." in text
    assert verdict.ready and "Ready to measure: YES" in text
    assert [series.loc[series.key == key, "series"].item() for key in (*verdict.mask, verdict.t2)] == [3, 9]
    assert "Mask drawn on: series 3, T2w Dixon, in-phase" in text
    assert "T2 taken from: series 9, multi-echo spin echo (4 echoes)" in text
    # by default slices are written 6 mm thick and lie 8 mm apart
    told = " ".join(text.split())
    assert "Series 3, 4 and 9: slices are 6 mm thick and 8 mm apart, which leaves gaps of 2 mm" in told


def test_the_bars_lie_where_the_series_lie(study):
    text = look(study)[0]
    assert re.search(r"feet 0 mm +160 mm head", text)
    found = bars(text)
    assert set(found) == {3, 4, 9}
    n = len(found[3][0])
    t2 = found[9][0]
    assert t2.index("█") == pytest.approx(n * 40 / 160, abs=1) and t2.count("█") == pytest.approx(n * 80 / 160, abs=1)
    assert set(t2) == {"█", " "}
    # a series is marked exactly where the T2 stack lies, and drawn lighter beside it
    assert [i for i, cell in enumerate(found[3][0]) if cell == "█"] == [i for i, c in enumerate(t2) if c == "█"]
    assert " " not in found[3][0]
    assert found[3][1] == "20 slices, 160 mm ◄ mask"
    assert found[4][1] == "20 slices, 160 mm"
    assert found[9][1] == "10 slices, 80 mm ◄ T2"


def test_exit_status_and_missing_series(study, tmp_path, capsys):
    assert main(["check", str(study)]) == 0
    shutil.rmtree(study / "9")
    assert main(["check", str(study)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "Ready to measure: NO" in told and "there is no series to take T2 from (multi-echo spin echo" in told
    with pytest.raises(StudyError):
        choose_series(look(study)[1], Settings())


def test_what_cannot_be_read_is_told_and_stops_nothing_else(study, capsys):
    for path in sorted((study / "4").iterdir())[3:5]:
        path.unlink()
    assert main(["check", str(study)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "CANNOT BE READ" in told
    assert re.search(r"Series 4: cannot be read: .*uneven slice spacing", told)
    next((study / "9").iterdir()).unlink()  # one slice lacks one echo
    assert main(["check", str(study)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Series 9: cannot be read: .*missing slices at some echoes", told)
    assert "series 9, which T2 would be taken from, cannot be read (see above)" in told


def test_nothing_readable_still_gives_a_table(tmp_path, capsys):
    for path in write_dixon(tmp_path, 3):
        edit(path, Modality="CT")
    assert main(["check", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "CANNOT BE READ" in told and "CT" in told and "Ready to measure: NO" in told
    assert re.search(r"  3  \S+ +20 slices, 160 mm", told)  # where it lies is known all the same


@pytest.mark.parametrize("kind", ["empty", "texts", "absent"])
def test_folders_without_images(kind, tmp_path, capsys):
    folder = tmp_path / "Muster_Aenne"
    if kind != "absent":
        folder.mkdir()
    if kind == "texts":
        (folder / "note.txt").write_text("Muster, Aenne")
    assert main(["check", str(folder)]) == 1
    told = capsys.readouterr().out
    assert told.startswith("Ready to measure: NO, because")
    assert "Muster" not in told and "note.txt" not in told


def test_apart_and_moved_series_are_not_ready(study):
    shutil.rmtree(study / "9")
    write(placed(400.0, 10, n_echoes=4), study / "9", ECHOES, SeriesNumber=9)
    text, series, verdict = look(study)
    assert not verdict.ready and "overlap" in text
    with pytest.raises(StudyError):
        choose_series(series, Settings())
    shutil.rmtree(study / "9")
    write(placed(40.0, 10, n_echoes=4), study / "9", ECHOES, SeriesNumber=9, FrameOfReferenceUID="1.2.3")
    text, _, verdict = look(study)
    told = " ".join(text.split())
    assert not verdict.ready and "series 3 and 9 have different frames of reference" in told
    assert "Series 3 and 4: another frame of reference than the T2 stack" in told


def test_notes_count_what_is_there(study):
    shutil.rmtree(study / "9")
    # the upper 3 of 10 slices lie above the Dixon images; and the stack shows half their width
    low = 160 - 7 * 8
    affine = np.diag([-1.5, -2.5, 8.0, 1.0])
    affine[:3, 3] = 10.0, 10.0, low + 4
    narrow = small_volume(affine, shape=(7, 12, 10), n_echoes=4)
    shutil.rmtree(study / "3")
    affine = np.diag([-6.0, -2.5, 8.0, 1.0])
    affine[:3, 3] = 40.0, 10.0, 4.0
    more = {"SeriesNumber": 3, "RepetitionTime": 5330.0, "EchoTime": 51.0, "SliceThickness": 8.0}
    write(small_volume(affine, shape=(14, 12, 20)), study / "3", IN_PHASE, **more)
    write(narrow, study / "9", ECHOES, SeriesNumber=9, SliceThickness=8.0, Laterality="R")
    shutil.copytree(study / "4", study / "copy")
    (study / "report.txt").write_text("text")
    told = " ".join(look(study)[0].split())
    assert "3 of the 10 slices of the T2 stack lie outside the image for the mask" in told
    assert "The T2 stack is 10 mm wide from left to right, the image for the mask 84 mm" in told
    assert "20 files are copies of another" in told
    assert "1 file is no DICOM image" in told
    assert "Series 9: the header says that it shows the right side only" in told
    assert "Series 4: slices are 6 mm thick" in told  # and no other


def test_water_and_fat_will_do(study):
    for name in ("3", "4"):
        shutil.rmtree(study / name)
    write_dixon(study, 6, ("DERIVED", "PRIMARY", "DIXON", "WATER"))
    write_dixon(study, 7, ("DERIVED", "PRIMARY", "DIXON", "FAT"))
    text, _, verdict = look(study)
    assert verdict.ready and len(verdict.mask) == 2
    made = "Mask drawn on: an in-phase image made of series 6, T2w Dixon, water + series 7, T2w Dixon, fat"
    assert made in " ".join(text.split())
    assert [number for number, (_, told) in bars(text).items() if "mask" in told] == [6, 7]


def test_the_scanners_own_map_will_do(study, tmp_path, capsys):
    shutil.rmtree(study / "9")
    grid = placed(40.0, 10)
    write(grid.with_array(np.full(grid.shape, 150)), study / "11", ("DERIVED", "PRIMARY", "T2_MAP"), SeriesNumber=11)
    assert main(["check", str(study)]) == 1  # 150 may be ms or tenths of a ms
    told = " ".join(capsys.readouterr().out.split())
    assert "scanner's T2 map" in told and "t2_map_unit_ms" in told
    write_settings(Settings(t2_map_unit_ms=0.1), tmp_path / "settings.toml")
    assert main(["check", str(study), "--settings", str(tmp_path / "settings.toml")]) == 0
    assert "T2 taken from: series 11, scanner's T2 map" in capsys.readouterr().out


def test_several_studies_are_told_apart(study):
    more = {"StudyInstanceUID": "1.2.840.99", "FrameOfReferenceUID": "1.2.840.98"}
    write(placed(0.0, 20), study / "3b", IN_PHASE, SeriesNumber=3, **more)
    text = look(study)[0]
    assert "Study 1 of 2" in text and "Study 2 of 2" in text
    told = " ".join(text.split())
    assert "The folder holds 2 studies" in told and re.search(r"Study [12], series 3: slices are", told)


def test_a_settings_file_counts(study, tmp_path):
    for name in ("3", "4"):
        shutil.rmtree(study / name)
    write_dixon(study, 6, ("ORIGINAL", "PRIMARY", "OTHER"), RepetitionTime=1200.0)
    assert main(["check", str(study)]) == 1
    write_settings(Settings(roles={"in_phase": 6}), tmp_path / "settings.toml")
    assert main(["check", str(study), "--settings", str(tmp_path / "settings.toml")]) == 0


def test_fits_80_columns_of_any_terminal(study):
    write_dixon(study, 123456789)
    (study / "report.txt").write_text("text")
    for path in sorted((study / "4").iterdir())[3:5]:
        path.unlink()
    text = look(study)[0]
    assert max(len(line) for line in text.splitlines()) <= 80
    plain = as_ascii(text)
    assert plain.isascii() and "?" not in plain
    # "14x12" is as long as "14×12"; only "◄" grows
    assert max(len(line) for line in plain.splitlines()) <= 80
    command = [sys.executable, "-m", "mrmyo", "check", str(study)]
    done = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "LANG": "C"})
    assert b"14x12" in done.stdout and b"#####" in done.stdout and not done.stderr


def test_no_identity_leaves(study, tmp_path, capsys):
    planted = ["Muster", "Änne", "S-007", "19610203", "ACC4711", "geheim"]
    for path in study.rglob("*.dcm"):
        edit(path, PatientBirthDate="19610203", AccessionNumber="ACC4711", SeriesDescription="geheim",
             ProtocolName="geheim")
    (study / "Muster, Aenne.txt").write_text("Muster")
    picture = tmp_path / "overview.png"
    assert main(["check", str(study), "--picture", str(picture)]) == 0
    told = capsys.readouterr()
    assert not [word for word in planted if word in told.out + told.err]
    assert str(tmp_path) not in told.out
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 10_000
    assert not [word for word in planted if word.encode() in content or word.encode("latin-1") in content]
    assert main(["check", str(study), "--picture", str(tmp_path / "overview.bmp")]) == 1
    assert not list(tmp_path.glob("*.bmp"))


def test_the_picture_shows_each_series_at_its_place(study):
    for path in sorted((study / "4").iterdir()):
        edit(path, BurnedInAnnotation="YES")
    text, series, verdict = look(study)
    assert "Series 4: text may be burned into the pixels" in " ".join(text.split())
    figure = draw_overview(series, verdict)
    words = " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(matplotlib.text.Text))
    assert "What the study holds: ready to measure. Research use only." in words
    titles = ("Series 3 (mask) T2w Dixon, in-phase", "Series 9 (T2) multi-echo spin echo (4 echoes)", "Series 4 T2w")
    for title in titles:
        assert title in words
    assert words.count("not shown: text may be burned") == 1
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    middle = series.volume(3).array[:, :, 10]  # columns lead to the left, rows to the back: the last row is the lowest
    assert len(shown) == 2 and np.array_equal(shown[0], middle.T[::-1])
    heights = [(bar.get_y(), bar.get_height()) for ax in figure.axes for box in ax.containers for bar in box]
    assert np.allclose(heights, [(0, 160), (40, 80), (0, 160)])


PLANES = {  # where the column, row and slice axes lead, in RAS+
    "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1]]).T,
    "axial, turned": np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]).T,
    "coronal": np.array([[-1, 0, 0], [0, 0, -1], [0, 1, 0]]).T,
    "sagittal": np.array([[0, -1, 0], [0, 0, -1], [-1, 0, 0]]).T,
}
SHOWN = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
LEADS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@pytest.mark.parametrize("plane", PLANES)
def test_the_middle_slice_is_turned_as_a_radiologist_looks_at_it(plane):
    affine = np.eye(4)
    affine[:3, :3] = PLANES[plane] @ np.diag([1.5, 2.0, 6.0])
    places = np.einsum("ab,bijk->aijk", affine[:3, :3], np.indices((9, 7, 5)))
    letters = SHOWN[plane.split(",")[0]]
    for axis, letter in zip((1, 1, 0, 0), letters, strict=True):
        # brightness grows towards the side that the letter names
        along, sign = LEADS[letter]
        picture, (width, height), told = middle_slice(Volume(sign * places[along], affine))
        assert told == letters
        growth = np.diff(picture, axis=axis)
        assert np.all(growth * (1 if letter in (letters[1], letters[2]) else -1) > 0)
        assert (width, height) == pytest.approx((13.5, 14.0) if "turned" not in plane else (14.0, 13.5))


@pytest.mark.realdata
def test_the_knee_folder(real_data, capsys):
    assert main(["check", str(real_data / "knee_multiecho_dicom_ge")]) == 1
    text = capsys.readouterr().out
    told = " ".join(text.split())
    # from the headers, read with dcmdump
    assert re.search(r"8  multi-echo spin echo\s+sagittal\s+256×256\s+0\.62×0\.62×4\s+6\.31–50\.5\s+2450", text)
    assert "(8 echoes)" in told and re.search(r"6 slices, \d+ mm", told)
    assert "there is no series to draw the mask on" in told


@pytest.mark.realdata
def test_a_folder_of_everything(real_data, capsys):
    assert main(["check", str(real_data / "dicom_variety")]) == 1
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    told = " ".join(text.split())
    assert "Study 16 of 16" in told and "holds 16 studies" in told
    assert told.count("CANNOT BE READ") == told.count("cannot be read:") + 0 >= 7
