"""Compare: every baseline fitted, sampled and scored like the main generator; and a map of its latents."""

from pathlib import Path

from paramdiff.collectors.learning_curve import watched_items
from paramdiff.files import save_tensors
from paramdiff.generators.guidance import without_guidance
from paramdiff.generators.latent import LatentGenerator
from paramdiff.runs.context import RunContext
from paramdiff.runs.latent_map import FILE as LATENTS
from paramdiff.runs.latent_map import latent_points
from paramdiff.runs.manifest import Stage
from paramdiff.runs.rows import GeneratorRow
from paramdiff.runs.stages.bill import bill_stages
from paramdiff.runs.stages.fit import fit
from paramdiff.runs.stages.sample import sample, with_settings
from paramdiff.runs.stages.score import score


def compare(run: RunContext) -> list[Stage]:
    """Three stages a baseline, those of the bill, and the map, where the main generator has latents."""
    stages = [stage for row in run.baselines for stage in _baseline(run, row)]
    stages += bill_stages(run)
    return [*stages, latent_map(run)] if isinstance(run.main.generator, LatentGenerator) else stages


def _baseline(run: RunContext, row: GeneratorRow) -> list[Stage]:
    return [
        fit(run, row, f"compare:{row.name}:fit"),
        sample(run, row, f"compare:{row.name}:sample"),
        score(run, row, "compare"),
    ]


def latent_map(run: RunContext) -> Stage:
    """Points to be drawn of the main generator's latents and of its path from noise to samples."""
    now = run.main.sampling

    def work(scratch: Path) -> None:
        generator = with_settings(run, run.main, now)
        assert isinstance(generator, LatentGenerator)
        items = watched_items(run.task)
        found, header = latent_points(
            generator, run.zoo, run.as_drawn(run.main), run.plan.seed,
            lambda vectors: run.scorer.training_metric(items)(run.recalibrated(vectors)), items,
        )  # fmt: skip
        save_tensors(run.path(LATENTS), found, header)

    needs = ["zoo", run.main.fitted, *run.drawn_files(run.main)]
    settings = [run.settings["task"], run.plan.seed, without_guidance(now), *run.recalibrating]
    return Stage("compare:latents:map", settings, needs, [LATENTS], work)
