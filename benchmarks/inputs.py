"""What is measured on: the reference zoo and its data, or random ones of the same sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from benchmarks.sizes import Reference
from paramdiff.generators.generator import Generator
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.runs.config import build
from paramdiff.runs.launch import composed
from paramdiff.seeds import generator, seeded
from paramdiff.tasks.classification import ImageClassification, ImageTask
from paramdiff.tasks.image_sources import ImageSource
from paramdiff.tasks.images import ImageData
from paramdiff.zoo.opening import open_zoo
from paramdiff.zoo.state_dicts import load_file
from paramdiff.zoo.zoo import Zoo

RECIPE = "experiment=reference_zoo"


@dataclass(frozen=True)
class World:
    """A task, its network with the frozen weights, and a zoo of that network.

    Attributes:
        real: whether the network was trained, so that its accuracy says something.
    """

    task: ImageClassification
    model: nn.Module
    zoo: Zoo
    real: bool = False


def reference(sizes: Reference) -> World:
    """The reference zoo of ``sizes.data``; a random network with a made-up trajectory without data."""
    if sizes.data is None:
        task = random_task(
            sizes.model, sizes.shape, sizes.classes, sizes.train, sizes.images, model_options=sizes.options
        )
        return imagined(task, sizes.select, sizes.k)
    task = shortened(build(_recipe([]).task).make(), test=sizes.images)
    model = fresh(task)
    folder = Path(sizes.data) / "reference"
    load_file(model, str(folder / "resnet18_cifar100.safetensors"))
    zoo = open_zoo(folder / "zoo_last_two_norms.safetensors", model, sizes.select)
    zoo.about["trajectory"] = True
    return World(task, model, zoo.subsample(min(sizes.k, zoo.k)), real=True)


def recipe_generator(words: Sequence[str], device: str) -> Generator:
    """The generator of the reference zoo's recipe with these words added, e.g. ``generator=paper``."""
    return build(_recipe([*words, f"device={device}"]).generator)


def _recipe(words: Sequence[str]) -> Any:
    config = composed([RECIPE, *words])
    OmegaConf.resolve(config)
    return config


def fresh(task: ImageClassification) -> nn.Module:
    """The task's network with fixed random weights, in eval mode."""
    with seeded("benchmark"):
        return task.model().eval()


def imagined(task: ImageClassification, select: str, k: int) -> World:
    """A random network, and K members around the tensors it selects."""
    model = fresh(task)
    spec = ParameterSpec.from_model(model, select)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    vectors = spec.flatten(state) + trajectory(k, spec.dim)
    return World(task, model, Zoo(vectors, spec, state, about={"trajectory": True}))


def plain_zoo(k: int, dim: int) -> Zoo:
    """K members of D parameters that belong to no network."""
    vectors = trajectory(k, dim)
    base = {"w": vectors[0].clone()}
    return Zoo(vectors, ParameterSpec.from_state_dict(base, "all"), base, about={"trajectory": True})


def trajectory(k: int, dim: int, rank: int = 8, noise: float = 0.3) -> Tensor:
    """A smooth path through ``rank`` dimensions of D, with independent noise: [K, D], deviations of about 0.05.

    Filled row by row, so that making it takes no more memory than it has itself.
    """
    draw = generator("benchmark trajectory", k, dim)
    directions = torch.randn(rank, dim, generator=draw) / math.sqrt(rank)
    angle = torch.linspace(0, 2 * math.pi, k)[:, None] * (torch.arange(rank) / 2 + 0.5)
    path = math.sqrt(2) * torch.sin(angle + torch.arange(rank))
    vectors = torch.empty(k, dim)
    for row, place in zip(vectors, path, strict=True):
        row.normal_(generator=draw).mul_(noise).addmv_(directions.T, place).mul_(0.05)
    return vectors


def random_images(items: int, shape: tuple[int, int, int], classes: int, name: str) -> ImageData:
    """Random pixels and labels."""
    draw = generator("benchmark images", name)
    pixels = torch.randint(0, 256, (items, *shape), dtype=torch.uint8, generator=draw)
    labels = torch.randint(classes, (items,), generator=draw)
    return ImageData(pixels, labels, mean=[0.5] * shape[0], std=[0.25] * shape[0])


def random_task(
    model: str, shape: tuple[int, int, int], classes: int, train: int, test: int, **settings: Any
) -> ImageClassification:
    """Random images for a network."""
    data = random_images(train, shape, classes, "train"), random_images(test, shape, classes, "test")
    source = ImageSource("random", classes, shape, lambda: data)
    return ImageClassification(source, ImageTask(model=model, batch_size=128, **settings))


def shortened(
    task: ImageClassification, train: int | None = None, test: int | None = None
) -> ImageClassification:
    """The same task with the first images only; reads them."""
    own = task.source
    data = tuple(first(part, items) for part, items in zip(own.load(), (train, test), strict=True))
    source = ImageSource(own.name, own.classes, own.shape, lambda: data, own.model)  # type: ignore[arg-type,return-value]
    return ImageClassification(source, task.settings)


def first(data: ImageData, items: int | None) -> ImageData:
    """The first images in memory; all with None."""
    if items is None:
        return data
    assert isinstance(data.images, Tensor)
    return replace(data, images=data.images[:items], labels=data.labels[:items])
