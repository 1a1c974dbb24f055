"""Losses and gradients of many networks at once are those of each, on batches that cover the data."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paramdiff.errors import ConfigError, NumericalError, TaskError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.scoring.scorer import Scorer
from paramdiff.scoring.training_loss import BatchStream
from paramdiff.seeds import generator
from paramdiff.tasks.batches import DatasetData
from paramdiff.tasks.task import Batch, Task
from paramdiff.zoo.zoo import Zoo

ITEMS = 50


class Sides(Task):
    """Which side of a plane a point is on."""

    name = "sides"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))

    def train_data(self) -> DatasetData:
        x = torch.randn(ITEMS, 5, generator=generator("x"))
        return DatasetData([(row, int(row.sum() > 0), place) for place, row in enumerate(x)], 16)

    test_data = train_data

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        return (batch[0],)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(outputs, batch[1])

    def predict(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"correct": outputs.argmax(1) == batch[1]}

    def metrics(self, outcomes: dict[str, Tensor]) -> dict[str, float]:
        return {"accuracy": float(outcomes["correct"].double().mean())}


class Together(Sides):
    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(outputs)).log_softmax(-1).logsumexp(0)


class Convolved(Together):
    """Convolutions run one after another on a CPU."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(6, 2))


def made(task: Task, select: str = "all") -> tuple[Scorer, Tensor]:
    torch.manual_seed(0)
    base = task.model().state_dict()
    spec = ParameterSpec.from_state_dict(base, select)
    vectors = spec.flatten(base) + 0.3 * torch.randn(6, spec.dim)
    return Scorer(task, Zoo(vectors, spec, base)), vectors


def reference(
    scorer: Scorer, vectors: Tensor, batches: list[Batch], repulsion: float
) -> tuple[Tensor, Tensor]:
    """One network after the other through the plain module, groups as there are batches."""
    v = vectors.clone().requires_grad_()
    size, task, losses, total = len(v) // len(batches), scorer.task, [], torch.zeros(())
    for number, batch in enumerate(batches):
        rows = v[number * size : (number + 1) * size]
        model = task.model()
        frozen = scorer.shared.model.state_dict()
        outputs = [
            torch.func.functional_call(model, {**frozen, **scorer.spec.unflatten(row)}, (batch[0],))
            for row in rows
        ]
        own = torch.stack([task.loss(output, batch) for output in outputs])
        losses.append(own.detach())
        total = total + (1 - repulsion) * own.sum()
        if repulsion:
            total = total + repulsion * size * task.loss(task.ensemble(outputs), batch)
    (gradient,) = torch.autograd.grad(total, v)
    return torch.cat(losses), gradient


@pytest.mark.parametrize("kind", [Together, Convolved])
@pytest.mark.parametrize(("group", "repulsion"), [(1, 0.0), (3, 0.0), (3, 0.4), (6, 1.0)])
@pytest.mark.parametrize("select", ["all", "*.weight"])
def test_they_are_those_of_each_network(kind: type[Task], group: int, repulsion: float, select: str):
    scorer, vectors = made(kind(), select)
    stream = BatchStream(scorer.task.train_data())
    for step in (0, 3):
        batches = stream.take(step * (6 // group), 6 // group, 8)
        found = scorer.feedback().training_loss(vectors, step, 8, group, repulsion)
        wanted = reference(scorer, vectors, batches, repulsion)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


class Divergent(Sides):
    def divergence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (targets.softmax(-1) * (targets.log_softmax(-1) - outputs.log_softmax(-1))).sum(-1).mean()


@pytest.mark.parametrize("kind", [Divergent, Sides, Convolved])
def test_networks_are_compared_with_others_by_their_outputs(kind: type[Task]):
    """By the task's divergence, or by the squared error; what the others say is a fixed target."""
    scorer, vectors = made(kind())
    own, others = vectors[:3], vectors[3:]
    losses, gradients = scorer.feedback().imitation(own, others, 2, 8)
    batches = BatchStream(scorer.task.train_data()).take(6, 3, 8)
    v, model = own.clone().requires_grad_(), scorer.task.model()
    said = lambda row, batch: torch.func.functional_call(model, scorer.spec.unflatten(row), (batch[0],))
    wanted = torch.stack([
        scorer.task.divergence(said(row, batch), said(other, batch).detach())
        for row, other, batch in zip(v, others, batches, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(losses, wanted.detach())
    (gradient,) = torch.autograd.grad(wanted.sum(), v)
    torch.testing.assert_close(gradients, gradient, rtol=1e-4, atol=1e-6)
    same, none = scorer.feedback().imitation(own, own, 0, 8)
    assert float(same.abs().max()) < 1e-6 and float(none.abs().max()) < 1e-6


@pytest.mark.parametrize("items", [7, 16, 50, 64])
def test_batches_cover_every_epoch_whatever_their_size(items: int):
    """In order, and from the middle: a training that goes on sees what it would have seen."""
    data = Sides().train_data()
    stream, count = BatchStream(data), 2 * ITEMS // items + 2
    places = [batch[2] for number in range(count) for batch in stream.take(number, 1, items)]
    assert all(len(place) == items for place in places)
    seen = torch.cat(places)
    for epoch in range(len(seen) // ITEMS):
        assert sorted(seen[epoch * ITEMS : (epoch + 1) * ITEMS].tolist()) == list(range(ITEMS))
    for number in (count - 1, 0, 1):
        (again,) = BatchStream(data).take(number, 1, items)
        assert torch.equal(again[2], places[number])
        assert torch.equal(stream.take(number, 1, items)[0][2], places[number])


class Lists:
    """Batches that cannot be cut."""

    steps = 3

    def __len__(self) -> int:
        return 7

    def batches(self) -> Iterator[Batch]:
        yield from ([["a"], torch.zeros(3)], [["b"], torch.zeros(3)], [["c"], torch.zeros(1)])

    def shuffled(self, seed: int) -> Iterator[Batch]:
        yield from self.batches()


def test_batches_that_cannot_be_cut_stay_whole():
    stream = BatchStream(Lists())
    names = [batch[0][0] for batch in [*stream.take(0, 2, 4), *stream.take(2, 2, 4)]]
    assert names == ["a", "b", "c", "a"]
    assert [batch[0][0] for batch in BatchStream(Lists()).take(2, 2, 4)] == ["c", "a"]
    assert [batch[0][0] for batch in stream.take(1, 1, 4)] == ["b"]


def test_what_cannot_be_trained_is_said():
    scorer, vectors = made(Sides())
    with pytest.raises(ConfigError, match="behaviour.repulsion: task 'sides' does not say what several"):
        scorer.feedback().training_loss(vectors, 0, 8, 2, 0.5)
    vectors[4, 0] = float("nan")
    with pytest.raises(NumericalError, match=r"^the training loss of sample 4 is nan at step 3"):
        scorer.feedback().training_loss(vectors, 3, 8)

    class Constant(Sides):
        def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
            return cross_entropy(outputs.detach(), batch[1])

    for kind in (Constant, type("ConstantConvolved", (Convolved,), {"loss": Constant.loss})):
        scorer, vectors = made(kind())
        with pytest.raises(TaskError, match="gives no gradient"):
            scorer.feedback().training_loss(vectors, 0, 8)


def test_an_untrained_network_is_the_tasks_own():
    scorer, vectors = made(Sides(), "2.*")
    first = scorer.feedback().initial(0)
    assert first.shape == vectors.shape[1:] and torch.equal(first, scorer.feedback().initial(0))
    assert not torch.equal(first, scorer.feedback().initial(1))
