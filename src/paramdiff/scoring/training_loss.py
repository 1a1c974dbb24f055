r"""The training loss of many networks at once, and its gradients: what trains a generator through its samples.

In step ``s`` networks ``v_1 .. v_n`` in groups of ``g`` see a batch of their own per group, and the loss of a group is

.. math:: (1 - \rho) \frac1g \sum_i L(f_{v_i}(x), y) + \rho\, L\Big(\mathrm{ensemble}_i\, f_{v_i}(x), y\Big)

The first term is the mean loss. The second is that of the group's joint prediction, as the task combines outputs
(:meth:`paramdiff.tasks.task.Task.ensemble`). Their difference is the *ambiguity* of the group (Krogh & Vedelsby 1995;
for probabilities it is what their mean gains by disagreeing), so ``rho`` > 0 keeps networks apart in function: it is
the negative-correlation learning of Liu & Yao (1999) for any convex loss.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from paramdiff.errors import ConfigError, NumericalError, TaskError
from paramdiff.progress import say
from paramdiff.scoring.batches import joined_batch, rows
from paramdiff.scoring.vmapped import STUCK, first_line
from paramdiff.seeds import mix, seeded
from paramdiff.tasks.task import Batch, Data, Task, overrides

GroupLoss = Callable[[list[Any], Batch], tuple[Tensor, Tensor]]
"""From the outputs of the networks of a group and their batch: the group's loss, and the losses [g] of its networks."""


