"""Other labs' models: what they see, what becomes of their answers, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mrmyo import process_study, segment
from mrmyo.anatomy import draw_anatomy
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.epg import mono_signal
from mrmyo.labels import UNNAMED, is_muscle
from mrmyo.measure import dice
from mrmyo.segmentation import SegmentationError, load_model, model_hash, segment_with_probability
from mrmyo.segmentation_runners import rescale
from mrmyo.volume import Volume, same_grid

ROOT = Path(__file__).resolve().parent.parent
# water of a T2-weighted image with the fat suppressed by half: air, then the tissues of `mrmyo.anatomy`
BRIGHT = np.array([0, 0.8, 0.5, 0.3, 1, 0.5, 0.03, 0.5, 0.2, 1.8])
MM = 2.4
COMMON = {"name": "Test", "version": "1", "license": "none; research only"}
SEEN = {"dimension": 2, "orientation": "RAS", "spacing_mm": "native", "sees": "both thighs", "normalise": "none"}


def draw(seed):
    """A synthetic pair of thighs, 4 slices: (image, true labels)."""
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng, sex="FM"[seed % 2], level=0.8, length_mm=40, spacing_mm=(MM, MM, 10.0))
    cut = tuple(slice(0, n // 8 * 8) for n in anatomy.tissue.array.shape[:2])  # nothing to pad
    image = BRIGHT[anatomy.tissue.array] + rng.normal(0, 0.03, anatomy.tissue.array.shape)
    return Volume(np.abs(image[cut]).astype(np.float32), anatomy.labels.affine), anatomy.labels.array[cut]


@pytest.fixture(scope="module")
def thighs():
    return draw(1)


def describe(folder, kind, labels, *, name="model.json", **keys):
    """Write a description and give its path."""
    path = folder / name
    known = {} if kind == "command" else SEEN
    path.write_text(json.dumps({**COMMON, "kind": kind, **known, "labels": labels, **keys}))
    return path


class Threshold(torch.nn.Module):
    """Muscle is what is brighter than 0.65, whatever lies around it: the truth of its answer is known.

    With three classes the upper half of the first axis has another name than the lower one.
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        """(n, 1, …) images in, (n, classes, …) logits out."""
        muscle = 100 * (x - 0.65)
        if self.classes == 2:
            return torch.cat([torch.zeros_like(x), muscle], 1)
        upper = (torch.arange(x.shape[2]) * 2 >= x.shape[2]).to(x.dtype)
        upper = upper.reshape([1, 1, x.shape[2]] + [1] * (x.dim() - 3))
        names = [muscle * (1 - upper) - 1000 * upper, muscle * upper - 1000 * (1 - upper)]
        return torch.cat([torch.zeros_like(x), names[0], names[1]], 1)


def as_torchscript(network, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch wants other formats, labs have these
        torch.jit.save(torch.jit.script(network.eval()), path)
    return path.name


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """A folder with the thresholds of two and of three classes as TorchScript."""
    folder = tmp_path_factory.mktemp("scripted")
    for classes in (2, 3):
        as_torchscript(Threshold(classes), folder / f"threshold{classes}.ts")
    return folder


def threshold(folder, **keys):
    keys = {"labels": {"1": "MUS"}, **keys}
    return describe(folder, "torchscript", keys.pop("labels"), weights=f"threshold{keys.pop('classes', 2)}.ts", **keys)


# -- what a model sees, and what becomes of its answer -----------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PRI", "ALS"])
@pytest.mark.parametrize(("dimension", "sees"), [(2, "both thighs"), (3, "both thighs"), (2, "one left thigh"),
                                                 (3, "one left thigh")])
def test_a_threshold_comes_back_voxel_by_voxel(thighs, scripted, orientation, dimension, sees):
    image, truth = thighs
    path = threshold(scripted, orientation=orientation, dimension=dimension, sees=sees)
    turned = Volume(np.flip(image.array.transpose(1, 0, 2), 2), image.affine[:, [1, 0, 2, 3]] @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, image.shape[2] - 1], [0, 0, 0, 1.0]]))
    for volume in (image, turned):
        found = segment(volume, path, progress=False)
        assert same_grid(found, volume) and found.array.dtype == np.uint8
        assert set(np.unique(found.array)) == {0, *UNNAMED.values()}
        np.testing.assert_array_equal(found.array > 0, volume.array > 0.65)
    back = np.flip(found.array, 2).transpose(1, 0, 2)  # of the turned one
    sided = is_muscle(truth) & (back > 0)
    assert ((back == UNNAMED["right"]) == (truth > 20))[sided & (truth < 40)].mean() > 0.99


