"""Progress bars, forecasts and one-line messages, on standard error so that standard output stays the result."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from tqdm import tqdm

from paramdiff.errors import plain

Item = TypeVar("Item")

LONG = 30.0
"""Seconds of work from which on a line says how long it will take."""

MEASURED = 2.0
"""Seconds of work that a forecast is made from, if they hold three pieces."""

PATIENCE = 10.0
"""Seconds after which one or two pieces are enough, and before a log file gets its first line about some work."""

LINES = 10
"""Lines a bar writes at most into a log file, :data:`PATIENCE` apart at least."""

PLAIN = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
"""Such a line."""

MINUTE = 60.0
"""Seconds between the lines of a bar that does not know how much there is to do."""

_silenced: ContextVar[bool] = ContextVar("silenced", default=False)
_outlook: ContextVar["Callable[[], str] | None"] = ContextVar("outlook", default=None)


class Forecast:
    """Measures the first pieces of some work and says once how long all will take, if that is long.

    The median time of the first pieces is used, so that a slow first one (memory, compilation) does not distort it.

    Args:
        text: what is done.
        total: number of pieces; ``None`` if unknown, then nothing is said.
        unit: what a piece is called.
    """

    def __init__(self, text: str, total: float | None, unit: str = "step") -> None:
        self.text, self.total, self.unit = text, total, unit
        self.start = self.last = time.monotonic()
        self.count = 0.0
        self.took: list[float] | None = [] if total else None

    def done(self, pieces: float = 1) -> None:
        """Count this many more as done."""
        self.count += pieces
        if self.took is None:
            return
        now = time.monotonic()
        self.took.append((now - self.last) / pieces)
        self.last = now
        if now - self.start >= (MEASURED if len(self.took) >= 3 else PATIENCE):
            each, self.took = median(self.took), None
            self._say(each)

    def _say(self, each: float) -> None:
        left = each * ((self.total or 0) - self.count)
        if left < LONG:
            return
        say(f"  {self.text}: about {lasting(left)} to go, {lasting(each)} per {self.unit}")
        outlook = _outlook.get()
        if outlook is not None:
            _outlook.set(None)  # it is the same for whatever else is long in there
            say(f"  {outlook()}")

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each of them a piece that is done when the next is asked for."""
        if not self.count:
            self.start = self.last = time.monotonic()
        for item in items:
            yield item
            self.done()


@contextmanager
def outlook(text: Callable[[], str]) -> Iterator[None]:
    """Inside, the first forecast is followed by ``text()``, which describes all that is to come."""
    before = _outlook.set(text)
    try:
        yield
    finally:
        _outlook.reset(before)


def lasting(seconds: float) -> str:
    """``7 ms``, ``2.5 s``, ``14 min``, ``2 h 10 min``."""
    if seconds < 0.95:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0095 else f"{1000 * seconds:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


def room(size: float) -> str:
    """Bytes as ``12 kB``, ``512 MB`` or ``2.1 GB``."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= 0.9995 * factor:
            return f"{size / factor:,.3g} {unit}" if size < 1e15 else f"{size / factor:,.0f} {unit}"
    return f"{size / 1e3:.0f} kB"


def free_disk(path: Path) -> int:
    """Bytes that can be written at a path, which need not exist yet."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def bar(
    items: Iterable[Item], text: str, *, total: int | None = None, unit: str = "step", foretold: bool = False
) -> "tqdm[Item]":
    """``items`` behind a bar with rate and time left, after a line with the time that all will take if it is long.

    Silent when :func:`quiet`. On a terminal the bar moves; in a log file it is a line every tenth of the work, and none
    at all if it takes less than ten seconds. Without items, :meth:`tqdm.tqdm.update` counts.

    Args:
        foretold: the forecast comes from elsewhere.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    forecast = Forecast(text, None if foretold else total, unit)
    manual = isinstance(items, tuple) and not items
    options: dict[str, Any] = {
        "desc": f"  {plain(text):<28}",
        "total": total,
        "unit": unit,
        "disable": quiet(),
    }
    shown = items if manual else forecast.over(items)
    if moving():
        made = _Bar(shown, file=sys.stderr, dynamic_ncols=True, **options)
    else:
        apart = PATIENCE if total else MINUTE
        seldom = {"mininterval": apart, "maxinterval": float("inf"), "delay": apart}
        options |= {"bar_format": PLAIN} if total else {}
        made = _Lines(
            shown, file=_Log(sys.stderr), miniters=max(1, (total or 0) // LINES), **seldom, **options
        )
    made.forecast = forecast if manual else None
    return made


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar whose updates by hand go into a forecast."""

    forecast: Forecast | None = None

    def update(self, n: float | None = 1) -> bool | None:
        if self.forecast is not None and n:
            self.forecast.done(n)
        return super().update(n)


class _Lines(_Bar):
    """A bar for log files: a line each time, not one that is written over."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def line(text: str) -> None:
            file.write(f"{text}\n")
            file.flush()

        return line


class _Log:
    """A file without the empty line that ends a bar."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if text != "\n":
            self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def say(text: str) -> None:
    """Print one line, now."""
    if not quiet():
        tqdm.write(plain(text), file=sys.stderr)
        sys.stderr.flush()


@contextmanager
def silenced(wanted: bool = True) -> Iterator[None]:
    """Inside, no progress is reported, e.g. ``with paramdiff.silenced(): generator.fit(zoo)``.

    Args:
        wanted: False changes nothing, so that a setting can be passed on.
    """
    before = _silenced.set(wanted or _silenced.get())
    try:
        yield
    finally:
        _silenced.reset(before)


def moving() -> bool:
    """Whether bars may write over themselves: on a terminal, unless asked to be quiet."""
    return sys.stderr.isatty() and not quiet()


def quiet() -> bool:
    """Whether bars and lines are off: by :func:`silenced`, ``PARAMDIFF_QUIET``, or because another process has them."""
    if _silenced.get() or os.environ.get("PARAMDIFF_QUIET"):
        return True
    if "RANK" not in os.environ:
        return False
    from paramdiff.distributed import is_printing_process

    return not is_printing_process()
