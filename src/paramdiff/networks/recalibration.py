r"""Running statistics measured anew: what BatchNorm stores of its inputs, for a network whose weights are new.

In eval mode a BatchNorm layer subtracts a stored mean and divides by a stored deviation. These describe the
inputs of that layer in *this* network, and statistics that were generated, or averaged over networks, fit
generated weights only roughly. With batches :math:`1 \dots B` of training data,

.. math:: \mu = \frac1B \sum_b \operatorname{mean}(x_b), \qquad
          \sigma^2 = \frac1B \sum_b \operatorname{var}(x_b),

the cumulative averages of torch's ``momentum=None``, with the unbiased variance. As in training, a layer
normalises by the statistics of the batch while it measures, so later layers see the inputs they are made for
from the first batch on.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from paramdiff.networks.structure import evaluating

STATISTICS = ("running_mean", "running_var")


def tracking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Layers that measure running statistics in train mode, by name.

    These are BatchNorm of any kind, timm's with an activation and SyncBatchNorm included, and InstanceNorm where it
    tracks statistics. Frozen ones that never measure, such as torchvision's ``FrozenBatchNorm2d``, are not.
    """
    kind = nn.modules.batchnorm._NormBase
    named = network.named_modules()
    return {
        name: layer for name, layer in named if isinstance(layer, kind) and layer.running_mean is not None
    }


def statistics_keys(network: nn.Module) -> set[str]:
    """State-dict keys of the statistics that these layers measure."""
    return {f"{name}.{key}" for name in tracking_layers(network) for key in STATISTICS}


def recalibrate(
    network: nn.Module, batches: Iterable[tuple[Any, ...]], layers: Collection[str] | None = None,
    call: Callable[..., Any] | None = None,
) -> dict[str, Tensor] | None:  # fmt: skip
    """Statistics of a network's own inputs to its layers; the network stays as it was.

    Args:
        network: in any mode. All but the measured layers run in eval mode: dropout is off, other layers keep
            their statistics.
        batches: positional inputs of the network; every batch counts the same.
        layers: names of the layers to measure; by default all that can be.
        call: ``call(network, *inputs)`` runs the network, where that is not ``network(*inputs)``.

    Returns:
        ``<layer>.running_mean`` and ``<layer>.running_var`` of every layer that was used, or None if one of them
        holds NaN or Inf: the network is broken.
    """
    known = tracking_layers(network)
    chosen = {name: layer for name, layer in known.items() if layers is None or name in layers}
    with torch.no_grad(), evaluating(network.modules()), _measuring(chosen) as used:
        for inputs in batches:
            network(*inputs) if call is None else call(network, *inputs)
        found = {f"{name}.{key}": getattr(chosen[name], key) for name in used for key in STATISTICS}
    return found if all(bool(value.isfinite().all()) for value in found.values()) else None


@contextmanager
def _measuring(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, int]]:
    """These layers measure from a fresh state inside, and are as before after.

    Yields:
        how often each layer has run; filled as the network does.
    """
    used: dict[str, int] = {}
    before = {name: (layer.momentum, layer.training, dict(layer._buffers)) for name, layer in layers.items()}
    hooks = [layer.register_forward_pre_hook(_weigh(name, used)) for name, layer in layers.items()]
    try:
        for layer in layers.values():
            for key, value in layer.named_buffers(recurse=False):
                layer._buffers[key] = value.clone()
            layer.reset_running_stats()  # type: ignore[operator]
            layer.training = True
        yield used
    finally:
        for hook in hooks:
            hook.remove()
        for name, layer in layers.items():
            layer.momentum, layer.training, buffers = before[name]  # type: ignore[assignment]
            layer._buffers.update(buffers)


def _weigh(name: str, used: dict[str, int]) -> Any:
    """A hook that gives run number ``i`` of a layer the weight ``1 / i`` of a cumulative average.

    ``momentum=None`` means the same to BatchNorm, but "measure nothing" to InstanceNorm.
    """

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        used[name] = used.get(name, 0) + 1
        layer.momentum = 1 / used[name]  # type: ignore[assignment]

    return before
