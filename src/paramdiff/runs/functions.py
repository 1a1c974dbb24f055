"""What the commands do, as functions of Python objects: ``run``, ``collect``, ``score``, ``inspect``, ``report``.

They raise :class:`paramdiff.ParamdiffError` where a command prints a line, and print nothing to standard output.
Progress is reported on standard error; ``PARAMDIFF_QUIET=1`` in the environment turns bars off.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from paramdiff.collectors.collector import Collector
from paramdiff.devices import choose_device
from paramdiff.errors import ConfigError, TaskError
from paramdiff.evaluation.comparison import Scored
from paramdiff.runs.caller_objects import task_settings
from paramdiff.runs.finished import Run
from paramdiff.runs.inspecting import inspected, network_name, opened, own_task
from paramdiff.runs.pipeline import Pipeline
from paramdiff.runs.plan import Plan, plain
from paramdiff.runs.resource_estimate import blank_zoo
from paramdiff.runs.stages.score import measure
from paramdiff.scoring.saved_networks import score_state_dicts
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.diagnostics import Inspection
from paramdiff.zoo.zoo import Zoo

Networks = Zoo | Tensor | Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]]
"""Members of a zoo, vectors [N, D], or complete state dicts."""


def run(*settings: str, config_dir: Path | str | None = None) -> Run:
    """The whole job from recipes: collect, fit, sample, score, compare, report, as ``paramdiff run`` does it.

    The run goes on in its folder where an earlier call or command with the same settings was stopped.

    Args:
        settings: as on the command line, e.g. ``"experiment=digits", "n=50", "run_dir=runs/mine"``.
        config_dir: a folder with recipes of the caller's own.

    Returns:
        The finished run: ``.folder``, ``.results``, ``.verdict``, ``.zoo``, ``.generator``, ``.samples``, ``.best``.

    Raises:
        ConfigError: a key, value or option that does not exist or does not fit.
        RunFolderError: the run folder belongs to other settings.
        ParamdiffError: whatever else ``paramdiff run`` refuses.
    """
    from paramdiff.runs.launch import perform  # Hydra

    for word in settings:
        if word.startswith("-") or "=" not in word:
            raise ConfigError(
                word, "not a setting", expected="KEY=VALUE", remedy="see `paramdiff run --help`"
            )
    flags = [] if config_dir is None else [f"--config-dir={config_dir}"]
    try:
        (folder,) = perform("run", [*flags, *settings])
    except SystemExit as error:  # Hydra's parser
        raise ConfigError("settings", f"not understood ({error.code})", expected="KEY=VALUE") from None
    return Run.load(folder)


def collect(
    task: Task | str,
    collector: Collector,
    folder: Path | str | None = None,
    *,
    device: str = "auto",
    seed: int = 0,
    force: bool = False,
) -> Zoo:
    """Make a zoo: train networks of a task and keep checkpoints of them, as ``paramdiff collect`` does it.

    Args:
        task: the caller's own, or a name such as ``"digits"``.
        collector: how it is made: :class:`paramdiff.TrajectoryCollector`, :class:`paramdiff.SeedCollector`,
            :class:`paramdiff.CheckpointCollector`.
        folder: where the state is kept and, in ``folder/zoo``, the zoo. The same call goes on there after a kill, and
            only reads the zoo once it is done. By default nothing is kept on disk.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        seed: of the alignment of hidden units; the collector has a seed of its own.
        force: let another zoo take the place of the one in ``folder``.

    Raises:
        SelectionError: the collector's selection matches nothing.
        NumericalError: the training ran into NaN or Inf.
        RunFolderError: ``folder`` belongs to other settings, or is no run folder.
    """
    task = _task(task)
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="paramdiff-") as scratch:  # the zoo stays mapped
            return collect(task, collector, scratch, device=device, seed=seed)
    known = {"name": task.name, "seed": seed, "task": task_settings(task), "zoo": plain(collector)}
    plan = Plan(
        name=task.name, folder=Path(folder).expanduser(), task=task, zoo=collector, generators=(), settings=known,
        seed=seed, device=device, force=force,
    )  # fmt: skip
    return Zoo.load(Pipeline(plan).run("collect") / "zoo")


def score(
    task: Task | str,
    networks: Networks,
    zoo: Zoo | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
) -> Scored:
    """Score networks on a task, as the stage ``score`` does it.

    Args:
        task: the caller's own, or a name such as ``"digits"``.
        networks: a zoo, for its members; vectors [N, D] of a zoo's parameters, such as samples; one complete state
            dict, or several.
        zoo: gives vectors the rest of their networks.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``float32`` or ``bfloat16``.

    Returns:
        ``train`` and ``test`` [N]: the task's first metric, on its ``selection_items`` of the training data and on all
        test data; and what else is known of the networks' outcomes.

    Raises:
        TaskError: the networks are not the task's.
    """
    task, where = _task(task), choose_device(device)
    if isinstance(networks, Zoo):
        return measure(Scorer(task, networks, where, precision=precision), networks.vectors)
    if isinstance(networks, Tensor):
        return measure(Scorer(task, _required(zoo), where, precision=precision), networks)
    states = [networks] if isinstance(networks, Mapping) else list(networks)
    return Scored.of(
        *score_state_dicts(Scorer(task, blank_zoo(task, "all"), where, precision=precision), states)
    )


def _required(zoo: Zoo | None) -> Zoo:
    if zoo is None:
        raise TaskError("vectors without their zoo", expected="the rest of the networks",
                        remedy="pass zoo=..., or complete state dicts")  # fmt: skip
    return zoo


def inspect(
    zoo: Zoo | Path | str,
    task: Task | str | None = None,
    *,
    select: str | Sequence[str] | None = None,
    group: int | None = None,
) -> Inspection:
    """Describe what a zoo holds and whether it is likely to work, as ``paramdiff inspect`` does it.

    Args:
        zoo: a zoo, or the path of one, of a run folder, or of checkpoints.
        task: the task of the members: with it, midpoints between them are scored. A collected zoo knows its own.
        select: which tensors of checkpoints to look at; by default all that they hold.
        group: which of several kinds of checkpoints in a folder, from 1 for the largest.

    Returns:
        The numbers and, in ``recommendations``, what to expect and to change.

    Raises:
        CheckpointError: nothing at the path can be read.
        TaskError: the members are not of the task's network.
    """
    task = None if task is None else _task(task)
    found, groups = (zoo, []) if isinstance(zoo, Zoo) else opened(zoo, task, select, group)
    facts = inspected(found, task or own_task(found))
    facts.groups, facts.network = groups, network_name(task) if task else ""
    return facts


def report(folder: Path | str) -> Path:
    """Draw the page ``report.html`` of a finished run folder again, as ``paramdiff report`` does it.

    Returns:
        The page.

    Raises:
        RunFolderError: there is no usable ``results.json``.
        ParamdiffError: matplotlib or jinja2 is not installed.
    """
    from paramdiff.reports.page import render  # matplotlib

    return render(Path(folder).expanduser())


def _task(task: Task | str) -> Task:
    return make_task(task) if isinstance(task, str) else task
