"""The one protocol of every way to make a zoo from a task, and what the ways share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paramdiff.errors import CheckpointError, TaskError
from paramdiff.networks.prefix import SharedPrefix
from paramdiff.networks.ties import tied_keys
from paramdiff.seeds import seeded
from paramdiff.tasks.base import Data, Task
from paramdiff.tasks.evaluate import outcomes
from paramdiff.zoo.zoo import Zoo

SMALL_NETWORK = 100_000
"""Parameters below which one thread is used. A step takes about a millisecond then: a second thread saves
little on an idle machine, and on a busy one costs ten times the work in waiting. The result then also has
the same bits whatever the number of threads."""


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


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a complete state dict; of tied tensors one is enough.

    Raises:
        CheckpointError: names or shapes do not fit the network.
    """
    own, whole = model.state_dict(keep_vars=True), dict(state)
    for keys in tied_keys(own):
        given = next((state[key] for key in keys if key in state), None)
        whole |= {} if given is None else dict.fromkeys(keys, given)
    shapes = {name: (list(whole[name].shape), list(own[name].shape)) for name in whole.keys() & own.keys()}
    wrong = [
        f"{name} has shape {came}, not {wanted}" for name, (came, wanted) in shapes.items() if came != wanted
    ]
    if not wrong:
        keys = model.load_state_dict(whole, strict=False)
        wrong += [f"{name} is missing" for name in keys.missing_keys]
        wrong += [f"{name} has no place" for name in keys.unexpected_keys]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{source} does not fit the task's network ({', '.join(wrong[:3])}{more})",
            expected="a complete state dict of that network",
        )


@contextmanager
def suitable_threads(model: nn.Module) -> Iterator[None]:
    """One thread inside if the network is small; as before afterwards."""
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL_NETWORK:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
