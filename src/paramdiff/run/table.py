"""What a run ends with on the terminal: one row a generator, the verdict, where things lie; or a sweep's curves."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from paramdiff.report.finished import read_results
from paramdiff.report.schema import read_file

ALIKE = {"within": "within", "to_zoo_mean": "to zoo", "to_zoo_max_mean": "nearest"}
"""Similarities and their columns."""


def make_console() -> Console:
    """Standard output; wide enough for a table where it is a file."""
    return Console(width=None if Console().is_terminal else 120, highlight=False)


def print_summary(folder: Path) -> None:
    """Print the table of ``results.json`` to standard output."""
    results = read_results(folder, printed=True)
    console = make_console()
    console.print(summary_table(results))
    console.print(f"[bold]{results['verdict']['class']}[/]: {results['verdict']['why']}")
    for line in together(results):
        console.print(line)
    gate = results.get("gate")
    if gate and not gate["passed"]:
        console.print(f"[bold red]reconstruction gate failed[/]: {gate['why']}")
    for note in results.get("notes", []):
        console.print(f"note: {note}")
    seconds = results["timings_s"]
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    console.print(f"time: {seconds['total']:.1f} s ({parts})")
    _print_paths(console, folder)


def together(results: dict[str, Any]) -> list[str]:
    """One line on the largest ensembles of the run's generator; none if it has none, or their NLL is unknown."""
    rows = {row["name"]: row for row in results["models"]}
    found = [one for one in rows[results["generator"]].get("ensembles", []) if one["m"] > 1]
    if not found or found[-1]["nll"] is None:
        return []
    mine, theirs = found[-1], (found[-1]["vs_original"] or {}).get("nll", {})
    text = f"ensembles of {mine['m']}: {results['generator']} NLL {mine['nll']:.4g}"
    if theirs.get("ci95"):
        low, high = theirs["ci95"]
        text += f", originals {mine['nll'] - theirs['difference']:.4g}"
        text += f" (difference {theirs['difference']:+.2g} [{low:+.2g}, {high:+.2g}])"
    return [text]


def _print_paths(console: Console, folder: Path) -> None:
    for name, file in (
        ("best sample", "samples/best.safetensors"),
        ("results", "results.json"),
        ("report", "report.html"),
    ):
        if (folder / file).exists():
            console.print(f"{name + ':':<13}{folder / file}", soft_wrap=True)


def summary_table(results: dict[str, Any]) -> Table:
    """One row per model: test scores, the sample selected on train, similarity."""
    task, zoo = results["task"], results["zoo"]
    title = f"{results['experiment']}: test {task['metric']}, K = {zoo['k']}, D = {zoo['dim']}"
    table = Table(title=title, title_justify="left", header_style="bold")
    items = {row["recalibration"]["items"] for row in results["models"] if row.get("recalibration")}
    if items:
        table.caption = (
            f"before: mean before running statistics were measured on {max(items):,} training items"
        )
    table.add_column("model")
    before = ["before"] if items else []
    for name in ("n", "best", *before, "mean", "median", "worst", "selected [95%]", *ALIKE.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results["models"]:
        style = "bold" if row["name"] == results["generator"] else None
        table.add_row(*_cells(row, task["metric"], bool(items)), style=style)
    return table


def print_sweep(folder: Path) -> None:
    """Print the curves of ``sweep.json`` to standard output."""
    results, sweep = read_results(folder, printed=True), read_file(folder, "sweep.json")
    console = make_console()
    console.print(sweep_table(results, sweep))
    for name, file in (("curves", "sweep.json"), ("report", "report.html")):
        console.print(f"{name + ':':<8}{folder / file}", soft_wrap=True)


def sweep_table(results: dict[str, Any], sweep: dict[str, Any]) -> Table:
    """One row per generator and value of its knob; the zoo itself first."""
    metric = results["task"]["metric"]
    title = f"{results['experiment']}: test {metric} against similarity, N = {sweep['n']}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("model")
    for name in ("knob", "mean [95%]", "median", "std", *ALIKE.values()):
        table.add_column(name, justify="right", no_wrap=True)
    zoo = results["models"][0]
    before = [score(zoo["test"][key], metric) for key in ("mean", "median", "std")]
    table.add_row(zoo["name"], "", *before, *_alike(zoo["similarity"]), end_section=True)
    for curve in sweep["curves"]:
        for number, one in enumerate(curve["points"]):
            name = "" if number else curve["label"]
            last = number == len(curve["points"]) - 1
            table.add_row(
                name,
                f"{curve['knob']} {one['value']:g}",
                *_scores(one, metric),
                *_alike(one),
                end_section=last,
            )
    return table


def _scores(one: dict[str, Any], metric: str) -> list[str]:
    mean = _with_interval(one["test_mean"], one["test_ci95"], metric)
    return [mean, *(score(one[key], metric) for key in ("test_median", "test_std"))]


def _cells(row: dict[str, Any], metric: str, recalibrated: bool) -> list[str]:
    test, selected = row["test"], row["selected"]
    drawn = (row.get("recalibration") or {"before": {"mean": None}})["before"]["mean"]
    before = [score(drawn, metric)] if recalibrated else []
    return [
        row["name"], str(row["n"]), score(test["best"], metric), *before,
        *(score(test[key], metric) for key in ("mean", "median", "worst")),
        _with_interval(selected["test"], selected["test_ci95"], metric), *_alike(row["similarity"]),
    ]  # fmt: skip


def _with_interval(value: float | None, interval: list[float] | None, metric: str) -> str:
    ends = "" if interval is None else f" [{', '.join(score(end, metric, 1) for end in interval)}]"
    return score(value, metric) + ends


def _alike(similarity: dict[str, Any]) -> list[str]:
    return ["-" if similarity[key] is None else f"{similarity[key]:.3f}" for key in ALIKE]


def score(value: float | None, metric: str, places: int = 2) -> str:
    """Percent for accuracies, plain digits for everything else."""
    if value is None:
        return "-"
    return f"{100 * value:.{places}f}" if metric == "accuracy" else f"{value:.4g}"
