"""Your own task, no classification: predict the progress of diabetes from ten measurements.

    paramdiff run task=own task.name=diabetes:Diabetes zoo.select=all zoo.k=50     (in this folder)

A task builds the network, gives its data and scores it. Scores are made from one outcome per item.
"""

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paramdiff import Task


class Diabetes(Task):
    name, metric, higher_is_better = "diabetes", "mse", False

    def __init__(self) -> None:
        x, y = (torch.tensor(values, dtype=torch.float32) for values in load_diabetes(return_X_y=True))
        self.x, self.y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 1))

    def train_data(self) -> TensorDataset:
        return TensorDataset(self.x[:342], self.y[:342])

    def test_data(self) -> TensorDataset:
        return TensorDataset(self.x[342:], self.y[342:])

    def loss(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.mse_loss(outputs[:, 0], batch[-1])

    def predict(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"squared_error": (outputs[:, 0] - batch[-1]).square()}

    def metrics(self, outcomes: dict[str, Tensor]) -> dict[str, float]:
        return {"mse": float(outcomes["squared_error"].mean())}
