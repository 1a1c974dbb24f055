r"""How well a prior learns distributions that are known: the ladder by which its defaults are chosen.

    python -m benchmarks.ladder                                        # the default prior on all worlds
    python -m benchmarks.ladder --worlds modes --k 2000 prediction=eps steps=900
    python -m benchmarks.ladder --generator p-diff --temperatures 1,0.4

From K draws of each world (:mod:`benchmarks.worlds`) the prior is fitted, on the draws themselves as
standardised latents, or as a whole generator on a zoo of which they are the vectors, and N samples are drawn at
each temperature. What is measured:

* *variance*: total variance of the samples over the world's. Where there is one mode, T^2 is right;
* *inside*: share of samples in a mode (0.999 of true draws are);
* *weights*: largest error of a mode's share of the samples;
* *within*: median squared distance from the own mode over that of true draws; T^2 is right;
* *distance*: the samples' sliced Wasserstein distance to the world, over that of K true draws (or N, if fewer):
  1 is as good as the zoo that was seen. At T = 1 only;
* *new*: median distance to the nearest of the K, over that of fresh draws: 0 for copies.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.worlds import WORLDS, World, world
from paramdiff.files import write_json
from paramdiff.generators import make
from paramdiff.generators.diffusion import Diffusion, LatentDiffusion
from paramdiff.generators.reconstruction_check import split
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.zoo import Zoo

SIZES = (200, 2000)
N = 2000


@dataclass
class Rung:
    """One world, learnt from K draws; ``steps`` and ``seconds`` (of one thread's time) are those of the fit."""

    world: str
    k: int
    steps: int
    seconds: float
    temperature: float
    variance: float
    inside: float | None
    weights: float | None
    within: float | None
    distance: float | None
    new: float


class Fitted:
    """A prior fitted to draws as they are, or a generator fitted to a zoo of them."""

    def __init__(self, x: Tensor, generator: str | None, settings: dict[str, Any]) -> None:
        started = time.process_time()
        self.generator = None if generator is None else make(generator)
        if self.generator is not None:
            self.generator.change({"reconstruction_check.action": "off", **settings})
            self.generator.fit(_zoo(x))
        else:
            self.mean, self.deviation = x.mean(0), x.std(0, correction=0)
            z = (x - self.mean) / self.deviation
            fitted, held = split(len(z), 0.1, 0)
            self.prior = LatentDiffusion(Diffusion(**settings))
            self.prior.fit(z[fitted], z[held])
        self.seconds = time.process_time() - started

    @property
    def steps(self) -> int:
        losses = self.prior.losses if self.generator is None else self.generator.losses.get("denoiser", [])
        return len(losses)

    def sample(self, n: int, temperature: float) -> Tensor:
        if self.generator is None:
            self.prior.settings.temperature = temperature
        else:
            self.generator.change(
                {key: temperature for key in self.generator.sampling if "temperature" in key}
            )
        if self.generator is not None:
            return self.generator.sample(n, seed=5)
        return self.prior.sample(range(n), 5) * self.deviation + self.mean


def _zoo(x: Tensor) -> Zoo:
    base = {"w": x[0]}
    return Zoo(x, ParameterSpec.from_state_dict(base, "all"), base)


def measured(truth: World, x: Tensor, y: Tensor) -> dict[str, float | None]:
    """Samples ``y``, of what was learnt from ``x``."""
    shares = truth.weights(y)
    fresh = truth.draw(len(y), 77)
    return {
        "variance": float(y.var(0).sum() / truth.truth.var(0).sum()),
        "inside": truth.inside(y),
        "weights": None if shares is None else float((shares - truth.weights(truth.truth)).abs().max()),  # type: ignore[operator]
        "within": truth.within(y),
        "distance": truth.distance(y) / truth.noise(min(len(x), len(y))),
        "new": _nearest(y, x) / _nearest(fresh, x),
    }


def _nearest(y: Tensor, x: Tensor) -> float:
    return float(torch.cdist(y, x).min(1).values.median())


def climb(
    name: str,
    k: int,
    temperatures: Sequence[float] = (1.0,),
    generator: str | None = None,
    n: int = N,
    **settings: Any,
) -> list[Rung]:
    """Fit once, and measure samples at each temperature."""
    truth = world(name)
    x = truth.draw(k)
    fitted = Fitted(x, generator, settings)
    rungs = []
    for temperature in temperatures:
        found: dict[str, Any] = measured(truth, x, fitted.sample(n, temperature))
        if temperature != 1:
            found["distance"] = None
        rungs.append(Rung(name, k, fitted.steps, fitted.seconds, temperature, **found))
    return rungs


def row(rung: Rung) -> str:
    return f"| {' | '.join(_cell(value) for value in asdict(rung).values())} |"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table(rungs: Sequence[Rung]) -> str:
    names = [field.name for field in fields(Rung)]
    return "\n".join([f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *map(row, rungs)])


def value_of(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(word, word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    said = "of the prior (steps=500) or of the generator (diffusion.steps=500), as key=value"
    parser.add_argument("settings", nargs="*", help=said)
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--k", default=",".join(map(str, SIZES)))
    parser.add_argument("--temperatures", default="1,0.7,0.4")
    parser.add_argument("--generator", help="a whole generator, e.g. p-diff, in place of the prior alone")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/ladder.json"))
    words = parser.parse_args()
    torch.set_num_threads(1)
    settings = {key: value_of(value) for key, value in (word.split("=", 1) for word in words.settings)}
    temperatures = [float(t) for t in words.temperatures.split(",")]
    rungs: list[Rung] = []
    for name in words.worlds.split(","):
        for k in map(int, words.k.split(",")):
            for rung in climb(name, k, temperatures, words.generator, **settings):
                print(row(rung), flush=True)
                rungs.append(rung)
    write_json(
        words.out, {"settings": settings, "generator": words.generator, "rungs": list(map(asdict, rungs))}
    )
    print(table(rungs))


if __name__ == "__main__":
    main()
