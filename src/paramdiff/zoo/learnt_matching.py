r"""Matching through the loss: the order of units for which the midpoint of two networks has the lowest loss.

Straight-through estimation, algorithm 3 of Git Re-Basin (Ainsworth et al. 2022, arXiv 2209.04836, section 3.3). Beside
the network :math:`v` there is a free copy :math:`\tilde v`, at first the reference :math:`r`. In each step the network
takes the order in which it lies nearest to the copy, and the copy follows the gradient of the training loss at the
midpoint:

.. math:: \pi = \arg\max_\pi \langle \tilde v, \pi(v) \rangle, \qquad
          \tilde v \leftarrow \tilde v - \eta \nabla L\bigl(\tfrac12 (r + \pi(v))\bigr).

So it starts from weight matching. The order with the best score of the midpoint on a fixed part of the training data
is kept, that of weight matching included. The reference is the mean of the members before.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.progress import bar
from paramdiff.seeds import generator
from paramdiff.zoo.weight_matching import Matcher

STEPS = 100
"""Gradient steps for each member, by default."""

LR = 7e-2
"""Adam's, relative to the median magnitude of the reference, of which running statistics would be no measure."""

EVERY = 20
"""Steps between two scores of the midpoint."""


@runtime_checkable
class MidpointFeedback(Protocol):
    """What is asked of the task: a :class:`paramdiff.scoring.feedback.TrainingFeedback` has it."""

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        """Scores on a fixed part of the training data; higher is better."""

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on batch number ``batch``."""


def learn_in_turn(
    vectors: Float[Tensor, "K D"], rows: Sequence[int], matcher: Matcher, feedback: MidpointFeedback,
    steps: int, seed: int,
) -> None:  # fmt: skip
    """Match each of these rows, in place, to the mean of those before it."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for i, row in enumerate(bar(rows, "aligning", unit="member")):
        if i:
            reference = (total / i).to(vectors.dtype)
            random = generator("align", seed, 0, row)
            vectors[row] = learn(vectors[row], reference, matcher, feedback, random, steps)
        total += vectors[row]


def learn(
    v: Float[Tensor, "D"], reference: Float[Tensor, "D"], matcher: Matcher, feedback: MidpointFeedback,
    random: torch.Generator, steps: int = STEPS, lr: float = LR,
) -> Float[Tensor, "D"]:  # fmt: skip
    """The same network in the best order that was met."""
    found, free = v.clone(), reference.clone()
    matcher.match(found, free, random)
    optimiser = torch.optim.Adam([free], lr * _magnitude(reference))
    best, order = -torch.inf, found.clone()
    for step in range(steps + 1):
        middle = ((reference + found) / 2)[None]
        if step % EVERY == 0:
            score = float(feedback(middle))
            if score > best:
                best, order = score, found.clone()
        if step < steps:
            free.grad = feedback.gradients(middle, step)[0].to(free.dtype)
            if not bool(free.grad.isfinite().all()):
                break
            optimiser.step()
            matcher.match(found, free, random)
    return order


def _magnitude(v: Float[Tensor, "D"]) -> float:
    """The median magnitude of the coordinates that are not zero."""
    nonzero = v[v != 0].abs()
    return float(nonzero.median()) if len(nonzero) else 1.0
