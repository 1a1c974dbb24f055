"""Generators at an equal bill: which points are compared, what is better, and the figure."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finished_runs import model, results, write_run
from paramdiff.evaluation.bill import Budget, Curve, Point, bill_of, split
from paramdiff.evaluation.cost import further
from paramdiff.evaluation.ensembles import Ensembles
from paramdiff.evaluation.results_schema import Bill, Cost
from paramdiff.reports.figures.equal_bill import draw_bill, has_bill
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.seeds import generator
from paramdiff.validation import typed

ITEMS = 400


def point(steps: int, start: Cost, score: float, nll: float | None = None) -> Point:
    """Networks with this accuracy and NLL, whose items differ alike from curve to curve."""
    luck = torch.rand(ITEMS, generator=generator("luck"))
    right = (luck < score).double()
    items = None if nll is None else {"nll": nll + 0.1 * luck}
    together = None if items is None else Ensembles(10, {"nll": items["nll"].double().mean()[None]}, items)
    return Point(steps, further(start, steps), right.mean().expand(3), right, together)


def curve(kind: str, own: float, total: float, *scores: tuple[int, float, float], name: str = "") -> Curve:
    start: Cost = {"gradient_steps": own, "with_zoo": total}
    return Curve(name or kind, kind, [point(steps, start, score, nll) for steps, score, nll in scores])


def billed(*curves: Curve, higher: bool = True) -> Bill:
    """Of a generator that took 160 steps, 200 with the zoo."""
    main = curve("main", 160, 200, (0, 0.9, 0.3), name="ours")
    found = bill_of([main, *curves], Budget(0, 160, 200), "accuracy", higher)
    return typed(found, Bill, "bill")


def test_what_makes_bills_equal():
    budget = Budget.of({"gradient_steps": 160.3, "with_zoo": 200.3}, [0, 10])
    assert budget == Budget(0, 160.3, 200.3)
    assert budget.counts([0, 10], {"gradient_steps": 0, "with_zoo": 0}) == [0, 10, 160, 200]
    assert budget.counts([10], {"gradient_steps": 0, "with_zoo": 40}) == [0, 10, 160]
    assert budget.counts([10], {"gradient_steps": 160.3, "with_zoo": 168.3}) == [0, 10, 32]
    assert budget.counts([10], {"gradient_steps": 500, "with_zoo": None}) == [0, 10]
    free = Budget.of({"gradient_steps": 0, "with_zoo": None}, [0, 10, 30])
    assert free == Budget(30, 30, None), "samples that took no step are trained further themselves"
    assert free.counts([0, 10, 30], {"gradient_steps": 0, "with_zoo": None}) == [0, 10, 30]


def test_worth_its_bill():
    found = billed(
        curve("scratch", 0, 0, (0, 0.1, 2), (160, 0.8, 0.5), (200, 0.82, 0.45)),
        curve("average", 0, 40, (160, 0.85, 0.4)), curve("member", 0, 40, (160, 0.85, 0.4)),
        curve("twin", 160, 160, (0, 0.7, 0.6), (40, 0.75, 0.5)),
        curve("other", 0, 40, (160, 0.95, 0.1)),
    )  # fmt: skip
    assert found["worth"] == {"generator": True, "zoo": True}
    said = [(one["against"], one["with_zoo"], one["steps"], one["outcome"]) for one in found["comparisons"]]
    assert said == [
        ("scratch", False, 160, "better"), ("average", False, 160, "better"), ("member", False, 160, "better"),
        ("twin", False, 0, "better"), ("other", False, 160, "worse"),
        ("scratch", True, 200, "better"), ("twin", True, 40, "better"),
    ]  # fmt: skip
    assert found["why"].startswith("at 160 gradient steps per network ours reaches 9")
    assert "better than networks from scratch (" in found["why"] and "At 200 gradient steps" in found["why"]
    assert found["why"].endswith("The generator is worth its bill; the zoo is worth its bill")
    assert "other" not in found["why"]


@pytest.mark.parametrize(
    ("scratch", "twin", "worth"),
    [
        ((0.9, 0.3), (0.9, 0.3), {"generator": False, "zoo": False}),
        ((0.95, 0.5), (0.7, 0.6), {"generator": False, "zoo": False}),
        ((0.8, 0.5), (0.95, 0.2), {"generator": True, "zoo": False}),
    ],
)
def test_not_worth_it(scratch: tuple[float, float], twin: tuple[float, float], worth: dict[str, bool]):
    """As good is not better; better in one measure and worse in the other is not, either."""
    found = billed(
        curve("scratch", 0, 0, (160, *scratch), (200, *scratch)), curve("twin", 160, 160, (0, *twin))
    )
    assert found["worth"] == worth
    assert "the zoo is not worth its bill" in found["why"]


def test_a_lower_metric_can_be_the_better_one():
    found = billed(curve("scratch", 0, 0, (160, 0.95, 0.5)), higher=False)
    assert found["comparisons"][0]["outcome"] == "better" and found["worth"]["zoo"] is None
    assert found["why"].endswith("the zoo cannot be priced here")


def test_files_are_read_by_steps():
    found = split({"100.test": torch.ones(1), "9.test": torch.zeros(1), "9.ensembles.10.nll": torch.ones(1)})
    assert list(found) == [9, 100] and set(found[9]) == {"test", "ensembles.10.nll"}


def drawn(folder: Path, **changes: Any):
    rows = [model("original", 0.97), model("p-diff", 0.96)]
    run = FinishedRun.read(write_run(folder, results(*rows, generator="p-diff", **changes), curves=False))
    return has_bill(run), draw_bill(run)


def test_the_figure_has_a_line_for_every_start(tmp_path: Path):
    bill = billed(
        curve("scratch", 0, 0, (0, 0.1, 2), (160, 0.8, 0.5)), curve("average", 0, 40, (0, 0.7, 1), (160, 0.85, 0.4))
    )  # fmt: skip
    there, plot = drawn(tmp_path / "a", bill=bill)
    assert there and plot.caption.startswith("At 160 gradient steps per network ours reaches")
    above, below = plot.figure.axes
    lines = [line for line in above.lines if line.get_marker() != "None"]
    assert len(lines) == 3 + 2, "one each, and hollow marks where the zoo has a share"
    assert below.get_ylabel() == "NLL of 10 together (log scale)"
    for one in bill["curves"]:
        for place in one["points"]:
            place["nll"] = None
    assert len(drawn(tmp_path / "b", bill=bill)[1].figure.axes) == 1


def test_without_a_bill_there_is_no_figure(tmp_path: Path):
    there, plot = drawn(tmp_path / "a")
    assert not there and plot.figure is None
