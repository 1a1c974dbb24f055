r"""REPAIR: the statistics of pre-activations, lost in averaging networks, given back.

Between two aligned networks units lie only roughly over each other, so that the pre-activations of their average vary
less than those of either, layer by layer, until the deepest hardly depend on the input. REPAIR (Jordan et al. 2022,
arXiv 2211.08403, equation 4) rescales each unit ``x`` of the average to the mean statistics of the endpoints:

.. math:: x' = \frac{\sigma}{\operatorname{std} x} (x - \operatorname{mean} x) + \mu, \qquad
          \mu = \sum_k w_k \operatorname{mean} x_k, \quad \sigma = \sum_k w_k \operatorname{std} x_k.

Behind a linear or convolutional layer that is another weight, :math:`W' = \tfrac{\sigma}{\operatorname{std} x} W`, and
another bias, so the network keeps its architecture; a layer without a bias is only scaled. Where BatchNorm follows,
its running statistics do the same, and are measured anew (:mod:`paramdiff.networks.recalibration`). Both happen in one
pass in which every layer already sees the corrected outputs of those before it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.networks.recalibration import recalibrate, tracking_layers
from paramdiff.networks.structure import evaluating
from paramdiff.networks.symmetry import Symmetries, find_symmetries
from paramdiff.networks.unit_scaling import CONVOLUTIONS

Call = Callable[..., Any]
Statistics = tuple[Float[Tensor, "P"], Float[Tensor, "P"]]
"""Mean and standard deviation of each unit's pre-activation."""

LAYERS = (nn.Linear, *CONVOLUTIONS)

SMALLEST = 1e-6
"""Deviations below this fraction of the endpoints' are those of a dead unit, which no factor brings back."""


def repair(
    network: nn.Module, state: Mapping[str, Tensor], endpoints: Sequence[Mapping[str, Tensor]],
    batches: Sequence[tuple[Any, ...]], weights: Sequence[float] | None = None, call: Call | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Tensor] | None:  # fmt: skip
    """A mixture of networks with the mean statistics of those that were mixed.

    Corrected are all hidden layers of :data:`LAYERS` in groups of units that
    :func:`paramdiff.networks.symmetry.find_symmetries` finds, except where BatchNorm follows: its statistics are
    measured anew. Without either the state comes back as it was.

    Args:
        network: of this kind; it is left as it was.
        state: the mixture, a complete state dict.
        endpoints: complete state dicts of the networks that were mixed, in one order of their units.
        batches: positional inputs of the network, of equal size; the same serve for all networks.
        weights: of the endpoints in the mixture; by default equal.
        call: ``call(network, *inputs)`` runs the network, where that is not ``network(*inputs)``.
        only: keys of the tensors that may change; by default all.

    Returns:
        a complete state dict, or None if a statistic is NaN or Inf: the network is broken.
    """
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    layers = _corrected_layers(network, only)
    shares = [1 / len(endpoints)] * len(endpoints) if weights is None else weights
    try:
        wanted = _mixed(
            [_loaded_statistics(network, end, layers, batches, call) for end in endpoints], shares
        )
        network.load_state_dict(dict(state))
        with _correcting(network, wanted) as factors:
            measured = recalibrate(network, batches, _measured_layers(network, only), call)
        if measured is None or not all(bool(x.isfinite().all()) for pair in factors.values() for x in pair):
            return None
        return {**state, **measured, **_folded(network, factors)}
    finally:
        network.load_state_dict(before)


def _corrected_layers(network: nn.Module, only: Collection[str] | None) -> list[str]:
    """Names of the layers that make hidden units and are not followed by a norm with running statistics."""
    symmetries = find_symmetries(network)
    groups = symmetries.groups if isinstance(symmetries, Symmetries) else ()
    tracking = tracking_layers(network)
    found: dict[str, None] = {}
    for group in groups:
        owners = {key.rpartition(".")[0] for key in group.keys}
        if not owners & tracking.keys():
            makers = [place.key.rpartition(".")[0] for place in group.places if place.role == "makes"]
            found |= dict.fromkeys(name for name in makers if type(network.get_submodule(name)) in LAYERS)
    may = lambda name: only is None or all(key in only for key in _tensors(network, name))
    return [name for name in found if may(name)]


def _measured_layers(network: nn.Module, only: Collection[str] | None) -> list[str]:
    return [name for name in tracking_layers(network) if only is None or f"{name}.running_mean" in only]


