"""Settings, progress and provenance: what goes into a run comes out again, and says where it is from."""

from __future__ import annotations

import getpass
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import mrmyo
from mrmyo import provenance
from mrmyo.progress import track
from mrmyo.provenance import digest, file_digest, record
from mrmyo.settings import Settings, SettingsError, read_settings, workspace, write_settings


@pytest.mark.parametrize("settings", [
    Settings(),
    Settings(segment_on=("water",), t2_model="epg", segmentation_model="models/a.safetensors", session="baseline"),
    Settings(structural_plane="coronal", t2_source="scanner_map", t2_map_unit_ms=0.1, segment_on=("t1w",)),
    Settings(roles={"multi_echo": 7, "in_phase": 't2_tse "Dixon"_in', "b1_map": -1}, t2_map_unit_ms=1),
    Settings(alignment="slicewise", erode_mm=1.5, max_fat_fraction=0.3, ignore_frame_of_reference=True),
    Settings(segmentation_model='C:\\models\\"best"', session="erste Sitzung – Ödem\n\t\x7f\x01😀"),
])
def test_settings_survive_a_file(settings, tmp_path):
    write_settings(settings, tmp_path / "run.toml")
    assert read_settings(tmp_path / "run.toml") == settings
    found = tomllib.loads((tmp_path / "run.toml").read_bytes().decode())
    assert tuple(found["segment_on"]) == settings.segment_on
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"]


def test_a_list_is_written_as_a_list(tmp_path):
    write_settings(Settings(segment_on=["water", "t1w"]), tmp_path / "run.toml")
    assert read_settings(tmp_path / "run.toml").segment_on == ("water", "t1w")


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    (tmp_path / "a.toml").write_text('session = "02"  # follow-up\n')
    assert read_settings(tmp_path / "a.toml") == Settings(session="02")
    (tmp_path / "b.toml").write_text("")
    assert read_settings(tmp_path / "b.toml") == Settings()


@pytest.mark.parametrize(("text", "message"), [
    ('sesion = "02"', r"\['sesion'\]; expected only .*'session'.*Did you mean 'session'\?"),
    ('[role]\nin_phase = 3', r"\['role'\].*Did you mean 'roles'"),
    ('[roles]\ninphase = 3', r"role 'inphase'; expected one of multi_echo.*Did you mean 'in_phase'\?"),
    ('segment_on = ["t1"]', r"role 't1'.*Did you mean 't1w'"),
    ('[roles]\nin_phase = 3.5', "a float for the role in_phase; expected a series number"),
    ('[roles]\nin_phase = true', "a bool for the role"), ('[roles]\nin_phase = [3, 4]', "a list for the role"),
    ('roles = "Doe_in"', r"Found roles; expected a series number"),
    ('t2_source = "scanner map"', r"'scanner map'; expected one of .*Did you mean 'scanner_map'"),
    ('structural_plane = "Axial"', "expected one of 'any', 'axial'"),
    ("t2_map_unit_ms = 0", "expected how many ms one unit"), ("t2_map_unit_ms = inf", "expected how many ms"),
    ('t2_map_unit_ms = "0.1"', "expected a number"), ("t2_map_unit_ms = true", "expected a number"),
    ("session = 2", "session = 2; expected a text"),
    ("[roles]\nin_phase = 2\nwater = 2", "series 2 for the roles in_phase and water; expected another series"),
    ('segment_on = "water"', "expected a list of texts"),
    ("segment_on = [1, 2]", "expected a list of texts"),
    ("t2_model = true", "expected a text"), ('t2_model = "EPG"', r"'EPG'; expected one of 'mono', 'epg'"),
    ("session = ", "cannot be read as TOML"),
    ("[session]\nname = 1", "expected a text"),
])
def test_a_settings_file_that_makes_no_sense_is_refused(text, message, tmp_path):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_settings(tmp_path / "run.toml")


def test_a_settings_file_that_cannot_be_read_is_named_without_its_folder(tmp_path):
    (tmp_path / "latin.toml").write_bytes('session = "Ödem"'.encode("latin-1"))
    for name in ("absent.toml", "latin.toml"):
        with pytest.raises(SettingsError, match=f"{name} cannot be read") as caught:
            read_settings(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
    assert issubclass(SettingsError, ValueError)


def test_roles_are_kept_so_that_settings_can_be_hashed():
    one, other = (Settings(roles=dict(pairs)) for pairs in ([("t1w", 3), ("water", "W")], [("water", "W"), ("t1w", 3)]))
    assert one == other and hash(one) == hash(other) and one != Settings(roles={"t1w": 3})
    assert dict(one.roles) == {"t1w": 3, "water": "W"}


def test_the_text_of_a_role_is_not_repeated_in_an_error(tmp_path):
    (tmp_path / "run.toml").write_text('roles = "Doe, Jane: thigh"')
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path / "run.toml")
    assert "Doe" not in str(caught.value)


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Settings().session = "02"


def test_the_workspace_is_the_argument_then_the_environment_then_results(tmp_path, monkeypatch):
    monkeypatch.setenv("MRMYO_WORKSPACE", str(tmp_path / "env"))
    assert workspace().root == tmp_path / "env"
    assert workspace(tmp_path / "given").root == tmp_path / "given"
    assert workspace(str(tmp_path)).tables == tmp_path / "tables"
    expected = Path(mrmyo.__file__).resolve().parent.parent / "results"
    for unset in (lambda: monkeypatch.setenv("MRMYO_WORKSPACE", ""), lambda: monkeypatch.delenv("MRMYO_WORKSPACE")):
        unset()
        assert workspace().root == expected
    names = ("studies", "truth", "processed", "tables", "figures", "notebooks")
    folders = {getattr(workspace(tmp_path), name) for name in names}
    assert len(folders) == 6 and {f.parent for f in folders} == {tmp_path}, "the truth lies apart from the studies"


