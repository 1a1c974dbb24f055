"""The results as a page of markdown: the machine, one table, and what failed."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.rows import Measurement, Row

HEADER = (
    "case", "what", "ours", "against", "its time", "**ratio**", "target", "memory above inputs", "quality, figures",
)  # fmt: skip


def written(results: Mapping[str, Any]) -> str:
    """The page of a results file."""
    lines = ["# Benchmarks", "", *about(results), "", row_of(HEADER), row_of(["---"] * len(HEADER))]
    for name, case in results["cases"].items():
        for row in map(Row.from_json, case["rows"]):
            lines += [row_of([name, *cells]) for cells in cells_of(row)]
    return "\n".join([*lines, "", *each_case(results), ""])


def about(results: Mapping[str, Any]) -> list[str]:
    """Where and how it was measured."""
    machine, settings = results["machine"], results["settings"]
    cores = f"{machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}"
    kind = "real data" if results["inputs"] == "real" else "random networks and images of the same sizes"
    sizes = " (quick sizes)" if settings["quick"] else ""
    return [
        f"{machine['cpu']}, {cores}, device {machine['device']}; revision {results['git']}; {kind}{sizes}.",
        f"Seconds are medians of {settings['rounds']} rounds in which all variants took turns; a ratio is the median "
        "of the rounds' ratios, above 1 where ours is faster.",
    ]


def each_case(results: Mapping[str, Any]) -> list[str]:
    """How long each case took, beside how much else the machine did, and what failed."""
    lines = [row_of(["case", "took", "load average before", "peak memory", ""]), row_of(["---"] * 5)]
    for name, case in results["cases"].items():
        load = f"{case['load_average'][0]:.2f}"
        why = case["why"] if case["status"] == "failed" else ""
        lines.append(
            row_of([name, duration(case["seconds"]), load, size(case["peak_rss_bytes"]), plain_cell(why)])
        )
    return lines


def cells_of(row: Row) -> Iterator[list[str]]:
    """A line for each plain way; what belongs to all of them is in the first."""
    own = row.ours
    told = [row.target, "" if own is None else size(own.above_inputs), facts(row)]
    ours = "" if own is None else duration(own.median) + remark(own)
    if not row.plain:
        yield [row.what, ours, "", "", "", *told]
    for number, one in enumerate(row.plain):
        ratio = f"**{short(median(row.ratios[one.name]))}x**"
        against = [one.name + remark(one), duration(one.median), ratio]
        yield [row.what, ours, *against, *told] if number == 0 else ["", "", *against, "", "", ""]


def facts(row: Row) -> str:
    """Quality and figures in one cell."""
    return "; ".join(f"{name} {short(value)}" for name, value in {**row.quality, **row.figures}.items())


def remark(one: Measurement) -> str:
    return f" ({one.note})" if one.note else ""


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    if seconds >= 3600:
        return f"{seconds / 3600:.3g} h"
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{seconds * 1000:.3g} ms"


def size(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def short(value: float) -> str:
    """Three digits, thousands with commas; four digits for what lies near 1, such as accuracies."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4g}" if 0.1 <= abs(value) <= 1 else f"{value:.3g}"


def row_of(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(map(plain_cell, cells))} |"


def plain_cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
