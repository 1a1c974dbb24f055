"""The protocol of a task, classification or not: what a network is for.

A task builds the network, knows its data and scores it, in one of two ways or in both. *Per-item outcomes* (one
value per item of the data) tell more: two networks are compared over the same items, with paired intervals, and their
sets of mistakes can be intersected. *Metric objects* accumulate over a whole data set, where a score is no function of
single items: mean average precision, the Fréchet distance. What a task cannot give is left out of tables, figures and
the verdict.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paramdiff.errors import TaskError
from paramdiff.registry import Registry

Batch = Any
Split = Literal["train", "test"]
Outcomes = Mapping[str, Tensor]

TASKS: Registry[Any] = Registry("task", "tasks", attribute="", plug_ins=False)
"""Options of the configuration group ``task``: a class of settings, or settings, with a ``make()``. What other packages
announce are tasks themselves (:class:`paramdiff.tasks.configuration.OwnTask`)."""

register = TASKS.register


@runtime_checkable
class MetricObject(Protocol):
    """A score of a whole data set, with the methods of ``torchmetrics.Metric``; any object with these will do."""

    def update(self, *args: Any) -> Any:
        """Take in one batch."""

    def compute(self) -> Any:
        """A number, or a mapping from names to numbers; entries that are no single number are left out."""


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
        selection_items: training items that networks are scored on, to select among them and to check
            reconstructions: a fixed random subset, all if there are no more. Test scores take all test items.
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

    def forward(self, model: nn.Module, batch: Batch, training: bool) -> Any:
        """What the network gives for a batch: ``model(*self.inputs(batch))`` by default.

        Override it for a network that is called in another way in training (torchvision's detectors take the
        targets and return losses), with keywords, several times (sampling), or with a batch that is no tuple.

        Args:
            model: the network, perhaps with other tensors in place of its own; use this one, keep no reference.
            batch: of :meth:`train_data` or :meth:`test_data`, on the network's device.
            training: whether the outputs are for :meth:`loss`; otherwise they are for :meth:`predict`, the network
                is in eval mode, and the same batch must give the same outputs: noise belongs into the batch.

        With a ``forward`` of its own a task always finds the network in train mode where ``training`` is true.
        Otherwise collecting some tensors of a trained network leaves it in eval mode
        (:mod:`paramdiff.collectors.trajectory`).
        """
        return model(*self.inputs(batch))

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Training loss of one batch, a scalar, from the outputs of :meth:`forward` with ``training``."""

    def predict(self, outputs: Any, batch: Batch) -> Outcomes:
        """Per-item outcomes ``{name: [B]}``; a task with metric objects may give ``[B, ...]`` too, or none at all.

        A boolean outcome called ``correct`` switches on everything that needs sets of mistakes
        (error similarity, paired intervals of accuracy); ``nll`` breaks ties in selection. ``confidence``
        (probability of the answer) and ``answer`` (an integer, the class) are what an ensemble is judged by
        beyond these.
        """
        return {}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """Scores from the outcomes of a whole data set. They or the metric objects give ``self.metric``."""
        return {}

    def metric_objects(self) -> Mapping[str, MetricObject]:
        """Fresh objects that accumulate over a data set, by name; called once per network that is scored.

        Modules (``torchmetrics.Metric`` is one) are moved to the network's device. As many as there are networks
        in a block (:data:`paramdiff.scoring.set_metrics.NETWORKS_AT_ONCE`) live at once: share what is large, such
        as a feature extractor.
        """
        return {}

    def update_metrics(self, objects: Mapping[str, Any], outputs: Any, batch: Batch) -> None:
        """Let the metric objects take in a batch: ``update(outputs, batch[-1])`` of each by default."""
        for one in objects.values():
            one.update(outputs, batch[-1])

    def ensemble(self, outputs: Sequence[Any]) -> Any | None:
        """Outputs that stand for several networks together, for :meth:`predict`; None: there are no ensembles.

        Args:
            outputs: of each network for the same batch, at least one.
        """
        return None

    def divergence(self, outputs: Any, targets: Any) -> Tensor:
        """How far outputs are from another network's for the same batch, a scalar: 0 for the same; by default the
        mean squared error of the tensors in them."""
        pairs = zip(tree_leaves(outputs), tree_leaves(targets), strict=True)
        errors = [(own - theirs).square().mean() for own, theirs in pairs if _is_real(own)]
        return torch.stack(errors).mean() if errors else torch.zeros(())


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def overrides(task: Task, method: str) -> bool:
    """Whether the task has such a method of its own, e.g. a ``forward`` of which nothing else is known."""
    return getattr(getattr(task, method), "__func__", None) is not getattr(Task, method)


def require_scores(task: Task) -> None:
    """Refuse a task that cannot score a network.

    Raises:
        TaskError: it gives neither per-item outcomes nor metric objects.
    """
    if not overrides(task, "predict") and not overrides(task, "metric_objects"):
        raise TaskError(
            f"task {task.name!r} does not say how good a network is",
            expected="per-item outcomes (predict and metrics) or scores of a data set (metric_objects)",
        )
