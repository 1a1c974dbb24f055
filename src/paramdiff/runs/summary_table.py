"""The summary of a run on the terminal: one row a generator, the verdict, paths of files; or a sweep's curves."""

import shutil
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from paramdiff.evaluation.results_schema import Model, Results, Versus
from paramdiff.reports.finished_run import read_results
from paramdiff.reports.formatting import Metric, priced, steps
from paramdiff.reports.schema import read_file
from paramdiff.runs.console import WIDE, SafeConsole, bold
from paramdiff.runs.text_table import TextTable

ALIKE = {"within": "within", "to_zoo_mean": "to zoo", "to_zoo_max_mean": "nearest"}
"""Similarities and their columns."""

STEPS = {"gradient_steps": "steps", "with_zoo": "with zoo"}
"""Gradient steps per network and their columns."""

IMPORTANT = ("n", "mean", "mean [95%]", "selected [95%]", "within")
"""Columns that come first where not all fit beside each other."""


def print_summary(folder: Path) -> None:
    """Print the table of ``results.json`` to standard output, how long it took and where its files are."""
    results = read_results(folder, printed=True)
    console = SafeConsole()
    _print_results(console, results)
    seconds = {name: value for name, value in results["timings_s"].items() if value is not None}
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    console.print(f"time: {seconds.get('total', 0):.1f} s ({parts})")
    _print_paths(console, folder)


def summary_text(results: Results) -> str:
    """The table of ``results.json`` and its verdict as text, as wide as the terminal is."""
    width = shutil.get_terminal_size((WIDE, 0)).columns
    console = SafeConsole(file=StringIO(), width=width)
    with console.capture() as captured:
        _print_results(console, results)
    return captured.get()


def _print_results(console: Console, results: Results) -> None:
    summary_sheet(results).print(console)
    if note := recalibrated_on(results):
        console.print(note)
    _print_text(console, str(results["verdict"]["class"]), str(results["verdict"]["why"]), "bold")
    for line in together(results):
        console.print(line)
    if bill := results.get("bill"):
        _print_text(console, "bill", str(bill["why"]), "bold")
    check = results.get("reconstruction_check")
    if check and not check.get("passed"):
        _print_text(console, "reconstruction check failed", str(check.get("why")), "bold red")
    for note in results.get("notes") or []:
        _print_text(console, "note", note, "")


def together(results: Results) -> list[str]:
    """One line on the largest ensembles of the run's generator; none if it has none, or their NLL is unknown."""
    name = results["generator"]
    own = next(row.get("ensembles") or [] for row in results["models"] if row["name"] == name)
    largest = own[-1] if own and own[-1]["m"] > 1 else None
    nll = None if largest is None else largest.get("nll")
    if largest is None or nll is None:
        return []
    versus = (largest.get("vs_original") or {}).get("nll")
    return [f"ensembles of {largest['m']}: {name} NLL {nll:.4g}{_to_originals(nll, versus)}"]


def _to_originals(nll: float, versus: Versus | None) -> str:
    """How the NLL of ensembles differs from that of the originals' ones; empty where no interval is known."""
    difference, interval = (versus.get("difference"), versus.get("ci95")) if versus else (None, None)
    if difference is None or interval is None or None in interval:
        return ""
    low, high = interval
    return f", originals {nll - difference:.4g} (difference {difference:+.2g} [{low:+.2g}, {high:+.2g}])"


def _print_paths(console: Console, folder: Path) -> None:
    for name, file in (
        ("best sample", "samples/best.safetensors"),
        ("results", "results.json"),
        ("report", "report.html"),
    ):
        if (folder / file).exists():
            console.print(f"{name + ':':<13}{folder / file}", soft_wrap=True)


def _print_text(console: Console, name: str, text: str, style: str) -> None:
    console.print(bold(name, f": {text}", style))


def summary_sheet(results: Results) -> TextTable:
    """One row per model: test scores, the sample selected on train, similarity."""
    task, zoo, rows = results["task"], results["zoo"], results["models"]
    before = ["before"] if recalibrated_on(results) else []
    steps = list(STEPS.values()) if priced(rows) else []
    middle = ["median", "worst", "selected [95%]"]
    columns = ["n", "best", *before, "mean", *middle, *_known_alike(rows), *steps]
    return TextTable(
        title=f"{results['experiment']}: test {task['metric']}, K = {zoo['k']}, D = {zoo['dim']}",
        headings=["model", *columns],
        rows=[_cells(row, Metric.of_results(results), columns) for row in rows],
        first=IMPORTANT,
        bold=[number for number, row in enumerate(rows) if row["name"] == results["generator"]],
    )


