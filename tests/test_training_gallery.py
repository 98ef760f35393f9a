"""What the notebook shows of training is what training draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrmyo.labels import FEMUR, MUSCLES
from mrmyo.segmentation import CROP, KIND, Model, build_network
from mrmyo.training_gallery import draw_contrasts, draw_gallery, gallery_library, name_muscles, score_gallery
from mrmyo.training_images import draw_batch


@pytest.fixture(scope="module")
def library():
    return gallery_library(parametric=4, negatives=3)


def test_without_label_maps_the_drawn_anatomy_is_all_there_is(library):
    assert np.bincount(library.kind, minlength=3).tolist() == [0, 4, 3]


def test_anatomy_and_contrast_have_seeds_of_their_own(library):
    first, again = (draw_gallery(library, n=3, anatomy=1, contrast=2) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    other = draw_gallery(library, n=3, anatomy=1, contrast=3)
    assert not np.allclose(first.images, other.images)
    # metal and the edge of the image hide labels by chance, and nothing else may change them
    both = (first.labels > 0) & (other.labels > 0)
    assert both.sum() > 5000 and (first.labels == other.labels)[both].all()
    np.testing.assert_allclose(first.fat, other.fat, atol=0.05)
    assert not np.array_equal(first.labels, draw_gallery(library, n=3, anatomy=4, contrast=2).labels)


def test_one_thigh_in_many_contrasts_is_one_thigh(library):
    drawn = draw_contrasts(library, 0, n=4, anatomy=3)
    assert drawn.images.shape == drawn.labels.shape == (4, CROP, CROP)
    for image, labels in zip(drawn.images[1:], drawn.labels[1:], strict=True):
        both = (labels > 0) & (drawn.labels[0] > 0)
        assert (labels == drawn.labels[0])[both].all()
        assert not np.allclose(image, drawn.images[0])


def test_images_are_of_the_kind_that_training_draws(library):
    drawn = draw_gallery(library, kind="parametric", n=16, deform=1.0)  # there are four: some come more than once
    batch = draw_batch(library, 5, 0, 16, among=np.flatnonzero(library.kind == 1))
    for mine, theirs in ((drawn.images, batch[0].numpy()), (drawn.labels > 0, (batch[1] > 0).numpy())):
        assert mine.mean() == pytest.approx(theirs.mean(), rel=0.35)
    assert set(np.unique(drawn.labels)) <= {*range(14), FEMUR["left"]} and FEMUR["left"] in drawn.labels
    assert drawn.kind == ("parametric",) * 16
    assert np.nanmin(drawn.fat) >= 0 and np.nanmax(drawn.fat) < 1


def test_what_is_no_thigh_has_no_labels(library):
    drawn = draw_gallery(library, kind="negative", n=3)
    assert not drawn.labels.any() and np.isnan(drawn.fat).all() and set(drawn.kind) == {"negative"}


def test_kinds_that_are_not_there_are_refused(library):
    with pytest.raises(ValueError, match="'map'"):
        draw_gallery(library, kind="maps")
    with pytest.raises(ValueError, match="no section of the kind map"):
        draw_gallery(library, kind="map")


def test_dice_of_the_truth_is_one_and_of_a_shifted_one_lower(library):
    drawn = draw_gallery(library, n=4)
    rows = score_gallery(drawn, drawn.labels)
    assert (rows.dice == 1).all() and rows.area_cm2.min() >= 1
    row = rows.iloc[0]
    pixels = drawn.labels[row.image] == [entry[1] for entry in MUSCLES].index(row.abbreviation) + 1
    assert row.area_cm2 == pytest.approx(pixels.sum() * 1.25**2 / 100)
    shifted = np.roll(drawn.labels, 5, 1)
    worse = score_gallery(drawn, shifted).iloc[0].dice
    both = (pixels & np.roll(pixels, 5, 0)).sum()
    assert worse == pytest.approx(both / pixels.sum()) and worse < 1


def test_the_network_is_asked_as_it_is_when_segmenting(library):
    network = build_network(channels=(8, 8, 8, 8, 8, 8), kind=KIND).eval()
    drawn = draw_gallery(library, n=10)  # more than a batch
    labels, scope = name_muscles(drawn.images, model=Model(network, {}, "0"))
    with torch.inference_mode():
        probability, expected = network.probabilities(torch.from_numpy(drawn.images)[:, None])
    classes = probability.argmax(1).numpy()
    agree = np.where(classes == 14, FEMUR["left"], classes) == labels
    assert agree.mean() > 0.999 and scope == pytest.approx(expected.numpy(), abs=1e-4)


def test_the_shipped_network_names_most_of_what_it_was_trained_on(library):
    drawn = draw_gallery(library, n=4, deform=0.5)
    labels, scope = name_muscles(drawn.images)
    assert score_gallery(drawn, labels).dice.median() > 0.7 and scope.min() > 0.5


@pytest.mark.realdata
def test_a_few_real_maps_make_a_few_sections(real_data):
    library = gallery_library(real_data / "thigh_labels", maps=1, parametric=0, negatives=0)
    assert 4 <= len(library.kind) <= 30 and not library.kind.any()
    assert len(set(library.stack)) == 2  # both thighs
    assert (draw_gallery(library, kind="map", n=2).labels > 0).mean() > 0.05
