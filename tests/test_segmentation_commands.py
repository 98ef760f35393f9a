"""Other labs' programs, and descriptions that are refused: every message says what was found."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from test_segmentation_adapters import COMMON, Threshold, as_torchscript, describe, draw

from mrmyo import read_nifti, segment, write_nifti
from mrmyo.__main__ import main
from mrmyo.labels import UNNAMED, is_muscle
from mrmyo.measure import dice
from mrmyo.segmentation import SegmentationError, load_model, model_hash
from mrmyo.segmentation_description import read_description

ROOT = Path(__file__).resolve().parent.parent
DOCS = (ROOT / "docs" / "other_models.md").read_text(encoding="utf-8")
# whole muscle by the rules of thresholds, as a program of another project might: SimpleITK's Otsu, bones left out
OTSU = """#!{python}
import sys
from pathlib import Path
import SimpleITK as sitk

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
for source in Path(options["-i"]).glob("*_0000.nii.gz"):
    image = sitk.ReadImage(str(source))
    classes = sitk.OtsuMultipleThresholds(sitk.Median(image), 2)
    muscle = sitk.BinaryMorphologicalOpening(classes == 2, (1, 1, 0))
    Path(options["-o"]).mkdir()
    sitk.WriteImage(sitk.Cast(muscle, sitk.sitkUInt8), str(Path(options["-o"], source.name.replace("_0000", ""))))
