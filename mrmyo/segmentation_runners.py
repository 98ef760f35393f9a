"""Runs a lab's own model on images, for :mod:`mrmyo.segmentation_adapters`: TorchScript, MONAI or a command."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import warnings
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from mrmyo.nifti import NiftiError, read_nifti, write_nifti
from mrmyo.segmentation_description import HERE
from mrmyo.segmentation_sides import SegmentationError
from mrmyo.volume import Volume, in_axis_order_of, same_grid

__all__ = ["make_runner", "rescale"]

# operators of TorchScript that reach for files; a network has no use for them
REACH_OUT = ("torch.save(", "torch.load(", "torch.from_file(", "ops.aten.save", "ops.aten.load", "ops.aten.from_file")
SHOWN = 2000  # characters of what a command said


def make_runner(description):
    """A function from images to labels: a list of Volumes (3-D, all of one shape) in, a list of Volumes out.

    Those of a network are shaped (x, y, z, classes) and hold probabilities, those of a command (x, y, z) and hold the
    classes themselves: positions in `description.labels`.

    Raises
    ------
    SegmentationError
        When the weights cannot be loaded. The function raises it when the model fails or its answer is no such thing.
    """
    if description.kind == "command":
        return lambda volumes: [_call(description, volume) for volume in volumes]
    network = _torchscript(description) if description.kind == "torchscript" else _monai(description)
    return lambda volumes: _infer(description, network, volumes)


def rescale(array, how, percentiles=(0.5, 99.5)) -> np.ndarray:
    """An image as a network was trained to expect it: float32.

    Parameters
    ----------
    array : numpy.ndarray
    how : str
        ``zscore``: mean 0 and standard deviation 1. ``percentile``: the two percentiles become 0 and 1, what lies
        beyond is cut off. ``none``: as it is.
    percentiles : tuple of float
    """
    array = np.asarray(array, np.float32)
    if how == "zscore":
        deviation = float(array.std(dtype=float))
        return (array - np.float32(array.mean(dtype=float))) / np.float32(deviation or 1.0)
    if how == "percentile":
        low, high = np.percentile(array, percentiles)
        return np.clip((array - low) / ((high - low) or 1.0), 0, 1).astype(np.float32)
    return array


def _torchscript(description):
    """The archive is looked at before it is loaded, for a pickle runs whatever it likes when it is opened."""
    path = description.weights
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            code = [archive.read(name).decode("utf-8", "replace") for name in names if name.endswith(".py")]
    except (zipfile.BadZipFile, OSError):
        names, code = [], []
    if not code or not any(name.endswith("/constants.pkl") for name in names):
        raise SegmentationError(f"{path.name} is no TorchScript archive; expected one that torch.jit.save wrote. A "
                                "pickle (torch.save) is not opened, for opening it can run any code: export it with "
                                "torch.jit.script or torch.jit.trace, or give safetensors.")
    if reaching := sorted({word for word in REACH_OUT for text in code if word in text}):
        raise SegmentationError(f"{path.name} contains {', '.join(reaching)}), which can read or write files; expected "
                                "a network that computes only. It was not loaded.")
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise SegmentationError(f"{path.name} cannot be loaded as TorchScript: {_last(str(error))}") from error


@contextmanager
def _monai_wanted(what):
    try:
        yield
    except ImportError as error:
        raise SegmentationError(f"{what} needs MONAI, which is not installed: pip install 'mrmyo[monai]'.") from error


def _monai(description):
    name, arguments = description.network
    with _monai_wanted("A model of the kind safetensors"):
        from monai.networks import nets
    import torch
    from safetensors.torch import load_file

    kind = getattr(nets, name, None)
    if not isinstance(kind, type) or not issubclass(kind, torch.nn.Module):
        raise SegmentationError(f"Found the network class {name!r}; expected one of monai.networks.nets, such as "
                                "'UNet' or 'SegResNet'.")
    try:
        network = kind(**arguments)
        network.load_state_dict({key: value.float() if value.is_floating_point() else value
                                 for key, value in load_file(description.weights).items()})
    except Exception as error:  # each network checks its arguments in its own way; safetensors has its own errors
        raise SegmentationError(f"{description.weights.name} does not hold a {name} with the arguments of "
                                f"{description.path.name}: {_last(str(error))}") from error
    return network.eval()


def _infer(description, network, volumes):
    """Probabilities (x, y, z, classes) of each volume."""
    import torch

    images, inner = zip(*(_padded(description, volume.array) for volume in volumes), strict=True)
    batch = torch.from_numpy(np.stack(images)[:, None])
    if description.dimension == 2:
        batch = batch[..., 0]
    classes = len(description.labels) - (description.output == "sigmoid")
    expected = (len(batch), classes, *batch.shape[2:])
    window = description.window
    try:
        with torch.inference_mode():
            if window is None or tuple(batch.shape[2:]) == window:
                out = _first(network(batch))
            else:
                with _monai_wanted("A sliding window"):
                    from monai.inferers import sliding_window_inference
                out = sliding_window_inference(batch, window, 1, lambda x: _first(network(x)),
                                               overlap=description.overlap, mode="gaussian")
    except Exception as error:  # what a network of somebody else raises is its own affair
        if isinstance(error, SegmentationError):
            raise
        raise SegmentationError(f"{description.name} failed on images of {_by(batch.shape[2:])}: "
                                f"{_last(str(error))}") from error
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != expected:
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise SegmentationError(f"{description.name} answered with {found}; expected {expected}: one channel for each "
                                "of the [labels], on the grid of the input.")
    if not torch.isfinite(out).all():
        raise SegmentationError(f"{description.name} answered with NaN or infinite values. Check its weights, and the "
                                f"normalisation ({description.normalise}).")
    out = out.float()
    if description.output == "logits":
        out = out.softmax(1)
    elif description.output == "sigmoid":
        out = out.sigmoid()
        out = torch.cat([1 - out.amax(1, keepdim=True), out], 1)
    out = out.movedim(1, -1).numpy()
    out = out[..., None, :] if description.dimension == 2 else out
    return [volume.with_array(array[box]) for volume, array, box in zip(volumes, out, inner, strict=True)]


def _first(out):
    """Networks with deep supervision give their finest answer first."""
    return out[0] if isinstance(out, list | tuple) and out else out


def _padded(description, array):
    """The rescaled image with air around it, and where in it the image lies."""
    image = rescale(array, description.normalise, description.percentiles)
    wanted = [-(-n // description.multiple) * description.multiple for n in image.shape]
    if description.window:
        wanted = [max(n, w) for n, w in zip(image.shape, (*description.window, 1), strict=False)]
    wanted = wanted[:description.dimension] + list(image.shape[description.dimension:])
    first = [(w - n) // 2 for n, w in zip(image.shape, wanted, strict=True)]
    around = [(f, w - n - f) for f, n, w in zip(first, image.shape, wanted, strict=True)]
    inner = tuple(slice(f, f + n) for f, n in zip(first, image.shape, strict=True))
    return np.pad(image, around, constant_values=image.min()), inner


def _call(description, volume):
    """Classes (x, y, z) from a command, which sees one NIfTI file with a name that says nothing."""
    image = rescale(volume.array, description.normalise, description.percentiles)
    with tempfile.TemporaryDirectory(prefix="mrmyo-", ignore_cleanup_errors=True) as folder:
        paths = {"{input}": Path(folder, "image.nii.gz"), "{output}": Path(folder, "labels.nii.gz"),
                 HERE: description.path.parent}
        written = Volume(image, volume.affine)
        write_nifti(written, paths["{input}"])  # without meta: nothing but voxels and their place
        written = read_nifti(paths["{input}"])  # as its header, in single precision, has it
        words = description.command
        for place, path in paths.items():
            words = [word.replace(place, str(path)) for word in words]
        _wait_for(description, words, Path(folder))
        answer = _answer(description, paths["{output}"], written)
    values = np.array([value for value, _ in description.labels])
    unknown = np.setdiff1d(answer, values)
    if unknown.size:
        raise SegmentationError(f"{description.name} wrote the values {unknown[:8].tolist()}; expected only those that "
                                f"[labels] maps: {values.tolist()}. Map them, to 'background' if they are none.")
    return volume.with_array(np.searchsorted(values, answer).astype(np.uint8))


def _wait_for(description, words, folder):
    """Run a command to its end, or stop it and what it started."""
    log = folder / "said.txt"
    own_group = {"start_new_session": True} if os.name == "posix" else {}
    with open(log, "wb") as said:
        try:
            process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                       **own_group)
        except OSError as error:
            raise SegmentationError(f"The command {words[0]!r} of {description.name} cannot be started: "
                                    f"{error.strerror or error}. Give its whole path, or install it.") from None
        try:
            status = process.wait(description.timeout_s)
        except subprocess.TimeoutExpired:
            raise SegmentationError(f"The command of {description.name} was stopped after {description.timeout_s:g} s "
                                    f"(timeout_s). {_said(log)}") from None
        finally:  # when it is interrupted, too
            _stop(process)
    if status:
        raise SegmentationError(f"The command of {description.name} failed with status {status}. {_said(log)}")
    if not (folder / "labels.nii.gz").is_file():
        raise SegmentationError(f"The command of {description.name} ended well but wrote no file at {{output}}. "
                                f"{_said(log)}")


def _stop(process):
    if process.poll() is not None:
        return
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own group
    else:
        process.kill()
    process.wait()


def _said(log):
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return f"It said: …{text[-SHOWN:]}" if len(text) > SHOWN else f"It said: {text or 'nothing'}"


def _answer(description, path, written):
    """What a command wrote, checked: whole numbers on the grid that it was given, in that order of axes."""
    try:
        answer = read_nifti(path)
    except NiftiError as error:
        raise SegmentationError(f"The command of {description.name} wrote no NIfTI that can be read: {error}") from None
    if answer.array.ndim == 3:
        answer = in_axis_order_of(answer, written)  # some programs turn what they read
    if answer.array.ndim != 3 or not same_grid(answer, written):
        raise SegmentationError(f"The command of {description.name} wrote an image of {_by(answer.array.shape)} from "
                                f"{_place(answer)}; expected the grid of its input, {_by(written.shape)} from "
                                f"{_place(written)}. Resample its answer to the image that it was given.")
    values = answer.array
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise SegmentationError(f"The command of {description.name} wrote values that are no whole numbers; "
                                    "expected labels, not probabilities.")
        values = values.astype(np.int64)
    return values


def _place(volume):
    return f"({', '.join(f'{x:.1f}' for x in volume.affine[:3, 3])}) mm"


def _by(shape):
    return " × ".join(map(str, shape))


def _last(text):
    """The end of an error, where the cause stands."""
    text = text.strip()
    return text if len(text) <= SHOWN // 2 else f"…{text[-SHOWN // 2:]}"
