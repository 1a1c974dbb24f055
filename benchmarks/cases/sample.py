"""Drawing N vectors from a fitted p-diff: one batch with the default solver, against one vector at a time.

The plain way is the paper's sampling: 1,000 steps of the reverse process (``scheduler=ddpm``) for one vector after
another. Its time does not depend on what the networks have learnt, so the fit may be short.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.inputs import recipe_generator, reference
from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Reference
from paramdiff.generators.generator import Generator


@dataclass(frozen=True)
class Sizes(Reference):
    """
    Attributes:
        n: N.
        plain_n: vectors that are drawn one at a time.
        plain_steps: of the reverse process for each of them.
        fit: what is added to the recipe of the reference zoo.
    """

    n: int = 100
    plain_n: int = 3
    plain_steps: int = 1000
    fit: tuple[str, ...] = ("generator.diffusion.steps=200", "generator.autoencoder.steps=50")


QUICK = {"plain_n": 1}


def run(sizes: Sizes) -> Iterator[Row]:
    zoo = reference(sizes).zoo
    fitted = recipe_generator(sizes.fit, sizes.device).fit(zoo)
    plain = one_at_a_time(
        fitted, {"diffusion.scheduler": "ddpm", "diffusion.sample_steps": sizes.plain_steps}
    )
    measurements, _ = measured(
        Candidate("ours", lambda: fitted.sample(sizes.n)),
        Candidate(
            f"one at a time, ddpm, {sizes.plain_steps:,} steps", lambda: plain.sample(sizes.plain_n),
            sizes.n / sizes.plain_n, f"{sizes.plain_n} of {sizes.n}, scaled",
        ),
        rounds=sizes.rounds, device=sizes.device,
    )  # fmt: skip
    yield Row(f"sample {sizes.n} vectors, D = {zoo.dim:,}", measurements, target="100x")


def one_at_a_time(fitted: Generator, settings: Mapping[str, Any]) -> Generator:
    """A fitted generator that draws its samples one by one, with other settings of sampling, by dotted key."""
    with tempfile.TemporaryDirectory() as folder:
        fitted.save(f"{folder}/generator")
        again = Generator.load(f"{folder}/generator")
    again.change(settings)
    vars(again)["drawn_at_once"] = 1
    return again
