"""How time grows: fit and sample against D and K, sampling against N, at fixed small numbers of steps.

The exponent is that of the power that fits best to all points; small ones are held up by costs that do not grow, so
the exponent between the last two is given beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cases.fit import warm_up
from benchmarks.inputs import plain_zoo, recipe_generator
from benchmarks.measure import Candidate, exponent, measured
from benchmarks.rows import Curve, Row
from benchmarks.sizes import Common
from paramdiff.generators.generator import Generator

GENERATORS = {
    "p-diff": ("generator=pdiff", "generator.autoencoder.steps=10", "generator.autoencoder.early_stop=false"),
    "p-diff-linear": ("generator=pdiff_linear",),
}
DIMS = (2_048, 8_192, 32_768, 131_072, 524_288, 1_048_576)
WHOLE_RESNET18 = 11_000_000


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        dims: values of D, with ``k`` members.
        members: values of K, with D = ``dim``.
        counts: values of N.
        k, dim, n: what is fixed while another grows.
        steps: of the denoiser.
    """

    dims: tuple[int, ...] = DIMS
    members: tuple[int, ...] = (50, 100, 200, 400)
    counts: tuple[int, ...] = (10, 100, 1_000)
    k: int = 50
    dim: int = 2_048
    n: int = 20
    steps: int = 100


QUICK = {"dims": (2_048, 8_192, 32_768), "members": (50, 200), "steps": 30}
LARGE = {"dims": (*DIMS, WHOLE_RESNET18)}

Work = Callable[[], Any]


def run(sizes: Sizes) -> Iterator[Row]:
    warm_up(sizes)
    generators = {name: _generator(sizes, name) for name in GENERATORS}
    for name, made in generators.items():
        yield from _series(sizes, name, "D", sizes.dims, lambda dim, g=made: _fit(g, sizes.k, dim, sizes.n))
    for name, made in generators.items():
        yield from _series(sizes, name, "K", sizes.members, lambda k, g=made: _fit(g, k, sizes.dim, sizes.n))
    for name, made in generators.items():
        fitted = made.fit(plain_zoo(sizes.k, sizes.dim))
        yield from _series(sizes, name, "N", sizes.counts, lambda n, made=fitted: lambda: made.sample(n))


def _generator(sizes: Sizes, name: str) -> Generator:
    fixed = [f"generator.diffusion.steps={sizes.steps}", "generator.diffusion.early_stop=false"]
    return recipe_generator([*GENERATORS[name], *fixed], sizes.device)


def _fit(generator: Generator, k: int, dim: int, n: int) -> Work:
    """Fit and sample; the zoo is made before."""
    zoo = plain_zoo(k, dim)
    return lambda: generator.fit(zoo).sample(n)


def _series(
    sizes: Sizes, name: str, over: str, values: Sequence[int], make: Callable[[int], Work]
) -> Iterator[Row]:
    """A row for each size, and one with the curve."""
    work = "sampling" if over == "N" else "fit + sample"
    seconds = []
    for value in values:
        measurements, _ = measured(
            Candidate("ours", make(value)), rounds=sizes.rounds, device=sizes.device, warm=over == "N"
        )
        seconds.append(measurements[0].median)
        yield Row(f"{work}, {name}, {over} = {value:,}", measurements)
    curve = Curve(
        name, over, list(values), seconds, exponent(values, seconds), exponent(values[-2:], seconds[-2:])
    )
    target = "exponent at most 1.1" if over == "D" else ""
    figures = {"exponent": curve.exponent, "of the last two": curve.last}
    yield Row(f"{work}, {name}, against {over}", target=target, figures=figures, curve=curve)
