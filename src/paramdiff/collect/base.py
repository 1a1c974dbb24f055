"""The one protocol of every way to make a zoo from a task, and what the ways share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from paramdiff.errors import TaskError
from paramdiff.networks.prefix import SharedPrefix
from paramdiff.seeds import seeded
from paramdiff.tasks.base import Data, Task
from paramdiff.tasks.evaluate import outcomes
from paramdiff.zoo.zoo import Zoo


class Way(ABC):
    """A way to make a zoo. Subclasses are dataclasses of settings.

    Class attributes:
        way: its name in ``Zoo.about`` and in the configuration.
    """

    way: ClassVar[str]

    @abstractmethod
    def collect(self, task: Task, folder: Path, device: torch.device | str = "cpu") -> Zoo:
        """K members, each with the seed, step and score on the training data that are known of it.

        Args:
            task: gives the network and its data.
            folder: where state is kept. Killed anywhere, the same call goes on there and ends with
                the same bits. It must not hold the state of other settings.
            device: where the network runs; the zoo is on the CPU.

        Raises:
            SelectionError: the selection matches nothing or cannot be collected in this way.
            NumericalError: NaN or Inf appeared.
        """


def fresh_network(task: Task, device: torch.device | str, *key: int | str) -> nn.Module:
    """The task's network, initialised from a key."""
    with seeded("initialise", *key):
        model = task.model()
    if not isinstance(model, nn.Module):
        raise TaskError(
            f"model() of task {task.name!r} is a {type(model).__name__}", expected="a torch.nn.Module"
        )
    return model.to(device)


def size(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def add_train_scores(zoo: Zoo, task: Task, model: nn.Module, data: Data) -> None:
    """Record each member's score on the training data, as ``scores["train"]``.

    Args:
        zoo: its records are changed.
        task: gives the metric.
        model: holds the frozen tensors of the zoo, on the data's device.
        data: the training data; read once for all members.
    """
    shared = SharedPrefix(model, zoo.spec.keys)
    vectors = zoo.vectors.to(next(iter(model.state_dict().values())).device)

    def members(*inputs: Any) -> Iterator[Any]:
        boundary = shared.prefix(*inputs)
        return (shared.suffix(boundary, zoo.spec.unflatten(v)) for v in vectors)

    found = outcomes(task, members, data, "scoring originals")
    for index, record in enumerate(zoo.records):
        scores = task.metrics({name: values[index] for name, values in found.items()})
        record.scores["train"] = scores[task.metric]
