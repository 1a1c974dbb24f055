"""Your own task, sequences: which of four frequencies is in a noisy wave? A recurrent network answers at its last step.

    paramdiff run task=own task.name=waves:Waves zoo.select=all zoo.k=50     (in this folder)

The network returns its answers and its state, as recurrent layers do, so ``forward`` says what of it counts.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paramdiff import Task

FREQUENCIES, LENGTH, TRAIN, TEST = 4, 24, 600, 300


class Recurrent(nn.Module):
    """A GRU and a linear layer: waves [B, LENGTH] -> logits [B, LENGTH, FREQUENCIES] and the state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, FREQUENCIES)

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        steps, state = self.gru(waves[..., None])
        return self.head(steps), state


class Waves(Task):
    name = "waves"

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.y = torch.randint(FREQUENCIES, (TRAIN + TEST,), generator=random)
        phase = 2 * math.pi * torch.rand(TRAIN + TEST, 1, generator=random)
        time = torch.linspace(0, 2 * math.pi, LENGTH)
        clean = torch.sin((1 + self.y[:, None]) * time + phase)
        self.x = clean + 0.5 * torch.randn(clean.shape, generator=random)

    def model(self) -> nn.Module:
        return Recurrent()

    def train_data(self) -> TensorDataset:
        return TensorDataset(self.x[:TRAIN], self.y[:TRAIN])

    def test_data(self) -> TensorDataset:
        return TensorDataset(self.x[TRAIN:], self.y[TRAIN:])

    def forward(self, model: nn.Module, batch: tuple[Tensor, Tensor], training: bool) -> Any:
        answers, _ = model(batch[0])
        return answers[:, -1]

    def loss(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch[1])

    def predict(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        nll = nn.functional.cross_entropy(outputs, batch[1], reduction="none")
        confidence, answer = outputs.softmax(1).max(1)
        return {"correct": answer == batch[1], "nll": nll, "answer": answer, "confidence": confidence}

    def metrics(self, outcomes: dict[str, Tensor]) -> dict[str, float]:
        return {
            name: float(outcomes[key].float().mean())
            for name, key in (("accuracy", "correct"), ("nll", "nll"))
        }
