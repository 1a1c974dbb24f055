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

Ranks (:mod:`paramdiff.distributed`) share the batches: each computes every ``world``-th, prefix and all networks, as
one process would, and all of them get all outcomes.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paramdiff.chance import Chance
from paramdiff.devices import size, suitable_threads
from paramdiff.distributed import gather_items, main_process_first, world_size
from paramdiff.errors import TaskError
from paramdiff.networks.precision import products
from paramdiff.networks.shared_prefix import SharedPrefix
from paramdiff.progress import bar, say
from paramdiff.scoring.batches import joined, random_subset
from paramdiff.scoring.cache import Cache
from paramdiff.scoring.output_groups import Group, Waiting, distinct, distinct_groups, order
from paramdiff.scoring.vmapped import Stack
from paramdiff.seeds import seeded
from paramdiff.tasks.batches import ready
from paramdiff.tasks.task import Batch, Data, Split, Task
from paramdiff.zoo.zoo import Zoo

CACHE_BYTES = 1 << 30
"""Memory for batches and their boundaries between calls. What does not fit is computed again each time."""

FEEDBACK_ITEMS = 2000
"""Items that feedback is measured on: the standard error of an accuracy near 0.9 is then 0.7 points."""


@dataclass(frozen=True)
class Scores:
    """What N networks did on a data set.

    Attributes:
        outcomes: by name, [N, items]; booleans as bool, other values as float32. A network that
            returned NaN for an item is wrong there: ``correct`` is False, ``nll`` is infinite.
        metrics: by name, float64 [N], the task's first metric first. Where that one is NaN it is
            replaced by the worst infinity, so that such a network is never selected.
        ensembles: the same of groups of these networks, one row a group; None if none were asked for or
            the task has none. A group with a network that returned NaN for an item is wrong there too:
            leaving the network out would favour generators whose samples break.
    """

    outcomes: dict[str, Tensor]
    metrics: dict[str, Tensor]
    ensembles: "Scores | None" = None

    @property
    def metric(self) -> Float64[Tensor, "N"]:
        """The task's first metric."""
        return next(iter(self.metrics.values()))

    def take(self, rows: Tensor) -> "Scores":
        """The scores of these networks, in this order, without ensembles."""
        outcomes = {name: value[rows] for name, value in self.outcomes.items()}
        return Scores(outcomes, {name: value[rows] for name, value in self.metrics.items()})

    @property
    def nll(self) -> Float64[Tensor, "N"] | None:
        """Mean negative log-likelihood of each network, if the task gives one."""
        nll = self.outcomes.get("nll")
        return None if nll is None else nll.double().mean(1)


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
        TaskError: the zoo belongs to another network than the task's.
    """

    def __init__(
        self, task: Task, zoo: Zoo, device: str | torch.device = "cpu", cache_bytes: int = CACHE_BYTES,
        precision: str = "auto", stack: int | None = None,
    ) -> None:  # fmt: skip
        self.task, self.spec, self.device, self.precision = task, zoo.spec, torch.device(device), precision
        network = _network(task, zoo).to(self.device)
        self._parameters = size(network)
        own = network.state_dict()  # loaded into it, vectors take its types, whatever the checkpoints had
        self.spec = zoo.spec.holding({name: own[name].dtype for name in zoo.spec.names if name in own})
        self._products = products(precision, self._parameters, self.device)
        self.shared = SharedPrefix(network, zoo.spec.keys)
        self._stack = Stack(self._outputs, self.device, stack)
        self._cache = Cache(cache_bytes)
        self._splits: dict[str, Data] = {}
        self._announced = False

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
            return self._score_training(vectors, self.task.selection_items, ensembles)
        data = self._shared_data("test")
        return self._score(vectors, "test", data.batches, len(data), ensembles)

    def feedback(self, items: int = FEEDBACK_ITEMS) -> "TrainingFeedback":
        """What a generator may ask; the data is read at the first use."""
        return TrainingFeedback(self, items)

    def gauge(self, items: int = FEEDBACK_ITEMS) -> Callable[[Tensor], Tensor]:
        """The same in the metric's own direction, for people to read."""
        return lambda vectors: self._score_training(vectors, items).metric

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on a batch of its own epoch, which ``batch`` seeds."""
        data = self._data("train")
        with suitable_threads(self._parameters):
            seen, boundary = self._prepare(next(iter(data.shuffled(batch))))
            return torch.stack([self._gradient(v, seen, boundary) for v in vectors]).cpu()

    def _gradient(self, v: Float[Tensor, "D"], batch: Batch, boundary: Any) -> Float[Tensor, "D"]:
        with torch.enable_grad():
            v = v.to(self.device, non_blocking=True).requires_grad_()
            outputs = self._outputs(boundary, v)
            (gradient,) = torch.autograd.grad(self.task.loss(outputs, batch), v)
        return gradient

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
        with suitable_threads(self._parameters):
            for _ in range(3):
                start = time.monotonic()
                (outcomes,), _ = self._score_batch(boundary, v, batch, [])
                took.append((time.monotonic() - start) / len(next(iter(outcomes.values())).cpu()))
        return median(took)

    def chance(self, split: Split) -> Chance | None:
        """What a network that knows nothing scores there; None if neither the task nor its labels say it."""
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

    def _score_training(
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
            self._splits[split] = ready(data, self.device)
        return self._splits[split]

    def _shared_data(self, split: str) -> Data:
        """The same, where all ranks come to read it: the first may leave it decoded in a cache for the others."""
        with main_process_first():
            return self._data(split)

    @torch.no_grad()
    def _score(
        self, vectors: Tensor, key: str, batches: Callable[[], Iterable[Batch]], items: int | None,
        ensembles: Sequence[Sequence[int]],
    ) -> Scores:  # fmt: skip
        """Score on ``batches()``; ``items`` is checked if given. ``key`` names them in the cache."""
        first, again = distinct(vectors)
        vectors = vectors[first] if len(first) < len(vectors) else vectors
        groups, which = distinct_groups(ensembles, again)
        if vectors.nbytes <= CACHE_BYTES:
            vectors = vectors.to(self.device)
        with suitable_threads(self._parameters):
            scores = self._score_batches(vectors, key, batches, items, groups)
        joint = None if scores.ensembles is None else scores.ensembles.take(which)
        return replace(scores if len(first) == len(again) else scores.take(again), ensembles=joint)

    def _score_batches(
        self, vectors: Tensor, key: str, batches: Callable[[], Iterable[Batch]], items: int | None,
        groups: Sequence[Group],
    ) -> Scores:  # fmt: skip
        own: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        with bar((), f"scoring on {key}", total=items and items * len(vectors), unit="item") as progress:
            for batch, boundary in self._cache.through(key, batches, self._prepare):
                singly, together = self._score_batch(boundary, vectors, batch, groups)
                own.append((_stacked(singly), _stacked(together)))
                done = next(iter(own[-1][0].values())).numel() * world_size()  # the others are about as far
                progress.update(min(done, (progress.total or math.inf) - progress.n))
        parts = gather_items(own)
        if not parts:
            raise TaskError(
                f"the data of task {self.task.name!r} gives no batch", expected="at least one item"
            )
        outcomes = _joined([singly for singly, _ in parts])
        self._check_items(outcomes, items)
        joint = _joined([together for _, together in parts if together])
        ensembles = Scores(joint, self._metrics(joint)) if joint else None
        return Scores(outcomes, self._metrics(outcomes), ensembles)

    def _score_batch(
        self, boundary: Any, vectors: Tensor, batch: Batch, groups: Sequence[Group]
    ) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
        """Outcomes of every network and of every group for one batch; none of groups without ensembles."""
        singly: dict[int, dict[str, Tensor]] = {}
        together: dict[int, dict[str, Tensor]] = {}
        waiting = Waiting(groups)
        for network, outputs in self._stack.outputs(boundary, vectors, order(groups, len(vectors))):
            singly[network] = self._outcomes(outputs, batch)
            for group, members in waiting.add(network, outputs):
                joint = self.task.ensemble(members)
                if joint is not None:
                    together[group] = self._outcomes(joint, batch)
        return [singly[i] for i in range(len(singly))], [together[i] for i in range(len(together))]

    def _prepare(self, batch: Batch) -> tuple[Batch, Any]:
        """A batch with the part of its computation that all networks share."""
        with self._products:
            boundary = self.shared.prefix(*self.task.inputs(batch))
        if self.shared.whole and not self._announced:
            say(f"  {self.shared.why}")
            self._announced = True
        return batch, boundary

    def _outputs(self, boundary: Any, v: Tensor) -> Any:
        with self._products:
            return self.shared.suffix(boundary, self.spec.unflatten(v.to(self.device, non_blocking=True)))

    def _outcomes(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Outcomes of one network for one batch, {name: [B]}, with NaN counted as wrong."""
        outcomes = {name: _compact(value) for name, value in self.task.predict(outputs, batch).items()}
        size = common_length(outcomes, self.task.name)
        broken = _broken_items(outputs, size, self.device)
        if "nll" in outcomes:
            broken = broken | outcomes["nll"].isnan()
            outcomes["nll"] = outcomes["nll"].masked_fill(broken, torch.inf)
        if "correct" in outcomes:
            outcomes["correct"] = outcomes["correct"].bool() & ~broken
        return outcomes

    def _check_items(self, outcomes: dict[str, Tensor], items: int | None) -> None:
        found = next(iter(outcomes.values())).shape[1]
        if items is not None and found != items:
            raise TaskError(
                f"predict of task {self.task.name!r} gives {found} outcomes over the whole data",
                expected=f"{items}, one per item of the data",
                remedy="return one value per item, and let batches() give every item once",
            )

    def _metrics(self, outcomes: dict[str, Tensor]) -> dict[str, Tensor]:
        count = len(next(iter(outcomes.values())))
        each = [self.task.metrics({name: value[i] for name, value in outcomes.items()}) for i in range(count)]
        first = self.task.metric
        if first not in each[0]:
            raise TaskError(f"metrics of task {self.task.name!r} gives {', '.join(each[0])}", expected=first)
        names = [first, *(name for name in each[0] if name != first)]
        metrics = {name: torch.tensor([one[name] for one in each], dtype=torch.float64) for name in names}
        worst = -torch.inf if self.task.higher_is_better else torch.inf
        metrics[first] = metrics[first].nan_to_num(nan=worst, posinf=torch.inf, neginf=-torch.inf)
        return metrics


