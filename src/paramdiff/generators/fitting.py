"""How the networks of a generator are trained: AdamW at a constant rate, averaged weights, early stopping.

The gradient of a step is accumulated over parts of its batch, so that memory is that of one part.

A constant rate with an exponential moving average of the weights serves as well as a decaying rate and,
unlike it, can end as soon as more steps no longer help.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn, optim

from paramdiff.errors import GeneratorError
from paramdiff.training import Ema, Stateful, Training

Net = TypeVar("Net", bound=nn.Module)

WARM_UP = 25
"""Steps over which the learning rate rises."""


def require_shapes(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> None:
    """Raise unless ``state`` is one of the network that ``build`` makes, before memory is taken for it.

    Settings and states come from files, which may describe a network of terabytes.
    """
    with torch.device("meta"):
        own = build().state_dict()
    wrong = [
        name
        for name in sorted({*own, *state})
        if name not in own or name not in state or own[name].shape != state[name].shape
    ]
    if wrong:
        raise GeneratorError(
            f"a saved network that is not of its settings ({wrong[0]})", remedy="fit it again"
        )


class Plateau:
    """Watches a criterion that should fall; part of the training state, so a resumed run stops alike.

    Args:
        least: a fall smaller than this counts as none.
        patience: checks in a row without a fall until it is a plateau.
        every: steps between checks.
    """

    def __init__(self, least: float, patience: int, every: int) -> None:
        self.least, self.patience, self.every = least, patience, every
        self.best: float | None = None
        self.waited = 0

    def reached(self, value: float) -> bool:
        """Take the next value; whether the plateau is reached."""
        if self.best is None or value < self.best - self.least:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


def fit_network(
    name: str, net: Net, loss: Callable[[Net, int], Iterable[Tensor]], check: Callable[[Net], float],
    plateau: "Plateau | None", *, steps: int, lr: float, weight_decay: float, ema: float, path: Path | None,
) -> tuple[Net, list[float]]:  # fmt: skip
    """Train ``net`` for at most ``steps`` steps; resumes from ``path``.

    Args:
        name: what is trained, for the bar and messages.
        loss: loss of the network in a step, as parts that add up to it; must depend on nothing but the two.
        check: criterion of the averaged network, watched by ``plateau``.
        plateau: ends the training early; None does all steps.

    Returns:
        The averaged network in evaluation mode, and the loss of every step.

    Raises:
        NumericalError: the loss is NaN or Inf.
    """
    average = Ema(net, ema)
    optimiser = optim.AdamW(net.parameters(), lr, weight_decay=weight_decay, fused=True)
    parts: dict[str, Stateful] = {"net": net, "ema": average, "optimiser": optimiser}
    if plateau is not None:
        parts["plateau"] = plateau
    training = Training(name, steps, parts, path)
    for step in training:
        optimiser.param_groups[0]["lr"] = lr * min(1, (step + 1) / WARM_UP)
        optimiser.zero_grad()
        value = sum(_learnt(part) for part in loss(net, step))
        optimiser.step()
        average.update()
        training.log(step, value)  # type: ignore[arg-type]
        if plateau is None or (step + 1) % plateau.every:
            continue
        if plateau.reached(check(average.module)):  # type: ignore[arg-type]
            training.stop()
    return average.module, training.losses  # type: ignore[return-value]


def _learnt(part: Tensor) -> Tensor:
    """A part of the loss, once its gradient is added to the others'."""
    part.backward()
    return part.detach()
