"""The stages of a run, in order: collect, fit, sample, score, compare, report.

Each stage reads files of earlier ones and writes its own (:mod:`paramdiff.runs.run_folder`); the objects
here only carry what several stages need. Every generator, the main one and the baselines, goes through
the same three steps: fit, sample, score.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paramdiff.collectors.learning_curve import CURVE, watched_items
from paramdiff.devices import choose_device
from paramdiff.distributed import broadcast, on_main_process
from paramdiff.errors import ConfigError, ParamdiffError, RunFolderError
from paramdiff.evaluation.comparison import Originals, Scored
from paramdiff.evaluation.ensembles import all_groups
from paramdiff.evaluation.statistics import select_on_train
from paramdiff.evaluation.summary import arrays, spread
from paramdiff.files import about, load_tensors, read_json, save_tensors, write_json, write_text
from paramdiff.generators.context import FitContext, Score
from paramdiff.generators.generator import Generator
from paramdiff.generators.latent import LatentGenerator
from paramdiff.generators.settings import without
from paramdiff.progress import outlook, say
from paramdiff.runs import originals
from paramdiff.runs.config import RunConfig, plain
from paramdiff.runs.environment import machine
from paramdiff.runs.latent_map import FILE as LATENTS
from paramdiff.runs.latent_map import latent_points
from paramdiff.runs.resource_estimate import ResourceEstimate, blank_zoo
from paramdiff.runs.results import (
    SCHEMA,
    Finding,
    judge,
    loss_lines,
    note_of,
    notes,
    row_of,
    task_facts,
    zoo_facts,
)
from paramdiff.runs.rows import GeneratorRow, generator_rows, require_enough
from paramdiff.runs.run_folder import RunFolder, Stage
from paramdiff.runs.setting_changes import ChangedStages, announcement, refusal
from paramdiff.runs.summary_table import print_summary, print_sweep
from paramdiff.scoring.recalibration import RecalibratedFeedback, Recalibration
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.alignment import align_zoo
from paramdiff.zoo.zoo import Zoo

ORDER = ("collect", "fit", "sample", "score", "compare", "report")
SWEEP = "sweep"
GROUPS = {"run": ORDER, "sweep-temperature": (*ORDER[:-1], SWEEP, "report")}
"""Commands of several groups of stages; any other is one group."""

BEST = "samples/best.safetensors"
TRAINING = "study/training.json"
"""The curve of the training of one network, if the run trained any (:mod:`paramdiff.collectors.learning_curve`)."""

BEFORE = "test_before"
"""Test scores of samples before recalibration, among a generator's scores."""


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
        self.folder = RunFolder(Path(config.run_dir), settings, siblings)
        self.settings = settings
        self.recalibrating = [{"recalibrate": config.recalibrate}] if config.recalibrate else []
        """For the settings of stages: empty if it is off, so that they are as they were before it existed."""

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

    @property
    def k(self) -> int | None:
        """K as the configuration has it, else of the zoo that is there; None as long as nobody knows."""
        if self.config.zoo.k is not None:
            return self.config.zoo.k
        try:
            return self.zoo.k
        except ParamdiffError:  # not there yet, or damaged: whoever needs it says so
            return None

    @cached_property
    def _entries(self) -> list[GeneratorRow]:
        return generator_rows(self.config, self.k)

    @property
    def main(self) -> GeneratorRow:
        return self._entries[0]

    @property
    def baselines(self) -> list[GeneratorRow]:
        return self._entries[1:]

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
        """The zoo with its scores, recalibrated where samples are: the reference of every comparison."""
        return originals.reference(self)

    def scored(self, file: str) -> Scored:
        """What was kept of the scores in a file of the run folder."""
        return Scored.from_tensors(load_tensors(self.folder.path / file))

    def _vectors(self, entry: GeneratorRow) -> Tensor:
        return load_tensors(self.folder.path / entry.samples)["samples"]

    def _as_drawn(self, entry: GeneratorRow) -> Tensor:
        """Samples as the generator drew them, before recalibration."""
        vectors = self._vectors(entry)
        if not self.recalibrating:
            return vectors
        return self.recalibration.restored(vectors, load_tensors(self.folder.path / entry.drawn))

    def _drawn_files(self, entry: GeneratorRow) -> list[str]:
        """What :meth:`_as_drawn` reads."""
        return [entry.samples, *([entry.drawn] if self.recalibrating else [])]

    # Running -----------------------------------------------------------------------------------------

    def run(self, command: str = "run") -> Path:
        """Do one command (``run`` for all stages) and return the run folder."""
        say(f"{self.config.name} -> {self.folder.path}")
        wanted = GROUPS.get(command, (command,))
        self._require_enough(self.config.zoo.k)
        self._agree(wanted)
        with self.folder.opened():
            on_main_process(lambda: self.folder.write_config(self.yaml))
            for group in wanted:
                if group == "fit":
                    self._require_enough(self.k)  # an imported zoo says only now how large it is
                self.folder.run_all(self.stages(group))
                if group == "collect":
                    self._forget()
                if group == "score":
                    originals.score_as_saved(self)
                if group == "compare" or command == "score":
                    self.folder.run(self._results())
        if SWEEP in wanted:
            print_sweep(self.folder.path)
        elif (self.folder.path / "results.json").exists() and {"score", "compare", "report"} & set(wanted):
            print_summary(self.folder.path)
        return self.folder.path

    def _forget(self) -> None:
        """Drop what was known of a zoo that has been there before."""
        for name in ("zoo", "_entries", "scorer", "recalibration", "originals"):
            vars(self).pop(name, None)

    def _require_enough(self, k: int | None) -> None:
        """Refuse a zoo that is too small for a generator before it costs anything."""
        if k is not None:
            require_enough(generator_rows(self.config, k), k, self.zoo.dim if "zoo" in vars(self) else None)

    def _agree(self, wanted: Sequence[str]) -> None:
        """Say what other settings than those of the folder redo and keep, or refuse them.

        Raises:
            RunFolderError: they make it another run, and ``force`` is off; or a stage that is not ``wanted`` now would
                have to be redone before those that are.
        """
        changed = broadcast(self.folder.changed)
        outlook = (
            on_main_process(lambda: ChangedStages.of(self.folder, self._all_stages())) if changed else None
        )
        if outlook and any(map(self._another_run, changed)) and not self.config.force:
            raise refusal(self.folder.path, changed, outlook)
        if changed or wanted[0] != "report":  # what was finished can be drawn again without its zoo
            on_main_process(lambda: self._require_current(wanted))
        if outlook:
            say(announcement(changed, outlook))
            on_main_process(
                lambda: (self.folder.path / "sweep.json").unlink(missing_ok=True)
            )  # of other settings

    def _another_run(self, key: str) -> bool:
        """Whether a setting changes the zoo or what is fitted to it; the others only what follows."""
        root, _, name = key.partition(".")
        return root in ("name", "seed", "task", "zoo") or (
            root == "generator" and name not in self.config.generator.sampling
        )

    def _all_stages(self) -> list[Stage]:
        return [stage for group in ORDER[:5] for stage in self.stages(group)]

    def _require_current(self, wanted: Sequence[str]) -> None:
        """Numbers of different settings never meet in one table."""
        before = ORDER[: ORDER.index(wanted[0])]
        for stage in (stage for group in before for stage in self.stages(group)):
            if stage.name in self.folder.done and not self.folder.is_current(stage):
                raise RunFolderError(
                    f"{stage.name} in {self.folder.path} is not what these settings and the files there give",
                    remedy=f"run `paramdiff {stage.name.partition(':')[0]}` first, or `paramdiff run` for all stages",
                )

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
            needs = self._room()
            with outlook(lambda: needs.outlook(self._measuring)) if needs else nullcontext():
                zoo = self.config.zoo.collect(self.task, scratch, self.device)
            if needs is None:
                found = ResourceEstimate.of_zoo(zoo, *self._asked)
                on_main_process(lambda: found.require_room(self.folder.path))
            zoo.about["task"] = self.settings["task"]
            zoo.require_usable()
            zoo = self._aligned(zoo)
            for note in zoo.about.get("notes", []):
                say(f"  {note}")
            on_main_process(lambda: self._keep_zoo(zoo, scratch / CURVE))

        settings = [self.settings["task"], self.settings["zoo"]]
        return [Stage("collect", settings, [], ["zoo"], work, shared=True)]

    @property
    def _asked(self) -> tuple[int, int]:
        """Samples a generator, and generators."""
        return self.config.n, 1 + len(self.baselines)

    def _room(self) -> ResourceEstimate | None:
        """What the run needs, as far as it is known before members are there; refused if it cannot fit."""
        needs = ResourceEstimate.of(self.config.zoo, self.task, *self._asked)
        if needs is not None:
            on_main_process(lambda: needs.require_room(self.folder.path))
        return needs

    @property
    def _measuring(self) -> Scorer:
        """A scorer of networks like those to come, before there is a zoo."""
        select = str(getattr(self.config.zoo, "select", "all"))
        return Scorer(self.task, blank_zoo(self.task, select), self.device, precision=self.config.precision)

    def _keep_zoo(self, zoo: Zoo, curve: Path) -> None:
        zoo.save(self.folder.path / "zoo")
        if curve.exists():
            write_json(self.folder.path / TRAINING, read_json(curve))

    def _aligned(self, zoo: Zoo) -> Zoo:
        """The zoo with its hidden units in a common order, where ``zoo.align`` asks for it and it helps."""
        if self.config.zoo.align == "false":
            return zoo
        task = self.task
        return align_zoo(
            zoo, task.model(), auto=self.config.zoo.align == "auto", score=Scorer(task, zoo, self.device).gauge(),
            higher_is_better=task.higher_is_better, seed=self.config.seed,
        )  # fmt: skip

    def _fit(self, entry: GeneratorRow, group: str = "fit") -> Stage:
        def work(scratch: Path) -> None:
            if self.recalibrating:
                _ = self.recalibration  # refuses a selection without statistics, before anything is learnt
            try:
                fitted = entry.generator.fit(
                    self.zoo, FitContext(self._feedback(entry), scratch, self._reference(entry))
                )
            except ConfigError as error:  # e.g. a mean of more members than there are
                raise error.under(entry.key) from None
            fitted.save(self.folder.path / entry.fitted)

        settings = without(plain(entry.generator), entry.generator.sampling)
        matched = self._drawn_files(self.main) if entry.generator.matches else []
        if matched:
            settings |= dict(*self.recalibrating)
        return Stage(group, settings, ["zoo", *matched], [entry.fitted], work, chain=entry.prefix)

    def _reference(self, entry: GeneratorRow) -> Tensor | None:
        """The main generator's samples, as drawn like the members are as trained, for a baseline that matches them."""
        return self._as_drawn(self.main) if entry.generator.matches else None

    def _feedback(self, entry: GeneratorRow) -> Score:
        """What a fit may ask; of networks as they will be scored, where it matches their behaviour."""
        feedback = self.scorer.feedback()
        matching = entry.generator.matches and self.recalibrating
        return RecalibratedFeedback(feedback, self.recalibration) if matching else feedback

    def _sample(self, entry: GeneratorRow, group: str = "sample") -> Stage:
        now = entry.sampling

        def work(scratch: Path) -> None:
            samples = self._draw(entry, self.config.n, now)
            if self.recalibrating:
                save_tensors(self.folder.path / entry.drawn, self.recalibration.drawn(samples))
            header = self._about("samples: one row a network, in the order of spec", entry.name, len(samples))
            save_tensors(self.folder.path / entry.samples, {"samples": self.recalibrated(samples)}, header)

        asked = ["zoo"] if entry.generator.asks or self.recalibrating else []  # it knows which task it is of
        settings = [self.config.n, self.config.seed, now, *self.recalibrating]
        makes = [entry.samples, *([entry.drawn] if self.recalibrating else [])]
        return Stage(group, settings, [entry.fitted, *asked], makes, work, chain=entry.prefix)

    def _about(self, what: str, name: str, n: int, **more: Any) -> dict[str, str]:
        """Header of a file, with what is needed to read it alone."""
        known = {"experiment": self.config.name, "generator": name, "n": n, "seed": self.config.seed}
        return about(what, **known, spec=self.zoo.spec.to_json(), **more)

    def draw(self, entry: GeneratorRow, n: int, settings: Mapping[str, Any]) -> Tensor:
        """``n`` samples of a fitted generator with these settings of sampling, as they are used."""
        return self.recalibrated(self._draw(entry, n, settings))

    def _draw(self, entry: GeneratorRow, n: int, settings: Mapping[str, Any]) -> Tensor:
        generator = self._fitted(entry, settings)
        context = FitContext(self.scorer.feedback() if generator.asks else None)
        return generator.sample(n, self.config.seed, context=context)

    def _fitted(self, entry: GeneratorRow, settings: Mapping[str, Any]) -> Generator:
        generator = Generator.load(self.folder.path / entry.fitted)
        generator.change(settings)
        return generator

    def _score(self, entry: GeneratorRow, group: str = "score") -> Stage:
        def work(scratch: Path) -> None:
            vectors = self._vectors(entry)
            scored, before = self.measure(vectors, entry.name), self._before(entry)
            self.keep_scores(
                entry.scores, scored, lambda: arrays(self.originals.compare(vectors, scored)) | before
            )

        needs = ["zoo", *self._drawn_files(entry), *originals.reference_files(self)]
        return Stage(f"{group}:{entry.name}", self.settings["task"], needs, [entry.scores], work, shared=True)

    def _before(self, entry: GeneratorRow) -> dict[str, Tensor]:
        """Test scores of the samples as they were drawn, if they were recalibrated."""
        if not self.recalibrating:
            return {}
        say(f"  scoring {entry.name} before recalibration")
        return {BEFORE: self.scorer.score(self._as_drawn(entry), "test").metric}

    def measure(self, vectors: Tensor, name: str) -> Scored:
        """Scores of networks that share the zoo's frozen rest."""
        say(f"  scoring {name}")
        train = self.scorer.score(vectors, "train")
        return Scored.of(train, self.scorer.score(vectors, "test", all_groups(len(vectors))))

    def keep_scores(self, file: str, scored: Scored, seen: Callable[[], dict[str, Tensor]]) -> None:
        """The scores on disk, with what a comparison with the originals shows."""
        path = self.folder.path / file
        header = self._about("scores: one value or row a network", path.stem, len(scored.test))
        on_main_process(lambda: save_tensors(path, scored.tensors() | seen(), header))

    def _score_main(self) -> list[Stage]:
        return [*originals.stages(self), self._score(self.main), self._best()]

    def _best(self) -> Stage:
        """The sample that is best on the training set, as a complete state dict."""

        def work(scratch: Path) -> None:
            scored = self.scored(self.main.scores)
            index = select_on_train(scored.train, scored.train_nll, self.task.higher_is_better)
            state = self.zoo.state_dict(self._vectors(self.main)[index])
            what = "a complete state dict: the sample that is best on the training set"
            save_tensors(self.folder.path / BEST, state, self._about(what, self.main.name, 1, sample=index))

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
            found, header = latent_points(
                generator,
                self.zoo,
                self._as_drawn(self.main),
                self.config.seed,
                lambda vectors: self.scorer.gauge(items)(self.recalibrated(vectors)),
                items,
            )
            save_tensors(self.folder.path / LATENTS, found, header)

        needs = ["zoo", self.main.fitted, *self._drawn_files(self.main)]
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

        scores = [
            *originals.score_files(self),
            *originals.reference_files(self),
            *(e.scores for e in entries),
        ]
        needs = list(dict.fromkeys(["zoo", *scores, *(e.fitted for e in entries)]))
        return Stage("results", [self.command], needs, ["results.json", "stats.jsonl"], work)

    def _finding(self, entry: GeneratorRow) -> Finding:
        generator = Generator.load(self.folder.path / entry.fitted)
        comparison = self.originals.compare(self._vectors(entry), self.scored(entry.scores))
        return Finding(entry.name, generator, comparison, self._recalibration_facts(entry))

    def _recalibration_facts(self, entry: GeneratorRow) -> dict[str, Any] | None:
        if not self.recalibrating:
            return None
        before = load_tensors(self.folder.path / entry.scores)[BEFORE]
        return {"items": self.recalibration.seen, "before": spread(before, self.task.higher_is_better)}

    def _results_json(self, findings: list[Finding]) -> dict[str, Any]:
        main, others, chance = findings[0], findings[1:], self.scorer.chance("test")
        of = {group: [stage.name for stage in self.stages(group)] for group in ORDER[:5]}
        seconds = {group: round(self.folder.seconds(names), 3) for group, names in of.items()}
        return {
            "schema": SCHEMA, "experiment": self.config.name, "generator": main.name, "command": self.command,
            "seed": self.config.seed,
            "task": task_facts(self.task, chance), "zoo": zoo_facts(self.zoo, self.settings["zoo"]),
            "n_items": {split: self.scorer.items(split) for split in ("train", "test")},
            "reference": originals.reference_name(self),
            "models": [*originals.rows(self), *(row_of(finding, self.originals) for finding in findings)],
            "verdict": judge(self.task, self.originals, main, others, chance).to_json(),
            "gate": note_of(main.generator, "gate"), "denoising": note_of(main.generator, "denoising"),
            "notes": [*notes(self.zoo, self.originals, chance, self.task.metric), *originals.notes(self)],
            "timings_s": {**seconds, "total": round(sum(seconds.values()), 3)},
            "peak_rss_bytes": self.folder.peak_rss_bytes(), "machine": machine(self.device),
        }  # fmt: skip

    def _sweep(self) -> list[Stage]:
        from paramdiff.runs.sweep import sweep_stages  # it builds on this module

        return sweep_stages(self)

    def _report(self) -> list[Stage]:
        def work(scratch: Path) -> None:
            from paramdiff.reports.page import render

            render(self.folder.path)

        drawn = [name for name in ("sweep.json", LATENTS, TRAINING) if (self.folder.path / name).exists()]
        needs = ["results.json", "stats.jsonl", "config.yaml", *drawn]
        return [Stage("report", [], needs, ["report.html"], work)]
