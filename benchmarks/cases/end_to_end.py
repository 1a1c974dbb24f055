"""The main job, as a person types it: ``paramdiff run experiment=digits`` in a fresh folder, nothing cached."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common
from paramdiff.files import read_json


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        words: what is added to the command.
    """

    words: tuple[str, ...] = ()


QUICK = {"rounds": 1}


def run(sizes: Sizes) -> Iterator[Row]:
    command = ["run", "experiment=digits", f"device={sizes.device}", *sizes.words]
    measurements, (results,) = measured(
        Candidate("ours", lambda: digits(command)), rounds=sizes.rounds, device="cpu", warm=False
    )
    stages = {f"{name}, s": took for name, took in results["timings_s"].items() if took and name != "total"}
    named = {row["name"]: row["test"]["mean"] for row in results["models"]}
    means = {f"mean {results['task']['metric']}, {name}": named[name] for name in ("original", "p-diff")}
    memory = {"peak memory, MiB": results["peak_rss_bytes"] / 2**20}
    own = replace(measurements[0], loaded_bytes=None, peak_bytes=None)  # of this process, which only waits
    yield Row(f"paramdiff {' '.join(command)}", [own], quality=means, figures={**stages, **memory})


def digits(command: list[str]) -> dict[str, Any]:
    """Run it in a new process and return its ``results.json``."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "paramdiff", *command, f"run_dir={folder}/run"]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return read_json(Path(folder) / "run" / "results.json")
