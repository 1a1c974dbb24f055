"""The one training loop: resumable, watched for NaN, logged; and how a network is fitted with it.

Collecting, the autoencoder and the diffusion model all train through :class:`Training`, so a run
killed anywhere goes on at its last saved step with the same numbers: the state on disk holds
modules, optimisers and losses, and every random draw is keyed by its step (:mod:`paramdiff.seeds`).

The networks of a generator are fitted with AdamW at a constant rate, averaged weights and early stopping
(:func:`fit_network`). A constant rate with an exponential moving average of the weights serves as well as a decaying
rate and, unlike it, can end as soon as more steps no longer help. The gradient of a step is accumulated over parts of
its batch, so that memory is that of one part.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor, nn, optim

from paramdiff.errors import NumericalError
from paramdiff.files import load_state, save_state
from paramdiff.progress import Forecast, bar

Net = TypeVar("Net", bound=nn.Module)

FOLLOWED: ContextVar[Callable[[str, Sequence[float]], None] | None] = ContextVar("followed", default=None)
"""Told the name of a training and its losses from step 0 on, whenever these are read back."""

ADAM_EPS = 1e-12
"""Adam's eps down a task's loss in normalised coordinates. Gradients by a coordinate that hardly varies in the zoo are
smaller than the usual 1e-8."""

WARM_UP = 25
"""Steps over which the learning rate of a fit rises."""


@runtime_checkable
class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Training:
    """Iterates over the steps still to do, saving and resuming on the way.

    Args:
        name: what is trained, for the bar and for error messages (``autoencoder``).
        steps: number of steps in all.
        parts: everything that changes: modules, optimisers, schedules, EMA.
        path: where the state is kept; ``None`` keeps none.
        save_every_s: seconds between saves. When a save happens does not change any number.
        show: whether there is a bar, and a curve for trackers; without one where many trainings share a bar.
        forecast: that they share as well.

    Example::

        training = Training("autoencoder", 600, {"net": net, "optimiser": optimiser}, path)
        for step in training:
            loss = ...
            training.log(step, loss)
    """

    def __init__(
        self, name: str, steps: int, parts: Mapping[str, Stateful], path: Path | None = None,
        save_every_s: float = 10.0, show: bool = True, forecast: Forecast | None = None,
    ) -> None:  # fmt: skip
        self.name, self.steps, self.parts, self.path = name, steps, dict(parts), path
        self.save_every_s, self.show, self.forecast = save_every_s, show, forecast
        self.start = 0
        self._stopped = False
        self._pending: list[Tensor] = []
        self._losses: list[float] = []
        if path is not None and path.is_file():
            self._resume(path)

    def __iter__(self) -> Iterator[int]:
        saved = time.monotonic()
        left = range(self.start, self.steps)
        counted = self.forecast.over(left) if self.forecast else left
        for step in bar(left, self.name) if self.show else counted:
            yield step
            if self._stopped:
                break
            if self.path is not None and time.monotonic() - saved > self.save_every_s:
                self.save(step + 1)
                saved = time.monotonic()
        if self.start < self.steps:
            self._drain()
            if self.path is not None:
                self.save(self.steps)

    def stop(self) -> None:
        """The current step is the last; a resumed training knows that it is done."""
        self._stopped = True

    def log(self, step: int, loss: Tensor) -> None:
        """Keep this step's loss. Read back in blocks, so an accelerator is not stopped every step."""
        self._pending.append(loss.detach())
        if len(self._pending) >= 50:
            self._drain()

    @property
    def losses(self) -> list[float]:
        """The loss of every step from 0 on, resumed ones included."""
        self._drain()
        return self._losses

    def save(self, step: int) -> None:
        """Write the state before step ``step``; refuses to replace a good state by a broken one."""
        assert self.path is not None
        self._drain()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        require_finite(state, f"{self.name}, step {step}", self._last_good())
        save_state(self.path, {"step": step, "losses": self._losses, "parts": state})

    def _resume(self, path: Path) -> None:
        state = load_state(path)
        self.start, self._losses = state["step"], state["losses"]
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])

    def _drain(self) -> None:
        if not self._pending:
            return
        first = len(self._losses)
        for offset, value in enumerate(torch.stack(self._pending).float().tolist()):
            if not math.isfinite(value):
                raise NumericalError(
                    f"{self.name}: the loss is {value} at step {first + offset}{self._last_good()}",
                    remedy="lower the learning rate, or run `paramdiff inspect` on the zoo",
                )
            self._losses.append(value)
        self._pending.clear()
        if self.show and (follow := FOLLOWED.get()) is not None:
            follow(self.name, self._losses)

    def _last_good(self) -> str:
        kept = self.path is not None and self.path.is_file()
        return f" (last good state: {self.path})" if kept else ""


def require_finite(value: Any, where: str, hint: str = "", path: str = "") -> None:
    """Raise :class:`NumericalError` naming the tensor if any floating tensor holds NaN or Inf."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NumericalError(
                f"{where}: NaN or Inf in {path.strip('/') or 'the result'}{hint}",
                remedy="lower the learning rate, or run `paramdiff inspect` on the zoo",
            )
    elif isinstance(value, Mapping):
        for key, item in value.items():
            require_finite(item, where, hint, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            require_finite(item, where, hint, f"{path}/{index}")


def require_finite_steps(finite: Sequence[Bool[Tensor, ""]], where: Callable[[int], str]) -> None:
    """Raise :class:`NumericalError` for the first step whose flag is False.

    For loops that keep ``isfinite(z).all()`` of every step: a device is stopped once, not in each of them.

    Args:
        where: from the index of a step to what it is called.
    """
    flags = torch.stack(list(finite)).tolist()
    if not all(flags):
        raise NumericalError(
            f"{where(flags.index(False))}: NaN or Inf in the result",
            remedy="lower the learning rate, or run `paramdiff inspect` on the zoo",
        )


class Ema:
    r"""Exponential moving average of a module's parameters, with warm-up.

    The decay at update ``n`` is ``min(decay, (1 + n) / (10 + n))``: with a fixed 0.9999 the average still holds
    four fifths of the initial weights after 2,000 updates. It reaches ``decay`` at ``n = (10 decay - 1) / (1 -
    decay)``: 0.98 at n = 440, 0.999 at 8,990, 0.9999 at 89,990. Until then the weight of update k in the
    average at n is ``9 (k + 2) ... (k + 9) / ((n + 2) ... (n + 10))``, so that half of it is on the last 7% of
    the updates, and next to none on the initial weights: after 30,000 updates the decay is 0.9997. Buffers
    (running statistics) are not averaged but followed.
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999) -> None:
        self.decay, self.updates = decay, 0
        self.module = deepcopy(module).eval().requires_grad_(False)
        # Walking through the modules in every step would cost as much as the averaging of a small network.
        self._parameters: list[Tensor] = list(self.module.parameters())
        self._sources: list[Tensor] = [parameter.detach() for parameter in module.parameters()]
        self._buffers = list(zip(self.module.buffers(), module.buffers(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights of the module that is averaged."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._parameters, self._sources, weight)
        for buffer, source in self._buffers:
            buffer.copy_(source)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self.module.load_state_dict(state["module"])


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
    plateau: Plateau | None, *, steps: int, lr: float, weight_decay: float, ema: float, path: Path | None,
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
