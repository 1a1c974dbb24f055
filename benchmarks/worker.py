"""The process of one case: ``python -m benchmarks.worker NAME SETTINGS FILE`` writes its record after every row."""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from benchmarks.sizes import Common, sizes_of
from benchmarks.suite import Settings, load_case
from paramdiff.files import write_json
from paramdiff.runs.environment import peak_rss_bytes


def record_of(run: Callable[[Any], Any], sizes: Common, keep: Callable[[dict[str, Any]], None]) -> bool:
    """Run a case and keep its record from the start on; whether it was done."""
    rows: list[Row] = []
    started, load = time.monotonic(), os.getloadavg()

    def note(status: str, why: str = "") -> None:
        seconds = round(time.monotonic() - started, 3)
        peak = max([peak_rss_bytes(), *(one.peak_bytes or 0 for row in rows for one in row.measurements)])
        keep(
            {
                "status": status, "why": why, "seconds": seconds, "load_average": list(load),
                "peak_rss_bytes": peak, "rows": [row.to_json() for row in rows],
            }
        )  # fmt: skip

    note("running")
    try:
        for row in run(sizes):
            rows.append(row)
            note("running")
    except Exception as error:  # whatever goes wrong in a case must not end the suite
        traceback.print_exc()
        note("failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        return False
    note("done")
    return True


def end_with_parent() -> None:
    """A suite that was killed cannot end this process and those it started, but its end of the pipe closes."""
    os.read(0, 1)  # not through sys.stdin, whose lock this thread would hold when the process ends
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(name: str, settings: str, file: str) -> int:
    threading.Thread(target=end_with_parent, daemon=True).start()
    own, case = Settings(**json.loads(settings)), load_case(name)
    sizes = sizes_of(
        case, quick=own.quick, large=own.large, rounds=own.rounds, device=own.device, data=own.data
    )
    return 0 if record_of(case.run, sizes, lambda record: write_json(Path(file), record)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
