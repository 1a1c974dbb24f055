"""Per-item outcomes over a whole data set, of many networks that share a part."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from paramdiff.errors import TaskError
from paramdiff.progress import bar
from paramdiff.tasks.base import Data, Task

Forwards = Callable[..., Iterable[Any]]
"""From the inputs of a batch to the outputs of N networks, one after the other."""


@torch.no_grad()
def outcomes(task: Task, forwards: Forwards, data: Data, text: str = "scoring") -> dict[str, Tensor]:
    """Outcomes ``{name: [N, items]}`` of N networks, on the CPU.

    Args:
        task: gives the inputs of a batch, and the outcomes from the outputs.
        forwards: the networks in evaluation mode, e.g. ``lambda *x: [model(*x)]`` for a single one.
            What they share is computed by it once per batch.
        data: on the networks' device (:func:`paramdiff.tasks.data.ready`).
        text: what the bar says.

    Raises:
        TaskError: ``predict`` does not give one value per item.
    """
    parts = []
    for batch in bar(data.batches(), text, unit="batch"):
        each = [task.predict(outputs, batch) for outputs in forwards(*task.inputs(batch))]
        parts.append({name: torch.stack([one[name] for one in each]).cpu() for name in each[0]})
    return {name: _join(name, [part[name] for part in parts], len(data)) for name in parts[0]}


def _join(name: str, parts: list[Tensor], items: int) -> Tensor:
    if parts[0].ndim == 2 and sum(part.shape[1] for part in parts) == items:
        return torch.cat(parts, dim=1)
    raise TaskError(
        f"predict() gives {name!r} of shape {list(parts[0].shape[1:])} for the first of {len(parts)} batches "
        f"with {items} items in all",
        expected="one value per item, shape [B]",
    )
