"""From the command line to runs: Hydra composes and sweeps, a :class:`Pipeline` does the work."""

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paramdiff.errors import ConfigError, near
from paramdiff.progress import say, silenced
from paramdiff.runs.config import RunConfig, built, explain, register
from paramdiff.runs.configured import plan_of
from paramdiff.runs.pipeline import GROUPS, Pipeline
from paramdiff.runs.recipe_checks import require_readable
from paramdiff.runs.recipe_names import list_options
from paramdiff.runs.summary_table import print_outcome
from paramdiff.runs.trackers import tracked, tracker_names, trackers

LONGEST_NAME = 200
"""Characters in the name of a run folder; file systems take 255 bytes."""

NAMELESS = ("experiment", "run_dir", "force", "device", "sweep", "tracker", "quiet")
"""Overrides that do not become part of a run folder's name, those of ``sweep.n`` and its like included."""

DEFAULT_EXPERIMENT = "digits"

BEHAVIOUR: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}
"""Of Hydra 1.3 the behaviour that later versions have by themselves."""

SWEEP_FLAGS = {"-m", "--multirun"}


class _Stopped(BaseException):
    """Carries an error of a run past Hydra, which would print its own report of any ``Exception``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def launch(command: str, words: Sequence[str]) -> int:
    """Do ``command`` for every run that the words mean, print what it ends with, and return the exit code.

    Raises:
        ConfigError: a key, value or option that does not exist or does not fit.
    """
    groups = GROUPS.get(command, (command,))
    done = perform(command, words, lambda folder: print_outcome(folder, groups))
    finished = all((folder / "results.json").is_file() for folder in done)
    if len(done) > 1 and "quiet=true" not in words and finished:
        say(f"compare them: {gathering(done)}")
    return 0


def perform(
    command: str, words: Sequence[str], ended: Callable[[Path], None] = lambda folder: None
) -> list[Path]:
    """Compose the configuration and do ``command`` for it, or for each of a sweep.

    Args:
        command: ``run``, or one stage.
        words: settings (``key=value``) and Hydra's flags, each flag one word with its value (``--config-dir=DIR``).
        ended: called with every run folder as soon as its run is done.

    Returns:
        The run folders.

    Raises:
        ConfigError: a key, value or option that does not exist or does not fit.
    """
    register()
    given = arranged(words)
    require_readable(given)
    if SWEEP_FLAGS & set(given):
        _rehearse(given)
    done: list[Path] = []

    def job(config: DictConfig) -> None:
        found, yaml = compose(config)
        makers = trackers(tracker_names(found.tracker))
        with silenced(found.quiet):
            run = Pipeline(plan_of(found, yaml), command=_typed(command, words), siblings=done)
            with tracked(makers, run.folder.path, config):
                done.append(run.run(command))
                ended(done[-1])

    _with_hydra(job, given, f"paramdiff {command}")
    return done


def arranged(words: Sequence[str]) -> list[str]:
    """Flags first, then settings, as Hydra's parser wants them; the default experiment where none is named.

    A task without an experiment starts from the plain settings, not from those of the digits.

    Raises:
        ConfigError: a value that is no option of its group.
    """
    flags = [word for word in words if word.startswith("-")]
    settings = [word for word in words if not word.startswith("-")]
    for word in settings:
        key, _, value = word.lstrip("+").partition("=")
        _require_option(key, value)
        if key == "ablation" and "," in value:
            raise _not_swept(value.partition(",")[0])
    named = any(word.lstrip("+").startswith(("experiment=", "task=")) for word in settings)
    return [*flags, *([] if named else [f"experiment={DEFAULT_EXPERIMENT}"]), *settings]


def _require_option(key: str, value: str) -> None:
    """Hydra raises a bare ValueError at ``compare=null`` and ``zoo=3``."""
    if not re.fullmatch(r"null|[+-]?[\d._]+(e[+-]?\d+)?|true|false|inf|nan", value, re.IGNORECASE):
        return
    if options := list_options(key):  # null is like full
        remedy = near("" if value == "null" else value, options)
        raise ConfigError(key, f"{value} is no option", remedy=remedy)


def _with_hydra(job: Callable[[DictConfig], None], words: Sequence[str], program: str = "paramdiff") -> None:
    """Do ``job`` for every configuration that the words mean; what it raises comes out as it is.

    Raises:
        ConfigError: Hydra could not compose a configuration, for whatever reason.
    """

    def shielded(config: DictConfig) -> None:
        try:
            job(config)
        except BaseException as error:
            raise _Stopped(error) from None

    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us instead of printing and exiting
    before, sys.argv = sys.argv, [program, *words]
    try:
        hydra_main(shielded)
    except _Stopped as stopped:
        raise stopped.error from None
    except HydraException as error:
        raise explain(error) from None
    except OSError:  # the disk's refusal, not the configuration's
        raise
    except Exception as error:  # OmegaConf's, YAML's, and bare ones of Hydra's at odd words
        raise explain(error) from None
    finally:
        sys.argv = before


def hydra_main(job: Callable[[DictConfig], object]) -> None:
    """Hydra's program over the recipes, with the words in ``sys.argv``."""
    hydra.main(config_path="pkg://paramdiff.recipes", config_name="config", **BEHAVIOUR)(job)()


