"""The task that a zoo's manifest describes, which may come from anybody and is not trusted like the user's own words.

What a user types may name any code, folder or Hub id. What a *file* contains may not: a zoo from somebody else could
run a command or fetch anything. So of a described task only these are used:

* kinds, data sets and networks out of paramdiff's own lists (those of timm and torchvision by name). No
  ``package.module:attr``, no folder, no file, no Hub id, no pretrained weights: a zoo has weights of its own;
* data that is on this machine already;
* plain settings of the right types. They become dataclasses directly, so no text is ever interpolated;
* a network whose tensors are those of the zoo, compared before any memory is taken for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from paramdiff.errors import ParamdiffError, TaskError
from paramdiff.tasks.classification import Images, ImageTask
from paramdiff.tasks.image_sources import SOURCES, HubImages
from paramdiff.tasks.models.named import LIBRARIES, NETWORKS
from paramdiff.tasks.named_datasets import short_name
from paramdiff.tasks.task import Task
from paramdiff.validation import typed

DESCRIBED: Mapping[str, type[ImageTask]] = {kind.__name__: kind for kind in (ImageTask, Images)}

OPTIONS = {"small_stem", "stem_stride", "pretrained", "weights", "arguments"}
ARGUMENTS = {
    "img_size",
    "patch_size",
    "window_size",
    "drop_rate",
    "drop_path_rate",
    "embed_dim",
    "depth",
    "num_heads",
}
"""Options of a library's network, and arguments of its constructor, that say nothing but shapes and rates."""

LIBRARY_NAME = re.compile(r"\w[\w.-]*")


@dataclass
class UntrustedError(Exception):
    """Something that a description names and that only the user may ask for, and what to type for it.

    Attributes:
        names: what it names, in words.
        typed: words of the command line that name it.
    """

    names: str
    typed: str


def described_task(settings: Any, state: Mapping[str, Tensor]) -> Task:
    """The task of a zoo with the complete state dict ``state``, as its manifest describes it.

    Raises:
        UntrustedError: the description names code, or data that is not at hand.
        TaskError: it is no task of this version, or its network is not the zoo's.
        ConfigError: a value is out of range.
    """
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if kind == "OwnTask":
        name = shown(settings.get("name"))
        raise UntrustedError(f"code of its own ({name})", f"task=own task.name={name}")
    if not isinstance(kind, str) or kind not in DESCRIBED:
        raise TaskError(f"a task of the kind {shown(kind)}", expected=f"one of {', '.join(DESCRIBED)}")
    _require_plain_data(settings.get("data", ImageTask.data))
    _require_plain_model(settings.get("model"), settings.get("model_options") or {})
    wanted = typed(_without_kind(settings), DESCRIBED[kind], "its description")
    wanted = replace(
        wanted, model_options=_without_weights(wanted), reading=replace(wanted.reading, revision=None)
    )
    source = wanted.source()
    if isinstance(source, HubImages) and not source.at_hand:
        raise UntrustedError(
            f"the data set {source.name}, which is not on this machine", f"task={source.name}"
        )
    task = wanted.make()
    _require_same_network(task, state)
    return task


def _require_plain_data(data: Any) -> None:
    if not isinstance(data, str) or not (data in SOURCES or short_name(data)):
        raise UntrustedError(f"data of its own ({shown(data)})", f"task=images task.data={shown(data)}")


def _require_plain_model(model: Any, options: Any) -> None:
    """Refuse code, networks that no list has, and options that lead to files or to the network."""
    library, slash, name = model.partition("/") if isinstance(model, str) else ("", "", "")
    in_library = bool(slash) and library in LIBRARIES and LIBRARY_NAME.fullmatch(name) is not None
    if model is not None and model not in list(NETWORKS) and not in_library:
        raise UntrustedError(f"a network of its own ({shown(model)})", f"task=... task.model={shown(model)}")
    arguments = options.get("arguments") or {} if isinstance(options, dict) else None
    if not isinstance(options, dict) or not isinstance(arguments, dict):
        raise TaskError("model_options that are no settings", expected="names and values")
    strange = sorted(
        arguments.keys() - ARGUMENTS | (options.keys() - OPTIONS - ARGUMENTS if in_library else set())
    )
    strange += [
        key for key, value in _leaves(options) if in_library and isinstance(value, str) and key != "weights"
    ]
    if strange:
        raise UntrustedError(f"settings of {shown(model)} that may lead elsewhere ({shown(strange[0])})",
                      f"task=... task.model={shown(model)} task.model_options.{shown(strange[0])}=...")  # fmt: skip


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in _leaves(item, name)]
    return (
        [leaf for item in value for leaf in _leaves(item, key)] if isinstance(value, list) else [(key, value)]
    )


def _without_weights(wanted: ImageTask) -> dict[str, Any]:
    """The options of its network, which gets the zoo's weights and no others."""
    return {key: value for key, value in wanted.model_options.items() if key not in ("pretrained", "weights")}


def _require_same_network(task: Task, state: Mapping[str, Tensor]) -> None:
    """Raise unless the task's network has the tensors of ``state``; it is built without memory for that."""
    try:
        with torch.device("meta"):
            own = task.model().state_dict()
    except ParamdiffError:
        raise
    except Exception as error:  # a library's own code, for settings that no person chose
        raise TaskError(f"its network cannot be built ({type(error).__name__})") from None
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    wrong = [
        name for name, tensor in own.items() if shapes.get(name, list(tensor.shape)) != list(tensor.shape)
    ]
    wrong += sorted(shapes.keys() - own.keys())
    if wrong:
        raise TaskError(f"its network is not the one of the zoo, which has another {wrong[0]}")


def _without_kind(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_kind(value) for key, value in settings.items() if key != "kind"}
    return settings


def shown(value: Any) -> str:
    """Untrusted text in a message: short, and without control sequences."""
    text = value if isinstance(value, str) else type(value).__name__
    return ascii(text)[1:-1][:80]
