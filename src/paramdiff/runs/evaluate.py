"""``paramdiff.evaluate``: generators on a zoo, compared and judged, from Python objects.

It is ``paramdiff run`` without the configuration: the same plan, the same stages, the same numbers.
"""

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from paramdiff.atomic import settle, writing
from paramdiff.errors import ConfigError, GeneratorError, short
from paramdiff.generators.generator import GENERATORS, Generator
from paramdiff.progress import say
from paramdiff.runs.caller_objects import GivenZoo, fitted_digest, task_settings, zoo_settings
from paramdiff.runs.finished import Run
from paramdiff.runs.pipeline import NUMBERS, Pipeline
from paramdiff.runs.plan import Plan, PlannedGenerator, plain, require_main
from paramdiff.runs.replaceable import require_replaceable
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.validation import plain_name
from paramdiff.zoo.zoo import Zoo

RESERVED = ("best", "bill", "latents")
"""Names that files and stages of a run use already, as they do all that begin with ``original``."""


class Evaluation(Run):
    """What :func:`evaluate` found: the numbers, the verdict, the samples; a :class:`Run` of its own.

    Its folder is removed with it, unless the caller named one; :meth:`save` keeps it.

    Attributes:
        folder: where everything is.
    """

    def __init__(self, pipeline: Pipeline, temporary: bool) -> None:
        super().__init__(pipeline.folder.path)
        self._pipeline = pipeline
        if temporary:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def save(self, folder: Path | str) -> Path:
        """Keep everything as a run folder with its ``report.html``: all of it, or nothing if something goes wrong.

        Args:
            folder: new, empty, or a run folder, which is then replaced.

        Returns:
            The folder.

        Raises:
            RunFolderError: there is anything but a run folder.
            DiskError: the disk is full or not writable.
            ParamdiffError: matplotlib or jinja2 is not installed.
        """
        path = Path(folder).expanduser()
        require_replaceable(path)
        self._pipeline.run_groups(["report"])
        settle(path.parent)
        with writing(path, require_replaceable) as partial:
            shutil.copytree(self.folder, partial, ignore=shutil.ignore_patterns(".*"))
        return path


def evaluate(
    task: Task | str,
    zoo: Zoo,
    generators: Mapping[str, Generator],
    n: int = 100,
    seed: int = 0,
    *,
    device: str = "auto",
    precision: str = "auto",
    recalibrate: int = 0,
    name: str | None = None,
    folder: Path | str | None = None,
    force: bool = False,
) -> Evaluation:
    """Fit, sample, score and compare generators on a zoo, and judge the first of them.

    Generators that are not fitted are fitted on the zoo; fitted ones are used as they are. The caller's own objects
    are left as they were.

    Args:
        task: the caller's own, or a name such as ``"digits"`` (:func:`paramdiff.tasks.make_task`).
        zoo: K members of the task's network.
        generators: by the names of their rows in the table; the first is the main one, the one that is judged. The row
            ``original`` is the zoo's own and always there.
        n: N, samples of every generator.
        seed: of sampling.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: of scoring: ``auto``, ``float32`` or ``bfloat16``.
        recalibrate: training items on which generated BatchNorm statistics are measured anew, in samples and
            originals; 0 leaves them as they are.
        name: what the evaluation is called in its table; by default the task's name.
        folder: where it is done. The same call with the same folder goes on where it was stopped, and does again only
            what other arguments change. By default a temporary folder that goes with the returned object. Of a
            task of the caller's own the folder remembers the class and its plain attributes, not its data.
        force: let another zoo, task or fit take the place of those in ``folder``.

    Returns:
        The evaluation: ``.results`` (the dictionary of ``results.json``), ``.verdict``, ``.table()``, ``.samples``,
        ``.save(folder)``.

    Raises:
        ConfigError: a name, a value or a setting does not fit; says which.
        TaskError: the zoo is of another network than the task's.
        ZooError: nothing can be learnt from the zoo.
        GeneratorError: a fitted generator is of other parameters than the zoo.
        RunFolderError: ``folder`` belongs to another evaluation, or is no run folder.
    """
    options = {"device": device, "precision": precision, "recalibrate": recalibrate, "force": force}
    place = None if folder is None else Path(folder).expanduser()
    plan = _plan(task, zoo, generators, name, place or Path(), n=n, seed=seed, **options)
    if place is None:
        plan = replace(plan, folder=Path(tempfile.mkdtemp(prefix="paramdiff-")))
    pipeline = Pipeline(plan, _command(plan))
    evaluation = Evaluation(pipeline, temporary=place is None)
    pipeline.run_groups(NUMBERS)
    return evaluation


