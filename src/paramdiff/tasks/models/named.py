"""A network by name and options, checked against the images it is for."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from paramdiff.devices import made_if_fits
from paramdiff.errors import ConfigError, TaskError, near
from paramdiff.networks.structure import evaluating
from paramdiff.tasks.models.cifar_resnet import CIFAR_RESNETS
from paramdiff.tasks.models.library import LibraryNetwork, Timm, Torchvision
from paramdiff.tasks.models.network import Network, Shape
from paramdiff.tasks.models.small import ConvNet, ConvNet3, HyperCnn, Mlp
from paramdiff.tasks.plugins import load_attribute, made

NETWORKS: dict[str, type[Network]] = {
    "convnet": ConvNet, "convnet3": ConvNet3, "hyper_cnn": HyperCnn, "mlp": Mlp, **CIFAR_RESNETS,
}  # fmt: skip
LIBRARIES: dict[str, type[LibraryNetwork]] = {kind.library: kind for kind in (Timm, Torchvision)}


def make_network(name: str, options: Mapping[str, Any], shape: Shape, classes: int) -> nn.Module:
    """A fresh module by name.

    Raises:
        ConfigError: no such network or option; keys ``model`` and ``model_options``.
        TaskError: it cannot be imported or made, or does not take such images or tell such classes apart.
    """
    if _in_library(name):
        network = _of_library(name, options).build(shape, classes)
    elif ":" in name:
        network = _own(name, options)
    else:
        settings = _settings(name, _known(name), options)
        network = made_if_fits("model_options", lambda: settings.build(shape, classes))
    _require_fit(name, network, shape, classes)
    return network


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check what can be checked of a network's options without its library, its code or its images.

    Raises:
        ConfigError: as :func:`make_network`.
    """
    if _in_library(name):
        _of_library(name, options)
    elif ":" not in name:
        _settings(name, _known(name), options)


def _in_library(name: str) -> bool:
    library, slash, _ = name.partition("/")
    return bool(slash) and library in LIBRARIES


def _of_library(name: str, options: Mapping[str, Any]) -> LibraryNetwork:
    """A library's network; what is no setting of ours is an argument of the library's constructor.

    Unless it is spelt so much like one of ours that ours was probably meant.
    """
    library, _, rest = name.partition("/")
    kind = LIBRARIES[library]
    known = [item.name for item in fields(kind) if item.name != "name"]
    own = {
        key: value for key, value in options.items() if key in known or get_close_matches(key, known, 1, 0.8)
    }
    passed = {key: value for key, value in options.items() if key not in own}
    given = own.get("arguments", {})
    if passed and isinstance(given, Mapping):
        if twice := next((key for key in passed if key in given), None):
            raise ConfigError(
                f"model_options.{twice}", "it is among the arguments as well", expected="one of the two"
            )
        own["arguments"] = {**given, **passed}
    found = _settings(name, kind, own, name=rest)
    assert isinstance(found, LibraryNetwork)
    return found


def _known(name: str) -> type[Network]:
    if name not in NETWORKS:
        raise ConfigError(
            "model", f"{name!r} is not known",
            expected=f"{', '.join(NETWORKS)}, timm/NAME, torchvision/NAME or package.module:attr",
            remedy=near(name, NETWORKS),
        )  # fmt: skip
    return NETWORKS[name]


def _settings(title: str, kind: type[Network], options: Mapping[str, Any], **fixed: str) -> Network:
    known = [item.name for item in fields(kind) if item.name not in fixed]  # type: ignore[arg-type]
    for key in options:
        if key not in known:
            remedy = near(key, known) if known else "leave it out"
            raise ConfigError(f"model_options.{key}", f"{title} has no such option", remedy=remedy)
    try:
        return kind(**fixed, **options)
    except ConfigError as error:
        raise error.under("model_options") from None
    except TypeError as error:
        raise ConfigError("model_options", f"{dict(options)} do not fit {title} ({error})") from None


def _own(name: str, options: Mapping[str, Any]) -> nn.Module:
    network = made(name, load_attribute(name), options, "set task.model_options to what it takes")
    if not isinstance(network, nn.Module):
        raise TaskError(f"{name} returned a {type(network).__name__}", expected="a torch.nn.Module")
    return network


def _require_fit(name: str, network: nn.Module, shape: Shape, classes: int) -> None:
    """Run the network on one black image, so that a misfit is known before anything is read or trained.

    Raises:
        TaskError: it fails, or has fewer outputs than there are classes.
    """
    size = "x".join(map(str, shape))
    device = next((tensor.device for tensor in network.state_dict().values()), None)
    try:
        with evaluating(network.modules()), torch.no_grad():
            outputs = network(torch.zeros(1, *shape, device=device))
    except Exception as error:  # whatever a network raises
        text = str(error).strip().partition("\n")[0][:160]
        raise TaskError(
            f"{name} cannot take images of {size} ({type(error).__name__}: {text})",
            remedy="set task.image_size (and task.channels) to what it is made for",
        ) from error
    logits = isinstance(outputs, Tensor) and outputs.ndim == 2
    if not logits or outputs.shape[1] < classes:
        came = (
            f"outputs of shape {list(outputs.shape)}"
            if isinstance(outputs, Tensor)
            else f"a {type(outputs).__name__}"
        )
        raise TaskError(
            f"{name} gives {came} for one image",
            expected=f"[1, {classes}], one number for each class",
        )
