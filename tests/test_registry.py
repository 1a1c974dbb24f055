"""Names without imports, one module for one name, plug-ins."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paramdiff import registry
from paramdiff.collectors import COLLECTORS
from paramdiff.errors import ConfigError
from paramdiff.generators import GENERATORS, Generator
from paramdiff.registry import Registry, registered_in

EXAMPLE = """
import json, sys
from paramdiff.runs.recipe_names import describe_options
names = describe_options()
assert "pdiff_linear" in names and "subset" in names and "torch" not in sys.modules
helpers = {name for name in sys.modules if name.startswith("paramdiff.runs")}

from torch import nn
from safetensors.torch import save_file
from paramdiff import ParameterDiffusion, Zoo
model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
for i in range(4):
    nn.init.normal_(model[1].weight)
    save_file(model.state_dict(), f"{sys.argv[1]}/{i}.safetensors")
zoo = Zoo.from_checkpoints(f"{sys.argv[1]}/*.safetensors", model=model, select="last_norms:1")
generator = ParameterDiffusion()
generator.change({"autoencoder.steps": 1, "diffusion.steps": 1, "diffusion.sample_steps": 2})
model.load_state_dict(zoo.state_dict(generator.fit(zoo).sample(2, seed=0)[0]))
used = [m for m in sys.modules if m.startswith("paramdiff.") and m not in helpers and sys.modules[m].__file__]
print(json.dumps([m for m in used if not sys.modules[m].__file__.endswith("__init__.py")]))

from paramdiff.generators import make
make("gaussian")
assert "paramdiff.generators.gaussian" in sys.modules and "paramdiff.generators.averages" not in sys.modules
"""
MODULES = 29
"""Files of paramdiff behind README's first example."""


class Plugin:
    def __init__(self, name: str, found: type | None) -> None:
        self.name, self.value, self.found = name, f"{name}.module:Kind", found

    def load(self) -> type:
        if self.found is None:
            raise ImportError(f"no module {self.name}")
        return self.found


def test_names_come_without_torch_and_modules_when_they_are_used(tmp_path: Path):
    """The limit is what the example needs: a module that it does not use is imported where it is used."""
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout)
    assert len(modules) <= MODULES, modules


@pytest.mark.parametrize(("package", "known"), [("generators", GENERATORS), ("collectors", COLLECTORS)])
def test_the_sources_say_what_importing_them_registers(package: str, known: Registry[type]):
    entries = registered_in(package)
    built_in = {
        name: kind.__module__
        for name, kind in known.all().items()
        if kind.__module__.startswith("paramdiff.")
    }
    assert {entry.name: entry.module for entry in entries.values()} == built_in
    assert package == "collectors" or all(entry.summary for entry in entries.values())


def test_a_class_gets_its_name_and_is_found_by_it():
    kinds: Registry[type] = Registry("kind", "nowhere")

    @kinds.register("mine", "my own")
    class Mine:
        name = ""

    assert kinds["mine"] is Mine and Mine.name == "mine" and kinds.all() == {"mine": Mine}
    with pytest.raises(
        ConfigError, match="^kind: 'mien' is not known; expected one of mine; did you mean mine$"
    ):
        _ = kinds["mien"]


def test_plugins_are_known_and_broken_ones_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Odd:
        name = ""

    kinds: Registry[type] = Registry("kind", "nowhere")
    monkeypatch.setattr(registry, "entry_points", lambda group: [Plugin("odd", None), Plugin("even", Odd)])
    monkeypatch.delenv("PARAMDIFF_QUIET")
    assert kinds.all() == {"even": Odd} and Odd.name == "even"
    assert (
        "the kind plug-in odd (odd.module:Kind) cannot be imported: no module odd" in capsys.readouterr().err
    )


def test_a_subclass_does_not_take_the_place_of_what_it_inherits_from():
    kind = GENERATORS["gaussian"]

    class Own(kind):  # type: ignore[misc, valid-type]
        pass

    assert GENERATORS["gaussian"] is kind and issubclass(Own, Generator)
