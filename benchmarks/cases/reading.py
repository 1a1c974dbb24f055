"""Checkpoints on disk -> a zoo: few files of very many small tensors, and very many small files.

The plain way is a loop over ``torch.load`` or safetensors' ``load_file`` with one ``torch.cat`` for each file.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common
from paramdiff.files import save_tensors
from paramdiff.zoo.zoo import Zoo

SHAPE = (8,)


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        tensors: in each of few files.
        few: number of these.
        many: number of files of a few tensors.
    """

    tensors: int = 10_000
    few: int = 2
    many: int = 500


QUICK = {"tensors": 1000, "many": 50}

Read = Callable[[Path], dict[str, Tensor]]
READ: dict[str, Read] = {
    ".safetensors": safetensors.torch.load_file,
    ".pt": lambda file: torch.load(file, weights_only=True),
}


def run(sizes: Sizes) -> Iterator[Row]:
    for suffix, read in READ.items():
        for files, tensors in ((sizes.few, sizes.tensors), (sizes.many, 4)):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), suffix, files, tensors)
                yield _row(Path(folder), suffix, read, sizes.rounds)


def write(folder: Path, suffix: str, files: int, tensors: int) -> None:
    for i in range(files):
        state = {f"layer{j}.weight": torch.randn(SHAPE) for j in range(tensors)}
        file = folder / f"{i}{suffix}"
        save_tensors(file, state) if suffix == ".safetensors" else torch.save(state, file)


def _row(folder: Path, suffix: str, read: Read, rounds: int) -> Row:
    files = sorted(folder.iterdir(), key=lambda file: int(file.stem))
    measurements, (ours, plain) = measured(
        Candidate("ours", lambda: Zoo.from_checkpoints(folder).vectors),
        Candidate(
            "plain loop", lambda: torch.stack([torch.cat(list(read(file).values())) for file in files])
        ),
        rounds=rounds,
    )
    what = f"{len(files):,} {suffix} files of {len(ours[0]) // SHAPE[0]:,} tensors"
    return Row(what, measurements, quality={"same numbers": float(torch.equal(ours, plain))})
