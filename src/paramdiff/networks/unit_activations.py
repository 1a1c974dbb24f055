"""Activations of a network's hidden units, as the layers that read them see them.

The units of a group (:mod:`paramdiff.networks.symmetry`) are read from the traced graph, wherever another layer reads
them: behind their nonlinearity, and on every level of a residual stream. Of a convolutional value each position counts
as an item of its own, of a flattened one each entry of a unit; from each value the same few rows are drawn for every
network.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from paramdiff.errors import ParamdiffError, ZooError
from paramdiff.networks.structure import Untraceable, evaluating, trace
from paramdiff.networks.symmetry import Group
from paramdiff.seeds import generator

ROWS = 4096
"""Rows that are kept of each value, over all batches: the standard error of a correlation is then below 0.016."""


class UnitActivations:
    """Reads activations of networks that differ in their weights only.

    Args:
        model: the network; a copy of it runs.
        groups: of hidden units.
        batches: positional inputs of the network, the same for every network.
        call: ``call(network, *inputs)`` runs the network, where that is not ``network(*inputs)``.
        device: where the inputs are.

    Raises:
        ZooError: the network cannot be traced with as many inputs.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[Group], batches: Sequence[tuple[Any, ...]],
        call: Callable[..., Any] | None = None, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self._groups, self._batches, self._call = groups, batches, call
        self._network = deepcopy(model).to(device)
        graph = trace(self._network, None if call else len(batches[0]))
        if isinstance(graph, Untraceable):
            raise ZooError("activations cannot be read", remedy=graph.reason)
        self._reader = _Reader(self._network, graph.graph, groups, ROWS // len(batches) + 1)

    def __call__(self, state: Mapping[str, Tensor]) -> list[list[Float[Tensor, "_ _"]]]:
        """Activations of one network, a list of values for each group; on the CPU.

        Raises:
            ZooError: the graph cannot be run with these inputs.
        """
        self._network.load_state_dict(state)
        read: dict[str, list[Tensor]] = {}
        with torch.no_grad(), evaluating(self._network.modules()):
            for number, inputs in enumerate(self._batches):
                for name, rows in self._run(inputs, number).items():
                    read.setdefault(name, []).append(rows)
        return [
            [torch.cat(read[value.node]) for value in group.values if value.node in read]
            for group in self._groups
        ]

    def _run(self, inputs: tuple[Any, ...], number: int) -> dict[str, Tensor]:
        self._reader.begin(number)
        try:
            self._reader(*inputs) if self._call is None else self._call(self._reader, *inputs)
        except ParamdiffError:
            raise
        except Exception as error:  # a user's forward may raise anything
            said = " ".join(str(error).split())[:200]
            raise ZooError(
                f"activations cannot be read: the traced network does not run ({said})",
                expected="a network that runs on its inputs alone",
                remedy="use zoo.align=weights",
            ) from None
        return self._reader.read


class _Reader(nn.Module):
    """A network as its graph, which keeps some rows of some values as it runs."""

    def __init__(self, network: nn.Module, graph: fx.Graph, groups: Sequence[Group], rows: int) -> None:
        super().__init__()
        self._interpreter = _Interpreter(network, graph=graph)
        self._interpreter.keep = self._keep
        self._axes = {value.node: (value.axis, group.size) for group in groups for value in group.values}
        self._rows = rows
        self.begin(0)

    def begin(self, number: int) -> None:
        """Forget what was read; ``number`` of the batch chooses the rows to keep."""
        self._number, self.read = number, dict[str, Tensor]()

    def forward(self, *inputs: Any) -> Any:
        return self._interpreter.run(*inputs)

    def _keep(self, name: str, value: Any) -> None:
        if name in self._axes:
            axis, size = self._axes[name]
            self.read[name] = _some_rows(value.movedim(axis, -1), size, self._rows, name, self._number)


def _some_rows(
    x: Float[Tensor, "*items entries"], size: int, most: int, *key: int | str
) -> Float[Tensor, "n {size}"]:
    """Of all items and of all entries of a unit, ``most`` at random, with replacement; all if there are no more."""
    block = x.shape[-1] // size
    items, wanted = x.shape[:-1].numel(), -(-most // block)
    if items > wanted:
        drawn = torch.randint(items, (wanted,), generator=generator("activations", *key)).to(x.device)
        x = x[torch.unravel_index(drawn, x.shape[:-1])]
    return x.reshape(-1, size, block).transpose(1, 2).reshape(-1, size).float().cpu()


class _Interpreter(fx.Interpreter):
    keep: Callable[[str, Any], None]

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.keep(n.name, value)  # at once: a later operation may write into it
        return value
