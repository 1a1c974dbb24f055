"""Ways to train many seeds of a small network, timed alternately in one process.

    PARAMDIFF_DATA=ROOT python benchmarks/seeds.py --data mnist --model mlp
    PARAMDIFF_DATA=ROOT python benchmarks/seeds.py --data cifar10 --model convnet3 --items 2560

Every way does the same work: each of S seeds takes one pass over the first ``--items`` training images in
batches of ``--batch``. Numbers are medians over rounds, per seed and 1,000 steps: seconds, seconds of CPU (which
other work on the machine hardly changes), and the speed relative to the first way in the same round.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from paramdiff.collect.base import fresh_network
from paramdiff.collect.optimisation import TrainingConfig
from paramdiff.collect.workers import spread
from paramdiff.seeds import mix
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.classification import Images
from paramdiff.tasks.images import ImageData

Way = Callable[[], None]


class Trainings:
    """S seeds of one network on one data set, in every way.

    Args:
        words: the command line.
    """

    def __init__(self, words: argparse.Namespace) -> None:
        settings = Images(words.data, model=words.model, batch_size=words.batch, augment=Augment())
        self.task, self.seeds, self.device = settings.make(), words.seeds, torch.device(words.device)
        self.config = TrainingConfig(epochs=1, optimizer="adam")
        whole: ImageData = self.task.train_data()
        part = replace(whole, images=whole.images[: words.items], labels=whole.labels[: words.items])
        self.data = part.to(self.device)

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

    def ways(self) -> dict[str, Way]:
        n = torch.get_num_threads()
        found: dict[str, Way] = {"one after another, 1 thread": self.in_turn}
        if self.device.type == "cpu":
            found[f"one after another, {n} threads"] = lambda: self.in_turn(n)
            found[f"{n} processes, 1 thread each"] = lambda: self.processes(n)
        found["stacked, 1 thread, an order each"] = lambda: self.stacked(False)
        found["stacked, 1 thread, one order"] = lambda: self.stacked(True)
        found["compiled, 1 thread, once it is compiled"] = lambda: self.in_turn(compiled=True)
        return found

    def timed(self, way: Way) -> tuple[float, float]:
        """Seconds, and seconds of CPU, children included."""
        started, used = time.perf_counter(), sum(os.times()[:4])
        way()
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter() - started, sum(os.times()[:4]) - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--items", type=int, default=12_800, help="training images of a pass")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    words = parser.parse_args()
    trainings = Trainings(words)
    ways = trainings.ways()
    for name, way in ways.items():  # first calls load libraries and compile
        print(f"first call of {name}: {trainings.timed(way)[0]:.1f} s", flush=True)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(words.rounds):
        for name, way in ways.items():
            times[name].append(trainings.timed(way))
    first = next(iter(times.values()))
    thousands = words.seeds * trainings.data.steps / 1000
    print("| way | s | s of CPU | speed | speed by CPU |\n|---|---|---|---|---|")
    for name, rounds in times.items():
        wall, cpu = (median(both) / thousands for both in zip(*rounds))
        speeds = (median(a[i] / b[i] for a, b in zip(first, rounds)) for i in (0, 1))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {' | '.join(f'{speed:.2f}' for speed in speeds)} |")


if __name__ == "__main__":
    main()
