"""Fitting the reference zoo and drawing 100 samples, with what they are worth.

Two things to compare with. The reference implementation's 1,023 s on two cores (its newest code at its own settings)
are quoted from ``reference/README.md`` of the data, not measured here. The paper's own settings, ``generator=paper``,
are measured: seconds per step of its autoencoder and of its denoiser, from fits that differ by a few steps, times its
numbers of steps, and its 1,000-step sampling one vector at a time.

Quality is that of the first samples on all test images: mean accuracy, and mean error-IoU among them (the
reference implementation's: 0.6364 and 0.934). It is left out where networks are random.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from benchmarks.cases.sample import one_at_a_time
from benchmarks.inputs import World, plain_zoo, recipe_generator, reference
from benchmarks.measure import Candidate, Estimate, measured, timed
from benchmarks.quality import accuracy_and_similarity
from benchmarks.rows import Measurement, Row
from benchmarks.sizes import Common, Reference
from paramdiff.generators.generator import Generator
from paramdiff.scoring.scorer import Scorer
from paramdiff.zoo.zoo import Zoo

REFERENCE_SECONDS = 1023.0
"""Of the reference implementation, fit and 100 samples on two cores; see the module."""


@dataclass(frozen=True)
class Sizes(Reference):
    """
    Attributes:
        n: N, samples that are drawn.
        scored: of these, how many are scored.
        convolutional, linear, paper: what is added to the recipe of the reference zoo.
        autoencoder_steps, steps, plain_n: of ``paper``, how many are timed.
    """

    n: int = 100
    scored: int = 50
    convolutional: tuple[str, ...] = ("generator=pdiff_cool",)
    linear: tuple[str, ...] = ("generator=pdiff_linear", "generator.contraction=0.4")
    paper: tuple[str, ...] = ("generator=paper",)
    autoencoder_steps: int = 10
    steps: int = 50
    plain_n: int = 2


QUICK = {"images": 1_000, "scored": 10, "autoencoder_steps": 3, "steps": 10, "plain_n": 1}


def run(sizes: Sizes) -> Iterator[Row]:
    world = reference(sizes)
    warm_up(sizes)
    paper = Candidate("paper's settings", lambda: _paper_seconds(sizes, world.zoo), note="from a few steps")
    yield _row(sizes, world, "p-diff", sizes.convolutional, "15x, aim 50x", paper)
    yield _row(sizes, world, "p-diff-linear", sizes.linear, "100x, aim 300x")


def _row(
    sizes: Sizes, world: World, name: str, words: tuple[str, ...], target: str, *plain: Candidate
) -> Row:
    generator = recipe_generator(words, sizes.device)
    measurements, results = measured(
        Candidate("ours", lambda: generator.fit(world.zoo).sample(sizes.n)),
        *plain,
        rounds=sizes.rounds,
        device=sizes.device,
        warm=False,
    )
    given = Measurement(
        "reference implementation",
        [REFERENCE_SECONDS] * sizes.rounds,
        note="given for two cores, not measured",
    )
    what = f"fit + sample {sizes.n}, {name}, K = {world.zoo.k}, D = {world.zoo.dim:,}"
    return Row(what, [measurements[0], given, *measurements[1:]], target, _quality(sizes, world, results[0]))


def warm_up(sizes: Common) -> None:
    """Load what a fit needs, so that its time and memory are its own."""
    words = ["generator.diffusion.steps=2", "generator.autoencoder.steps=2"]
    recipe_generator(words, sizes.device).fit(plain_zoo(12, 64)).sample(1)


def _quality(sizes: Sizes, world: World, samples: Tensor) -> dict[str, float]:
    if not world.real:
        return {}
    scorer = Scorer(world.task, world.zoo, sizes.device)
    accuracy, alike = accuracy_and_similarity(scorer, samples[: sizes.scored])
    found = {"mean accuracy": accuracy}
    return found if alike is None else found | {"similarity": alike}


def _paper_seconds(sizes: Sizes, zoo: Zoo) -> Estimate:
    """What ``generator=paper`` would take for all of its steps, and for N samples one at a time."""
    whole: Any = recipe_generator(sizes.paper, sizes.device)

    def fit(autoencoder_steps: int, steps: int) -> tuple[float, Generator]:
        made = replace(
            whole, autoencoder=replace(whole.autoencoder, steps=autoencoder_steps),
            diffusion=replace(whole.diffusion, steps=steps),
        )  # fmt: skip
        return timed(lambda: made.fit(zoo), sizes.device)

    fixed, fitted = fit(1, 1)
    autoencoder = max(0.0, fit(1 + sizes.autoencoder_steps, 1)[0] - fixed) / sizes.autoencoder_steps
    denoiser = max(0.0, fit(1, 1 + sizes.steps)[0] - fixed) / sizes.steps
    one_by_one = one_at_a_time(fitted, {})
    sample = timed(lambda: one_by_one.sample(sizes.plain_n), sizes.device)[0] / sizes.plain_n
    return Estimate(
        fixed + whole.autoencoder.steps * autoencoder + whole.diffusion.steps * denoiser + sizes.n * sample
    )
