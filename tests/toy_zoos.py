"""Settings with which every generator fits the small zoos of :mod:`paramdiff.testing.toys` in a moment."""

from typing import Any

from torch import Tensor

from paramdiff.generators import Generator, make
from paramdiff.generators.context import FitContext
from paramdiff.testing.toys import ToyFeedback, curve, scattered, toy_zoo
from paramdiff.zoo.zoo import Zoo

__all__ = [
    "QUICK",
    "SMALL",
    "ToyFeedback",
    "curve",
    "drawn_from",
    "fitted_to",
    "quick",
    "scattered",
    "toy_zoo",
]

SMALL = {"latent": 8, "channels": [8, 8], "strides": [4, 1], "steps": 20}
SHORT = {"steps": 20, "width": 16}
QUICK: dict[str, dict[str, Any]] = {
    "average-of-k": {"k": 3},
    "p-diff": {"autoencoder": SMALL, "diffusion": SHORT},
    "vae": {"autoencoder": SMALL},
    "autoencoder-kde": {"autoencoder": SMALL},
    "latent-noise": {"autoencoder": SMALL},
    "p-diff-linear": {"autoencoder": {"components": 6}, "diffusion": SHORT},
}


def quick(name: str, **settings: Any) -> Generator:
    """A generator with few steps and small parts.

    Args:
        settings: others than by default; those of a part by its name, ``autoencoder={"latent": 4}``.
    """
    small = QUICK.get(name, {})
    parts = {
        key: {**small.get(key, {}), **value} for key, value in settings.items() if isinstance(value, dict)
    }
    return make(name, **{**small, **settings, **parts})


def fitted_to(made: Generator, zoo: Zoo) -> Generator:
    """Fitted, with what it needs beside the zoo."""
    if made.matches:
        return made.fit(zoo, FitContext(ToyFeedback(zoo.vectors), reference=curve(5, zoo.dim)))
    return made.fit(zoo)


def drawn_from(fitted: Generator, n: int, seed: int = 0) -> Tensor:
    """Samples, with the feedback of a task where it asks for it."""
    assert fitted.normaliser is not None
    feedback = ToyFeedback(fitted.normaliser.mean.float()[None] + curve(3, len(fitted.normaliser.mean)))
    return fitted.sample(n, seed, context=FitContext(feedback if fitted.asks else None))
