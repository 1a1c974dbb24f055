"""Results: ``results.json`` and ``stats.jsonl``, from the scores on disk of every row that is up to date."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from paramdiff.evaluation.results_schema import SCHEMA, Recalibration, Results
from paramdiff.evaluation.summary import spread
from paramdiff.files import load_tensors, write_json, write_text
from paramdiff.runs.context import RunContext
from paramdiff.runs.environment import machine
from paramdiff.runs.manifest import Stage
from paramdiff.runs.results import (
    Finding,
    judge,
    loss_lines,
    note_of,
    notes,
    row_of,
    task_info,
    zoo_info,
)
from paramdiff.runs.rows import GeneratorRow
from paramdiff.runs.stages import bill, originals
from paramdiff.runs.stages.costs import cost_of
from paramdiff.runs.stages.sample import with_settings
from paramdiff.runs.stages.score import BEFORE, score


def results(run: RunContext, groups: Mapping[str, Sequence[Stage]]) -> Stage:
    """The record of the run.

    Args:
        run: the run.
        groups: the stages behind each name in ``timings_s``.
    """
    current = [row for row in run.baselines if run.folder.is_current(score(run, row, "compare"))]
    rows, billed = [run.main, *current], bill.files(run)

    def work(scratch: Path) -> None:
        findings = [_finding(run, row) for row in rows]
        write_text(run.path("stats.jsonl"), loss_lines(_curves(findings)))
        found = _record(run, findings, _timings(run, groups))
        if billed:
            found["bill"] = bill.billed(run)
        write_json(run.path("results.json"), found)

    scores = [*originals.score_files(run), *run.reference_files, *(row.scores for row in rows)]
    needs = list(dict.fromkeys(["zoo", *scores, *(row.fitted for row in rows), *billed]))
    return Stage("results", [run.command], needs, ["results.json", "stats.jsonl"], work)


def _curves(findings: Sequence[Finding]) -> list[tuple[str, str, Sequence[float]]]:
    """Losses as (stage, name, values)."""
    stages = ["fit", *(finding.name for finding in findings[1:])]
    return [
        (stage, name, losses)
        for stage, finding in zip(stages, findings, strict=True)
        for name, losses in finding.generator.losses.items()
    ]


def _finding(run: RunContext, row: GeneratorRow) -> Finding:
    comparison = run.originals.compare(run.vectors(row), run.scored(row.scores))
    generator = with_settings(run, row, row.sampling)
    return Finding(row.name, generator, comparison, _recalibration_facts(run, row), cost_of(run, generator))


def _recalibration_facts(run: RunContext, row: GeneratorRow) -> Recalibration | None:
    if not run.recalibrating:
        return None
    before = load_tensors(run.path(row.scores))[BEFORE]
    return {"items": run.recalibration.seen, "before": spread(before, run.task.higher_is_better)}


def _timings(run: RunContext, groups: Mapping[str, Sequence[Stage]]) -> dict[str, float | None]:
    seconds = {
        group: round(run.folder.seconds([stage.name for stage in stages]), 3)
        for group, stages in groups.items()
    }
    return {**seconds, "total": round(sum(seconds.values()), 3)}


def _record(run: RunContext, findings: list[Finding], timings: dict[str, float | None]) -> Results:
    main, others, chance = findings[0], findings[1:], run.scorer.chance("test")
    return {
        "schema": SCHEMA, "experiment": run.plan.name, "generator": main.name, "command": run.command,
        "seed": run.plan.seed,
        "task": task_info(run.task, chance), "zoo": zoo_info(run.zoo, run.settings["zoo"]),
        "n_items": {split: run.scorer.items(split) for split in ("train", "test")},
        "reference": run.reference_name,
        "models": [*originals.rows(run), *(row_of(finding, run.originals) for finding in findings)],
        "verdict": judge(run.task, run.originals, main, others, chance).to_json(),
        "reconstruction_check": note_of(main.generator, "reconstruction_check"),
        "denoising": note_of(main.generator, "denoising"),
        "notes": [*notes(run.zoo, run.originals, chance, run.task.metric), *originals.notes(run)],
        "timings_s": timings,
        "peak_rss_bytes": run.folder.peak_rss_bytes(), "machine": machine(run.device),
    }  # fmt: skip
