"""The stages of a run, in order: collect, fit, sample, score, compare, report.

Each stage reads files of earlier ones and writes its own (:mod:`paramdiff.run.folder`); the objects
here only carry what several stages need. Every generator, the main one and the baselines, goes through
the same three steps: fit, sample, score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paramdiff.collect.watching import CURVE, watched_items
from paramdiff.devices import choose_device
from paramdiff.errors import ConfigError
from paramdiff.files import load_tensors, read_json, save_tensors, write_json, write_text
from paramdiff.generators.base import Generator
from paramdiff.generators.latent import LatentGenerator
from paramdiff.generators.pdiff import ParameterDiffusion
from paramdiff.progress import say
from paramdiff.ranks import by_main
from paramdiff.run.config import RunConfig, option_name, plain
from paramdiff.run.folder import RunFolder, Stage
from paramdiff.run.latents import FILE as LATENTS
from paramdiff.run.latents import latent_points
from paramdiff.run.machine import machine
from paramdiff.run.results import (
    ORIGINAL,
    SCHEMA,
    Finding,
    judge,
    loss_lines,
    models,
    note_of,
    task_facts,
    zoo_facts,
)
from paramdiff.run.table import print_summary, print_sweep
from paramdiff.scoring.recalibrating import Recalibration
from paramdiff.scoring.scorer import Scorer
from paramdiff.study.comparison import Originals, Scored
from paramdiff.study.ensembles import all_groups
from paramdiff.study.summary import arrays, spread
from paramdiff.study.value import select_on_train
from paramdiff.tasks import make_task
from paramdiff.tasks.base import Task
from paramdiff.zoo.aligning import align_zoo
from paramdiff.zoo.zoo import Zoo

ORDER = ("collect", "fit", "sample", "score", "compare", "report")
SWEEP = "sweep"
GROUPS = {"run": ORDER, "sweep-temperature": (*ORDER[:-1], SWEEP, "report")}
"""Commands of several groups of stages; any other is one group."""

BEST = "samples/best.safetensors"
TRAINING = "study/training.json"
"""The curve of the training of one network, if the run trained any (:mod:`paramdiff.collect.watching`)."""

BEFORE = "test_before"
"""Test scores of samples before recalibration, among a generator's scores."""

ORIGINALS = f"scores/{ORIGINAL}.safetensors"


@dataclass(frozen=True)
class Entry:
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
        return {key: getattr(self.generator, key) for key in self.generator.sampling}

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


def entries_of(config: RunConfig) -> list[Entry]:
    """The main generator and those it is compared with; p-diff itself is always among the rows.

    A baseline that repeats the main generator is left out; two of one name are numbered.

    Raises:
        ConfigError: the main generator is one that matches another.
    """
    if config.generator.matches:
        raise ConfigError(
            "generator", f"{config.generator.name} matches the samples of the main generator",
            expected="another main generator",
            remedy=f"choose it as a baseline: +generator@compare.matched={option_name(config.generator.name)}",
        )  # fmt: skip
    others = {f"compare.{key}": g for key, g in config.compare.items() if plain(g) != plain(config.generator)}
    if not any(
        isinstance(generator, ParameterDiffusion) for generator in [config.generator, *others.values()]
    ):
        others["compare.pdiff"] = ParameterDiffusion(seed=config.seed)
    entries = [Entry(config.generator.label, config.generator)]
    for key, generator in others.items():
        same = sum(entry.generator.label == generator.label for entry in entries)
        name = generator.label + (f"-{same + 1}" if same else "")
        entries.append(Entry(name, generator, key, f"baselines/{name}/"))
    return entries


