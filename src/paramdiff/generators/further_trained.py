r"""Networks trained a little further, from anywhere: what a generator has to be better than at its own bill.

``steps`` steps of Adam down the task's training loss, in normalised coordinates: one rate then means the same for
every coordinate, and Adam moves each by at most about ``lr`` between-checkpoint deviations a step. Where they start
decides what they cost: an untrained network owes nothing else, a member the steps of its training, a sample what its
generator took.

Each network sees batches of its own, like networks that are trained apart, so that those that start alike (from the
average) come to differ.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import suitable_threads
from paramdiff.errors import GeneratorError, check_choice
from paramdiff.generators.context import FitContext
from paramdiff.generators.generator import ELEMENTS, Generator, register
from paramdiff.progress import bar
from paramdiff.seeds import mix, sample_generators
from paramdiff.settings import BATCH, RATE, Range, Ranges
from paramdiff.training import require_finite

TINY = 1e-12
"""Adam's eps. Gradients by a coordinate that hardly varies in the zoo are smaller than the usual 1e-8."""

MOST = 1_000_000
STEPS = Range(least=1, most=MOST)

STARTS = ("member", "average", "random", "samples")


class Descent(Generator):
    """Networks that take steps of Adam while they are sampled; subclasses say from where, and by which gradients.

    Attributes:
        steps: optimiser steps.
        lr: learning rate, in units of the zoo's between-checkpoint deviation.
    """

    drawn_at_once: ClassVar[int] = 20
    asks: ClassVar[bool] = True
    steps: int
    lr: float

    @property
    def gradient_steps_sampling(self) -> int:
        return self.steps

    @abstractmethod
    def _starts(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        """Where the samples start."""

    @abstractmethod
    def _gradients(
        self, x: Float[Tensor, "n D"], step: int, indices: Sequence[int], seed: int, context: FitContext
    ) -> Float[Tensor, "n D"]:
        """Of the training loss of these samples in a step."""

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        return next(self._after([self.steps], indices, seed, context))

    def after(
        self, counts: Sequence[int], n: int, seed: int = 0, *, context: FitContext = FitContext()  # noqa: B008
    ) -> list[Float[Tensor, "n D"]]:  # fmt: skip
        """Raw samples 0..n-1 after each of several counts of steps, from one training; 0 is where they start.

        Args:
            counts: growing; ``steps`` does not matter.
        """
        normaliser, own = self._ready(n), context.normalised(self._ready(n))
        dim = len(normaliser.mean)
        size, found = max(1, min(self.drawn_at_once, ELEMENTS // dim)), [torch.empty(n, dim) for _ in counts]
        for start in range(0, n, size):
            with suitable_threads(dim):
                for v, x in zip(
                    found, self._after(counts, range(start, start + size), seed, own), strict=True
                ):
                    require_finite(x, f"training {self.name} further, networks from {start} on")
                    v[start : start + size] = normaliser.denormalise(x[: n - start])
        return found

    def _after(
        self, counts: Sequence[int], indices: Sequence[int], seed: int, context: FitContext
    ) -> Iterator[Float[Tensor, "n D"]]:
        x = self._starts(indices, seed, context).clone()
        optimiser, done = torch.optim.Adam([x], lr=self.lr, eps=TINY), 0
        for count in counts:
            for step in bar(range(done, count), f"{self.label} from {indices[0]} on"):
                x.grad = self._gradients(x, step, indices, seed, context)
                optimiser.step()
            done = count
            yield x.clone()


@register("further-trained", "originals, their average, untrained networks or samples, trained further")
@dataclass
class FurtherTrained(Descent):
    """Networks that are trained further, each on batches of its own.

    Attributes:
        start: ``member``, a random one for each; ``average`` of all members; ``random``, an untrained network for
            each; or ``samples`` of the generator that the run is about.
        steps: optimiser steps.
        lr: learning rate, in units of the zoo's between-checkpoint deviation.
        batch: training items that a network sees in a step, at most.
    """

    sampling: ClassVar[tuple[str, ...]] = ("steps", "lr", "batch")
    start: str = "member"
    steps: int = 100
    lr: float = 0.05
    batch: int = 64

    RANGES: ClassVar[Ranges] = {"steps": STEPS, "lr": RATE, "batch": BATCH}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("start", self.start, STARTS)

    @property
    def label(self) -> str:
        return f"{self.name}-from-{self.start}-{self.steps}"

    @property
    def matches(self) -> bool:  # type: ignore[override]
        """Whether it starts from another generator's samples."""
        return self.start == "samples"

    @property
    def continues(self) -> bool:
        return self.matches

    @property
    def members_needed(self) -> int | None:
        return 0 if self.start == "random" else None

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        reference = x[:0] if self.start == "random" else context.reference
        if self.start == "member":
            reference = x
        elif self.start == "average":
            reference = x.double().mean(0, keepdim=True).float()
        if reference is None:
            raise GeneratorError(
                f"{self.name} has no samples to start from", expected="another generator's samples",
                remedy="pass context=FitContext(reference=generator.sample(20), ...), or use `paramdiff run`",
            )  # fmt: skip
        self.starts = reference

    def _starts(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        if self.start == "random":
            feedback = context.require_training(self.name)
            return torch.stack([feedback.initial(mix(self.name, seed, index)) for index in indices])
        if self.start == "member":
            return random_rows(self.starts, indices, self.name, seed)
        return self.starts[[index % len(self.starts) for index in indices]]

    def _gradients(
        self, x: Float[Tensor, "n D"], step: int, indices: Sequence[int], seed: int, context: FitContext
    ) -> Float[Tensor, "n D"]:
        """On batches that no other network of this seed sees in this order."""
        chunk = indices[0] // len(indices)
        number = ((seed << 20) + chunk) * MOST + step
        return context.require_training(self.name).training_loss(x, number, self.batch)[1]

    def _state(self) -> dict[str, Any]:
        return {"starts": self.starts}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.starts = state["starts"]


def random_rows(
    members: Float[Tensor, "K D"], indices: Sequence[int], name: str, seed: int
) -> Float[Tensor, "n D"]:
    """A random member for every sample."""
    draws = sample_generators(indices, name, seed)
    return members[[int(torch.randint(len(members), (), generator=draw)) for draw in draws]]
