"""``python -m benchmarks.verdicts``: see :mod:`benchmarks.verdicts`."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

import benchmarks.verdicts
from benchmarks.verdicts import sets, zoos
from paramdiff.evaluation.comparison import Originals
from paramdiff.evaluation.evidence import Evidence
from paramdiff.evaluation.reference import Reference
from paramdiff.evaluation.verdict import CLASSES, Verdict, verdict
from paramdiff.progress import say

SCORES = ", scored"
TRUE = "true draws"
COPIES = (
    "copies",
    "permuted",
    "rescaled",
    "half copies",
    "20% copies",
    "12% copies",
    "15% copies",
    "one copy",
)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.verdicts", description=benchmarks.verdicts.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--zoos", help=f"some of {';'.join([*zoos.TUNED, *zoos.HELD_OUT])}, with ; between")
    made.add_argument("--seeds", type=int, default=20)
    made.add_argument("--n", type=int, default=50, help="samples in a set")
    made.add_argument("--out", type=Path, default=Path("verdicts.json"))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    made, drawn = zoos.TUNED | zoos.HELD_OUT, sets.TUNED | sets.HELD_OUT
    names = options.zoos.split(";") if options.zoos else list(made)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in names:
        start = time.process_time()
        table: dict[str, Counter[str]] = {}
        for seed in range(options.seeds):
            case = made[name](torch.Generator().manual_seed(seed))
            for what, given in verdicts(case, drawn, options.n):
                table.setdefault(what, Counter())[given.kind] += 1
        found[name] = table
        options.out.write_text(json.dumps(found, indent=1))
        options.out.with_suffix(".md").write_text(markdown(found))
        say(f"{name}: {time.process_time() - start:.0f} s")
        for line in wrong(table):
            say(f"  {line}")


def verdicts(case: zoos.Case, drawn: dict[str, sets.Drawn], n: int) -> list[tuple[str, Verdict]]:
    """What is said of every kind of samples, by weights alone and, of networks, with their scores and mistakes."""
    known = case.score and Originals(case.zoo, case.score(case.zoo.vectors), True, case.model)
    reference = known.reference if known else Reference(case.zoo)
    found = []
    for what, make in drawn.items():
        vectors = make(case, n)
        if vectors is None:
            continue
        if known and case.score:
            compared = known.compare(vectors, case.score(vectors))
            evidence = Evidence.of(compared, known, {}, "accuracy", 0.1)
            found.append((what + SCORES, verdict(evidence)))
            samples = evidence.samples
        else:
            samples = reference.distances(vectors)
        found.append((what, verdict(Evidence(samples, reference.members))))
    return found


def markdown(found: dict[str, dict[str, dict[str, int]]]) -> str:
    """One row a zoo: true draws, copies, all other sets, and the kinds of sets that were called novel."""
    lines = ["| zoo | true draws novel | copies novel | others novel | which |", "|---|---|---|---|---|"]
    for zoo, table in found.items():
        groups: dict[str, list[dict[str, int]]] = {"true": [], "copies": [], "others": []}
        for what, given in table.items():
            name = "true" if what.startswith(TRUE) else "copies" if what.startswith(COPIES) else "others"
            groups[name].append(given)
        numbers = [
            f"{sum(g.get('novel', 0) for g in group)} of {sum(sum(g.values()) for g in group)}"
            for group in groups.values()
        ]
        novel = [
            (what, g["novel"]) for what, g in table.items() if g.get("novel") and not what.startswith(TRUE)
        ]
        lines.append(f"| {zoo} | {' | '.join(numbers)} | {', '.join(f'{what} {n}' for what, n in novel)} |")
    return "\n".join(lines) + "\n"


def wrong(table: dict[str, Counter[str]]) -> list[str]:
    """The cells that are not what they should be, in words."""
    return [
        f"{what}: " + ", ".join(f"{given[kind]} {kind}" for kind in CLASSES if given[kind])
        for what, given in table.items()
        if (given["novel"] > 0) != what.startswith(TRUE) or (what.startswith(TRUE) and len(given) > 1)
    ]


if __name__ == "__main__":
    main()
