r"""Image classification: cross entropy for training; per item, whether the answer is right and its loss.

``nll`` is :math:`-\log p(y \mid x)`, without label smoothing, also where training smooths.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from paramdiff.errors import check_choice, check_range
from paramdiff.tasks import digits
from paramdiff.tasks.base import Batch, Outcomes, Task
from paramdiff.tasks.images import Augment, ImageData
from paramdiff.tasks.models import make_network


@dataclass(frozen=True)
class ImageSource:
    """A data set of labelled images; nothing is read before ``load`` is called.

    Attributes:
        name: for tables.
        classes: number of classes.
        shape: (C, H, W).
        load: gives (train, test).
        model: the network it is used with unless another is named.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    load: Callable[[], tuple[ImageData, ImageData]]
    model: str = "convnet"


SOURCES = {"digits": ImageSource("digits", digits.CLASSES, digits.SHAPE, digits.load_digits)}


@dataclass
class ImageTask:
    """Settings of an image classification task. The defaults are those of the digits.

    Attributes:
        data: name of the data set.
        model: name of the network (:mod:`paramdiff.tasks.models`) or ``package.module:attr``; by
            default the one that suits the data.
        model_options: settings of the network.
        batch_size: images per batch of training.
        scoring_batch_size: images per batch of scoring.
        augment: random changes of training images.
        label_smoothing: share of the target that is spread evenly over the classes.
        channels_last: memory format of the batches and the network; pays with many channels.
    """

    data: str = "digits"
    model: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    scoring_batch_size: int = 256
    augment: Augment = field(default_factory=lambda: Augment(crop=1))
    label_smoothing: float = 0.0
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_choice("data", self.data, SOURCES)
        check_range("batch_size", self.batch_size, least=1)
        check_range("scoring_batch_size", self.scoring_batch_size, least=1)
        check_range("label_smoothing", self.label_smoothing, least=0, below=1)

    def make(self) -> "ImageClassification":
        """The task.

        Raises:
            ConfigError: no such network, or settings that do not fit it.
        """
        return ImageClassification(SOURCES[self.data], self)


class ImageClassification(Task):
    """Which class an image belongs to.

    Args:
        source: the images; bring your own with an :class:`ImageSource`.
        settings: everything else; its ``data`` is not looked at.
    """

    def __init__(self, source: ImageSource, settings: ImageTask) -> None:
        self.source, self.settings = source, settings
        self.name = source.name

    @property
    def chance(self) -> float:
        return 1 / self.source.classes

    def model(self) -> nn.Module:
        name = self.settings.model or self.source.model
        options, source = self.settings.model_options, self.source
        network = make_network(name, options, source.shape, source.classes)
        return network.to(memory_format=torch.channels_last) if self.settings.channels_last else network

    def train_data(self) -> ImageData:
        return replace(self._data[0], augment=self.settings.augment)

    def test_data(self) -> ImageData:
        return self._data[1]

    @cached_property
    def _data(self) -> tuple[ImageData, ImageData]:
        keys = ("batch_size", "scoring_batch_size", "channels_last")
        own: dict[str, Any] = {key: getattr(self.settings, key) for key in keys}
        train, test = self.source.load()
        return replace(train, **own), replace(test, **own)

    def loss(self, outputs: Float[Tensor, "B classes"], batch: Batch) -> Float[Tensor, ""]:
        return functional.cross_entropy(outputs, batch[-1], label_smoothing=self.settings.label_smoothing)

    def predict(self, outputs: Float[Tensor, "B classes"], batch: Batch) -> dict[str, Tensor]:
        """``correct`` bool [B] and ``nll`` float [B]."""
        labels = batch[-1]
        nll = functional.cross_entropy(outputs, labels, reduction="none")
        return {"correct": outputs.argmax(-1) == labels, "nll": nll}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """``accuracy`` and mean ``nll``, as fractions and nats."""
        return {
            "accuracy": float(outcomes["correct"].double().mean()),
            "nll": float(outcomes["nll"].double().mean()),
        }
