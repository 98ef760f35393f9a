"""From a thigh MRI to muscle T2 and a reproducible finding in myositis research. For research use only.

The names below are the public face. A room is imported when one of its names is first used, so that `import mrmyo` is
quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

__version__ = "0.1.0"

# public name: the room that it lives in
_HOME = {
    "Volume": "volume",
    "T2Maps": "t2",
    "align": "registration",
    "analyse": "analysis",
    "evaluate": "evaluation",
    "export_study": "study_export",
    "fit_t2": "t2",
    "join_clinical": "analysis",
    "label_table": "labels",
    "load_cohort": "cohort",
    "process_cohort": "study_cohort",
    "process_study": "study",
    "read_dicom": "dicom",
    "read_nifti": "nifti",
    "reader_agreement": "editor_agreement",
    "review": "editor",
    "segment": "segmentation",
    "simulate_study": "simulation",
    "t2_by_muscle": "measure",
    "view3d": "viewer",
    "workspace": "settings",
    "write_dicom_seg": "dicom_segmentation",
    "write_nifti": "nifti",
}
_ROOMS = ("figures", "paper", "stats")  # public as they are: mrmyo.stats.roc(…)

__all__ = ["__version__", *_HOME, *_ROOMS]


def __getattr__(name):
    if name in _HOME:
        # kept among the module's own names, so that the next use does not come here
        globals()[name] = value = getattr(import_module(f"mrmyo.{_HOME[name]}"), name)
        return value
    if name in _ROOMS or (not name.startswith("_") and find_spec(f"mrmyo.{name}")):
        return import_module(f"mrmyo.{name}")
    raise AttributeError(f"module 'mrmyo' has no attribute {name!r}; its public names are {', '.join(__all__)}")


def __dir__():
    return sorted({*globals(), *__all__})
