"""Which series is used for what: told by place and physics, and a doubt is told in words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from dicom_samples import STUDY, edit

from mrmyo import study_candidates
from mrmyo.dicom import read_dicom
from mrmyo.dicom_writing import DIXON_IMAGE_TYPES, write_dicom_series
from mrmyo.settings import Settings
from mrmyo.study_candidates import _unnamed_groups, coverage
from mrmyo.study_series import StudyError, beside_volumes, choose_series, fat_fraction_beside, structural_volume
from mrmyo.volume import Volume, same_grid

PHYSICS = {
    "multi_echo": {"ScanningSequence": "SE", "RepetitionTime": 3000},
    "t1w": {"ScanningSequence": "SE", "RepetitionTime": 600, "EchoTime": 12},
    "t2w": {"ScanningSequence": "SE", "RepetitionTime": 4000, "EchoTime": 80},
}
IMAGE_TYPES = {**DIXON_IMAGE_TYPES, "t2_map": ("DERIVED", "PRIMARY", "T2 MAP"), "b1_map": ("DERIVED", "PRIMARY", "B1")}
_numbers = itertools.count(1)


def add(root, role, *, z=(-30, 30), plane="axial", step=6.0, pixel=10.0, **facts):
    """One series: 200 × 200 mm across (a coronal one 120 mm deep), its edges at `z` mm; its number."""
    number = facts.pop("number", next(_numbers))
    if plane == "axial":
        shape = (int(200 / pixel), int(200 / pixel), round((z[1] - z[0]) / step))
        axes, first = np.diag([pixel, pixel, step]), (-100 + pixel / 2, -100 + pixel / 2, z[0] + step / 2)
    else:  # columns to the right, rows downwards, slices to the front
        shape = (int(200 / pixel), round((z[1] - z[0]) / pixel), round(120 / step))
        axes = np.array([[pixel, 0, 0], [0, 0, step], [0, -pixel, 0]])
        first = (-100 + pixel / 2, -60 + step / 2, z[1] - pixel / 2)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, first
    n_echoes = 4 if role == "multi_echo" else None
    values = np.random.default_rng(number).integers(0, 1000, shape if n_echoes is None else (*shape, n_echoes))
    volume = Volume(values.astype(np.uint16), affine, n_echoes and (10.0, 20.0, 30.0, 40.0))
    series = {"SeriesNumber": number, "SliceThickness": step, **PHYSICS.get(role, {"EchoTime": 2.0}), **facts}
    image_type = IMAGE_TYPES.get(role, ("ORIGINAL", "PRIMARY", "OTHER"))
    write_dicom_series(volume, root / f"{number:03d}", study=STUDY, series=series, image_type=image_type)
    return number


def choose(root, **options):
    settings = Settings(**options)
    series = read_dicom(root, roles=dict(settings.roles))
    return series, choose_series(series, settings)


def numbers(chosen):
    return dict(chosen.series)


def test_of_six_stations_the_one_over_the_t2_stack(tmp_path):
    stations = [add(tmp_path, "in_phase", z=(low, low + 120)) for low in range(-400, 200, 100)]
    add(tmp_path, "multi_echo", z=(-30, 18))  # the fourth reaches from -100 to 20
    _, chosen = choose(tmp_path)
    assert numbers(chosen)["in_phase"] == stations[3] and chosen.structural_name == "in_phase"


def test_between_two_stations_is_an_error_that_lists_them(tmp_path):
    low, high = add(tmp_path, "in_phase", z=(-120, 0)), add(tmp_path, "in_phase", z=(0, 120))
    add(tmp_path, "multi_echo", z=(-30, 30))
    with pytest.raises(StudyError, match=rf"series {low} \(axial, 50% .*series {high} \(axial, 50%.*in_phase = {low}"):
        choose(tmp_path)
    assert numbers(choose(tmp_path, roles={"in_phase": high})[1])["in_phase"] == high


def test_the_plane_of_the_t2_stack_decides_among_equals_only(tmp_path):
    coronal = add(tmp_path, "in_phase", plane="coronal", z=(-100, 100))
    axial = add(tmp_path, "in_phase", z=(-60, 60))
    t2 = add(tmp_path, "multi_echo")
    assert numbers(choose(tmp_path)[1]) == {"multi_echo": t2, "in_phase": axial}
    # 6 mm coronal slices cannot be segmented: only where nothing else is, or it is asked for
    assert numbers(choose(tmp_path, structural_plane="coronal")[1])["in_phase"] == coronal
    assert numbers(choose(tmp_path, roles={"in_phase": coronal})[1])["in_phase"] == coronal


def test_a_thin_coronal_series_is_reformatted(tmp_path):
    coronal = add(tmp_path, "t1w", plane="coronal", z=(-50, 50), step=2.5, pixel=2.0)
    add(tmp_path, "multi_echo")
    series, chosen = choose(tmp_path)
    assert numbers(chosen)["t1w"] == coronal and chosen.plane == "axial" and "reformatted" in chosen.structural_name
    volume = structural_volume(series, chosen)
    assert volume.spacing_mm == pytest.approx([2.0, 2.5, 5.0]) and volume.slice_axis == 2
    assert volume.shape == (100, 48, 20)


def test_what_stands_beside_is_reformatted_too(tmp_path):
    for role in ("in_phase", "fat"):
        add(tmp_path, role, plane="coronal", z=(-50, 50), step=2.5, pixel=2.0)
    add(tmp_path, "multi_echo")
    series, chosen = choose(tmp_path)
    (fat,) = beside_volumes(series, chosen)[0].values()
    assert chosen.plane == "axial" and same_grid(fat, structural_volume(series, chosen))


def test_roles_come_in_the_order_of_the_settings(tmp_path):
    t1w, in_phase = add(tmp_path, "t1w"), add(tmp_path, "in_phase")
    add(tmp_path, "multi_echo")
    assert numbers(choose(tmp_path)[1])["in_phase"] == in_phase
    assert numbers(choose(tmp_path, segment_on=("t1w", "in_phase"))[1])["t1w"] == t1w


def test_an_image_of_another_place_yields_to_the_next_role(tmp_path):
    add(tmp_path, "in_phase", z=(300, 360))
    t1w = add(tmp_path, "t1w")
    add(tmp_path, "multi_echo")
    assert numbers(choose(tmp_path)[1])["t1w"] == t1w


def test_no_overlap_at_all_is_an_error(tmp_path):
    knee = add(tmp_path, "in_phase", z=(-400, -340))
    add(tmp_path, "multi_echo")
    with pytest.raises(StudyError, match=rf"overlaps the T2 stack.*series {knee} \(axial, 0%"):
        choose(tmp_path)


def test_in_phase_is_made_of_water_and_fat(tmp_path):
    for role in ("water", "fat"):
        add(tmp_path, role)
    add(tmp_path, "fat", z=(-30, 42))  # of another grid
    add(tmp_path, "multi_echo")
    series, chosen = choose(tmp_path)
    assert chosen.structural_name == "in_phase (water + fat)"
    water, fat = (series.volume(key) for key in chosen.structural)
    np.testing.assert_array_equal(structural_volume(series, chosen).array, water.array + fat.array)
    assert choose(tmp_path, segment_on=("water",))[1].structural == chosen.structural[:1]


def test_further_dixon_images_of_the_acquisition_stand_beside(tmp_path):
    in_phase, opposed, water, fat = (add(tmp_path, role, pixel=5.0) for role in DIXON_IMAGE_TYPES)
    add(tmp_path, "fat", pixel=5.0, EchoTime=60.0)  # another acquisition
    add(tmp_path, "opposed_phase", z=(-30, 42))  # another grid
    add(tmp_path, "multi_echo")
    series, chosen = choose(tmp_path)
    number = dict(zip(series.key, series.series, strict=True))
    assert numbers(chosen)["in_phase"] == in_phase and [number[key] for key in chosen.beside] == [opposed, fat]
    volumes, notes = beside_volumes(series, chosen)
    assert tuple(volumes) == chosen.beside and not notes
    for key, volume in volumes.items():
        np.testing.assert_array_equal(volume.array, series.volume(key).array)
    assert choose(tmp_path, segment_beside=())[1].beside == ()
    _, chosen = choose(tmp_path, segment_beside=("water", "in_phase"))
    assert [number[key] for key in chosen.beside] == [water]  # never the image itself


def test_of_water_and_fat_the_fat_tells_more_than_the_sum(tmp_path):
    add(tmp_path, "water", pixel=5.0)
    fat = add(tmp_path, "fat", pixel=5.0)
    add(tmp_path, "multi_echo")
    series, chosen = choose(tmp_path)
    assert chosen.structural_name == "in_phase (water + fat)"
    assert list(series.set_index("key").series[list(chosen.beside)]) == [fat]
    beside = beside_volumes(series, chosen)[0]
    water = series.volume(chosen.structural[0]).array.astype(float)
    share = fat_fraction_beside(chosen, structural_volume(series, chosen), beside)
    signal = np.isfinite(share)
    np.testing.assert_allclose(share[signal], 1 - (water / (water + beside[chosen.fat].array))[signal], atol=1e-5)


def test_a_fat_image_beside_tells_the_fat_fraction(tmp_path):
    for role in DIXON_IMAGE_TYPES:
        add(tmp_path, role, pixel=5.0)
    add(tmp_path, "multi_echo")

    def told(**options):
        series, chosen = choose(tmp_path, **options)
        structural = structural_volume(series, chosen)
        return fat_fraction_beside(chosen, structural, beside_volumes(series, chosen)[0]), series, structural.array

    share, series, in_phase = told()
    fat = series.volume(series.key[series.role == "fat"].item()).array.astype(float)
    signal = in_phase > 0.06 * np.percentile(in_phase, 99)
    np.testing.assert_allclose(share[signal], (fat / np.maximum(in_phase, 1))[signal], rtol=1e-5)
    assert np.isnan(share[~signal]).all() and 0 < (~signal).sum() < signal.sum()
    share, _, water = told(segment_on=("water",))
    total = water + fat
    np.testing.assert_allclose(share[total > 200], (fat / np.maximum(total, 1))[total > 200], rtol=1e-5)
    for options in ({"segment_on": ("opposed_phase",)}, {"segment_beside": ("opposed_phase",)}, {"segment_beside": ()}):
        assert told(**options)[0] is None


def test_of_two_acquisitions_none_stands_beside_the_others_image(tmp_path):
    for uid in ("1.2.1", "1.2.2"):  # the patient left the table in between
        in_phase, opposed = (add(tmp_path, role, FrameOfReferenceUID=uid) for role in ("in_phase", "opposed_phase"))
    add(tmp_path, "multi_echo", FrameOfReferenceUID="1.2.2")
    series, chosen = choose(tmp_path)
    assert numbers(chosen)["in_phase"] == in_phase
    assert list(series.set_index("key").series[list(chosen.beside)]) == [opposed]
    again = add(tmp_path, "opposed_phase", FrameOfReferenceUID="1.2.2")  # after contrast agent, perhaps
    _, chosen = choose(tmp_path)
    assert chosen.beside == ()
    assert f"no opposed_phase image helped to make the mask, for several would do: series {opposed}, {again}" \
        in chosen.notes


def test_a_further_image_that_cannot_be_used_is_left_out_and_told(tmp_path):
    _, below, fat = (add(tmp_path, role, pixel=5.0) for role in ("in_phase", "opposed_phase", "fat"))
    add(tmp_path, "multi_echo")
    for path in (tmp_path / f"{below:03d}").iterdir():
        edit(path, RescaleSlope=1, RescaleIntercept=-500)
    series, chosen = choose(tmp_path)
    volumes, notes = beside_volumes(series, chosen)
    assert list(series.set_index("key").series[list(volumes)]) == [fat]
    assert len(notes) == 1 and notes[0].startswith(f"series {below} did not help to make the mask: Found ")
    assert "negative voxels" in notes[0]


def test_another_labs_model_is_given_one_image(tmp_path):
    for role in ("in_phase", "fat", "multi_echo"):
        add(tmp_path, role)
    assert len(choose(tmp_path)[1].beside) == 1
    assert choose(tmp_path, segmentation_model="model.toml")[1].beside == ()


def test_beside_what_is_no_dixon_image_stands_none(tmp_path):
    for role in ("t2w", "fat", "opposed_phase"):
        add(tmp_path, role, **PHYSICS["t2w"])
    add(tmp_path, "multi_echo")
    assert choose(tmp_path, segment_on=("t2w",))[1].beside == ()


def test_multi_echo_series_at_different_places_are_asked_for(tmp_path):
    thigh, calf = add(tmp_path, "multi_echo"), add(tmp_path, "multi_echo", z=(-430, -370))
    add(tmp_path, "in_phase", z=(-18, 60))  # covers part of the one, which must not make the other the better
    add(tmp_path, "in_phase", z=(-460, -340))
    listed = rf"different places.*series {thigh} \(axial, z from -30 to 30 mm\); series {calf} .*multi_echo = "
    with pytest.raises(StudyError, match=listed):
        choose(tmp_path)
    assert numbers(choose(tmp_path, roles={"multi_echo": thigh})[1])["multi_echo"] == thigh


def test_of_overlapping_multi_echo_series_the_one_with_an_image_beside_it(tmp_path):
    add(tmp_path, "multi_echo", z=(24, 84))
    thigh = add(tmp_path, "multi_echo")
    add(tmp_path, "in_phase", z=(-60, 36))
    assert numbers(choose(tmp_path)[1])["multi_echo"] == thigh
    again = add(tmp_path, "multi_echo")
    with pytest.raises(StudyError, match=rf"2 series of the role multi_echo.*series {thigh} .*series {again} "):
        choose(tmp_path)


def test_the_scanners_map_where_there_are_no_echoes_or_it_is_asked_for(tmp_path):
    t2_map, _ = add(tmp_path, "t2_map"), add(tmp_path, "in_phase")
    assert choose(tmp_path)[1].t2_source == "scanner_map"
    with pytest.raises(StudyError, match=r"'t2_map'.*expected a multi-echo spin-echo series and"):
        choose(tmp_path, t2_source="echoes")
    add(tmp_path, "multi_echo")
    assert choose(tmp_path)[1].t2_source == "echoes"
    _, chosen = choose(tmp_path, t2_source="scanner_map")
    assert numbers(chosen)["t2_map"] == t2_map


def test_the_same_frame_of_reference_is_preferred(tmp_path):
    frames = {"FrameOfReferenceUID": "1.2.3"}, {"FrameOfReferenceUID": "1.2.4"}
    add(tmp_path, "in_phase", z=(-60, 60), **frames[0])
    small = add(tmp_path, "in_phase", z=(-12, 12), **frames[1])
    add(tmp_path, "multi_echo", **frames[1])
    assert numbers(choose(tmp_path)[1])["in_phase"] == small


def test_one_b1_map_is_kept_and_two_are_told(tmp_path):
    add(tmp_path, "in_phase"), add(tmp_path, "multi_echo")
    b1 = add(tmp_path, "b1_map", pixel=20.0)
    assert numbers(choose(tmp_path)[1])["b1_map"] == b1
    add(tmp_path, "b1_map")
    _, chosen = choose(tmp_path)
    assert chosen.b1_map is None and "no B1 map was kept" in chosen.notes[0]


def test_two_of_one_number_are_named_by_key(tmp_path):
    uid = {"SeriesInstanceUID": "1.2.3.9", "number": 77}
    add(tmp_path, "multi_echo")
    add(tmp_path, "in_phase", **uid)
    for path in list((tmp_path / "077").iterdir()):
        edit(path, ImageType=["ORIGINAL", "PRIMARY", "DIXON", "IN_PHASE", "NORM"])
    (tmp_path / "077").rename(tmp_path / "filtered")
    add(tmp_path, "in_phase", **uid)
    with pytest.raises(StudyError, match=r'in_phase = "[0-9a-f]{12}"') as caught:
        choose(tmp_path)
    key = str(caught.value).split('in_phase = "')[1][:12]
    assert choose(tmp_path, roles={"in_phase": key})[1].structural == (key,)


def test_coverage_counts_volume_to_the_voxel_edges():
    stack = Volume(np.zeros((10, 10, 10)), np.diag([2.0, 2, 5, 1]))
    half = np.diag([2.0, 2, 5, 1])
    half[:3, 3] = 10, 0, 0  # five voxels along x
    assert coverage(stack, stack) == 1
    assert coverage(Volume(stack.array, half), stack) == pytest.approx(0.5)
    quarter = half.copy()
    quarter[:3, 3] = 10, 0, -25
    assert coverage(Volume(stack.array, quarter), stack) == pytest.approx(0.25)


def test_series_of_two_patients_are_not_used_together(tmp_path):
    add(tmp_path, "multi_echo")
    number = add(tmp_path, "in_phase")
    for path in (tmp_path / f"{number:03d}").iterdir():
        edit(path, PatientID="ID-4711", PatientName="Doe^Jane")
    with pytest.raises(StudyError, match="of different patients") as caught:
        choose(tmp_path)
    assert "4711" not in str(caught.value) and "Doe" not in str(caught.value)


def test_an_unknown_frame_of_reference_is_told(tmp_path):
    add(tmp_path, "multi_echo")
    number = add(tmp_path, "in_phase")
    assert choose(tmp_path)[1].notes == ()
    for path in (tmp_path / f"{number:03d}").iterdir():
        edit(path, FrameOfReferenceUID=None)
    assert "frame of reference is not known" in choose(tmp_path)[1].notes[0]


@pytest.mark.parametrize("facts", [{"RepetitionTime": 4000}, {"EchoTime": 80.0}, {"ScanningSequence": "SE"}])
def test_no_in_phase_image_of_two_acquisitions(facts, tmp_path):
    same = {"ScanningSequence": "GR", "RepetitionTime": 4, "EchoTime": 1.2}
    add(tmp_path, "water", **same), add(tmp_path, "multi_echo")
    add(tmp_path, "fat", **{**same, **facts})
    assert choose(tmp_path)[1].structural_name == "water"
    add(tmp_path, "fat", **same)
    assert choose(tmp_path)[1].structural_name == "in_phase (water + fat)"


@pytest.mark.parametrize(("facts", "times", "n_groups"), [
    ({"ScanningSequence": "GR"}, (1.5, 1.5), 1), ({"ScanningSequence": "GR"}, (1.2, 40.0), 0),
    ({"ScanningSequence": "SE"}, (51.0, 51.0), 1), ({"ScanningSequence": "SE"}, (10.0, 40.0), 0),  # PD and T2
])
def test_images_without_a_name_are_of_one_acquisition_or_left_alone(facts, times, n_groups, tmp_path):
    add(tmp_path, "multi_echo")
    for time in times:
        add(tmp_path, "unnamed", RepetitionTime=3000, EchoTime=time, **facts)
    series = read_dicom(tmp_path)
    stack = series.grid("multi_echo")
    assert len(_unnamed_groups(series, series, stack, Settings())) == n_groups


def test_two_images_of_one_echo_time_are_not_called_in_and_opposed_phase(tmp_path, monkeypatch):
    """Before and after contrast agent: brighter everywhere, and by much in some places."""
    monkeypatch.setattr(study_candidates, "tell_dixon", lambda *_, **__: (("opposed_phase", "in_phase"), 1.0))
    add(tmp_path, "multi_echo"), add(tmp_path, "t1w"), add(tmp_path, "t1w")
    with pytest.raises(StudyError, match="2 images of the role t1w"):
        choose(tmp_path)


@pytest.mark.parametrize(("role", "of", "says"), [
    ("multi_echo", "in_phase", "has 1 echo; expected several echoes"),
    ("in_phase", "multi_echo", "has 4 echoes; expected one image"),
])
def test_a_stated_series_must_have_what_its_role_takes(role, of, says, tmp_path):
    number = {name: add(tmp_path, name) for name in ("in_phase", "multi_echo")}[of]
    with pytest.raises(StudyError, match=rf"series {number} for the role {role}.*{says}"):
        choose(tmp_path, roles={role: number})
