"""Images in uint8: batches, normalisation, and the same from images that are read batch by batch."""

from collections.abc import Iterable, Iterator

import pytest
import torch
from torch import Tensor

from paramdiff.errors import ConfigError, TaskError
from paramdiff.seeds import generator
from paramdiff.tasks import images as module
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.images import ImageData, Pixels, statistics
from paramdiff.tasks.task import Data


def random_images(n: int = 20, channels: int = 3, side: int = 5, **options) -> ImageData:
    images = torch.randint(
        0, 256, (n, channels, side, side), generator=generator("images"), dtype=torch.uint8
    )
    return ImageData(images, torch.arange(n), **options)


class Elsewhere:
    """Images that are not in one tensor."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.read_at_once = images, 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        n, channels, height, width = self.images.shape
        return n, channels, height, width

    def __len__(self) -> int:
        return len(self.images)

    def read(self, orders: Iterable[Tensor]) -> Iterator[Tensor]:
        for order in orders:
            self.read_at_once = max(self.read_at_once, len(order))
            yield self.images[order]


def test_it_is_data():
    assert isinstance(random_images(), Data)


def test_fixed_batches_give_every_item_once_in_order():
    data = random_images(10, scoring_batch_size=4)
    x, y = zip(*data.batches())
    assert [len(part) for part in y] == [4, 4, 2]
    assert torch.cat(y).tolist() == list(range(10))
    assert torch.allclose(torch.cat(x), data.images / 255)


def test_shuffled_batches_follow_from_the_seed_and_hold_every_image():
    data = random_images(10, batch_size=4, augment=Augment(crop=1, flip=True))
    x, y = zip(*data.shuffled(1))
    again, labels = zip(*data.shuffled(1))
    _, other = zip(*data.shuffled(2))
    assert data.steps == len(y) == 3
    assert [len(part) for part in y] == [4, 3, 3]
    assert len(set(torch.cat(y).tolist())) == 10
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


def test_images_read_batch_by_batch_give_the_same_batches():
    options = {"batch_size": 4, "scoring_batch_size": 7, "augment": Augment(1, True, 0.5), "mean": [0.3]}
    whole = random_images(18, **options)
    elsewhere = Elsewhere(whole.images)
    assert isinstance(elsewhere, Pixels)
    parts = ImageData(elsewhere, whole.labels, **options)
    assert (len(parts), parts.shape, parts.steps) == (18, (3, 5, 5), 5)
    for ours, theirs in ((whole.batches(), parts.batches()), (whole.shuffled(3), parts.shuffled(3))):
        for (x, y), (z, w) in zip(ours, theirs, strict=True):
            assert torch.equal(x, z) and torch.equal(y, w)
    assert elsewhere.read_at_once == 7
    own = parts.with_statistics_of(parts)
    assert own.mean == whole.with_statistics_of(whole).mean


def test_images_that_would_fill_a_device_stay_and_batches_move(monkeypatch: pytest.MonkeyPatch):
    data = random_images(6, scoring_batch_size=4)
    for free, where in ((2 * data.images.nbytes, "meta"), (2 * data.images.nbytes - 1, "cpu")):
        monkeypatch.setattr(module, "free_bytes", lambda device, free=free: free)
        moved = data.to("meta")
        assert moved.images.device.type == where
        assert moved.device.type == moved.labels.device.type == "meta"
        assert [x.device.type for x, _ in moved.batches()] == ["meta", "meta"]


def test_statistics_are_those_of_the_values():
    images = random_images(30).images
    mean, std = statistics(images.split(7))
    x = images.double() / 255
    assert torch.allclose(torch.tensor(mean).double(), x.mean((0, 2, 3)))
    assert torch.allclose(torch.tensor(std).double(), x.std((0, 2, 3), correction=0))


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