def test_another_grid_is_met_and_left_again(thighs, scripted):
    image, _ = thighs
    for keys in ({"spacing_mm": [1.2, 1.2]}, {"spacing_mm": [1.5, 1.5], "sees": "one left thigh"},
                 {"dimension": 3, "spacing_mm": [1.5, 2.0, 5.0], "orientation": "LPS"}):
        found = segment(image, threshold(scripted, **keys), progress=False)
        assert dice(found.array > 0, image.array > 0.65) > 0.93, keys


def test_the_network_sees_the_orientation_that_is_stated(thighs, scripted):
    """The lower half of the first axis gets one name, the upper half another."""
    image, _ = thighs
    half = image.shape[0] // 2, image.shape[1] // 2
    muscle = image.array > 0.65
    for orientation, first in (("RAS", muscle[:half[0]]), ("LAS", muscle[half[0]:]), ("ARS", muscle[:, :half[1]]),
                               ("PRS", muscle[:, half[1]:])):
        path = threshold(scripted, classes=3, orientation=orientation, labels={"1": "VL", "2": "VM"})
        found = segment(image, path, progress=False).array
        part = {"R": found[:half[0]], "L": found[half[0]:], "A": found[:, :half[1]], "P": found[:, half[1]:]}
        np.testing.assert_array_equal(np.isin(part[orientation[0]], (1, 21)), first)
        assert np.isin(found, (1, 21)).sum() == first.sum() and np.isin(found, (2, 22)).any()


def test_a_right_thigh_is_shown_as_a_left_one(thighs, scripted):
    image, _ = thighs
    path = threshold(scripted, classes=3, sees="one left thigh", labels={"1": 1, "2": "VM"})  # lateral, medial half
    found = segment(image, path, progress=False).array
    x = np.indices(found.shape)[0]
    assert x[found == 1].mean() < x[found == 2].mean() < x[found == 22].mean() < x[found == 21].mean()
    assert set(np.unique(found)) == {0, 1, 2, 21, 22}


def test_a_lone_thigh_gets_its_side(thighs, scripted):
    image, _ = thighs
    half = image.shape[0] // 2
    affine = image.affine.copy()
    affine[:3, 3] += half * affine[:3, 0]
    right = Volume(image.array[half:], affine)
    for sees in ("both thighs", "one left thigh"):
        path = threshold(scripted, sees=sees)
        assert set(np.unique(segment(right, path, progress=False).array)) == {0, UNNAMED["right"]}
        named = right.with_array(right.array, meta={"Laterality": "L"})
        assert set(np.unique(segment(named, path, progress=False).array)) == {0, UNNAMED["left"]}


def test_left_and_right_exchanged_are_refused(thighs, scripted):
    image, _ = thighs
    sided = {"1": UNNAMED["left"], "2": UNNAMED["right"]}
    found = segment(image, threshold(scripted, classes=3, labels=sided), progress=False).array
    half = image.shape[0] // 2
    assert set(np.unique(found[:half])) == {0, UNNAMED["left"]}
    assert set(np.unique(found[half:])) == {0, UNNAMED["right"]}
    with pytest.raises(SegmentationError, match=r"other side in (9.|100)%"):
        segment(image, threshold(scripted, classes=3, labels=sided, orientation="LAS"), progress=False)


def test_more_than_labels_is_asked_of_our_own_model_alone(thighs, scripted):
    with pytest.raises(SegmentationError, match="only its labels"):
        segment_with_probability(thighs[0], threshold(scripted), progress=False)
    with pytest.raises(SegmentationError, match="several passes"):
        segment(thighs[0], threshold(scripted), progress=False, passes=3)


@pytest.mark.parametrize("dimension", [2, 3])
def test_windows_that_slide_make_no_difference_to_a_threshold(thighs, scripted, dimension):
    image, _ = thighs
    path = threshold(scripted, dimension=dimension, window=[64, 48, 3][:dimension], overlap=0.25)
    np.testing.assert_array_equal(segment(image, path, progress=False).array > 0, image.array > 0.65)
    path = threshold(scripted, dimension=dimension, window=[512, 512, 16][:dimension])  # larger than the image
    np.testing.assert_array_equal(segment(image, path, progress=False).array > 0, image.array > 0.65)


