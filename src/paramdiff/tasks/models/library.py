"""Networks of timm and torchvision, with the library's own weights, those of a file, or none.

The number of classes goes to the library's constructor. Weights that were made for other classes are kept
but for the head; one line says which tensors start afresh.
"""

import inspect
import re
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from paramdiff.errors import ConfigError, TaskError, near, short
from paramdiff.progress import say
from paramdiff.settings import Range, Ranges, check_ranges
from paramdiff.tasks.models.network import Network, Shape
from paramdiff.tasks.models.stem import small_stem, take_channels
from paramdiff.tasks.plugins import load_library
from paramdiff.zoo.state_dicts import load_weights, read_state

TWO_HEADED = ("googlenet", "inception_v3")
"""Networks of torchvision that give more than logits in train mode, unless told not to."""

Built = tuple[nn.Module, list[str]]
"""A network, and the names of those of its tensors that start afresh although weights were given."""


@dataclass
class LibraryNetwork(Network):
    """
    Attributes:
        name: what the library calls it.
        pretrained: start from the weights that the library offers.
        weights: start from this state dict, e.g. the library's, fetched by hand.
        small_stem: first convolution 3 x 3 and no maximum after it: for images of about 32 x 32.
        stem_stride: of that convolution.
        arguments: further arguments of the library's constructor, e.g. ``{img_size: 32}``; they may also stand
            beside the settings here.
    """

    library: ClassVar[str]
    RANGES: ClassVar[Ranges] = {"stem_stride": Range(least=1, most=1000)}

    name: str
    pretrained: bool = False
    weights: str | None = None
    small_stem: bool = False
    stem_stride: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not isinstance(self.arguments, Mapping):
            raise ConfigError(
                "arguments", f"{short(self.arguments)} is no dictionary", expected="NAME: VALUE pairs"
            )
        if "checkpoint_path" in self.arguments:  # some versions of timm unpickle whatever is there
            raise ConfigError(
                "checkpoint_path", "the library would read the file", remedy="give it as weights=FILE"
            )
        if self.pretrained and self.weights is not None:
            raise ConfigError("weights", "pretrained is set as well", expected="one of the two")

    @property
    def title(self) -> str:
        return f"{self.library}/{self.name}"

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """
        Raises:
            TaskError: the library is not installed or has no such network, its weights cannot be had, or its
                constructor refuses the arguments.
            CheckpointError: the file does not fit, in more than the head and the stem.
        """
        if self.name not in self._known():
            raise TaskError(
                f"{self.library} has no network {self.name!r}", remedy=near(self.name, self._known())
            )
        network, afresh = self._make(shape[0], classes)
        stem = small_stem(network, self.stem_stride) if self.small_stem else []
        afresh = [*(name for name in afresh if name not in stem), *stem]
        if self.weights is not None:
            state = read_state(Path(self.weights).expanduser(), network.state_dict())
            afresh = load_but_head(network, state, self.weights, classes, afresh)
        if afresh and (self.pretrained or self.weights is not None):
            some = f"{', '.join(afresh[:4])}{f' and {len(afresh) - 4} more' if len(afresh) > 4 else ''}"
            say(f"  {self.title}: weights kept, but {some} start afresh ({classes} classes)")
        return network

    @abstractmethod
    def _known(self) -> list[str]:
        """Names of the library's networks."""

    @abstractmethod
    def _make(self, channels: int, classes: int) -> Built:
        """The network, with the library's weights if they are wanted."""

    def _refused(self, error: Exception) -> Exception:
        unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if unknown and unknown[2] in self.arguments:
            takes = [*(item.name for item in fields(self)), *_parameters(unknown[1], error)]
            return ConfigError(
                f"model_options.{unknown[2]}",
                f"{self.title} has no such option",
                remedy=near(unknown[2], takes),
            )
        return TaskError(
            f"{self.title} with {short(dict(self.arguments))} failed ({_one_line(error)})",
            remedy="set task.model_options to what it takes",
        )

    def _unreachable(self, error: Exception, place: str) -> TaskError:
        return TaskError(
            f"the pretrained weights of {self.title} cannot be had ({_one_line(error)})",
            remedy=f"fetch them from {place}, then set task.model_options.pretrained=false "
            "task.model_options.weights=FILE",
        )