print("by Otsu, options", sorted(options), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def thighs():
    return draw(1)


def program(folder, text, *, labels=None, name="program.py", **keys):
    """A description of a program with these lines; `image`, `source` and `target` are there."""
    head = "import sys, nibabel, numpy as np\nsource, target = sys.argv[1:]\nimage = nibabel.load(source)\n" \
           "array = np.asarray(image.dataobj)\nmask = (array > 0.65).astype(np.uint8)\n" \
           "def save(a, affine=image.affine): nibabel.save(nibabel.Nifti1Image(a, affine), target)\n"
    (folder / name).write_text(head + text + "\n")
    keys = {"command": [sys.executable, f"{{here}}/{name}", "{input}", "{output}"], **keys}
    return describe(folder, "command", labels or {"1": "MUS"}, **keys)


@pytest.mark.parametrize(("keys", "exact"), [
    ({}, True),
    ({"orientation": "LPS"}, True),
    ({"sees": "one left thigh"}, True),
    ({"spacing_mm": [1.5, 1.5, 5.0], "orientation": "ASR"}, False),
])
def test_a_command_answers_on_the_grid_of_the_image(thighs, tmp_path, keys, exact):
    image, _ = thighs
    found = segment(image, program(tmp_path, "save(mask)", **keys), progress=False).array
    assert set(np.unique(found)) == {0, *UNNAMED.values()}
    if exact:
        np.testing.assert_array_equal(found > 0, image.array > 0.65)
    assert dice(found > 0, image.array > 0.65) > 0.93


def test_a_command_may_turn_the_image_and_write_floats(thighs, tmp_path):
    image, _ = thighs
    text = "turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(mask.astype(np.float32), image.affine))\n" \
           "nibabel.save(turned, target)"
    found = segment(image, program(tmp_path, text, orientation="PLI"), progress=False).array
    np.testing.assert_array_equal(found > 0, image.array > 0.65)


def test_no_identifier_reaches_a_command(thighs, tmp_path):
    image, _ = thighs
    named = tmp_path / "Doe_Jane_19700101"
    named.mkdir()
    write_nifti(image.with_array(image.array, meta={"PatientName": "Doe^Jane"}), named / "Doe_Jane.nii.gz")
    text = "import os\nopen(sys.argv[0] + '.told', 'w').write(repr((sys.argv[1:], os.getcwd(), os.listdir('.'), " \
           "str(image.header))))\nsave(mask)"
    model = program(tmp_path, text)
    assert main(["segment", str(named / "Doe_Jane.nii.gz"), str(tmp_path / "out.nii.gz"), "--model", str(model)]) == 0
    told = (tmp_path / "program.py.told").read_text()
    assert "image.nii.gz" in told and "Doe" not in told and "1970" not in told
    assert not Path(re.search(r"'([^']*)image.nii.gz'", told)[1]).exists()  # the folder is gone
    np.testing.assert_array_equal(read_nifti(tmp_path / "out.nii.gz").array > 0, image.array > 0.65)


@pytest.mark.parametrize(("text", "says"), [
    ("print('no GPU here', file=sys.stderr); sys.exit(3)", "status 3. It said: no GPU here"),
    ("raise RuntimeError('weights missing')", "weights missing"),
    ("pass", "wrote no file"),
    ("open(target, 'w').write('no image')", "no NIfTI that can be read"),
    ("save(mask[:-1])", "expected the grid of its input"),
    ("moved = image.affine.copy(); moved[0, 3] += 5; save(mask, moved)", "expected the grid of its input"),
    ("save(mask[..., None].repeat(2, 3))", "expected the grid of its input"),
    ("save(7 * mask)", r"wrote the values \[7\].*maps: \[0, 1\]"),
    ("save(-1 * mask.astype(np.int16))", r"wrote the values \[-1\]"),
    ("save(0.3 * mask.astype(np.float32))", "no whole numbers"),
    ("save(np.where(mask, np.nan, 0).astype(np.float32))", "no whole numbers"),
    ("save(0 * mask)", "found no muscle"),
])
def test_a_command_that_goes_wrong_says_so(thighs, tmp_path, text, says):
    with pytest.raises(SegmentationError, match=f"(?s){says}"):
        segment(thighs[0], program(tmp_path, text), progress=False)


def test_a_command_that_swaps_left_and_right_is_refused(thighs, tmp_path):
    labels = {"1": UNNAMED["left"], "2": UNNAMED["right"]}
    halves = "x = np.indices(mask.shape)[0] * 2 >= mask.shape[0]\n"  # RAS: the upper half is the right one
    right, swapped = (halves + f"save((mask * ({names})).astype(np.uint8))" for names in ("1 + x", "2 - x"))
    found = segment(thighs[0], program(tmp_path, right, labels=labels), progress=False).array
    assert {0, *UNNAMED.values()} == set(np.unique(found))
    with pytest.raises(SegmentationError, match="other side"):
        segment(thighs[0], program(tmp_path, swapped, labels=labels), progress=False)


@pytest.mark.skipif(os.name != "posix", reason="asks for processes by their number")
def test_a_command_that_hangs_is_stopped_with_what_it_started(thighs, tmp_path):
    (tmp_path / "hangs.py").write_text(
        "import subprocess, sys\nchild = subprocess.Popen(['sleep', '600'])\n"
        "open(sys.argv[0] + '.pid', 'w').write(str(child.pid))\nprint('still thinking', flush=True)\nchild.wait()")
    model = describe(tmp_path, "command", {"1": "MUS"}, timeout_s=6,
                     command=[sys.executable, "-S", "{here}/hangs.py", "{input}", "{output}"])
    with pytest.raises(SegmentationError, match=r"stopped after 6 s .*still thinking"):
        segment(thighs[0], model, progress=False)
    pid = int((tmp_path / "hangs.py.pid").read_text())
    for _ in range(100):  # until its new parent has buried it
        try:
            if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.1)
    pytest.fail("the child still runs")


def test_a_command_that_is_not_there(thighs, tmp_path):
    model = describe(tmp_path, "command", {"1": "MUS"}, command="nowhere_to_be_found {input} {output}")
    with pytest.raises(SegmentationError, match="'nowhere_to_be_found' of Test cannot be started"):
        segment(thighs[0], model, progress=False)


