"""Seeds and steps in file names, scores in tables beside the files."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramdiff.errors import CheckpointError
from paramdiff.zoo.records import Record, is_trajectory, make_records, natural
from paramdiff.zoo.zoo import Zoo


def fails(message: str):
    return pytest.raises(CheckpointError, match=message)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_numeric(numbers):
    files = sorted((Path(f"a/step_{n}_x.pt") for n in numbers), key=natural)
    assert files == [Path(f"a/step_{n}_x.pt") for n in sorted(numbers)]


@pytest.mark.parametrize(
    ("name", "seed", "step"),
    [
        ("seed12_step300.pt", 12, 300),
        ("epoch=3-step=40.ckpt", None, 40),
        ("step_7.pt", None, 7),
        ("iter-0010.pth", None, 10),
        ("model_ep5.pt", None, 5),
        ("checkpoint-500.pt", None, 500),
        ("SEED3.pt", 3, None),
        ("resnet20.pt", None, None),
        ("cifar_net_30ep.pt", None, None),
        ("step3_step4.pt", None, None),
        ("overstep3.pt", None, None),
        ("step300k.pt", None, None),
    ],
)
def test_seed_and_step_in_file_names(tmp_path, name, seed, step):
    assert make_records([tmp_path / name]) == [Record(seed=seed, step=step, source=name)]


def test_seeds_in_folder_names_and_one_kind_of_step_for_all(tmp_path):
    files = [tmp_path / name for name in ("seed1/step3.pt", "seed2/step3.pt", "seed2/epoch4.pt")]
    assert [(r.seed, r.step, r.source) for r in make_records(files)] == [
        (1, 3, "seed1/step3.pt"), (2, 3, "seed2/step3.pt"), (2, None, "seed2/epoch4.pt"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([(None, 1), (None, 2)], True),
        ([(3, 1), (3, 2), (3, 9)], True),
        ([(3, 1), (4, 2)], False),
        ([(None, 2), (None, 1)], False),
        ([(None, 1), (None, 1)], False),
        ([(None, 1), (None, None)], False),
        ([(None, 1)], False),
    ],
)
def test_a_trajectory_has_growing_steps_and_one_seed(facts, expected):
    assert is_trajectory([Record(seed=seed, step=step) for seed, step in facts]) is expected


def checkpoints(folder: Path) -> list[Path]:
    files = [folder / f"{name}.pt" for name in "abc"]
    for i, file in enumerate(files):
        torch.save({"w": torch.ones(2) * i}, file)
    return files


def test_scores_from_a_table_of_text(tmp_path):
    checkpoints(tmp_path)
    (tmp_path / "index.tsv").write_text(
        "file\twho\tcommit\ttest_accuracy\tloss\tseed\n"
        "a.pt\tx/y\t12e5\t0.5\t1\t3\nb.pt\tz\tabc\t0.25\t\t4\nelsewhere.pt\tz\t1\t0.1\tnan\t5\n"
    )
    zoo = Zoo.from_checkpoints(tmp_path)
    assert [r.scores for r in zoo.records] == [
        {"test_accuracy": 0.5, "loss": 1.0},
        {"test_accuracy": 0.25},
        {},
    ]
    assert [r.seed for r in zoo.records] == [3, 4, None]
    assert [r.source for r in zoo.keep("test_accuracy > 0.3").records] == ["a.pt"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("scores.json", {"a.pt": 0.5, "b": 0.25}, [{"score": 0.5}, {"score": 0.25}, {}]),
        ("index.json", {"a.pt": {"x": 0.5}, "c.pt": {"x": 1, "y": 2}}, [{"x": 0.5}, {}, {"x": 1, "y": 2}]),
        ("scores.json", [{"name": "b.pt", "test": 0.5, "note": "x"}], [{}, {"test": 0.5}, {}]),
        ("index.json", {"weight_map": {"w": "model-00001.safetensors"}}, [{}, {}, {}]),
        ("index.json", 3, [{}, {}, {}]),
    ],
)  # fmt: skip
def test_scores_from_json(tmp_path, name, value, expected):
    checkpoints(tmp_path)
    (tmp_path / name).write_text(json.dumps(value))
    assert [r.scores for r in Zoo.from_checkpoints(tmp_path).records] == expected


def test_tables_that_cannot_be_read(tmp_path):
    checkpoints(tmp_path)
    (tmp_path / "scores.json").write_text("{")
    with fails("scores.json is not valid JSON"):
        Zoo.from_checkpoints(tmp_path)
    (tmp_path / "scores.json").unlink()
    (tmp_path / "index.tsv").write_bytes(b"\xff\xfe\xff")
    with fails("index.tsv is not a table"):
        Zoo.from_checkpoints(tmp_path)
