"""Data sets of a few tiny images in the formats of the Hugging Face Hub, made by hand.

``python tests/tiny_images.py FOLDER`` writes an image folder that ``examples/image_folder`` runs on.
"""

import json
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("ash", "birch", "cedar")
CLASS = {"names": list(CLASSES), "_type": "ClassLabel"}
INTEGER = {"dtype": "int64", "_type": "Value"}


def pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Random uint8 images; every class has its own brightness, so that it can be learned."""
    random = np.random.default_rng(seed)
    return [
        random.integers(0, 120, shape, dtype=np.uint8) + np.uint8(60 * (i % len(CLASSES))) for i in range(n)
    ]


def png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(
    file: Path, images: Sequence[bytes | None], labels: Sequence[int | None], image: str = "image",
    label: str = "label", kind: dict[str, Any] = CLASS, more: dict[str, tuple[dict, list]] | None = None,
    schema: bool = True,
) -> None:  # fmt: skip
    """A shard as the Hub has it; ``more`` holds further columns as {name: (feature, values)}."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {label: (kind, list(labels))} | (more or {})
    features = {image: {"_type": "Image"}} | {name: feature for name, (feature, _) in columns.items()}
    encoded = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([data and {"bytes": data, "path": None} for data in images], encoded)
    table = pa.table({image: rows} | {name: values for name, (_, values) in columns.items()})
    if schema:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file)


def write_shards(folder: Path, n: int = 6, size: int = 8, channels: int = 3, **options: Any) -> Path:
    """A folder with a training and a test split of ``n`` images of all classes in turn."""
    shape = (size, size) if channels == 1 else (size, size, channels)
    labels = [i % len(CLASSES) for i in range(n)]
    for seed, split in enumerate(("train", "test")):
        images = [png(image) for image in pictures(n, shape, seed)]
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", images, labels, **options)
    return folder


def write_folder(
    folder: Path, n: int = 6, size: tuple[int, int] = (10, 8), splits: Sequence[str] = ("train", "test")
) -> Path:
    """An image folder of ``n`` JPEGs of (height, width) for each split, of all classes in turn."""
    from PIL import Image

    for seed, split in enumerate(splits):
        for i, image in enumerate(pictures(n, (*size, 3), seed)):
            file = folder / split / CLASSES[i % len(CLASSES)] / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file, quality=95)
    return folder


if __name__ == "__main__":
    print(write_folder(Path(sys.argv[1]), n=120, size=(40, 32)))