def test_the_three_kinds_of_output(thighs, tmp_path):
    class Sigmoid(torch.nn.Module):
        def forward(self, x):
            """One channel: how likely muscle is."""
            return 100 * (x - 0.65)

    class Probabilities(torch.nn.Module):
        def forward(self, x):
            """Background and muscle, summing to 1."""
            p = (x > 0.65).to(x.dtype)
            return torch.cat([1 - p, p], 1)

    image, _ = thighs
    for network, output in ((Sigmoid(), "sigmoid"), (Probabilities(), "probabilities")):
        weights = as_torchscript(network, tmp_path / f"{output}.ts")
        path = describe(tmp_path, "torchscript", {"1": "MUS"}, weights=weights, output=output)
        np.testing.assert_array_equal(segment(image, path, progress=False).array > 0, image.array > 0.65)


def test_rescaling_is_that_of_monai():
    from monai.transforms import NormalizeIntensity, ScaleIntensityRangePercentiles

    image = np.random.default_rng(0).gamma(2.0, 50.0, (40, 30, 5)).astype(np.float32)
    np.testing.assert_allclose(rescale(image, "zscore"), NormalizeIntensity()(image), atol=1e-5)
    oracle = ScaleIntensityRangePercentiles(2.0, 98.0, 0.0, 1.0, clip=True)(image)
    np.testing.assert_allclose(rescale(image, "percentile", (2.0, 98.0)), oracle, atol=1e-5)
    np.testing.assert_array_equal(rescale(image, "none"), image)
    assert not rescale(np.full((4, 4), 7.0), "zscore").any()


# -- a network that was trained: the same by all three ways ------------------------------------------------------------

UNET = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [8, 16, 32], "strides": [2, 2],
        "num_res_units": 1, "norm": "batch"}
PROGRAM = """
import sys
import nibabel, numpy as np, torch
from monai.networks.nets import UNet
from safetensors.torch import load_file

source, target, weights = sys.argv[1:]
network = UNet(**{arguments})
network.load_state_dict(load_file(weights))
network.eval()
image = nibabel.load(source)
stack = np.asarray(image.dataobj, np.float32)
out = np.zeros(stack.shape, np.uint8)
for k in range(stack.shape[2]):
    plane = (stack[..., k] - stack[..., k].mean()) / stack[..., k].std()
    with torch.inference_mode():
        out[..., k] = network(torch.from_numpy(plane)[None, None])[0].argmax(0)
nibabel.save(nibabel.Nifti1Image(out, image.affine), target)
"""


@pytest.fixture(scope="module")
def example():
    """The script that trains the example."""
    spec = importlib.util.spec_from_file_location("train_monai_example", ROOT / "scripts" / "train_monai_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_kinds(network, folder):
    """Descriptions of one network as TorchScript, as safetensors and as a command of its own."""
    from safetensors.torch import save_file

    as_torchscript(network, folder / "unet.ts")
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "unet.safetensors")
    (folder / "program.py").write_text(PROGRAM.replace("{arguments}", repr(UNET)))
    labels = {"0": "background", "1": "MUS", "2": "femur"}
    keys = {"normalise": "zscore", "multiple": 8}
    command = [sys.executable, "{here}/program.py", "{input}", "{output}", "{here}/unet.safetensors"]
    return {"torchscript": describe(folder, "torchscript", labels, weights="unet.ts", name="t.json", **keys),
            "safetensors": describe(folder, "safetensors", labels, weights="unet.safetensors", name="s.json",
                                    network={"class": "UNet", "arguments": UNET}, **keys),
            "command": describe(folder, "command", labels, command=command, name="c.json")}


def test_a_network_that_learnt_gives_the_same_by_all_three_kinds(thighs, example, tmp_path):
    from monai.networks.nets import UNet

    def classes(labels):
        return torch.from_numpy(np.moveaxis(np.where(is_muscle(labels), 1, np.where(labels > 50, 2, 0)), 2, 0)).long()

    batches = []
    for seed in range(20, 26):
        image, labels = draw(seed)
        x = torch.from_numpy(np.moveaxis(image.array, 2, 0)[:, None].copy())
        y = classes(labels)
        batches += [(x, y)]
    torch.manual_seed(0)
    network = UNet(**UNET)
    (untrained, trained) = (tmp_path / "untrained", tmp_path / "trained")
    for folder in (untrained, trained):
        folder.mkdir()
    image, truth = thighs
    before = save_kinds(network, untrained)
    losses = example.learn(network, batches, steps=60)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    found = {kind: segment(image, path, progress=False).array for kind, path in save_kinds(network, trained).items()}
    score = dice(is_muscle(found["torchscript"]), is_muscle(truth))
    assert score > 0.9
    np.testing.assert_array_equal(found["safetensors"], found["torchscript"])
    np.testing.assert_array_equal(found["command"], found["torchscript"])
    try:
        of_untrained = dice(is_muscle(segment(image, before["torchscript"], progress=False).array), is_muscle(truth))
    except SegmentationError:  # it may well find nothing
        of_untrained = 0.0
    assert of_untrained < score - 0.3


