"""Every registered generator keeps the contract, by the checks that users run on theirs; what the base class does."""

from pathlib import Path
from typing import Any

import pytest
import torch

from paramdiff.errors import ConfigError, GeneratorError, NumericalError, ZooError
from paramdiff.files import save_tensors
from paramdiff.generators import GENERATORS, Generator, make
from paramdiff.generators import generator as protocol
from paramdiff.generators.gaussian import Gaussian
from paramdiff.registry import registered_in
from paramdiff.testing import check_generator
from toy_zoos import curve, quick, toy_zoo


@pytest.mark.parametrize("name", registered_in("generators"))
def test_every_registered_generator_keeps_the_contract(name: str):
    check_generator(quick(name))


def test_help_shows_the_settings_of_all_parts():
    text = str(GENERATORS["p-diff"].__doc__)
    assert "autoencoder.lr = 0.003: learning rate." in text and "    contraction = 1.0: factor on" in text
    assert "diffusion.steps = 2000: training steps at most." in text
    assert "diffusion.weight_decay = 2e-06: of AdamW." in text
    assert "autoencoder.steps = 1500:" in str(GENERATORS["vae"].__doc__)
    for kind in GENERATORS.all().values():
        _, _, settings = str(kind.__doc__).partition("All settings:")
        assert all(len(line) <= 110 and not line.endswith(": ") for line in settings.splitlines())


def test_chunks_of_long_vectors_are_smaller(monkeypatch: pytest.MonkeyPatch):
    seen = []

    class Watched(Gaussian):
        def _sample(self, indices: Any, seed: int, feedback: Any) -> Any:
            seen.append(len(indices))
            return super()._sample(indices, seed, feedback)

    generator = Watched().fit(toy_zoo(curve(4, 50)))
    whole = generator.sample(12)
    monkeypatch.setattr(protocol, "ELEMENTS", 250)
    assert torch.equal(generator.sample(12), whole)
    assert seen == [100, 5, 5, 5]


def test_a_sample_that_is_not_finite_stops():
    generator = make("gaussian").fit(toy_zoo(curve(4, 5)))
    generator.deviation[2] = float("inf")  # type: ignore[attr-defined]
    with pytest.raises(NumericalError, match="sampling gaussian, samples from 0 on: NaN or Inf"):
        generator.sample(3)


def test_errors_name_what_is_wrong(tmp_path: Path):
    with pytest.raises(GeneratorError, match=r"gaussian is not fitted; call fit\(zoo\) first"):
        make("gaussian").sample(1)
    with pytest.raises(GeneratorError, match="call fit.zoo. before save"):
        make("gaussian").save(tmp_path / "g")
    with pytest.raises(GeneratorError, match="n = 0 samples; expected at least 1"):
        make("gaussian").fit(toy_zoo(curve(4, 5))).sample(0)
    with pytest.raises(ConfigError, match=r"generator: 'p_diff' is not known.*did you mean p-diff"):
        make("p_diff")
    with pytest.raises(
        ConfigError, match="autoencoder.latents: Autoencoder has no such setting; did you mean latent"
    ):
        make("p-diff", autoencoder={"latents": 3})
    with pytest.raises(ZooError, match="all 3 checkpoints are identical"):
        make("gaussian").fit(toy_zoo(torch.ones(3, 5)))


def test_an_unknown_saved_generator_is_named(tmp_path: Path):
    make("gaussian").fit(toy_zoo(curve(4, 5))).save(tmp_path / "g")
    about = tmp_path / "g" / "config.json"
    about.write_text(about.read_text().replace('"gaussian"', '"gausian"'))
    with pytest.raises(GeneratorError, match="holds a generator 'gausian'; did you mean gaussian"):
        Generator.load(tmp_path / "g")


@pytest.mark.parametrize("content", ["{}", "[]", '{"generator": "average", "settings": {}}'])
def test_a_damaged_generator_is_named(content: str, tmp_path: Path):
    (tmp_path / "generator.json").write_text(content)
    save_tensors(tmp_path / "state.safetensors", {"mean": torch.zeros(2)})
    with pytest.raises(GeneratorError, match="is a damaged generator .*fit it again"):
        Generator.load(tmp_path)


def test_a_fit_that_failed_leaves_an_unfitted_generator():
    generator = make("average-of-k", k=3).fit(toy_zoo(curve(4, 5)))
    with pytest.raises(ConfigError):
        generator.fit(toy_zoo(curve(2, 5)))
    with pytest.raises(GeneratorError, match="not fitted"):
        generator.sample(1)
