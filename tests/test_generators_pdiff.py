from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_zoos
from paramdiff import ParameterDiffusion, training
from paramdiff.errors import ConfigError, NumericalError
from paramdiff.files import read_json, write_json
from paramdiff.generators import Generator, make
from paramdiff.generators.autoencoder import PlainAutoencoder
from paramdiff.generators.context import FitContext
from paramdiff.generators.diffusion import Diffusion, LatentDiffusion
from paramdiff.generators.reconstruction_check import ReconstructionCheck
from paramdiff.training import Training
from toy_zoos import curve, scattered, toy_zoo


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


class Killed(Training):
    """Saves after every step, and dies in step 7 of the training named in ``victim``."""

    victim = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, save_every_s=0.0)

    def __iter__(self) -> Iterator[int]:
        for step in super().__iter__():
            if self.name == self.victim and step == 7:
                raise KilledError
            yield step


def quick(**settings: Any) -> ParameterDiffusion:
    made = toy_zoos.quick("p-diff", **settings)
    assert isinstance(made, ParameterDiffusion)
    return made


@pytest.mark.parametrize("victim", ["autoencoder", "denoiser"])
def test_a_killed_fit_goes_on_with_the_same_numbers(
    victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    zoo = toy_zoo(curve(14, 33))
    whole = quick(autoencoder={"norm": "batch"}).fit(zoo)
    monkeypatch.setattr(training, "Training", Killed)
    monkeypatch.setattr(Killed, "victim", victim)
    with pytest.raises(KilledError):
        quick(autoencoder={"norm": "batch"}).fit(zoo, FitContext(folder=tmp_path))
    monkeypatch.undo()
    resumed = quick(autoencoder={"norm": "batch"}).fit(zoo, FitContext(folder=tmp_path))
    assert torch.equal(resumed.sample(8), whole.sample(8))
    assert resumed.losses == whole.losses and resumed.notes == whole.notes
    assert {"autoencoder.safetensors", "denoiser.safetensors"} < {path.name for path in tmp_path.iterdir()}


def test_the_same_seed_gives_the_same_fit():
    zoo = toy_zoo(curve(14, 33))
    one, same, other = (quick(seed=seed).fit(zoo).sample(4) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_state_of_other_settings_or_another_zoo_is_not_resumed(tmp_path: Path):
    zoo, other = toy_zoo(curve(14, 33)), toy_zoo(curve(14, 33) + 0.1 * curve(14, 33).cos())
    quick(autoencoder={"latent": 4}).fit(zoo, FitContext(folder=tmp_path))
    for generator, next_zoo in ((quick(), zoo), (quick(), other)):
        again = generator.fit(next_zoo, FitContext(folder=tmp_path))
        assert torch.equal(again.sample(3), quick().fit(next_zoo).sample(3))


def test_it_draws_from_the_distribution_of_a_trajectory():
    vectors = curve(60, 64)
    generator = quick(autoencoder={"steps": 150}, diffusion={"steps": 500, "width": 64}).fit(toy_zoo(vectors))
    samples = generator.sample(100)
    assert torch.allclose(samples.mean(0), vectors.mean(0), atol=0.08)
    variance = samples.var(0).sum() / vectors.var(0).sum()
    assert 0.7 < float(variance) < 1.4
    nearest = torch.cdist(samples, vectors).min(1).values.median()
    assert float(nearest) < 0.5 * float(torch.cdist(samples, vectors).mean())


def test_latents_are_standardised_whatever_their_size(monkeypatch: pytest.MonkeyPatch):
    generator = make("p-diff-linear", autoencoder={"components": 3}, diffusion={"steps": 600, "width": 64})
    vectors = curve(40, 20) * 100 + 1000
    seen = []
    fit = "paramdiff.generators.diffusion.LatentDiffusion.fit"

    original = LatentDiffusion.fit
    monkeypatch.setattr(
        fit, lambda self, z, held, folder: (seen.append(z), original(self, z, held, folder))[1]
    )
    samples = generator.fit(toy_zoo(vectors)).sample(100)
    assert torch.allclose(seen[0].mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(seen[0].std(0, correction=0), torch.ones(3), atol=1e-4)
    assert 0.7 < float(samples.var(0).sum() / vectors.var(0).sum()) < 1.4


def test_nan_while_fitting_names_the_training():
    with pytest.raises(NumericalError, match="autoencoder: the loss is (nan|inf) at step"):
        quick(autoencoder={"lr": 1e6, "steps": 60}).fit(toy_zoo(curve(12, 33)))
    with pytest.raises(NumericalError, match="denoiser: the loss is (nan|inf) at step"):
        quick(diffusion={"lr": 1e6, "steps": 60}).fit(toy_zoo(curve(12, 33)))


@pytest.mark.parametrize(
    "settings",
    [
        {"diffusion": {"denoiser": "conv", "depth": 2}},
        {"diffusion": {"prediction": "eps"}},
        {"diffusion": {"scheduler": "ddpm", "sample_steps": 5}},
        {"diffusion": {"scheduler": "ddim"}},
        {"reconstruction_check": {"held_out": 0.0}},
        {"autoencoder": {"architecture": "fc"}},
        {"autoencoder": {"architecture": "fc", "norm": "instance"}},
        {"autoencoder": {"norm": "none", "latent_noise": 0.0, "parameter_noise": 0.0}},
        {"diffusion": {"process": "flow"}},
        {"diffusion": {"process": "flow", "prediction": "velocity", "scheduler": "euler", "timesteps": 10}},
    ],
)
def test_every_combination_of_parts_fits(settings: dict[str, Any]):
    generator = quick(**settings).fit(toy_zoo(curve(11, 21)))
    assert torch.equal(generator.sample(2), generator.sample(3)[:2])


def test_contraction_scales_the_deviation_of_latents_when_sampling():
    """On linear latents the decoder is linear, so samples move towards the mean by exactly that factor."""
    zoo = toy_zoo(curve(20, 12))
    generator = make("p-diff-linear", autoencoder={"components": 4}, diffusion={"steps": 60}).fit(zoo)
    whole = generator.sample(5)
    generator.contraction = 0.0
    centre = generator.sample(5)
    assert torch.allclose(centre, centre[:1].expand(5, -1)), "0 is the mean latent alone"
    generator.contraction = 0.5
    assert torch.allclose(generator.sample(5) - centre, 0.5 * (whole - centre), atol=1e-4)


@pytest.mark.parametrize(("vectors", "fraction", "measured"), [
    (curve(20, 60), 0.1, True), (scattered(20, 200), 0.1, False), (curve(20, 60), 0.0, False),
])  # fmt: skip
def test_the_denoising_gap_is_noted_where_held_out_latents_mean_something(
    vectors: torch.Tensor, fraction: float, measured: bool
):
    """Not where the check failed, nor where nothing was held out."""
    generator = toy_zoos.quick("p-diff-linear", reconstruction_check={"held_out": fraction})
    noted = generator.fit(toy_zoo(vectors)).notes["denoising"]
    assert noted["members"] > 0
    assert (noted["held_out"] is not None) == (noted["gap"] is not None) == measured


@pytest.mark.parametrize("architecture", ["conv", "fc"])
@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance"])
def test_a_sample_does_not_depend_on_those_drawn_with_it(norm: str, architecture: str, tmp_path: Path):
    generator = quick(autoencoder={"norm": norm, "architecture": architecture}).fit(toy_zoo(curve(14, 33)))
    together = generator._sample(range(5), 0, FitContext())
    alone = torch.cat([generator._sample([index], 0, FitContext()) for index in range(5)])
    assert torch.allclose(together, alone, atol=1e-4)
    generator.save(tmp_path / "g")
    assert torch.equal(Generator.load(tmp_path / "g").sample(3), generator.sample(3))


def test_spread_adds_independent_noise_on_every_coordinate():
    zoo = toy_zoo(curve(20, 12))
    generator = make("p-diff-linear", autoencoder={"components": 4}, diffusion={"steps": 60}).fit(zoo)
    without = generator.sample(200, seed=3)
    generator.spread = 0.5
    added = (generator.sample(200, seed=3) - without) / zoo.vectors.std(0, correction=0)
    assert torch.allclose(added.std(0), torch.tensor(0.5), rtol=0.25)
    assert torch.corrcoef(added.T).fill_diagonal_(0).abs().max() < 0.35
    assert torch.equal(generator.sample(3, seed=3), generator.sample(200, seed=3)[:3])


def test_a_generator_saved_when_contraction_was_called_temperature_draws_what_it_drew(tmp_path: Path):
    generator = quick(contraction=0.4).fit(toy_zoo(curve(14, 33)))
    generator.save(tmp_path / "g")
    about = read_json(tmp_path / "g" / "config.json")
    about["settings"]["temperature"] = about["settings"].pop("contraction")
    del about["settings"]["diffusion"]["temperature"]
    write_json(tmp_path / "g" / "config.json", about)
    again = Generator.load(tmp_path / "g")
    assert isinstance(again, ParameterDiffusion) and (again.contraction, again.diffusion.temperature) == (
        0.4,
        1.0,
    )
    assert torch.equal(again.sample(3), generator.sample(3))


def test_temperature_is_a_setting_of_sampling():
    zoo = toy_zoo(curve(30, 12))
    generator = make(
        "p-diff-linear", autoencoder={"components": 3}, diffusion={"steps": 100, "width": 32}
    ).fit(zoo)
    whole = generator.sample(60)
    generator.diffusion.temperature = 0.5
    assert float(generator.sample(60).var(0).sum()) < 0.9 * float(whole.var(0).sum())
    assert torch.equal(generator.sample(3), generator.sample(60)[:3])
    generator.diffusion.temperature = 1.0
    assert torch.equal(generator.sample(60), whole)
    for name in ("autoencoder-kde", "latent-noise", "gaussian"):
        with pytest.raises(ConfigError, match=f"temperature: {name} has no such setting"):
            make(name, temperature=0.5)


def test_a_setting_of_the_flat_list_is_told_its_place():
    """From Python: as keyword of the class, and by name."""
    for call in (partial(ParameterDiffusion), lambda **old: make("p-diff", **old)):
        with pytest.raises(
            ConfigError, match=r"^latent_noise: p-diff has this .*; write autoencoder.latent_noise$"
        ):
            call(latent_noise=0.1)
        with pytest.raises(ConfigError, match=r"write autoencoder.early_stop and diffusion.early_stop$"):
            call(early_stop=False)
    with pytest.raises(TypeError):
        ParameterDiffusion(strange=1)  # type: ignore[call-arg]
    made = ParameterDiffusion()
    for wrong in ({"lr": 1e-3}, Diffusion()):
        made.autoencoder = wrong  # type: ignore[assignment]
        with pytest.raises(
            ConfigError, match=r"^autoencoder: .* is of type \w+; expected Autoencoder\(...\)$"
        ):
            made.__post_init__()


def test_a_generator_saved_with_flat_settings_draws_what_it_drew(tmp_path: Path):
    generator = quick(autoencoder={"latent": 4}, diffusion={"scheduler": "ddim"}).fit(toy_zoo(curve(14, 33)))
    generator.save(tmp_path / "g")
    about = read_json(tmp_path / "g" / "config.json")
    settings = about["settings"]
    for part, former in (("autoencoder", PlainAutoencoder.FORMERLY), ("diffusion", {}),
                         ("reconstruction_check", ReconstructionCheck.FORMERLY)):  # fmt: skip
        settings |= {former.get(key, key): value for key, value in settings.pop(part).items()}
    assert settings["latent"] == 4 and settings["gate"] == "warn" and settings["autoencoder_lr"] == 3e-3
    about["notes"]["gate"] = about["notes"].pop("reconstruction_check")
    write_json(tmp_path / "g" / "config.json", about)
    again = Generator.load(tmp_path / "g")
    assert (
        again == generator
        and again.notes == generator.notes
        and torch.equal(again.sample(3), generator.sample(3))
    )
