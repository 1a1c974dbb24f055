"""Configuration: Hydra groups that mirror the nouns, over the dataclasses of the code they configure.

Groups ``task``, ``zoo`` and ``generator`` hold one schema per dataclass (registered here) and named
variants as YAML in ``paramdiff/recipes``; ``compare`` lists the baselines; ``experiment`` composes a
whole run in a few lines. Types and unknown keys are checked by OmegaConf against the dataclass, ranges
by its ``__post_init__``; every failure becomes one line that names the key.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from hydra.errors import OverrideParseException
from omegaconf import MISSING, AnyNode, DictConfig, ListConfig, OmegaConf
from yaml import MarkedYAMLError

from paramdiff.errors import ConfigError, near
from paramdiff.generators import GENERATORS
from paramdiff.runs.plan import RUN_RANGES, BillConfig, SweepConfig, check_run, plain
from paramdiff.runs.recipe_names import list_options, option_name
from paramdiff.settings import Ranges, check_ranges, moved, where

__all__ = ["SweepConfig", "plain"]  # also of this module


@dataclass
class RunConfig:
    """One run: a task, a zoo, a generator, and the generators it is compared with.

    Attributes:
        name: for tables; by default the experiment chosen, or the task without one.
        run_dir: the run folder; by default ``runs/<experiment>`` plus the overrides given.
        seed: seed of everything; ``zoo.seed`` and ``generator.seed`` follow it.
        n: N, samples drawn from every generator.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: of scoring, ``auto``, ``float32`` or ``bfloat16`` (:mod:`paramdiff.networks.precision`).
        recalibrate: training items on which the generated running statistics of BatchNorm layers are measured
            anew in every sample and in the originals they are compared with (:mod:`paramdiff.scoring.recalibration`);
            0 leaves them as they are.
        force: redo the zoo or the fit of a run folder that has them with other settings.
        quiet: say nothing but the result.
        tracker: where losses and scores are logged, e.g. ``tensorboard``, a list of such names, or null for nowhere
            (:mod:`paramdiff.runs.trackers`).
        sweep: of ``paramdiff sweep-temperature``.
        bill: of the comparison at an equal number of gradient steps (``compare=bill``).
    """

    RANGES: ClassVar[Ranges] = RUN_RANGES

    name: str | None = None
    run_dir: str | None = None
    seed: int = 0
    n: int = 100
    device: str = "auto"
    precision: str = "auto"
    recalibrate: int = 0
    force: bool = False
    quiet: bool = False
    tracker: Any = None
    task: Any = MISSING
    zoo: Any = MISSING
    generator: Any = MISSING
    compare: dict[str, Any] = field(default_factory=dict)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    bill: BillConfig = field(default_factory=BillConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_run(self.device, self.precision, self.recalibrate)


def register() -> None:
    """Put the schemas into Hydra's config store; calling it again changes nothing."""
    from hydra.core.config_store import ConfigStore

    from paramdiff.collectors import COLLECTORS
    from paramdiff.tasks import TASKS

    store = ConfigStore.instance()
    if "run_schema.yaml" not in store.repo:
        store.store(name="run_schema", node=RunConfig)
    schemas = {
        "task": TASKS.all(),
        "zoo": COLLECTORS.all(),
        "generator": {option_name(name): kind for name, kind in GENERATORS.all().items()},
    }
    for group, kinds in schemas.items():
        for option, kind in kinds.items():
            if f"{option}.yaml" in store.repo.get(group, {}):
                continue
            node = OmegaConf.structured(kind)
            if "device" in node:
                node.device = "${device}"
            if "seed" in node:
                node.seed = "${seed}"  # one seed for the whole run, unless this one is set
            for key in node:
                if OmegaConf.get_type(node, key) is dict:  # takes any keys, e.g. task.model_options
                    OmegaConf.set_struct(node[key], False)
            store.store(group=group, name=option, node=node)


def build(node: Any) -> Any:
    """Dataclass objects from a composed configuration, children first.

    Raises:
        ConfigError: a value out of range; the key is the full path, e.g. ``zoo.pretrain.lr``.
    """
    if isinstance(node, ListConfig):
        return OmegaConf.to_container(node, resolve=True)
    if not isinstance(node, DictConfig):
        return node
    children: dict[str, Any] = {}
    for key in map(str, node):
        try:
            children[key] = build(node[key])
        except ConfigError as error:
            raise error.under(key) from None
    kind = OmegaConf.get_type(node)
    if not is_dataclass(kind):
        return children
    known = [item.name for item in fields(kind) if item.init]
    for key in children.keys() - known:  # ``+key`` and ``++key`` pass Hydra's own check
        raise ConfigError(key, "no such key", remedy=_meant(kind, str(node._get_full_key(key)), known))
    return kind(**children)


def built(node: DictConfig) -> RunConfig:
    """The validated objects of a composed and resolved run.

    Raises:
        ConfigError: a value out of range, of a wrong kind, or infinite; the key is the full path.
    """
    _require_finite(node)
    for group, protocol in (("task", "make"), ("zoo", "collect"), ("generator", "fit")):
        _require_kind(group, node._get_node(group), protocol)
    compare: Any = node._get_node("compare")
    for key in map(str, compare) if isinstance(compare, DictConfig) else ():
        _require_kind(f"compare.{key}", compare._get_node(key), "fit")
    found: RunConfig = build(node)
    check = getattr(found.task, "check", None)
    if check is not None:
        try:
            check()
        except ConfigError as error:
            raise error.under("task") from None
    return found


