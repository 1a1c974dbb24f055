"""Damaged and hostile checkpoints of every kind: read as torch reads them, or one line; nothing hangs, nothing changes.

``PARAMDIFF_FUZZ=20 pytest tests/test_fuzz_checkpoints.py`` tries twenty times as many.
"""

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from hostile import contents, mutated_bytes, mutated_file, mutated_json, refused
from paramdiff.errors import ParamdiffError
from paramdiff.files import save_tensors
from paramdiff.tasks.dataset_rows import DatasetLocation, Reading, read_rows
from paramdiff.tasks.image_decoding import EncodedImages, natural_format
from paramdiff.tasks.splits import open_splits
from paramdiff.zoo.state_dicts import read_state
from paramdiff.zoo.zoo import Zoo
from tiny_images import write_folder, write_shards

TIMES = int(os.environ.get("PARAMDIFF_FUZZ", "1"))
LIMIT_S = 5.0
"""For one input; all of them are tiny."""


def state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return {name: t if "num" in name else torch.rand_like(t) for name, t in network.state_dict().items()}


def rezipped(data: bytes, method: int, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """A zip archive with other records, written as somebody's own tool would."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for info in old.infolist():
            held = change(info.filename, old.read(info))
            if held is not None:
                new.writestr(info.filename, held)
    return out.getvalue()


def mutated_zip(path: Path, rng: random.Random) -> bytes:
    """One record exchanged, cut, lengthened or lost; or bytes anywhere."""
    data = path.read_bytes()
    if rng.random() < 0.3:
        return mutated_bytes(data, rng)
    with zipfile.ZipFile(path) as archive:
        hit = rng.choice([*archive.namelist(), *["data.pkl"] * 3])

    def change(name: str, held: bytes) -> bytes | None:
        if not name.endswith(hit):
            return held
        if name.endswith("byteorder") and rng.random() < 0.5:
            return rng.choice((b"big", b"little", b"middle", b""))
        return None if rng.random() < 0.1 else mutated_bytes(held, rng)

    return rezipped(data, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), change)


def mutated_index(path: Path, rng: random.Random) -> bytes:
    return mutated_json(path.read_text(), rng).encode("utf-8", "surrogatepass")


def saved(folder: Path, name: str, **options: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state(), folder / name, **options)
    return folder / name


def safe(folder: Path, name: str) -> Path:
    save_tensors(folder / name, state())
    return folder / name


def stack(folder: Path, name: str) -> Path:
    save_tensors(folder / name, {key: torch.stack([t, t + 1, t + 2]) for key, t in state().items()})
    return folder / name


def index(folder: Path, name: str) -> Path:
    weights = state()
    halves = {"model-1.safetensors": list(weights)[:3], "model-2.safetensors": list(weights)[3:]}
    for file, keys in halves.items():
        save_tensors(folder / file, {key: weights[key] for key in keys})
    named = {key: file for file, keys in halves.items() for key in keys}
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": named}))
    return folder / name


KINDS = {
    "a.safetensors": (safe, mutated_file, 120),
    "a.pt": (saved, mutated_zip, 180),
    "pytorch_model.bin": (saved, mutated_zip, 60),
    "old.pth": (partial(saved, _use_new_zipfile_serialization=False), mutated_file, 100),
    "model.safetensors.index.json": (index, mutated_index, 60),
    "zoo.safetensors": (stack, mutated_file, 60),
}


def oracle(file: Path) -> dict[str, Tensor]:
    """What the libraries read."""
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file)
    return torch.load(file, weights_only=True)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def read_as_the_oracle(file: Path) -> None:
    """Read a file; what comes must be what the libraries read, bit by bit."""
    found = read_state(file)
    for tensor in found.values():
        float(tensor.double().sum()) if not tensor.is_complex() else None  # every byte can be reached
    if not file.name.endswith(".json"):
        expected = oracle(file)
        wanted = {str(name): t for name, t in expected.items() if isinstance(t, Tensor)} if expected else {}
        if any(bits(t.detach()) != bits(found[name]) for name, t in wanted.items() if name in found):
            raise AssertionError("read otherwise than torch reads it")


def import_stack(file: Path) -> None:
    Zoo.from_checkpoints(file, nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "all").require_usable()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_checkpoint_is_read_exactly_or_refused_in_one_line(name: str, tmp_path: Path):
    make, mutate, count = KINDS[name]
    file = make(tmp_path, name)
    read = import_stack if name.startswith("zoo") else read_as_the_oracle
    read(file)
    good, wrong = file.read_bytes(), []
    for seed in range(count * TIMES):
        file.write_bytes(good)
        data = mutate(file, random.Random(f"{name} {seed}"))
        file.write_bytes(data)
        before = contents(tmp_path)
        failure = refused(partial(read, file), ParamdiffError, LIMIT_S)
        if contents(tmp_path) != before:
            failure = "the input was changed"
        wrong += [f"seed {seed}: {failure}"] if failure else []
    assert not wrong, wrong


def test_a_folder_with_mutated_files_is_a_zoo_or_one_line(tmp_path: Path):
    for seed in range(25 * TIMES):
        rng, folder = random.Random(f"folder {seed}"), tmp_path / str(seed)
        for i, kind in enumerate(rng.sample(["a.safetensors", "a.pt", "old.pth"], 3)):
            file = KINDS[kind][0](folder, f"{i}{kind}")
            if rng.random() < 0.5:
                file.write_bytes(KINDS[kind][1](file, rng))
        assert not refused(
            partial(Zoo.from_checkpoints, folder, group=rng.choice((None, None, 1))), ParamdiffError
        )


@pytest.mark.parametrize("name", ["scores.json", "index.tsv"])
def test_a_mutated_table_of_scores_is_read_or_refused_in_one_line(name: str, tmp_path: Path):
    for i in range(2):
        save_tensors(tmp_path / f"{i}.safetensors", {"w": torch.rand(2)})
    rows = {f"{i}.safetensors": {"test": 0.5, "seed": i, "step": 3} for i in range(2)}
    table = "file\ttest\tseed\n0.safetensors\t0.5\t1\n1.safetensors\t0.6\t2\n"
    file = tmp_path / name
    good = (json.dumps(rows) if name.endswith("json") else table).encode()
    for seed in range(30 * TIMES):
        rng = random.Random(f"{name} {seed}")
        file.write_bytes(good)
        file.write_bytes(mutated_file(file, rng))
        failure = refused(partial(Zoo.from_checkpoints, tmp_path), ParamdiffError, LIMIT_S)
        assert not failure, f"seed {seed}: {failure}"


def decode(folder: Path, cache: Path) -> None:
    place, reading = DatasetLocation("trees", None, str(folder)), Reading()
    for split in open_splits(read_rows(place, reading, cache), place, reading)[:2]:
        EncodedImages(split, natural_format(split, None, None, False), 1).decode(torch.arange(len(split)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("write", "pattern"), [(write_shards, "*.parquet"), (write_folder, "*.jpg")])
def test_mutated_images_are_decoded_or_refused_in_one_line(write: Callable, pattern: str, tmp_path: Path):
    for seed in range(8 * TIMES):
        rng, folder = random.Random(f"{pattern} {seed}"), tmp_path / str(seed)
        write(folder)
        file = rng.choice(sorted(folder.rglob(pattern)))
        file.write_bytes(mutated_bytes(file.read_bytes(), rng))
        before = contents(folder)
        failure = refused(partial(decode, folder, tmp_path / "cache"), ParamdiffError, 10 * LIMIT_S)
        assert not failure and contents(folder) == before, f"seed {seed}: {failure}"
