"""Ensembles on the page: a table for each size of ensemble, and the result in a sentence."""

from dataclasses import dataclass
from typing import Any

from paramdiff.evaluation.summary import ORIGINALS
from paramdiff.reports import formatting, wording
from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.formatting import Metric


@dataclass(frozen=True)
class Line:
    """A generator's ensembles of one size, as text; what is ``alone`` says the same of one network.

    Attributes:
        role: ``original``, ``main`` or ``baseline``.
        groups: how many ensembles.
        difference: NLL minus that of as many originals, with its interval.
    """

    label: str
    role: str
    groups: int
    accuracy: str
    accuracy_alone: str
    nll: str
    nll_alone: str
    difference: str
    difference_ci: str
    ece: str
    ece_alone: str
    disagreement: str


@dataclass(frozen=True)
class EnsembleTable:
    """All generators that have ensembles of ``m`` networks."""

    m: int
    lines: list[Line]


def tables(run: FinishedRun) -> list[EnsembleTable]:
    """One for each size, the largest first; none if the task has no ensembles."""
    sizes = sorted({m for row in run.rows for m in row.ensembles if m > 1}, reverse=True)
    return [EnsembleTable(m, [_line(row, m, run) for row in run.rows if m in row.ensembles]) for m in sizes]


def sentence(run: FinishedRun) -> str:
    """What the largest ensembles of the main generator reach; empty if there are none."""
    m = max(run.main.ensembles, default=1)
    mine, alone = run.main.ensembles.get(m, {}), run.main.ensembles.get(1, {})
    if m == 1 or mine["nll"] is None:
        return ""
    nll = _nll(run)
    text = (
        f"{m} samples of {run.main.label} with their predictions averaged reach an NLL of {nll(mine['nll'])}"
    )
    text += f", one alone {nll(alone['nll'])}" if alone else ""
    theirs = run.originals.ensembles.get(m, {}).get("nll")
    if theirs is not None:
        text += f"; {m} originals reach {nll(theirs)}"
    found = _versus(mine)
    if not found.get("ci95"):
        return f"{text}."
    difference = f"{nll.signed(found['difference'])}, {wording.interval(nll, found['ci95'], signed=True)}"
    return f"{text} ({difference}): {wording.outcome(nll, found['ci95'])}."


def _line(row: Row, m: int, run: FinishedRun) -> Line:
    roles = dict.fromkeys(ORIGINALS, "original") | {run.main.name: "main"}
    accuracy, nll, share = _accuracy(run), _nll(run), Metric("share", False, True, 1, None)
    mine, alone = row.ensembles[m], row.ensembles.get(1, {})
    found = _versus(mine)
    bounds = found.get("ci95")
    return Line(
        label=row.label, role=roles.get(row.name, "baseline"), groups=mine["groups"],
        accuracy=accuracy.plain(mine["accuracy"]), accuracy_alone=_alone(accuracy, alone.get("accuracy")),
        nll=nll.plain(mine["nll"]), nll_alone=_alone(nll, alone.get("nll")),
        difference=nll.signed(found.get("difference")),
        difference_ci=f"{nll.signed(bounds[0])} to {nll.signed(bounds[1])}" if bounds else "",
        ece=share.plain(mine["ece"]), ece_alone=_alone(share, alone.get("ece")),
        disagreement=share.plain(mine["disagreement"]),
    )  # fmt: skip


def _alone(metric: Metric, value: float | None) -> str:
    return "" if value is None else f"alone {metric.plain(value)}"


def _versus(ensemble: dict[str, Any]) -> dict[str, Any]:
    """Difference in NLL to the originals' ensembles."""
    return (ensemble["vs_original"] or {}).get("nll") or {}


def _accuracy(run: FinishedRun) -> Metric:
    digits = 2 if (run.part("n_items").get("test") or 0) >= 2000 else 1
    return Metric("accuracy", True, True, digits, None)


def _nll(run: FinishedRun) -> Metric:
    known = [entry["nll"] for entry in run.originals.ensembles.values() if entry["nll"] is not None]
    return Metric("NLL", False, False, formatting.decimals(min(known, default=None)), None)
