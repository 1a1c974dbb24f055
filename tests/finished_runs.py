"""Finished run folders made up for the tests of the report."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from paramdiff.files import load_tensors, save_tensors, write_json, write_text
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo

QUICK_FIT = [
    "generator.autoencoder.steps=5", "generator.diffusion.steps=5",
    "generator.diffusion.width=16", "generator.diffusion.sample_steps=5",
]  # fmt: skip
"""Overrides for runs whose samples may be anything."""

VERSUS = {"difference": 0.003, "ci95": [-0.004, 0.011]}
NULLS = dict.fromkeys(("best", "mean", "median", "worst", "std"))


def spread(mean: float, width: float = 0.01, higher: bool = True) -> dict[str, float]:
    best, worst = (mean + width, mean - width) if higher else (mean - width, mean + width)
    return {"best": best, "mean": mean, "median": mean, "worst": worst, "std": width / 2}


def model(name: str, mean: float, n: int = 100, label: str = "", **changes: Any) -> dict[str, Any]:
    original = name == "original"
    return {
        "name": name, "label": label or name, "n": n, "train": spread(mean + 0.01), "test": spread(mean),
        "selected": {"index": 0, "train": mean + 0.015, "test": mean + 0.004,
                     "test_ci95": [mean - 0.01, mean + 0.015], "vs_original": None if original else VERSUS},
        "similarity": {"within": 0.742 if original else 0.898, "to_zoo_mean": 0.7, "to_zoo_max_mean": 0.81},
        "distance": {"nearest": 0.93, "residual_to_span": 0.125},
    } | changes  # fmt: skip


def results(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    rows = models or (
        model("original", 0.976, 200), model("average", 0.981, 1, "average of all"),
        model("gaussian", 0.971), model("p-diff", 0.979),
    )  # fmt: skip
    return {
        "schema": 1, "experiment": "digits",
        "task": {"name": "digits", "metric": "accuracy", "higher_is_better": True, "chance": 0.1},
        "zoo": {"k": 200, "dim": 2048, "select": "last_norms:2", "seed": 7}, "models": list(rows),
        "verdict": {"class": "interpolation", "why": "the samples gather at the centre of the zoo."},
        "reconstruction_check": {
            "passed": True, "held_out": 20, "members": 0.976, "reconstructed": 0.975, "loss": 0.001,
            "tolerance": 0.01, "explained_variance": 0.93, "explained_variance_train": 0.97, "why": "",
        },
        "notes": ["the whole model was scored"], "command": "paramdiff run experiment=digits",
        "machine": {"cpu": "A CPU", "cores": 2, "torch": "2.9", "device": "cpu"},
        "n_items": {"train": 1437, "test": 360},
        "timings_s": {"collect": 14.2, "fit": 91.0, "sample": 0.04, "score": None, "total": 105.3},
        "peak_rss_bytes": 700_000_000,
    } | changes  # fmt: skip


def write_run(folder: Path, found: dict[str, Any], scores: bool = True, curves: bool = True) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "results.json", found)
    write_text(folder / "config.yaml", "zoo:\n  k: 200\n")
    write_text(folder / "samples/best.safetensors", "")
    for row in found["models"] if scores else []:
        n, middle = row["n"], row["test"]["mean"]
        kept = {"train": torch.linspace(-0.01, 0.01, n), "test": torch.linspace(-0.01, 0.01, n).flip(0)}
        kept = {name: value + middle for name, value in kept.items()}
        if row["similarity"]["to_zoo_max_mean"] is not None:
            kept["to_zoo_max"] = torch.linspace(0.7, 0.9, n)
        save_tensors(folder / "scores" / f"{row['name']}.safetensors", kept)
    losses = [{"stage": "fit", "name": "autoencoder", "step": i, "loss": 1 / (i + 1)} for i in range(50)]
    if curves:
        write_text(folder / "stats.jsonl", "".join(f"{json.dumps(line)}\n" for line in losses))
    return folder


def regression() -> dict[str, Any]:
    """A task without sets of mistakes, of which less is better."""
    gone = {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}
    means = {"original": 0.0131, "p-diff": 0.0126}
    rows = [
        model(name, mean, 50, similarity=gone, test=spread(mean, 0.001, False))
        for name, mean in means.items()
    ]
    task = {"name": "sine", "metric": "mean_squared_error", "higher_is_better": False, "chance": None}
    return results(
        *rows, task=task, verdict={"class": None, "why": "no mistakes to compare"}, reconstruction_check=None
    )


def failed() -> dict[str, Any]:
    """A whole-network run whose samples are at chance."""
    check = {"passed": False, "held_out": 4, "members": 0.976, "reconstructed": 0.41, "loss": 0.566,
            "tolerance": 0.01, "explained_variance": 0.2, "explained_variance_train": 0.99,
            "why": "K = 20 is too small"}  # fmt: skip
    return results(model("original", 0.976, 20), model("p-diff", 0.102), reconstruction_check=check)


def text_of(html: str) -> str:
    """What a person reads."""
    body = re.sub(r"<(style|svg)\b.*?</\1>", " ", html[html.index("<body") :], flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def read(tmp_path: Path, found: dict[str, Any]) -> FinishedRun:
    return FinishedRun.read(write_run(tmp_path / "run", found, scores=False, curves=False))


def write_parameters(folder: Path, k: int = 12, n: int = 6, trajectory: bool = True) -> Zoo:
    """A zoo with every kind of tensor, and the samples of p-diff: its members in reverse order."""
    shapes = {
        "conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "norm.weight": (5,), "norm.bias": (5,),
        "norm.running_mean": (5,), "norm.running_var": (5,), "head.weight": (3, 6), "head.bias": (3,),
        "token": (1, 1, 4),
    }  # fmt: skip
    base = {name: torch.zeros(shape) for name, shape in shapes.items()}
    spec = ParameterSpec.from_state_dict(base, "all")
    vectors = torch.linspace(0, 1, k)[:, None] + torch.linspace(-1, 1, spec.dim) + 2
    records = [Record(seed=0 if trajectory else i, step=2 * i + 2) for i in range(k)]
    zoo = Zoo(vectors, spec, base, records, {"trajectory": trajectory})
    zoo.save(folder / "zoo")
    save_tensors(folder / "samples" / "samples.safetensors", {"samples": vectors.flip(0)[:n]})
    return zoo


def add_scores(folder: Path, row: str, **tensors: torch.Tensor) -> None:
    """Add tensors to the scores of a row."""
    path = folder / "scores" / f"{row}.safetensors"
    kept = {name: value.clone() for name, value in load_tensors(path).items()}
    save_tensors(path, kept | tensors)


@contextmanager
def undrawn() -> Iterator[None]:
    """Pages without drawings: to write eleven figures takes longer than all else of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paramdiff.reports.plotting.save", lambda plot, folder: "<svg></svg>")
        yield


def texts(figure: Any) -> str:
    """Everything written in a figure."""
    from matplotlib.text import Text

    return "\n".join(found.get_text() for found in figure.findobj(Text) if found.get_text())


def unlabelled(figure: Any) -> list[str]:
    """The axes that do not say what they show: no label, none below or left of it, no named ticks."""
    grid = [axis for axis in figure.axes if axis.get_visible() and axis.get_subplotspec() is not None]
    found = []
    for axis in grid:
        spot = axis.get_subplotspec()
        below = [a for a in grid if a.get_subplotspec().colspan == spot.colspan]
        beside = [a for a in grid if a.get_subplotspec().rowspan == spot.rowspan]
        x = any(a.get_xlabel() for a in below) or _named(a.get_xticklabels() for a in below)
        y = any(a.get_ylabel() for a in beside) or _named(a.get_yticklabels() for a in beside)
        if not (x or figure.get_supxlabel()) or not (y or figure.get_supylabel()):
            found.append(axis.get_title(loc="left"))
    return found


def _named(labels: Any) -> bool:
    """Whether ticks are words."""
    return any(re.search("[a-z]", label.get_text()) for group in labels for label in group)
