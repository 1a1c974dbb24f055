"""A zoo from checkpoints that somebody else trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from paramdiff.collect.base import Way, add_train_scores, fresh_network, size
from paramdiff.devices import suitable_threads
from paramdiff.tasks.base import Task
from paramdiff.tasks.data import ready
from paramdiff.zoo.importing import open_zoo
from paramdiff.zoo.reading import load_weights
from paramdiff.zoo.zoo import Zoo


@dataclass
class Import(Way):
    """State dicts on disk, or a saved zoo.

    Attributes:
        path: a folder of checkpoints, a glob, a saved zoo or a run folder.
        select: which tensors are generated; by default ``last_norms:2``, or what the saved zoo holds.
    """

    way: ClassVar[str] = "import"

    path: str
    select: str | None = None

    def collect(self, task: Task, folder: Path, device: torch.device | str = "cpu") -> Zoo:
        model = fresh_network(task, device, 0)
        zoo = open_zoo(self.path, model, self.select)
        load_weights(model, zoo.base, self.path)
        with suitable_threads(size(model)):
            add_train_scores(zoo, task, model, ready(task.train_data(), device))
        return zoo
