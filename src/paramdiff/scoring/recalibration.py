"""Generated running statistics replaced by measured ones, the same way for every generator.

Every network sees the same items of training data in the same batches, without augmentation, so that a network's
statistics depend on nothing but its own parameters. The items are kept in memory between networks.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from paramdiff.devices import NETWORKS_AT_ONCE, blocks, pieces_within, size, suitable_threads
from paramdiff.errors import ConfigError
from paramdiff.networks.recalibration import recalibrate, statistics_keys
from paramdiff.parameters.normaliser import SMALLEST_POSITIVE
from paramdiff.parameters.spec import TensorSpec
from paramdiff.progress import bar, say
from paramdiff.scoring.batches import evened
from paramdiff.scoring.feedback import TrainingFeedback
from paramdiff.scoring.output_groups import distinct
from paramdiff.scoring.scorer import Scorer

BATCH = 128
"""Least items in a batch: about as many as networks are trained with."""


class Recalibration:
    """Measures the running statistics that are part of a zoo's generated parameters.

    Args:
        scorer: knows the network, the places of its generated tensors, and the training data.
        items: how many of these to look at; all if there are no more.

    Attributes:
        tensors: the statistics among the generated tensors.

    Raises:
        ConfigError: there are none.
    """

    def __init__(self, scorer: Scorer, items: int) -> None:
        self.scorer, self.spec, self.items = scorer, scorer.spec, items
        self._network = deepcopy(scorer.shared.model)
        known = statistics_keys(self._network)
        self.tensors = [spec for spec in self.spec.tensors if known.intersection(_keys(spec))]
        if not self.tensors:
            raise ConfigError(
                "recalibrate", f"zoo.select={self.spec.select} generates no running statistics of a BatchNorm layer",
                expected="a selection with running_mean or running_var",
                remedy="select them too (zoo.select=all), or set recalibrate=0",
            )  # fmt: skip
        generated = {key for spec in self.tensors for key in _keys(spec)}
        self._layers = {key.rpartition(".")[0] for key in known & generated}

    @property
    def seen(self) -> int:
        """Items that are looked at."""
        return self.scorer.training_items(self.items)

    @cached_property
    def _inputs(self) -> list[tuple[Any, ...]]:
        batches = evened(self.scorer.training_subset(self.items), BATCH)
        return [self.scorer.inputs(batch) for batch in batches]

    def __call__(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """The same networks with measured statistics; all other coordinates keep their bits.

        A network whose activations are NaN or Inf keeps the statistics it has.
        """
        first, again = distinct(vectors)
        found, broken = vectors.clone(), 0
        with suitable_threads(size(self._network)):
            for number, row in enumerate(bar(first, "recalibrating", unit="network")):
                measured = self._measure(vectors[row])
                broken += measured is None
                for name, value in (measured or {}).items():
                    found[again == number, self.spec.slices[name]] = value
        if broken:
            say(f"  {broken} of {len(first)} different networks give NaN or Inf and keep their statistics")
        return found

    def each(self, vectors: Float[Tensor, "N D"]) -> Iterator[Tensor]:
        """The same, one network [D] after the other; vectors may be memory-mapped, and stay there."""
        for block in blocks(len(vectors), pieces_within(NETWORKS_AT_ONCE, vectors.shape[1])):
            yield from self(vectors[block])

    def _measure(self, v: Float[Tensor, "D"]) -> dict[str, Tensor] | None:
        """One network's generated statistics as they go into its vector, by tensor; None if it is broken."""
        self._network.load_state_dict(self.spec.unflatten(v), strict=False)
        state = recalibrate(self._network, self._inputs, self._layers, self.scorer.call)
        if state is None:
            return None
        kept = {spec: key for spec in self.tensors for key in _keys(spec) if key in state}
        flat = {spec: state[key].flatten().cpu().to(v.dtype) for spec, key in kept.items()}
        return {s.name: x.clamp_min(SMALLEST_POSITIVE) if s.positive else x for s, x in flat.items()}

    def drawn(self, vectors: Float[Tensor, "N D"]) -> dict[str, Tensor]:
        """The statistics in these vectors, {name: [N, ...]}."""
        return {spec.name: vectors[:, self.spec.slices[spec.name]].clone() for spec in self.tensors}

    def restored(self, vectors: Float[Tensor, "N D"], drawn: Mapping[str, Tensor]) -> Float[Tensor, "N D"]:
        """Vectors with these statistics in place of theirs, to undo a recalibration."""
        found = vectors.clone()
        for name, values in drawn.items():
            found[:, self.spec.slices[name]] = values
        return found


@dataclass(frozen=True)
class RecalibratedFeedback:
    """Feedback of a task on networks as they are once recalibrated
    (:class:`paramdiff.generators.context.Feedback`).
    """

    feedback: TrainingFeedback
    recalibration: Recalibration

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        return self.feedback(self.recalibration(vectors))

    def mistakes(self, vectors: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        return self.feedback.mistakes(self.recalibration(vectors))

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        return self.feedback.gradients(self.recalibration(vectors), batch)

    def training_loss(
        self, vectors: Float[Tensor, "n D"], step: int, items: int, group: int = 1, repulsion: float = 0.0
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        return self.feedback.training_loss(self.recalibration(vectors), step, items, group, repulsion)

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        return self.feedback.imitation(self.recalibration(vectors), members, step, items)

    def initial(self, seed: int) -> Float[Tensor, "D"]:
        return self.feedback.initial(seed)


def _keys(spec: TensorSpec) -> tuple[str, ...]:
    return spec.name, *spec.aliases
