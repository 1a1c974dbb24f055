"""Scores of a whole data set, accumulated batch by batch by a task's metric objects.

Every network has objects of its own, which see all batches in their order. So nothing has to be merged, and the
numbers do not depend on how many processes share the work: they share the networks.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paramdiff.errors import TaskError
from paramdiff.seeds import seeded
from paramdiff.tasks.task import Batch, Task, overrides

NETWORKS_AT_ONCE = 16
"""Networks whose metric objects are in memory together."""


class SetMetrics:
    """The metric objects of one network, updated batch by batch; none where the task has none.

    Args:
        task: makes the objects and knows what they take.
        device: where the outputs are.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.broken = task, False
        self.objects: dict[str, Any] = {}
        if overrides(task, "metric_objects"):
            with seeded("metric objects"):  # e.g. a feature extractor that is initialised at random
                self.objects = {name: _placed(one, device) for name, one in task.metric_objects().items()}

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in a batch; after the first NaN in its outputs a network has no score."""
        self.broken = self.broken or (bool(self.objects) and _holds_nan(outputs))
        if self.objects and not self.broken:
            self.task.update_metrics(self.objects, outputs, batch)

    def compute(self) -> dict[str, float] | None:
        """The scores by name; None for a network that returned NaN.

        Raises:
            TaskError: an object gives something else than numbers.
        """
        if self.broken:
            return None
        with seeded("metrics"):  # some draw subsets
            found = [_numbers(name, one.compute(), self.task) for name, one in self.objects.items()]
        return {name: value for one in found for name, value in one.items()}


def _placed(one: Any, device: torch.device) -> Any:
    return one.to(device) if isinstance(one, nn.Module) else one


def _holds_nan(outputs: Any) -> bool:
    leaves = (leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return any(bool(leaf.isnan().any()) for leaf in leaves)


def _numbers(name: str, value: Any, task: Task) -> dict[str, float]:
    """A number under the object's name, or the numbers of a mapping under their own."""
    named = value if isinstance(value, Mapping) else {name: value}
    found = {key: number for key, one in named.items() if (number := _number(one)) is not None}
    if not found:
        raise TaskError(
            f"metric object {name!r} of task {task.name!r} computes a {type(value).__name__}",
            expected="a number, or a mapping from names to numbers",
        )
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    try:
        return float(value) if not isinstance(value, str) else None
    except (TypeError, ValueError):
        return None
