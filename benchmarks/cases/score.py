"""Scoring N networks that differ in a few tensors: the shared prefix against full forwards.

The plain way, as one would write it with care: the network in eval mode and channels-last, the batches ready in
memory, and for every network its tensors loaded and all images run through, without gradients. It is timed with
our rounding (only convolutions and attention in bfloat16), with ``torch.autocast``, and in float32, on a few of
the networks. Ours pays for everything: building the network, tracing, normalising pixels, likelihoods.

The gain that the multiply-adds allow is ``N W / (P + N S)`` for W of the whole network, P of the prefix and S of the
suffix; ``achieved`` is the part of it that was reached against our rounding.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.inputs import World, imagined, random_task, reference
from benchmarks.measure import Candidate, measured
from benchmarks.rows import Measurement, Row
from benchmarks.sizes import Reference
from paramdiff.devices import choose_device, size
from paramdiff.networks.precision import is_fast, products
from paramdiff.networks.shared_prefix import SharedPrefix
from paramdiff.scoring.scorer import Scorer


class OwnNetwork(nn.Module):
    """A user's own: one block run twice, a residual connection, dropout; the head and its norm are generated."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 32, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.shrink = nn.Conv2d(32, 64, 3, 2, 1)
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        h = h + self.block(self.block(h))
        return self.head(self.norm(self.shrink(h).relu().mean((2, 3))))


@dataclass(frozen=True)
class Subject:
    """A network with random weights on random images.

    Attributes:
        networks, images: N, and items that each is scored on.
        plain_networks: of these, how many are run in the plain way.
    """

    model: str
    options: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int
    select: str
    networks: int
    images: int
    batch: int = 256
    plain_networks: int = 2


SUBJECTS = (
    Subject("timm/vit_tiny_patch16_224", {}, (3, 224, 224), 100, "last_norms:2", 50, 128, 32),
    Subject("timm/convnext_tiny", {}, (3, 224, 224), 100, "last_norms:2", 50, 128, 32),
    Subject(
        "benchmarks.cases.score:OwnNetwork",
        {"classes": 10},
        (3, 32, 32),
        10,
        "norm.weight,norm.bias,head",
        100,
        2_000,
        plain_networks=5,
    ),
)


@dataclass(frozen=True)
class Sizes(Reference):
    """
    Attributes:
        networks: N of the reference zoo.
        plain_networks: of these, how many are run in the plain way.
        subjects: other networks.
        precision: of ours, and of the plain way with our rounding.
    """

    networks: int = 100
    plain_networks: int = 2
    subjects: tuple[Subject, ...] = SUBJECTS
    precision: str = "auto"


def _few(subject: Subject) -> Subject:
    images = 256 if subject.shape[-1] < 64 else 8
    return replace(subject, networks=4, images=images, batch=images, plain_networks=1)


QUICK = {
    "networks": 10,
    "images": 1_000,
    "plain_networks": 1,
    "subjects": tuple(_few(subject) for subject in SUBJECTS),
}


def run(sizes: Sizes) -> Iterator[Row]:
    world = reference(sizes)
    yield _row(
        sizes, world, "ResNet-18, last two norm layers", sizes.networks, sizes.plain_networks, target="8x"
    )
    for subject in sizes.subjects:
        task = random_task(
            subject.model, subject.shape, subject.classes, 1, subject.images,
            model_options=subject.options, scoring_batch_size=subject.batch,
        )  # fmt: skip
        world = imagined(task, subject.select, subject.networks)
        name = f"{subject.model.rpartition('/')[2].rpartition(':')[2]}, {subject.select}"
        yield _row(sizes, world, name, subject.networks, subject.plain_networks)


