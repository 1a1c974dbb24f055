r"""Diffusion over latents, the prior of p-diff.

Noisy latents ``z_t = a_t z + s_t eps`` are those of the denoising process of the paper's equation 6
(:mod:`paramdiff.generators.denoising`) or of flow matching (:mod:`paramdiff.generators.flow`). A denoiser is trained
with the squared error of its prediction of ``u = c z + d eps``:

* ``residual``, the default: ``eps``, or the velocity of a flow, where the network corrects the exact prediction for
  the Gaussian of the members' latents (:mod:`paramdiff.generators.denoising`);
* ``x0``, the latent itself (c = 1, d = 0), as ``F(z_t, t)``;
* ``eps``, the paper's (c = 0, d = 1), and ``velocity`` of a flow (c = -1, d = 1), as

  .. math:: \hat u = \frac{c a_t + d s_t}{a_t^2 + s_t^2} z_t + \frac{d a_t - c s_t}{\sqrt{a_t^2 + s_t^2}} F(z_t, t)

  so that F = 0 is exact for a standard normal, and F's target has unit size. Without the first term a network would
  have to reproduce the noise of all directions outside the low-dimensional subspace that a zoo fills, and sampling
  amplifies its errors there.

Which of them is best was measured on known distributions (``docs/decisions.md``): samples of ``x0`` lie nearly at the
centres of the modes, because the width of a mode only shows in the third digit of the network's output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paramdiff.devices import choose_device
from paramdiff.errors import check_choice
from paramdiff.generators.architectures import DENOISERS, make_denoiser, require_shapes
from paramdiff.generators.denoising import (
    PREDICTIONS,
    RESIDUAL,
    SAMPLERS,
    TARGETS,
    LatentGaussian,
    Turn,
    alpha_bar,
    denoising_gap,
    require_fitting,
    reverse,
    scale_of,
    scheduler_class,
)
from paramdiff.generators.latent import DENOISER, Prior
from paramdiff.seeds import generator, sample_generators, sample_normal, seeded
from paramdiff.settings import BATCH, FACTOR, RATE, SHARE, STEPS, Range, Ranges, check_ranges
from paramdiff.training import Plateau, fit_network

ENOUGH, PATIENCE = 0.002, 5
"""Training ends when 100 more steps lower the loss by less than 0.2%, five times in a row. The loss is a poor guide:
most of it is noise that cannot be predicted, and samples keep improving while it falls by less than 1%
(``docs/decisions.md``)."""

SAMPLING = ("diffusion.temperature", "diffusion.scheduler", "diffusion.sample_steps")
"""Settings that only sampling reads, of a generator that has a ``diffusion``."""

CHECKED = 1024
"""Noisy latents on which the loss is watched, of held-out members where there are some."""


@dataclass
class Diffusion:
    """Settings of diffusion over latents: the denoiser, its training, and sampling.

    Attributes:
        denoiser: ``mlp`` (residual MLP) or ``conv`` (1-D convolutions; depth=4 is the paper's).
        width: features of the denoiser, of its innermost layer for ``conv``.
        depth: residual blocks, or layers of encoder and decoder each.
        process: ``ddpm`` (denoising diffusion) or ``flow`` (flow matching).
        prediction: ``residual`` or ``x0``; or ``eps`` of ``ddpm``; or ``velocity`` of ``flow``.
        timesteps: T, noise levels.
        steps: training steps at most.
        batch: latents per step, drawn with replacement.
        lr, weight_decay: of AdamW.
        ema: decay of the averaged weights that sample, at most: that at step n is (1 + n) / (10 + n) until this
            exceeds it. 0.9999 is reached after 89,990 steps; until then half of the average is on the last 7%
            of the steps.
        early_stop: end the training before ``steps`` when more of them no longer help.
        scheduler: ``dpm-solver++``, ``ddim`` (both deterministic given the first noise) or ``ddpm``; for a flow
            ``heun`` or ``euler``; ``auto`` takes the first that fits ``process``.
        sample_steps: denoiser evaluations per sample; no more than T steps are done. On the reference zoo 10 of
            ``dpm-solver++``, 20 of ``ddim``, ``heun`` and ``euler`` and 100 of ``ddpm`` are as good as 1,000
            (``docs/performance.md``); modes that are narrow beside their distance need more, or they get narrower.
        temperature: T, used when sampling, so it can be changed without fitting again. 1 draws from the distribution
            as it was learnt; otherwise the covariance *within* it, around each mode, is T^2 times as large, and the
            modes keep their weights (:mod:`paramdiff.generators.tempering`). ``contraction`` is another thing: it
            pulls everything towards the one mean of all latents.
    """

    denoiser: str = "mlp"
    width: int = 256
    depth: int = 2
    process: str = "ddpm"
    prediction: str = "residual"
    timesteps: int = 1000
    steps: int = 2000
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 2e-6
    ema: float = 0.9999
    early_stop: bool = True
    scheduler: str = "auto"
    sample_steps: int = 50
    temperature: float = 1.0

    RANGES: ClassVar[Ranges] = {
        "width": Range(least=1, most=65_536), "depth": Range(least=1, most=256), "steps": STEPS, "batch": BATCH,
        "timesteps": Range(least=2, most=100_000), "sample_steps": Range(least=1, most=100_000),
        "lr": RATE, "weight_decay": FACTOR, "ema": SHARE, "temperature": FACTOR,
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("denoiser", self.denoiser, DENOISERS)
        check_choice("process", self.process, SAMPLERS)
        require_fitting("prediction", self.prediction, self.process, PREDICTIONS)
        if self.scheduler != "auto":
            require_fitting("scheduler", self.scheduler, self.process, SAMPLERS, "auto")

    @property
    def target(self) -> str:
        """What the network's output makes a prediction of: a key of :data:`TARGETS`."""
        return RESIDUAL[self.process] if self.prediction == "residual" else self.prediction

    @property
    def sampler(self) -> str:
        """The scheduler that ``auto`` stands for."""
        return SAMPLERS[self.process][0] if self.scheduler == "auto" else self.scheduler


class LatentDiffusion(Prior):
    """A denoiser with averaged weights, and the process that samples with it.

    Args:
        settings: of the denoiser, its training and sampling; those of sampling may change after the fit.
        seed: of initial weights, batches and noise.
        device: where it is trained and sampled from.

    Attributes:
        scale: the deviation of the fitted latents, see :func:`~paramdiff.generators.denoising.scale_of`.
        start: the Gaussian that the network corrects; None for predictions other than ``residual``.
    """

    start: LatentGaussian | None = None

    def __init__(self, settings: Diffusion, seed: int = 0, device: str = "auto") -> None:
        self.settings, self.seed, self.device, self.losses = settings, seed, choose_device(device), []
        if settings.process == "flow":
            from paramdiff.generators.flow import noise_levels

            noise = noise_levels(settings.timesteps)
            signal = 1 - noise
        else:
            scheduler_class(settings.sampler)  # imported here, so that sampling need not wait for it
            squared = alpha_bar(settings.timesteps)
            signal, noise = squared.sqrt(), (1 - squared).sqrt()
        self.signal, self.noise = signal.to(self.device), noise.to(self.device)

    def _made(self) -> nn.Module:
        own = self.settings
        entering = self.latent if self.start is None else len(self.start.variances)
        return make_denoiser(own.denoiser, entering, own.width, own.depth)

    def _build(self) -> nn.Module:
        with seeded("denoiser", self.seed):
            return self._made().to(self.device)

    def predict(self, net: nn.Module, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """The prediction ``u`` (see :data:`TARGETS`) from the network's output."""
        if self.settings.prediction == "x0":
            return net(z, t)
        c, d = TARGETS[self.settings.target]
        signal, noise = self.signal[t].unsqueeze(1), self.noise[t].unsqueeze(1)
        if self.start is not None:
            entered = self.start.enter(z, signal, noise)
            expected = self.start.expected(entered, net(entered, t), signal, noise)
            return c * expected + d * (z - signal * expected) / noise
        out = net(z, t)
        power = signal.square() + noise.square()
        return (c * signal + d * noise) / power * z + (d * signal - c * noise) / power.sqrt() * out

    def loss(
        self, net: nn.Module, z: Float[Tensor, "n L"], t: Int[Tensor, "n"], eps: Float[Tensor, "n L"]
    ) -> Float[Tensor, ""]:
        """Equation 6: mean squared error of the prediction at times ``t`` with noise ``eps``."""
        z, t, eps = (part.to(self.device, non_blocking=True) for part in (z, t, eps))  # the host goes on
        noisy = self.signal[t].unsqueeze(1) * z + self.noise[t].unsqueeze(1) * eps
        c, d = TARGETS[self.settings.target]
        return (self.predict(net, noisy, t) - (c * z + d * eps)).square().mean()

    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None = None) -> None:
        own = self.settings
        self.latent, self.scale = z.shape[1], scale_of(z)
        self.start = LatentGaussian.fit(z).to(self.device) if own.prediction == "residual" else None
        watched = held if len(held) else z

        def loss(net: nn.Module, step: int) -> list[Tensor]:
            return [self.loss(net, *self._draw(z, own.batch, step))]

        self.net, self.losses = fit_network(
            "denoiser", self._build(), loss, lambda net: self._check(net, watched),
            Plateau(ENOUGH, PATIENCE, every=100) if own.early_stop else None, steps=own.steps, lr=own.lr,
            weight_decay=own.weight_decay, ema=own.ema, path=folder / DENOISER if folder else None,
        )  # fmt: skip

    def _draw(self, z: Float[Tensor, "K L"], n: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, times and noise of one training step."""
        draw = generator("denoiser", self.seed, step)
        rows = torch.randint(len(z), (n,), generator=draw)
        t = torch.randint(self.settings.timesteps, (n,), generator=draw)
        return z[rows], t, torch.randn(n, z.shape[1], generator=draw)

    @torch.no_grad()
    def _check(self, net: nn.Module, z: Float[Tensor, "K L"]) -> float:
        """Logarithm of the loss on given latents, always with the same times and noise."""
        return self.loss(net, *self._draw(z, CHECKED, -1)).log().item()

    def findings(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"]) -> dict[str, Any]:
        """The gap between held-out and fitted members, see :func:`~paramdiff.generators.denoising.denoising_gap`."""

        def loss(z: Tensor, t: Tensor, eps: Tensor) -> Tensor:
            return self.loss(self.net, z, t, eps)

        return {"denoising": denoising_gap(loss, z, held, self.settings.timesteps, self.seed)}

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        return self._reverse(indices, seed)

    def path(self, indices: Sequence[int], seed: int) -> list[Float[Tensor, "n L"]]:
        trace: list[Tensor] = []
        self._reverse(indices, seed, trace)
        return list(torch.stack(trace).cpu())

    @torch.no_grad()
    def _reverse(self, indices: Sequence[int], seed: int, trace: list[Tensor] | None = None) -> Tensor:
        own = self.settings
        noise = sample_normal(indices, self.latent, "latent", seed).to(self.device)
        options: dict[str, Any] = {
            "timesteps": own.timesteps, "sample_steps": own.sample_steps, "trace": trace, "turn": self._turn(),
        }  # fmt: skip
        if own.process == "flow":
            from paramdiff.generators.flow import follow

            return follow(self._velocity, noise, solver=own.sampler, **options).cpu()
        draws = sample_generators(indices, "reverse", seed)
        return reverse(
            self._predict, noise, draws, scheduler=own.sampler, prediction=own.target, **options
        ).cpu()

    def _predict(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        return self.predict(self.net, z, t)

    def _turn(self) -> Turn | None:
        """To another temperature; None at 1."""
        own = self.settings
        if own.temperature == 1:
            return None
        from paramdiff.generators.tempering import TURN, Tempering

        tempering = Tempering(self._expected, own.temperature)
        level = int((self.noise <= TURN * self.scale * self.signal).sum()) - 1
        target = TARGETS[own.target if own.process == "ddpm" else "velocity"]
        return Turn(level, tempering.moved, partial(tempering.predicted, self.signal, self.noise, target))

    def _expected(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """``a_t E[z | z_t]``, of the prediction."""
        c, d = TARGETS[self.settings.target]
        signal, noise = self.signal[t].unsqueeze(1), self.noise[t].unsqueeze(1)
        return (self.predict(self.net, z, t) - d * z / noise) / (c / signal - d / noise)

    def _velocity(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """Of a flow, from what is predicted."""
        predicted = self._predict(z, t)
        if self.settings.target == "velocity":
            return predicted
        return (z - predicted) / self.noise[t].unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        start = {} if self.start is None else {"start": self.start.state_dict()}
        return {"latent": self.latent, "scale": self.scale, "net": self.net.state_dict(), **start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.latent, self.scale = state["latent"], state.get("scale", 1.0)
        start = state.get("start")
        self.start = None if start is None else LatentGaussian.from_state(start).to(self.device)
        require_shapes(self._made, state["net"])
        self.net = self._build().eval().requires_grad_(False)
        self.net.load_state_dict(state["net"])
