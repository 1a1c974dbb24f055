r"""What brings networks from independent seeds into one basin: methods of alignment, with and without REPAIR.

    paramdiff collect experiment=mnist_mlp3 zoo.k=16 zoo.train.epochs=2 zoo.align=false run_dir=runs/mnist_mlp
    python -m benchmarks.alignment runs/mnist_mlp --members 8 --rounds 2

Each round takes the next members of each zoo, puts their units in a random order, and aligns them by each method
(:mod:`paramdiff.zoo.alignment`). Midpoints of pairs, and the average of all, are then scored on the test data as they
are and after REPAIR (:mod:`paramdiff.networks.repair`), which for BatchNorm measures running statistics anew. The
*barrier* is the loss of a mixture less the mean loss of its endpoints. Numbers are means over the rounds.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paramdiff.files import write_json
from paramdiff.networks.symmetry import Symmetries, find_symmetries
from paramdiff.runs.inspecting import own_task
from paramdiff.scoring.alignment_data import alignment_data
from paramdiff.scoring.repairing import Repair
from paramdiff.scoring.scorer import Scorer
from paramdiff.seeds import generator
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.alignment import METHODS, align
from paramdiff.zoo.weight_matching import Matcher
from paramdiff.zoo.zoo import Zoo

ITEMS = 1000
"""Training items for REPAIR."""


@dataclass
class Row:
    """One method on one zoo; scores are in the task's metric, ``seconds`` (of a processor) those of the alignment."""

    zoo: str
    method: str
    repair: str
    seconds: float
    members: float
    midpoints: float
    midpoint_barrier: float | None
    average: float
    average_barrier: float | None


def measured(
    name: str, zoo: Zoo, task: Task, methods: Sequence[str], pairs: int, number: int
) -> Iterator[Row]:
    """One round on some members."""
    model = task.model()
    symmetries = find_symmetries(model)
    assert isinstance(symmetries, Symmetries), symmetries
    zoo, scorer = shuffled(zoo, symmetries, number), Scorer(task, zoo)
    members, loss = scored(scorer, zoo.vectors)
    for method in ("none", *methods):
        data, started = alignment_data(scorer, method), time.process_time()
        aligned = zoo if method == "none" else align(zoo, symmetries, number, method, model, data)[0]
        seconds = time.process_time() - started
        mixed = mixtures(aligned.vectors, pairs, number)
        repairing = Repair(scorer, ITEMS)
        for how in ("no", "yes"):
            vectors = torch.stack(
                [end.mean(0) if how == "no" else repairing(end.mean(0), end) for end in mixed]
            )
            metric, nll = scored(scorer, vectors)
            barrier = None if nll is None or loss is None else nll - loss.mean()
            yield Row(
                name, method, how, seconds, float(members.mean()), float(metric[:-1].mean()),
                None if barrier is None else float(barrier[:-1].mean()), float(metric[-1]),
                None if barrier is None else float(barrier[-1]),
            )  # fmt: skip


def shuffled(zoo: Zoo, symmetries: Symmetries, number: int) -> Zoo:
    """The same members with their units in random orders, so that nothing is left of an earlier alignment."""
    groups, vectors = symmetries.within(zoo.spec.names).groups, zoo.vectors.clone()
    matcher, random = Matcher(zoo.spec, groups), generator("shuffle", number)
    for v in vectors:
        matcher.reorder(v, [torch.randperm(group.size, generator=random) for group in groups])
    return Zoo(vectors, zoo.spec, zoo.base, zoo.records, zoo.about)


def mixtures(vectors: Tensor, pairs: int, number: int) -> list[Tensor]:
    """The endpoints of some random pairs, and all members."""
    every = torch.combinations(torch.arange(len(vectors)))
    chosen = torch.randperm(len(every), generator=generator("pairs", number))[:pairs]
    return [*(vectors[pair] for pair in every[chosen]), vectors]


def scored(scorer: Scorer, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
    """The metric and, if the task knows it, the mean negative log-likelihood of each network."""
    scores = scorer.score(vectors, "test")
    nll = scores.outcomes.get("nll")
    return scores.metric, None if nll is None else nll.double().mean(1)


def averaged(rounds: Sequence[Sequence[Row]]) -> list[Row]:
    """The same rows with means over the rounds."""
    return [Row(**{field.name: _mean([getattr(row, field.name) for row in same]) for field in fields(Row)})
            for same in zip(*rounds, strict=True)]  # fmt: skip


def _mean(values: Sequence[Any]) -> Any:
    return values[0] if not isinstance(values[0], float) else sum(values) / len(values)


def table(rows: Sequence[Row]) -> str:
    names = [field.name for field in fields(Row)]
    cells = [[_cell(value) for value in asdict(row).values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *cells))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, help="run folders or zoos, collected with zoo.align=false"
    )
    parser.add_argument("--task", help="the zoos' task, where they do not tell or it is not trusted")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--members", type=int, default=8, help="of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=10, help="whose midpoints are scored")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/alignment.json"))
    own = parser.parse_args(words)
    torch.set_num_threads(1)
    rows: list[Row] = []
    for folder in own.folders:
        zoo = Zoo.load(folder / "zoo" if (folder / "zoo").is_dir() else folder)
        task = make_task(own.task) if own.task else own_task(zoo)
        if task is None:
            parser.error(f"the task of {folder} is not known: give it by --task")
        parts = [zoo[i * own.members : (i + 1) * own.members] for i in range(own.rounds)]
        rounds = [list(measured(folder.name, part, task, own.methods.split(","), own.pairs, i))
                  for i, part in enumerate(parts)]  # fmt: skip
        rows += averaged(rounds)
        write_json(own.out, {"settings": {**vars(own), "folders": list(map(str, own.folders)), "out": str(own.out)},
                             "rows": list(map(asdict, rows))})  # fmt: skip
    print(table(rows))


if __name__ == "__main__":
    main()
