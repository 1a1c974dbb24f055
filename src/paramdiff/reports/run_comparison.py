"""Several finished runs beside each other: the settings in which they differ, and what each came to.

Settings are those in ``manifest.json``, by dotted key. Seeds are none of them: runs that differ in nothing but
seeds are one line, with mean and deviation over them. Which settings differ, :mod:`paramdiff.reports.varied_settings`
tells.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from paramdiff.errors import ConfigError, RunFolderError, near
from paramdiff.reports.finished_run import ORIGINAL, FinishedRun, Row
from paramdiff.reports.formatting import Metric
from paramdiff.reports.schema import read_manifest
from paramdiff.reports.varied_settings import Value, differing, flatten, natural, short_names

MAIN, ALL = "main", "all"
GENERATOR = ("generator/config.json", "generator/generator.json")
"""What says which generator it is, in this version and the one before."""

SEED, DEVICE = "seed", "device"


@dataclass(frozen=True)
class Source:
    """A finished run with what it was made with.

    Attributes:
        run: its results.
        settings: by dotted key, without seeds and devices; lists as text.
        seed: of the run.
        seconds: by stage.
    """

    run: FinishedRun
    settings: dict[str, Value]
    seed: int | None
    seconds: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run folder.

        Raises:
            RunFolderError: it is no finished run.
        """
        if not folder.is_dir():
            raise RunFolderError(f"{folder} is no folder", expected="a finished run folder")
        run, path = FinishedRun.read(folder), folder / "manifest.json"
        if not path.is_file():
            raise RunFolderError(f"{path} does not exist", expected="a run folder with its settings")
        manifest = read_manifest(path)
        given = manifest.get("settings", {})
        flat = {key: value for key, value in flatten(given) if key.rpartition(".")[2] not in (SEED, DEVICE)}
        seconds = {name: stage["seconds"] for name, stage in manifest["stages"].items()}
        return cls(run, _named(flat, run), given.get(SEED), seconds)

    def fit_seconds(self, row: Row) -> float | None:
        main = row.name == self.run.main.name
        return self.seconds.get("fit" if main else f"compare:{row.name}:fit")


def _named(flat: dict[str, Value], run: FinishedRun) -> dict[str, Value]:
    """The same with the names people know in place of the experiment's ``name`` and of classes."""
    there = next((name for name in GENERATOR if (run.folder / name).is_file()), None)
    generator = (run.json(there) or {}).get("generator") if there else flat.get("generator.kind")
    names = {
        "experiment": run.results.get("experiment"), "task": run.part("task").get("name"),
        "zoo": run.part("zoo").get("collector"), "generator": generator,
    }  # fmt: skip
    return names | {key: value for key, value in flat.items() if key != "name" and not key.endswith("kind")}


@dataclass(frozen=True)
class Line:
    """One line of the table: a row of one run, or of several that differ in their seeds.

    Attributes:
        settings: values of the keys in which the runs differ.
        row: name of the row.
        sources: the runs.
        rows: that row in each of them.
    """

    settings: dict[str, Value]
    row: str
    sources: list[Source]
    rows: list[Row]

    def spread(self, quantity: str) -> tuple[float | None, float | None]:
        """Mean over seeds of a key of QUANTITIES and its sample deviation, None where it is not known."""
        each = [
            QUANTITIES[quantity](source, row) for source, row in zip(self.sources, self.rows, strict=True)
        ]
        known = [value for value in each if value is not None and math.isfinite(value)]
        mean = statistics.fmean(known) if known else None
        return mean, statistics.stdev(known) if len(known) > 1 else None

    @property
    def verdicts(self) -> dict[str, int]:
        """How often each verdict occurs; it is about a run's main generator."""
        pairs = zip(self.sources, self.rows, strict=True)
        given = (s.run.part("verdict").get("class") for s, row in pairs if row.name == s.run.main.name)
        return dict(Counter(verdict for verdict in given if verdict))


QUANTITIES: dict[str, Callable[[Source, Row], float | None]] = {
    "original_mean": lambda source, row: source.run.originals.test["mean"],
    "test_best": lambda source, row: row.test["best"],
    "test_mean": lambda source, row: row.test["mean"],
    "test_median": lambda source, row: row.test["median"],
    "test_worst": lambda source, row: row.test["worst"],
    "test_selected": lambda source, row: row.selected["test"],
    "within": lambda source, row: row.similarity["within"],
    "to_zoo_mean": lambda source, row: row.similarity["to_zoo_mean"],
    "to_zoo_max_mean": lambda source, row: row.similarity["to_zoo_max_mean"],
    "fit_s": Source.fit_seconds,
}
"""Columns of the table, by their names in files."""


