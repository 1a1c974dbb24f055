"""Gradient descent on a task, resumable at every step.

The learning rate, the order of the data and the noise of dropout at step ``t`` follow from ``t`` and a
key alone, so the state on disk is no more than the network and its optimiser.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from paramdiff.collectors.learning_curve import CURVE, LearningCurve
from paramdiff.errors import TaskError, check_choice
from paramdiff.progress import Forecast
from paramdiff.seeds import mix, seeded
from paramdiff.settings import FACTOR, RATE, SHARE, Range, Ranges, check_ranges
from paramdiff.tasks.task import Batch, Data, Task
from paramdiff.training import Stateful, Training

OPTIMISERS = ("sgd", "adam", "adamw")

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
}
"""From the share of the steps that is done to a factor on the learning rate."""


@dataclass
class Optimisation:
    """Settings of an optimiser.

    Attributes:
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        lr: learning rate.
        momentum: of ``sgd``.
        weight_decay: decoupled in ``adamw``, added to the gradient in the others.
    """

    RANGES: ClassVar[Ranges] = {"lr": RATE, "momentum": SHARE, "weight_decay": FACTOR}

    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("optimizer", self.optimizer, OPTIMISERS)

    def over(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The optimiser of these parameters, in one fused operation per step where there is one."""
        parameters = list(parameters)
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        common: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "fused": fused}
        if self.optimizer == "sgd":
            return SGD(parameters, momentum=self.momentum, **common)
        return (Adam if self.optimizer == "adam" else AdamW)(parameters, **common)


@dataclass
class TrainingConfig(Optimisation):
    """Settings of the training of a whole network.

    Attributes:
        epochs: passes over the training data; 0 leaves the network as it is made, e.g. pretrained.
        schedule: ``constant``, or ``cosine`` down to zero.
        warmup: share of the steps in which the learning rate rises from zero.
    """

    RANGES: ClassVar[Ranges] = {"epochs": Range(least=0, most=100_000), "warmup": SHARE}

    lr: float = 3e-3
    epochs: int = 8
    schedule: str = "cosine"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("schedule", self.schedule, SCHEDULES)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step ``step`` of ``steps``."""
        rise = self.warmup * steps
        if step < rise:
            return self.lr * (step + 1) / (rise + 1)
        return self.lr * SCHEDULES[self.schedule]((step - rise) / (steps - rise))

    def train(
        self, model: nn.Module, task: Task, data: Data, *, path: Path, name: str, seed: int, show: bool = True,
        watched: bool = False, forecast: Forecast | None = None,
    ) -> None:  # fmt: skip
        """Train all parameters that take gradients, in train mode; ``path`` keeps the state.

        Args:
            watched: note its score on the way, in ``curve.json`` beside ``path``.
            forecast: of all trainings, if it is one of many.

        Raises:
            NumericalError: NaN or Inf in the loss or the network.
        """
        model.train()
        steps = self.epochs * data.steps
        optimiser = self.over(p for p in model.parameters() if p.requires_grad)
        parts: dict[str, Stateful] = {"model": model, "optimiser": optimiser}
        watch = LearningCurve(model, task, data, steps) if watched and steps else None
        parts |= {"watch": watch} if watch else {}
        training = Training(name, steps, parts, path, show=show, forecast=forecast)

        def look(step: int) -> None:
            if watch:
                watch.look(step + 1)

        look(-1)
        descend(
            training, task, data, model=model, optimiser=optimiser, key=(name, seed),
            rate=lambda step: self.rate(step, steps), after=look,
        )  # fmt: skip
        if watch:
            watch.write(path.with_name(CURVE))


def descend(
    training: Training, task: Task, data: Data, *, model: nn.Module, optimiser: Optimizer,
    key: tuple[str, int], rate: Callable[[int], float], after: Callable[[int], None] = lambda step: None,
) -> None:  # fmt: skip
    """Do the steps that are left of ``training``.

    Args:
        model: the network, in the mode in which it learns; gradients reach the optimiser's parameters.
        key: of the data's order and of what the network itself draws.
        rate: learning rate of a step.
        after: called after each step.
    """
    batches = _endless(data, key, training.start)
    device = optimiser.param_groups[0]["params"][0].device
    with seeded(*key):  # so that torch's generator is as before afterwards
        for step in training:
            _reseed(device, *key, step)
            batch = next(batches)
            loss = _loss(task, model, batch)
            optimiser.zero_grad()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = rate(step)
            optimiser.step()
            training.log(step, loss)
            after(step)


def _loss(task: Task, model: nn.Module, batch: Batch) -> Tensor:
    outputs = task.forward(model, batch, training=True)
    try:
        return task.loss(outputs, batch)
    except Exception as error:  # whatever a user's code raises that meets predictions instead of losses
        if model.training:
            raise
        raise TaskError(
            f"loss of task {task.name!r} fails on what its network gives in eval mode "
            f"({type(error).__name__}: {error})",
            expected="the outputs of a network whose frozen part must not change",
            remedy="override Task.forward(model, batch, training): then it is in train mode",
        ) from error


def _endless(data: Data, key: tuple[str, int], start: int) -> Iterator[Batch]:
    """Batches of one shuffled epoch after the other, from step ``start`` on."""
    first, skip = divmod(start, data.steps)
    for epoch in count(first):
        yield from islice(data.shuffled(mix(*key, epoch)), skip if epoch == first else 0, data.steps)


def _reseed(device: torch.device, *key: int | str) -> None:
    """Seed what dropout draws from; ``torch.manual_seed`` would take as long as a small network's step."""
    seed = mix(*key)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        with module.device(device) if device.index else nullcontext():  # it seeds the present device
            module.manual_seed(seed)
