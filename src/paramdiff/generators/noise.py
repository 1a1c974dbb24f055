r"""Members with noise added: ``x = x_k + amplitude * N(0, I)`` for a random member k.

The baseline of the paper's figure 3b, which adds noise of amplitude 0.01 to 0.1 to raw parameters. Here the
unit is the between-checkpoint deviation of each coordinate, so one amplitude means the same for every
network and layer. In a zoo such as the paper's (last two norm layers of a ResNet-18, deviation about 0.09)
the paper's range is 0.1 to 1.1 of these units; the default 0.3 is its geometric middle.

Accuracies can only be compared at equal similarity, because members with very little noise are copies. Matched noise
therefore has the amplitude at which noised members are as similar to the zoo as another generator's samples
are: the mean over samples of the largest error-IoU (eq. 7) with a member, on training data. Similarity falls as
noise grows, so the amplitude is found by bisection on a log scale, with the same noise for every amplitude.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import evenly_spaced
from paramdiff.error_iou import error_iou
from paramdiff.errors import GeneratorError, TaskError
from paramdiff.generators.context import Feedback, FitContext
from paramdiff.generators.generator import Generator, register
from paramdiff.progress import say
from paramdiff.seeds import sample_generators
from paramdiff.settings import FACTOR, Ranges

LEAST, MOST = 1e-3, 10.0
"""Amplitudes between which the matching one is sought; 0 is known without trying."""

HALVINGS = 8
"""Of that range, to within 2% of the amplitude."""

SAMPLES = 20
"""Networks whose similarity is averaged, of the reference and for each amplitude."""

MEMBERS = 100
"""Members they are compared with, evenly spaced in the zoo; with the above, 280 networks are scored.

On a trajectory of 300 members the nearest of 100 was less similar to a sample of p-diff by 0.002 of 0.956.
"""

TOLERANCE = 0.01
"""A larger difference of similarities is reported."""


def noised(
    members: Float[Tensor, "K D"], amplitude: float, draws: Iterable[torch.Generator]
) -> Float[Tensor, "n D"]:
    """A random member with noise for each draw; the noise of one draw only grows with the amplitude."""

    def one(draw: torch.Generator) -> Tensor:
        member = members[int(torch.randint(len(members), (), generator=draw))]
        return member + amplitude * torch.randn(len(member), generator=draw)

    return torch.stack([one(draw) for draw in draws])


@register("noised", "a random original plus Gaussian noise")
@dataclass
class NoisedMembers(Generator):
    """A random member with Gaussian noise.

    Attributes:
        amplitude: deviation of the noise, in units of the zoo's between-checkpoint deviation.
    """

    knob: ClassVar[str | None] = "amplitude"
    sampling: ClassVar[tuple[str, ...]] = ("amplitude",)
    RANGES: ClassVar[Ranges] = {"amplitude": FACTOR}
    amplitude: float = 0.3

    @property
    def label(self) -> str:
        return f"noised-{self.amplitude:g}"

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.members = x

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        return noised(self.members, self.amplitude, sample_generators(indices, self.name, seed))

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]


@register(
    "matched-noise",
    "the same, with as much noise as makes it as similar to its original as the samples are to theirs",
)
@dataclass
class MatchedNoise(Generator):
    """A random member with as much noise as makes it as similar to the zoo as another generator's samples.

    Where the task knows no mistakes, the distance to the nearest member is matched instead. What was found is
    in ``notes["matched"]``: ``by`` (similarity or distance), ``amplitude``, and what was matched, of the noised
    members (``own``) and of the ``reference``.
    """

    matches: ClassVar[bool] = True

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        """Raises GeneratorError without samples to match, or without a task's feedback."""
        if context.reference is None:
            raise GeneratorError(
                f"{self.name} has no samples to match", expected="samples of another generator",
                remedy="pass context=FitContext(reference=generator.sample(20), ...), or use `paramdiff run`",
            )  # fmt: skip
        feedback = context.require_feedback(self.name)
        spaced = evenly_spaced(len(x), MEMBERS)
        found = self._match(x[spaced], context.reference[:SAMPLES], feedback)
        self.members, self.amplitude, self.notes["matched"] = x, found["amplitude"], found
        say(f"  {self.name}: amplitude {found['amplitude']:.3g}, {found['by']} {found['own']:.4g} "
            f"to the nearest member where the reference has {found['reference']:.4g}")  # fmt: skip

    def _match(
        self, members: Float[Tensor, "M D"], reference: Float[Tensor, "n D"], feedback: Feedback
    ) -> dict[str, Any]:
        try:
            wrong = feedback.mistakes(members)
        except TaskError:
            distance = distance_to(reference, members)
            return {"by": "distance", "amplitude": distance, "own": distance, "reference": distance}

        def similarity(x: Float[Tensor, "n D"]) -> float:
            return float(error_iou(feedback.mistakes(x), wrong).max(1).values.mean())

        def at(amplitude: float) -> float:
            draws = sample_generators(range(SAMPLES), self.name, "matching")
            return similarity(noised(members, amplitude, draws))

        wanted = similarity(reference)
        tried = bisect(at, wanted)
        amplitude = min(tried, key=lambda a: abs(tried[a] - wanted))
        if abs(tried[amplitude] - wanted) > TOLERANCE:
            say(f"  {self.name}: no amplitude gives the reference's similarity; this one comes closest")
        return {"by": "similarity", "amplitude": amplitude, "own": tried[amplitude], "reference": wanted}

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        return noised(self.members, self.amplitude, sample_generators(indices, self.name, seed))

    def _state(self) -> dict[str, Any]:
        return {"members": self.members, "amplitude": self.amplitude}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members, self.amplitude = state["members"], state["amplitude"]


def bisect(similarity: Callable[[float], float], wanted: float) -> dict[float, float]:
    """Similarities by amplitude, in narrowing intervals around the wanted one.

    Amplitude 0 is among them: a member is as similar to the zoo as can be. So a generator that replays members
    is matched by members.
    """
    tried = {0.0: 1.0}
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried[math.exp(middle)] = found = similarity(math.exp(middle))
        low, high = (middle, high) if found > wanted else (low, middle)
    return tried


def distance_to(x: Float[Tensor, "n D"], members: Float[Tensor, "K D"]) -> float:
    """Mean distance to the nearest member, per square root of the coordinates that vary.

    Noise of amplitude ``a`` has length ``a * sqrt(D)``, so this is the amplitude that goes as far.
    """
    exact = "donot_use_mm_for_euclid_dist"  # of two equal vectors the other mode may not give 0
    nearest = torch.cdist(x, members, compute_mode=exact).min(1).values.mean()
    return float(nearest) / math.sqrt(int(members.any(0).sum()))