def _require_finite(node: Any) -> None:
    """Options of a user's own class may be any number, but JSON cannot hold infinite ones or NaN."""
    if isinstance(node, (DictConfig, ListConfig)) and not (node._is_missing() or node._is_none()):
        keys: Iterable[Any] = node if isinstance(node, DictConfig) else range(len(node))
        for key in keys:
            _require_finite(node._get_node(key))
    elif isinstance(node, AnyNode) and isinstance(value := node._value(), float) and not math.isfinite(value):
        raise ConfigError(
            str(node._get_full_key(None)), f"{value!r} is out of range", expected="a finite number"
        )


def _require_kind(key: str, node: Any, protocol: str) -> None:
    """A group holds settings of one of its options, not a number or any other dictionary."""
    kind = OmegaConf.get_type(node) if node is not None else None
    if not hasattr(kind, protocol) and not (isinstance(node, DictConfig) and node._is_missing()):
        group = key.partition(".")[0]
        options = "generators" if group == "compare" else f"options of {group}"
        raise ConfigError(key, "not an option by name", expected=f"one of the {options}",
                          remedy=f"see `paramdiff run --help`, and {example(key)}")  # fmt: skip


def example(key: str) -> str:
    """How an option is chosen for a key."""
    group, _, row = key.partition(".")
    return f"add a baseline by +generator@compare.{row}=NAME" if row else f"choose one by {group}=NAME"


QUOTE = "put quotes within quotes around a value with commas or signs, e.g. 'zoo.select=\"all,!fc\"'"

SAID = [
    (
        r"In '([^']+)': \w+ raised while composing config:\n(.+)",
        "{1}",
        "leave out the option that it does not fit",
    ),
    (r"Missing mandatory value: (\S+)", "no value", "give {0}=..."),
    (
        r"Ambiguous value for argument '([^=]+)=(.+)'",
        "{1} is several values",
        f"add -m for a run each, or {QUOTE}",
    ),
    (
        r"Sweep parameters '([^=]+)=(.*)' requires --multirun",
        "{1} is several values",
        "add -m for a run each",
    ),
    (r"Could not append to config. An item is already at '([^']+)'", "this key exists", "leave out the +"),
]
"""Hydra's messages about a key (the first group) reworded: a pattern, what came, a remedy."""


def explain(error: Exception) -> ConfigError:
    """One line from Hydra's or OmegaConf's many: which key, what came, what exists."""
    if plainly := _not_composed(error) or _moved_in_recipe(str(error)):
        return plainly
    chain: list[BaseException] = [error]
    while (deeper := chain[-1].__cause__) is not None:
        chain.append(deeper)
    cause = chain[-1]
    text = str(cause)
    for pattern, came, remedy in SAID:
        if said := re.search(pattern, text):
            return ConfigError(said[1], came.format(*said.groups()), remedy=remedy.format(*said.groups()))
    first = _cut(text.strip().splitlines()[0]) if text.strip() else type(cause).__name__
    keys = (getattr(one, name, None) for one in reversed(chain) for name in ("full_key", "key"))
    written = re.search(r"full_key: (\S+)", str(error))
    key = next((key for key in keys if key), None) or (written and written[1])
    missing = re.search(r"Could not find '([^']+)'", str(error))
    if missing:
        return _unknown_option(missing.group(1), str(error))
    unknown = re.search(r"Key '([^']+)' (?:is )?not in", text)
    if unknown and key:
        meant = _meant(getattr(cause, "object_type", None), str(key), _known_keys(cause))
        return ConfigError(str(key), "no such key", remedy=meant)
    return ConfigError(str(key), first) if key else ConfigError("configuration", first)


def _not_composed(error: Exception) -> ConfigError | None:
    """For what could not even be parsed."""
    if isinstance(error, OverrideParseException):
        return ConfigError(_cut(error.override), "not understood", expected="KEY=VALUE", remedy=QUOTE)
    if isinstance(error, RecursionError):
        return ConfigError("configuration", "lists or dictionaries are nested too deeply, or in themselves")
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a recipe"
        return ConfigError(place, error.problem or "not YAML", remedy="correct it")
    return None


def _moved_in_recipe(text: str) -> ConfigError | None:
    """For a recipe with a generator's key that is in a part of its own by now; Hydra tells the class by name only."""
    said = re.search(r"In '([^']+)': .*\nKey '(\w+)' not in '(\w+)'\s+full_key: (\S+)", text)
    kinds = {kind.__name__: kind for kind in GENERATORS.all().values()} if said else {}
    if not said or said[2] not in moved(kinds.get(said[3], object)):
        return None
    return ConfigError(f"{said[1]}: {said[4]}", "no such key", remedy=_meant(kinds[said[3]], said[4], ()))


def _cut(text: str) -> str:
    """A line that a person can read, of whatever was typed."""
    return text if len(text) <= 300 else f"{text[:300]}..."


def _unknown_option(option: str, text: str) -> ConfigError:
    group, _, name = option.rpartition("/")
    known = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE) or list_options(group)
    return ConfigError(
        group or "configuration", f"there is no {name!r}", remedy=near(name, known) if known else ""
    )


def _meant(kind: Any, key: str, known: Iterable[str]) -> str:
    """What to write in place of a key that a class of settings lacks, or that has moved into one of its parts."""
    path, dot, name = key.rpartition(".")
    if isinstance(kind, type) and name in moved(kind):
        return f"write {where(kind, name, f'{path}{dot}')}"
    known = list(known)
    return near(name, known) if known else ""


def _known_keys(cause: BaseException) -> list[str]:
    kind = getattr(cause, "object_type", None)
    if is_dataclass(kind):
        return [item.name for item in fields(kind) if item.init]
    parent = getattr(cause, "parent_node", None)
    return [str(key) for key in parent] if isinstance(parent, DictConfig) else []
