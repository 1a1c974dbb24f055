"""Report: the page and its figures, from the files of the run folder alone."""

from pathlib import Path

from paramdiff.runs.context import RunContext
from paramdiff.runs.latent_map import FILE as LATENTS
from paramdiff.runs.manifest import Stage
from paramdiff.runs.stages.collect import TRAINING


def report(run: RunContext) -> Stage:
    """``report.html``."""

    def work(scratch: Path) -> None:
        from paramdiff.reports.page import render  # matplotlib

        render(run.folder.path)

    drawn = [name for name in ("sweep.json", LATENTS, TRAINING) if run.path(name).exists()]
    needs = ["results.json", "stats.jsonl", "config.yaml", *drawn]
    return Stage("report", [], needs, ["report.html"], work)
