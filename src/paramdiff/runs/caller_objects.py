"""A caller's own objects in a plan: how a run folder recognises them when the same call comes again."""

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from paramdiff.artefacts import sha256
from paramdiff.collectors.collector import Collector
from paramdiff.generators.generator import Generator
from paramdiff.runs.plan import plain
from paramdiff.tasks.configuration import TaskSettings
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo

SIMPLE = (str, int, float, bool, type(None))


@dataclass
class GivenZoo(Collector):
    """A zoo that is there already, in the place of a collector."""

    name: ClassVar[str] = "given"

    zoo: Zoo

    def members(self, task: Task, folder: Path, device: torch.device | str) -> Zoo:
        """A zoo of its own, because stages add facts to it."""
        zoo = self.zoo
        return Zoo(zoo.vectors, zoo.spec, zoo.base, zoo.records, zoo.about)

    def collect(self, task: Task, folder: Path, device: torch.device | str = "cpu") -> Zoo:
        """The zoo as it is, with the scores it has."""
        return self.members(task, folder, device)


def zoo_settings(zoo: Zoo) -> dict[str, Any]:
    """A zoo as settings of a run: the hash of its numbers and of what is known of its members."""
    digest = hashlib.sha256(json.dumps(zoo.spec.to_json(), sort_keys=True).encode())
    facts = [zoo.trajectory, *map(asdict, zoo.records)]
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for tensor in (zoo.vectors, *(zoo.base[name] for name in sorted(zoo.base))):
        digest.update(_bytes(tensor))
    return {"kind": "Zoo", "k": zoo.k, "dim": zoo.dim, "sha256": digest.hexdigest()}


def _bytes(tensor: Tensor) -> Any:
    """A tensor's numbers; no copy of one that is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def task_settings(task: Task | TaskSettings) -> dict[str, Any]:
    """A task as settings of a run: those it was made from, else its class and its plain attributes."""
    if not isinstance(task, Task):
        return dict(plain(task))
    made_from = getattr(task, "settings", None)
    if is_dataclass(made_from) and isinstance(made_from, TaskSettings):
        return dict(plain(made_from))
    attributes = {key: value for key, value in vars(task).items() if isinstance(value, SIMPLE)}
    return {
        "kind": type(task).__qualname__,
        "module": type(task).__module__,
        "name": task.name,
        "metric": task.metric,
        **attributes,
    }


def fitted_digest(generator: Generator) -> str | None:
    """Hash of what a generator has learnt; None if it is not fitted."""
    if generator.normaliser is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        generator.save(Path(folder) / "generator")
        return sha256(Path(folder) / "generator")
