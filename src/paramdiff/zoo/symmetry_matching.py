r"""Networks that compute the same function with other weights, brought to the same weights as far as possible.

Hidden units come in no order; before a ReLU each may also be scaled by a positive factor that the next layer divides
by, and before a tanh change its sign in both. Distances between weights are meaningful only once this freedom is
removed:

1. *Scale*: every unit that can be scaled gets equal norms where it is made and where it is read, by the factor
   :math:`\sqrt{|w_{read}| / |w_{made}|}`, group by group until nothing changes. A network has one such form.
2. *Order and sign*: members are matched to the sum of the others (:mod:`paramdiff.zoo.alignment`), any other network to
   that sum and then to each of the members that are nearest to it, of which the nearest counts.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from paramdiff.devices import suitable_threads
from paramdiff.networks.symmetry import Symmetries, find_symmetries
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.seeds import generator
from paramdiff.zoo.alignment import ROUNDS, Matcher, match_all, multiply, units_of

CANDIDATES = 5
"""Members to which a network is matched after it was matched to all."""

SWEEPS = 20
"""Passes over the groups to balance them; two groups that share a tensor need some."""

WORK = 3e11
"""Multiplications, about ten seconds on one core, above which a network is too large to be matched."""


class Matching:
    """Brings networks of one zoo into a common form.

    Args:
        spec: places of the tensors.
        symmetries: of the network, all within the selection.
        members: [K, D], raw; :attr:`members` are they in the common form.
    """

    def __init__(self, spec: ParameterSpec, symmetries: Symmetries, members: Float[Tensor, "K D"]) -> None:
        self._groups = symmetries.groups
        self._matcher = Matcher(spec, self._groups, signs=True)
        self.members = self.balanced(members)
        with suitable_threads(spec.dim):
            match_all(self.members, range(len(members)), self._matcher, 0, ROUNDS, "matching")
        self._sum = self.members.double().sum(0).to(self.members.dtype)

    def balanced(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """Units that can be scaled with equal norms where they are made and read."""
        found = vectors.detach().clone().double()
        groups = [group for group in self._groups if group.scalable]
        for v in found if groups else ():
            state = self._matcher.views(v)
            for _ in range(SWEEPS if len(groups) > 1 else 1):
                for group in groups:
                    norms = {
                        role: sum(
                            units_of(state[place.key], place).square().sum(1)
                            for place in group.places
                            if place.role == role
                        )
                        for role in ("makes", "reads")
                    }
                    factor = (norms["reads"] / norms["makes"]) ** 0.25
                    factor = factor.where(factor.isfinite() & (factor > 0), 1.0)
                    multiply(state, group, factor, 1 / factor)
        return found.to(vectors.dtype)

    def matched(
        self, vectors: Float[Tensor, "n D"], without: Bool[Tensor, "n K"] | None = None
    ) -> Float[Tensor, "n D"]:
        """Networks in the form that is nearest to one of the members; ``without``: members that do not count."""
        found = self.balanced(vectors)
        for i, v in enumerate(found):
            if not bool(v.isfinite().all()):
                continue
            random = generator("match", i)
            self._matcher.match(v, self._sum, random)
            apart = (self.members - v).norm(dim=1)
            if without is not None:
                apart = apart.masked_fill(without[i], torch.inf)
            candidates = apart.argsort()[:CANDIDATES]
            candidates = candidates[apart[candidates].isfinite()]
            best = float(apart.min())
            for candidate in candidates.tolist():
                other = v.clone()
                self._matcher.match(other, self.members[candidate], random)
                distance = float((other - self.members[candidate]).norm())
                if distance < best:
                    best, found[i] = distance, other
        return found


def matching(
    members: Float[Tensor, "K D"], spec: ParameterSpec, model: nn.Module | None
) -> Matching | str | None:
    """How to match networks to these members; None where there is nothing to match, or why it cannot be done."""
    if model is None:
        return "hidden units were not matched because the network is not known"
    symmetries = find_symmetries(model)
    if isinstance(symmetries, str):
        return f"hidden units were not matched: {symmetries}"
    within = symmetries.within(spec.names)
    if not within.groups:
        return None
    if work(within, spec, len(members)) > WORK:
        return f"hidden units were not matched because that takes long for {spec.dim:,} parameters"
    return Matching(spec, within, members)


def work(symmetries: Symmetries, spec: ParameterSpec, k: int) -> float:
    """Multiplications, about: three passes for each of K members and as many samples."""
    sizes = {tensor.name: tensor.numel for tensor in spec.tensors}
    once = sum(group.size * sum(sizes[place.key] for place in group.places) for group in symmetries.groups)
    return 3.0 * once * k * (1 + ROUNDS + 2 * (1 + CANDIDATES))
