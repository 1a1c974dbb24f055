"""``python -m benchmarks.results``: tables and figures of the measured results, from their data files.

``docs/results/*.csv`` hold the numbers as they were measured, one file per experiment, and ``experiments.yaml`` what
belongs to each: command, seed, hardware, version. From them come

- ``docs/results/README.md``: every table with what it was measured with,
- ``docs/results/*.svg``: the figures,
- the tables of ``docs/results.md``, between ``<!-- table: FILE; columns: A, B; rows: COLUMN=VALUE|VALUE -->`` and
  ``<!-- end -->``.

No number is written by hand twice: ``tests/test_benchmarks_results.py`` fails if any of these is not up to date.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "results"
PAGE = DOCS / "results.md"

BLOCK = re.compile(r"<!-- table: (?P<query>.*?) -->\n(?P<table>.*?)<!-- end -->", re.DOTALL)
SAID = ("seed", "hardware", "took", "setting")
LIKE_IT = {
    "reference": "The zoo is the reference zoo ([how to make one like it](../reference_zoo.md)).",
    "reference network": "The network is that of the reference zoo ([how to make one like it](../reference_zoo.md)).",
}
ON_THE_FRONT = ("p-diff", "gaussian", "swag", "low-rank-gaussian", "p-diff-linear")

Rows = list[dict[str, str]]


def main() -> None:
    """Write everything anew."""
    (FOLDER / "README.md").write_text(all_tables())
    PAGE.write_text(filled(PAGE.read_text()))
    draw_front(FOLDER / "reference_zoo_front.svg")


def described() -> dict[str, Any]:
    """``experiments.yaml``."""
    return yaml.safe_load((FOLDER / "experiments.yaml").read_text())


def rows_of(name: str) -> Rows:
    """The rows of ``NAME.csv``, each number as it was written."""
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Rows, columns: Sequence[str] = ()) -> str:
    """Rows as markdown; without ``columns`` all that are not empty everywhere."""
    shown = columns or [column for column in rows[0] if any(row[column] for row in rows)]
    lines = [shown, ["---"] * len(shown), *([row[column] for column in shown] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def all_tables() -> str:
    """The page of every table."""
    about = described()
    parts = [
        "# All results\n\nMade by `python -m benchmarks.results` from the files of this folder; conclusions are in "
        "[results](../results.md).\n",
        f"Machine: {about['machine']}. Version {about['version']} unless said; commands have today's "
        "keys. N = 100 samples unless said, and every "
        "baseline draws as many.\n",
        "| column | what it is |\n| --- | --- |\n"
        + "".join(f"| {name} | {text} |\n" for name, text in about["columns"].items()),
    ]
    parts += [section(name, one, name in about["figures"]) for name, one in about["experiments"].items()]
    return "\n".join(parts)


def section(name: str, about: Mapping[str, Any], drawn: bool) -> str:
    """One experiment: what it was, its table, what is seen."""
    facts = [f"**{key}**: {about[key]}" for key in (*SAID, "version") if key in about]
    notes = [*about["notes"], *([LIKE_IT[about["zoo"]]] if "zoo" in about else [])]
    parts = [
        f"## {about['title']}\n",
        "```sh\n" + "".join(f"{command}\n" for command in about["command"]) + "```\n",
        "; ".join(facts) + f"; data: [`{name}.csv`]({name}.csv)\n",
        table(rows_of(name)),
        *([f"![{about['title']}]({name}.svg)\n"] if drawn else []),
        "".join(f"- {note}\n" for note in notes),
    ]
    return "\n".join(parts)


def filled(page: str) -> str:
    """``page`` with every table between its marks made anew."""
    return BLOCK.sub(
        lambda found: f"<!-- table: {found['query']} -->\n{queried(found['query'])}<!-- end -->", page
    )


def queried(query: str) -> str:
    """The table that a mark describes."""
    name, *rest = (part.strip() for part in query.split(";"))
    given = dict(part.split(":", 1) for part in rest)
    rows = rows_of(name)
    for condition in given.get("rows", "").split(","):
        if condition.strip():
            column, values = condition.strip().split("=")
            rows = [row for row in rows if row[column] in values.split("|")]
    columns = [column.strip() for column in given.get("columns", "").split(",") if column.strip()]
    return table(rows, columns)


def digest() -> str:
    """What the figure is made from: it carries this, so that a stale one is found without drawing."""
    return sha256((FOLDER / "reference_zoo_front.csv").read_bytes()).hexdigest()[:16]


def draw_front(path: Path) -> None:
    """Accuracy against error IoU, one curve per generator."""
    from paramdiff.reports.plotting import COLOURS, GREY, canvas, style

    rows = rows_of("reference_zoo_front")
    original = next(row for row in rows_of("reference_zoo") if row["model"] == "original")
    with style():
        figure, axes = canvas(330)
        axis = axes[0, 0]
        for colour, model in zip(COLOURS, ON_THE_FRONT, strict=True):
            points = [(float(row["within"]), float(row["mean"])) for row in rows if row["model"] == model]
            axis.plot(
                *zip(*points, strict=True), "o-", color=colour, label=model, linewidth=1.6, markersize=4
            )
        axis.plot(
            float(original["within"]),
            float(original["mean"]),
            "*",
            color=GREY,
            label="original",
            markersize=10,
        )
        axis.set(xlabel="error IoU within (lower: more diverse)", ylabel="mean test accuracy, %")
        axis.legend(loc="lower right")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(path, format="svg", metadata=nothing)
    path.write_text(path.read_text().rstrip() + f"\n<!-- from reference_zoo_front.csv {digest()} -->\n")


if __name__ == "__main__":
    main()
