"""Names without imports, one module for one name, plug-ins."""

import subprocess
import sys

import pytest

from paramdiff import registry
from paramdiff.collectors import COLLECTORS
from paramdiff.errors import ConfigError
from paramdiff.generators import GENERATORS, Generator
from paramdiff.registry import Registry, registered_in


class Plugin:
    def __init__(self, name: str, found: type | None) -> None:
        self.name, self.value, self.found = name, f"{name}.module:Kind", found

    def load(self) -> type:
        if self.found is None:
            raise ImportError(f"no module {self.name}")
        return self.found


def test_names_come_without_torch_and_one_lookup_imports_one_module():
    code = (
        "import sys; from paramdiff.runs.recipe_names import describe_options; text = describe_options();"
        "assert 'pdiff_linear' in text and 'subset' in text and 'torch' not in sys.modules;"
        "from paramdiff.generators import make; make('gaussian');"
        "assert 'paramdiff.generators.gaussian' in sys.modules and 'paramdiff.generators.diffusion' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
    kinds: Registry[type] = Registry("kind", "nowhere", attribute="called")

    @kinds.register("mine", "my own")
    class Mine:
        called = ""

    assert kinds["mine"] is Mine and Mine.called == "mine" and kinds.all() == {"mine": Mine}
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