def _plan(
    task: Task | str,
    zoo: Zoo,
    generators: Mapping[str, Generator],
    name: str | None,
    folder: Path,
    **options: Any,
) -> Plan:
    """The caller's objects as the plan of a run, whose settings say what they are."""
    task = make_task(task) if isinstance(task, str) else task
    zoo.require_usable()
    planned = [_planned(row, generator, zoo) for row, generator in generators.items()]
    _require_main(planned)
    known = {"name": name or task.name, "seed": options["seed"], "n": options["n"]}
    known |= {"task": task_settings(task), "zoo": zoo_settings(zoo), **_generator_settings(planned)}
    known |= {"recalibrate": options["recalibrate"]} if options["recalibrate"] else {}
    return Plan(
        name=name or task.name, folder=folder, task=task, zoo=GivenZoo(zoo), generators=planned, settings=known,
        yaml=yaml.safe_dump(known, sort_keys=False), **options,
    )  # fmt: skip


def _planned(row: str, generator: Generator, zoo: Zoo) -> PlannedGenerator:
    """A generator under its row's name; a copy, if it is to be fitted."""
    key = f"generators[{row!r}]"
    if not plain_name(row) or ":" in row or row in RESERVED or row.startswith("original"):
        raise ConfigError(
            key, "not a name for a row", expected="text without slashes and colons that does not begin with original",
            remedy="choose another name",
        )  # fmt: skip
    _require_known(key, generator)
    if generator.normaliser is None:
        return PlannedGenerator(deepcopy(generator), key, row)
    if len(generator.normaliser.mean) != zoo.dim:
        raise GeneratorError(
            f"{key} was fitted to vectors of {len(generator.normaliser.mean):,} parameters",
            expected=f"D = {zoo.dim:,} as in the zoo", remedy="fit it to this zoo, or leave it unfitted",
        )  # fmt: skip
    say(f"  {row}: fitted already, used as it is")
    return PlannedGenerator(generator, key, row, fitted_digest(generator))


def _require_known(key: str, generator: Generator) -> None:
    """Samples are drawn from what a fit has saved, so the class has to be found by its name."""
    if is_dataclass(generator) and GENERATORS.all().get(generator.name) is not None:
        return
    raise GeneratorError(
        f"{key} is {short(generator)}", expected="a generator whose class is registered",
        remedy='decorate the class with @paramdiff.register("its-name") and @dataclass',
    )  # fmt: skip


def _require_main(planned: Sequence[PlannedGenerator]) -> None:
    if not planned:
        raise ConfigError("generators", "there is none", expected="at least one, the main one first")
    require_main(planned[0], "put another one before it")


def _generator_settings(planned: Sequence[PlannedGenerator]) -> dict[str, Any]:
    """In the form of a configuration, so that both are judged by the same rules when they change."""
    settings = {one.name: {**plain(one.generator), "row": one.name, "fitted": one.digest} for one in planned}
    main = planned[0].name
    return {
        "generator": settings[main],
        "compare": {name: own for name, own in settings.items() if name != main},
    }


def _command(plan: Plan) -> str:
    """What was called, for the report."""
    rows = ", ".join(f"{one.name!r}: {type(one.generator).__name__}(...)" for one in plan.generators)
    return f"paramdiff.evaluate(task, zoo, {{{rows}}}, n={plan.n}, seed={plan.seed})"
