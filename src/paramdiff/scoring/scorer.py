r"""N parameter vectors -> what each of the N networks does on every item of the data.

The networks share their frozen part. Everything before the first generated tensor, and whatever else
does not depend on one, is the *prefix*: computed once per batch and kept, within a budget of memory,
for the next call (:class:`paramdiff.networks.shared_prefix.SharedPrefix`). The rest, the *suffix*, is
computed once per network.

Small batches are joined first (:mod:`paramdiff.scoring.batches`): with the 32 items a batch of the digits
task this makes scoring 5 to 9 times faster. On a CPU suffixes are computed one after another. Stacking them
(:mod:`paramdiff.scoring.vmapped`) was measured there (one core, stacks of 4 to 64): it doubles the speed of the
MLP 64-50-25-10 at 128 items a batch and gives nothing from 256 items on; two convolutions with BatchNorm get
15-30% faster at 128 items and 2 to 7 times slower at 512. On other devices they are stacked.

Ensembles are scored in the same pass: the outputs of a group's networks for one batch are combined by the task
and judged like those of a network (:mod:`paramdiff.scoring.output_groups`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.chance import Chance
from paramdiff.devices import size, suitable_threads
from paramdiff.distributed import main_process_first
from paramdiff.errors import TaskError
from paramdiff.networks.precision import products
from paramdiff.networks.recalibration import statistics_keys
from paramdiff.networks.shared_prefix import SharedPrefix
from paramdiff.progress import say
from paramdiff.scoring.batches import items_in, joined, random_subset
from paramdiff.scoring.cache import Cache
from paramdiff.scoring.feedback import TrainingFeedback
from paramdiff.scoring.output_groups import distinct, distinct_groups
from paramdiff.scoring.passes import Batches, Passes
from paramdiff.scoring.scores import Scores
from paramdiff.scoring.set_metrics import SetMetrics
from paramdiff.scoring.training_loss import TrainingLoss, require_ensemble
from paramdiff.scoring.vmapped import Stack
from paramdiff.seeds import seeded
from paramdiff.tasks.batches import on_device
from paramdiff.tasks.task import Batch, Data, Split, Task, overrides, require_scores
from paramdiff.zoo.zoo import Zoo

CACHE_BYTES = 1 << 30
"""Memory for batches and their boundaries between calls. What does not fit is computed again each time."""

FEEDBACK_ITEMS = 2000
"""Items that feedback is measured on: the standard error of an accuracy near 0.9 is then 0.7 points."""


class Scorer:
    """Scores networks of one task that share the frozen rest of one zoo.

    One network is built, in ``eval`` mode: BatchNorm uses its stored statistics.

    Args:
        task: gives the network, the data and the metrics.
        zoo: gives the frozen rest and the places of the generated tensors.
        device: where the networks run.
        cache_bytes: memory for what is kept between calls, on that device.
        precision: of the networks' products (:mod:`paramdiff.networks.precision`).
        stack: networks whose suffixes run at once; by default one on a CPU, and on other devices as many as fit
            into a part of the free memory.

    Raises:
        ConfigError: an unknown precision, or a stack below 1.
        TaskError: the zoo belongs to another network than the task's, or the task cannot score one.
    """

    def __init__(
        self, task: Task, zoo: Zoo, device: str | torch.device = "cpu", cache_bytes: int = CACHE_BYTES,
        precision: str = "auto", stack: int | None = None,
    ) -> None:  # fmt: skip
        require_scores(task)
        self.task, self.spec, self.device, self.precision = task, zoo.spec, torch.device(device), precision
        network = _network(task, zoo).to(self.device)
        self._parameters = size(network)
        self._statistics = statistics_keys(network)
        own = network.state_dict()  # loaded into it, vectors take its types, whatever the checkpoints had
        self.spec = zoo.spec.holding({name: own[name].dtype for name in zoo.spec.names if name in own})
        self._products = products(precision, self._parameters, self.device)
        self.call = partial(_evaluated, task) if overrides(task, "forward") else None
        """How the network is called with what :meth:`inputs` gives; None for ``network(*inputs)``."""
        self.shared = SharedPrefix(network, zoo.spec.keys, self.call)
        stacked = Stack(self._outputs, self.device, 1 if self.call else stack)
        self._passes = Passes(task, self.device, stacked, Cache(cache_bytes), self._prepare)
        self._splits: dict[str, Data] = {}
        self._announced = False
        plain = self._training_outputs if self.call else None
        together = self.device.type != "cpu" or not any(map(_convolves, network.modules()))
        self._training_loss = TrainingLoss(task, self._prepare, self._outputs, plain, together)

    def like(self, zoo: Zoo) -> "Scorer":
        """A scorer of other networks of the task, on the data that this one has read or will read."""
        other = Scorer(self.task, zoo, self.device, precision=self.precision)
        other._splits = self._splits
        return other

    def score(
        self, vectors: Float[Tensor, "N D"], split: Split, ensembles: Sequence[Sequence[int]] = ()
    ) -> Scores:
        """Outcomes and metrics of N networks on the test data, or on the task's ``selection_items`` of training.

        Args:
            vectors: the networks.
            split: ``train`` or ``test``.
            ensembles: groups of them to score together as well; rows of ``vectors``.

        Raises:
            TaskError: the data is empty, or the task's outcomes are not one value per item.
        """
        if split == "train":
            return self.score_training(vectors, self.task.selection_items, ensembles)
        data = self._shared_data("test")
        return self._score(vectors, "test", data.batches, len(data), ensembles)

    def feedback(self, items: int = FEEDBACK_ITEMS) -> TrainingFeedback:
        """Feedback for a generator; the data is read at the first use."""
        return TrainingFeedback(self, items)

    def training_metric(self, items: int = FEEDBACK_ITEMS) -> Callable[[Tensor], Tensor]:
        """Scores vectors on the same items by the task's metric, in its own direction."""
        return lambda vectors: self.score_training(vectors, items).metric

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """What of a batch the network is called with; all of it where the task has a ``forward`` of its own."""
        return (batch,) if self.call else self.task.inputs(batch)

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on a batch of its own epoch, which ``batch`` seeds.

        In eval mode; where the task has a ``forward`` of its own in train mode, except for layers that own buffers.
        What the task draws at random is the same for every network.
        """
        data = self._data("train")
        with suitable_threads(self._parameters):
            seen, boundary = self._prepare(next(iter(data.shuffled(batch))))
            return torch.stack([self._gradient(v, seen, boundary, batch) for v in vectors]).cpu()

    def _gradient(self, v: Float[Tensor, "D"], batch: Batch, boundary: Any, key: int) -> Float[Tensor, "D"]:
        with torch.enable_grad(), seeded("gradients", key):
            v = v.to(self.device, non_blocking=True).requires_grad_()
            outputs = self._training_outputs(batch, v) if self.call else self._outputs(boundary, v)
            (gradient,) = torch.autograd.grad(self.task.loss(outputs, batch), v)
        return gradient

    def _training_outputs(self, batch: Batch, v: Float[Tensor, "D"]) -> Any:
        with self._products:
            return self.shared.trained(partial(_trained, self.task), (batch,), self._state(v))

    def training_loss(
        self, vectors: Float[Tensor, "n D"], step: int, items: int, group: int, repulsion: float
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Losses and gradients of training step ``step`` (:mod:`paramdiff.scoring.training_loss`), on the CPU.

        Raises:
            ConfigError: repulsion for a task that does not combine outputs.
            NumericalError: a loss or a gradient is NaN or Inf.
            TaskError: the loss gives no gradient.
        """
        if repulsion > 0:
            require_ensemble(self.task)
        with suitable_threads(self._parameters):
            own = vectors.to(self.device)
            losses, gradients = self._training_loss(own, self._data("train"), step, items, group, repulsion)
        return losses.cpu(), gradients.cpu()

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Divergences of networks' outputs from those of ``members`` on training data, and gradients, on the CPU.

        Raises:
            NumericalError: a divergence or a gradient is NaN or Inf.
        """
        with suitable_threads(self._parameters):
            own, theirs = vectors.to(self.device), members.to(self.device)
            losses, gradients = self._training_loss.imitation(own, theirs, self._data("train"), step, items)
        return losses.cpu(), gradients.cpu()

    def initial(self, seed: int) -> Float[Tensor, "D"]:
        """The generated tensors of an untrained network, drawn by the task's own initialisation."""
        with seeded("initial", seed):
            return self.spec.flatten(self.task.model().state_dict())

    def items(self, split: Split) -> int:
        """How many items :meth:`score` looks at."""
        return self.training_items(self.task.selection_items) if split == "train" else len(self._data(split))

    @torch.no_grad()
    def seconds_an_item(self) -> float:
        """What one network takes for one item, measured now: what all networks share does not count."""
        batch, boundary = self._prepare(
            next(iter(joined(random_subset(self._data("train"), FEEDBACK_ITEMS))))
        )
        v, took = self.spec.flatten(self.shared.model.state_dict())[None], []
        of_set = [SetMetrics(self.task, self.device)]
        with suitable_threads(self._parameters):
            for _ in range(3):
                start = time.monotonic()
                (outcomes,), _ = self._passes.one_batch(boundary, v, batch, [], of_set)
                _ = [value.cpu() for value in outcomes.values()]  # waits for the device
                took.append((time.monotonic() - start) / items_in(batch))
        return median(took)

    def chance(self, split: Split) -> Chance | None:
        """Chance level on that split; None if neither the task nor its labels give it."""
        level, accuracy = self.task.chance_on(split), self.task.metric == "accuracy"
        if level is None and accuracy:
            level = _majority(random_subset(self._data(split), FEEDBACK_ITEMS))
        if level is None:
            return None
        return Chance(level, self.items(split) if accuracy else 0, self.task.higher_is_better)

    def training_items(self, most: int) -> int:
        """How many items of training data there are, up to ``most``."""
        return min(most, len(self._data("train")))

    def training_subset(self, items: int) -> Iterator[Batch]:
        """A fixed random subset of the training data, all of it if there is no more; not augmented."""
        return random_subset(self._data("train"), items)

    def score_training(
        self, vectors: Float[Tensor, "N D"], items: int, ensembles: Sequence[Sequence[int]] = ()
    ) -> Scores:
        """On a fixed random subset of the training data; on all of it if there is no more."""
        data = self._shared_data("train")
        if len(data) <= items:
            return self._score(vectors, "train", data.batches, len(data), ensembles)
        subset = lambda: self.training_subset(items)
        return self._score(vectors, f"{items:,} of train", subset, None, ensembles)

    def _data(self, split: str) -> Data:
        if split not in self._splits:
            data = self.task.train_data() if split == "train" else self.task.test_data()
            self._splits[split] = on_device(data, self.device)
        return self._splits[split]

    def _shared_data(self, split: str) -> Data:
        """The same, where all ranks come to read it: the first may leave it decoded in a cache for the others."""
        with main_process_first():
            return self._data(split)

    @torch.no_grad()
    def _score(
        self, vectors: Tensor, key: str, batches: Batches, items: int | None,
        ensembles: Sequence[Sequence[int]],
    ) -> Scores:  # fmt: skip
        """Score on ``batches()``; ``items`` is checked if given. ``key`` names them in the cache."""
        first, again = distinct(vectors)
        vectors = vectors[first] if len(first) < len(vectors) else vectors
        groups, which = distinct_groups(ensembles, again)
        if vectors.nbytes <= CACHE_BYTES:
            vectors = vectors.to(self.device)
        with suitable_threads(self._parameters):
            scores = self._passes.score(vectors, key, batches, items, groups)
        joint = None if scores.ensembles is None else scores.ensembles.take(which)
        return replace(scores if len(first) == len(again) else scores.take(again), ensembles=joint)

    def _prepare(self, batch: Batch) -> tuple[Batch, Any]:
        """A batch with the part of its computation that all networks share."""
        with self._products:
            boundary = self.shared.prefix(*self.inputs(batch))
        if self.shared.whole and not self._announced:
            say(f"  {self.shared.why}")
            self._announced = True
        return batch, boundary

    def _outputs(self, boundary: Any, v: Tensor) -> Any:
        with self._products:
            return self.shared.suffix(boundary, self._state(v.to(self.device, non_blocking=True)))

    def _state(self, v: Tensor) -> dict[str, Tensor]:
        """The generated tensors, without gradients for running statistics: no layer gives them any."""
        state = self.spec.unflatten(v)
        return {name: x.detach() if name in self._statistics else x for name, x in state.items()}