@dataclass(frozen=True)
class Gathered:
    """A comparison of runs.

    Attributes:
        keys: the settings in which the runs differ, with their short names.
        lines: sorted by those settings.
        row: which rows are compared: ``main``, ``all`` or a row's name.
        metric: how scores are written.
    """

    keys: dict[str, str]
    lines: list[Line]
    row: str
    metric: Metric

    @property
    def sources(self) -> list[Source]:
        """Every run once."""
        return list({id(source): source for line in self.lines for source in line.sources}.values())

    @property
    def replicated(self) -> bool:
        """Whether some line stands for several runs."""
        return any(len(line.sources) > 1 for line in self.lines)

    @property
    def columns(self) -> dict[str, str]:
        """Names of what tells lines apart, by key."""
        return self.keys if self.row == MAIN else {**self.keys, "row": "row"}

    @property
    def sizes(self) -> str:
        """N, D and the seeds of the runs, for captions."""
        runs = self.sources
        facts = {
            "N": {source.run.main.n for source in runs}, "D": {source.run.part("zoo", "dim")["dim"] for source in runs},
            "seed": {source.seed for source in runs},
        }  # fmt: skip
        known = [
            f"{name} = {', '.join(map(str, sorted(own)))}" for name, own in facts.items() if None not in own
        ]
        return "; ".join(known)

    def values(self, line: Line) -> dict[str, Value]:
        """What tells a line apart, by the keys of :attr:`columns`."""
        return {key: (line.settings | {"row": line.row})[key] for key in self.columns}

    def originals(self, line: Line, quantity: str) -> float | None:
        """Mean of a quantity over the originals of a line's runs."""
        own = [source.run.originals for source in line.sources]
        return Line(line.settings, ORIGINAL, line.sources, own).spread(quantity)[0]


def gather(folders: Sequence[Path], row: str = MAIN) -> Gathered:
    """Read runs and put those of equal settings together.

    Raises:
        RunFolderError: a folder is no finished run, or the runs are not scored alike.
        ConfigError: no run has the row.
    """
    sources = distinct([Source.read(folder) for folder in folders])
    _require_one_metric(sources)
    keys = differing([source.settings for source in sources])
    lines = [line for values, own in _groups(sources, keys) for line in _lines(values, own, row)]
    if not lines:
        known = dict.fromkeys(one.name for source in sources for one in source.run.rows)
        raise ConfigError("--row", f"no run has a row {row!r}", remedy=near(row, [*known, MAIN, ALL]))
    return Gathered(short_names(keys), lines, row, Metric.of(sources[0].run))


def _groups(sources: Sequence[Source], keys: Sequence[str]) -> list[tuple[dict[str, Value], list[Source]]]:
    """Runs with equal values of these keys together, sorted by them."""
    groups: dict[tuple[Value, ...], list[Source]] = {}
    for source in sources:
        groups.setdefault(tuple(source.settings.get(key) for key in keys), []).append(source)
    in_order = sorted(groups, key=lambda values: [natural(value) for value in values])
    return [(dict(zip(keys, values, strict=True)), groups[values]) for values in in_order]


def distinct(sources: Sequence[Source]) -> list[Source]:
    """Without runs that repeat an earlier one, seed included: they would count as further seeds."""
    first: dict[str, Source] = {}
    for source in sources:
        first.setdefault(str((sorted(source.settings.items()), source.seed)), source)
    return list(first.values())


def _require_one_metric(sources: Sequence[Source]) -> None:
    def scored(source: Source) -> tuple[Any, Any]:
        task = source.run.part("task", "metric", "higher_is_better")
        return task["metric"], task["higher_is_better"]

    first = sources[0]
    for source in sources:
        if scored(source) != scored(first):
            raise RunFolderError(
                f"{source.run.folder} is scored by {scored(source)[0]}",
                expected=f"{scored(first)[0]} as in {first.run.folder}", remedy="compare runs of one task",
            )  # fmt: skip


def _lines(settings: dict[str, Value], sources: list[Source], row: str) -> list[Line]:
    """The lines of runs of equal settings: one a row."""
    by_name: dict[str, list[tuple[Source, Row]]] = {}
    for source in sources:
        for one in source.run.rows:
            if row in (ALL, one.name) or (row == MAIN and one.name == source.run.main.name):
                by_name.setdefault(one.name, []).append((source, one))
    return [Line(settings, name, [s for s, _ in own], [r for _, r in own]) for name, own in by_name.items()]
