"""What a network is for: the protocol every task answers, classification or not.

A task builds the network, knows its data and scores it. Scores are computed from *per-item
outcomes* (one value per item of the data), so that two networks are always compared over the same
items and their sets of mistakes can be intersected.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

Batch = Any
Split = Literal["train", "test"]
Outcomes = Mapping[str, Tensor]


@runtime_checkable
class Data(Protocol):
    """Items in a fixed order, with a shuffled (and possibly augmented) view for training.

    A map-style ``torch.utils.data.Dataset`` becomes one with :func:`paramdiff.tasks.batches.as_data`.
    """

    @property
    def steps(self) -> int:
        """Number of batches in one :meth:`shuffled` epoch."""

    def __len__(self) -> int:
        """Number of items."""

    def batches(self) -> Iterator[Batch]:
        """All items once, in the same order every time, without augmentation."""

    def shuffled(self, seed: int) -> Iterator[Batch]:
        """One epoch for training; the same seed gives the same batches."""


class Task(ABC):
    """Subclass this to bring your own task; ``examples/`` shows a regression in twenty lines.

    Attributes:
        name: short name for tables.
        metric: the first metric of :meth:`metrics`, by which networks are compared.
        higher_is_better: direction of that metric.
        selection_items: training items that networks are scored on, to select among them and to pass the
            gate: a fixed random subset, all if there are no more. Test scores always take all test items.
        chance: value of the metric for a network that knows nothing, as far as that is known without the
            data (:meth:`chance_on`); ``None`` if there is none.
    """

    name: str = "task"
    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    selection_items: int = 10_000

    @property
    def chance(self) -> float | None:
        return None

    def chance_on(self, split: Split) -> float | None:
        """The same on the data of a split, e.g. the share of the most frequent class in it."""
        return self.chance

    @abstractmethod
    def model(self) -> nn.Module:
        """A fresh network; its initialisation follows torch's global generator."""

    @abstractmethod
    def train_data(self) -> Data:
        """Items for training, and for selecting among samples; may be a plain map-style ``Dataset``."""

    @abstractmethod
    def test_data(self) -> Data:
        """Items for reporting, read once; may be a plain map-style ``Dataset``."""

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """What of a batch goes into the network; everything but the last element by default."""
        return tuple(batch[:-1])

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Training loss of one batch, a scalar."""

    @abstractmethod
    def predict(self, outputs: Any, batch: Batch) -> Outcomes:
        """Per-item outcomes ``{name: [B]}``.

        A boolean outcome called ``correct`` switches on everything that needs sets of mistakes
        (error similarity, paired intervals of accuracy); ``nll`` breaks ties in selection. ``confidence``
        (probability of the answer) and ``answer`` (an integer, the class) are what an ensemble is judged by
        beyond these.
        """

    @abstractmethod
    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """Scores from the outcomes of a whole data set; holds at least ``self.metric``."""

    def ensemble(self, outputs: Sequence[Any]) -> Any | None:
        """Outputs that stand for several networks together, for :meth:`predict`; None: there are no ensembles.

        Args:
            outputs: of each network for the same batch, at least one.
        """
        return None
