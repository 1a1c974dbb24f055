r"""The training loss of many networks at once, and its gradients: what trains a generator through its samples.

In step ``s`` networks ``v_1 .. v_n`` in groups of ``g`` see a batch of their own per group, and the loss of a group is

.. math:: (1 - \rho) \frac1g \sum_i L(f_{v_i}(x), y) + \rho\, L\Big(\mathrm{ensemble}_i\, f_{v_i}(x), y\Big)

The first term is the mean loss. The second is that of the group's joint prediction, as the task combines outputs
(:meth:`paramdiff.tasks.task.Task.ensemble`). Their difference is the *ambiguity* of the group (Krogh & Vedelsby 1995;
for probabilities it is what their mean gains by disagreeing), so ``rho`` > 0 keeps networks apart in function: it is
the negative-correlation learning of Liu & Yao (1999) for any convex loss.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from paramdiff.errors import ConfigError, NumericalError, TaskError
from paramdiff.progress import say
from paramdiff.scoring.batches import rows
from paramdiff.scoring.vmapped import STUCK
from paramdiff.seeds import mix, seeded
from paramdiff.tasks.task import Batch, Data, Task, overrides


class BatchStream:
    """Training batches by number: those of one shuffled epoch after the other, cut to at most ``items``.

    Read in order, a batch costs no more than in a training; going back starts its epoch again.
    """

    def __init__(self, data: Data, items: int, key: str) -> None:
        self.data, self.items, self.key = data, items, key
        self._epoch = self._next = -1
        self._length: int | None = None
        self._batches: Iterator[Batch] = iter(())

    def __getitem__(self, number: int) -> Batch:
        if self._length is None:
            self._length = sum(1 for _ in self._cut(0))
        epoch, place = divmod(number, self._length)
        if epoch != self._epoch or place < self._next:
            self._epoch, self._next, self._batches = epoch, 0, self._cut(epoch)
        for batch in self._batches:
            self._next += 1
            if self._next > place:
                return batch
        raise TaskError(
            f"epoch {epoch} of the training data has fewer batches than the first", expected="as many"
        )

    def _cut(self, epoch: int) -> Iterator[Batch]:
        for batch in self.data.shuffled(mix(self.key, epoch)):
            size = rows(batch)
            if size is None or size <= self.items:
                yield batch
                continue
            for part in torch.arange(size).tensor_split(-(-size // self.items)):
                yield tree_map(lambda leaf, part=part: leaf[part.to(leaf.device)], batch)


@dataclass
class TrainingLoss:
    """Losses and gradients of networks on numbered batches of the training data.

    Attributes:
        task: gives the loss.
        prepare: gives a batch with the part of its computation that all networks share.
        outputs: of one network, from that part and its vector.
        plain: the same for a task with a ``forward`` of its own: from the batch and the vector; else None.
        stacked: whether several networks run as one call. Convolutions with different weights are slower that way
            on a CPU.
    """

    task: Task
    prepare: Callable[[Batch], tuple[Batch, Any]]
    outputs: Callable[[Any, Tensor], Any]
    plain: Callable[[Batch, Tensor], Any] | None
    stacked: bool
    streams: dict[tuple[int, str], BatchStream] = field(default_factory=dict)

    def __call__(
        self, vectors: Float[Tensor, "n D"], data: Data, step: int, items: int, group: int, repulsion: float
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Losses without repulsion, and gradients of each group's loss times its size."""
        key = (items, "behaviour")
        stream = self.streams.setdefault(key, BatchStream(data, items, "behaviour"))
        groups = vectors.split(group)
        batches = [self.prepare(stream[step * len(groups) + number]) for number in range(len(groups))]
        together = self._stacked(groups, batches, repulsion) if self._alike(groups, batches) else None
        if together is None:
            parts = [
                self._one_by_one(some, *batch, repulsion, mix("behaviour", step, number))
                for number, (some, batch) in enumerate(zip(groups, batches, strict=True))
            ]
            together = torch.cat([loss for loss, _ in parts]), torch.cat([grad for _, grad in parts])
        self._require_finite(*together, step)
        return together

    def _alike(self, groups: Any, batches: Any) -> bool:
        """Whether the groups can be one call: as many networks in each, and batches of the same size."""
        sizes = {rows(batch) for batch, _ in batches}
        return (
            self.stacked and self.plain is None and len({len(g) for g in groups}) == 1 == len(sizes - {None})
        )

    def _stacked(self, groups: Any, batches: Any, repulsion: float) -> tuple[Tensor, Tensor] | None:
        """All groups as one call; None once it turned out that they cannot be stacked."""
        shared = tree_map(lambda *leaves: torch.stack(leaves) if isinstance(leaves[0], Tensor) else leaves[0],
                          *[(boundary, batch) for batch, boundary in batches])  # fmt: skip
        gradient = torch.func.grad(partial(self._joint, repulsion=repulsion), has_aux=True)
        try:
            found, losses = torch.func.vmap(gradient, randomness="different")(torch.stack(groups), *shared)
        except STUCK as error:
            self.stacked = False
            say(
                f"  networks are trained one after another: they cannot be stacked ({str(error).splitlines()[0]:.160})"
            )
            return None
        return losses.flatten(), found.flatten(0, 1)

    def _joint(self, some: Float[Tensor, "g D"], boundary: Any, batch: Batch, repulsion: float) -> Any:
        """A group's loss times its size, and the losses of its networks."""
        outputs = torch.func.vmap(self.outputs, (None, 0), randomness="different")(boundary, some)
        each = [tree_map(lambda leaf, row=row: leaf[row], outputs) for row in range(len(some))]
        return self._loss(each, batch, repulsion)

    def _loss(self, each: list[Any], batch: Batch, repulsion: float) -> tuple[Tensor, Tensor]:
        losses = torch.stack([self.task.loss(outputs, batch) for outputs in each])
        total = losses.sum()
        if repulsion > 0 and len(each) > 1:
            together = self.task.loss(self.task.ensemble(each), batch)
            total = (1 - repulsion) * total + repulsion * len(each) * together
        return total, losses.detach()

    def _one_by_one(
        self, some: Tensor, batch: Batch, boundary: Any, repulsion: float, key: int
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad(), seeded("gradients", key):
            v = some.detach().clone().requires_grad_()
            each = [self.plain(batch, row) if self.plain else self.outputs(boundary, row) for row in v]
            total, losses = self._loss(each, batch, repulsion)
            if not total.requires_grad:
                raise TaskError(
                    f"the training loss of task {self.task.name!r} gives no gradient",
                    expected="a loss that depends on the network's outputs by differentiable operations",
                    remedy="return the loss itself, not its value (.item(), .detach(), argmax)",
                )
            (gradient,) = torch.autograd.grad(total, v)
        return losses, gradient

    def _require_finite(self, losses: Tensor, gradients: Tensor, step: int) -> None:
        for what, value in (("loss", losses), ("gradient", gradients.sum(1))):
            broken = (~value.isfinite()).nonzero()[:, 0].tolist()
            if broken:
                raise NumericalError(
                    f"the training {what} of sample {broken[0]} is {float(value[broken[0]])} at step {step}",
                    remedy="lower behaviour.lr, or run `paramdiff inspect` on the zoo",
                )


def require_ensemble(task: Task) -> None:
    """Refuse repulsion for a task that does not combine outputs."""
    if not overrides(task, "ensemble"):
        raise ConfigError(
            "behaviour.repulsion", f"task {task.name!r} does not say what several networks predict together",
            expected="a task with an ensemble method", remedy="set it to 0",
        )  # fmt: skip
