"""Samples taken down a loss, each by itself: what fine-tuning and guided sampling have in common.

A few steps of Adam, which treats every coordinate of every sample by itself, so that a sample depends neither on how
many are drawn nor on those it is drawn with. In latents the gradient comes back through the decoder.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import GeneratorError
from paramdiff.progress import bar
from paramdiff.training import ADAM_EPS


def descend(
    start: Float[Tensor, "n a"], gradient: Callable[[Tensor, int], Tensor], steps: int, lr: float, what: str,
    decay: bool = False,
) -> Float[Tensor, "n a"]:  # fmt: skip
    """Where ``steps`` steps of Adam lead.

    Args:
        start: stays as it is.
        gradient: [n, a], from where the samples are and the number of the step.
        lr: by which a coordinate moves in a step, about.
        what: for the bar.
        decay: whether ``lr`` falls to 0 along a cosine.
    """
    x = start.clone()
    optimiser = torch.optim.Adam([x], lr=lr, eps=ADAM_EPS)
    for step in bar(range(steps), what):
        if decay:
            optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        x.grad = gradient(x, step)
        optimiser.step()
    return x


def through(
    decode: Callable[[Tensor], Tensor], z: Float[Tensor, "n L"], gradient: Callable[[Tensor], Tensor]
) -> Float[Tensor, "n L"]:
    """The gradient by latents of a loss whose gradient by decoded vectors is ``gradient(decode(z))``.

    Raises:
        GeneratorError: the decoder gives no gradient.
    """
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        x = decode(leaf)
    if not x.requires_grad:
        raise GeneratorError(
            "its decoder gives no gradient by latents", expected="a codec that decodes by differentiable operations",
            remedy="take the steps in parameters (guidance.where=parameters)",
        )  # fmt: skip
    (found,) = torch.autograd.grad(x, leaf, gradient(x.detach()))
    return found
