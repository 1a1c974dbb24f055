"""A pass over the data in which N networks are scored, and how several processes share it.

Scores from per-item outcomes: ranks (:mod:`paramdiff.distributed`) share the batches; each computes every ``world``-th,
prefix and all networks, as one process would, and all of them get all outcomes. Metric objects have to see every batch
in order; with them ranks share the networks, whose objects are in memory a block at a time.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from paramdiff.devices import blocks
from paramdiff.distributed import gather_items, local_items, this_process_only, world_size
from paramdiff.errors import TaskError
from paramdiff.progress import bar
from paramdiff.scoring.batches import items_in
from paramdiff.scoring.cache import Cache
from paramdiff.scoring.outcomes import (
    Outcomes,
    joined_items,
    metric_table,
    network_metrics,
    outcomes_of,
    stacked,
)
from paramdiff.scoring.output_groups import Group, Waiting, order
from paramdiff.scoring.scores import Scores
from paramdiff.scoring.set_metrics import NETWORKS_AT_ONCE, SetMetrics
from paramdiff.scoring.vmapped import Stack
from paramdiff.tasks.task import Batch, Task, overrides

Batches = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Passes:
    """Passes of networks over data.

    Attributes:
        task: judges their outputs.
        device: where they run.
        stack: runs them for one batch.
        cache: keeps batches between passes.
        prepare: gives a batch with the part of its computation that all networks share.
    """

    task: Task
    device: torch.device
    stack: Stack
    cache: Cache
    prepare: Callable[[Batch], tuple[Batch, Any]]

    def score(
        self, vectors: Tensor, key: str, batches: Batches, items: int | None, groups: Sequence[Group]
    ) -> Scores:  # fmt: skip
        """Scores of distinct networks, and of distinct groups of them.

        Args:
            vectors: [N, D].
            key: name of the batches, in the cache and in messages.
            batches: gives the data.
            items: how many there are, which is then checked.
            groups: networks whose outputs are combined by the task.

        Raises:
            TaskError: the data is empty, or outcomes or metrics are not what a task must give.
        """
        if not overrides(self.task, "metric_objects"):
            return self._share_batches(vectors, key, batches, items, groups)
        if not overrides(self.task, "predict") or not overrides(self.task, "ensemble"):
            groups = ()
        found = self._share_networks(vectors, key, batches, items)
        if not groups:
            return found
        outcomes = self._share_batches(vectors, key, batches, items, groups)
        return replace(found, ensembles=outcomes.ensembles)

    def _share_batches(
        self, vectors: Tensor, key: str, batches: Batches, items: int | None, groups: Sequence[Group]
    ) -> Scores:  # fmt: skip
        """Scores from per-item outcomes; this rank's batches, all networks, and their groups."""
        own: list[tuple[Outcomes, Outcomes]] = []
        with bar((), f"scoring on {key}", total=items and items * len(vectors), unit="item") as progress:
            for batch, boundary in self.cache.through(key, batches, self.prepare):
                singly, together = self.one_batch(boundary, vectors, batch, groups)
                own.append((stacked(singly), stacked(together)))
                done = next(iter(own[-1][0].values())).numel() * world_size()  # the others are about as far
                progress.update(min(done, (progress.total or math.inf) - progress.n))
        parts = gather_items(own)
        self._require_batches(len(parts))
        outcomes = joined_items([singly for singly, _ in parts], 1)
        self._check_items(outcomes, items)
        joint = joined_items([together for _, together in parts if together], 1)
        ensembles = Scores(joint, self._metrics(joint)) if joint else None
        return Scores(outcomes, self._metrics(outcomes), ensembles)

    def _share_networks(self, vectors: Tensor, key: str, batches: Batches, items: int | None) -> Scores:
        """Scores from metric objects, and from outcomes where there are any; this rank's networks, all batches."""
        mine = local_items(range(len(vectors)))
        own: list[tuple[Outcomes, dict[str, float]]] = []
        with (
            this_process_only(),
            bar((), f"scoring on {key}", total=items and items * len(mine), unit="item") as progress,
        ):
            for block in blocks(len(mine), NETWORKS_AT_ONCE):
                own += self._score_networks(vectors[list(mine[block])], key, batches, progress.update)
        outcomes, metrics = zip(*gather_items(own), strict=True)
        found = stacked(outcomes)
        self._check_items(found, items)
        return Scores(found, metric_table(self.task, metrics))

    def _score_networks(
        self, vectors: Tensor, key: str, batches: Batches, progress: Callable[[int], Any]
    ) -> list[tuple[Outcomes, dict[str, float]]]:
        """Outcomes [items, ...] and metrics of each of these networks."""
        accumulated = [SetMetrics(self.task, self.device) for _ in vectors]
        parts: list[list[Outcomes]] = []
        for batch, boundary in self.cache.through(key, batches, self.prepare):
            parts.append(self.one_batch(boundary, vectors, batch, (), accumulated)[0])
            progress(items_in(batch) * len(vectors))
        self._require_batches(len(parts))
        found = [joined_items(own, 0) for own in zip(*parts, strict=True)]
        return [
            (outcomes, network_metrics(self.task, outcomes, of_set.compute()))
            for outcomes, of_set in zip(found, accumulated, strict=True)
        ]

    def one_batch(
        self, boundary: Any, vectors: Tensor, batch: Batch, groups: Sequence[Group],
        accumulated: Sequence[SetMetrics] = (),
    ) -> tuple[list[Outcomes], list[Outcomes]]:  # fmt: skip
        """Outcomes of every network and of every group for one batch; none of groups without ensembles."""
        singly: dict[int, Outcomes] = {}
        together: dict[int, Outcomes] = {}
        waiting = Waiting(groups)
        for network, outputs in self.stack.outputs(boundary, vectors, order(groups, len(vectors))):
            singly[network] = outcomes_of(self.task, outputs, batch)
            for one in accumulated[network : network + 1]:
                one.update(outputs, batch)
            for group, members in waiting.add(network, outputs):
                joint = self.task.ensemble(members)
                if joint is not None:
                    together[group] = outcomes_of(self.task, joint, batch)
        return [singly[i] for i in range(len(singly))], [together[i] for i in range(len(together))]

    def _require_batches(self, batches: int) -> None:
        if not batches:
            raise TaskError(
                f"the data of task {self.task.name!r} gives no batch", expected="at least one item"
            )

    def _check_items(self, outcomes: Outcomes, items: int | None) -> None:
        found = next(iter(outcomes.values())).shape[1] if outcomes else items
        if items is not None and found != items:
            raise TaskError(
                f"predict of task {self.task.name!r} gives {found} outcomes over the whole data",
                expected=f"{items}, one per item of the data",
                remedy="return one value per item, and let batches() give every item once",
            )

    def _metrics(self, outcomes: Outcomes) -> dict[str, Tensor]:
        """From the outcomes of N networks; without the first metric where only metric objects give it."""
        count = len(next(iter(outcomes.values())))
        each = [network_metrics(self.task, {k: v[i] for k, v in outcomes.items()}, {}) for i in range(count)]
        return metric_table(self.task, each, partial=overrides(self.task, "metric_objects"))
