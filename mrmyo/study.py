"""From a folder of DICOM to rows of T2.

The stages read, segment, align, fit and measure are cached by a hash of what goes into them, so that a corrected mask
or a changed option reruns only what lies downstream.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from mrmyo.dicom import read_dicom
from mrmyo.nifti import read_nifti, write_nifti
from mrmyo.provenance import digest, file_digest
from mrmyo.settings import Settings
from mrmyo.study_alignment import ALIGNED, REGION, align_study, read_transform, write_region
from mrmyo.study_maps import MAPS, SCANNER_MAP, load_maps, relative_b1, scanner_t2, write_maps
from mrmyo.study_reliability import RELIABILITY_FILES, write_reliability
from mrmyo.study_results import RESULTS, read_rows, with_numbers, write_results
from mrmyo.study_review import choose_mask
from mrmyo.study_series import StudyError, beside_volumes, choose_series, fat_fraction_beside, structural_volume
from mrmyo.study_stages import Stages, write_json
from mrmyo.study_water import WATER_FACTS, WATER_FILES, choose_dixon, fit_water, read_water, write_water
from mrmyo.t2 import SignalError, fit_t2

__all__ = ["StudyError", "load_maps", "process_study"]

STRUCTURAL = "structural.nii.gz"
B1_MAP = "B1map.nii.gz"


def process_study(folder, out_dir, labels=None, *, subject=None, model=None, settings: Settings | None = None,
                  progress=True):
    """Measure one study: read, segment, align, fit, measure.

    Parameters
    ----------
    folder : path
        DICOM files of one study, in any subfolders.
    out_dir : path
        Receives masks and maps as NIfTI, ``rows.csv``, ``study.json``, ``report.pdf`` and ``report.html`` (for
        a clinician) and ``quality.html``. Run again, it redoes only the stages whose inputs changed.
    labels : Volume, path or Editor, optional
        A reviewed mask on the grid of the structural image, in place of the automatic one: voxels, a NIfTI file, or the
        journal of a review (`mrmyo.review`), with which a move of the mask on the T2 map by hand counts too. It is kept
        in `out_dir` and counts in later runs, until another is given or ``labels="automatic"`` sets it aside.
    subject : str, optional
        The key that the rows carry; when None that of the earlier run in `out_dir`, or its name. Nothing of the DICOM
        identity is used.
    model : path, optional
        A segmentation model; the shipped one when None.
    settings : Settings, optional
    progress : bool

    Returns
    -------
    pandas.DataFrame
        One row per side and muscle (see `mrmyo.t2_by_muscle`) with subject, session, T2 model, mask version, journal of
        its review (and the entry that counted) and reviewers, empty where there were none. Where
        the study has Dixon images over the T2 stack, water T2 and fat fraction stand beside the T2 of the model (see
        `mrmyo.measure.water_by_muscle`); the paper's cutoff holds for the mono-exponential T2 alone.

    Raises
    ------
    DicomError, StudyError, RegistrationError, SegmentationError
        When the study cannot be measured; what was finished before stays.
    """
    settings = settings or Settings()
    model = model or settings.segmentation_model
    out = Path(out_dir).resolve()
    _check_place(folder, out, subject)
    series = read_dicom(folder, roles=dict(settings.roles))
    chosen = choose_series(series, replace(settings, segmentation_model=model))
    files = {role: file_digest(series.files(key)) for role, key in chosen.roles}
    # one file may hold several images: which of them was read counts beside what the files hold
    origin = {key: [files[role], role, row] for (role, key), row in zip(chosen.roles, chosen.rows, strict=True)}
    drawn_on = [chosen.structural_name, [origin[key] for key in chosen.structural]]
    structural = structural_volume(series, chosen)
    t2_volume = lru_cache(lambda: series.volume(chosen.t2))  # read when a stage first needs it

    out.mkdir(parents=True, exist_ok=True)  # not before all is found: a study that is refused leaves no folder
    stages = Stages(out)
    read = stages.run("read", drawn_on, [STRUCTURAL], lambda: write_nifti(structural, out / STRUCTURAL))
    further, left_out = beside_volumes(series, chosen)
    beside = _origins(series, further)
    fat = chosen.fat if chosen.fat in further else None  # which of them shows fat counts too
    mask = choose_mask(stages, structural, [read, beside, fat], labels, model, progress, beside=list(further.values()),
                       fat_fraction=lambda: fat_fraction_beside(chosen, structural, further))
    how = [settings.alignment, settings.ignore_frame_of_reference, mask.transform]
    aligned = stages.run("align", [mask.key, read, origin[chosen.t2], how], ALIGNED,
                         lambda: align_study(out, mask.labels, structural, t2_volume(), settings, mask.transform,
                                             mask.before_hand))
    from_echoes = chosen.t2_source == "echoes"
    option = settings.t2_model if from_echoes else settings.t2_map_unit_ms
    fitted = stages.run("fit", [chosen.t2_source, origin[chosen.t2], option],
                        ["fit.json", *(file for file, _, _ in MAPS.values())],
                        lambda: write_maps(_t2(t2_volume(), from_echoes, option), out))
    notes = [*chosen.notes, *left_out, *_b1(stages, series, chosen, origin)]
    dixon = choose_dixon(series, chosen) if from_echoes else "the scanner's own T2 map was measured, not its echoes"
    b1 = origin[chosen.b1_map] if (out / B1_MAP).exists() else None
    watered = reliable = None
    if isinstance(dixon, str):
        _drop(out, WATER_FILES)
        notes.append(f"no water T2: {dixon}")
    else:
        watered = _water(stages, series, dixon, t2_volume, [origin[chosen.t2], aligned, b1])
    if from_echoes:
        reliable = _reliability(stages, t2_volume, [fitted, aligned, watered, b1])
    else:
        _drop(out, RELIABILITY_FILES)
    if settings.max_fat_fraction is not None and (watered is None or read_water(out)[0] is None):
        notes.append("no voxels were left out for their fat, for the fat fraction is not known")
    region = stages.run("region", [aligned, fitted, watered, settings.erode_mm, settings.max_fat_fraction], REGION,
                        lambda: write_region(out, settings))
    facts = {"subject": subject or _key_before(out) or out.name, "session": settings.session,
             "t2_model": settings.t2_model if from_echoes else SCANNER_MAP, "mask": mask.name,
             "mask_journal": mask.journal, "reviewer": mask.reviewer}
    inputs = {"structural": chosen.structural_name, "t2": chosen.t2_source, "series": dict(chosen.series),
              "files": files, "rows": {role: digest(origin[key]) for role, key in chosen.roles},
              "notes": notes, "flags": [*chosen.flags, *mask.flags], **_drawn_by(model, mask.name, beside)}
    options = with_numbers(settings, series)
    stages.run("measure", [aligned, fitted, watered, reliable, region, facts, inputs, asdict(options)],
               RESULTS, lambda: write_results(out, facts, options, inputs))
    return read_rows(out)


def _origins(series, keys):
    """[hash of its files, series number, key] of every image."""
    rows = series.set_index("key").loc[list(keys)]
    return [[file_digest(series.files(key)), int(row.series), key] for key, row in rows.iterrows()]


def _key_before(out):
    """The key that an earlier run gave the subject, by which its rows are known; None without one."""
    try:
        return json.loads((out / "study.json").read_text(encoding="utf-8"))["subject"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_place(folder, out, subject):
    """Refuses to write among the study's own files, and subject keys that a cohort would refuse."""
    if out == Path(folder).resolve():
        raise StudyError("The output folder is the study's own; give another, so that results and DICOM stay apart.")
    if subject is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", subject, re.ASCII):
        raise StudyError("Found a subject key that is no plain word; expected letters, digits, '_', '-' and '.'.")


