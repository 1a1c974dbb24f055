"""The report a run ends with: one self-contained page, and its figures as files.

``report.html`` needs nothing but itself: style and drawings are inside, there is no script and no
request to anywhere. The same run folder always gives the same bytes.
"""

import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paramdiff.errors import DiskError, ParamdiffError
from paramdiff.evaluation.summary import ORIGINALS
from paramdiff.files import write_text
from paramdiff.progress import say
from paramdiff.registry import registered_in
from paramdiff.reports import ensemble_tables, formatting, plotting, wording
from paramdiff.reports.figures.equal_bill import draw_bill, has_bill
from paramdiff.reports.figures.heat_maps import draw_patterns
from paramdiff.reports.figures.latent_maps import draw_latents, draw_paths
from paramdiff.reports.figures.losses import draw_losses
from paramdiff.reports.figures.norm_layers import draw_states
from paramdiff.reports.figures.parameter_evolution import draw_training
from paramdiff.reports.figures.score_histograms import draw_scores
from paramdiff.reports.figures.similarity_matrix import draw_alike
from paramdiff.reports.figures.similarity_scatter import draw_similarity
from paramdiff.reports.figures.time_to_accuracy import draw_pace
from paramdiff.reports.figures.tradeoff import draw_front
from paramdiff.reports.finished_run import SPREAD, FinishedRun, Row
from paramdiff.reports.formatting import Metric

SIMILARITY = ("within", "to_zoo_mean", "to_zoo_max_mean")
TEMPLATES = Path(__file__).parent / "templates"

FIGURES: dict[str, tuple[Callable[[FinishedRun], plotting.Plot], ...]] = {
    "": (draw_front, draw_bill, draw_scores, draw_similarity),
    "Novelty": (draw_alike,),
    "Parameters": (draw_training, draw_patterns, draw_states),
    "Latents": (draw_latents, draw_paths),
    "Training": (draw_losses, draw_pace),
}
"""Every figure, in the order of the page: those without a heading beside the main results, the first of them
right below the table and the second only where bills were compared, the others under their headings in the section
*More figures*."""


def render(run_folder: Path) -> Path:
    """Write ``report.html`` and ``figures/<name>.svg`` and ``.png`` into a finished run folder.

    Args:
        run_folder: a folder with ``results.json``; whatever else is missing is left out of the page.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: there is no usable ``results.json``.
        ParamdiffError: matplotlib or jinja2 is not installed.
    """
    require_libraries()
    run = FinishedRun.read(Path(run_folder))
    drawings: dict[str, Any] = {}
    with plotting.style():
        plots = {
            heading: [
                _drawn(draw, run, drawings) for draw in figures if draw is not draw_bill or has_bill(run)
            ]
            for heading, figures in FIGURES.items()
        }
    path = run.folder / "report.html"
    main = plots.pop("")
    write_text(path, template("report.html.j2").render(view(run), plots=main, more=plots, drawings=drawings))
    return path


