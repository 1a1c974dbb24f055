"""Random changes of whole batches equal those of one image at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paramdiff.errors import ConfigError
from paramdiff.seeds import generator
from paramdiff.tasks.augment import MOST_STRETCH, Augment


def random_images(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    shape = (n, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator("images"), dtype=torch.uint8)


@settings(deadline=None, max_examples=25)
@given(crop=st.integers(0, 3), flip=st.booleans(), side=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_batch_equals_one_image_at_a_time(crop: int, flip: bool, side: int, seed: int):
    images, augment = random_images(6, 2, side, side + 1), Augment(crop, flip)
    drawn = augment.draw(6, (2, side, side + 1), seed)
    result = augment.apply(images, drawn)
    for image, changed, (top, left, mirrored) in zip(images, result, drawn.T.tolist(), strict=True):
        padded = torch.zeros(2, side + 2 * crop, side + 1 + 2 * crop, dtype=torch.uint8)
        padded[:, crop : crop + side, crop : crop + side + 1] = image
        expected = padded[:, top : top + side, left : left + side + 1]
        assert torch.equal(changed, expected.flip(-1) if mirrored else expected)
        assert flip or not mirrored


def test_every_place_and_both_sides_are_drawn():
    top, left, flip = Augment(crop=2, flip=True).draw(1000, (1, 8, 8), 0)
    assert set(top.tolist()) == set(left.tolist()) == set(range(5))
    assert 400 < int(flip.sum()) < 600


def test_draws_follow_from_the_key():
    augment = Augment(crop=2, flip=True, zoom=0.5)
    first, again, other = (augment.draw(9, (3, 8, 8), seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_zoom_leaves_the_other_draws_as_they_are():
    plain, zoomed = (Augment(crop=2, flip=True, zoom=zoom).draw(9, (3, 8, 8), 1) for zoom in (1.0, 0.5))
    assert torch.equal(plain, zoomed[:3]) and len(zoomed) == 7


@settings(deadline=None, max_examples=25)
@given(zoom=st.floats(0.05, 0.99), height=st.integers(1, 40), width=st.integers(1, 40))
def test_zoomed_parts_lie_inside_the_image(zoom: float, height: int, width: int):
    top, left, tall, wide = Augment(zoom=zoom).draw(50, (1, height, width), 3)[3:]
    assert int(top.min()) >= 0 and int(left.min()) >= 0
    assert int(tall.min()) >= 1 and int(wide.min()) >= 1
    assert bool((top + tall <= height).all()) and bool((left + wide <= width).all())


def test_zoomed_parts_have_the_area_and_stretch_they_should():
    _, _, tall, wide = Augment(zoom=0.25).draw(4000, (1, 400, 400), 3)[3:].double()
    uncut = (tall < 400) & (wide < 400)
    area, stretch = (tall * wide / 400**2)[uncut], (wide / tall)[uncut]
    assert 0.24 < float(area.min()) < 0.28
    assert float(stretch.min()) > 1 / MOST_STRETCH - 0.01 and float(stretch.max()) < MOST_STRETCH + 0.01


def test_zooming_is_bilinear_resizing_of_a_part():
    images = random_images(2, 3, 12, 16)
    drawn = torch.tensor([[0, 0, 0, 3, 4, 6, 8], [0, 0, 0, 0, 0, 12, 16]]).T
    zoomed = Augment(zoom=0.5).apply(images, drawn)
    assert torch.equal(zoomed[1], images[1])  # the whole image
    part = functional.interpolate(
        images[:1, :, 3:9, 4:12].float(), (12, 16), mode="bilinear", align_corners=False
    )
    inner = (slice(None), slice(1, -1), slice(1, -1))  # at its border, the image goes on where the part ends
    assert float((zoomed[0].float() - part[0])[inner].abs().max()) <= 0.5 + 1e-3


def test_nothing_is_nothing():
    assert not Augment() and Augment(zoom=0.9) and Augment(flip=True)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="crop: -1 is out of range"):
        Augment(crop=-1)
    with pytest.raises(ConfigError, match="zoom: 0 is out of range; expected more than 0 and at most 1"):
        Augment(zoom=0)
