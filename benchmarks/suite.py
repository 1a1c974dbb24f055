"""Cases one after another, each in a process of its own; what is done is on disk before the next one begins.

A case's peak memory is its own then, and one that is killed (for want of memory, say) keeps the rows it had and does
not end the suite.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.figure import draw_growth
from benchmarks.table import written
from paramdiff.devices import choose_device
from paramdiff.errors import ParamdiffError, check_choice
from paramdiff.files import read_json, write_json, write_text
from paramdiff.progress import say
from paramdiff.runs.environment import environment, machine

SCHEMA = 1

CASES = {
    name: f"benchmarks.cases.{name}"
    for name in (
        "machine", "importing", "score", "similarity", "sample", "fit", "memory", "growth", "solvers", "collect",
        "seeds", "reading", "end_to_end",
    )
}  # fmt: skip
"""Modules of the cases by name, in the order in which they run."""

ROOT = Path(__file__).parents[1]


def load_case(name: str) -> ModuleType:
    """The module of a case.

    Raises:
        ConfigError: there is none of that name.
    """
    check_choice("only", name, CASES)
    return import_module(CASES[name])


@dataclass(frozen=True)
class Settings:
    """What figures depend on beside the machine.

    Attributes:
        rounds: of every measurement.
        quick: small sizes.
        large: the largest sizes as well.
        device: where networks run.
        data: folder of the data; None for random networks and images.
    """

    rounds: int = 3
    quick: bool = False
    large: bool = False
    device: str = "cpu"
    data: str | None = None


class Suite:
    """
    Args:
        out: the JSON file; the table and the growth curves lie beside it.
        settings: of all cases.
        resume: keep the cases that ``out`` holds; those that failed are done again.

    Raises:
        ConfigError: a device that is not there.
        ParamdiffError: ``out`` was measured with other settings, or on another machine.
    """

    def __init__(self, out: Path, settings: Settings, *, resume: bool = False) -> None:
        self.out, self.settings = out, settings
        self.results: dict[str, Any] = {
            "schema": SCHEMA, "settings": asdict(settings), "inputs": "real" if settings.data else "synthetic",
            "machine": machine(choose_device(settings.device)), **environment(), "cases": {},
        }  # fmt: skip
        if resume and out.is_file():
            self.results["cases"] = self._kept(read_json(out))

    def _kept(self, before: Mapping[str, Any]) -> dict[str, Any]:
        for key in ("schema", "settings", "machine"):
            if before.get(key) != self.results[key]:
                raise ParamdiffError(
                    f"{self.out} was measured with {key} {before.get(key)}", expected=f"{self.results[key]}",
                    remedy="leave --resume out, or give another --out",
                )  # fmt: skip
        return before["cases"]

    def run(self, names: Sequence[str]) -> bool:
        """Do these cases; whether all were done."""
        for name in names:
            load_case(name)  # a mistyped name is found before anything runs
        for name in names:
            if self.results["cases"].get(name, {}).get("status") == "done":
                say(f"{name}: kept")
                continue
            say(f"{name} ...")
            self.results["cases"][name] = found = in_own_process(name, self.settings)
            say(f"{name}: {found['status']} in {found['seconds']:.0f} s {found['why']}".rstrip())
            self.write()
        return all(self.results["cases"][name]["status"] == "done" for name in names)

    def write(self) -> None:
        """The JSON, the table, and the growth curves if there are any."""
        write_json(self.out, self.results)
        write_text(self.out.with_suffix(".md"), written(self.results))
        draw_growth(self.results, self.out)


def in_own_process(name: str, settings: Settings) -> dict[str, Any]:
    """A case's record: status, rows, time, load and memory.

    The process and all that it starts end when this one does: its standard input is a pipe from here, and it
    leads a group of its own.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = os.environ | {"PYTHONPATH": path, "PARAMDIFF_QUIET": "1"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        words = [sys.executable, "-m", "benchmarks.worker", name, json.dumps(asdict(settings)), str(file)]
        with subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, start_new_session=True) as child:
            code = child.wait()
        record = read_json(file)
    return after(record, code)


def after(record: dict[str, Any], code: int) -> dict[str, Any]:
    """The last record of a process that ended with ``code``; one that was cut off has failed and keeps its rows."""
    if record["status"] != "running":
        return record
    ended = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return record | {"status": "failed", "why": ended}
