"""The contract tests pass for every task of the package, and see what they are for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from own_tasks import AveragePrecision, Line, Reviews, Ring, Squares
from paramdiff.tasks import make_task
from paramdiff.tasks.classification import Images
from paramdiff.tasks.task import Task
from paramdiff.testing import check_task
from tiny_images import write_folder


@pytest.mark.parametrize("make", [lambda: make_task("digits"), Reviews, Squares, Ring, Line])
def test_tasks_keep_their_promises(make: Callable[[], Task]):
    check_task(make())


def test_a_folder_of_images_and_the_example_keep_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARAMDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples/own_task")
    folder = write_folder(tmp_path / "trees", n=24, size=(16, 16))
    check_task(Images(data=str(folder), image_size=16, batch_size=8).make())
    check_task(make_task("diabetes:Diabetes"))


KEPT = nn.Linear(4, 1)


class Deaf(nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()


class Switching(nn.Linear):
    def forward(self, x):
        self.train()
        return super().forward(x)


class Data(torch.utils.data.TensorDataset):
    """In another order each time it is read."""

    def __getitem__(self, i: int):
        return super().__getitem__(int(torch.randint(len(self), ())))


class Ordered:
    """Never shuffled, and of the last batch nothing in an epoch."""

    def __init__(self, drop: int = 0):
        self.x, self.drop = torch.arange(40.0).reshape(10, 4), drop

    def __len__(self):
        return 10

    @property
    def steps(self):
        return 5 - self.drop

    def batches(self):
        return zip(self.x.split(2), self.x[:, 0].split(2), strict=True)

    def shuffled(self, seed):
        yield from list(self.batches())[: 5 - self.drop + (seed == 0 and self.drop)]


def whole_batch(self: Line, outputs: Any, batch: Any) -> dict[str, Any]:
    return {"squared_error": (outputs[:, 0] - outputs.mean() - batch[-1]).square()}


def noisy(self: Task, model: nn.Module, batch: Any, training: bool) -> Any:
    return model(batch[0] + torch.randn_like(batch[0]))


SHARED = AveragePrecision()

BROKEN = [
    (Line, {"metric": 3}, "name and metric are words"),
    (Line, {"predict": Task.predict}, "a task gives per-item outcomes"),
    (Line, {"model": lambda self: KEPT}, "model.. makes a fresh torch.nn.Module"),
    (Line, {"model": lambda self: "net"}, "model.. makes a fresh torch.nn.Module"),
    (Line, {"test_data": lambda self: Data(*Line().train_data().tensors)}, None),
    (Line, {"train_data": lambda self: Ordered()}, "seeds 0 and 1 give the same batches"),
    (Line, {"train_data": lambda self: Ordered(1)}, "5 batches, steps is 4"),
    (Line, {"train_data": lambda self: iter([])}, "is a map-style Dataset or a paramdiff Data"),
    (Line, {"loss": lambda self, outputs, batch: outputs[:, 0]}, r"the loss is a tensor \[64\]"),
    (Line, {"loss": lambda self, outputs, batch: outputs.loss}, "loss raises"),
    (Line, {"model": lambda self: Deaf(4, 1)}, "has no gradient"),
    (Line, {"model": lambda self: Switching(4, 1)}, "leaves the modes of the network as they are"),
    (Line, {"forward": noisy}, "noise belongs into the batch"),
    (Line, {"metrics": lambda self, outcomes: {"rmse": 1.0}}, "gives rmse; expected mse"),
    (Line, {"predict": whole_batch}, "does not depend on the items it is scored with"),
    (Squares, {"metric_objects": lambda self: {"ap": SHARED}}, "metric objects are fresh"),
    (
        Reviews,
        {"ensemble": lambda self, outputs: outputs[0] + 3 * outputs[1].flip(1)},
        "has another 'correct'",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "said"), BROKEN)
def test_a_broken_promise_is_named(kind: type[Task], changes: dict[str, Any], said: str | None):
    task = type("Broken", (kind,), changes)()
    if said is None:  # what draws from torch's generator is seeded per batch, so that it can be repeated
        check_task(task)
        return
    with pytest.raises(AssertionError, match=rf"(?s)^Broken: .*{said}"):
        check_task(task)