@dataclass(frozen=True)
class TrainingFeedback:
    """Feedback on a fixed random subset of the training data (:class:`paramdiff.generators.context.Feedback`)."""

    scorer: Scorer
    items: int

    @property
    def chance(self) -> Chance | None:
        """Of these scores."""
        found = self.scorer.chance("train")
        if found is None:
            return None
        level = found.level if found.higher_is_better else -found.level
        return Chance(level, min(found.items, self.items))

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        """Scores; higher is better, whatever the direction of the task's metric."""
        sign = 1.0 if self.scorer.task.higher_is_better else -1.0
        return sign * self.scorer.gauge(self.items)(vectors)

    def mistakes(self, vectors: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        """Which items each network gets wrong.

        Raises:
            TaskError: the task knows no mistakes.
        """
        outcomes = self.scorer._score_training(vectors, self.items).outcomes
        if "correct" not in outcomes:
            raise TaskError(
                f"task {self.scorer.task.name!r} does not say which items a network gets wrong",
                expected="an outcome called correct",
            )
        return ~outcomes["correct"]

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on batch number ``batch``, on the CPU."""
        return self.scorer.gradients(vectors, batch)


def _stacked(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Outcomes of all networks from those of each; empty without a network."""
    return {name: torch.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Outcomes of all items from those of each batch; empty without a batch."""
    return {name: torch.cat([part[name] for part in parts], 1).cpu() for name in (parts[0] if parts else ())}


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


def _majority(batches: Iterable[Batch]) -> float | None:
    """The share of the most frequent label, where batches end in one integer an item."""
    labels = [batch[-1] for batch in joined(batches) if isinstance(batch, (tuple, list))]
    known = [y for y in labels if isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point()]
    if not known or len(known) < len(labels):
        return None
    return float(torch.cat(known).unique(return_counts=True)[1].max()) / sum(map(len, known))


def _compact(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def common_length(outcomes: Mapping[str, Tensor], task: str) -> int:
    """Items of a batch, from its outcomes.

    Raises:
        TaskError: they are not one value per item.
    """
    shapes = {name: list(value.shape) for name, value in outcomes.items()}
    sizes = {tuple(shape) for shape in shapes.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise TaskError(
            f"predict of task {task!r} gives outcomes of shapes {shapes}",
            expected="{name: [B]}, one value per item",
        )
    return next(iter(sizes))[0]


def _broken_items(outputs: Any, size: int, device: torch.device) -> Tensor:
    """bool [B]: items for which an output holds NaN or +Inf (-Inf may be a masked logit)."""
    broken = torch.zeros(size, dtype=torch.bool, device=device)
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.shape[:1] == (size,):
            bad = leaf.isnan() | leaf.isposinf()
            broken |= bad.flatten(1).any(1) if bad.ndim > 1 else bad
    return broken
