"""The notebook widget for checking and correcting a mask. For research use only.

The browser draws (``editor.js``); Python owns the mask and its journal (`mrmyo.editor_session`). Slices go to the
browser when it asks for them, each stroke comes back as one small message, and counts once it is on the disk.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

try:
    import anywidget
    import traitlets
except ImportError as error:  # the library works without the lab
    raise ImportError("The review widget needs anywidget and JupyterLab: pip install 'mrmyo[lab]'") from error

from mrmyo.editor_session import DECISIONS, Session, open_session
from mrmyo.editor_t2 import T2Side
from mrmyo.editor_targets import targets
from mrmyo.figures.pictures import label_colours
from mrmyo.journal import is_journal, read_history, replay
from mrmyo.t2 import T2Maps
from mrmyo.volume import Volume

__all__ = ["Editor", "review"]

HERE = Path(__file__).parent
T2_SHOWN_MS = (20.0, 80.0)
MARGIN_MM = 22.0
PICTURE_PIXELS = 256  # of the picture that stays in a saved notebook


def review(volume: Volume, labels: Volume | None = None, journal=None, *, reviewer: str = "", t2=None, transform=None,
           height: int = 430) -> Editor:
    """Look at a mask and correct it, inside the notebook. For research use only.

    Every stroke is on the disk before it counts; the page may be reloaded, the kernel may be killed: called again with
    the same journal, the review goes on from the last stroke.

    Parameters
    ----------
    volume : Volume
        The image that the mask was drawn on, 3-D.
    labels : Volume, optional
        The mask to begin with, on the grid of the image, with the values of `mrmyo.label_table`. None goes on with what
        the journal holds.
    journal : path
        The record of the review, one file of its own for each reader; made where there is none.
    reviewer : str
        Who reviews: a name or key, which can also be typed in the widget.
    t2 : Volume or T2Maps, optional
        A T2 map in ms to show beside the image, on its own grid; of `T2Maps` the S0 map tells how well the mask lies.
    transform : numpy.ndarray, optional
        From positions in the T2 map to positions in the image, as `mrmyo.align` gives it; by the headers when None.
    height : int
        Of the pictures, in pixels.

    Returns
    -------
    Editor
        Display it. Its ``labels`` are the mask as it stands.

    Raises
    ------
    GridError, JournalError, ValueError
        When image, mask and journal do not belong together, or the journal cannot be written.
    """
    if not isinstance(volume, Volume) or not isinstance(labels, Volume | None):
        raise ValueError("Image and labels are to be Volumes; read files with mrmyo.read_nifti(path) first.")
    if journal is None:
        raise ValueError("A review needs a journal, for what is not recorded is not reproducible: pass journal=…")
    if labels is None and not Path(journal).exists():
        raise ValueError("There is neither a mask nor a journal to go on with; pass labels.")
    side = None
    if t2 is not None:
        known = replay(journal) if labels is None or is_journal(journal) else None
        image = None
        if isinstance(t2, T2Maps):
            image = t2.volume("s0")
            image = image.with_array(np.nan_to_num(image.array, posinf=0))
        values = t2.volume("t2_ms") if isinstance(t2, T2Maps) else t2
        if known is not None and known.before_hand is not None:
            transform = known.before_hand  # what was moved by hand was moved from there
        side = T2Side(values, labels if known is None else known.base, transform=transform, image=image)
    return Editor(open_session(volume, labels, journal, reviewer, side), height=height)


class Editor(anywidget.AnyWidget):
    """The widget that `review` gives.

    Parameters
    ----------
    session : Session
    height : int
    """

    _esm = HERE / "editor.js"
    _css = HERE / "editor.css"
    facts = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session, *, height: int = 430):
        self.session = session
        super().__init__(facts=_facts(session, height))
        self.on_msg(self._receive)
        session.views.append(self._tell)

    def _receive(self, _, content, buffers):
        self.session.handle(content, buffers, self._answer(content))

    def _answer(self, content):
        view = content.get("view") if isinstance(content, dict) else None
        return lambda told, parts: self.send({**told, "view": view}, list(parts))

    def _tell(self, told, buffers):
        self.send(told, list(buffers))

    @property
    def labels(self) -> Volume:
        """The mask as it stands, on its own grid."""
        return self.session.review.labels

    @property
    def decision(self) -> dict:
        """What was decided on the study last, by whom, and whether it still ``stands``."""
        return self.session.review.decision

    @property
    def journal(self) -> Path:
        """The file of the journal; `mrmyo.process_study` takes it as ``labels``."""
        return self.session.journal.path

    @property
    def history(self):
        """The journal as a table (`mrmyo.journal.read_history`)."""
        return read_history(self.journal)

    def close(self) -> None:
        """Take the widget from the page; the last one of a review lets go of its journal, for another kernel."""
        if self._tell in self.session.views:
            self.session.views.remove(self._tell)
        if not self.session.views:
            self.session.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs):
        found = super()._repr_mimebundle_(**kwargs)
        data, *more = found if isinstance(found, tuple) else (found or {},)
        # a page without a kernel shows a picture instead of an empty box
        return ({**data, "image/png": base64.b64encode(_picture(self.session)).decode()}, *(more or [{}]))


def _facts(session, height):
    """What the browser has to know once; small, for it is kept in the page."""
    from matplotlib.colors import to_hex

    colours = {str(value): to_hex(rgb) for value, rgb in label_colours().items()}
    shape = session.review.screen.shape
    low, high = session.image_range
    facts = {
        "shape": list(shape), "spacing": np.linalg.norm(session.affine[:3, :3], axis=0).tolist(),
        "range": [low, high], "window": _window(session.image), "height": height, "decisions": list(DECISIONS),
        "plane": _plane(session.affine),
        "targets": [{"key": one.key, "name": one.name, "side": one.side, "values": list(one.values)}
                    for one in targets().values()],
        "colours": colours,
        "first": _middle(session.review.screen), "box": _box(session.review.screen, session.affine),
        "recovered": "" if session.journal.recovered is None else session.journal.recovered.name,
    }
    if session.t2 is not None:
        from matplotlib import colormaps

        map_ = np.round(255 * colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)
        facts["t2"] = {"shape": list(session.t2.screen.shape), "shown_ms": list(T2_SHOWN_MS),
                       "plane": _plane(session.t2.affine), "box": _box(session.t2.start, session.t2.affine),
                       "spacing": np.linalg.norm(session.t2.affine[:3, :3], axis=0).tolist(),
                       "colours": base64.b64encode(map_.tobytes()).decode()}
    return facts


def _plane(affine):
    """The plane that the slices on the screen are nearest to."""
    return ("sagittal", "coronal", "axial")[np.abs(affine[:3, 0]).argmax()]


def _middle(screen):
    """The middle one of the slices that hold a label."""
    labelled = np.flatnonzero(screen.any(axis=(1, 2)))
    return int(labelled[labelled.size // 2]) if labelled.size else len(screen) // 2


def _box(screen, affine):
    """First and last row and column of what is labelled in any slice, with a margin: what is shown at first."""
    box = []
    for axis, step in ((1, affine[:3, 1]), (2, affine[:3, 2])):
        here = np.flatnonzero(screen.any(axis=tuple({0, 1, 2} - {axis})))
        margin, n = int(MARGIN_MM / np.linalg.norm(step)), screen.shape[axis]
        box += [max(int(here[0]) - margin, 0), min(int(here[-1]) + margin + 1, n)] if here.size else [0, n]
    return box


def _window(image):
    """Black and white of the first picture, in 16-bit grey: what is not air, without its brightest hundredth."""
    part = image[:: max(len(image) // 8, 1), ::2, ::2]
    body = part[part > part.max() * 0.02]
    return [0, int(np.percentile(body, 99))] if body.size else [0, 65535]


def _picture(session):
    """A small PNG of a slice with its labels."""
    from PIL import Image

    screen = session.review.screen
    index = _middle(screen)
    low, high = _window(session.image)
    grey = np.clip((session.image[index] - float(low)) / max(high - low, 1), 0, 1)
    colours = np.zeros((256, 3))
    for value, rgb in label_colours().items():
        colours[value] = rgb
    here = screen[index]
    rgb = np.where((here > 0)[..., None], 0.6 * grey[..., None] + 0.4 * colours[here], grey[..., None])
    rows, columns = np.linalg.norm(session.affine[:3, 1:3], axis=0)
    scale = min(PICTURE_PIXELS / max(here.shape), 1)
    size = (round(here.shape[1] * scale), max(round(here.shape[0] * scale * rows / columns), 1))
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * rgb).astype(np.uint8)).resize(size).quantize(48).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