def _drawn(
    draw: Callable[[FinishedRun], plotting.Plot], run: FinishedRun, drawings: dict[str, Any]
) -> plotting.Plot:
    """A figure, its drawing kept under its name; or why there is none.

    A run folder may be damaged, or a stranger's, in ways that its types do not show: a figure then stays away, and
    the page says so.
    """
    name = draw.__name__.removeprefix("draw_")
    try:
        plot = draw(run)
        if plot.figure is not None:
            drawings[plot.name] = plotting.save(plot, run.folder / "figures")
        return plot
    except DiskError:
        raise
    except (ParamdiffError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        say(
            f"  the figure {name} cannot be drawn from what {run.folder} holds ({type(error).__name__}: {error})"
        )
        return plotting.Plot(
            name, name.capitalize(), "This figure cannot be drawn from what the run folder holds."
        )


def require_libraries(names: Iterable[str] = ("matplotlib", "jinja2")) -> None:
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ParamdiffError(
            f"the report needs {' and '.join(missing)}, which is not installed",
            remedy='pip install "paramdiff[report]", then run `paramdiff report` again',
        )


def template(name: str) -> Any:
    """A page of ``templates/`` with the filters that write numbers."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": formatting.number,
        "duration": formatting.duration,
        "sentence": wording.sentence,
    }
    return environment.get_template(name)


def view(run: FinishedRun) -> dict[str, Any]:
    """Everything the template shows, as values and sentences."""
    metric = Metric.of(run)
    return {
        "generators": {name.removesuffix("-k"): one.summary for name, one in registered_in("generators").items()},
        "run": run, "metric": metric, "experiment": run.results.get("experiment") or run.folder.name,
        "headline": wording.headline(run), "cards": wording.cards(run), "broken": wording.broken(run),
        "verdict": run.part("verdict", "class", "why", "shares"), "shares": wording.shares(run),
        "check": wording.reconstruction_check(run), "check_sentence": wording.reconstruction_sentence(run),
        "denoising": wording.denoising_sentence(run),
        "notes": list(run.results.get("notes") or []),
        "facts": facts(run), "times": times(run), "command": run.results.get("command"),
        "machine": machine(run), "rows": [cells(row, run) for row in run.rows],
        "ensembles": ensemble_tables.tables(run), "ensemble_sentence": ensemble_tables.sentence(run),
        "has_similarity": run.has_similarity, "recalibrated": run.recalibrated,
        "has_cost": formatting.priced(run.results["models"]),
        "has_comparison": any(row.selected["vs_original"] for row in run.rows),
    }  # fmt: skip


def cells(row: Row, run: FinishedRun) -> dict[str, Any]:
    """One row of the table, as text."""
    roles = dict.fromkeys(ORIGINALS, "original") | {run.main.name: "main"}
    metric, chosen, comparison = Metric.of(run), row.selected, row.selected["vs_original"] or {}
    return {
        "label": row.label, "n": row.n, "role": roles.get(row.name, "baseline"),
        "kind": re.sub(r"(-[0-9.]+)+$", "", row.name),
        "test": [metric.plain(row.test[key]) for key in SPREAD],
        "before": metric.plain((row.recalibration["before"] or {}).get("mean")),
        "train": [metric.plain(row.train[key]) for key in SPREAD],
        "selected": metric.plain(chosen["test"]), "selected_ci": _range(metric, chosen["test_ci95"]),
        "difference": metric.signed(comparison.get("difference")),
        "difference_ci": _range(metric, comparison.get("ci95"), signed=True),
        "similarity": [formatting.fraction(row.similarity[key]) for key in SIMILARITY],
        "nearest": formatting.fraction(row.distance["nearest"], 2),
        "outside": formatting.percent(row.distance["residual_to_span"]),
        "ratios": [formatting.fraction(row.distance[key], 2) for key in ("nearest_ratio", "pairwise_ratio")],
        "cost": [formatting.steps(row.cost[key]) for key in ("gradient_steps", "with_zoo")],
    }  # fmt: skip


def _range(metric: Metric, bounds: list[float | None] | None, signed: bool = False) -> str:
    if not bounds or None in bounds:
        return ""
    write = metric.signed if signed else metric.plain
    return f"{write(bounds[0])} to {write(bounds[1])}" if signed else f"{write(bounds[0])}–{write(bounds[1])}"


def facts(run: FinishedRun) -> list[tuple[str, str]]:
    """What was run, as pairs of a term and its value."""
    task, zoo, items, metric = run.part("task"), run.part("zoo"), run.part("n_items"), Metric.of(run)
    better = f"{metric.name}, {'higher' if metric.higher else 'lower'} is better"
    select, where = zoo.get("select"), ("processor", "cores", "device")
    return _known([
        ("Experiment", run.results.get("experiment")),
        ("Task", task.get("name")),
        ("Scored by", better if metric.chance is None else f"{better}; chance {metric(metric.chance)}"),
        ("Items", " · ".join(f"{formatting.number(n)} {key}" for key, n in items.items() if n is not None)),
        ("Originals", f"K = {formatting.number(zoo.get('k'))} trained networks"),
        ("Trained for", wording.training(zoo.get("training"))),
        ("Generated", f"D = {formatting.number(zoo.get('dim'))} parameters"),
        ("Selection", ", ".join(select) if isinstance(select, list) else select),
        ("Samples", f"N = {formatting.number(run.main.n)} per generator"),
        ("Recalibrated", f"on {formatting.number(run.recalibrated)} training items" if run.recalibrated else None),
        ("Seed", zoo.get("seed")),
        ("Machine", " · ".join(value for key, value in machine(run) if key in where)),
    ])  # fmt: skip


def machine(run: FinishedRun) -> list[tuple[str, str]]:
    """Where it ran and what it took."""
    about, peak = run.part("machine"), run.results.get("peak_rss_bytes")
    return _known([
        ("processor", about.get("cpu")),
        ("cores", f"{about['cores']} cores" if about.get("cores") else None),
        ("device", about.get("device")),
        ("torch", f"torch {about['torch']}" if about.get("torch") else None),
        ("peak memory", formatting.size(peak) if peak else None),
    ])  # fmt: skip


def _known(pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(term, str(value)) for term, value in pairs if value not in (None, "")]


def times(run: FinishedRun) -> list[dict[str, Any]]:
    """Seconds per stage, with its share of the longest in per cent for a bar; the total, without, last."""
    known = {name: seconds for name, seconds in run.part("timings_s").items() if seconds is not None}
    total = known.pop("total", None)
    longest = max(known.values(), default=0) or 1
    stages = [
        {"stage": name, "seconds": seconds, "share": round(100 * seconds / longest, 1)}
        for name, seconds in known.items()
    ]
    return stages if total is None else [*stages, {"stage": "total", "seconds": total, "share": None}]