def test_the_example_script_writes_what_can_be_read(thighs, example, tmp_path):
    from monai.networks.nets import UNet

    torch.manual_seed(1)
    example.save(UNet(**example.ARGUMENTS), tmp_path, trained="untrained")
    models = [load_model(tmp_path / f"example_{kind}.toml") for kind in ("torchscript", "safetensors")]
    assert models[0].card["sees"] == "one left thigh" and models[0].card["spacing_mm"] == (2.5, 2.5)
    one, other = (segment(thighs[0], model, progress=False).array for model in models)
    np.testing.assert_array_equal(one, other)


def test_the_hash_covers_description_and_weights(scripted, thighs, tmp_path):
    path = threshold(scripted)
    first = model_hash(path)
    assert load_model(path).hash == first and load_model(path) is load_model(path)
    assert model_hash(threshold(scripted, version="2")) != first
    assert model_hash(threshold(scripted)) == first
    as_torchscript(Threshold(3), tmp_path / "weights.ts")
    labels = {"1": "MUS", "2": "FEM"}
    path = describe(tmp_path, "torchscript", labels, weights="weights.ts")
    with_three = model_hash(path)
    as_torchscript(torch.nn.Conv2d(1, 3, 1), tmp_path / "weights.ts")
    assert model_hash(path) != with_three
    assert load_model(path).hash == model_hash(path)  # and is not the one that was kept
    (tmp_path / "program.py").write_text("pass")
    command = describe(tmp_path, "command", labels, command=["{here}/program.py", "{input}", "{output}"])
    before = model_hash(command)
    (tmp_path / "program.py").write_text("other")
    assert model_hash(command) != before


def test_a_study_is_measured_with_another_model(thighs, scripted, tmp_path):
    image, _ = thighs
    facts = {"PatientName": "SYNTHETIC", "PatientID": "S", "StudyDate": "20200101", "PatientPosition": "FFS"}
    times = (10.0, 20.0, 30.0, 40.0)
    write_dicom_series(image.with_array(1000 * image.array, echo_times_ms=(51.0,)), tmp_path / "study" / "in_phase",
                       study=facts, series={"SeriesNumber": 2, "ScanningSequence": "SE", "RepetitionTime": 5330.0},
                       image_type=DIXON_IMAGE_TYPES["in_phase"])
    echoes = 1000 * image.array[..., None] * mono_signal(times, np.full(image.shape, 40.0))
    write_dicom_series(image.with_array(echoes, echo_times_ms=times), tmp_path / "study" / "multi_echo",
                       study=facts, series={"SeriesNumber": 5, "ScanningSequence": "SE", "RepetitionTime": 3000.0},
                       image_type=("ORIGINAL", "PRIMARY", "M", "SE"))
    path = threshold(scripted, normalise="percentile", percentiles=[1, 99], name="lab.json", version="3.2")
    out = tmp_path / "out"
    rows = process_study(tmp_path / "study", out, model=path, progress=False)
    assert (rows["mask"] == f"automatic {model_hash(path)[:8]}").all()
    assert set(rows.abbreviation) == {"MUS", "ALL"} and (rows.n_voxels > 100).all()
    np.testing.assert_allclose(rows.t2_ms, 40, atol=0.2)
    told = json.loads((out / "study.json").read_text())["inputs"]["model"]
    assert told == {"hash": model_hash(path), "name": "Test", "version": "3.2", "license": COMMON["license"],
                    "kind": "torchscript"}
    before = (out / "labels_structural.nii.gz").stat().st_mtime_ns
    process_study(tmp_path / "study", out, model=path, progress=False)
    assert (out / "labels_structural.nii.gz").stat().st_mtime_ns == before  # nothing was done again
    path = threshold(scripted, normalise="percentile", percentiles=[1, 99], name="lab.json", version="3.3")
    process_study(tmp_path / "study", out, model=path, progress=False)
    assert (out / "labels_structural.nii.gz").stat().st_mtime_ns != before
