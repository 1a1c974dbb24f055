"""A zoo as the yardstick of novelty: which of its members are distinct, and where other networks lie."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from jaxtyping import Bool, Float
from torch import Tensor, nn

from paramdiff.evaluation.distances import Distances, Gram
from paramdiff.evaluation.distinct_members import alike, representatives
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.records import Record
from paramdiff.zoo.symmetry_matching import Matching, matching
from paramdiff.zoo.zoo import Zoo


class Reference:
    """Distances to a zoo, after the symmetries of its network.

    Args:
        zoo: K members.
        model: the network they belong to; without it its symmetries are not known.
    """

    def __init__(self, zoo: Zoo, model: nn.Module | None = None) -> None:
        self.raw, self.spec, self.model = zoo.vectors, zoo.spec, model
        self.trajectory, self.records = zoo.trajectory, zoo.records

    @cached_property
    def matching(self) -> Matching | str | None:
        """How networks are matched, or why they are not; None where no symmetry changes the selected tensors."""
        return matching(self.raw, self.spec, self.model)

    @property
    def note(self) -> str:
        """A sentence on symmetries, where there is something to report."""
        return self.matching if isinstance(self.matching, str) else ""

    @cached_property
    def _plain(self) -> "Space":
        return Space(self.raw, self.spec, self.trajectory, self.records)

    @cached_property
    def _matched(self) -> "Space | None":
        found = self.matching
        return (
            Space(found.members, self.spec, self.trajectory, self.records, found)
            if isinstance(found, Matching)
            else None
        )

    @cached_property
    def alike(self) -> Bool[Tensor, "K K"]:
        """Members that are not compared with one another (:mod:`paramdiff.evaluation.distinct_members`)."""
        return (self._matched or self._plain).alike

    @cached_property
    def members(self) -> Distances:
        """The distinct members, each as if it and what is alike to it had been left out of the zoo."""
        if self._matched is None:
            return self._plain.held_out
        return replace(self._matched.held_out, unmatched=self._plain.held_out)

    def distances(self, vectors: Float[Tensor, "N D"]) -> Distances:
        """New networks against the members."""
        if self._matched is None:
            return self._plain.distances(vectors)
        return replace(self._matched.distances(vectors), unmatched=self._plain.distances(vectors))


class Space:
    """Vectors in which distances are taken: as they are, or in their common form."""

    def __init__(
        self, vectors: Float[Tensor, "K D"], spec: ParameterSpec, trajectory: bool,
        records: Sequence[Record], matching: Matching | None = None,
    ) -> None:  # fmt: skip
        self.vectors, self._matching = vectors, matching
        self.normaliser = Normaliser.fit(vectors, spec.positive)
        self._gram = Gram.of(vectors[:0], vectors, self.normaliser)
        self.alike = alike(self._gram.member_distances, trajectory, records)

    @cached_property
    def held_out(self) -> Distances:
        rows = representatives(self._gram.member_distances)
        if self._matching is None:
            return Distances.of_members(self._gram, self.alike, rows)
        again = self._matching.matched(self.vectors[rows], self.alike[rows])
        return Distances.of_members(self._gram, self.alike, rows, self._against(again))

    def distances(self, vectors: Float[Tensor, "N D"]) -> Distances:
        found = vectors if self._matching is None else self._matching.matched(vectors)
        return Distances.of(self._against(found), self.alike)

    def _against(self, vectors: Tensor) -> Gram:
        return Gram.of(vectors, self.vectors, self.normaliser, self._gram.members)