@pytest.mark.skipif(os.name != "posix", reason="starts a script by its first line")
def test_the_wrapper_of_the_page_runs_a_program_that_is_called_like_nnunet(thighs, tmp_path, monkeypatch, capsys):
    image, truth = thighs
    wrapper = next(block for block in re.findall(r"```python\n(.*?)```", DOCS, re.S) if "nnUNetv2_predict" in block)
    described = next(block for block in re.findall(r"```toml\n(.*?)```", DOCS, re.S) if "nnunet.py" in block)
    (tmp_path / "nnunet.py").write_text(wrapper)
    (tmp_path / "model.toml").write_text(described.replace('"python"', json.dumps(sys.executable)))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nnUNetv2_predict").write_text(OTSU.replace("{python}", sys.executable))
    (tmp_path / "bin" / "nnUNetv2_predict").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    write_nifti(image, tmp_path / "image.nii.gz")
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", str(tmp_path / "image.nii.gz"), str(out), "--model", str(tmp_path / "model.toml")]) == 0
    found = read_nifti(out).array
    assert set(np.unique(found)) == {0, *UNNAMED.values()}
    assert dice(is_muscle(found), is_muscle(truth)) > 0.8
    table = capsys.readouterr().out
    assert "MUS" in table and "left" in table and "right" in table


# -- descriptions and weights that are refused -------------------------------------------------------------------------


def test_every_description_of_the_page_can_be_read(tmp_path):
    blocks = [block for block in re.findall(r"```toml\n(.*?)```", DOCS, re.S)]
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        if weights := tomllib.loads(block).get("weights"):
            (tmp_path / weights).write_bytes(b"")
        (tmp_path / f"{number}.toml").write_text(block)
        read_description(tmp_path / f"{number}.toml")


GOOD = {**COMMON, "kind": "torchscript", "weights": "threshold.ts", "dimension": 2, "orientation": "RAS",
        "spacing_mm": "native", "sees": "both thighs", "normalise": "none", "labels": {"1": "MUS"}}


@pytest.mark.parametrize(("change", "says"), [
    ({"name": None}, "says name = None"),
    ({"license": " "}, "says license"),
    ({"kind": "torchscripts"}, "Did you mean 'torchscript'"),
    ({"kind": "pickle"}, "one of torchscript, safetensors, command"),
    ({"normalize": "zscore"}, "unknown key 'normalize'.*Did you mean 'normalise'"),
    ({"normalise": "z-score"}, "Did you mean 'zscore'"),
    ({"normalise": ...}, "lacks normalise"),
    ({"timeout_s": 5}, "timeout_s, which would be ignored"),
    ({"dimension": 4}, "dimension = 4"),
    ({"orientation": "RAX"}, "three letters"),
    ({"orientation": "RLS"}, "three letters"),
    ({"orientation": "SAR"}, "S or I last"),
    ({"orientation": 5}, "three letters"),
    ({"spacing_mm": [1, 1, 1]}, "2 numbers in mm"),
    ({"spacing_mm": [0, 1]}, "2 numbers in mm"),
    ({"window": [64]}, "2 whole numbers"),
    ({"overlap": 1.5}, "from 0 to 0.95"),
    ({"percentiles": [99, 1]}, "lower one first"),
    ({"output": "argmax"}, "output = 'argmax'"),
    ({"weights": "elsewhere.ts"}, "no such file"),
    ({"labels": {}}, "says labels"),
    ({"labels": {"one": "VL"}}, "whole numbers"),
    ({"labels": {"1": "vastus lateralus"}}, "Did you mean 'vastus lateralis'"),
    ({"labels": {"1": 99}}, "maps 1 to 99"),
    ({"labels": {"1": [1]}}, r"maps 1 to \[1\]"),
    ({"labels": {"2": "VL"}}, "every channel|all from 0 to 2"),
    ({"labels": {"0": "VL", "1": "background"}}, "0 to be background"),
    ({"labels": {"²": "VL"}}, "whole numbers"),
    ({"labels": {"1": "FEM"}}, "no muscle"),
    ({"labels": {"1": 21}, "sees": "one left thigh"}, "of a right thigh"),
    ({"kind": "command", "command": ["predict", "{input}"], **dict.fromkeys(("weights", "dimension"), ...)},
     "without {output}"),
    ({"kind": "safetensors"}, "lacks network"),
    ({"kind": "safetensors", "network": {"class": "UNet"}}, "'class'.*'arguments'"),
    ({"kind": "safetensors", "network": {"class": "os.system", "arguments": {}}}, "monai.networks.nets"),
    ({"kind": "safetensors", "network": {"class": "UNet", "arguments": {"spatial_dims": 2}}}, "does not hold a UNet"),
])
def test_a_description_that_makes_no_sense_is_refused(tmp_path, change, says):
    as_torchscript(Threshold(), tmp_path / "threshold.ts")
    path = tmp_path / "model.json"
    path.write_text(json.dumps({key: value for key, value in {**GOOD, **change}.items() if value is not ...}))
    with pytest.raises(SegmentationError, match=says):
        load_model(path)


