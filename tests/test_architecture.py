"""The map of the house: which room may import which, and the house rules that a program can check."""

from __future__ import annotations

import ast
import json
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mrmyo

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mrmyo"
FILES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# A room is a module or a folder; dicom_files, dicom_geometry, … are parts of the room dicom. Data only moves downwards.
MAY_IMPORT = {
    "files": "",
    "volume": "",
    "labels": "volume",  # the rule of the half voxel lives there
    "settings": "files",
    "progress": "",
    "provenance": "settings",
    "dicom": "files volume labels",
    "nifti": "volume labels",
    "epg": "",
    "t2": "volume epg",
    "dixon": "volume",
    "anatomy": "volume labels",
    "scanner": "anatomy epg dixon volume labels",
    "simulation": "scanner anatomy dicom nifti t2 volume labels",
    "segmentation": "volume labels progress nifti",  # other labs' programs read and write files
    "registration": "volume labels",
    "measure": "volume labels t2",
    "training": "segmentation anatomy dixon measure progress labels",
    "stats": "",
    "paper": "stats",
    "followup": "stats",
    "cohort": "paper stats progress",
    "figures": "files volume labels stats",
    "viewer": "volume labels figures",
    "lessons": "volume labels epg t2 figures editor journal",
    "evaluation": "files volume labels nifti measure stats figures provenance progress",
    "journal": "files volume",
    "editor": "journal volume labels t2 registration measure figures",
    "study": "journal files volume labels settings progress provenance dicom nifti epg t2 dixon segmentation "
    "registration measure stats figures bids",
    "bids": "files volume labels nifti provenance",
    "overview": "files volume dicom study labels settings",
    "validation": "volume labels nifti t2 measure evaluation",
    "analysis": "files volume labels stats figures provenance settings",
}
MAY_IMPORT["report"] = f"study paper cohort validation {MAY_IMPORT['study']}"
MAY_IMPORT["reproduction"] = f"report simulation {MAY_IMPORT['report']}"
MAY_IMPORT["__main__"] = f"reproduction training overview evaluation analysis {MAY_IMPORT['reproduction']}"
KNOW_THE_TRUTH = {"anatomy", "scanner", "simulation", "validation", "cohort", "paper"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """mrmyo.stats.groups → stats, mrmyo.dicom_files → dicom."""
    name = (module.split(".") + [""])[1]
    return name if name in MAY_IMPORT or name.split("_")[0] not in MAY_IMPORT else name.split("_")[0]


def imported(source: str) -> set[str]:
    """The rooms that a source text imports, at its top or inside its functions."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} imports relatively; write the whole name"
            # a name of the public face counts as the room that it lives in
            homes = {alias.name: mrmyo._HOME.get(alias.name, alias.name) for alias in node.names}
            modules |= {f"mrmyo.{home}" for home in homes.values()} if node.module == "mrmyo" else {node.module}
    return {room_of(module) for module in modules if module.split(".")[0] == "mrmyo"} - {"__version__"}


def public_definitions(node) -> list:
    """The functions and classes in the body of a module or class whose names have no underscore in front."""
    return [n for n in node.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]


def test_the_reader_of_imports_sees_every_kind():
    source = """
import mrmyo.t2 as t
from mrmyo import scanner, segment, __version__
from mrmyo.dicom_files import x
def f():
    from mrmyo.stats.groups import y
    import numpy, mrmyo_other
"""
    assert imported(source) == {"t2", "scanner", "segmentation", "dicom", "stats"}
    assert imported("import mrmyo") == {""}  # the whole house at once, which no row of the table allows
    with pytest.raises(AssertionError, match="relatively"):
        imported("from . import volume")


@pytest.mark.parametrize("path", [path for path in FILES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_each_room_imports_only_what_the_table_allows(path):
    room = room_of(name_of(path))
    assert room in MAY_IMPORT, f"the room {room} has no row in the table"
    extra = imported(path.read_text()) - {room} - set(MAY_IMPORT[room].split())
    assert not extra, f"{path.name} imports {sorted(extra)}; {room} may import: {MAY_IMPORT[room] or 'nothing'}"


def test_the_table_has_no_circles():
    order = list(TopologicalSorter({room: allowed.split() for room, allowed in MAY_IMPORT.items()}).static_order())
    assert order.index("volume") < order.index("study") < order.index("__main__")  # a circle raises before this


def test_what_measures_cannot_reach_what_knows_the_truth():
    reached, ahead = set(), ["study"]
    while ahead:
        room = ahead.pop()
        reached.add(room)
        ahead += MAY_IMPORT[room].split()
    assert "measure" in reached and not reached & KNOW_THE_TRUTH


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_are_short_and_say_what_they_are_for(path):
    tree = ast.parse(path.read_text())
    n_lines = len(path.read_text().splitlines())
    assert n_lines <= 350
    assert ast.get_docstring(tree), "a module without a docstring"
    public = public_definitions(tree)
    public += [method for parent in public if isinstance(parent, ast.ClassDef) for method in public_definitions(parent)]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert not silent, f"without a docstring: {silent}"


def test_no_module_bears_the_name_of_a_public_function():
    functions = {node.name for path in FILES for node in public_definitions(ast.parse(path.read_text()))}
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in FILES}
    assert not functions & modules, "the module would hide the function"


def committed(path: Path) -> dict:
    """A notebook as git has it; as it lies in the folder where git does not know it."""
    command = ["git", "-C", str(ROOT), "show", f":{path.relative_to(ROOT).as_posix()}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    except FileNotFoundError:
        return json.loads(path.read_text(encoding="utf-8"))
    return json.loads(path.read_text(encoding="utf-8") if found.returncode else found.stdout)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_call_the_library_and_hold_no_outputs(path):
    cells = [cell for cell in committed(path)["cells"] if cell["cell_type"] == "code"]
    assert cells, "a notebook without code"
    for cell in cells:
        source = "".join(cell["source"])
        # magics are no Python; they hold no functions either
        tree = ast.parse("\n".join("pass" if line.startswith(("%", "!")) else line for line in source.splitlines()))
        made = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        assert not made, f"logic belongs into the library, with a test:\n{source}"
        assert len(source.splitlines()) <= 10, f"more than ten lines:\n{source}"
        assert not cell["outputs"] and cell["execution_count"] is None, "outputs in git; run nbstripout --keep-id"
