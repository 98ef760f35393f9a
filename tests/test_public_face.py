"""The names that other people's scripts depend on: there, lazy, and called as documented."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import mrmyo

# As the documentation promises them; other options may follow. An argument without a default here may have one.
SIGNATURES = {
    "read_dicom": "(folder)",
    "read_nifti": "(path, echo_times_ms=None)",
    "write_nifti": "(volume, path)",
    "segment": "(volume, model=None, progress=True)",
    "label_table": "()",
    "align": "(labels, *, moving, fixed, refine)",
    "fit_t2": "(signal, echo_times_ms, *, model='mono', sigma=None, fat_fraction=None, b1=None, mask=None)",
    "t2_by_muscle": "(maps, labels)",
    "evaluate": "(labels, reference, *, t2=None, only=None, n_levels=3)",
    "process_study": "(folder, out_dir, labels=None)",
    "process_cohort": "(folders, out_dir, *, n_jobs=-1)",
    "load_cohort": "(*, variant='group means')",
    "simulate_study": "(subject, study_dir, truth_dir=None)",
    "workspace": "(root=None)",
    "stats.roc": "(table, *, score='t2_ms', group='group', positive='IIM', cutoff='youden', threshold='midpoint')",
    "stats.mann_whitney": "(table, *, value='t2_ms', group='group', continuity=False)",
}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_mrmyo_imports_nothing_heavy():
    code = "import mrmyo, sys; dir(mrmyo); print(*sys.modules)"
    loaded = set(python(code).split())
    assert "mrmyo" in loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "scipy", "numpy", "pydicom", "nibabel", "statsmodels"}


def test_reading_the_rooms_does_not_import_torch_or_pyplot():
    code = "import mrmyo, sys; [getattr(mrmyo, name) for name in mrmyo.__all__]; print(*sys.modules)"
    assert not set(python(code).split()) & {"torch", "matplotlib.pyplot", "statsmodels"}


def test_every_public_name_survives_the_import_of_every_module():
    code = """
import importlib, pkgutil, mrmyo
for module in pkgutil.walk_packages(mrmyo.__path__, "mrmyo."):
    importlib.import_module(module.name)
for name in mrmyo.__all__:
    first, again = getattr(mrmyo, name), getattr(mrmyo, name)
    assert first is again, name
    assert callable(again) or name in (*mrmyo._ROOMS, "__version__"), f"{name} is {again!r}"
for room in mrmyo._ROOMS:
    for name in getattr(mrmyo, room).__all__:
        assert not inspect.ismodule(getattr(getattr(mrmyo, room), name)), f"{room}.{name} is a module"
print("survived")
"""
    assert python("import inspect" + code).strip() == "survived"


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    function = mrmyo
    for part in name.split("."):
        function = getattr(function, part)
    found = list(inspect.signature(function).parameters.values())
    promised = inspect.signature(eval(f"lambda {SIGNATURES[name][1:-1]}: None")).parameters.values()
    for mine, theirs in zip(promised, found, strict=False):
        assert mine.name == theirs.name
        assert mine.default in (theirs.default, mine.empty)
        assert mine.kind == theirs.kind or theirs.kind == theirs.POSITIONAL_OR_KEYWORD
    assert len(found) >= len(promised)
    assert all(extra.default is not extra.empty for extra in found[len(promised):]), "a new argument must be optional"


def test_the_public_names_are_listed():
    assert set(mrmyo.__all__) <= set(dir(mrmyo))
    assert {name.split(".")[0] for name in SIGNATURES} <= set(mrmyo.__all__)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"'fit_t1'.*fit_t2"):
        mrmyo.fit_t1  # noqa: B018