def test_files_that_are_no_description(tmp_path):
    for name, text, says in (("broken.toml", "name = ", "cannot be read"), ("list.json", "[1]", "is a list"),
                             ("card.json", '{"architecture": {}}', "card of a model of mrmyo")):
        (tmp_path / name).write_text(text)
        with pytest.raises(SegmentationError, match=says):
            model_hash(tmp_path / name)
    with pytest.raises(SegmentationError, match="cannot be read: No such file"):
        segment(draw(1)[0], tmp_path / "missing.toml")


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("old", [True, False])
def test_a_pickle_is_not_opened(tmp_path, old):
    torch.save({"weights": Trap(tmp_path / "trapped")}, tmp_path / "threshold.ts",
               _use_new_zipfile_serialization=not old)
    (tmp_path / "model.json").write_text(json.dumps(GOOD))
    with pytest.raises(SegmentationError, match=r"no TorchScript archive.*pickle"):
        load_model(tmp_path / "model.json")
    assert not (tmp_path / "trapped").exists()
    torch.load(tmp_path / "threshold.ts", weights_only=False)  # what opening it would have done
    assert (tmp_path / "trapped").exists()


class Writes(torch.nn.Module):
    """Saves what it is given, where it likes."""

    def forward(self, x):
        """(n, 1, …) in, (n, 2, …) out."""
        torch.save(x, "stolen.bin")
        return torch.cat([x, x], 1)


def test_torchscript_that_writes_files_is_not_loaded(tmp_path):
    as_torchscript(Writes(), tmp_path / "threshold.ts")
    (tmp_path / "model.json").write_text(json.dumps(GOOD))
    with pytest.raises(SegmentationError, match=r"torch.save\(.*not loaded"):
        load_model(tmp_path / "model.json")


@pytest.mark.parametrize(("network", "says"), [
    (torch.nn.Conv2d(1, 5, 1), r"answered with \(4, 5, .*expected \(4, 2, "),
    (torch.nn.Conv2d(1, 2, 3), "expected"),
    (torch.nn.Conv2d(3, 2, 1), "failed on images of"),
    (torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.LogSigmoid(), torch.nn.LogSigmoid(), torch.nn.Threshold(
        9.0, float("nan"))), "NaN"),
])
def test_a_network_that_answers_otherwise(thighs, tmp_path, network, says):
    as_torchscript(network, tmp_path / "threshold.ts")
    (tmp_path / "model.json").write_text(json.dumps(GOOD))
    with pytest.raises(SegmentationError, match=says):
        segment(thighs[0], tmp_path / "model.json", progress=False)


def test_windows_without_monai_are_a_clear_error(thighs, tmp_path, monkeypatch):
    as_torchscript(Threshold(), tmp_path / "threshold.ts")
    (tmp_path / "model.json").write_text(json.dumps({**GOOD, "window": [64, 64]}))
    monkeypatch.setitem(sys.modules, "monai.inferers", None)
    with pytest.raises(SegmentationError, match=r"needs MONAI.*pip install 'mrmyo\[monai\]'"):
        segment(thighs[0], tmp_path / "model.json", progress=False)
