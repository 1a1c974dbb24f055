"""``evaluation/latents.safetensors``: the points behind the figures of latents and of the reverse process.

Holds, of the main generator, ``map.originals``, ``map.samples`` and ``map.noised`` [., 2]; ``paths.*``, the fields
of :class:`paramdiff.evaluation.latent_projection.Paths`, and ``paths.score`` [S, P] where its prior draws in steps.
The header says the amplitude of the noise, the number of latents, contraction and temperature, and on how many
training items a network on the way was scored. A hundred kilobytes at most: vectors and latents are not kept.
"""

from collections.abc import Callable
from dataclasses import fields

from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import evenly_spaced
from paramdiff.evaluation.latent_projection import AMPLITUDE, MOST, Paths, latent_map, noised
from paramdiff.generators.latent import LatentGenerator
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.zoo.zoo import Zoo

FILE = "evaluation/latents.safetensors"
STARTS = 5
"""Paths from noise to a sample, as many as the paper draws."""


def latent_points(
    generator: LatentGenerator, zoo: Zoo, samples: Float[Tensor, "N D"], seed: int,
    score: Callable[[Tensor], Tensor], items: int,
) -> tuple[dict[str, Tensor], dict[str, str]]:  # fmt: skip
    """Tensors and header of the file.

    Args:
        generator: fitted on ``zoo``.
        samples: drawn from it with ``seed``.
        score: of raw vectors, on ``items`` items.
    """
    kept = evenly_spaced(zoo.k, MOST)
    z = generator.encode(zoo.vectors[kept])
    groups = {
        "originals": z,
        "samples": generator.encode(samples[evenly_spaced(len(samples), MOST)]),
        "noised": noised(z),
    }
    found = {f"map.{name}": points for name, points in latent_map(groups).items()}
    networks = generator.path(STARTS, seed)
    if len(networks) > 1:
        paths = Paths.of(networks, zoo.vectors, Normaliser.fit(zoo.vectors, zoo.spec.positive))
        found |= {f"paths.{field.name}": getattr(paths, field.name) for field in fields(paths)}
        found["paths.originals"] = paths.originals[kept]
        found["paths.score"] = score(networks.flatten(0, 1)).unflatten(0, networks.shape[:2])
    about = {
        "amplitude": AMPLITUDE,
        "latent": z.shape[1],
        "contraction": generator.contraction,
        "temperature": next(
            (v for key, v in generator.sampling_settings.items() if key.endswith("temperature")), 1.0
        ),
        "items": items,
    }
    return found, {key: f"{value:g}" for key, value in about.items()}