@dataclass
class Timm(LibraryNetwork):
    """A network of timm, which adapts its weights to the number of channels by itself."""

    library: ClassVar[str] = "timm"

    def _known(self) -> list[str]:
        timm = load_library("timm")
        return [*timm.list_models(), *timm.list_pretrained()]  # without and with the tag of some weights

    def _make(self, channels: int, classes: int) -> Built:
        timm = load_library("timm")
        wanted = {"num_classes": classes, "in_chans": channels, **self.arguments}
        if not self.pretrained:
            return self._create(wanted), []
        config = timm.get_pretrained_cfg(self.name)
        if not timm.models.is_model_pretrained(self.name):
            raise TaskError(
                f"timm has no weights for {self.name!r}", remedy=near(self.name, timm.list_pretrained())
            )
        try:
            require_on_hub(config.hf_hub_id)
            network = timm.create_model(self.name, pretrained=True, **wanted)
        except Exception as error:  # the hub's and the constructor's are of any kind
            self._create(wanted)  # if this fails, it was not the weights
            raise self._unreachable(error, _place(config)) from None
        return network, [] if config.num_classes == classes else _head(network)

    def _create(self, wanted: Mapping[str, Any]) -> nn.Module:
        try:
            return load_library("timm").create_model(self.name, **wanted)
        except Exception as error:
            raise self._refused(error) from None


@dataclass
class Torchvision(LibraryNetwork):
    """A classification network of torchvision."""

    library: ClassVar[str] = "torchvision"

    def _known(self) -> list[str]:
        models = load_library("torchvision").models
        return models.list_models(module=models)

    def _make(self, channels: int, classes: int) -> Built:
        models = load_library("torchvision").models
        two_headed = self.name in TWO_HEADED
        plain = {"aux_logits": False, "transform_input": self.pretrained} if two_headed else {}
        try:
            network = models.get_model(self.name, num_classes=classes, **{**plain, **self.arguments})
        except Exception as error:
            raise self._refused(error) from None
        stem = [] if channels == 3 else take_channels(network, channels)
        if not self.pretrained:
            return network, stem
        weights = models.get_model_weights(self.name).DEFAULT
        try:
            state = models.get_model(self.name, weights=weights, **self.arguments).state_dict()
        except Exception as error:
            raise self._unreachable(error, weights.url) from None
        if two_headed:
            state = {name: state[name] for name in network.state_dict()}
        return network, load_but_head(network, state, self.title, classes, stem)


def load_but_head(
    network: nn.Module, state: Mapping[str, Tensor], source: str, classes: int, new: Collection[str]
) -> list[str]:
    """Load a state dict whose head was made for another number of classes.

    Args:
        new: names of tensors that may have another shape too.

    Returns:
        Names of the tensors that start afresh.

    Raises:
        CheckpointError: anything else does not fit.
    """
    own = network.state_dict()
    afresh = [
        name
        for name, tensor in own.items()
        if name in state
        and state[name].shape != tensor.shape
        and (name in new or _is_head(tensor, state[name], classes))
    ]
    load_weights(network, {**state, **{name: own[name] for name in afresh}}, source)
    return afresh


def _is_head(own: Tensor, given: Tensor, classes: int) -> bool:
    return own.ndim > 0 and own.shape[0] == classes and own.shape[1:] == given.shape[1:]


def _head(network: Any) -> list[str]:
    """Names of the tensors of timm's classifier, which has several modules in a few networks."""
    found = network.get_classifier()
    heads = set(found if isinstance(found, (tuple, list)) else [found])
    paths = [path for path, module in network.named_modules() if module in heads]
    return [name for name in network.state_dict() if name.rpartition(".")[0] in paths]


def require_on_hub(repository: str | None) -> None:
    """Check once, quickly, whether the Hugging Face Hub answers: its own download retries for a minute.

    Raises:
        Exception: of whatever kind the hub's library has for it.
    """
    if repository is None:
        return
    import huggingface_hub as hub

    cached = [
        hub.try_to_load_from_cache(repository, f"{n}") for n in ("model.safetensors", "pytorch_model.bin")
    ]
    if not any(isinstance(file, str) for file in cached):
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, "config.json"), timeout=10)


def _parameters(name: str, error: Exception) -> list[str]:
    """What the class of this name takes, which refused an argument; found in modules that the error went through."""
    trace, found = error.__traceback__, None
    while trace is not None:
        found = trace.tb_frame.f_globals.get(name, found)
        trace = trace.tb_next
    return list(inspect.signature(found).parameters) if isinstance(found, type) else []


def _place(config: Any) -> str:
    return f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)


def _one_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
