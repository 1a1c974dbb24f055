"""The generators of a run, the main one and its baselines, and where the files of each lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paramdiff.errors import ConfigError
from paramdiff.generators.generator import Generator
from paramdiff.generators.pdiff import ParameterDiffusion
from paramdiff.runs.config import RunConfig, plain
from paramdiff.runs.recipe_names import option_name


@dataclass(frozen=True)
class GeneratorRow:
    """A generator of this run and where its files lie.

    Attributes:
        name: its row in ``results.json``.
        generator: unfitted, with its settings.
        key: where those settings are in the configuration.
        prefix: folder of its files, relative to the run folder; empty for the main generator.
    """

    name: str
    generator: Generator
    key: str = "generator"
    prefix: str = ""

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings that only sampling reads, as they are now."""
        return self.generator.sampling_settings

    @property
    def fitted(self) -> str:
        return f"{self.prefix}generator"

    @property
    def samples(self) -> str:
        return f"{self.prefix}samples/samples.safetensors"

    @property
    def drawn(self) -> str:
        """Running statistics as they were drawn, if they were then recalibrated."""
        return f"{self.prefix}samples/drawn_statistics.safetensors"

    @property
    def scores(self) -> str:
        return f"scores/{self.name}.safetensors"


def generator_rows(config: RunConfig, k: int | None = None) -> list[GeneratorRow]:
    """The main generator and those it is compared with; p-diff itself is always among the rows.

    A baseline that repeats the main generator is left out; two of one name are numbered.

    Args:
        config: of the run.
        k: members of its zoo, to which generators adapt; None as long as it is not known.

    Raises:
        ConfigError: the main generator is one that matches another.
    """
    if config.generator.matches:
        raise ConfigError(
            "generator", f"{config.generator.name} matches the samples of the main generator",
            expected="another main generator",
            remedy=f"choose it as a baseline: +generator@compare.matched={option_name(config.generator.name)}",
        )  # fmt: skip
    adapted: Callable[[Generator], Generator] = lambda g: g if k is None else g.adapted(k)
    main = adapted(config.generator)
    given = {f"compare.{key}": adapted(generator) for key, generator in config.compare.items()}
    others = {key: generator for key, generator in given.items() if plain(generator) != plain(main)}
    if not any(isinstance(generator, ParameterDiffusion) for generator in [main, *others.values()]):
        others["compare.pdiff"] = ParameterDiffusion(seed=config.seed)
    entries = [GeneratorRow(main.label, main)]
    for key, generator in others.items():
        same = sum(entry.generator.label == generator.label for entry in entries)
        name = generator.label + (f"-{same + 1}" if same else "")
        entries.append(GeneratorRow(name, generator, key, f"baselines/{name}/"))
    return entries


def require_enough(entries: Sequence[GeneratorRow], k: int, dim: int | None = None) -> None:
    """Refuse a zoo that is too small for one of these generators.

    Raises:
        ConfigError: names the key to change.
    """
    for entry in entries:
        try:
            entry.generator.require(k, dim)
        except ConfigError as error:
            raise error.under(entry.key) from None
