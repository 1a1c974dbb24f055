"""The learning curve of one training: score against time, with which the time p-diff takes is compared.

The network is scored on up to 1,000 training items at some twenty steps, evenly spread on a log scale. The test
set stays unread (rule 9); the training is unaffected by being watched, and the time that scoring takes is not counted.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paramdiff.files import write_json
from paramdiff.networks.structure import evaluating
from paramdiff.scoring.batches import joined, random_subset
from paramdiff.scoring.outcomes import joined_items, metric_table, network_metrics, outcomes_of
from paramdiff.scoring.set_metrics import SetMetrics
from paramdiff.tasks.task import Batch, Data, Task

WATCHED = 1000
"""Training items: the standard error of an accuracy near 0.9 is then one point."""

POINTS = 20
CURVE = "curve.json"


def watched_items(task: Task) -> int:
    """On how many items a network is scored while it is trained, if there are as many."""
    return min(WATCHED, task.selection_items)


class LearningCurve:
    """The curve of one training, as part of its state.

    Attributes:
        points: step, seconds spent on training before it, and score, for every step that was looked at.
    """

    def __init__(self, model: nn.Module, task: Task, data: Data, steps: int) -> None:
        self.model, self.task, self.data = model, task, data
        self.steps = {0} | {round(steps ** (i / (POINTS - 1))) for i in range(POINTS)}
        self.points: list[list[float]] = []
        self._before, self._since = 0.0, time.monotonic()
        self._batches: list[Batch] | None = None

    @property
    def seconds(self) -> float:
        """Spent on training so far, earlier processes included."""
        return self._before + time.monotonic() - self._since

    def look(self, step: int) -> None:
        """Note the score after ``step`` steps, if that is one of those to look at."""
        if step not in self.steps or any(step == point[0] for point in self.points):
            return
        seconds = self.seconds
        self.points.append([step, seconds, self._score()])
        self._before, self._since = seconds, time.monotonic()

    @torch.no_grad()
    def _score(self) -> float:
        """Of the network as it is, in eval mode."""
        if self._batches is None:
            self._batches = list(joined(random_subset(self.data, watched_items(self.task))))
        device = next(self.model.parameters()).device
        of_set, parts = SetMetrics(self.task, device), []
        with evaluating(self.model.modules()):
            for batch in self._batches:
                outputs = self.task.forward(self.model, batch, training=False)
                parts.append(outcomes_of(self.task, outputs, batch))
                of_set.update(outputs, batch)
        found = network_metrics(self.task, joined_items(parts, 0), of_set.compute())
        return float(metric_table(self.task, [found])[self.task.metric])

    def write(self, path: Path) -> None:
        """``{"items", "points": [[step, seconds, score or null], ...]}``."""
        points = [[int(p[0]), round(p[1], 4), p[2] if math.isfinite(p[2]) else None] for p in self.points]
        write_json(path, {"items": min(len(self.data), watched_items(self.task)), "points": points})

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "points": self.points}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before, self._since, self.points = state["seconds"], time.monotonic(), state["points"]
