"""Own image loading against ``datasets`` and torchvision v2, on the same images in one process.

    PARAMDIFF_DATA=... python -m benchmarks.image_loading        (writes nothing but a temporary folder; 1 to 3 minutes)

A row is a job that both can do. Times are CPU seconds, medians of repetitions that alternate between the two, so that
another job on the machine does not count; the ratio is theirs over ours. What torchvision draws once for a whole batch
(a crop at one place for all images) is another distribution, so its transforms of single images are what is compared,
and its batch is given beside them.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from paramdiff.tasks.augment import Augment
from paramdiff.tasks.dataset_rows import Reading, locate, read_rows
from paramdiff.tasks.image_decoding import EncodedImages, Format
from paramdiff.tasks.image_sources import HubImages
from paramdiff.tasks.splits import open_splits

SMALL, PHOTOS, PHOTO_SIZE, BATCH = 2000, 200, 96, 256

Job = Callable[[], Any]


def seconds(*jobs: Job, repetitions: int = 5) -> list[float]:
    """The median CPU time of each job, all threads together; they take turns, after a round that is not counted."""
    took: list[list[float]] = [[] for _ in jobs]
    for repetition in range(repetitions + 1):
        for job, times in zip(jobs, took, strict=True):
            start = time.process_time()
            job()
            if repetition:
                times.append(time.process_time() - start)
    return [median(times) for times in took]


def through(batches: Iterable[Any]) -> None:
    """Read them all."""
    for _ in batches:
        pass


def decoding(name: str, items: int, size: int, folder: Path) -> list[Job]:
    """Encoded rows to uint8 batches of one size: as the package does it, and by the ``Image`` feature and v2."""
    from torchvision.transforms import v2

    place = locate(name)
    rows = read_rows(place, Reading(), folder / "rows")
    train, _, _ = open_splits(rows, place, Reading())
    own = EncodedImages(train, Format(3, size))
    chosen = torch.arange(0, len(train), len(train) // items)[:items]
    resize = v2.Compose([v2.Resize(size, v2.InterpolationMode.BICUBIC), v2.CenterCrop(size)])
    column = train.image
    plain = rows["train"].select(chosen.tolist()).select_columns([column])

    def decoded(row: dict[str, Any]) -> dict[str, Any]:
        return {column: [resize(v2.functional.pil_to_tensor(image.convert("RGB"))) for image in row[column]]}

    theirs = plain.with_transform(decoded)
    return [
        lambda: through(own.read(chosen.split(BATCH))),
        lambda: [torch.stack(theirs[i : i + BATCH][column]) for i in range(0, items, BATCH)],
    ]


def reading_again(folder: Path) -> list[Job]:
    """An epoch of normalised batches of decoded CIFAR-10: from our cache, and from that of ``datasets``."""
    import datasets

    train, _ = HubImages("cifar10").load()
    features = datasets.Features({"x": datasets.Array3D((3, 32, 32), "uint8"), "y": datasets.Value("int64")})
    part = {"x": train.images[: 5 * SMALL].numpy(), "y": train.labels[: 5 * SMALL].numpy()}
    kept = datasets.Dataset.from_dict(part, features=features)
    kept.save_to_disk(folder / "kept")
    theirs = datasets.load_from_disk(folder / "kept").with_format("torch")
    small = type(train)(train.images[: 5 * SMALL], train.labels[: 5 * SMALL], mean=train.mean, std=train.std)
    mean, std = (torch.tensor(value)[:, None, None] for value in (train.mean, train.std))

    def normalised() -> None:
        for batch in theirs.iter(BATCH):
            (batch["x"] / 255 - mean) / std

    return [lambda: through(small.batches()), normalised]


def augmenting(images: Tensor, own: Augment, transform: Any) -> list[Job]:
    """Random changes of a batch: ours, torchvision's of each image, and torchvision's of the batch as a whole."""
    drawn = own.draw(len(images), tuple(images.shape[1:]), 0)  # type: ignore[arg-type]
    return [
        lambda: own.apply(images, drawn),
        lambda: torch.stack([transform(image) for image in images]),
        lambda: transform(images),
    ]


def main() -> None:
    """Print one line a job."""
    from torchvision.transforms import v2

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PARAMDIFF_CACHE"] = str(folder / "cache")
        small = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
        large = torch.randint(0, 256, (64, 3, PHOTO_SIZE, PHOTO_SIZE), dtype=torch.uint8)
        crop = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
        zoom = v2.RandomResizedCrop(PHOTO_SIZE, scale=(0.25, 1.0), antialias=False)
        jobs = {
            f"decode {SMALL} PNG of CIFAR-10": decoding("cifar10", SMALL, 32, folder),
            f"decode {PHOTOS} JPEG of Imagenette to {PHOTO_SIZE}": decoding(
                "imagenette", PHOTOS, PHOTO_SIZE, folder
            ),
            f"an epoch of {5 * SMALL} decoded images": reading_again(folder),
            "crop and flip 128 x 32 x 32": augmenting(small, Augment(crop=4, flip=True), crop),
            f"zoom 64 x {PHOTO_SIZE} x {PHOTO_SIZE}": augmenting(large, Augment(zoom=0.25), zoom),
        }
        for what, pair in jobs.items():
            ours, theirs, *whole = seconds(*pair)
            batch = f", {whole[0] / ours:.2f} for the whole batch at once" if whole else ""
            print(f"{what}: {ours:.4f} s, {theirs:.4f} s; ratio {theirs / ours:.2f}{batch}", flush=True)


if __name__ == "__main__":
    main()
