"""From words on the command line to runs: Hydra composes and sweeps, a :class:`Pipeline` does the work."""

import os
import shlex
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from paramdiff.errors import ConfigError, ParamdiffError, near
from paramdiff.progress import say
from paramdiff.run.config import RunConfig, build, explain, register
from paramdiff.run.options import list_options
from paramdiff.run.pipeline import Pipeline

DEFAULT_EXPERIMENT = "digits"

VALUE_FLAGS = (
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--cfg",
    "-c",
    "--package",
    "-p",
)
"""Hydra's flags that are followed by a value."""

NAMELESS = ("experiment", "run_dir", "force", "device", "sweep")
"""Overrides that do not become part of a run folder's name, those of ``sweep.n`` and its like included."""


class _Stopped(BaseException):
    """Carries a user's mistake past Hydra, which would print more about any ``Exception``."""

    def __init__(self, error: ParamdiffError) -> None:
        super().__init__(str(error))
        self.error = error


def launch(command: str, words: Sequence[str]) -> int:
    """Compose the configuration, run ``command`` for it (or for each of a sweep) and return the exit code.

    Raises:
        ConfigError: a key, value or option that does not exist or does not fit.
    """
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us instead of printing and exiting
    done: list[Path] = []

    def job(config: DictConfig) -> None:
        try:
            run = Pipeline(*compose(config), command=_typed(command, words), siblings=done)
            done.append(run.run(command))
        except ParamdiffError as error:
            raise _Stopped(error) from None

    before, sys.argv = sys.argv, [f"paramdiff {command}", *arranged(words)]
    try:
        hydra.main(version_base="1.3", config_path="pkg://paramdiff.recipes", config_name="config")(job)()
    except _Stopped as stopped:
        raise stopped.error from None
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error) from None
    finally:
        sys.argv = before
    if len(done) > 1 and all((folder / "results.json").is_file() for folder in done):
        say(f"compare them: {gathering(done)}")
    return 0


def gathering(folders: Sequence[Path]) -> str:
    """The command that puts these runs beside each other: by a glob if one means exactly them."""
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
        config.name = config.name or recipe_name(chosen)
        config.run_dir = config.run_dir or str(default_run_dir(chosen))
        OmegaConf.resolve(config)
        return build(config), OmegaConf.to_yaml(config)
    except OmegaConfBaseException as error:
        raise explain(error) from None


def composed(overrides: Sequence[str], name: str = "config") -> DictConfig:
    """A configuration for code: composed from the recipes, without Hydra's run."""
    register()
    try:
        with hydra.initialize_config_module("paramdiff.recipes", version_base="1.3"):
            return hydra.compose(name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error) from None


def arranged(words: Sequence[str]) -> list[str]:
    """Flags first, then overrides, as Hydra's parser wants them; the default experiment where none is named.

    A task without an experiment starts from the plain settings, not from those of the digits.
    """
    flags: list[str] = []
    overrides: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        (flags if word.startswith("-") else overrides).append(word)
        if word in VALUE_FLAGS and left:
            flags.append(left.pop(0))
    for word in overrides:
        _require_option(*word.lstrip("+").partition("=")[::2])
    named = any(word.lstrip("+").startswith(("experiment=", "task=")) for word in overrides)
    return flags + ([] if named else [f"experiment={DEFAULT_EXPERIMENT}"]) + overrides


def _require_option(key: str, value: str) -> None:
    """Hydra raises a bare ValueError at ``compare=null``."""
    if value == "null" and (options := list_options(key)):
        raise ConfigError(key, "null is no option", remedy=near("", options))  # null is like full


def _require_sweep(hydra_config: Any) -> None:
    """An ablation is a sweep: without ``-m``, or as one value of several, none of its keys would be set."""
    name = hydra_config.runtime.choices.get("ablation")
    given = {word.partition("=")[0] for word in hydra_config.overrides.task}
    if name is not None and not given.issuperset(hydra_config.sweeper.params or {}):
        remedy = "add -m, and name one ablation at a time"
        raise ConfigError("ablation", f"{name!r} is a sweep", remedy=remedy)


def recipe_name(hydra_config: Any) -> str:
    """The experiment that was chosen, or the task if there is none."""
    choices = hydra_config.runtime.choices
    return str(choices["experiment"] or choices["task"])


def default_run_dir(hydra_config: Any) -> Path:
    """``runs/<experiment>``, followed by the overrides, so that two settings never share a folder."""
    words = [w.lstrip("+~") for w in hydra_config.overrides.task]
    kept = [w for w in words if w.partition("=")[0].partition(".")[0] not in NAMELESS]
    name = ",".join([recipe_name(hydra_config).replace("/", "-"), *sorted(kept)])
    safe = "".join(c if c.isalnum() or c in "=.,-_" else "_" for c in name)
    if len(safe) > 200:
        raise ConfigError(
            "run_dir", "the overrides are too long for a folder name", remedy="give run_dir=PATH"
        )
    return Path("runs") / safe


def _typed(command: str, words: Sequence[str]) -> str:
    return shlex.join(["paramdiff", command, *words])
