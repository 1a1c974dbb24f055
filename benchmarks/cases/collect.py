"""Collecting the last two norm layers of a network: what a run does against a plain loop.

Two plain variants, both in eval mode with the same optimiser and batches, keeping the vector of every step: gradients
for all parameters, as in a training script that only hands the selected ones to the optimiser; and with the rest
frozen by ``requires_grad_(False)``, where autograd itself leaves out the backward pass below the first trained
tensor. Ours is :class:`paramdiff.collectors.trajectory.TrajectoryCollector` as a run uses it: with its saves.

What happens once (building the network, scoring the members) is taken off: the time is that of collecting
2 + steps members less that of collecting 2.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.inputs import World, fresh, reference, shortened
from benchmarks.measure import Candidate, Estimate, measured, timed
from benchmarks.rows import Row
from benchmarks.sizes import Reference
from paramdiff.collectors.trajectory import TrajectoryCollector
from paramdiff.devices import choose_device
from paramdiff.files import save_tensors
from paramdiff.seeds import mix
from paramdiff.tasks.batches import on_device
from paramdiff.tasks.task import Batch
from paramdiff.zoo.state_dicts import load_file

LEAST = 2
"""Members of a zoo."""


@dataclass(frozen=True)
class Sizes(Reference):
    """
    Attributes:
        steps: optimiser steps that are timed.
    """

    steps: int = 40


QUICK = {"steps": 4}


def run(sizes: Sizes) -> Iterator[Row]:
    world = reference(sizes)
    with tempfile.TemporaryDirectory() as folder:
        made = Collecting(sizes, world, Path(folder))
        measurements, (ours, *plain) = measured(
            Candidate("ours", lambda: made.beyond_least(made.ours)),
            Candidate("plain module, all gradients", lambda: made.beyond_least(made.full)),
            Candidate("plain module, rest frozen", lambda: made.beyond_least(made.frozen)),
            rounds=sizes.rounds, device=sizes.device, warm=False,
        )  # fmt: skip
    spread = ours.vectors.std()
    differs = max(float((ours.vectors[0] - theirs.vectors[0]).abs().max() / spread) for theirs in plain)
    what = f"collect {sizes.steps} steps of {sizes.select}, D = {ours.vectors.shape[1]:,}, batch 128"
    rate = {"steps per second": sizes.steps / measurements[0].median}
    yield Row(what, measurements, quality={"largest difference after a step": differs}, figures=rate)


class Collected(Estimate):
    """Seconds of the steps, with the members."""

    vectors: Tensor


class Collecting:
    """The three variants on one world.

    Args:
        folder: for the weights that all start from.
    """

    def __init__(self, sizes: Sizes, world: World, folder: Path) -> None:
        self.sizes, self.world, self.device = sizes, world, choose_device(sizes.device)
        self.task = shortened(world.task, train=128 * (sizes.steps + LEAST), test=1)
        self.task.selection_items = 1  # members are scored at the end, which is no part of a step
        self.data = on_device(self.task.train_data(), self.device)
        self.weights = folder / "weights.safetensors"
        save_tensors(self.weights, world.model.state_dict())

    def settings(self, k: int) -> TrajectoryCollector:
        return TrajectoryCollector(
            optimizer="adamw", lr=0.03, weight_decay=5e-4, k=k, select=self.sizes.select, weights=str(self.weights)
        )  # fmt: skip

    def beyond_least(self, variant: Callable[[int], Tensor]) -> Collected:
        """Seconds of a variant for the steps after the first :data:`LEAST`."""
        fixed, _ = timed(lambda: variant(LEAST), self.sizes.device)
        whole, vectors = timed(lambda: variant(LEAST + self.sizes.steps), self.sizes.device)
        collected = Collected(max(whole - fixed, 1e-9))
        collected.vectors = vectors
        return collected

    def ours(self, k: int) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            return self.settings(k).collect(self.task, Path(folder), self.device).vectors

    def full(self, k: int) -> Tensor:
        return self._plain(k, frozen=False)

    def frozen(self, k: int) -> Tensor:
        return self._plain(k, frozen=True)

    def _plain(self, k: int, *, frozen: bool) -> Tensor:
        """K members of the plain module, on the batches of ours."""
        settings, spec = self.settings(k), self.world.zoo.spec
        model = fresh(self.task).to(self.device)
        load_file(model, str(self.weights))
        model.requires_grad_(not frozen)
        trained = [p.requires_grad_() for name, p in model.named_parameters() if name in spec.keys]
        optimiser = settings.over(trained)
        members = []
        for batch in islice(self._batches(settings.seed), k):
            loss = self.task.loss(model(batch[0]), batch)
            model.zero_grad()
            loss.backward()
            optimiser.step()
            members.append(spec.flatten(model.state_dict()))
        return torch.stack(members)

    def _batches(self, seed: int) -> Iterator[Batch]:
        for epoch in count():
            yield from self.data.shuffled(mix("collect", seed, epoch))