def _network(task: Task, zoo: Zoo) -> nn.Module:
    with seeded("scorer"):  # the task's initialisation must not move anybody's random stream
        model = task.model()
    try:
        model.load_state_dict(zoo.base)
    except RuntimeError as error:
        raise TaskError(
            f"the zoo's checkpoints do not load into the model of task {task.name!r} ({error})",
            expected="a zoo of that model", remedy="collect the zoo with this task, or choose its task",
        ) from None  # fmt: skip
    return model.eval().requires_grad_(False)


def _evaluated(task: Task, model: nn.Module, batch: Batch) -> Any:
    return task.forward(model, batch, training=False)


def _trained(task: Task, model: nn.Module, batch: Batch) -> Any:
    return task.forward(model, batch, training=True)


def _convolves(module: nn.Module) -> bool:
    """Convolutions of networks with different weights are slower on a CPU as one call."""
    return isinstance(module, nn.modules.conv._ConvNd)


def _majority(batches: Iterable[Batch]) -> float | None:
    """The share of the most frequent label, where batches end in one integer an item."""
    labels = [batch[-1] for batch in joined(batches) if isinstance(batch, (tuple, list))]
    known = [y for y in labels if isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point()]
    if not known or len(known) < len(labels):
        return None
    return float(torch.cat(known).unique(return_counts=True)[1].max()) / sum(map(len, known))
