"""Progress bars and one-line messages, on standard error so that standard output stays the result."""

import os
import sys
from collections.abc import Iterable, Sized
from typing import TypeVar

from tqdm import tqdm

from paramdiff.printing import plain
from paramdiff.ranks import speaks

Item = TypeVar("Item")


def bar(items: Iterable[Item], text: str, *, total: int | None = None, unit: str = "step") -> "tqdm[Item]":
    """``items`` behind a bar with rate and time left; silent when ``PARAMDIFF_QUIET`` is set.

    On a terminal the bar moves; in a log file it is one line every ten seconds.
    """
    terminal = sys.stderr.isatty()
    if total is None and isinstance(items, Sized):
        total = len(items)
    return tqdm(
        items, desc=f"  {plain(text):<28}", total=total, unit=unit, file=sys.stderr, leave=True,
        disable=quiet(), mininterval=0.1 if terminal else 10.0, ncols=None if terminal else 100,
        dynamic_ncols=terminal,
    )  # fmt: skip


def say(text: str) -> None:
    """One line for a person, now."""
    if not quiet():
        tqdm.write(plain(text), file=sys.stderr)
        sys.stderr.flush()


def quiet() -> bool:
    """Asked to be, or another process does the talking."""
    return bool(os.environ.get("PARAMDIFF_QUIET")) or not speaks()
