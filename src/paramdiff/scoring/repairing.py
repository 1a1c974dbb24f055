"""REPAIR of vectors on a task's training data (:mod:`paramdiff.networks.repair`)."""

from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import size, suitable_threads
from paramdiff.networks.repair import repair
from paramdiff.scoring.batches import evened
from paramdiff.scoring.recalibration import BATCH
from paramdiff.scoring.scorer import Scorer


class Repair:
    """Gives mixtures of networks the mean statistics of those that were mixed.

    Args:
        scorer: knows the network, the places of its generated tensors, and the training data.
        items: how many of these to look at; all if there are no more.
    """

    def __init__(self, scorer: Scorer, items: int) -> None:
        self._scorer, self._items = scorer, items
        self._network = deepcopy(scorer.shared.model)
        self._frozen = {key: tensor.clone() for key, tensor in self._network.state_dict().items()}

    @cached_property
    def _batches(self) -> list[tuple[Any, ...]]:
        batches = evened(self._scorer.training_subset(self._items), BATCH)
        return [self._scorer.inputs(batch) for batch in batches]

    def __call__(
        self, v: Float[Tensor, "D"], endpoints: Float[Tensor, "k D"], weights: list[float] | None = None
    ) -> Float[Tensor, "D"]:
        """The mixture with its statistics given back; as it was if they are NaN or Inf.

        Args:
            v: the mixture.
            endpoints: the networks that were mixed, in one order of their units.
            weights: of each in the mixture; by default equal.
        """
        with suitable_threads(size(self._network)), torch.no_grad():
            found = repair(
                self._network, self._state(v), [self._state(end) for end in endpoints], self._batches,
                weights, self._scorer.call, self._scorer.spec.keys,
            )  # fmt: skip
        return v if found is None else self._scorer.spec.flatten(found).to(v)

    def _state(self, v: Tensor) -> dict[str, Tensor]:
        return {**self._frozen, **self._scorer.spec.unflatten(v.to(self._scorer.device))}
