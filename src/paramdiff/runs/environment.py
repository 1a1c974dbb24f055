"""The environment of a run: versions, revision, hardware, memory."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from paramdiff import __version__
from paramdiff.evaluation.results_schema import Machine


def peak_rss_bytes() -> int:
    """Peak resident memory of this process (ru_maxrss is in KiB on Linux, in bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def environment() -> dict[str, Any]:
    """Versions, git revision and machine, for whoever repeats the run."""
    import numpy
    import torch

    return {
        "versions": {
            "paramdiff": __version__, "python": platform.python_version(),
            "torch": torch.__version__, "numpy": numpy.__version__,
        },
        "git": _git_revision(),
    }  # fmt: skip


def machine(device: Any) -> Machine:
    """What the run ran on."""
    import torch

    name = torch.cuda.get_device_name(device) if str(device).startswith("cuda") else str(device)
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": name,
    }


def _git_revision() -> str | None:
    """Revision of the paramdiff checkout in use, with ``+changes`` if it is not clean; None outside one."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