def test_track_passes_everything_on_and_stays_silent_when_asked(capsys):
    assert list(track(range(5), label="work", show=False)) == [0, 1, 2, 3, 4]
    assert list(track(iter("abc"), label="work", total=3, show=False)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
    assert list(track([1, 2], label="counting sheep")) == [1, 2]
    out, err = capsys.readouterr()
    assert out == "" and "counting sheep" in err and "2/2" in err


def test_track_takes_one_item_at_a_time():
    source = itertools.count()
    assert list(itertools.islice(track(source, label="endless", show=False), 3)) == [0, 1, 2]
    assert next(source) <= 4


def test_a_digest_is_the_same_in_every_process():
    parts = 'digest({"b": 1, "a": [1.5, None, "Ä"]}, Path("x/y"), True)'
    code = f"from pathlib import Path; from mrmyo.provenance import digest; print({parts})"
    found = {subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                            capture_output=True, text=True).stdout.strip() for seed in ("1", "2")}
    assert found == {digest({"a": [1.5, None, "Ä"], "b": 1}, Path("x/y"), True)}
    assert re.fullmatch("[0-9a-f]{16}", found.pop())


def test_a_digest_tells_things_apart_and_numpy_numbers_from_nothing():
    parts = [(1,), (2,), ("1",), (1, 2), ([1, 2],), ({"a": 1},), ({"a": 2},), (None,), (float("nan"),),
             (date(2020, 1, 1),)]
    assert len({digest(*p) for p in parts}) == len(parts)
    assert digest(np.int64(1), np.float32(0.5), np.bool_(True)) == digest(1, 0.5, True)


@pytest.mark.parametrize("part", [np.arange(3), {"a", "b"}, object(), {"inside": [{1, 2}]}],
                         ids=["array", "set", "object", "sets"])
def test_a_digest_refuses_what_has_no_faithful_text(part):
    with pytest.raises(ValueError, match="to hash; expected what JSON can hold"):
        digest(part)


def test_a_file_digest_knows_contents_not_names_nor_order(tmp_path):
    def write(folder, **files):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_bytes(content)
        return sorted((tmp_path / folder).iterdir())

    one, two = write("one", a=b"x", b=b"y"), write("two", d=b"x", c=b"y")
    assert file_digest(one) == file_digest(two) == file_digest(reversed(one)) == file_digest(map(str, one))
    others = [write("three", a=b"x", b=b"z"), write("four", a=b"x"), write("five", a=b"x", b=b"y", c=b"y"),
              write("six", a=b"xy", b=b"")]
    assert len({file_digest(files) for files in [one, *others]}) == 5


def test_a_record_holds_versions_and_facts_but_neither_person_nor_place():
    facts = record(seed=7, settings=vars(Settings()), model_hash="abc")
    assert facts["mrmyo"] == mrmyo.__version__ and facts["packages"]["numpy"] == np.__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["seed"] == 7 and facts["settings"]["t2_model"] == "mono"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", facts["made"])
    text = json.dumps(facts)
    assert str(Path.home()) not in text and str(Path(mrmyo.__file__).parent.parent) not in text
    words = set(re.findall(r"[\w-]+", text))
    assert not words & {getpass.getuser(), socket.gethostname()}


def test_the_commit_is_that_of_a_checkout_of_mrmyo_or_none(tmp_path, monkeypatch):
    # installed below somebody else's repository, as a virtual environment in a project is
    place = tmp_path / "venv" / "mrmyo"
    place.mkdir(parents=True)
    someone = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*someone, "commit", "-q", "--no-verify", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(place / "provenance.py"))
    assert record()["commit"] is None
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "mrmyo" / "provenance.py"))
    assert re.fullmatch("[0-9a-f]{12}(-dirty)?", record()["commit"])


@pytest.mark.parametrize("unit", ["0.1", True, [1]])
def test_a_unit_that_is_no_number_is_refused(unit):
    with pytest.raises(SettingsError, match="expected a number"):
        Settings(t2_map_unit_ms=unit)


def test_a_settings_file_of_a_windows_editor_is_read(tmp_path):
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbf" + b'session = "02"\r\n')
    assert read_settings(tmp_path / "run.toml") == Settings(session="02")


@pytest.mark.parametrize(("option", "value", "expected"), [
    ("alignment", "sideways", "expected one of 'off', 'measure', 'rigid', 'slicewise'"),
    ("erode_mm", -1.0, "from 0 to 20"), ("erode_mm", "2 mm", "from 0 to 20"),
    ("max_fat_fraction", 0.0, "above 0 and up to 1"),
    ("max_fat_fraction", 30, "above 0 and up to 1"), ("ignore_frame_of_reference", "yes", "true or false"),
])
def test_options_of_alignment_and_region_are_checked(option, value, expected):
    with pytest.raises(SettingsError, match=f"Found {option} = .*{expected}"):
        Settings(**{option: value})


def test_settings_know_the_refinements_of_alignment():
    from mrmyo.registration import REFINEMENTS
    from mrmyo.settings import _CHOICES
    from mrmyo.t2 import MODELS

    assert _CHOICES["alignment"] == REFINEMENTS and _CHOICES["t2_model"] == MODELS
