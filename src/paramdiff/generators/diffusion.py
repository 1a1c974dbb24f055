r"""Diffusion over latents, the prior of p-diff.

Noisy latents ``z_t = a_t z + s_t eps`` are those of the denoising process of the paper's equation 6
(:mod:`paramdiff.generators.ddpm`) or of flow matching (:mod:`paramdiff.generators.flow`). A denoiser is trained
with the squared error of its prediction of ``u = c z + d eps``:

* ``x0``, the latent itself (c = 1, d = 0), as ``F(z_t, t)``: the default. Zoos fill a thin subspace of the
  latents; predicting a point of it is learnt in hundreds of steps;
* ``eps``, the paper's (c = 0, d = 1), and ``velocity`` of a flow (c = -1, d = 1), as

  .. math:: \hat u = \frac{c a_t + d s_t}{a_t^2 + s_t^2} z_t + \frac{d a_t - c s_t}{\sqrt{a_t^2 + s_t^2}} F(z_t, t)

  so that for a standard normal F = 0 is right, and F's target has unit size. Without the first term an
  undertrained network must learn to pass on the noise of all directions outside the subspace, and sampling
  multiplies what it misses: after 1,000 steps of predicting ``eps`` the samples of the reference zoo had 12
  times its variance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paramdiff.errors import ConfigError, check_choice, check_range
from paramdiff.generators.ddpm import SCHEDULERS, alpha_bar, reverse, scheduler_class
from paramdiff.generators.flow import SOLVERS, follow, noise_levels
from paramdiff.generators.latent import DENOISER, Prior
from paramdiff.generators.learning import Plateau, learn, require_shapes
from paramdiff.generators.nets.denoisers import DENOISERS, make_denoiser
from paramdiff.generators.settings import Settings
from paramdiff.seeds import generator, sample_generators, sample_normal, seeded
from paramdiff.thinning import evenly

SAMPLERS = {"ddpm": tuple(SCHEDULERS), "flow": SOLVERS}
"""Ways to sample from each process; ``auto`` takes the first."""

TARGETS = {"x0": (1, 0), "eps": (0, 1), "velocity": (-1, 1)}
"""``(c, d)`` of what is predicted, ``c z + d eps``."""

PREDICTIONS = {"ddpm": ("x0", "eps"), "flow": ("x0", "velocity")}
"""``eps`` says nothing about the latent where a flow starts, at ``a_T = 0``."""

ENOUGH = 0.01
"""Training ends when 100 more steps, three times in a row, lower the loss by less than 1%."""

CHECKED = 1024
"""Noisy latents on which the loss is watched, of held-out members where there are some."""


JUDGED, DRAWS = 256, 32
"""Latents whose denoising loss is compared, at most, and the draws of time and noise for each of them."""


@dataclass
class DiffusionSettings(Settings):
    """
    Attributes:
        denoiser: ``mlp`` (residual MLP) or ``conv`` (1-D convolutions; depth=4 is the paper's).
        width: features of the denoiser, of its innermost layer for ``conv``.
        depth: residual blocks, or layers of encoder and decoder each.
        process: ``ddpm`` (denoising diffusion) or ``flow`` (flow matching).
        prediction: ``x0``; or ``eps`` of ``ddpm``; or ``velocity`` of ``flow``.
        timesteps: T, noise levels.
        steps: training steps at most; training ends earlier when they no longer help.
        batch: latents per step, drawn with replacement.
        lr, weight_decay: of AdamW.
        ema: decay of the averaged weights that sample, reached after a warm-up.
        scheduler: ``dpm-solver++``, ``ddim`` (both deterministic given the first noise) or ``ddpm``; for a flow
            ``heun`` or ``euler``; ``auto`` takes the first that fits ``process``.
        sample_steps: denoiser evaluations per sample; no more than T steps are done. As good as 1,000 are, on
            the reference zoo, 10 of ``dpm-solver++`` (20 on another zoo), 20 of ``ddim`` (50 where ``eps`` is
            predicted), ``heun`` and ``euler``, and 100 of ``ddpm`` (``docs/performance.md``).
    """

    denoiser: str = "mlp"
    width: int = 256
    depth: int = 2
    process: str = "ddpm"
    prediction: str = "x0"
    timesteps: int = 1000
    steps: int = 2000
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 2e-6
    ema: float = 0.9999
    scheduler: str = "auto"
    sample_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("denoiser", self.denoiser, DENOISERS)
        check_choice("process", self.process, SAMPLERS)
        self._check_fits("prediction", self.prediction, PREDICTIONS)
        if self.scheduler != "auto":
            self._check_fits("scheduler", self.scheduler, SAMPLERS, "auto")
        for key in ("width", "depth", "steps", "batch", "sample_steps"):
            check_range(key, getattr(self, key), least=1)
        check_range("timesteps", self.timesteps, least=2)
        check_range("lr", self.lr, above=0)
        check_range("weight_decay", self.weight_decay, least=0)
        check_range("ema", self.ema, least=0, below=1)

    def _check_fits(self, key: str, value: str, fitting: Mapping[str, Sequence[str]], *also: str) -> None:
        """A value that exists, and that goes with ``process``."""
        known = [*also, *(name for names in fitting.values() for name in names)]
        check_choice(key, value, dict.fromkeys(known))
        if value not in fitting[self.process]:
            others = [process for process in fitting if value in fitting[process]]
            raise ConfigError(key, f"{value!r} does not go with process={self.process}",
                              expected=f"one of {', '.join([*also, *fitting[self.process]])}",
                              remedy=f"or set process={others[0]}")  # fmt: skip

    @property
    def sampler(self) -> str:
        """The scheduler that ``auto`` stands for."""
        return SAMPLERS[self.process][0] if self.scheduler == "auto" else self.scheduler


class LatentDiffusion(Prior):
    """A denoiser with averaged weights, and the process that samples with it."""

    def __init__(self, settings: DiffusionSettings) -> None:
        self.settings, self.losses = settings, []
        if settings.process == "flow":
            noise = noise_levels(settings.timesteps)
            signal = 1 - noise
        else:
            scheduler_class(settings.sampler)  # imported with the model, so that sampling starts at once
            squared = alpha_bar(settings.timesteps)
            signal, noise = squared.sqrt(), (1 - squared).sqrt()
        self.signal, self.noise = signal.to(settings.torch_device), noise.to(settings.torch_device)

    def _build(self, latent: int) -> nn.Module:
        own = self.settings
        with seeded("denoiser", own.seed):
            return make_denoiser(own.denoiser, latent, own.width, own.depth).to(own.torch_device)

    def predict(self, net: nn.Module, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """What the settings' ``prediction`` says, from the network's output."""
        out = net(z, t)
        if self.settings.prediction == "x0":
            return out
        c, d = TARGETS[self.settings.prediction]
        signal, noise = self.signal[t].unsqueeze(1), self.noise[t].unsqueeze(1)
        power = signal.square() + noise.square()
        return (c * signal + d * noise) / power * z + (d * signal - c * noise) / power.sqrt() * out

    def loss(
        self, net: nn.Module, z: Float[Tensor, "n L"], t: Int[Tensor, "n"], eps: Float[Tensor, "n L"]
    ) -> Float[Tensor, ""]:
        """Equation 6: mean squared error of the prediction at times ``t`` with noise ``eps``."""
        device = self.settings.torch_device
        z, t, eps = (part.to(device, non_blocking=True) for part in (z, t, eps))  # the host goes on
        noisy = self.signal[t].unsqueeze(1) * z + self.noise[t].unsqueeze(1) * eps
        c, d = TARGETS[self.settings.prediction]
        return (self.predict(net, noisy, t) - (c * z + d * eps)).square().mean()

    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None = None) -> None:
        own = self.settings
        self.latent = z.shape[1]
        watched = held if len(held) else z

        def loss(net: nn.Module, step: int) -> list[Tensor]:
            return [self.loss(net, *self._draw(z, own.batch, step))]

        self.net, self.losses = learn(
            "denoiser", self._build(self.latent), loss, lambda net: self._check(net, watched),
            Plateau(ENOUGH, patience=3, every=100) if own.early_stop else None, steps=own.steps, lr=own.lr,
            weight_decay=own.weight_decay, ema=own.ema, path=folder / DENOISER if folder else None,
        )  # fmt: skip

    def _draw(self, z: Float[Tensor, "K L"], n: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, times and noise of one training step."""
        draw = generator("denoiser", self.settings.seed, step)
        rows = torch.randint(len(z), (n,), generator=draw)
        t = torch.randint(self.settings.timesteps, (n,), generator=draw)
        return z[rows], t, torch.randn(n, z.shape[1], generator=draw)

    @torch.no_grad()
    def _check(self, net: nn.Module, z: Float[Tensor, "K L"]) -> float:
        """Logarithm of the loss on given latents, always with the same times and noise."""
        return self.loss(net, *self._draw(z, CHECKED, -1)).log().item()

    def findings(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"]) -> dict[str, Any]:
        """The denoising gap: the loss on held-out members over that on fitted ones, near 1 if the denoiser has
        learnt what they share, and large if it knows the fitted members by heart.

        Both losses are over the same times and noise, and are geometric means over times. A plain mean would
        consist of the times of much noise, where nothing is known of a latent and its loss is its size: with
        linear latents of the reference zoo its gap is 1.16, the held-out latents' size 1.15, while at times
        of little noise their loss is twice that of fitted ones. A geometric gap is also the same for whatever
        multiple of the noise is predicted.

        There is no gap where no members were held out, nor where the reconstruction gate failed: the codec has
        no place for such members, so a loss on their latents would be about the codec. For a trajectory the gap
        is optimistic: members are held out at random, and fitted neighbours in time of a held-out one are nearly
        the same network. (The held-out latents also tell when to stop training, which weighs little beside that.)
        """
        members = self._denoising(z)
        unseen = self._denoising(held) if len(held) else None
        gap = None if unseen is None or members == 0 else unseen / members
        return {"denoising": {"members": members, "held_out": unseen, "gap": gap}}

    @torch.no_grad()
    def _denoising(self, z: Float[Tensor, "K L"]) -> float:
        """The loss on latents, as a geometric mean over evenly spaced times."""
        z = z[evenly(len(z), JUDGED)]
        noise = torch.randn(DRAWS, self.latent, generator=generator("denoising", self.settings.seed))
        times = (torch.arange(DRAWS) + 0.5) * self.settings.timesteps / DRAWS
        losses = [
            self.loss(self.net, z, t.expand(len(z)), eps.expand_as(z))
            for t, eps in zip(times.long(), noise, strict=True)
        ]
        return torch.stack(losses).double().log().mean().exp().item()

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        return self._reverse(indices, seed)

    def path(self, indices: Sequence[int], seed: int) -> list[Float[Tensor, "n L"]]:
        trace: list[Tensor] = []
        self._reverse(indices, seed, trace)
        return list(torch.stack(trace).cpu())

    @torch.no_grad()
    def _reverse(self, indices: Sequence[int], seed: int, trace: list[Tensor] | None = None) -> Tensor:
        own = self.settings
        noise = sample_normal(indices, self.latent, "latent", seed).to(own.torch_device)
        if own.process == "flow":
            z = follow(
                self._velocity, noise, solver=own.sampler, timesteps=own.timesteps,
                sample_steps=own.sample_steps, trace=trace,
            )  # fmt: skip
            return z.cpu()
        z = reverse(
            lambda z, t: self.predict(self.net, z, t), noise, sample_generators(indices, "reverse", seed),
            scheduler=own.sampler, prediction=own.prediction, timesteps=own.timesteps,
            sample_steps=own.sample_steps, trace=trace,
        )  # fmt: skip
        return z.cpu()

    def _velocity(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """Of a flow, from what is predicted."""
        predicted = self.predict(self.net, z, t)
        if self.settings.prediction == "velocity":
            return predicted
        return (z - predicted) / self.noise[t].unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        return {"latent": self.latent, "net": self.net.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.latent, own = state["latent"], self.settings
        require_shapes(lambda: make_denoiser(own.denoiser, self.latent, own.width, own.depth), state["net"])
        self.net = self._build(self.latent).eval().requires_grad_(False)
        self.net.load_state_dict(state["net"])
