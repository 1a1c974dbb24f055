"""Ways to train many seeds of a small network: what ``zoo=seeds`` does against one after another, and others.

Every variant does the same work: each of S seeds takes one pass over the first training images. Times are those of the
whole work; per seed and 1,000 steps they are among the figures, with seconds of CPU, which other work on the
machine hardly changes. Ours is, on the CPU, as many processes of one thread as torch has threads.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks.inputs import random_task, shortened
from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common
from paramdiff.collectors.collector import fresh_network
from paramdiff.collectors.optimisation import TrainingConfig
from paramdiff.collectors.processes import spread
from paramdiff.devices import choose_device
from paramdiff.seeds import mix
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.batches import on_device
from paramdiff.tasks.classification import ImageClassification, Images

Work = Callable[[], None]


@dataclass(frozen=True)
class Subject:
    """A network on a data set.

    Attributes:
        shape, classes: of the images, where there is no data.
        items: training images of a pass.
        seeds: S.
    """

    data: str
    model: str
    shape: tuple[int, int, int]
    classes: int
    items: int
    seeds: int

    def task(self, real: bool) -> ImageClassification:
        if not real:
            return random_task(self.model, self.shape, self.classes, self.items, 1, augment=Augment())
        return shortened(
            Images(self.data, model=self.model, augment=Augment()).make(), train=self.items, test=1
        )


SUBJECTS = (
    Subject("mnist", "mlp", (1, 28, 28), 10, 60_000, 8),
    Subject("cifar10", "convnet3", (3, 32, 32), 10, 1_920, 2),
)


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        compiled: measure ``torch.compile`` too, where there is a C++ compiler.
    """

    subjects: tuple[Subject, ...] = SUBJECTS
    compiled: bool = True


QUICK = {
    "subjects": tuple(replace(one, items=512, seeds=2) for one in SUBJECTS),
    "compiled": False,
}


def run(sizes: Sizes) -> Iterator[Row]:
    threads = torch.get_num_threads()
    for subject in sizes.subjects:
        trainings = Trainings(subject, sizes)
        named = trainings.variants(threads)
        first = "processes" if "processes" in named else "one after another, 1 thread"
        others = [
            Candidate(name, trainings.watched(name, work)) for name, work in named.items() if name != first
        ]
        mine = Candidate(f"ours: {first}", trainings.watched(first, named[first]))
        measurements, _ = measured(mine, *others, rounds=sizes.rounds, device=sizes.device)
        torch.set_num_threads(threads)
        yield Row(
            f"train {subject.seeds} seeds of {subject.model} on {subject.data}, {trainings.data.steps} steps each",
            measurements, figures=trainings.figures(first, measurements[0].median, sizes.rounds),
        )  # fmt: skip


class Trainings:
    """S seeds of one network on one data set, in every variant."""

    def __init__(self, subject: Subject, sizes: Sizes) -> None:
        self.task, self.seeds = subject.task(sizes.data is not None), subject.seeds
        self.device, self.compiled = choose_device(sizes.device), sizes.compiled and shutil.which("c++")
        self.config = TrainingConfig(epochs=1, optimizer="adam")
        self.data: Any = on_device(self.task.train_data(), self.device)
        self.used: dict[str, list[float]] = {}

    def one(self, seed: int, compiled: bool = False) -> None:
        """What ``zoo=seeds`` does for a seed."""
        model = fresh_network(self.task, self.device, seed)
        if compiled:
            model.compile()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            self.config.train(model, self.task, self.data, path=path, name="seed", seed=seed, show=False)

    def in_turn(self, threads: int = 1, compiled: bool = False) -> None:
        torch.set_num_threads(threads)
        for seed in range(self.seeds):
            self.one(seed, compiled)

    def processes(self, count: int) -> None:
        torch.set_num_threads(1)
        for _ in spread(self.one, range(self.seeds), count):
            pass

    def stacked(self, one_order: bool) -> None:
        """All seeds in one network of stacked parameters, by ``torch.func``."""
        torch.set_num_threads(1)
        models = [fresh_network(self.task, self.device, seed) for seed in range(self.seeds)]
        parameters, buffers = stack_module_state(models)
        leaves = [p.detach().requires_grad_() for p in parameters.values()]
        optimiser = self.config.over(leaves)

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.cross_entropy(functional_call(models[0], (parameters, buffers), (x,)), y)

        shared = None if one_order else 0
        step = vmap(grad_and_value(loss), in_dims=(0, 0, shared, shared))
        orders = [self.data.shuffled(mix("seed", 0 if one_order else seed, 0)) for seed in range(self.seeds)]
        for batches in zip(*orders[:1] if one_order else orders):
            x, y = batches[0] if one_order else (torch.stack(part) for part in zip(*batches))
            gradients, _ = step(dict(zip(parameters, leaves)), buffers, x, y)
            for leaf, name in zip(leaves, parameters):
                leaf.grad = gradients[name]
            optimiser.step()

    def variants(self, threads: int) -> dict[str, Work]:
        found: dict[str, Work] = {"one after another, 1 thread": self.in_turn}
        if self.device.type == "cpu" and threads > 1:
            found[f"one after another, {threads} threads"] = lambda: self.in_turn(threads)
            found["processes"] = lambda: self.processes(threads)
        found["stacked, 1 thread, an order each"] = lambda: self.stacked(False)
        found["stacked, 1 thread, one order"] = lambda: self.stacked(True)
        if self.compiled:
            found["compiled, 1 thread, once it is compiled"] = lambda: self.in_turn(compiled=True)
        return found

    def watched(self, name: str, work: Work) -> Work:
        """The same, with the seconds of CPU of every call noted, those of children included."""

        def watching() -> None:
            before = sum(os.times()[:4])
            work()
            self.used.setdefault(name, []).append(sum(os.times()[:4]) - before)

        return watching

    def figures(self, first: str, seconds: float, rounds: int) -> dict[str, float]:
        """Of ours, per seed and 1,000 steps."""
        thousands = self.seeds * self.data.steps / 1000
        return {
            "s per seed and 1,000 steps": seconds / thousands,
            "s of CPU": median(self.used[first][-rounds:]) / thousands,
        }
