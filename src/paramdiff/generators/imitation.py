"""Reconstruction by behaviour: latents of members, moved to where the decoded networks do what the members do.

An encoder that has seen a few dozen networks knows nothing of the directions in which the next one differs. But real
inputs tell what that network does, and a few steps down the divergence of the decoded network's outputs from its own
find the latents that do the same, if there are any. So this asks of a decoder whether networks that act as unseen ones
are among what it can say, and not whether the encoder finds them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.context import Matrix, TrainingFeedback
from paramdiff.generators.descent import descend, through

ITEMS = 256
"""Training items that a step looks at."""

LR = 0.05
"""In deviations of a latent."""

COMPARED = 1024
"""Training items on which outputs are compared afterwards."""


@dataclass(frozen=True)
class Imitation:
    """Reconstructs members by behaviour.

    Attributes:
        decode: standardised latents to normalised vectors.
        encode: gives the latents to begin with.
        feedback: compares outputs.
        steps: of Adam.
    """

    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Matrix], Tensor]
    feedback: TrainingFeedback
    steps: int

    def __call__(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """Reconstructions of normalised members."""

        def gradient(z: Tensor, step: int) -> Tensor:
            return through(self.decode, z, lambda own: self.feedback.imitation(own, x, step, ITEMS)[1])

        return self.decode(descend(self.encode(x), gradient, self.steps, LR, "imitation of held-out members"))

    def divergences(self, x: Float[Tensor, "n D"], members: Float[Tensor, "n D"]) -> Float[Tensor, "2 n"]:
        """How far outputs of reconstructions are from the members', and those of another member: the one before."""
        found = [self.feedback.imitation(some, members, 0, COMPARED)[0] for some in (x, members.roll(1, 0))]
        return torch.stack(found)
