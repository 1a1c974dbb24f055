"""What a run is to do, in plain objects: no configuration language and no command line.

The command line makes a :class:`Plan` from a composed configuration (:mod:`paramdiff.runs.configured`),
:func:`paramdiff.evaluate` from the caller's objects; from there on both take the same path
(:mod:`paramdiff.runs.pipeline`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from paramdiff.collectors.collector import Collector
from paramdiff.errors import ConfigError, check_choice
from paramdiff.generators.generator import Generator
from paramdiff.networks.precision import PRECISIONS
from paramdiff.settings import BATCH, COUNT, FACTOR, RATE, SEED, Range, Ranges, check_ranges
from paramdiff.tasks.configuration import TaskSettings
from paramdiff.tasks.task import Task

RUN_RANGES: Ranges = {"n": COUNT, "seed": SEED, "recalibrate": Range(least=0, most=10**9)}


@dataclass
class SweepConfig:
    """What ``paramdiff sweep-temperature`` draws; read by no other command.

    Attributes:
        n: networks per point, at most N.
        temperatures: values of every knob that is a factor: ``contraction``, ``scale``, ``amplitude``.
        members: values of the knob ``k`` of means of k members; those above K are left out.
    """

    RANGES: ClassVar[Ranges] = {"n": COUNT, "temperatures": FACTOR, "members": COUNT}

    n: int = 25
    temperatures: list[float] = field(default_factory=lambda: [0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.3])
    members: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class BillConfig:
    """How networks are trained further, to compare the main generator with others at an equal bill.

    Attributes:
        steps: after how many more steps networks are scored, e.g. ``[0, 10, 30, 100, 300]``; by default none are
            trained. Numbers of steps that make bills equal are added.
        n: networks of each start, at most N.
        lr: learning rate, in units of the zoo's between-checkpoint deviation; it falls to 0 along a cosine.
        batch: training items that a network sees in a step.
    """

    RANGES: ClassVar[Ranges] = {
        "steps": Range(least=0, most=1_000_000), "n": COUNT, "lr": RATE, "batch": BATCH,
    }  # fmt: skip

    steps: list[int] | None = None
    n: int = 30
    lr: float = 0.05
    batch: int = 64

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class PlannedGenerator:
    """A generator that takes part in a run.

    Attributes:
        generator: with its settings; fitted ones are used as they are.
        key: where its settings were given, for messages, e.g. ``compare.noise``.
        name: its row in ``results.json``; None for the generator's own label.
        digest: hash of what it has learnt; None unless it is fitted.
    """

    generator: Generator
    key: str
    name: str | None = None
    digest: str | None = None


def require_main(main: PlannedGenerator, remedy: str) -> None:
    """Refuse a main generator that has to match another one's samples.

    Raises:
        ConfigError: names where it was given, with this remedy.
    """
    if main.generator.matches:
        raise ConfigError(
            main.key, f"{main.generator.name} matches the samples of the main generator",
            expected="another main generator", remedy=remedy,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        name: what the run is called in tables.
        folder: the run folder.
        task: the task, or settings that make it.
        zoo: makes the zoo from the task.
        generators: the main one first, then those it is compared with; none if the run only collects.
        settings: JSON-able description of all the above, by which a run folder recognises its run. It has the keys
            ``name``, ``seed``, ``n``, ``task``, ``zoo``, ``generator`` and ``compare``, and ``recalibrate`` where that
            is on, and ``bill`` likewise.
        yaml: the same for people, as text for ``config.yaml``.
        n: N, samples of every generator.
        seed: of sampling and of everything else that no other seed decides.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: of scoring (:mod:`paramdiff.networks.precision`).
        recalibrate: training items on which generated BatchNorm statistics are measured anew; 0 for off.
        force: whether another zoo or fit may take the place of those in the folder.
        sweep: of the stage that samples every generator at several values of its knob.
        bill: of the stages that compare generators at an equal bill.
    """

    RANGES: ClassVar[Ranges] = RUN_RANGES

    name: str
    folder: Path
    task: Task | TaskSettings
    zoo: Collector
    generators: Sequence[PlannedGenerator]
    settings: Mapping[str, Any]
    yaml: str = ""
    n: int = 100
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    recalibrate: int = 0
    force: bool = False
    sweep: SweepConfig = field(default_factory=SweepConfig)
    bill: BillConfig = field(default_factory=BillConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_run(self.device, self.precision, self.recalibrate)


def check_run(device: str, precision: str, recalibrate: int) -> None:
    """Refuse settings that are wrong for every run.

    Raises:
        ConfigError: names the setting.
    """
    check_choice("device", device.partition(":")[0], ("auto", "cpu", "cuda", "mps", "xpu"))
    check_choice("precision", precision, PRECISIONS)
    if recalibrate == 1:  # one item has no variance
        raise ConfigError(
            "recalibrate", f"{recalibrate} is out of range", expected="0, for off, or at least 2 items"
        )


def plain(value: Any) -> Any:
    """JSON-able settings of a dataclass tree, with the class beside its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {item.name: plain(getattr(value, item.name)) for item in fields(value) if item.init}
        return {"kind": type(value).__name__, **own}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
