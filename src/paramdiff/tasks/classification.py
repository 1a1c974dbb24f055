r"""Image classification: cross entropy for training; per item, the answer, its probability and the loss.

``nll`` is :math:`-\log p(y \mid x)`, without label smoothing, also where training smooths. Several networks
together answer with the mean of their probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from paramdiff.errors import ConfigError, TaskError
from paramdiff.settings import BATCH, SHARE, Range, Ranges, check_ranges
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.dataset_rows import Reading, locate
from paramdiff.tasks.image_sources import SOURCES, HubImages, Source
from paramdiff.tasks.images import ImageData
from paramdiff.tasks.models import make_network
from paramdiff.tasks.models.named import check_options
from paramdiff.tasks.task import Batch, Outcomes, Split, Task, register


@register("digits", "the 1,797 handwritten digits in scikit-learn")
@dataclass
class ImageTask:
    """Settings of an image classification task. The defaults are those of the digits.

    Attributes:
        data: a named data set (``digits`` or one of :mod:`paramdiff.tasks.named_datasets`), a folder, or an id on the
            Hugging Face Hub.
        model: name of the network (:mod:`paramdiff.tasks.models`) or ``package.module:attr``; by
            default the one that suits the data.
        model_options: settings of the network.
        batch_size: images per batch of training.
        scoring_batch_size: images per batch of scoring.
        selection_items: training images that networks are scored on, a fixed random subset; all if there are
            no more.
        augment: random changes of training images.
        label_smoothing: share of the target that is spread evenly over the classes.
        channels_last: memory format of the batches and the network; pays with many channels.
        image_size: pixels of a side; by default what suits the data.
        channels: 1 (grey) or 3 (colour); by default as the images are.
        mean: of each channel, on a scale of 0..1, for normalising; by default of the training images. A
            network that was pretrained elsewhere wants what it was trained with.
        std: likewise.
        stream: whether images are decoded batch by batch instead of once; by default where they would take
            more than half of the memory.
        reading: names of splits and columns, where the data set's own do not say it.
    """

    data: str = "digits"
    model: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    scoring_batch_size: int = 256
    selection_items: int = 10_000
    augment: Augment = field(default_factory=lambda: Augment(crop=1))
    label_smoothing: float = 0.0
    channels_last: bool = False
    image_size: int | None = None
    channels: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    stream: bool | None = None
    reading: Reading = field(default_factory=Reading)

    RANGES: ClassVar[Ranges] = {
        "batch_size": BATCH, "scoring_batch_size": BATCH, "selection_items": Range(least=1, most=10**9),
        "label_smoothing": SHARE, "image_size": Range(least=1, most=4096), "channels": Range(least=1, most=3),
        "mean": Range(least=0, most=1, items=(1, 3)), "std": Range(above=0, most=1000, items=(1, 3)),
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.data.strip():
            raise ConfigError("data", "empty", expected="a named data set, a folder, or an id on the Hub")
        if self.model is not None:
            check_options(self.model, self.model_options)
        if self.channels not in (None, 1, 3):
            raise ConfigError("channels", f"{self.channels} is not known", expected="1 (grey) or 3 (colour)")
        if self.data in SOURCES:
            self._refuse_reading()
        elif "/" not in self.data:  # a mistyped name is found before anything runs
            _check_located(self.data)

    def _refuse_reading(self) -> None:
        """Refuse settings that only encoded images have, which would have no effect on the digits."""
        plain = {"image_size": None, "channels": None, "stream": None, "reading": Reading()}
        for key, value in plain.items():
            if getattr(self, key) != value:
                raise ConfigError(key, f"{self.data} cannot be read in another way", remedy="leave it away")

    def check(self) -> None:
        """Check what follows from the data set too, without reading it: options of its default network.

        Raises:
            ConfigError: as on construction.
        """
        source = SOURCES.get(self.data)
        check_options(self.model or (source.model if source else HubImages.model), self.model_options)

    def source(self) -> Source:
        """The images; not read yet.

        Raises:
            TaskError: there is no such data set.
        """
        if self.data in SOURCES:
            return SOURCES[self.data]
        return HubImages(self.data, self.reading, self.image_size, self.channels, self.stream)

    def make(self) -> "ImageClassification":
        """The task.

        Raises:
            TaskError: there is no such data set.
        """
        return ImageClassification(self.source(), self)


@register("images", "any folder of images, or data set of images on the Hugging Face Hub")
@dataclass
class Images(ImageTask):
    """The same without a default for ``data``, and with defaults that suit most photographs."""

    data: str = field()
    batch_size: int = 128
    augment: Augment = field(default_factory=lambda: Augment(flip=True))


def _check_located(data: str) -> None:
    try:
        locate(data)
    except TaskError as error:
        raise ConfigError("data", error.came, expected=error.expected, remedy=error.remedy) from None


class ImageClassification(Task):
    """Which class an image belongs to.

    Args:
        source: the images; bring your own with an :class:`paramdiff.tasks.image_sources.ImageSource`.
        settings: everything else; its ``data`` is not looked at.
    """

    def __init__(self, source: Source, settings: ImageTask) -> None:
        self.source, self.settings = source, settings
        self.selection_items = settings.selection_items
        self.name = source.name

    @property
    def chance(self) -> float:
        return 1 / self.source.classes

    def chance_on(self, split: Split) -> float:
        """The share of the most frequent class: the accuracy of a network that always gives the same answer."""
        labels = self._data[split == "test"].labels
        return float(labels.bincount().max()) / len(labels)

    def model(self) -> nn.Module:
        name = self.settings.model or self.source.model
        options, source = self.settings.model_options, self.source
        network = make_network(name, options, source.shape, source.classes)
        return network.to(memory_format=torch.channels_last) if self.settings.channels_last else network

    def train_data(self) -> ImageData:
        train, crop = self._data[0], self.settings.augment.crop
        if crop > max(train.shape[1:]):  # padding to many times the image would only fill the memory
            size = "x".join(map(str, train.shape[1:]))
            raise ConfigError(
                "task.augment.crop", f"{crop} on images of {size}", expected="no more than a side"
            )
        return replace(train, augment=self.settings.augment)

    def test_data(self) -> ImageData:
        return self._data[1]

    @cached_property
    def _data(self) -> tuple[ImageData, ImageData]:
        keys = ("batch_size", "scoring_batch_size", "channels_last")
        own: dict[str, Any] = {key: getattr(self.settings, key) for key in keys}
        own |= {key: value for key in ("mean", "std") if (value := getattr(self.settings, key)) is not None}
        train, test = self.source.load()
        return replace(train, **own), replace(test, **own)

    def loss(self, outputs: Float[Tensor, "B classes"], batch: Batch) -> Float[Tensor, ""]:
        self._require_logits(outputs)
        return functional.cross_entropy(outputs, batch[-1], label_smoothing=self.settings.label_smoothing)

    def predict(self, outputs: Float[Tensor, "B classes"], batch: Batch) -> dict[str, Tensor]:
        """``correct`` bool [B], ``nll`` and ``confidence`` float [B], ``answer`` [B] in the smallest integers."""
        self._require_logits(outputs)
        labels, answer, log_p = batch[-1], outputs.argmax(-1), outputs.log_softmax(-1)
        return {
            "correct": answer == labels, "nll": functional.nll_loss(log_p, labels, reduction="none"),
            "confidence": log_p.gather(-1, answer[:, None])[:, 0].exp(),
            "answer": answer.to(_smallest(self.source.classes)),
        }  # fmt: skip

    def ensemble(self, outputs: Sequence[Float[Tensor, "B classes"]]) -> Float[Tensor, "B classes"]:
        r"""The logarithm of the mean probabilities, :math:`\log \frac1M \sum_m \mathrm{softmax}(o_m)`."""
        return torch.stack(list(outputs)).log_softmax(-1).logsumexp(0) - math.log(len(outputs))

    def divergence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """KL divergence of the predicted probabilities from the targets', in nats, the mean over items."""
        log_p, log_q = targets.log_softmax(-1), outputs.log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1).mean()

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """``accuracy`` and mean ``nll``, as fractions and nats."""
        return {
            "accuracy": float(outcomes["correct"].double().mean()),
            "nll": float(outcomes["nll"].double().mean()),
        }

    def _require_logits(self, outputs: Float[Tensor, "B classes"]) -> None:
        if outputs.shape[1] != self.source.classes:
            raise TaskError(
                f"the network gives {outputs.shape[1]} outputs",
                expected=f"{self.source.classes}, one for each class of {self.name}",
                remedy="set the number of classes in task.model_options",
            )


def _smallest(classes: int) -> torch.dtype:
    """The smallest integers that hold a class."""
    kinds = (torch.uint8, torch.int16, torch.int32)
    return next(kind for kind in kinds if classes - 1 <= torch.iinfo(kind).max)
