"""A zoo from checkpoints that somebody else trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from paramdiff.collectors.collector import Collector, alignment, fresh_network, register
from paramdiff.settings import COUNT, MEMBERS, Ranges, check_ranges
from paramdiff.tasks.task import Task
from paramdiff.zoo.opening import open_zoo
from paramdiff.zoo.state_dicts import load_file, load_weights
from paramdiff.zoo.zoo import Zoo


@register("import")
@dataclass
class CheckpointCollector(Collector):
    """State dicts on disk, or a saved zoo.

    Attributes:
        path: a folder of checkpoints, a glob, one file with all members stacked, a saved zoo or a run folder.
        select: which tensors are generated; by default ``last_norms:2``, or what the saved zoo holds.
        keep: condition on recorded scores and ``train``, e.g. ``train > 0.5 and test > 0.5``.
        k: K, members to take of those; all by default.
        weights: a state dict of the whole network, where the checkpoints hold only a part of it.
        trajectory: whether the members are, in their order, steps of one training; by default file names and
            recorded steps say so.
        group: which of several kinds of checkpoints in the folder to take, from 1 for the largest; by default there
            may be only one.
        align: put hidden units in a common order afterwards: ``true``, ``false``, or ``auto``, if it helps.
    """

    RANGES: ClassVar[Ranges] = {"k": MEMBERS, "group": COUNT}

    path: str
    select: str | None = None
    keep: str | None = None
    k: int | None = None
    weights: str | None = None
    trajectory: bool | None = None
    group: int | None = None
    align: str = "auto"

    def __post_init__(self) -> None:
        self.align = alignment(self.align)
        check_ranges(self)

    def members(self, task: Task, folder: Path, device: torch.device | str) -> Zoo:
        model = fresh_network(task, device, 0)
        if self.weights is not None:
            load_file(model, self.weights)
        zoo = open_zoo(self.path, model, self.select, self.group)
        if self.trajectory is not None:
            zoo.about["trajectory"] = self.trajectory
        load_weights(model, zoo.base, self.path)
        return zoo

    def wanted(self, zoo: Zoo) -> Zoo:
        zoo = zoo if self.keep is None else zoo.keep(self.keep)
        return zoo if self.k is None else zoo.subsample(self.k)