def _tensors(network: nn.Module, name: str) -> list[str]:
    return [f"{name}.{key}" for key, _ in network.get_submodule(name).named_parameters()]


def _loaded_statistics(
    network: nn.Module, state: Mapping[str, Tensor], layers: Sequence[str], batches: Sequence[tuple[Any, ...]],
    call: Call | None,
) -> dict[str, Statistics]:  # fmt: skip
    """Of each layer's outputs in one network, in eval mode."""
    network.load_state_dict(dict(state))
    sums = {name: _Moments() for name in layers}
    hooks = [network.get_submodule(name).register_forward_hook(sums[name].hook) for name in layers]
    try:
        with torch.no_grad(), evaluating(network.modules()):
            for inputs in batches if layers else ():
                network(*inputs) if call is None else call(network, *inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: one.statistics for name, one in sums.items() if one.count}


def _mixed(found: Sequence[dict[str, Statistics]], shares: Sequence[float]) -> dict[str, Statistics]:
    def mean(name: str, part: int) -> Tensor:
        return torch.stack([share * one[name][part] for one, share in zip(found, shares, strict=True)]).sum(0)

    return {name: (mean(name, 0), mean(name, 1)) for name in found[0]}


class _Moments:
    """Mean and deviation over batches of equal size, as cumulative averages of each batch's mean and variance."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | float = 0.0
        self._variance: Tensor | float = 0.0

    def add(self, outputs: Tensor, axis: int) -> Statistics:
        """Take in a batch.

        Returns:
            its own statistics.
        """
        rows = outputs.movedim(axis, -1).flatten(0, -2).double()
        mean, variance = rows.mean(0), rows.var(0, correction=0)
        self.count += 1
        self._mean = self._mean + (mean - self._mean) / self.count
        self._variance = self._variance + (variance - self._variance) / self.count
        return mean, variance.sqrt()

    def hook(self, layer: nn.Module, inputs: Any, outputs: Tensor) -> None:
        self.add(outputs, unit_axis(layer))

    @property
    def statistics(self) -> Statistics:
        assert isinstance(self._mean, Tensor) and isinstance(self._variance, Tensor)
        return self._mean, self._variance.sqrt()


def unit_axis(layer: nn.Module) -> int:
    """The axis of a layer's outputs along which its units lie, counted from the end."""
    return -1 - len(getattr(layer, "kernel_size", ()))


@contextmanager
def _correcting(network: nn.Module, wanted: Mapping[str, Statistics]) -> Iterator[dict[str, Statistics]]:
    """Each batch of these layers' outputs has the wanted statistics inside.

    Yields:
        ``{layer: (factor, shift)}`` over all batches, complete at the end.
    """
    moments = {name: _Moments() for name in wanted}
    found: dict[str, Statistics] = {}

    def corrector(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
            axis = unit_axis(layer)
            own = moments[name].add(outputs, axis)
            found[name] = _correction(wanted[name], moments[name].statistics, layer)
            factor, shift = (x.to(outputs).unflatten(0, (-1, *[1] * (-1 - axis)))
                             for x in _correction(wanted[name], own, layer))  # fmt: skip
            return outputs * factor + shift

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(corrector(name)) for name in wanted]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _correction(wanted: Statistics, found: Statistics, layer: nn.Module) -> Statistics:
    """Factor and shift of each unit; a layer without a bias cannot be shifted."""
    (mean, deviation), (own_mean, own_deviation) = wanted, found
    alive = own_deviation > SMALLEST * deviation
    factor = torch.where(alive, deviation / own_deviation, 1.0)
    shift = mean - factor * own_mean
    return factor, shift if layer.bias is not None else torch.zeros_like(shift)


def _folded(network: nn.Module, factors: Mapping[str, Statistics]) -> dict[str, Tensor]:
    """The layers' tensors with their corrections."""
    found: dict[str, Tensor] = {}
    for name, (factor, shift) in factors.items():
        layer: Any = network.get_submodule(name)
        weight = layer.weight.detach()
        axis = 1 if getattr(layer, "transposed", False) else 0
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        found[f"{name}.weight"] = weight * factor.to(weight).view(shape)
        if layer.bias is not None:
            bias = layer.bias.detach()
            found[f"{name}.bias"] = bias * factor.to(bias) + shift.to(bias)
    return found
