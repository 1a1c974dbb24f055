"""The generators of a run, the main one and its baselines, and where the files of each lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paramdiff.errors import ConfigError
from paramdiff.generators.generator import Generator
from paramdiff.runs.plan import PlannedGenerator, plain


@dataclass(frozen=True)
class GeneratorRow:
    """A generator of this run and where its files lie.

    Attributes:
        name: its row in ``results.json``.
        generator: with its settings; unfitted, unless the caller handed in a fitted one.
        key: where those settings were given.
        digest: hash of what the generator had learnt before the run; None unless it was fitted.
        prefix: folder of its files, relative to the run folder; empty for the main generator.
    """

    name: str
    generator: Generator
    key: str = "generator"
    prefix: str = ""
    digest: str | None = None

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


def row_folder(name: str, main: bool) -> str:
    """Folder of a row's files, relative to the run folder."""
    return "" if main else f"baselines/{name}/"


def generator_rows(planned: Sequence[PlannedGenerator], k: int | None = None) -> list[GeneratorRow]:
    """The rows of a run, the main generator's first.

    A baseline without a name that repeats the main generator is left out; of two with one label the second is
    numbered.

    Args:
        planned: the generators of the run.
        k: members of its zoo, to which generators adapt; None as long as it is not known.
    """
    rows: list[GeneratorRow] = []
    for one in planned:
        generator = _adapted(one.generator, k)
        if rows and one.name is None and plain(generator) == plain(rows[0].generator):
            continue
        name = one.name or _numbered(generator.label, rows)
        rows.append(GeneratorRow(name, generator, one.key, row_folder(name, main=not rows), one.digest))
    return rows


def _adapted(generator: Generator, k: int | None) -> Generator:
    """For a zoo of K members, unless it has been fitted or K is not known."""
    return generator if k is None or generator.normaliser is not None else generator.adapted(k)


def _numbered(label: str, rows: Sequence[GeneratorRow]) -> str:
    same = sum(row.generator.label == label for row in rows)
    return f"{label}-{same + 1}" if same else label


def require_enough(rows: Sequence[GeneratorRow], k: int, dim: int | None = None) -> None:
    """Refuse a zoo that is too small for one of these generators.

    Raises:
        ConfigError: names the key to change.
    """
    for row in rows:
        try:
            row.generator.require(k, dim)
        except ConfigError as error:
            raise error.under(row.key) from None
