"""Training: images follow from the seed, labels lie on them, and a resumed training is the same training."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

from mrmyo import training, training_anatomy, training_images, training_scenes
from mrmyo.__main__ import main
from mrmyo.labels import MUSCLES
from mrmyo.segmentation import KIND, build_network, load_model, normalise
from mrmyo.segmentation_network import read_weights
from mrmyo.training_anatomy import UNITS_MM, Library, build_library, fields_of
from mrmyo.training_blends import BONE, COMPARTMENT, N_FIELDS, between, blend, find_partners
from mrmyo.training_images import draw_batch, normalise_batch
from mrmyo.training_maps import Stack, fold_of, read_stacks, write_stacks
from mrmyo.training_negatives import draw_negative
from mrmyo.training_scores import score_sections

CHANNELS = (8, 8, 8, 8, 8, 8)


@pytest.fixture(scope="module")
def library():
    return build_library([], parametric=24, negatives=8, workers=1, progress=False)


@pytest.fixture(scope="module")
def drawn(library):
    thighs = np.flatnonzero(library.kind == 1)
    return draw_batch(library, 7, 0, 24, among=thighs)


def disc(x, y, radius):
    i, j = np.indices((224, 224)) - 111.5
    return np.hypot(i - x, j - y) < radius


def drawn_stack():
    """A thigh of discs: three vasti around the femur, hamstrings behind, over eight sections."""
    labels = np.zeros((8, 224, 224), np.uint8)
    for k in range(8):
        for value, (x, y, r) in {1: (-30, 25, 18), 3: (-12, 38, 12), 2: (15, 32, 16), 4: (0, 60, 9), 7: (20, -15, 16),
                                 10: (5, -45, 12), 12: (-30, -25, 10)}.items():
            labels[k][disc(x, y + 2 * k, r)] = value
    z = 20.0 * np.arange(8)
    return Stack("THIGH_001_0001/L", labels, z.astype(np.float32), ((z - 40) / 50).astype(np.float32))


def test_images_follow_from_the_seed(library):
    first, again, other = (draw_batch(library, 3, step, 2) for step in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (2, 1, 192, 192) and first[1].shape == first[2].shape == (2, 192, 192)
    assert first[1].max() <= 14 and first[2].max() <= 3 and first[3].shape == (2,)


def test_labels_lie_on_the_image(drawn):
    dark = seen = 0
    for image, labels in zip(drawn[0][:, 0].numpy(), drawn[1].numpy(), strict=True):
        bone = labels == 14
        shell = bone & ~ndimage.binary_erosion(bone, iterations=2)
        if bone.sum() > 60:
            dark += np.median(image[shell]) < np.median(image[labels > 0])
            seen += 1
            assert ndimage.label(bone)[1] == 1  # the other thigh's femur is not labelled
    assert seen >= 18 and dark >= 0.75 * seen


def test_tissue_agrees_with_the_labels(drawn):
    labels, tissue = drawn[1], drawn[2]
    torch.testing.assert_close((tissue == 1), (labels > 0) & (labels < 14))
    torch.testing.assert_close((tissue == 2), labels == 14)
    assert (tissue[:, 0, :] == 0).float().mean() > 0.3 and (tissue == 3).float().mean() > 0.05


def test_contrast_is_random(drawn):
    ratios = [float(i[x == 3].median() / i[x == 1].median()) for i, x in zip(drawn[0][:, 0], drawn[2], strict=True)]
    assert min(ratios) < 0.7 and max(ratios) > 1.5


def test_negatives_are_images_without_labels(library):
    images, labels, tissue, scope = draw_batch(library, 0, 0, 6, among=np.flatnonzero(library.kind == 2))
    assert not labels.any() and not scope.any() and set(tissue.unique().tolist()) <= {-100, 0, 3}
    assert (images.std((1, 2, 3)) > 0).all()


def test_batches_are_normalised_as_images_are_when_segmenting():
    images = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(1)) ** 4
    images[:, :60] *= 0.02
    np.testing.assert_allclose(normalise_batch(images).numpy(), normalise(images.numpy()), rtol=2e-3)


def test_a_share_falls_across_the_border_as_the_area_of_the_pixel():
    distance = torch.tensor([-2.0, -0.5, 0.0, 0.25, 2.0])
    torch.testing.assert_close(training_scenes._cover(distance, 1.0), torch.tensor([0, 0, 0.5, 0.75, 1.0]))


def test_an_undeformed_scene_shows_the_muscles_where_the_section_has_them(library):
    index = int(np.flatnonzero(library.kind == 1)[0])
    dice = training_scenes.Dice(0, 1, torch.device("cpu"))
    dice.normal = lambda *shape: torch.zeros(1, *shape)  # neither moved nor turned
    fields = library.fields[index] * UNITS_MM[:, None, None]
    scene = training_scenes.draw_scene(dice, torch.as_tensor(fields[None]), deform=0.0)
    area = [((fields[m] > 0).sum() + 0.5 * (fields[m] == 0).sum()) * 4 for m in range(13)]
    found = [int((scene.labels == m + 1).sum()) * 1.25**2 for m in range(13)]
    for a, b in zip(area, found, strict=True):
        assert a < 400 or 0.8 < b / a < 1.1  # septa may narrow them
    assert 0.93 < sum(found) / sum(area) < 1.03


def test_fields_are_signed_distances():
    (field,) = fields_of([disc(10, -20, 30)])
    x, y = training_anatomy.X, training_anatomy.Y
    expected = 30 - np.hypot(x - 10, y + 20)
    near = np.abs(expected) < 15
    np.testing.assert_allclose(field[near], expected[near], atol=0.8)


def test_between_two_slices_a_muscle_lies_half_way():
    a, b = fields_of([disc(-20, 0, 8), disc(20, 0, 12)])
    a, b = (torch.from_numpy(field)[None, None] for field in (a, b))
    middle = between(a, b, torch.full((1, 1), 0.5))[0, 0].numpy()
    np.testing.assert_allclose(ndimage.center_of_mass(middle > 0), [55.5, 55.5], atol=0.6)
    assert np.sqrt((middle > 0).sum() * 4 / np.pi) == pytest.approx(10, abs=0.8)
    for t, whole in ((0.0, a), (1.0, b)):
        torch.testing.assert_close(between(a, b, torch.full((1, 1), t)), whole, rtol=0, atol=1e-3)
    none = torch.full_like(b, -31)
    for ends in (between(b, none, torch.full((1, 1), 0.6)), between(none, b, torch.full((1, 1), 0.4))):
        assert not (ends > 0).any()  # a muscle that only one of them has, ends half-way
    assert (between(none, b, torch.full((1, 1), 0.9)) > 0).any()
    moved = between(a, b, torch.zeros(1, 1), torch.tensor([[[3.0, -5.0]]]))[0, 0]
    np.testing.assert_allclose(ndimage.center_of_mass(moved.numpy() > 0), [48.5, 50.5], atol=0.1)


def test_blends_are_of_other_people_at_the_same_level():
    rng = np.random.default_rng(0)
    kind, stack = np.repeat([0, 1, 2], [40, 10, 10]), np.r_[np.repeat([0, 1, 2, 3], 10), np.full(20, -1)]
    level = np.r_[np.tile(np.linspace(0, 1.8, 10), 4), rng.uniform(0, 0.1, 20)]
    library = Library(np.zeros((60, 1)), kind, stack, level)
    picked = np.arange(60)
    partners = find_partners(library, picked, rng)
    assert (partners[kind == 2] == picked[kind == 2]).all()  # what is no thigh is not blended
    assert (stack[partners[:40]] != stack[:40]).all() and (partners[40:50] != picked[40:50]).all()
    assert (kind[partners] == kind).all() and np.abs(level[partners] - level).max() < 0.15


def test_blended_thighs_are_new_and_whole(library):
    thighs = torch.as_tensor(library.fields[library.kind == 1] * UNITS_MM[:, None, None])
    dice = training_scenes.Dice(3, 12, torch.device("cpu"))
    made = blend(dice, thighs[:12], thighs[12:])
    assert torch.isfinite(made).all()
    assert (made[:, COMPARTMENT] >= made[:, :13].amax(1) + 0.69).all()  # no muscle outside the fascia
    area, before = ((fields[:, :13].amax(1) > 0).float().sum((1, 2)) for fields in (made, thighs[:12]))
    assert (area > 0.5 * before).all() and (area != before).any()


def test_a_map_is_completed_with_femur_fascia_and_adductors():
    library = build_library([drawn_stack()], parametric=0, negatives=0, workers=1, progress=False)
    assert library.fields.shape[1] == N_FIELDS and len(library.fields) == 15  # one between each two of eight
    fields = library.fields * UNITS_MM[:, None, None]
    muscles = fields[:, :13].max(1) > 0
    assert (fields[:, COMPARTMENT][muscles] > 0).all()
    x, y = training_anatomy.X, training_anatomy.Y
    for bone, muscle in zip(fields[:, BONE] > 0, muscles, strict=True):
        assert -25 < x[bone].mean() < 10 and 5 < y[bone].mean() < 50  # in the hollow of the vasti
        assert (bone & muscle).sum() < 0.2 * bone.sum()
    adductors = (fields[:, 7] > 0).sum((1, 2)) + (fields[:, 12] > 0).sum((1, 2))
    assert not adductors[library.level < 0.8].any() and adductors[library.level > 0.8].any()


def test_maps_survive_the_file(tmp_path):
    stack = drawn_stack()
    (again,) = read_stacks(write_stacks([stack], tmp_path / "stacks.npz"))
    assert again.name == stack.name and again.subject == "THIGH_001"
    np.testing.assert_array_equal(again.labels, stack.labels)
    np.testing.assert_array_equal(again.level, stack.level)
    with pytest.raises(ValueError, match="no label map"):
        read_stacks(tmp_path)


def test_no_person_is_on_both_sides():
    names = ["THIGH_022_0001/L", "THIGH_022_0002/R", "THIGH_026_0000/L", "HV002_2_0000/L", "HV002_1_0000/R"]
    stacks = [Stack(name, *np.zeros((3, 1))) for name in names]
    fold = fold_of(stacks, 3)
    assert fold[0] == fold[1] and fold[3] == fold[4] and len(set(fold)) == 3


def test_negative_fields_have_bellies_inside_the_outline():
    grid = np.meshgrid(*(training_anatomy.GRID,) * 2, indexing="ij")
    for seed in range(8):
        fields = draw_negative(np.random.default_rng(seed), *grid, len(MUSCLES))
        assert fields.shape == (N_FIELDS, 112, 112) and np.isfinite(fields).all()
        assert not ((fields[:13] > 0).any(0) & (fields[-1] < 0)).any()


def test_loss_is_cross_entropies_plus_soft_dice():
    rng = np.random.default_rng(0)
    tissues, names, scope = rng.normal(size=(2, 4, 5, 6)), rng.normal(size=(2, 13, 5, 6)), rng.normal(size=2)
    labels = rng.choice([0, 1, 2, 14], (2, 5, 6))
    tissue = np.select([labels == 14, labels > 0], [2, 1], 3)
    t, m = (np.exp(a) / np.exp(a).sum(1, keepdims=True) for a in (tissues, names))
    pick = np.moveaxis(np.eye(4)[tissue], -1, 1)
    expected = -np.log((t * pick).sum(1)).mean()
    muscle = tissue == 1
    expected += 0.5 * -np.log(np.take_along_axis(m, np.maximum(labels - 1, 0)[:, None] % 13, 1)[:, 0][muscle]).mean()
    share = {value: t[:, 1] * m[:, value - 1] for value in (1, 2)} | {14: t[:, 2]}
    expected += 1 - np.mean([(2 * p[labels == v].sum() + 1) / (p.sum() + (labels == v).sum() + 1)
                             for v, p in share.items()])
    expected += 0.1 * np.mean(np.log1p(np.exp(-scope * np.array([1, -1]))))
    out = [torch.tensor(a) for a in (tissues, names, scope)]
    found = training.loss_of(out, torch.tensor(labels), torch.tensor(tissue), torch.tensor([1.0, 0.0]))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_heads_multiply_to_probabilities():
    network = build_network(channels=CHANNELS, kind=KIND).eval()
    probability, scope = network.probabilities(torch.rand(2, 1, 192, 192))
    assert probability.shape == (2, 15, 192, 192) and scope.shape == (2,)
    torch.testing.assert_close(probability.sum(1), torch.ones(2, 192, 192))


def test_a_few_steps_reduce_the_loss_on_one_batch(library):
    batch = draw_batch(library, 0, 0, 4)
    state = training._begin(None, {"seed": 0, "channels": CHANNELS}, torch.device("cpu"))
    losses = [float(training._descend(state, batch, 3e-3)) for _ in range(12)]
    assert losses[-1] < 0.85 * losses[0]


def test_scores_of_an_untrained_network_are_low(library):
    network = build_network(channels=CHANNELS, kind=KIND).eval()
    scores = score_sections(network, library, n=8, batch_size=4)
    assert scores["mean_of_11"] < 0.2 and set(scores["muscle_dice"]) == {row[1] for row in MUSCLES}


def test_a_resumed_training_gives_exactly_the_same_weights(tmp_path, monkeypatch, library):
    monkeypatch.setattr(training, "build_library", lambda *_, **__: library)
    options = {"steps": 3, "seed": 5, "batch_size": 2, "workers": 0, "channels": CHANNELS, "progress": False,
               "device": "cpu"}
    whole = training.train(tmp_path / "whole", **options)
    broken = training.train(tmp_path / "broken", minutes=0, **options)  # stops after one step
    assert broken.read_bytes() != whole.read_bytes()
    while len((tmp_path / "broken" / "curve.csv").read_text().splitlines()) < 4:
        training.train(tmp_path / "broken", minutes=0, **options)
    assert broken.read_bytes() == whole.read_bytes()
    assert (tmp_path / "broken" / "curve.csv").read_text() == (tmp_path / "whole" / "curve.csv").read_text()
    assert load_model(whole).card["architecture"]["kind"] == KIND
    with pytest.raises(ValueError, match="was made with"):
        training.train(tmp_path / "broken", **{**options, "seed": 6})


def test_a_training_may_start_from_another_model(tmp_path, monkeypatch, library):
    monkeypatch.setattr(training, "build_library", lambda *_, **__: library)
    options = {"steps": 1, "batch_size": 2, "workers": 0, "channels": CHANNELS, "progress": False, "device": "cpu"}
    first = training.train(tmp_path / "first", seed=1, **options)
    state = training._begin(None, {"seed": 2, "channels": CHANNELS}, torch.device("cpu"), first)
    for name, value in read_weights(first).items():
        torch.testing.assert_close(state["network"].state_dict()[name], value)
    second = training.train(tmp_path / "second", seed=2, start=first, **options)
    assert load_model(second).card["training"]["start"] == load_model(first).hash
    with pytest.raises(ValueError, match="was made with"):  # resumed without naming what it started from
        training.train(tmp_path / "second", seed=2, **options)
    card = load_model(second).card
    assert card["data"].count("no image of a person") == 2 and load_model(first).hash in card["data"]
    with pytest.raises(ValueError, match="did not leave out THIGH_061"):
        training.train(tmp_path / "third", seed=2, start=first, leave_out=["THIGH_061"], **options)
    with pytest.raises(ValueError, match="another folder"):
        training.train(tmp_path / "first", seed=2, start=first, **options)
    with pytest.raises(ValueError, match="the same channels"):
        training.train(tmp_path / "third", seed=2, start=first, **{**options, "channels": (8, 8, 8, 8, 8, 16)})


def test_images_are_cut_to_several_sizes_about_their_middle(library):
    batch = draw_batch(library, 7, 0, 2)
    sizes = {training._cut(batch, 7, step)[0].shape[-1] for step in range(60)}
    assert sizes == set(training.SIZES)
    cuts = (training._cut(batch, 7, step) for step in range(60))
    images, labels, tissue, scope = next(cut for cut in cuts if cut[0].shape[-1] == 128)
    torch.testing.assert_close(images, batch[0][..., 32:160, 32:160])
    torch.testing.assert_close(labels, batch[1][:, 32:160, 32:160])
    assert tissue.shape == labels.shape and torch.equal(scope, batch[3])


def test_the_command_line_trains_with_maps_and_scores_those_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "score_sections", partial(score_sections, n=4, batch_size=4))
    monkeypatch.setattr(training, "build_library", lambda stacks, **_: build_library(
        stacks[:1], parametric=2, negatives=2, workers=1, progress=False))
    names = [f"THIGH_00{i}_0001/L" for i in range(5)]
    stack = drawn_stack()
    maps = write_stacks([Stack(name, stack.labels, stack.z_mm, stack.level) for name in names], tmp_path / "maps.npz")
    assert main(["train", str(tmp_path / "out"), "--label-maps", str(maps), "--hold-out", "1", "--steps", "1",
                 "--batch-size", "2", "--device", "cpu", "--channels", *map(str, CHANNELS)]) == 0
    assert (tmp_path / "out" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    kept, held, data = training._libraries(maps, ["THIGH_002"], 0, 0, False)
    assert "3 label maps of 3 persons" in data  # of five, one left out and one held out
    assert {stack for stack in kept.stack if stack >= 0} == {0} and len(held.stack)
    with pytest.raises(ValueError, match="no THIGH_009 to leave out"):
        training._libraries(maps, ["THIGH_009"], None, 0, False)
    card = load_model(tmp_path / "out" / "thigh_vnet.safetensors").card
    assert "Apache" in card["data"] and 0 <= next(iter(card["scores"].values()))["mean_of_11"] <= 1


def test_learning_rate_rises_then_falls_to_nothing():
    rates = [training._rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == pytest.approx(1.0) and int(np.argmax(rates)) in (4, 5)
    assert np.all(np.diff(rates[5:]) < 0) and rates[-1] < 0.001


def test_every_thigh_is_as_likely_as_any_other():
    kind, stack = np.repeat([0, 1, 2], [60, 20, 20]), np.concatenate([np.zeros(50), np.ones(10), -np.ones(40)])
    library = Library(np.zeros((100, 1)), kind, stack.astype(int), np.zeros(100))
    picked = training_images._pick(library, np.random.default_rng(0), 16000)
    assert np.mean(picked < 50) == pytest.approx(np.mean((picked >= 50) & (picked < 60)), abs=0.03)
    assert np.mean(picked >= 80) == pytest.approx(training_images.SHARE["negative"], abs=0.02)


@pytest.mark.realdata
def test_real_maps_are_read_as_left_thighs(real_data):
    stacks = read_stacks(real_data / "thigh_labels")
    assert len(stacks) == 58 and len({stack.subject for stack in stacks}) == 26
    for stack in stacks:
        middle = stack.labels[np.abs(stack.level - 0.5).argmin()]
        place = {value: np.argwhere(middle == value).mean(0) for value in (1, 2, 4, 10)}
        assert place[1][0] < place[2][0]  # the vastus lateralis lies laterally
        assert place[4][1] > place[10][1]  # the rectus femoris in front of the semitendinosus
