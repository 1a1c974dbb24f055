r"""The bill: how many gradient steps a network costs, as it is trained or as it is drawn.

A *gradient step* is one gradient of the training loss of one network on one batch, whichever tensors it moves. A
generator that trains networks while it is fitted shares these steps among its samples, so each of N samples costs

.. math:: \text{steps of its own sampling} + \text{steps of the fit} / N

and, with the zoo, without which it could not have been fitted, the steps of its members over N more. What is
compared at an equal bill gets the same number of these steps per network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from paramdiff.evaluation.results_schema import Cost
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo


@dataclass(frozen=True)
class ZooCost:
    """Gradient steps behind the members of a zoo.

    Attributes:
        k: K.
        member: steps from an untrained network to a member, as a mean over members.
        total: steps of the whole zoo. Members of one trajectory share the steps before them.
    """

    k: int
    member: float
    total: float

    @classmethod
    def of(cls, zoo: Zoo) -> "ZooCost | None":
        """From what the collector noted; None if it is not known how the members were trained."""
        training = zoo.about.get("training")
        updates = training.get("updates") if isinstance(training, dict) else None
        if not isinstance(updates, int) or updates < 0:
            return None
        if not zoo.trajectory:
            return cls(zoo.k, updates, zoo.k * updates)
        steps = _steps(zoo.records)
        return None if steps is None else cls(zoo.k, updates + sum(steps) / zoo.k, updates + max(steps))

    def of_some(self, members: int | None) -> float:
        """Steps of so many members; of all of them for None."""
        if members is None or members >= self.k:
            return self.total
        return min(members * self.member, self.total)


def _steps(records: Sequence[Record]) -> list[int] | None:
    """Steps of the collecting phase before each member; None unless they are known of all."""
    steps = [record.step for record in records if record.step is not None]
    return steps if len(steps) == len(records) else None


def cost_of_members(zoo: ZooCost | None) -> Cost:
    """Of a member; ``with_zoo`` is its share of the whole zoo."""
    if zoo is None:
        return {"gradient_steps": None, "with_zoo": None}
    return {"gradient_steps": float(zoo.member), "with_zoo": zoo.total / zoo.k}


def cost_of_samples(
    zoo: ZooCost | None, n: int, fitting: float, sampling: float, members: int | None = None
) -> Cost:
    """Of a sample.

    Args:
        zoo: what the members cost; None if that is not known.
        n: N, samples that share the fit.
        fitting: gradient steps of the fit, over all networks in it.
        sampling: gradient steps that drawing one sample takes.
        members: of the zoo that the generator needs; None for all of them.
    """
    own = sampling + fitting / n
    if members == 0:
        return {"gradient_steps": own, "with_zoo": own}
    return {"gradient_steps": own, "with_zoo": None if zoo is None else own + zoo.of_some(members) / n}


def further(cost: Cost, steps: float) -> Cost:
    """The same with so many steps more."""
    own, total = cost["gradient_steps"], cost["with_zoo"]
    return {
        "gradient_steps": None if own is None else own + steps,
        "with_zoo": None if total is None else total + steps,
    }