def recalibrated_on(results: Results) -> str:
    """What the column ``before`` means; empty without one."""
    items = {row["recalibration"]["items"] for row in results["models"] if row.get("recalibration")}
    what = "before: mean before running statistics were measured on"
    return f"{what} {max(items):,} training items" if items else ""


def print_sweep(folder: Path) -> None:
    """Print the curves of ``sweep.json`` to standard output."""
    results, sweep = read_results(folder, printed=True), read_file(folder, "sweep.json")
    console = SafeConsole()
    sweep_sheet(results, sweep).print(console)
    for name, file in (("curves", "sweep.json"), ("report", "report.html")):
        console.print(f"{name + ':':<8}{folder / file}", soft_wrap=True)


def sweep_sheet(results: Results, sweep: dict[str, Any]) -> TextTable:
    """One row per generator and value of its knob; the zoo itself first."""
    metric, known = Metric.of_results(results), {row["name"]: row for row in results["models"]}
    zoo = known[results.get("reference") or "original"]
    test = zoo["test"]
    scores = [score(value, metric) for value in (test["mean"], test["median"], test["std"])]
    own = [zoo["name"], "", *scores, *_alike(zoo["similarity"])]
    curves = [
        [curve["label"], f"{curve['knob']} {one['value']:g}", *_scores(one, metric), *_alike(one)]
        for curve in sweep["curves"]
        for one in curve["points"]
    ]
    return TextTable(
        title=f"{results['experiment']}: test {results['task']['metric']} against similarity, N = {sweep['n']}",
        headings=["model", "knob", "mean [95%]", "median", "std", *ALIKE.values()],
        rows=[own, *curves], named=2, first=IMPORTANT, grouped=True,
    )  # fmt: skip


def _scores(one: dict[str, Any], metric: Metric) -> list[str]:
    mean = _with_interval(one["test_mean"], one["test_ci95"], metric)
    return [mean, *(score(one[key], metric) for key in ("test_median", "test_std"))]


def _cells(row: Model, metric: Metric, columns: Sequence[str]) -> list[str]:
    """The name of a row, and what is in these columns."""
    selected = row["selected"]
    test: Mapping[str, Any] = row["test"]
    cost: Mapping[str, Any] = row.get("cost") or {}
    drawn = row["recalibration"]["before"]["mean"] if row.get("recalibration") else None
    known = {name: score(test[name], metric) for name in ("best", "mean", "median", "worst")}
    known |= {"n": str(row["n"]), "before": score(drawn, metric)}
    known["selected [95%]"] = _with_interval(selected["test"], selected["test_ci95"], metric)
    known |= dict(zip(ALIKE.values(), _alike(row["similarity"]), strict=True))
    known |= {heading: steps(cost.get(key)) for key, heading in STEPS.items()}
    return [row["name"], *(known[column] for column in columns)]


def _with_interval(value: float | None, interval: Sequence[float | None] | None, metric: Metric) -> str:
    ends = "" if interval is None else f" [{', '.join(score(end, metric, 1) for end in interval)}]"
    return score(value, metric) + ends


def _known_alike(rows: Sequence[Model]) -> list[str]:
    """The columns of similarities; none where a task has no sets of mistakes."""
    known = any(_alike(row["similarity"]) != ["-"] * len(ALIKE) for row in rows)
    return list(ALIKE.values()) if known else []


def _alike(similarity: Mapping[str, Any]) -> list[str]:
    return ["-" if similarity[key] is None else f"{similarity[key]:.3f}" for key in ALIKE]


def score(value: float | None, metric: Metric, places: int = 2) -> str:
    """In per cent where the page has it so, too; else as plain digits."""
    if value is None:
        return "-"
    return f"{100 * value:.{places}f}" if metric.percent else f"{value:.4g}"


def print_outcome(folder: Path, groups: Sequence[str]) -> None:
    """Print the result of these groups of stages: the curves of a sweep, else the table, if they have made one."""
    if "sweep" in groups:
        print_sweep(folder)
    elif (folder / "results.json").exists() and {"score", "compare", "report"} & set(groups):
        print_summary(folder)
