r"""Denoising diffusion over latents (Ho et al. 2020), the prior of p-diff.

Forward: ``z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps`` with ``abar_t = prod (1 - beta_s)`` and linear betas
1e-4..2e-2 (the paper's equation 6). A denoiser is trained with the squared error of what it predicts:

* ``x0``, the latent itself, ``x0_hat = F(z_t, t)``: the default. Zoos fill a thin subspace of the latents;
  predicting a point of it is learnt in hundreds of steps;
* ``eps``, the paper's, as ``eps_hat = sqrt(1 - abar_t) z_t + sqrt(abar_t) F(z_t, t)``: for a standard normal
  F = 0 is right. Without the first term an undertrained network must learn to pass on the noise of all
  directions outside the subspace, and sampling multiplies what it misses: after 1,000 steps the samples of
  the reference zoo had 12 times its variance.

Sampling runs diffusers' schedulers without clipping, on trailing time steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paramdiff.errors import check_choice, check_range
from paramdiff.generators.latent import DENOISER, Prior
from paramdiff.generators.learning import Plateau, learn
from paramdiff.generators.nets.denoisers import DENOISERS, make_denoiser
from paramdiff.generators.settings import Settings
from paramdiff.seeds import generator, sample_generators, sample_normal, seeded
from paramdiff.training import require_finite

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``(z_t [n, L], t [n]) -> prediction [n, L]``."""

BETAS = (1e-4, 2e-2)
PREDICTIONS = {"eps": "epsilon", "x0": "sample"}
SCHEDULERS = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "dpm-solver++": "DPMSolverMultistepScheduler"}

ENOUGH = 0.01
"""Training ends when 100 more steps, three times in a row, lower the loss by less than 1%."""

CHECKED = 1024
"""Noisy latents on which the loss is watched, of held-out members where there are some."""


@dataclass
class DiffusionSettings(Settings):
    """
    Attributes:
        denoiser: ``mlp`` (residual MLP) or ``conv`` (1-D convolutions; depth=4 is the paper's).
        width: features of the denoiser, of its innermost layer for ``conv``.
        depth: residual blocks, or layers of encoder and decoder each.
        prediction: ``x0`` or ``eps``.
        timesteps: T.
        steps: training steps at most; training ends earlier when they no longer help.
        batch: latents per step, drawn with replacement.
        lr, weight_decay: of AdamW.
        ema: decay of the averaged weights that sample, reached after a warm-up.
        scheduler: ``dpm-solver++``, ``ddim`` (both deterministic given the first noise) or ``ddpm``.
        sample_steps: denoiser evaluations per sample, at most T. 20 of ``dpm-solver++`` are as good as 1,000;
            ``ddim`` needs 50 and ``ddpm`` 100 or more.
    """

    denoiser: str = "mlp"
    width: int = 256
    depth: int = 2
    prediction: str = "x0"
    timesteps: int = 1000
    steps: int = 2000
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 2e-6
    ema: float = 0.9999
    scheduler: str = "dpm-solver++"
    sample_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("denoiser", self.denoiser, DENOISERS)
        check_choice("prediction", self.prediction, PREDICTIONS)
        check_choice("scheduler", self.scheduler, SCHEDULERS)
        for key in ("width", "depth", "steps", "batch", "sample_steps"):
            check_range(key, getattr(self, key), least=1)
        check_range("timesteps", self.timesteps, least=2)
        check_range("lr", self.lr, above=0)
        check_range("weight_decay", self.weight_decay, least=0)
        check_range("ema", self.ema, least=0, below=1)


def alpha_bar(timesteps: int) -> Float[Tensor, "T"]:
    """``abar_t`` for t = 0..T-1."""
    return (1 - torch.linspace(*BETAS, timesteps, dtype=torch.float64)).cumprod(0).float()


def scheduler_class(name: str) -> type:
    """The class in diffusers, which takes a second or two to import."""
    import diffusers

    return getattr(diffusers, SCHEDULERS[name])