class BatchStream:
    """The training data as one endless sequence of items, shuffled epoch after shuffled epoch, by position.

    Read in order it costs no more than in a training; going back starts its epoch again. Batches that cannot be cut
    item by item stay as they are, and are counted instead.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.cuttable = rows(next(self._shuffled(0))) is not None
        self._length = len(data) if self.cuttable else data.steps
        self._go_to(0)

    def take(self, number: int, count: int, items: int) -> list[Batch]:
        """Batches ``number`` to ``number + count - 1``, of ``items`` items each if they can be cut."""
        if not self.cuttable:
            return self._read(number, count)
        whole = self._read(number * items, count * items)[0]
        return [_cut(whole, place * items, (place + 1) * items) for place in range(count)]

    def _go_to(self, epoch: int) -> None:
        """The beginning of an epoch."""
        self._epoch, self._start = epoch, epoch * self._length
        self._waiting: list[Batch] = []
        self._batches = self._shuffled(epoch)

    def _shuffled(self, epoch: int) -> Iterator[Batch]:
        return iter(self.data.shuffled(mix("behaviour", epoch)))

    def _read(self, start: int, count: int) -> list[Batch]:
        """``count`` items from a position on, as one batch; or as many batches that cannot be cut."""
        if start < self._start or start - self._start > self._length:
            self._go_to(start // self._length)
        here, found = self._start, sum(map(self._size, self._waiting))
        while here + found < start + count:
            batch = next(self._batches, None)
            if batch is None:
                self._epoch += 1
                self._batches = self._shuffled(self._epoch)
                continue
            self._waiting.append(batch)
            found += self._size(batch)
        end = start + count
        self._start = end
        if not self.cuttable:
            wanted = self._waiting[start - here : end - here]
            self._waiting = self._waiting[end - here :]
            return wanted
        whole = joined_batch(self._waiting)
        self._waiting = [_cut(whole, end - here, found)] if here + found > end else []
        return [_cut(whole, start - here, end - here)]

    def _size(self, batch: Batch) -> int:
        return (rows(batch) or 0) if self.cuttable else 1


def _cut(batch: Batch, start: int, end: int) -> Batch:
    return tree_map(lambda leaf: leaf[start:end], batch)


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
    _stream: BatchStream | None = None

    def __call__(
        self, vectors: Float[Tensor, "n D"], data: Data, step: int, items: int, group: int, repulsion: float
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Losses without repulsion, and gradients of each group's loss times its size."""
        found = self._of_groups(vectors, data, step, items, group, partial(self._loss, repulsion=repulsion))
        self._require_usable(*found, step)
        return found

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], data: Data, step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Divergences of networks' outputs from those of others, each on a batch of its own, and their gradients.

        Gradients are of the networks; what the others say is a fixed target.
        """
        pairs = torch.stack([vectors, members], 1).flatten(0, 1)
        losses, gradients = self._of_groups(pairs, data, step, items, 2, self._divergence)
        self._require_finite(losses, gradients, step)
        return losses[::2], gradients[::2]

    def _of_groups(
        self, vectors: Float[Tensor, "n D"], data: Data, step: int, items: int, group: int, loss: GroupLoss
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Losses of networks, and gradients of the losses of their groups."""
        if self._stream is None or self._stream.data is not data:
            self._stream = BatchStream(data)
        groups = vectors.split(group)
        batches = self._stream.take(step * len(groups), len(groups), items)
        together = self._stacked(groups, batches, loss) if self._alike(groups, batches) else None
        if together is None:
            parts = [
                self._one_by_one(some, batch, loss, mix("behaviour", step, number))
                for number, (some, batch) in enumerate(zip(groups, batches, strict=True))
            ]
            together = torch.cat([loss for loss, _ in parts]), torch.cat([grad for _, grad in parts])
        return together

    def _alike(self, groups: Sequence[Tensor], batches: Sequence[Batch]) -> bool:
        """Whether the groups can be one call: as many networks in each, and batches that can be stacked."""
        cut = all(rows(batch) is not None for batch in batches)
        return self.stacked and self.plain is None and cut and len({len(some) for some in groups}) == 1

    def _prepared(self, batches: Sequence[Batch]) -> tuple[Batch, Any]:
        """Batches and what their networks share, with a leading axis over groups.

        Computed at once where the shared part has a row for every item, as it mostly has.
        """
        count, items = len(batches), rows(batches[0]) or 0
        whole, boundary = self.prepare(joined_batch(list(batches)))
        if all(
            isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == count * items
            for leaf in tree_leaves(boundary)
        ):
            return tree_map(lambda leaf: leaf.unflatten(0, (count, items)), (whole, boundary))  # type: ignore[no-any-return]
        each = [self.prepare(batch) for batch in batches]
        return tree_map(lambda *leaves: torch.stack(leaves), *each)  # type: ignore[no-any-return]

    def _stacked(
        self, groups: Sequence[Tensor], batches: Sequence[Batch], loss: GroupLoss
    ) -> tuple[Tensor, Tensor] | None:
        """All groups as one call; None once it turned out that they cannot be stacked."""
        batch, boundary = self._prepared(batches)
        gradient = torch.func.grad(partial(self._joint, loss=loss), has_aux=True)
        try:
            found, losses = torch.func.vmap(gradient, randomness="different")(
                torch.stack(list(groups)), boundary, batch
            )
        except STUCK as error:
            self.stacked = False
            say(f"  networks are trained one after another: they cannot be stacked ({first_line(error)})")
            return None
        return losses.flatten(), found.flatten(0, 1)

    def _joint(self, some: Float[Tensor, "g D"], boundary: Any, batch: Batch, loss: GroupLoss) -> Any:
        """A group's loss, and the losses of its networks."""
        outputs = torch.func.vmap(self.outputs, (None, 0), randomness="different")(boundary, some)
        each = [tree_map(lambda leaf, row=row: leaf[row], outputs) for row in range(len(some))]
        return loss(each, batch)

    def _loss(self, each: list[Any], batch: Batch, repulsion: float) -> tuple[Tensor, Tensor]:
        """A group's loss times its size, and the losses of its networks."""
        losses = torch.stack([self.task.loss(outputs, batch) for outputs in each])
        total = losses.sum()
        if repulsion > 0 and len(each) > 1:
            together = self.task.loss(self.task.ensemble(each), batch)
            total = (1 - repulsion) * total + repulsion * len(each) * together
        return total, losses.detach()

    def _divergence(self, each: list[Any], batch: Batch) -> tuple[Tensor, Tensor]:
        """The divergence of a network from the second of its group."""
        own, other = each
        target = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, other)
        total = self.task.divergence(own, target)
        return total, torch.stack([total.detach(), torch.zeros_like(total)])

    def _one_by_one(self, some: Tensor, batch: Batch, loss: GroupLoss, key: int) -> tuple[Tensor, Tensor]:
        batch, boundary = self.prepare(batch)
        with torch.enable_grad(), seeded("gradients", key):
            v = some.detach().clone().requires_grad_()
            each = [self.plain(batch, row) if self.plain else self.outputs(boundary, row) for row in v]
            total, losses = loss(each, batch)
            if not total.requires_grad:
                return losses, torch.zeros_like(v)
            (gradient,) = torch.autograd.grad(total, v)
        return losses, gradient

    def _require_usable(self, losses: Tensor, gradients: Tensor, step: int) -> None:
        if not gradients.any():
            raise TaskError(
                f"the training loss of task {self.task.name!r} gives no gradient at step {step}",
                expected="a loss that depends on the network's outputs by differentiable operations",
                remedy="return the loss itself, not its value (.item(), .detach(), argmax)",
            )
        self._require_finite(losses, gradients, step)

    def _require_finite(self, losses: Tensor, gradients: Tensor, step: int) -> None:
        for what, value in (("loss", losses), ("gradient", gradients.sum(1))):
            broken = (~value.isfinite()).nonzero()[:, 0].tolist()
            if broken:
                raise NumericalError(
                    f"the training {what} of sample {broken[0]} is {float(value[broken[0]])} at step {step}",
                    remedy="lower the learning rate, or run `paramdiff inspect` on the zoo",
                )


def require_ensemble(task: Task) -> None:
    """Refuse repulsion for a task that does not combine outputs."""
    if not overrides(task, "ensemble"):
        raise ConfigError(
            "behaviour.repulsion", f"task {task.name!r} does not say what several networks predict together",
            expected="a task with an ensemble method", remedy="set it to 0",
        )  # fmt: skip
