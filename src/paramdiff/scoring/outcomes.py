"""From the outputs of a network to per-item outcomes, and from these and metric objects to a table of metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from paramdiff.errors import TaskError
from paramdiff.tasks.task import Batch, Task, overrides

Outcomes = dict[str, Tensor]


def outcomes_of(task: Task, outputs: Any, batch: Batch) -> Outcomes:
    """Outcomes of one network for one batch, {name: [B, ...]}, with NaN counted as wrong.

    Raises:
        TaskError: they are not one value per item.
    """
    outcomes = {name: _compact(value) for name, value in task.predict(outputs, batch).items()}
    whole = overrides(task, "metric_objects")
    if whole and not outcomes:
        return {}
    size = common_length(outcomes, task.name, several=whole)
    if not {"nll", "correct"}.intersection(outcomes):
        return outcomes
    broken = _broken_items(outputs, size, next(iter(outcomes.values())).device)
    if "nll" in outcomes:
        broken = broken | outcomes["nll"].isnan()
        outcomes["nll"] = outcomes["nll"].masked_fill(broken, torch.inf)
    if "correct" in outcomes:
        outcomes["correct"] = outcomes["correct"].bool() & ~broken
    return outcomes


def common_length(outcomes: Mapping[str, Tensor], task: str, several: bool = False) -> int:
    """Items of a batch, from its outcomes.

    Args:
        outcomes: by name.
        task: its name.
        several: whether an item may have several values.

    Raises:
        TaskError: they are not one value per item.
    """
    shapes = {name: list(value.shape) for name, value in outcomes.items()}
    sizes = {tuple(shape[:1] if several else shape) for shape in shapes.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise TaskError(
            f"predict of task {task!r} gives outcomes of shapes {shapes}",
            expected="{name: [B]}, one value per item",
            remedy="give what is known only of a whole data set by metric_objects()",
        )
    return next(iter(sizes))[0]


def stacked(rows: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of all networks from those of each; empty without a network."""
    return {name: torch.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def joined_items(parts: Sequence[Outcomes], dim: int) -> Outcomes:
    """Outcomes of all items from those of each batch, on the CPU; empty without a batch."""
    return {
        name: torch.cat([part[name] for part in parts], dim).cpu() for name in (parts[0] if parts else ())
    }


def network_metrics(task: Task, outcomes: Outcomes, of_set: Mapping[str, float] | None) -> dict[str, float]:
    """Metrics of one network, from its outcomes [items, ...] and the values of its metric objects; None if it is
    broken."""
    unknown = {task.metric: math.nan} if of_set is None else of_set
    return {**unknown, **(task.metrics(outcomes) if outcomes else {})}


def metric_table(task: Task, each: Sequence[Mapping[str, float]], partial: bool = False) -> dict[str, Tensor]:
    """Metrics of N networks, float64 [N] by name, the task's first metric first; NaN of that one is the worst.

    Args:
        task: says which metric that is.
        each: metrics of every network; one that gave no number lacks them.
        partial: whether the first metric may be missing.

    Raises:
        TaskError: it is missing.
    """
    first, names = task.metric, dict.fromkeys(name for one in each for name in one)
    if names and not partial and first not in names:
        raise TaskError(f"metrics of task {task.name!r} gives {', '.join(names)}", expected=first)
    order = [*([] if partial and first not in names else [first]), *(name for name in names if name != first)]
    table = {
        name: torch.tensor([one.get(name, math.nan) for one in each], dtype=torch.float64) for name in order
    }
    worst = -torch.inf if task.higher_is_better else torch.inf
    if first in table:
        table[first] = table[first].nan_to_num(nan=worst, posinf=torch.inf, neginf=-torch.inf)
    return table


def _compact(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _broken_items(outputs: Any, size: int, device: torch.device) -> Tensor:
    """bool [B]: items for which an output holds NaN or +Inf (-Inf may be a masked logit)."""
    broken = torch.zeros(size, dtype=torch.bool, device=device)
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.shape[:1] == (size,):
            bad = leaf.isnan() | leaf.isposinf()
            broken |= bad.flatten(1).any(1) if bad.ndim > 1 else bad
    return broken
