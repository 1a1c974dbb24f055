"""The key ``tracker``: names of accelerate's trackers, or somebody's own as ``package.module:attr``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from paramdiff.distributed import launched_rank
from paramdiff.errors import ConfigError, near, short
from paramdiff.files import read_json
from paramdiff.tasks.plugins import load_attribute
from paramdiff.tracking import PROJECT, Maker, Tracking


def tracker_names(value: Any) -> list[str]:
    """``tracker=tensorboard``, ``tracker=[tensorboard,wandb]`` or ``tracker=null`` as a list, each once.

    Raises:
        ConfigError: anything else.
    """
    if value is None:
        return []
    names = [value] if isinstance(value, str) else value
    if (
        isinstance(names, str)
        or not isinstance(names, Sequence)
        or not all(isinstance(n, str) for n in names)
    ):
        raise ConfigError("tracker", f"{short(value)} is no name", expected="tensorboard, wandb or a list")
    return list(dict.fromkeys(names))


def trackers(names: Sequence[str]) -> dict[str, Maker]:
    """What makes each tracker; nothing is started yet.

    Raises:
        ConfigError: accelerate or the tracker's own library is not installed, or there is no such tracker.
    """
    return {name: partial(_made, _tracker_class(name)) for name in names}


def _tracker_class(name: str) -> Any:
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
        from accelerate.utils import LoggerType
    except ImportError:
        raise ConfigError("tracker", "accelerate is not installed",
                          remedy="run `pip install 'paramdiff[scale]'`") from None  # fmt: skip
    if ":" in name:
        return _own_class(name)
    known = {str(key): kind for key, kind in LOGGER_TYPE_TO_CLASS.items()}
    if name not in known:
        raise ConfigError("tracker", f"there is no tracker {name!r}", remedy=near(name, known))
    built_in, installed = (
        {str(kind) for kind in LoggerType},
        {str(kind) for kind in get_available_trackers()},
    )
    if name in built_in - installed:
        library = name.replace("_", "-")
        raise ConfigError("tracker", f"{library} is not installed", remedy=f"run `pip install {library}`")
    return known[name]


def _own_class(name: str) -> Any:
    from accelerate.tracking import GeneralTracker

    found = load_attribute(name)
    if not (isinstance(found, type) and issubclass(found, GeneralTracker)):
        expected = "a subclass of accelerate.tracking.GeneralTracker"
        raise ConfigError("tracker", f"{name} is {short(found)}", expected=expected)
    return found


def _made(kind: Any, folder: Path, identity: str) -> Any:
    """A tracker, started; of Weights & Biases the same run again when ours goes on."""
    extra: dict[str, Any] = {}
    if kind.name == "wandb":
        extra = {"id": identity, "resume": "allow", "name": folder.parent.name, "dir": str(folder)}
    place = [str(folder)] if kind.requires_logging_directory else []
    made = kind(PROJECT, *place, **extra)
    if hasattr(made, "start"):  # since accelerate 1.8
        made.start()
    return made


@contextmanager
def tracked(makers: Mapping[str, Maker], folder: Path, config: DictConfig) -> Iterator[None]:
    """Inside, the losses of a run are logged as they come; at its end those of stages that other processes did, or that
    were done before, and what its ``results.json`` holds. Nothing happens without trackers.
    """
    tracking = None
    if makers and launched_rank().rank == 0:
        settings: Any = OmegaConf.to_container(config)
        tracking = Tracking(makers, folder, settings)
    with tracking.active() if tracking else nullcontext():
        yield
        if tracking and (Path(folder) / "results.json").is_file():
            for tag, points in _kept_curves(Path(folder) / "stats.jsonl").items():
                tracking.catch_up(tag, points)
            tracking.results(read_json(Path(folder) / "results.json"))


def _kept_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Losses by step of every curve in ``stats.jsonl``, by the names under which they are logged as they come."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        point = json.loads(line)
        stage = "fit" if point["stage"] == "fit" else f"compare/{point['stage']}/fit"
        found.setdefault(f"{stage}/{point['name']}", []).append((point["step"], point["loss"]))
    return found