def _row(sizes: Sizes, world: World, name: str, networks: int, plain: int, target: str = "") -> Row:
    device = choose_device(sizes.device)
    vectors = world.zoo.subsample(networks).vectors
    task, few = world.task, vectors[:plain]
    batches = [x.to(device, memory_format=torch.channels_last) for x, _ in task.test_data().batches()]
    model = world.model.to(device).to(memory_format=torch.channels_last)

    def ours() -> dict[str, Tensor]:
        return Scorer(task, world.zoo, device, precision=sizes.precision).score(vectors, "test").outcomes

    scale, note = networks / plain, f"{plain} of {networks} networks, scaled"
    candidates = [
        Candidate(f"full forward, {how}", lambda c=context: full_forwards(model, world, few, batches, c), scale, note)
        for how, context in _contexts(sizes.precision, model, device).items()
    ]  # fmt: skip
    measurements, (outcomes, *forwards) = measured(
        Candidate("ours", ours), *candidates, rounds=sizes.rounds, device=sizes.device, warm=False
    )
    items = len(task.test_data())
    return Row(
        f"score {networks} x {items:,} images: {name}", measurements, target,
        _quality(world, outcomes, forwards), _work(world, batches[0][:1], networks, measurements),
    )  # fmt: skip


def _contexts(
    precision: str, model: nn.Module, device: torch.device
) -> dict[str, AbstractContextManager[Any]]:
    """Precisions of the plain way; the first is ours."""
    own = products(precision, size(model), device)
    if isinstance(own, nullcontext):
        return {"float32": own}
    autocast = {"autocast": torch.autocast(device.type, torch.bfloat16)} if is_fast(device) else {}
    return {"our rounding": own, **autocast, "float32": nullcontext()}


@torch.inference_mode()
def full_forwards(
    model: nn.Module, world: World, vectors: Tensor, batches: Sequence[Tensor],
    context: AbstractContextManager[Any],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The plain way: answers [n, items] of one network after another, and their probabilities."""
    found = []
    for v in vectors:
        model.load_state_dict(world.zoo.spec.unflatten(v), strict=False)
        with context:
            parts = [model(x).float().softmax(1).max(1) for x in batches]
        found.append([torch.cat(part) for part in zip(*parts, strict=True)])
    probability, answers = (torch.stack(part).cpu() for part in zip(*found, strict=True))
    return answers, probability


def _quality(
    world: World, outcomes: dict[str, Tensor], plain: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Whether answers and probabilities are those of the plain way, and the mean accuracy of trained networks."""
    (answers, probability), (exact, _) = plain[0], plain[-1]
    own = outcomes["answer"][: len(answers)].long()
    differs = (outcomes["confidence"][: len(answers)] - probability).abs().max()
    found = {
        "same answers": float((own == answers).double().mean()),
        "probabilities differ by": float(differs),
    }
    if len(plain) > 1:
        found["answers as in float32"] = float((own == exact).double().mean())
    if world.real:
        found["mean accuracy"] = float(outcomes["correct"].double().mean())
    return found


def _work(world: World, x: Tensor, networks: int, measurements: Sequence[Measurement]) -> dict[str, float]:
    """Multiply-adds, and how much of what they allow was reached."""
    whole, suffix = multiply_adds(world, x)
    allowed = networks * whole / (whole - suffix + networks * suffix)
    ratio = measurements[1].median / measurements[0].median
    millions = {"multiply-adds whole, M": whole / 1e6, "suffix, M": suffix / 1e6}
    return {**millions, "whole / suffix": whole / suffix, "allowed": allowed, "achieved": ratio / allowed}


@torch.no_grad()
def multiply_adds(world: World, x: Tensor) -> tuple[int, int]:
    """Of the whole network and of its suffix, for the items ``x``."""
    world.model.requires_grad_(False)  # the counter puts hooks on what takes gradients
    shared = SharedPrefix(world.model, world.zoo.spec.keys)
    state = {key: value.to(x.device) for key, value in world.zoo.spec.unflatten(world.zoo.vectors[0]).items()}
    boundary = shared.prefix(x)
    with FlopCounterMode(display=False) as whole:
        world.model(x)
    with FlopCounterMode(display=False) as suffix:
        shared.suffix(boundary, state)
    return whole.get_total_flops() // 2, suffix.get_total_flops() // 2
