"""The protocol of collectors, which make a zoo from a task, and what they share."""

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from paramdiff.chance import near_chance
from paramdiff.collectors.optimisation import TrainingConfig
from paramdiff.devices import SMALL, require_memory, suitable_threads
from paramdiff.distributed import main_process_first
from paramdiff.errors import ConfigError, TaskError, check_choice
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import say
from paramdiff.registry import Registry
from paramdiff.scoring.scorer import Scorer
from paramdiff.seeds import seeded
from paramdiff.tasks.batches import on_device
from paramdiff.tasks.task import Data, Task
from paramdiff.zoo.score_bins import assign_score_bins
from paramdiff.zoo.zoo import Zoo, too_small


class Collector(ABC):
    """Makes a zoo from a task. Subclasses are dataclasses of settings.

    Class attributes:
        name: in ``Zoo.about["collector"]``, ``results.json`` and the configuration, set by ``@register``.
        one_thread: parameters below which a network is run by one thread.
        align: whether members' hidden units are put in a common order afterwards
            (:mod:`paramdiff.zoo.alignment`); a setting of collectors whose members may differ in it.
    """

    name: ClassVar[str]
    one_thread: ClassVar[int] = SMALL
    align: str = "false"

    def collect(self, task: Task, folder: Path, device: torch.device | str = "cpu") -> Zoo:
        """K members, each with the seed, step, score on the training data and class of accuracy known of it.

        Every rank calls it with the same folder and gets the same zoo. First come :meth:`members`, then their scores,
        then those that are :meth:`wanted`.

        Args:
            task: gives the network and its data.
            folder: where state is kept. Killed anywhere, the same call goes on there and ends with
                the same bits. It must not hold the state of other settings.
            device: where the network runs; the zoo is on the CPU.

        Raises:
            SelectionError: the selection matches nothing or cannot be collected like this.
            NumericalError: NaN or Inf appeared.
        """
        zoo = self.members(task, folder, device)
        with suitable_threads(sum(tensor.numel() for tensor in zoo.base.values()), self.one_thread):
            add_train_scores(zoo, task, device)
        return assign_score_bins(self.wanted(zoo), "train", higher_is_better=task.higher_is_better)

    @abstractmethod
    def members(self, task: Task, folder: Path, device: torch.device | str) -> Zoo:
        """The members without scores; arguments and errors are those of :meth:`collect`."""

    def wanted(self, zoo: Zoo) -> Zoo:
        """The members to keep, now that their scores are known; by default all of them."""
        return zoo

    def state_bytes(self, vectors: int, network: int) -> int | None:
        """Disk that collecting needs beside the zoo, from the bytes of ``V`` and of a network; None if unknown."""
        return None


COLLECTORS: Registry[type[Collector]] = Registry("collector", "collectors")
"""Options of the configuration group ``zoo``."""

register = COLLECTORS.register


def alignment(word: object) -> str:
    """``true``, ``false`` or ``auto`` from what YAML made of it.

    Raises:
        ConfigError: something else.
    """
    text = str(word).lower()
    check_choice("align", text, ("true", "false", "auto"))
    return text


def fresh_network(task: Task, device: torch.device | str, *key: int | str) -> nn.Module:
    """The task's network, initialised from a key."""
    with seeded("initialise", *key):
        model = task.model()
    if not isinstance(model, nn.Module):
        raise TaskError(
            f"model() of task {task.name!r} is a {type(model).__name__}", expected="a torch.nn.Module"
        )
    return model.to(device)


def training_data(task: Task, device: torch.device | str) -> Data:
    """The task's training data on the device. Of several ranks the first reads it first and may leave it in a
    cache."""
    with main_process_first():
        return on_device(task.train_data(), device)


def learnable_spec(model: nn.Module, select: str, k: int) -> ParameterSpec:
    """The selection, refused before anything is trained if there is too little to learn in it, or too much.

    Raises:
        SelectionError: nothing matches.
        ZooError: D < 2.
        ConfigError: K such members would not fit into memory.
    """
    spec = ParameterSpec.from_model(model, select)
    problem = too_small(spec)
    if problem is not None:
        raise problem
    size = k * spec.dim * spec.dtype.itemsize
    require_memory(
        f"{k:,} members of {spec.dim:,} parameters",
        size,
        partial(ConfigError, "zoo.k"),
        "lower it, or select fewer tensors",
    )
    return spec


def training_length(training: TrainingConfig, data: Data) -> dict[str, int]:
    """How long a network is trained, for ``about["training"]``; printed before it begins.

    ``updates`` of the optimiser say more than epochs do: an epoch over few items is next to nothing.
    """
    steps, items = data.steps, len(data)
    updates = training.epochs * steps
    epochs = f"{training.epochs:,} epoch{'s' * (training.epochs != 1)}"
    say(f"  {updates:,} updates a training: {epochs} of {steps:,} over {items:,} items")
    return {"epochs": training.epochs, "updates_per_epoch": steps, "updates": updates, "items": items}


def add_train_scores(zoo: Zoo, task: Task, device: torch.device | str) -> None:
    """Record each member's score on the training data, as ``scores["train"]``.

    Where their mean is near chance, a warning says so, and is kept as ``about["near_chance"]``.
    """
    scorer = Scorer(task, zoo, device)
    scores = scorer.score(zoo.vectors, "train").metric
    for record, score in zip(zoo.records, scores.tolist(), strict=True):
        record.scores["train"] = score
    about = zoo.about.get("training")
    updates = about.get("updates") if isinstance(about, dict) else None
    trained = f"{updates:,} updates" if isinstance(updates, int) else ""
    mean, chance = float(scores.mean()), scorer.chance("train")
    said = near_chance(mean, chance, "the training data", task.metric, trained)
    zoo.about.pop("near_chance", None)  # of another task
    if said:
        zoo.about["near_chance"] = said
        say(f"  WARNING: {said}")
