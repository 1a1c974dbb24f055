"""Generators on disk, with their network and without; complete state dicts out of them."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paramdiff.errors import GeneratorError, ParamdiffError, ZooError
from paramdiff.files import read_json, save_state, save_tensors, write_json
from paramdiff.generators import Generator, make, saving
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.zoo import Zoo
from toy_zoos import curve, toy_zoo


class Tied(nn.Module):
    """Tied weights, a half-precision layer, integer buffers and a frozen rest."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.norm, self.half = nn.BatchNorm1d(4), nn.Linear(4, 3).half()


def tied_zoo(k: int = 6) -> Zoo:
    model = Tied()
    spec = ParameterSpec.from_model(model, ["norm.*", "head.weight", "half.bias"])
    vectors = spec.flatten(model.state_dict()) + 0.1 * torch.rand(k, spec.dim)
    return Zoo(vectors, spec, model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True)
    )


def test_samples_are_complete_state_dicts_of_the_network():
    zoo = tied_zoo()
    fitted = make("gaussian").fit(zoo)
    drawn = fitted.sample_state_dicts(3, seed=1)
    for state, v in zip(drawn, fitted.sample(3, seed=1), strict=True):
        assert same(state, zoo.state_dict(v))
        assert (
            state["norm.num_batches_tracked"].dtype == torch.int64
            and state["half.bias"].dtype == torch.float16
        )
        assert state["head.weight"].data_ptr() == state["embed.weight"].data_ptr()
        Tied().load_state_dict(state)


def test_state_dicts_are_drawn_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    generator = make("gaussian").fit(toy_zoo(curve(4, 5)))
    drawn: list[int] = []
    sample = type(generator)._sample

    def watched(self: Any, indices: Any, *more: Any) -> Any:
        drawn.append(len(indices))
        return sample(self, indices, *more)

    monkeypatch.setattr(type(generator), "_sample", watched)
    taken = list(islice(generator.sample_state_dicts(10**9), 2))
    assert drawn == [100] and len(taken) == 2
    with pytest.raises(GeneratorError, match="n = 0 samples"):  # at once, not when the first one is asked for
        generator.sample_state_dicts(0)
    with pytest.raises(GeneratorError, match="not fitted"):
        make("gaussian").sample_state_dicts(1)


def test_what_is_saved_with_its_network_needs_no_originals(tmp_path: Path):
    fitted = make("gaussian").fit(tied_zoo())
    saving.write(tmp_path / "g", saving.saved(fitted), "a card")
    again = Generator.load(tmp_path / "g")
    pairs = zip(again.sample_state_dicts(3), fitted.sample_state_dicts(3), strict=True)
    assert all(same(one, other) for one, other in pairs)
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_no_member_is_in_it():
    zoo = tied_zoo()
    network = make("gaussian").fit(zoo).network
    assert network is not None and set(network.frozen) == set(zoo.base) - set(zoo.spec.keys)


def test_without_its_network_it_takes_that_of_the_zoo(tmp_path: Path):
    zoo = tied_zoo()
    fitted = make("gaussian").fit(zoo)
    fitted.save(tmp_path / "g")
    alone = Generator.load(tmp_path / "g")
    assert torch.equal(alone.sample(2), fitted.sample(2))
    with pytest.raises(GeneratorError, match=r"loaded without its network; load it with the zoo"):
        alone.sample_state_dicts(2)
    again = Generator.load(tmp_path / "g", zoo)
    assert same(next(again.sample_state_dicts(1)), next(fitted.sample_state_dicts(1)))
    with pytest.raises(ZooError, match="a zoo of D = 5 parameters; expected"):
        Generator.load(tmp_path / "g", toy_zoo(curve(4, 5)))


def as_before(folder: Path, fitted: Generator) -> Path:
    """A generator as the version before wrote it."""
    saved = saving.saved(fitted)
    folder.mkdir()
    write_json(
        folder / "generator.json", {"generator": saved.name, "settings": saved.settings, "notes": saved.notes}
    )
    state = {"normaliser": saved.normaliser.state_dict(), "learnt": saved.learnt, "losses": saved.losses}
    save_state(folder / "state.safetensors", state, "saved generator: what it learnt")
    return folder


def test_generators_of_the_version_before_are_read_and_replaced(tmp_path: Path):
    fitted = make("gaussian", scale=0.7).fit(toy_zoo(curve(4, 5)))
    folder = as_before(tmp_path / "g", fitted)
    again = Generator.load(folder)
    assert again == fitted and torch.equal(again.sample(3), fitted.sample(3))
    fitted.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = read_json(folder / "config.json")
        change(config)
        write_json(folder / "config.json", config)

    return edit


def network_with(**changes: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        fitted = make("gaussian").fit(tied_zoo())
        assert fitted.normaliser and fitted.network
        state = {"normaliser": fitted.normaliser.state_dict(), "learnt": fitted._state(), "losses": {},
                 "network": {**fitted.network.stored(), **changes}}  # fmt: skip
        save_state(folder / "model.safetensors", state)

    return write


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "another library": (edited(lambda c: c.update(library_name="timm")), "names the library 'timm'; expected a gener"),
    "another format": (edited(lambda c: c.update(format=3)), "is a generator of format 3; expected 2; read it with"),
    "code": (edited(lambda c: c.update(generator="os:system")), "holds a generator 'os:system'"),
    "interpolation": (edited(lambda c: c["settings"].update(scale="${oc.env:HOME}")), "scale"),
    "no list": (lambda folder: write_json(folder / "config.json", []), "names the library 'None'"),
    "a frozen text": (network_with(frozen={"w": "os:system"}), "damaged generator .*network names"),
    "a name twice": (network_with(names=["w", "w"]), "damaged generator .*network names 2 tensors, expected|each of"),
    "no spec": (network_with(spec={"tensors": "all"}), "damaged generator .*network.spec"),
    "terabytes": (
        network_with(
            spec={"select": "", "tensors": [{"name": "w", "shape": [1 << 40], "dtype": "float32", "aliases": []}]},
            frozen={}, names=["w"],
        ),
        "statistics of .* parameters",
    ),
    "no state": (lambda folder: save_tensors(folder / "model.safetensors", {"a": torch.zeros(1)}), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_one_line(what: str, tmp_path: Path):
    make("gaussian").fit(tied_zoo()).save(tmp_path / "g")
    damage, text = WRONG[what]
    damage(tmp_path / "g")
    with pytest.raises(ParamdiffError, match=text) as caught:
        Generator.load(tmp_path / "g")
    assert "\n" not in str(caught.value)
