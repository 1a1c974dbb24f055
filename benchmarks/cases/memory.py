"""Peak memory of fitting a long zoo, above the zoo itself (the paper: 40 GB at D = 100,000).

Steps need the same memory from the first on, so few are done. The libraries are loaded before, by a fit of a tiny zoo.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.cases.fit import warm_up
from benchmarks.inputs import plain_zoo, recipe_generator
from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        dim, k: D and K of the zoo.
        batch: members in a step of the autoencoder.
        autoencoder_steps, steps: of the two trainings.
    """

    dim: int = 100_000
    k: int = 200
    batch: int = 200
    autoencoder_steps: int = 10
    steps: int = 50


QUICK = {"dim": 20_000, "autoencoder_steps": 3}


def run(sizes: Sizes) -> Iterator[Row]:
    warm_up(sizes)
    zoo = plain_zoo(sizes.k, sizes.dim)
    both = [f"generator.diffusion.steps={sizes.steps}", "generator.diffusion.early_stop=false"]
    codec = [
        f"generator.autoencoder.batch={sizes.batch}",
        f"generator.autoencoder.steps={sizes.autoencoder_steps}",
        "generator.autoencoder.early_stop=false",
    ]
    for name, words in {"p-diff": codec, "p-diff-linear": ["generator=pdiff_linear"]}.items():
        generator = recipe_generator([*words, *both], sizes.device)
        measurements, _ = measured(
            Candidate("ours", lambda made=generator: made.fit(zoo), note="few steps"),
            rounds=1, device=sizes.device, warm=False,
        )  # fmt: skip
        target = "under 1 GiB above the zoo" if name == "p-diff" else ""
        what = f"memory of fit, {name}, D = {sizes.dim:,}, K = {sizes.k}, batch {sizes.batch}"
        yield Row(what, measurements, target, figures={"zoo, MiB": zoo.vectors.nbytes / 2**20})