def _t2(volume, from_echoes, option):
    """T2 maps, of echoes by a model or of the scanner's map by its unit."""
    return fit_t2(volume, model=option) if from_echoes else scanner_t2(volume, unit_ms=option)


def _b1(stages, series, chosen, origin):
    """Keep the scanner's B1 map where there is one; what kept it from that, as a list of notes."""
    path = stages.folder / B1_MAP
    if chosen.b1_map is None:
        path.unlink(missing_ok=True)  # of an earlier run
        return []
    try:
        stages.run("b1", origin[chosen.b1_map], [B1_MAP],
                   lambda: write_nifti(relative_b1(series.volume(chosen.b1_map)), path))
    except StudyError as error:
        path.unlink(missing_ok=True)
        return [f"the B1 map was not kept: {error}"]
    return []


def _water(stages, series, dixon, t2_volume, keys):
    """The stage of water T2; where something keeps it from being measured, the note says so. Returns its key."""
    out = stages.folder
    images = _origins(series, dixon.keys)

    def make():
        b1 = read_nifti(out / B1_MAP) if (out / B1_MAP).exists() else None
        try:
            maps, facts = fit_water(t2_volume(), *(series.volume(key) for key in dixon.keys),
                                    read_nifti(out / "labels_t2.nii.gz"), dixon=dixon,
                                    transform=read_transform(out), b1=b1)
        except SignalError as error:
            _drop(out, WATER_FILES)
            write_json({"notes": [f"no water T2: {error}"], "flags": []}, out / WATER_FACTS)
            return
        write_water(maps, facts, out)

    return stages.run("water", [images, dixon.kind, *keys], WATER_FILES, make)


def _reliability(stages, t2_volume, keys):
    """The stage that tells how far T2 depends on the model. Returns its key."""
    out = stages.folder

    def make():
        water, facts = read_water(out)
        b1 = read_nifti(out / B1_MAP) if (out / B1_MAP).exists() else None
        write_reliability(t2_volume(), read_nifti(out / "labels_t2.nii.gz"), out, water=water, facts=facts, b1=b1)

    return stages.run("reliability", keys, RELIABILITY_FILES, make)


def _drop(out, files):
    """Remove what an earlier run left of a stage that this study does not have."""
    for file in files:
        (out / file).unlink(missing_ok=True)


def _drawn_by(model, mask_name, beside):
    """What drew an automatic mask, beside the image that it lies on: another lab's model, whose name, version and
    license belong to the result; or ours, which saw further series."""
    from mrmyo.segmentation_adapters import is_description, told_of

    if not mask_name.startswith("automatic"):
        return {}
    return {"model": told_of(model)} if is_description(model) else {"beside": [[row[1], digest(row)] for row in beside]}