def _rehearse(words: Sequence[str]) -> None:
    """Compose and check every run of a sweep before the first one starts.

    Skipped if the words choose another sweeper or launcher: its next run may depend on the results of the last.

    Raises:
        ConfigError: a run's settings do not fit, or two runs would have one folder.
    """
    if any(word.lstrip("+").startswith(("hydra/sweeper", "hydra/launcher")) for word in words):
        return
    folders: list[str] = []

    def job(config: DictConfig) -> None:
        found, _ = compose(config)
        plan_of(found)
        trackers(tracker_names(found.tracker))
        folders.append(os.path.realpath(str(found.run_dir)))

    with TemporaryDirectory() as scratch:
        _with_hydra(job, [*words, f"hydra.sweep.dir={scratch}"])
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise ConfigError(
            "run_dir", f"{folders.count(twice)} of the {len(folders)} runs of this sweep would be in {twice}",
            expected="a folder for each",
            remedy="leave run_dir out, or put into it what differs, e.g. run_dir='runs/k-${zoo.k}'",
        )  # fmt: skip


def gathering(folders: Sequence[Path]) -> str:
    """The command that compares these runs, with a glob if one matches exactly them."""
    names = [str(folder) for folder in folders]
    parts = zip(*(name.split(",") for name in names))
    shared = list(takewhile(lambda same: len(set(same)) == 1, parts))
    pattern = ",".join([*(same[0] for same in shared), "*"])
    exact = bool(shared) and {str(path) for path in Path().glob(pattern)} == set(names)
    return shlex.join(["paramdiff", "compare", *([pattern] if exact else names)])


def compose(config: DictConfig) -> tuple[RunConfig, str]:
    """The validated objects of a composed configuration, and its resolved YAML."""
    try:
        chosen = HydraConfig.get()
        _require_sweep(chosen)
        config.name = config.name or title(config, chosen)
        config.run_dir = config.run_dir or str(default_run_dir(chosen))
        OmegaConf.resolve(config)
        return built(config), OmegaConf.to_yaml(config)
    except (OmegaConfBaseException, RecursionError) as error:
        raise explain(error) from None


def composed(overrides: Sequence[str], name: str = "config") -> DictConfig:
    """A configuration for code: composed from the recipes, without Hydra's run."""
    register()
    try:
        with hydra.initialize_config_module("paramdiff.recipes", **BEHAVIOUR):
            return hydra.compose(name, overrides=list(overrides))
    except Exception as error:  # Hydra's own, OmegaConf's, YAML's, and bare ones at odd words
        raise explain(error) from None


def _require_sweep(hydra_config: Any) -> None:
    """An ablation is a sweep: without ``-m``, or as one value of several, none of its keys would be set."""
    name = hydra_config.runtime.choices.get("ablation")
    given = {word.partition("=")[0] for word in hydra_config.overrides.task}
    if name is not None and not given.issuperset(hydra_config.sweeper.params or {}):
        raise _not_swept(name)


def _not_swept(ablation: str) -> ConfigError:
    return ConfigError(
        "ablation", f"{ablation!r} is a sweep", remedy="add -m, and name one ablation at a time"
    )


def recipe_name(hydra_config: Any) -> str:
    """The experiment that was chosen, or the task if there is none."""
    choices = hydra_config.runtime.choices
    return str(choices.get("experiment") or choices.get("task"))


def title(config: DictConfig, hydra_config: Any) -> str:
    """The name of a run: its experiment or its task; of the tasks ``own`` and ``images``, the task or data set."""
    choices, task = hydra_config.runtime.choices, config.get("task")
    named = {"own": "name", "images": "data"}.get(str(choices.get("task")))
    if choices.get("experiment") or not named or OmegaConf.is_missing(task, named):
        return recipe_name(hydra_config)
    return str(task[named]).rstrip("/").replace("/", ":").rpartition(":")[2] or recipe_name(hydra_config)


def default_run_dir(hydra_config: Any) -> Path:
    """``runs/<experiment>``, followed by the overrides, so that two settings never share a folder.

    Of a name that is too long for a folder the beginning, and a hash of all of it.
    """
    words = [w.lstrip("+~") for w in hydra_config.overrides.task]
    kept = [w for w in words if w.partition("=")[0].partition(".")[0] not in NAMELESS]
    name = ",".join([recipe_name(hydra_config).replace("/", "-"), *sorted(kept)])
    safe = "".join(c if c.isalnum() or c in "=.,-_" else "_" for c in name)
    if len(safe) > LONGEST_NAME:
        safe = f"{safe[: LONGEST_NAME - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return Path("runs") / safe


def _typed(command: str, words: Sequence[str]) -> str:
    return shlex.join(["paramdiff", command, *words])
