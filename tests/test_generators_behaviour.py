"""Generators trained through the loss of their samples get better without becoming one network."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from paramdiff.errors import ConfigError, GeneratorError, NumericalError, ZooError
from paramdiff.generators.autoencoder import Autoencoder
from paramdiff.generators.behaviour import Behaviour, BehaviourTraining, Deviation, TrainedDecoder
from paramdiff.generators.context import FitContext
from paramdiff.generators.diffusion import Diffusion
from paramdiff.generators.gaussian_latents import GaussianLatents
from paramdiff.generators.generator import Generator
from paramdiff.generators.linear_autoencoder import LinearAutoencoder
from paramdiff.generators.pdiff import ParameterDiffusion
from paramdiff.generators.reconstruction_check import ReconstructionCheck
from paramdiff.seeds import generator
from paramdiff.testing.toys import ToyFeedback, scattered, toy_zoo
from paramdiff.training import Training

ZOO = toy_zoo(scattered(12, 40))
FEEDBACK = FitContext(ToyFeedback(ZOO.vectors))


def trained(context: FitContext = FEEDBACK, **settings: object) -> GaussianLatents:
    return GaussianLatents(behaviour=Behaviour(steps=150, lr=0.05, **settings)).fit(ZOO, context)  # type: ignore[arg-type]


def mean_loss(samples: Tensor) -> float:
    return float(ToyFeedback(ZOO.vectors).training_loss(samples, 10_000, 400)[0].mean())


def deviation(samples: Tensor) -> float:
    return float(torch.pdist(samples).square().mean().sqrt())


def test_samples_get_better_and_stay_as_far_apart():
    before, after = GaussianLatents().fit(ZOO), trained()
    first, last = before.sample(200), after.sample(200)
    assert mean_loss(last) < 0.6 * mean_loss(first)
    assert deviation(last) == pytest.approx(deviation(first), rel=0.2)
    notes = after.notes["behaviour"]
    assert notes["gradient_steps"] == 150 * 16 and notes["deviation"] == pytest.approx(1, abs=1e-3)
    assert notes["loss_last"] < notes["loss_first"] and len(after.losses["behaviour"]) == 150


def test_what_holds_the_directions_holds_each():
    before, after = GaussianLatents().fit(ZOO), trained(diversity="directions")
    fitted = TrainedDecoder.around(before._decode, True, torch.zeros(1, len(before.latent_mean)))
    assert after.decoder is not None
    torch.testing.assert_close(after.decoder.directions.norm(dim=1), fitted.directions.norm(dim=1))
    assert mean_loss(after.sample(100)) < mean_loss(before.sample(100))


def test_samples_that_become_one_network_stop_the_training():
    after = GaussianLatents(behaviour=Behaviour(steps=300, lr=0.02, diversity="none")).fit(ZOO, FEEDBACK)
    notes = after.notes["behaviour"]
    assert notes["stopped"] < 300 and len(after.losses["behaviour"]) < 300
    assert deviation(after.sample(100)) > 0.1 * deviation(GaussianLatents().fit(ZOO).sample(100))


def test_weight_keeps_samples_near_what_was_fitted():
    plain = GaussianLatents().fit(ZOO).sample(50)
    moved = [float((trained(weight=w).sample(50) - plain).norm()) for w in (1.0, 0.001)]
    assert moved[1] < 0.5 * moved[0]


def test_the_gradients_are_those_of_the_loss():
    shapes = {"z": (8, 3), "offset": (40,), "directions": (3, 40)}
    z, offset, directions = (torch.randn(shape, generator=generator(name)) for name, shape in shapes.items())
    decoder, feedback = TrainedDecoder(offset, directions), ToyFeedback(ZOO.vectors)
    settings = Behaviour(steps=1, samples=8, weight=0.25)
    training = BehaviourTraining(settings, decoder, z, feedback, seed=0)
    before = TrainedDecoder(offset + 1, 2 * directions)
    training._learn(0, before)
    rows = torch.randint(8, (8,), generator=generator("behaviour", 0, 0))
    leaves = [tensor.clone().double().requires_grad_() for tensor in (offset, directions)]
    x = leaves[0] + z[rows].double() @ leaves[1]
    items = torch.randperm(400, generator=generator("step", 0))[:64]
    errors = (x - feedback.average) @ feedback.inputs[items].double().T
    loss = 0.25 * errors.square().mean() + 0.75 / 2 * (x - before(z[rows])).square().mean()
    for leaf, found in zip(leaves, (offset, directions), strict=True):
        (wanted,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        torch.testing.assert_close(found.grad, wanted.float())


def test_reconstructions_learn_to_do_what_members_do():
    """Members that the codec cannot keep apart, and held-out ones; the decoder that is used is checked."""
    zoo = toy_zoo(scattered(30, 40))
    context = FitContext(ToyFeedback(zoo.vectors))

    def fitted(imitation: float, steps: int) -> GaussianLatents:
        made = GaussianLatents(
            autoencoder=LinearAutoencoder(components=3), behaviour=Behaviour(steps=100, lr=0.05, imitation=imitation),
            reconstruction_check=ReconstructionCheck(imitation=steps, tolerance=1000.0),
        )  # fmt: skip
        return made.fit(zoo, context)

    plain, own, moved = fitted(0.0, 0), fitted(1.0, 0), fitted(1.0, 30)
    x = own.normaliser.normalise(zoo.vectors)  # type: ignore[union-attr]
    feedback = context.normalised(own.normaliser).require_training("")  # type: ignore[arg-type]
    apart = [float(feedback.imitation(made._reconstruct(x), x, 0, 400)[0].mean()) for made in (plain, own)]
    assert apart[1] < 0.9 * apart[0]
    found = moved.notes["reconstruction_check"]
    assert found["before"]["reconstructed"] != found["reconstructed"]
    assert found["divergence"] < found["divergence_of_others"]
    assert "divergence" not in own.notes["reconstruction_check"]


def test_the_deviation_in_closed_form_is_that_of_samples():
    """Of a decoder with a fitted part that is not linear, too."""
    z = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    directions = torch.randn(3, 20, generator=torch.Generator().manual_seed(2))
    decode = lambda some: torch.tanh(some @ directions)
    decoder = TrainedDecoder.around(decode, False, z)
    torch.testing.assert_close(decoder(z), decode(z), atol=1e-5, rtol=0)
    measure = Deviation(decoder, z)
    decoder.directions.copy_(0.5 * directions)
    decoder.scale(1.7)
    sampled = (decoder(z) - decoder.offset).square().sum(1).mean().sqrt()
    assert measure.of(decoder) == pytest.approx(float(sampled), rel=0.02)


@pytest.mark.parametrize("start", ["member", "random"])
def test_what_the_zoo_is_worth_can_be_seen_without_it(start: str):
    without = trained(start=start)
    assert without.label == f"gaussian-latents-from-{start}"
    assert deviation(without.sample(100)) == pytest.approx(deviation(trained().sample(100)), rel=0.2)
    assert mean_loss(without.sample(100)) < 0.7 * mean_loss(scattered(50, 40))


def test_a_nonlinear_codec_is_trained_and_comes_back_from_disk(tmp_path: Path):
    quick = ParameterDiffusion(
        autoencoder=Autoencoder(steps=5, latent=4), diffusion=Diffusion(steps=5, sample_steps=3),
        behaviour=Behaviour(steps=60),
    )  # fmt: skip
    fitted = quick.fit(ZOO, FEEDBACK)
    plain = replace(quick, behaviour=Behaviour()).fit(ZOO)
    assert mean_loss(fitted.sample(50)) < mean_loss(plain.sample(50))
    fitted.save(tmp_path / "g")
    again = Generator.load(tmp_path / "g")
    assert again == fitted and torch.equal(again.sample(5), fitted.sample(5))


def test_a_killed_training_goes_on_with_the_same_bits(tmp_path: Path):
    class Killed(ToyFeedback):
        def training_loss(self, vectors: Tensor, step: int, *others: object) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            if step == 100:
                raise KeyboardInterrupt
            return super().training_loss(vectors, step, *others)  # type: ignore[arg-type]

    whole = trained()
    interrupted = GaussianLatents(behaviour=Behaviour(steps=150, lr=0.05))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("paramdiff.generators.behaviour.Training", partial(Training, save_every_s=0.0))
        interrupted.fit(ZOO, FitContext(Killed(ZOO.vectors), tmp_path))
    assert (tmp_path / "behaviour.safetensors").is_file()
    again = trained(FitContext(ToyFeedback(ZOO.vectors), tmp_path))
    assert torch.equal(again.sample(10), whole.sample(10))
    assert again.losses["behaviour"] == whole.losses["behaviour"]


def test_without_training_data_it_says_what_it_needs():
    with pytest.raises(
        GeneratorError, match=r"^gaussian-latents with behaviour.steps=150 has no training data"
    ):
        trained(FitContext())
    with pytest.raises(GeneratorError, match="no training data"):
        trained(FitContext(lambda x: x.sum(1)))


def test_more_networks_than_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("paramdiff.devices.host_bytes", lambda: 1 << 20)
    with pytest.raises(ConfigError, match=r"^behaviour.samples: 1,000,000 networks of 40 parameters"):
        GaussianLatents(behaviour=Behaviour(steps=1, samples=1_000_000)).fit(ZOO, FEEDBACK)


def test_a_decoder_that_was_led_astray_is_told_as_such():
    settings = {"steps": 10, "lr": 100.0, "diversity": "none"}
    astray = GaussianLatents(behaviour=Behaviour(**settings)).fit(ZOO, FEEDBACK)  # type: ignore[arg-type]
    assert "led away from what these members do" in astray.notes["reconstruction_check"]["why"]
    with pytest.raises(ZooError, match="the reconstruction check failed"):
        replace(astray, reconstruction_check=ReconstructionCheck(action="stop")).fit(ZOO, FEEDBACK)


def test_a_loss_that_is_not_finite_stops_it():
    class Broken(ToyFeedback):
        def training_loss(self, vectors: Tensor, step: int, *others: object) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            losses, gradients = super().training_loss(vectors, step, *others)  # type: ignore[arg-type]
            return losses * (float("nan") if step == 7 else 1), gradients

    with pytest.raises(NumericalError, match=r"^behaviour: the loss is nan at step 7"):
        trained(FitContext(Broken(ZOO.vectors)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"group": 3}, "group: 16 samples do not come in groups of 3"),
        ({"repulsion": 0.5}, "repulsion: a network that sees its batch alone"),
        ({"diversity": "norms"}, "did you mean norm"),
        ({"start": "zero"}, "start"),
        ({"weight": 0.0}, "weight"),
        ({"lr": -1.0}, "lr"),
        ({"imitation": 2.0}, "imitation"),
        ({"imitation": 0.5, "start": "random"}, "no latents of members"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        Behaviour(**settings)  # type: ignore[arg-type]
