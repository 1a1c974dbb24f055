"""The contract of every task, as checks that name the rule which is broken.

A task's data may be large: a check reads a few batches of it, at most :data:`ITEMS` items, except for the labels of one
shuffled epoch.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from paramdiff.networks.modes import own_modes
from paramdiff.networks.structure import evaluating
from paramdiff.scoring.batches import items_in, rows
from paramdiff.scoring.outcomes import Outcomes, joined_items, metric_table, network_metrics, outcomes_of
from paramdiff.scoring.set_metrics import SetMetrics
from paramdiff.seeds import seeded
from paramdiff.tasks.batches import as_data
from paramdiff.tasks.task import Batch, Data, Task, overrides, require_scores
from paramdiff.testing.rules import Rules

ITEMS = 256
EPOCH = 20_000
"""Items of which a whole shuffled epoch is read; of larger data its beginning."""

ALIKE = 0.98
"""Share of integer outcomes that must agree where rounding may decide one."""


def check_task(task: Task) -> None:
    """Build networks of a task, train and score them on a few batches, and check the contract of tasks.

    Args:
        task: with data that can be read; nothing of it changes.

    Raises:
        AssertionError: a rule is broken; the message names the task, the rule and what was seen.
    """
    case = TaskCase(task)
    for check in CHECKS:
        check(case)


@dataclass(frozen=True)
class TaskCase(Rules):
    """A task under test, with networks and batches of it."""

    task: Task

    @property
    def subject(self) -> Task:
        return self.task

    def call(self, what: str, work: Callable[[], Any], rule: str) -> Any:
        """What ``work`` gives; an error in it breaks the rule."""
        try:
            return work()
        except Exception as error:
            self.fail(what, error, rule)

    def network(self, key: int = 0) -> nn.Module:
        """A fresh network, initialised from a key."""
        with seeded("check_task", key):
            return self.task.model()

    @cached_property
    def train(self) -> Data:
        rule = "train_data() is a map-style Dataset or a paramdiff Data"
        return self.call("train_data()", lambda: as_data(self.task.train_data()), rule)

    @cached_property
    def test(self) -> Data:
        rule = "test_data() is a map-style Dataset or a paramdiff Data"
        return self.call("test_data()", lambda: as_data(self.task.test_data()), rule)

    @cached_property
    def batches(self) -> list[Batch]:
        """Of the test data."""
        return list(_some(self.test.batches()))

    def outputs(self, network: nn.Module, batch: Batch) -> Any:
        """In eval mode, as for scoring."""
        with torch.no_grad(), evaluating(network.modules()):
            return self.task.forward(network, batch, training=False)

    def score(self, network: nn.Module) -> tuple[Outcomes, dict[str, float]]:
        """Outcomes and metrics over the batches."""
        of_set, parts = SetMetrics(self.task, torch.device("cpu")), []
        for batch in self.batches:
            outputs = self.outputs(network, batch)
            parts.append(outcomes_of(self.task, outputs, batch))
            of_set.update(outputs, batch)
        outcomes = joined_items(parts, 0)
        return outcomes, network_metrics(self.task, outcomes, of_set.compute())


def check_names(case: TaskCase) -> None:
    task = case.task
    named = isinstance(task.name, str) and bool(task.name) and isinstance(task.metric, str)
    case.require(named, "name and metric are words", f"they are {task.name!r} and {task.metric!r}")
    rule = "higher_is_better is True or False"
    case.require(isinstance(task.higher_is_better, bool), rule, f"it is {task.higher_is_better!r}")
    rule = "selection_items is a number of items, at least 1"
    known = isinstance(task.selection_items, int) and task.selection_items >= 1
    case.require(known, rule, f"it is {task.selection_items!r}")
    rule = (
        "a task gives per-item outcomes (predict, metrics) or scores of a data set (metric_objects), or both"
    )
    case.call("it", lambda: require_scores(task), rule)


def check_model(case: TaskCase) -> None:
    rule = "model() makes a fresh torch.nn.Module each time"
    first = case.call("model()", case.network, rule)
    case.require(isinstance(first, nn.Module), rule, f"it gives a {type(first).__name__}")
    again, other = case.network(), case.network(1)
    mine = {t.data_ptr() for t in first.state_dict().values() if t.numel()}
    shared = [key for key, t in again.state_dict().items() if t.numel() and t.data_ptr() in mine]
    case.require(again is not first and not shared, rule, "two networks share their tensors")
    rule = "two networks have the same tensors, and their values follow torch's global generator"
    shapes = [[(key, t.shape) for key, t in net.state_dict().items()] for net in (first, again, other)]
    case.require(shapes[0] == shapes[1] == shapes[2], rule, "names or shapes differ from network to network")
    case.require(_same(first.state_dict(), again.state_dict()), rule, "the same seed gives other values")


def check_data(case: TaskCase) -> None:
    for split, data in (("train", case.train), ("test", case.test)):
        what = f"{split}_data()"
        sized = len(data) >= 1 and data.steps >= 1
        case.require(sized, "data has at least one item and one batch", f"{what} has none")
        case.require(_same(list(_some(data.batches())), list(_some(data.batches()))),
                     "batches() gives the same items in the same order every time", f"{what} does not")  # fmt: skip
    rule = "shuffled(seed) gives every item once, in `steps` batches, in an order that follows from the seed"
    if len(case.train) <= EPOCH:
        count = sum(1 for _ in case.train.shuffled(0))
        case.require(count == case.train.steps, rule, f"{count} batches, steps is {case.train.steps}")
        labels, drawn = _labels(case.train.batches()), _labels(case.train.shuffled(0))
        same = labels is None or drawn is None or torch.equal(labels, drawn)
        case.require(same, rule, "an epoch has other labels than the data")
    once, again, other = (list(_some(case.train.shuffled(seed))) for seed in (0, 0, 1))
    case.require(_same(once, again), rule, "the same seed gives other batches")
    case.require(len(case.train) < 4 or not _same(once, other), rule, "seeds 0 and 1 give the same batches")


def check_training(case: TaskCase) -> None:
    rule = "loss(forward(model, batch, training=True), batch) is a finite scalar with gradients"
    network, batch = case.network().train(), next(iter(case.train.shuffled(0)))
    modes = [module.training for module in network.modules()]
    outputs = case.call("forward in training", lambda: _seeded(case.task, network, batch), rule)
    unchanged = modes == [module.training for module in network.modules()]
    case.require(unchanged, "forward leaves the modes of the network as they are", "train mode has changed")
    loss = case.call("loss", lambda: case.task.loss(outputs, batch), rule)
    scalar = isinstance(loss, Tensor) and loss.ndim == 0
    seen = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    case.require(scalar, rule, f"the loss is {seen}")
    case.require(
        bool(loss.isfinite()) and loss.requires_grad, rule, f"it is {loss.item()}, or has no gradient"
    )
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    known = bool(gradients) and all(bool(gradient.isfinite().all()) for gradient in gradients)
    case.require(known, rule, "no parameter has a gradient, or one is NaN or Inf")


def check_evaluation(case: TaskCase) -> None:
    network, batch = case.network(), case.batches[0]
    kept, before = tree_map_only(Tensor, Tensor.clone, batch), _cloned(network)
    rule = "outside training the same batch gives the same outputs: noise belongs into the batch"
    with own_modes(network.modules()):
        network.eval()
        outputs = case.call("forward in eval mode", lambda: case.outputs(network, batch), rule)
        modes = [module.training for module in network.modules()]
    case.require(
        not any(modes), "forward leaves the modes of the network as they are", "eval mode has changed"
    )
    with seeded("another state"):
        again = case.outputs(network, batch)
    case.require(_same(outputs, again), rule, "two calls give different outputs")
    rule = "scoring changes neither network nor batch"
    case.require(_same(before, network.state_dict()), rule, "tensors of the network have changed")
    case.call("predict", lambda: case.task.predict(outputs, batch), "predict takes the outputs of forward")
    case.require(_same(kept, batch), rule, "the batch has changed")


def check_scores(case: TaskCase) -> None:
    rule = "predict gives {name: [B]}, metrics or metric objects give numbers, the task's metric among them"
    first, other = case.network(), case.network(1)
    outcomes, metrics = case.call("scoring", lambda: case.score(first), rule)
    case.call("it", lambda: metric_table(case.task, [metrics]), rule)
    items = sum(items_in(batch) for batch in case.batches)
    known = all(len(value) == items for value in outcomes.values()) or rows(case.batches[0]) is None
    case.require(
        known, "there is one outcome for every item", f"{items} items have outcomes of other lengths"
    )
    case.score(other)
    rule = "nothing is kept from one network to the next: metric objects are fresh"
    one, two = case.task.metric_objects(), case.task.metric_objects()
    case.require(
        not any(one[name] is two[name] for name in one), rule, "metric_objects() gives the same object twice"
    )
    found, again = case.score(first)
    case.require(
        _same(outcomes, found) and _same(metrics, again), rule, "scored again, a network has other scores"
    )


def check_items_are_independent(case: TaskCase) -> None:
    batch, size = case.batches[0], rows(case.batches[0])
    if size is None or size < 2 or not overrides(case.task, "predict"):
        return
    network, half = case.network(), tree_map(lambda leaf: leaf[: size // 2], batch)
    whole = outcomes_of(case.task, case.outputs(network, batch), batch)
    part = outcomes_of(case.task, case.outputs(network, half), half)
    rule = "the outcome of an item does not depend on the items it is scored with: batches are cut and joined"
    for name, value in part.items():
        case.require(
            _close(value, whole[name][: size // 2]), rule, f"half a batch has other values of {name!r}"
        )


def check_ensemble(case: TaskCase) -> None:
    if not overrides(case.task, "ensemble") or not overrides(case.task, "predict"):
        return
    batch = case.batches[0]
    outputs = case.outputs(case.network(), batch)
    joint = case.call(
        "ensemble", lambda: case.task.ensemble([outputs, outputs]), "ensemble takes a list of outputs"
    )
    if joint is None:
        return
    alone, together = (outcomes_of(case.task, one, batch) for one in (outputs, joint))
    rule = "a network with itself answers as it does alone"
    for name, value in alone.items():
        case.require(_close(value, together[name]), rule, f"an ensemble of two copies has another {name!r}")


CHECKS: tuple[Callable[[TaskCase], None], ...] = (
    check_names, check_model, check_data, check_training, check_evaluation, check_scores,
    check_items_are_independent, check_ensemble,
)  # fmt: skip
"""In their order: the later ones rely on the earlier."""


def _some(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The first batches, of :data:`ITEMS` items in all."""
    seen = 0
    for batch in batches:
        yield batch
        seen += items_in(batch)
        if seen >= ITEMS:
            return


def _labels(batches: Iterable[Batch]) -> Tensor | None:
    """Sorted integers that end the batches, where they do."""
    last = [batch[-1] for batch in batches if isinstance(batch, (tuple, list))]
    known = [y for y in last if isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point()]
    return torch.cat(known).sort().values if known and len(known) == len(last) else None


def _seeded(task: Task, network: nn.Module, batch: Batch) -> Any:
    with seeded("check_task"):
        return task.forward(network, batch, training=True)


def _cloned(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def _same(one: Any, other: Any) -> bool:
    """Equal values in nested containers, NaN included."""
    mine, theirs = tree_leaves(one), tree_leaves(other)
    return len(mine) == len(theirs) and all(_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=0, atol=0, equal_nan=True)
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or bool(a == b)


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding; of integers nearly all."""
    if a.shape != b.shape:
        return False
    if a.is_floating_point():
        return torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
    return float((a == b).double().mean()) >= ALIKE
