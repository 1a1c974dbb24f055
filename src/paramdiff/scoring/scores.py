"""What N networks did on a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Outcomes and metrics of N networks on a data set.

    Attributes:
        outcomes: by name, [N, items, ...]; booleans as bool, other values as float32; empty if the task gives none.
            A network that returned NaN for an item is wrong there: ``correct`` is False, ``nll`` is infinite.
        metrics: by name, float64 [N], the task's first metric first. Where that one is NaN it is
            replaced by the worst infinity, so that such a network is never selected.
        ensembles: the same of groups of these networks, one row a group; None if none were asked for or
            the task has none. A group with a network that returned NaN for an item is wrong there too:
            leaving the network out would favour generators whose samples break.
    """

    outcomes: dict[str, Tensor]
    metrics: dict[str, Tensor]
    ensembles: "Scores | None" = None

    @property
    def metric(self) -> Float64[Tensor, "N"]:
        """The task's first metric."""
        return next(iter(self.metrics.values()))

    def take(self, rows: Tensor) -> "Scores":
        """The scores of these networks, in this order, without ensembles."""
        outcomes = {name: value[rows] for name, value in self.outcomes.items()}
        return Scores(outcomes, {name: value[rows] for name, value in self.metrics.items()})

    @property
    def nll(self) -> Float64[Tensor, "N"] | None:
        """Mean negative log-likelihood of each network, if the task gives one."""
        nll = self.outcomes.get("nll")
        return None if nll is None else nll.double().mean(1)


def concatenated(parts: Sequence[Scores]) -> Scores:
    """The scores of all networks from those of some, without ensembles."""
    return Scores(
        {name: torch.cat([part.outcomes[name] for part in parts]) for name in parts[0].outcomes},
        {name: torch.cat([part.metrics[name] for part in parts]) for name in parts[0].metrics},
    )
