"""``python -m benchmarks``: see :mod:`benchmarks`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks
from benchmarks.suite import CASES, Settings, Suite
from benchmarks.table import written
from paramdiff.errors import ParamdiffError, check_range
from paramdiff.progress import say


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--only", help=f"some of {','.join(CASES)}")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--out", type=Path, default=Path("benchmarks.json"))
    made.add_argument("--quick", action="store_true", help="small sizes, a few minutes in all")
    made.add_argument("--large", action="store_true", help="growth up to a whole ResNet-18 (11 M parameters)")
    made.add_argument("--resume", action="store_true", help="keep the cases that are done in --out")
    made.add_argument("--device", default="cpu")
    return made


def main(words: Sequence[str]) -> int:
    own = parser().parse_args(words)
    check_range("rounds", own.rounds, least=1)
    data = os.environ.get("PARAMDIFF_DATA") or None
    if data is None:
        say("PARAMDIFF_DATA is not set: networks and images are random, of the same sizes")
    settings = Settings(own.rounds, own.quick, own.large, own.device, data)
    suite = Suite(own.out, settings, resume=own.resume)
    done = suite.run(own.only.split(",") if own.only else list(CASES))
    print(written(suite.results))
    return 0 if done else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ParamdiffError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
