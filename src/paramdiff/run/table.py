"""The summary a run ends with on the terminal: one row a generator, the verdict, where things lie."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from paramdiff.files import read_json


def print_summary(folder: Path) -> None:
    """Print the table of ``results.json`` to standard output."""
    results = read_json(folder / "results.json")
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(summary_table(results))
    console.print(f"[bold]{results['verdict']['class']}[/]: {results['verdict']['why']}")
    gate = results.get("gate")
    if gate and not gate["passed"]:
        console.print(f"[bold red]reconstruction gate failed[/]: {gate['why']}")
    for note in results.get("notes", []):
        console.print(f"note: {note}")
    seconds = results["timings_s"]
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    console.print(f"time: {seconds['total']:.1f} s ({parts})")
    _print_paths(console, folder)


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
    table.add_column("model")
    for name in ("n", "best", "mean", "median", "worst", "selected [95%]", "within", "to zoo", "nearest"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results["models"]:
        style = "bold" if row["name"] == results["generator"] else None
        table.add_row(*_cells(row, task["metric"]), style=style)
    return table


def _cells(row: dict[str, Any], metric: str) -> list[str]:
    test, selected, similarity = row["test"], row["selected"], row["similarity"]
    low, high = selected["test_ci95"] or (None, None)
    number = lambda value: score(value, metric)
    interval = "" if low is None else f" [{score(low, metric, 1)}, {score(high, metric, 1)}]"
    alike = (similarity[key] for key in ("within", "to_zoo_mean", "to_zoo_max_mean"))
    return [
        row["name"], str(row["n"]), *(number(test[key]) for key in ("best", "mean", "median", "worst")),
        number(selected["test"]) + interval, *("-" if value is None else f"{value:.3f}" for value in alike),
    ]  # fmt: skip


def score(value: float | None, metric: str, places: int = 2) -> str:
    """Percent for accuracies, plain digits for everything else."""
    if value is None:
        return "-"
    return f"{100 * value:.{places}f}" if metric == "accuracy" else f"{value:.4g}"
