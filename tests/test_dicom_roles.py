"""Roles by physics: vendors' spellings, what headers tell when names are gone, and voxels where headers are silent."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pydicom
import pytest

from mrmyo import settings as settings_room
from mrmyo.dicom import read_dicom
from mrmyo.dicom_roles import ROLE_KEYWORDS, ROLES, TEXT_KEYWORDS, series_role, siblings
from mrmyo.dixon import dixon_images
from mrmyo.dixon_naming import DixonError, tell_dixon
from mrmyo.settings import Settings
from mrmyo.study_series import choose_series

SE, GR = {"ScanningSequence": ("SE",)}, {"ScanningSequence": ("GR",)}
VIBE = {**GR, "SequenceVariant": ("SP",), "MRAcquisitionType": "3D", "RepetitionTime": 4.1, "FlipAngle": 9}
SLOW = {"RepetitionTime": 3000}
CPMG = tuple(10.0 * n for n in range(1, 9))


# in the vendor's own order: in-phase, opposed-phase, water, fat
DIXON_TYPES = {
    "Siemens": (r"ORIGINAL\PRIMARY\M\ND\IN_PHASE", r"ORIGINAL\PRIMARY\M\OPP_PHASE", r"DERIVED\PRIMARY\M\ND\NORM\WATER",
                r"DERIVED\PRIMARY\M\ND\FAT"),
    "GE": (r"ORIGINAL\PRIMARY\DIXON\IN_PHASE", r"ORIGINAL\PRIMARY\DIXON\OUT_PHASE", r"DERIVED\PRIMARY\DIXON\WATER",
           r"DERIVED\PRIMARY\DIXON\FAT"),
    "Philips": (r"ORIGINAL\PRIMARY\IP\IP\DERIVED", r"ORIGINAL\PRIMARY\OP\OP\DERIVED", r"ORIGINAL\PRIMARY\W\W\DERIVED",
                r"ORIGINAL\PRIMARY\F\F\DERIVED"),
    "Canon": (r"ORIGINAL\PRIMARY\IN-PHASE", r"ORIGINAL\PRIMARY\OUT-OF-PHASE", r"DERIVED\PRIMARY\WATER",
              r"DERIVED\PRIMARY\FAT"),
    "Fujifilm (Hitachi)": (r"ORIGINAL\PRIMARY\OTHER\IN PHASE", r"ORIGINAL\PRIMARY\OTHER\OUT PHASE",
                           r"DERIVED\PRIMARY\OTHER\WATER", r"DERIVED\PRIMARY\OTHER\FAT"),
    "United Imaging": (r"ORIGINAL\PRIMARY\M\INPHASE", r"ORIGINAL\PRIMARY\M\OUTPHASE", r"DERIVED\PRIMARY\M\WATER",
                       r"DERIVED\PRIMARY\M\FAT"),
}


def role_of(image_type, physics, **facts):
    return series_role({"ImageType": tuple(image_type.split("\\")), **physics, **facts}, (2.4,))


@pytest.mark.parametrize("vendor", DIXON_TYPES)
def test_vendors_names_of_dixon_images(vendor):
    for physics in (SE, {**GR, "RepetitionTime": 7}):
        found = [role_of(image_type, physics, Manufacturer=vendor) for image_type in DIXON_TYPES[vendor]]
        assert found == ["in_phase", "opposed_phase", "water", "fat"]


@pytest.mark.parametrize(("image_type", "role"), [
    (r"DERIVED\PRIMARY\M\ND\FAT_FRACTION", "fat_fraction"), (r"DERIVED\PRIMARY\IDEAL\FATFRAC", "fat_fraction"),
    (r"ORIGINAL\PRIMARY\FF\FF\DERIVED", "fat_fraction"), (r"DERIVED\PRIMARY\T2 MAP\ND\NORM", "t2_map"),
    (r"DERIVED\PRIMARY\T2 MAP\T2\UNSPECIFIED", "t2_map"), (r"ORIGINAL\PRIMARY\FLIP ANGLE MAP\ND", "b1_map"),
    (r"ORIGINAL\PRIMARY\B1\B1\DERIVED", "b1_map"), (r"DERIVED\PRIMARY\M\R2_STAR", "other"),
    (r"ORIGINAL\PRIMARY\P\ND", "other"), (r"ORIGINAL\PRIMARY\PHASE MAP\P\FFE", "other"),
    (r"DERIVED\PRIMARY\ADC\UNSPECIFIED\ADC", "other"), (r"ORIGINAL\PRIMARY\LOCALIZER", "other"),
])
def test_names_of_maps_and_of_what_is_no_image(image_type, role):
    for physics in (SE, {**GR, "RepetitionTime": 7}):
        assert role_of(image_type, physics) == role


@pytest.mark.parametrize(("facts", "times", "role"), [
    ({**SE, "RepetitionTime": 650}, (11.0,), "t1w"),
    ({**SE, "RepetitionTime": 3500}, (85.0,), "t2w"),
    ({**SE, "RepetitionTime": 3500, "ScanOptions": ("PFP", "FS")}, (85.0,), "t2w_fs"),
    ({**SE, "RepetitionTime": 3500, "ScanOptions": ("FAT_GEMS", "FATSAT_GEMS")}, (85.0,), "t2w_fs"),
    ({"ScanningSequence": ("SE", "IR"), "RepetitionTime": 4000, "InversionTime": 180}, (40.0,), "stir"),
    ({**SE, "RepetitionTime": 4000, "InversionTime": 220.0}, (60.0,), "stir"),  # vendors that leave out IR
    ({"ScanningSequence": ("SE", "IR"), "RepetitionTime": 9000, "InversionTime": 2500}, (120.0,), "other"),  # FLAIR
    ({**SE, "RepetitionTime": 3000}, CPMG, "multi_echo"),
    ({"ScanningSequence": ("SE", "GR"), "RepetitionTime": 3000}, CPMG, "multi_echo"),  # GraSE
    ({"ScanningSequence": ("SE", "EP"), "RepetitionTime": 3000}, CPMG, "other"),
    ({**SLOW, "FlipAngle": 90}, CPMG, "multi_echo"),  # ScanningSequence stripped
    ({"ScanningSequence": ("RM",), **SLOW, "FlipAngle": 90}, CPMG, "multi_echo"),
    ({**SLOW, "MultipleSpinEcho": "YES"}, CPMG[:3], "multi_echo"),
    ({"RepetitionTime": 25, "FlipAngle": 90}, CPMG, "other"), ({**SLOW, "FlipAngle": 90}, (20.0, 40.0, 90.0), "other"),
    ({**SLOW, "FlipAngle": 90}, (2.3, 4.6, 6.9), "other"), ({**SLOW, "FlipAngle": 90}, CPMG[:5], "other"),
    ({**SLOW, "FlipAngle": 60}, CPMG, "other"), (SLOW, CPMG, "other"),  # may be gradient echoes
    ({**SLOW, "FlipAngle": 90, "SequenceVariant": ("SP",)}, CPMG, "other"),
    ({**GR, "RepetitionTime": 3000}, CPMG, "other"),  # decays with T2*
    (VIBE, (1.7,), "t1w"), ({**VIBE, "ScanOptions": ("FS",)}, (1.7,), "other"),
    ({**VIBE, "MRAcquisitionType": "2D"}, (1.7,), "other"), ({**VIBE, "RepetitionTime": 30}, (1.7,), "other"),
    ({"ImageType": ("ORIGINAL", "PRIMARY"), "ComplexImageComponent": "PHASE", **SE}, CPMG, "other"),
    ({"ImageType": ("DERIVED", "SECONDARY", "MPR"), **SE, "RepetitionTime": 650}, (11.0,), "t1w"),
    # T2 as the third value is a flavour, "T2 weighted" (PS3.3 C.8.16.1.3); Philips' maps say it as the fourth
    ({"ImageType": ("DERIVED", "PRIMARY", "T2", "NONE"), **SE, "RepetitionTime": 3500}, (85.0,), "t2w"),
    ({"ImageType": ("DERIVED", "PRIMARY", "T2", "NONE")}, (), "other"),
    ({"ImageType": ("DERIVED", "PRIMARY", "T2", "NONE"), "RealWorldValueUnits": "ms"}, (), "t2_map"),
    ({"ImageType": ("DERIVED", "PRIMARY", "OTHER", "T2", "UNSPECIFIED")}, (), "t2_map"),
    ({"ImageType": ("DERIVED", "PRIMARY"), **SE, "RescaleType": "ms"}, (10.0,), "t2_map"),
    ({"ImageType": ("DERIVED", "PRIMARY"), **SE, "RescaleType": "US"}, (10.0,), "other"),  # unspecified
    ({"ImageType": ("DERIVED", "PRIMARY"), **GR, "RescaleType": "ms"}, (10.0,), "other"),  # may be T2* or T1
    ({"ImageType": ("DERIVED", "PRIMARY"), "SeriesDescription": "T2 Map"}, (), "t2_map"),
])
def test_physics_decides(facts, times, role):
    assert series_role(facts, times) == role
    lying = {key: "water fat sat in phase Wasser" for key in TEXT_KEYWORDS}
    if ("SE" in facts.get("ScanningSequence", ()) or len(times) > 1) and "SeriesDescription" not in facts:
        assert series_role({**facts, **lying}, times) == role, "a description may not turn what physics tells"


@pytest.mark.parametrize(("field", "time", "phase"), [
    # by the vendors' usual echo times for in- and opposed-phase imaging
    ({"MagneticFieldStrength": 1.5}, 2.3, "opposed_phase"), ({"MagneticFieldStrength": 1.5}, 4.6, "in_phase"),
    ({"MagneticFieldStrength": 3.0}, 1.15, "opposed_phase"), ({"MagneticFieldStrength": 3.0}, 2.3, "in_phase"),
    ({"ImagingFrequency": 123.2}, 1.23, "opposed_phase"), ({"ImagingFrequency": 123.2}, 2.46, "in_phase"),
    ({"ImagingFrequency": 123.2}, 3.69, "opposed_phase"), ({"ImagingFrequency": 63.7}, 2.39, "opposed_phase"),
    ({"ImagingFrequency": 63.7}, 4.77, "in_phase"), ({"MagneticFieldStrength": 3.0}, 1.7, None), ({}, 2.3, None),
    ({"MagneticFieldStrength": 3.0}, 0.07, None), ({"MagneticFieldStrength": 3.0}, 14.95, None),
])
def test_phase_by_echo_time_and_field(field, time, phase):
    facts = {**GR, "RepetitionTime": 180.0, **field}
    assert series_role(facts, (time,)) == ("opposed_phase" if phase == "opposed_phase" else "other")
    place = {"shape": (8, 8, 8), "affine": np.eye(4)}
    row = {"facts": facts, "echo_times_ms": (time,), "role": series_role(facts, (time,)), **place}
    opposed = {"facts": facts, "echo_times_ms": (0.9,), "role": "opposed_phase", **place}
    assert siblings([row, opposed])[0] == (phase or "other")
    assert siblings([row])[0] == row["role"], "a lone gradient echo is no Dixon image"
    assert siblings([row, {**opposed, "shape": (8, 8, 9)}])[0] == row["role"]
    assert siblings([row, {**opposed, "affine": None}])[0] == row["role"]


def test_a_scout_is_not_opposed_phase():
    scout = {**GR, "SequenceVariant": ("SP",), "MRAcquisitionType": "2D", "RepetitionTime": 8.6,
             "MagneticFieldStrength": 3.0}
    assert series_role(scout, (1.15,)) == "other"


def test_the_settings_know_the_same_roles():
    assert settings_room.ROLES == ROLES
    assert set(TEXT_KEYWORDS) < set(ROLE_KEYWORDS)
    assert all(pydicom.datadict.tag_for_keyword(keyword) for keyword in ROLE_KEYWORDS)


# -- whole studies ------------------------------------------------------------------------------------------------

MISLEADING = {"10": "tse_dixon_tra_W", "2": "Localizer Bein", "3": "大腿 in-phase", "4": "FAT: fettgesätt",
              "5": "T2 Map"}


def renamed(source, target, *, texts, image_type=None):
    """A copy of a study with other texts, and with ImageType cut to so many values."""
    shutil.copytree(source, target)
    for path in target.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        for keyword in TEXT_KEYWORDS:
            setattr(image, keyword, texts.get(str(image.SeriesNumber), "")[:16])
        if image_type:
            image.ImageType = list(image.ImageType)[:image_type]
        image.save_as(path)
    return target


def used(folder):
    series = read_dicom(folder)
    return dict(zip(series.series, series.role, strict=True)), choose_series(series, Settings())


@pytest.mark.parametrize("texts", [{}, MISLEADING], ids=["blank", "misleading"])
def test_descriptions_make_no_difference(synthetic_study, tmp_path, texts):
    roles, chosen = used(synthetic_study[0])
    found, again = used(renamed(synthetic_study[0], tmp_path / "study", texts=texts))
    assert found == roles == {2: "in_phase", 3: "opposed_phase", 4: "water", 5: "fat", 10: "multi_echo"}
    assert again.series == chosen.series


@pytest.mark.parametrize("n_values", [2, 3])
def test_without_any_name_the_voxels_tell(synthetic_study, tmp_path, n_values):
    folder = renamed(synthetic_study[0], tmp_path / "study", texts=MISLEADING, image_type=n_values)
    roles, chosen = used(folder)
    assert len({roles[number] for number in (2, 3, 4, 5)}) == 1, "headers cannot tell them"
    assert dict(chosen.series) == {"multi_echo": 10, "in_phase": 2}
    assert "2: in_phase, 3: opposed_phase, 4: water, 5: fat" in chosen.notes[0]


# -- voxels ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dixon(synthetic_study):
    series = read_dicom(synthetic_study[0])
    volumes = {role: series.volume(role) for role in ("in_phase", "opposed_phase", "water", "fat")}
    return {role: volume.array for role, volume in volumes.items()}, volumes["fat"].spacing_mm


def check_tells(images, spacing_mm):
    some = list(itertools.permutations(images, 4))[::5]
    for roles in itertools.chain(some, itertools.combinations(images, 3)):
        told, confidence = tell_dixon([images[role] for role in roles], spacing_mm=spacing_mm)
        assert told == roles and 0.3 < confidence <= 1
    for roles in itertools.combinations(images, 2):
        try:  # two are often too few, but are never told wrongly
            assert tell_dixon([images[role] for role in roles], spacing_mm=spacing_mm)[0] == roles
        except DixonError:
            assert roles != ("water", "fat")


def test_voxels_tell_a_synthetic_study(dixon):
    check_tells(*dixon)


@pytest.mark.realdata
def test_voxels_tell_a_real_dystrophic_thigh(real_data):
    import nibabel

    water, fat = (nibabel.load(real_data / "thigh_dixon" / f"{name}.nii.gz") for name in ("water", "fat"))
    spacing_mm = np.linalg.norm(water.affine[:3, :3], axis=0)
    water, fat = (np.asarray(image.dataobj, dtype=np.float32) for image in (water, fat))
    check_tells({"in_phase": water + fat, "opposed_phase": np.abs(water - fat), "water": water, "fat": fat}, spacing_mm)
    rng = np.random.default_rng(1)
    noisy = dixon_images(water, fat, sigma=0.02 * np.percentile(water + fat, 99), rng=rng)
    assert tell_dixon(list(noisy.values()), spacing_mm=spacing_mm)[0] == tuple(noisy)


def test_what_is_no_dixon_is_not_told(dixon):
    images, spacing_mm = dixon
    rng = np.random.default_rng(2)
    repeats = [images["in_phase"] + rng.normal(0, 20, images["fat"].shape) for _ in range(4)]
    decay = [np.exp(-time / 40) * images["water"] + np.exp(-time / 80) * images["fat"] for time in (10, 30, 60)]
    blind = [np.full_like(images["fat"], 100.0)] * 3
    images_of_nothing = [0 * image for image in blind]
    for other in (repeats, decay, repeats[:2], decay[:2], blind, [images["fat"]], images_of_nothing):
        with pytest.raises(DixonError):
            tell_dixon(other, spacing_mm=spacing_mm)
    with pytest.raises(DixonError, match="one 3-D grid"):
        tell_dixon([images["fat"], images["water"][1:]], spacing_mm=spacing_mm)
