"""Images in uint8: batches, normalisation, augmentation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramdiff.errors import ConfigError, TaskError
from paramdiff.seeds import generator
from paramdiff.tasks.base import Data
from paramdiff.tasks.images import Augment, ImageData


def random_images(n: int = 20, channels: int = 3, side: int = 5, **options) -> ImageData:
    images = torch.randint(
        0, 256, (n, channels, side, side), generator=generator("images"), dtype=torch.uint8
    )
    return ImageData(images, torch.arange(n), **options)


def test_it_is_data():
    assert isinstance(random_images(), Data)


def test_fixed_batches_give_every_item_once_in_order():
    data = random_images(10, scoring_batch_size=4)
    x, y = zip(*data.batches())
    assert [len(part) for part in y] == [4, 4, 2]
    assert torch.cat(y).tolist() == list(range(10))
    assert torch.allclose(torch.cat(x), data.images / 255)


def test_shuffled_batches_follow_from_the_seed_and_are_full():
    data = random_images(10, batch_size=4, augment=Augment(crop=1, flip=True))
    x, y = zip(*data.shuffled(1))
    again, labels = zip(*data.shuffled(1))
    _, other = zip(*data.shuffled(2))
    assert data.steps == len(y) == 2
    assert [len(part) for part in y] == [4, 4]
    assert len(set(torch.cat(y).tolist())) == 8
    assert torch.equal(torch.cat(x), torch.cat(again)) and torch.equal(torch.cat(y), torch.cat(labels))
    assert torch.cat(other).tolist() != torch.cat(y).tolist()


def test_fewer_items_than_a_batch_are_one_batch():
    data = random_images(3, batch_size=8)
    assert data.steps == 1
    assert [len(y) for _, y in data.shuffled(0)] == [3]


def test_images_stay_with_their_labels_when_shuffled():
    data = random_images(12, batch_size=3)
    for x, y in data.shuffled(5):
        assert torch.allclose(x, data.images[y] / 255)


def test_normalised_training_pixels_have_zero_mean_and_unit_deviation():
    data = random_images(50)
    data = data.with_statistics_of(data)
    x = torch.cat([x for x, _ in data.batches()])
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_a_constant_image_is_normalised_without_dividing_by_zero():
    data = ImageData(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
    x, _ = next(data.with_statistics_of(data).batches())
    assert torch.equal(x, torch.zeros_like(x))


@settings(deadline=None, max_examples=25)
@given(crop=st.integers(0, 3), flip=st.booleans(), side=st.integers(1, 6), seed=st.integers(0, 99))
def test_augmentation_equals_one_image_at_a_time(crop: int, flip: bool, side: int, seed: int):
    images, augment = random_images(6, 2, side).images, Augment(crop, flip)
    drawn = augment.draw(6, seed)
    result = augment.apply(images, drawn)
    for image, changed, (top, left, mirrored) in zip(images, result, drawn.T.tolist()):
        padded = torch.zeros(2, side + 2 * crop, side + 2 * crop, dtype=torch.uint8)
        padded[:, crop : crop + side, crop : crop + side] = image
        expected = padded[:, top : top + side, left : left + side]
        assert torch.equal(changed, expected.flip(-1) if mirrored else expected)
        assert flip or not mirrored


def test_augmentation_draws_every_place_and_both_sides():
    top, left, flip = Augment(crop=2, flip=True).draw(1000, 0)
    assert set(top.tolist()) == set(left.tolist()) == set(range(5))
    assert 400 < int(flip.sum()) < 600


def test_fixed_batches_are_not_augmented():
    plain, augmented = random_images(), random_images(augment=Augment(crop=2, flip=True))
    assert torch.equal(next(plain.batches())[0], next(augmented.batches())[0])
    assert not torch.equal(next(plain.shuffled(0))[0], next(augmented.shuffled(0))[0])


@pytest.mark.parametrize("augment", [Augment(), Augment(crop=1)])
def test_memory_format_changes_no_value(augment: Augment):
    last = random_images(channels_last=True, augment=augment)
    first = random_images(augment=augment)
    for (x, _), (y, _) in zip(last.shuffled(3), first.shuffled(3), strict=True):
        assert torch.equal(x, y)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert y.is_contiguous()


def test_moving_keeps_the_settings():
    data = random_images(mean=[0.5], std=[0.2], batch_size=7, augment=Augment(flip=True))
    moved = data.to("cpu")
    assert (moved.mean, moved.std, moved.batch_size, moved.augment) == (data.mean, data.std, 7, data.augment)


def test_errors_say_what_does_not_fit():
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    with pytest.raises(TaskError, match="4 images and 3 labels; expected one label per image"):
        ImageData(images, torch.zeros(3, dtype=torch.long))
    with pytest.raises(
        TaskError, match="mean and std of length 2 and 1; expected one value, or one for each of the 3"
    ):
        ImageData(images, torch.zeros(4, dtype=torch.long), mean=[0.0, 0.0])
    with pytest.raises(ConfigError, match="batch_size: 0 is out of range; expected at least 1"):
        ImageData(images, torch.zeros(4, dtype=torch.long), batch_size=0)
    with pytest.raises(ConfigError, match="crop: -1 is out of range"):
        Augment(crop=-1)
