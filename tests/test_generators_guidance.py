"""Guided samples go down the training loss, in latents through every decoder, each by itself."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from paramdiff.errors import ConfigError, GeneratorError
from paramdiff.generators.autoencoder import Autoencoder, PlainAutoencoder
from paramdiff.generators.behaviour import Behaviour
from paramdiff.generators.context import FitContext
from paramdiff.generators.descent import descend, through
from paramdiff.generators.gaussian_latents import GaussianLatents
from paramdiff.generators.guidance import Guidance, without_guidance
from paramdiff.generators.latent import LatentGenerator
from paramdiff.generators.latent_noise import LatentNoise
from paramdiff.generators.vae import VariationalAutoencoder
from paramdiff.seeds import generator
from paramdiff.testing.toys import ToyFeedback, curve, toy_zoo

ZOO = toy_zoo(curve(14, 40))
FEEDBACK = FitContext(ToyFeedback(ZOO.vectors))
TINY_NETWORK = {"latent": 4, "channels": [4], "strides": [2], "steps": 3}
KINDS = {
    "linear": GaussianLatents,
    "convolutions": lambda: LatentNoise(autoencoder=Autoencoder(**TINY_NETWORK)),
    "dense": lambda: LatentNoise(autoencoder=Autoencoder(architecture="fc", **TINY_NETWORK)),
    "chunks": lambda: LatentNoise(autoencoder=Autoencoder(chunk=16, components=5, **TINY_NETWORK)),
    "vae": lambda: VariationalAutoencoder(autoencoder=PlainAutoencoder(**TINY_NETWORK)),
    "trained linear": lambda: GaussianLatents(behaviour=Behaviour(steps=3)),
    "trained": lambda: LatentNoise(autoencoder=Autoencoder(**TINY_NETWORK), behaviour=Behaviour(steps=3)),
}


@cache
def fitted(kind: str) -> LatentGenerator:
    made: LatentGenerator = KINDS[kind]()
    return made.fit(ZOO, FEEDBACK)


def drawn(kind: str, n: int, seed: int = 0, **settings: object) -> Tensor:
    """Samples with this guidance; the fit is shared."""
    made = fitted(kind)
    made.guidance = Guidance(**settings)  # type: ignore[arg-type]
    return made.sample(n, seed, context=FEEDBACK)


def mean_loss(samples: Tensor) -> float:
    return float(ToyFeedback(ZOO.vectors).training_loss(samples, 10_000, 400)[0].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_by_latents_is_that_of_finite_differences(kind: str):
    made = fitted(kind)
    z = made.prior.sample(range(2), 1)
    towards = torch.randn(2, 40, generator=generator("towards"))
    found = through(made._decode, z, lambda x: towards)
    step = torch.randn(z.shape, generator=generator("step"))
    h = 1e-2
    change = ((made._decode(z + h * step) - made._decode(z - h * step)) * towards).sum(1) / (2 * h)
    torch.testing.assert_close((found * step).sum(1), change, rtol=2e-2, atol=2e-3)
    assert not made._decode(z).requires_grad


@pytest.mark.parametrize("where", ["latents", "parameters"])
@pytest.mark.parametrize("kind", ["linear", "chunks", "trained"])
def test_samples_get_better(kind: str, where: str):
    before = mean_loss(drawn(kind, 30))
    assert mean_loss(drawn(kind, 30, steps=20, lr=0.05, where=where)) < 0.9 * before


def test_in_latents_they_stay_among_what_the_decoder_can_say():
    made = fitted("linear")
    for where, outside in (("latents", 0.0), ("parameters", 0.01)):
        x = made.normaliser.normalise(drawn("linear", 5, steps=10, where=where))  # type: ignore[union-attr]
        lost = (x - made.codec.decode(made.codec.encode(x))).norm()
        assert (lost < 1e-4) if not outside else (lost > outside)


def test_each_is_the_same_whatever_is_drawn_with_it():
    many = drawn("linear", 25, steps=3)
    assert torch.equal(drawn("linear", 3, steps=3), many[:3])
    assert not torch.equal(drawn("linear", 3, seed=1, steps=3), many[:3])


def test_all_samples_see_the_same_batch_in_a_step():
    class Seen(ToyFeedback):
        def training_loss(self, vectors: Tensor, *batch: object) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            seen.append(batch)
            return super().training_loss(vectors, *batch)  # type: ignore[arg-type]

    seen: list[object] = []
    made = fitted("linear")
    made.guidance = Guidance(steps=2, batch=9)
    made.sample(21, context=FitContext(Seen(ZOO.vectors)))
    assert seen == 2 * [(0, 9, 20, 0.0), (1, 9, 20, 0.0)]


def test_no_steps_are_none():
    made = fitted("linear")
    made.guidance = Guidance()
    assert not made.asks and torch.equal(made.sample(3), drawn("linear", 3, lr=3.0, where="parameters"))
    start = torch.ones(2, 3)
    assert torch.equal(descend(start, lambda x, step: x, 0, 0.1, ""), start)


def test_noise_is_added_before_the_steps_and_stays():
    made = replace(fitted("linear"), spread=0.5).fit(ZOO)
    noisy = made.sample(4)
    made.guidance = Guidance(steps=3, lr=1e-6)
    torch.testing.assert_close(made.sample(4, context=FEEDBACK), noisy, atol=1e-4, rtol=0)


def test_wrong_settings_and_missing_data_are_named():
    for settings, said in (
        ({"lr": 0.0}, "lr"),
        ({"where": "latent"}, "did you mean latents"),
        ({"steps": -1}, "steps"),
    ):
        with pytest.raises(ConfigError, match=said):
            Guidance(**settings)  # type: ignore[arg-type]
    made = fitted("linear")
    made.guidance = Guidance(steps=2)
    with pytest.raises(GeneratorError, match=r"^gaussian-latents with guidance.steps=2 has no training data"):
        made.sample(1)
    with pytest.raises(GeneratorError, match="gives no gradient by latents"):
        through(lambda z: z.detach(), torch.ones(1, 2), lambda x: x)


def test_where_it_is_off_settings_are_as_before():
    off = fitted("linear")
    off.guidance = Guidance()
    assert without_guidance(off.sampling_settings) == {"contraction": 1.0, "spread": 0.0}
    off.guidance = Guidance(steps=1)
    assert without_guidance(off.sampling_settings)["guidance.where"] == "latents"
