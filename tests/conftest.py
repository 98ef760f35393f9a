"""What the tests share: where the real data lie, which system tools there are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


# begun first, so that no process works on alone at the end
LONG = ("test_reproduction", "test_readme", "test_study_inputs", "test_registration_refined", "test_study")


def pytest_collection_modifyitems(items):
    """The files that take longest go first; within a file nothing moves."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real public images; a test that asks for it skips where it is absent."""
    folder = Path(os.environ.get("MRMYO_REAL_DATA", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MRMYO_REAL_DATA to the folder")
    return folder


@pytest.fixture(scope="session")
def system_tool():
    """A function that gives the path of a system tool, or skips; under CI its absence is a failure."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not installed; `make system` installs it"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(scope="session")
def synthetic_study(tmp_path_factory):
    """One control, simulated once: (study folder, truth folder, the row of the cohort)."""
    from mrmyo import load_cohort, simulate_study

    row = load_cohort().query("subject == 'SYN-HC-03'").iloc[0].to_dict()
    root = tmp_path_factory.mktemp("synthetic")
    simulate_study(row, root / "study", root / "truth")
    return root / "study", root / "truth", row


@pytest.fixture(scope="session")
def processed_study(synthetic_study, tmp_path_factory):
    """That study measured once with its automatic mask, to look at and to copy: (output folder, rows)."""
    from mrmyo import process_study

    out = tmp_path_factory.mktemp("processed") / "P1"
    return out, process_study(synthetic_study[0], out, progress=False)