class Pipeline:
    """One run.

    Args:
        config: validated configuration objects.
        yaml: the same, resolved, as text for ``config.yaml``.
        command: what was typed, for the report.
        siblings: run folders of the same sweep that are finished.
    """

    def __init__(
        self, config: RunConfig, yaml: str, command: str = "", siblings: Sequence[Path] = ()
    ) -> None:
        self.config, self.yaml, self.command = config, yaml, command
        settings = {
            key: plain(getattr(config, key))
            for key in ("name", "seed", "n", "task", "zoo", "generator", "compare")
        }
        settings |= {"recalibrate": config.recalibrate} if config.recalibrate else {}
        assert config.run_dir is not None
        self.folder = RunFolder(Path(config.run_dir), settings, config.force, siblings)
        self.settings = settings
        self.recalibrating = [{"recalibrate": config.recalibrate}] if config.recalibrate else []
        """For the settings of stages: empty if it is off, so that they are as they were before it existed."""
        self.main, *self.baselines = entries_of(config)

    # What stages share -------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Task:
        return make_task(self.config.task)

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.config.device)

    @cached_property
    def zoo(self) -> Zoo:
        zoo = Zoo.load(self.folder.path / "zoo")
        zoo.require_usable()
        return zoo

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.task, self.zoo, self.device, precision=self.config.precision)

    @cached_property
    def recalibration(self) -> Recalibration:
        """Of the samples of every generator; asked for only where the configuration has it on."""
        return Recalibration(self.scorer, self.config.recalibrate)

    def recalibrated(self, vectors: Tensor) -> Tensor:
        """Networks as they are used: with measured running statistics, if that is on."""
        return self.recalibration(vectors) if self.recalibrating else vectors

    @cached_property
    def originals(self) -> Originals:
        """The zoo with its scores: the reference of every comparison."""
        return self._reference_of(self._scored(ORIGINALS))

    def _reference_of(self, scored: Scored) -> Originals:
        return Originals(self.zoo, scored, self.task.higher_is_better, self.task.model())

    def _scored(self, file: str) -> Scored:
        return Scored.from_tensors(load_tensors(self.folder.path / file))

    def _vectors(self, entry: Entry) -> Tensor:
        return load_tensors(self.folder.path / entry.samples)["samples"]

    # Running -----------------------------------------------------------------------------------------

    def run(self, command: str = "run") -> Path:
        """Do one command (``run`` for all stages) and return the run folder."""
        say(f"{self.config.name} -> {self.folder.path}")
        wanted = GROUPS.get(command, (command,))
        with self.folder.opened():
            by_main(lambda: self.folder.write_config(self.yaml))
            for group in wanted:
                self.folder.run_all(self.stages(group))
                if group == "compare" or command == "score":
                    self.folder.run(self._results())
        if SWEEP in wanted:
            print_sweep(self.folder.path)
        elif (self.folder.path / "results.json").exists() and {"score", "compare", "report"} & set(wanted):
            print_summary(self.folder.path)
        return self.folder.path

    def stages(self, group: str) -> list[Stage]:
        """The stages behind one command."""
        return {
            "collect": self._collect,
            "fit": lambda: [self._fit(self.main)], "sample": lambda: [self._sample(self.main)],
            "score": self._score_main, "compare": self._compare, "report": self._report,
            SWEEP: self._sweep,
        }[group]()  # fmt: skip

    def _collect(self) -> list[Stage]:
        def work(scratch: Path) -> None:
            zoo = self.config.zoo.collect(self.task, scratch, self.device)
            zoo.about["task"] = self.settings["task"]
            zoo.require_usable()
            zoo = self._aligned(zoo)
            by_main(lambda: self._keep_zoo(zoo, scratch / CURVE))

        settings = [self.settings["task"], self.settings["zoo"]]
        return [Stage("collect", settings, [], ["zoo"], work, shared=True)]

    def _keep_zoo(self, zoo: Zoo, curve: Path) -> None:
        zoo.save(self.folder.path / "zoo")
        if curve.exists():
            write_json(self.folder.path / TRAINING, read_json(curve))

    def _aligned(self, zoo: Zoo) -> Zoo:
        """The zoo with its hidden units in a common order, where ``zoo.align`` asks for it and it helps."""
        if self.config.zoo.align == "false":
            return zoo
        task = self.task
        found = align_zoo(
            zoo, task.model(), auto=self.config.zoo.align == "auto", score=Scorer(task, zoo, self.device).gauge(),
            higher_is_better=task.higher_is_better, seed=self.config.seed,
        )  # fmt: skip
        for note in found.about.get("notes", []):
            say(f"  {note}")
        return found

    def _fit(self, entry: Entry, group: str = "fit") -> Stage:
        def work(scratch: Path) -> None:
            if self.recalibrating:
                _ = self.recalibration  # refuses a selection without statistics, before anything is learnt
            try:
                fitted = entry.generator.fit(
                    self.zoo, probe=self.scorer.probe(), folder=scratch, reference=self._reference(entry)
                )
            except ConfigError as error:  # e.g. a mean of more members than there are
                raise error.under(entry.key) from None
            fitted.save(self.folder.path / entry.fitted)

        settings = {
            key: value for key, value in plain(entry.generator).items() if key not in entry.generator.sampling
        }
        matched = [self.main.samples] if entry.generator.matches else []
        return Stage(group, settings, ["zoo", *matched], [entry.fitted], work, chain=entry.prefix)

    def _reference(self, entry: Entry) -> Tensor | None:
        """The main generator's samples, for a baseline that matches them."""
        return self._vectors(self.main) if entry.generator.matches else None

    def _sample(self, entry: Entry, group: str = "sample") -> Stage:
        now = entry.sampling

        def work(scratch: Path) -> None:
            samples = self._draw(entry, self.config.n, now)
            if self.recalibrating:
                save_tensors(self.folder.path / entry.drawn, self.recalibration.drawn(samples))
            save_tensors(self.folder.path / entry.samples, {"samples": self.recalibrated(samples)})

        asked = ["zoo"] if entry.generator.asks or self.recalibrating else []  # it knows which task it is of
        settings = [self.config.n, self.config.seed, now, *self.recalibrating]
        makes = [entry.samples, *([entry.drawn] if self.recalibrating else [])]
        return Stage(group, settings, [entry.fitted, *asked], makes, work, chain=entry.prefix)

    def draw(self, entry: Entry, n: int, settings: Mapping[str, Any]) -> Tensor:
        """``n`` samples of a fitted generator with these settings of sampling, as they are used."""
        return self.recalibrated(self._draw(entry, n, settings))

    def _draw(self, entry: Entry, n: int, settings: Mapping[str, Any]) -> Tensor:
        generator = self._fitted(entry, settings)
        probe = self.scorer.probe() if generator.asks else None
        return generator.sample(n, self.config.seed, probe=probe)

    def _fitted(self, entry: Entry, settings: Mapping[str, Any]) -> Generator:
        generator = Generator.load(self.folder.path / entry.fitted)
        vars(generator).update(settings)
        return generator

    def _score_originals(self) -> Stage:
        def work(scratch: Path) -> None:
            scored = self._measure(self.zoo.vectors, ORIGINAL)
            own = lambda: arrays(self._reference_of(scored).own)
            self._keep_scores(ORIGINALS, scored, own)

        return Stage(f"score:{ORIGINAL}", self.settings["task"], ["zoo"], [ORIGINALS], work, shared=True)

    def _score(self, entry: Entry, group: str = "score") -> Stage:
        def work(scratch: Path) -> None:
            vectors = self._vectors(entry)
            scored, before = self._measure(vectors, entry.name), self._before(entry)
            self._keep_scores(
                entry.scores, scored, lambda: arrays(self.originals.compare(vectors, scored)) | before
            )

        drawn = [entry.drawn] if self.recalibrating else []
        needs = ["zoo", entry.samples, ORIGINALS, *drawn]
        return Stage(f"{group}:{entry.name}", self.settings["task"], needs, [entry.scores], work, shared=True)

    def _before(self, entry: Entry) -> dict[str, Tensor]:
        """Test scores of the samples as they were drawn, if they were recalibrated."""
        if not self.recalibrating:
            return {}
        say(f"  scoring {entry.name} before recalibration")
        drawn = load_tensors(self.folder.path / entry.drawn)
        vectors = self.recalibration.restored(self._vectors(entry), drawn)
        return {BEFORE: self.scorer.score(vectors, "test").metric}

    def _measure(self, vectors: Tensor, name: str) -> Scored:
        say(f"  scoring {name}")
        train = self.scorer.score(vectors, "train")
        return Scored.of(train, self.scorer.score(vectors, "test", all_groups(len(vectors))))

    def _keep_scores(self, file: str, scored: Scored, seen: Callable[[], dict[str, Tensor]]) -> None:
        """The scores on disk, with what a comparison with the originals shows."""
        path = self.folder.path / file
        by_main(lambda: save_tensors(path, scored.tensors() | seen()))

    def _score_main(self) -> list[Stage]:
        return [self._score_originals(), self._score(self.main), self._best()]

    def _best(self) -> Stage:
        """The sample that is best on the training set, as a complete state dict."""

        def work(scratch: Path) -> None:
            scored = self._scored(self.main.scores)
            index = select_on_train(scored.train, scored.train_nll, self.task.higher_is_better)
            state = self.zoo.state_dict(self._vectors(self.main)[index])
            save_tensors(self.folder.path / BEST, state, {"sample": str(index)})

        return Stage("score:best", [], ["zoo", self.main.scores, self.main.samples], [BEST], work)

    def _compare(self) -> list[Stage]:
        stages = []
        for entry in self.baselines:
            stages.append(self._fit(entry, f"compare:{entry.name}:fit"))
            stages.append(self._sample(entry, f"compare:{entry.name}:sample"))
            stages.append(self._score(entry, "compare"))
        return [*stages, self._latents()] if isinstance(self.main.generator, LatentGenerator) else stages

    def _latents(self) -> Stage:
        """Points to be drawn of the main generator's latents and of its way from noise to samples."""
        now = self.main.sampling

        def work(scratch: Path) -> None:
            generator = self._fitted(self.main, now)
            assert isinstance(generator, LatentGenerator)
            items = watched_items(self.task)
            found, about = latent_points(
                generator,
                self.zoo,
                self._vectors(self.main),
                self.config.seed,
                lambda vectors: self.scorer.gauge(items)(self.recalibrated(vectors)),
                items,
            )
            save_tensors(self.folder.path / LATENTS, found, about)

        needs = ["zoo", self.main.fitted, self.main.samples]
        settings = [self.settings["task"], self.config.seed, now, *self.recalibrating]
        return Stage("compare:latents:map", settings, needs, [LATENTS], work)

    def _results(self) -> Stage:
        """``results.json`` and ``stats.jsonl`` of the rows whose scores are up to date."""
        current = [e for e in self.baselines if self.folder.is_current(self._score(e, "compare"))]
        entries = [self.main, *current]

        def work(scratch: Path) -> None:
            findings = [self._finding(entry) for entry in entries]
            curves = [
                ("fit" if i == 0 else f.name, name, losses)
                for i, f in enumerate(findings)
                for name, losses in f.generator.losses.items()
            ]
            write_text(self.folder.path / "stats.jsonl", loss_lines(curves))
            write_json(self.folder.path / "results.json", self._results_json(findings))

        needs = ["zoo", ORIGINALS, *(e.scores for e in entries), *(e.fitted for e in entries)]
        return Stage("results", [self.command], needs, ["results.json", "stats.jsonl"], work)

    def _finding(self, entry: Entry) -> Finding:
        generator = Generator.load(self.folder.path / entry.fitted)
        comparison = self.originals.compare(self._vectors(entry), self._scored(entry.scores))
        return Finding(entry.name, generator, comparison, self._recalibration_facts(entry))

    def _recalibration_facts(self, entry: Entry) -> dict[str, Any] | None:
        if not self.recalibrating:
            return None
        before = load_tensors(self.folder.path / entry.scores)[BEFORE]
        return {"items": self.recalibration.seen, "before": spread(before, self.task.higher_is_better)}

    def _results_json(self, findings: list[Finding]) -> dict[str, Any]:
        main, others = findings[0], findings[1:]
        seconds = {group: round(self.folder.seconds(group), 3) for group in ORDER[:5]}
        return {
            "schema": SCHEMA, "experiment": self.config.name, "generator": main.name, "command": self.command,
            "seed": self.config.seed,
            "task": task_facts(self.task), "zoo": zoo_facts(self.zoo, self.settings["zoo"]),
            "n_items": {split: self.scorer.items(split) for split in ("train", "test")},
            "models": models(self.originals, findings),
            "verdict": judge(self.task, self.originals, main, others).to_json(),
            "gate": note_of(main.generator, "gate"), "denoising": note_of(main.generator, "denoising"),
            "notes": list(self.zoo.about.get("notes", [])),
            "timings_s": {**seconds, "total": round(sum(seconds.values()), 3)},
            "peak_rss_bytes": self.folder.peak_rss_bytes(), "machine": machine(self.device),
        }  # fmt: skip

    def _sweep(self) -> list[Stage]:
        from paramdiff.run.sweep import sweep_stages  # it builds on this module

        return sweep_stages(self)

    def _report(self) -> list[Stage]:
        def work(scratch: Path) -> None:
            from paramdiff.report.page import render

            render(self.folder.path)

        drawn = [name for name in ("sweep.json", LATENTS, TRAINING) if (self.folder.path / name).exists()]
        needs = ["results.json", "stats.jsonl", "config.yaml", *drawn]
        return [Stage("report", [], needs, ["report.html"], work)]
