"""What the stages of a run share: its plan, its folder, and the objects that several of them need.

Stages pass results on through files of the run folder. What is here is made from those files when somebody first asks
for it, and kept for the stages that follow.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paramdiff.devices import choose_device
from paramdiff.errors import ParamdiffError
from paramdiff.evaluation.comparison import Originals, Scored
from paramdiff.evaluation.cost import ZooCost
from paramdiff.evaluation.summary import ORIGINAL, RECALIBRATED
from paramdiff.files import about, load_tensors
from paramdiff.generators.generator import Generator
from paramdiff.runs.plan import Plan
from paramdiff.runs.rows import GeneratorRow, generator_rows
from paramdiff.runs.run_folder import RunFolder
from paramdiff.scoring.recalibration import Recalibration
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo

RECALIBRATED_MEMBERS = "evaluation/recalibrated_originals.safetensors"
"""The members with running statistics measured like those of samples: ``vectors`` [K, D]."""


def scores_of(name: str) -> str:
    """File of the scores of a row."""
    return f"scores/{name}.safetensors"


class RunContext:
    """One run, for its stages.

    Args:
        plan: what is to be done.
        command: what was typed or called, for the report.
        siblings: run folders of the same sweep that are finished.
    """

    def __init__(self, plan: Plan, command: str = "", siblings: Sequence[Path] = ()) -> None:
        self.plan, self.command = plan, command
        self.settings = dict(plan.settings)
        self.folder = RunFolder(plan.folder, self.settings, siblings)
        self.recalibrating = [{"recalibrate": plan.recalibrate}] if plan.recalibrate else []
        """For the settings of stages: empty if it is off, so that they are as they were before it existed."""

    @cached_property
    def task(self) -> Task:
        return self.plan.task if isinstance(self.plan.task, Task) else make_task(self.plan.task)

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.plan.device)

    @cached_property
    def zoo(self) -> Zoo:
        zoo = Zoo.load(self.path("zoo"))
        zoo.require_usable()
        return zoo

    @property
    def k(self) -> int | None:
        """K as the settings have it, else of the zoo that is there; None as long as it is unknown."""
        asked = getattr(self.plan.zoo, "k", None)
        if asked is not None:
            return int(asked)
        try:
            return self.zoo.k
        except ParamdiffError:  # not there yet, or damaged: whoever needs it says so
            return None

    @cached_property
    def rows(self) -> list[GeneratorRow]:
        """All generators, the main one first."""
        return generator_rows(self.plan.generators, self.k)

    @property
    def main(self) -> GeneratorRow:
        return self.rows[0]

    @property
    def baselines(self) -> list[GeneratorRow]:
        return self.rows[1:]

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.task, self.zoo, self.device, precision=self.plan.precision)

    @cached_property
    def zoo_cost(self) -> ZooCost | None:
        """Gradient steps behind the members; None if it is not known how they were trained."""
        return ZooCost.of(self.zoo)

    @cached_property
    def recalibration(self) -> Recalibration:
        """Of the samples of every generator; asked for only where the plan has it on."""
        return Recalibration(self.scorer, self.plan.recalibrate)

    def recalibrated(self, vectors: Tensor) -> Tensor:
        """Networks as they are used: with measured running statistics, if that is on."""
        return self.recalibration(vectors) if self.recalibrating else vectors

    def forget_zoo(self) -> None:
        """Drop what was kept of a zoo that was there before."""
        for name in ("zoo", "zoo_cost", "rows", "scorer", "recalibration", "originals"):
            vars(self).pop(name, None)

    # Files ---------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """A file of the run folder."""
        return self.folder.path / name

    def header(self, what: str, name: str, n: int, **more: Any) -> dict[str, str]:
        """Header of a file of tensors, with what is needed to read it alone."""
        known = {"experiment": self.plan.name, "generator": name, "n": n, "seed": self.plan.seed}
        return about(what, **known, spec=self.zoo.spec.to_json(), **more)

    def fitted(self, row: GeneratorRow) -> Generator:
        """A row's generator as it was fitted, with the settings of sampling that it was fitted with."""
        return Generator.load(self.path(row.fitted))

    def vectors(self, row: GeneratorRow) -> Tensor:
        """A row's samples as they are used."""
        return load_tensors(self.path(row.samples))["samples"]

    def as_drawn(self, row: GeneratorRow) -> Tensor:
        """A row's samples as its generator drew them, before recalibration."""
        vectors = self.vectors(row)
        if not self.recalibrating:
            return vectors
        return self.recalibration.restored(vectors, load_tensors(self.path(row.drawn)))

    def drawn_files(self, row: GeneratorRow) -> list[str]:
        """What :meth:`as_drawn` reads."""
        return [row.samples, *([row.drawn] if self.recalibrating else [])]

    def scored(self, file: str) -> Scored:
        """What was kept of the scores in a file."""
        return Scored.from_tensors(load_tensors(self.path(file)))

    # The zoo as the reference of every comparison ----------------------------------------------------------

    @property
    def reference_name(self) -> str:
        """The row that samples are compared with: members that were treated as they were."""
        return RECALIBRATED if self.recalibrating else ORIGINAL

    @property
    def reference_files(self) -> list[str]:
        """What :attr:`originals` reads beside the zoo."""
        return [scores_of(self.reference_name), *([RECALIBRATED_MEMBERS] if self.recalibrating else [])]

    @cached_property
    def originals(self) -> Originals:
        """The zoo with its scores, recalibrated where samples are."""
        zoo = self.recalibrated_zoo() if self.recalibrating else self.zoo
        return self.as_originals(zoo, self.scored(scores_of(self.reference_name)))

    def recalibrated_zoo(self) -> Zoo:
        """The members with the measured statistics of :data:`RECALIBRATED_MEMBERS`."""
        vectors = load_tensors(self.path(RECALIBRATED_MEMBERS))["vectors"]
        return Zoo(vectors, self.zoo.spec, self.zoo.base, self.zoo.records, self.zoo.about)

    def as_originals(self, zoo: Zoo, scored: Scored) -> Originals:
        """A set of members with these scores as the reference of a comparison."""
        return Originals(zoo, scored, self.task.higher_is_better, self.task.model())
