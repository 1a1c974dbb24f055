from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from paramdiff.errors import ConfigError, GeneratorError, NumericalError, ZooError
from paramdiff.files import save_tensors
from paramdiff.generators import Generator, make, registry
from paramdiff.generators import generator as protocol
from toy_zoos import curve, drawn_from, fitted_to, quick, toy_zoo

BUILT_IN = [
    "average", "average-of-k", "noised", "matched-noise", "gaussian", "low-rank-gaussian", "swag", "fine-tuned",
    "p-diff", "p-diff-linear", "vae", "autoencoder-kde", "latent-noise",
]  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> dict[str, Generator]:
    zoo = toy_zoo(curve(14, 33).abs() + 0.1, positive=3)
    return {name: fitted_to(quick(name), zoo) for name in BUILT_IN}


def test_the_registry_knows_what_is_built_in():
    assert set(BUILT_IN) <= set(registry())


@pytest.mark.parametrize("name", BUILT_IN)
def test_settings_hide_no_class_attribute(name: str):
    """A setting called ``chunk`` once became the number of samples that are drawn at once."""
    settings = OmegaConf.structured(registry()[name]).keys()
    assert not set(settings) & {key for key in vars(Generator) if not key.startswith("_")}


@pytest.mark.parametrize("name", BUILT_IN)
def test_sample_i_has_the_same_bits_for_every_n(name: str, fitted: dict[str, Generator]):
    many = drawn_from(fitted[name], 150, seed=3)
    assert many.shape == (150, 33)
    for n in (1, 7, 100, 101):
        assert torch.equal(drawn_from(fitted[name], n, seed=3), many[:n])
    if name != "average":
        assert not torch.equal(drawn_from(fitted[name], 2, seed=4), many[:2])
        assert not torch.equal(many[0], many[1])


@pytest.mark.parametrize("name", BUILT_IN)
def test_positive_coordinates_stay_positive(name: str, fitted: dict[str, Generator]):
    assert bool((drawn_from(fitted[name], 50)[:, -3:] > 0).all())


@pytest.mark.parametrize("name", BUILT_IN)
def test_save_and_load_give_the_same_samples(name: str, fitted: dict[str, Generator], tmp_path: Path):
    fitted[name].save(tmp_path / "g")
    again = Generator.load(tmp_path / "g")
    assert type(again) is type(fitted[name]) and again == fitted[name]
    assert torch.equal(drawn_from(again, 12, seed=1), drawn_from(fitted[name], 12, seed=1))
    assert again.losses == fitted[name].losses and again.notes == fitted[name].notes


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(("k", "dim"), [(2, 2), (3, 5), (11, 2)])
def test_the_smallest_zoos_work(name: str, k: int, dim: int):
    settings = {"k": 2} if name == "average-of-k" else {}
    zoo = toy_zoo(curve(k, dim))
    assert drawn_from(fitted_to(quick(name, **settings), zoo), 3).isfinite().all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_constant_coordinates_keep_their_constant(name: str):
    vectors = curve(12, 9)
    vectors[:, 4] = 0.7
    samples = drawn_from(fitted_to(quick(name), toy_zoo(vectors)), 5)
    assert bool((samples[:, 4] == torch.tensor(0.7)).all())


@pytest.mark.parametrize("name", BUILT_IN)
def test_settings_are_structured_configs(name: str):
    node = OmegaConf.structured(registry()[name])
    assert OmegaConf.to_object(node) == make(name)


def test_chunks_of_long_vectors_are_smaller(monkeypatch: pytest.MonkeyPatch):
    seen = []

    class Watched(registry()["gaussian"]):  # type: ignore[misc]
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
    about = tmp_path / "g" / "generator.json"
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


def test_a_broken_plugin_is_reported_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Broken:
        name, value = "odd", "odd.module:Odd"

        def load(self) -> None:
            raise ImportError("no module odd")

    monkeypatch.setattr(protocol, "entry_points", lambda group: [Broken()])
    monkeypatch.delenv("PARAMDIFF_QUIET")
    assert set(BUILT_IN) <= set(registry())
    assert "plug-in odd (odd.module:Odd) cannot be imported: no module odd" in capsys.readouterr().err
