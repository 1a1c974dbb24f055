"""The protocol without classes: a regression with a plain dataset, through every way of collecting."""

from pathlib import Path

import pytest
from torch import Tensor
from torch.utils.data import DataLoader

from own_tasks import Line
from paramdiff.collectors import SeedCollector, TrainingConfig, TrajectoryCollector
from paramdiff.errors import TaskError


class Careless(Line):
    """Gives one value a batch instead of one an item."""

    def predict(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"squared_error": super().predict(outputs, batch)["squared_error"].mean()}


def test_a_task_that_averages_too_early_is_told(tmp_path: Path):
    with pytest.raises(TaskError, match=r"outcomes of shapes .*expected .*one value per item"):
        TrajectoryCollector(k=2, select="last_norms:1", pretrain=TrainingConfig(epochs=1)).collect(
            Careless(), tmp_path
        )


def test_a_zoo_of_a_trajectory(tmp_path: Path):
    pretrain = TrainingConfig(epochs=150, lr=3e-2)
    zoo = TrajectoryCollector(k=5, select="last_norms:1", lr=1e-2, pretrain=pretrain).collect(
        Line(), tmp_path
    )
    assert (zoo.k, zoo.dim, zoo.trajectory) == (5, 16, True)
    scores = [record.scores["train"] for record in zoo.records]
    assert max(scores) < 0.3  # the variance of y is 2.26
    assert len(set(scores)) == 5


def test_a_zoo_of_seeds(tmp_path: Path):
    zoo = SeedCollector(k=3, train=TrainingConfig(epochs=150, lr=3e-2)).collect(Line(), tmp_path)
    assert (zoo.k, zoo.dim) == (3, 4 * 8 + 8 + 16 + 8 + 1)
    assert max(record.scores["train"] for record in zoo.records) < 0.3


def test_data_that_is_no_dataset_stops_before_training(tmp_path: Path):
    class Loader(Line):
        def train_data(self):
            return DataLoader(super().train_data())

    with pytest.raises(TaskError, match="a task's data is a DataLoader"):
        TrajectoryCollector(k=2).collect(Loader(), tmp_path)