def reverse(
    denoise: Denoise, z: Float[Tensor, "n L"], generators: list[torch.Generator], *, scheduler: str,
    prediction: str, timesteps: int, sample_steps: int,
) -> Float[Tensor, "n L"]:  # fmt: skip
    """The reverse process from noise ``z`` at t = T.

    Args:
        denoise: predicts ``eps`` or ``x0``, see ``prediction``.
        z: standard normal.
        generators: one per sample, for the noise that ``ddpm`` adds in every step.

    Raises:
        NumericalError: NaN or Inf in some step.
    """
    kind = scheduler_class(scheduler)
    own = {} if scheduler == "dpm-solver++" else {"clip_sample": False}  # that one never clips
    process = kind(
        num_train_timesteps=timesteps, beta_start=BETAS[0], beta_end=BETAS[1], beta_schedule="linear",
        prediction_type=PREDICTIONS[prediction], timestep_spacing="trailing", **own,
    )  # fmt: skip
    process.set_timesteps(min(sample_steps, timesteps))
    for step, t in enumerate(process.timesteps.tolist()):
        predicted = denoise(z, torch.full((len(z),), t, device=z.device))
        z = process.step(predicted, t, z, generator=generators).prev_sample
        require_finite(z, f"reverse diffusion, step {step + 1} (t = {t})")
    return z


class LatentDiffusion(Prior):
    """A denoiser with averaged weights, and the process that samples with it."""

    def __init__(self, settings: DiffusionSettings) -> None:
        self.settings, self.losses = settings, []
        scheduler_class(settings.scheduler)  # imported with the model, so that sampling starts at once
        self.alpha_bar = alpha_bar(settings.timesteps).to(settings.torch_device)

    def _build(self, latent: int) -> nn.Module:
        own = self.settings
        with seeded("denoiser", own.seed):
            return make_denoiser(own.denoiser, latent, own.width, own.depth).to(own.torch_device)

    def predict(self, net: nn.Module, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """What the settings' ``prediction`` says, from the network's output."""
        out = net(z, t)
        if self.settings.prediction == "x0":
            return out
        signal = self.alpha_bar[t].unsqueeze(1)
        return (1 - signal).sqrt() * z + signal.sqrt() * out

    def loss(
        self, net: nn.Module, z: Float[Tensor, "n L"], t: Int[Tensor, "n"], eps: Float[Tensor, "n L"]
    ) -> Float[Tensor, ""]:
        """Equation 6: mean squared error of the prediction at times ``t`` with noise ``eps``."""
        z, t, eps = (part.to(self.settings.torch_device) for part in (z, t, eps))
        signal = self.alpha_bar[t].unsqueeze(1)
        noisy = signal.sqrt() * z + (1 - signal).sqrt() * eps
        target = z if self.settings.prediction == "x0" else eps
        return (self.predict(net, noisy, t) - target).square().mean()

    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None = None) -> None:
        own = self.settings
        self.latent = z.shape[1]
        watched = held if len(held) else z

        def loss(net: nn.Module, step: int) -> Tensor:
            return self.loss(net, *self._draw(z, own.batch, step))

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

    @torch.no_grad()
    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        own = self.settings
        noise = sample_normal(indices, self.latent, "latent", seed).to(own.torch_device)
        draws = sample_generators(indices, "reverse", seed)
        z = reverse(
            lambda z, t: self.predict(self.net, z, t), noise, draws, scheduler=own.scheduler,
            prediction=own.prediction, timesteps=own.timesteps, sample_steps=own.sample_steps,
        )  # fmt: skip
        return z.cpu()

    def state_dict(self) -> dict[str, Any]:
        return {"latent": self.latent, "net": self.net.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.latent = state["latent"]
        self.net = self._build(self.latent).eval().requires_grad_(False)
        self.net.load_state_dict(state["net"])
