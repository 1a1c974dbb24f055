"""What a sample of a run's generator costs."""

from paramdiff.evaluation.cost import cost_of_samples, further
from paramdiff.evaluation.results_schema import Cost
from paramdiff.generators.generator import Generator
from paramdiff.runs.context import RunContext
from paramdiff.runs.rows import GeneratorRow
from paramdiff.runs.stages.sample import with_settings


def cost_of_row(run: RunContext, row: GeneratorRow) -> Cost:
    """Gradient steps per sample of a row whose generator is fitted."""
    return cost_of(run, with_settings(run, row, row.sampling))


def cost_of(run: RunContext, generator: Generator) -> Cost:
    """Gradient steps per sample of a fitted generator of the run."""
    fitting, sampling = generator.gradient_steps_fitting, generator.gradient_steps_sampling
    own = cost_of_samples(run.zoo_cost, run.plan.n, fitting, sampling, generator.members_needed)
    if not generator.continues:
        return own
    return further(cost_of_row(run, run.main), own["gradient_steps"] or 0)
