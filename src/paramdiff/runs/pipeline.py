"""The stages of a run in their order: collect, fit, sample, score, compare, report.

What each does is in its module of :mod:`paramdiff.runs.stages`; here they are put in order, and other settings than
those of the folder are refused or announced.
"""

from collections.abc import Sequence
from pathlib import Path

from paramdiff.distributed import broadcast, on_main_process
from paramdiff.errors import RunFolderError
from paramdiff.progress import say
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.plan import Plan
from paramdiff.runs.rows import GeneratorRow, generator_rows, require_enough
from paramdiff.runs.run_folder import RunFolder
from paramdiff.runs.setting_changes import ChangedStages, announcement, refusal
from paramdiff.runs.stages import originals
from paramdiff.runs.stages.collect import collect
from paramdiff.runs.stages.compare import compare
from paramdiff.runs.stages.fit import fit
from paramdiff.runs.stages.report import report
from paramdiff.runs.stages.results import results
from paramdiff.runs.stages.sample import sample
from paramdiff.runs.stages.score import best, score
from paramdiff.runs.stages.sweep import SWEEP, sweep_stages

ORDER = ("collect", "fit", "sample", "score", "compare", "report")
NUMBERS = ORDER[:-1]
"""All but the page."""

GROUPS = {"run": ORDER, "sweep-temperature": (*NUMBERS, SWEEP, "report")}
"""Commands of several groups of stages; any other is one group."""


class Pipeline:
    """One run.

    Args:
        plan: what is to be done.
        command: what was typed or called, for the report.
        siblings: run folders of the same sweep that are finished.

    Raises:
        RunFolderError: the plan's folder is a file, or a folder of something else.
    """

    def __init__(self, plan: Plan, command: str = "", siblings: Sequence[Path] = ()) -> None:
        self.context = RunContext(plan, command, siblings)

    @property
    def plan(self) -> Plan:
        return self.context.plan

    @property
    def folder(self) -> RunFolder:
        return self.context.folder

    @property
    def main(self) -> GeneratorRow:
        """The main generator's row."""
        return self.context.main

    def run(self, command: str = "run") -> Path:
        """Do one command (``run`` for all stages) and return the run folder."""
        return self.run_groups(GROUPS.get(command, (command,)))

    def run_groups(self, groups: Sequence[str]) -> Path:
        """Do some groups of stages, in the order of :data:`ORDER`, and return the run folder."""
        say(f"{self.plan.name} -> {self.folder.path}")
        self._require_enough(getattr(self.plan.zoo, "k", None))
        self._agree(groups)
        with self.folder.opened():
            on_main_process(lambda: self.folder.write_config(self.plan.yaml))
            for group in groups:
                self._run_group(group)
                if group == "compare" or list(groups) == ["score"]:
                    self.folder.run(self._results())
        return self.folder.path

    def _run_group(self, group: str) -> None:
        if group == "fit":
            self._require_enough(self.context.k)  # an imported zoo says only now how large it is
        self.folder.run_all(self.stages(group))
        if group == "collect":
            self.context.forget_zoo()
        if group == "score":
            originals.score_as_saved(self.context)

    def stages(self, group: str) -> list[Stage]:
        """The stages of one group."""
        run = self.context
        return {
            "collect": lambda: [collect(run)],
            "fit": lambda: [fit(run, run.main)],
            "sample": lambda: [sample(run, run.main)],
            "score": lambda: [*originals.stages(run), score(run, run.main), best(run)],
            "compare": lambda: compare(run),
            SWEEP: lambda: sweep_stages(run),
            "report": lambda: [report(run)],
        }[group]()

    def _results(self) -> Stage:
        return results(self.context, {group: self.stages(group) for group in NUMBERS})

    # Whether the folder, the zoo and the settings go together -----------------------------------------------

    def _require_enough(self, k: int | None) -> None:
        """Refuse a zoo that is too small for a generator before it costs anything."""
        if k is not None:
            dim = self.context.zoo.dim if "zoo" in vars(self.context) else None
            require_enough(generator_rows(self.plan.generators, k), k, dim)

    def _agree(self, wanted: Sequence[str]) -> None:
        """Say what other settings than those of the folder redo and keep, or refuse them.

        Raises:
            RunFolderError: they make it another run, and ``force`` is off; or a stage that is not ``wanted`` now would
                have to be redone before those that are.
        """
        changed = broadcast(self.folder.changed)
        expected = (
            on_main_process(lambda: ChangedStages.of(self.folder, self._all_stages())) if changed else None
        )
        if expected and any(map(self._another_run, changed)) and not self.plan.force:
            raise refusal(self.folder.path, changed, expected)
        if changed or wanted[0] != "report":  # what was finished can be drawn again without its zoo
            on_main_process(lambda: self._require_current(wanted))
        if expected:
            say(announcement(changed, expected))
            on_main_process(self._drop_sweep)

    def _drop_sweep(self) -> None:
        """The curves were of other settings."""
        self.context.path("sweep.json").unlink(missing_ok=True)

    def _another_run(self, key: str) -> bool:
        """Whether a setting changes the zoo or what is fitted to it; the others only what follows."""
        root, _, name = key.partition(".")
        if root == "generator":
            return not self.plan.generators or name not in self.plan.generators[0].generator.sampling
        return root in ("name", "seed", "task", "zoo")

    def _all_stages(self) -> list[Stage]:
        groups = NUMBERS if self.plan.generators else ("collect",)
        return [stage for group in groups for stage in self.stages(group)]

    def _require_current(self, wanted: Sequence[str]) -> None:
        """Numbers of different settings never meet in one table."""
        before = ORDER[: ORDER.index(wanted[0])]
        for stage in (stage for group in before for stage in self.stages(group)):
            if stage.name in self.folder.done and not self.folder.is_current(stage):
                raise RunFolderError(
                    f"{stage.name} in {self.folder.path} is not what these settings and the files there give",
                    remedy=f"run `paramdiff {stage.name.partition(':')[0]}` first, or `paramdiff run` for all stages",
                )
