"""Hostile inputs for the fuzz tests: seeded mutations of files, and one way to try them.

A mutation is a function of a :class:`random.Random`, so that a failure is named by its seed and can be repeated.
``attempt`` calls the command line in this process and says everything that is wrong with how it ended; a fuzz test
asserts that nothing is.
"""

import json
import math
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from paramdiff.cli import main

LIMIT_S = 30.0
"""Seconds of CPU that one hostile input may take."""

PATIENCE = 12
"""Times as many seconds may pass on the clock: machines are busy, but waiting for ever is a fault as well."""

DEEP = 20_000
"""Levels of nesting: far beyond Python's recursion limit."""

NODES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**400), 0.5, 1e308, -1e308, 1e-320, math.nan, math.inf,
    -math.inf, "", "abc", "1", "nan", "\x00", "\x1b[2J\x1b]0;x\x07", "ü\u202e\ud800", "x" * 5000, "[/bold]x", "a\nb",
    "../../etc/passwd", "/etc/passwd", "${oc.env:HOME}", "${a}", "os:system", [], {}, [[]], [None], {"a": 1}, [1, "a"],
    {"kind": "OwnTask", "name": "os:system"}, {"_target_": "os.system"}, {"": {"": []}},
)  # fmt: skip
"""What a node of JSON is exchanged for: every type, the ends of every range, texts that mean something elsewhere."""


# --- files -------------------------------------------------------------------------------------------------


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, cut off, taken out, doubled, filled with zeros or with noise."""
    if not data:
        return rng.randbytes(rng.randint(1, 64))
    at = rng.randrange(len(data))
    length = rng.choice((1, 2, 8, 64, len(data)))
    here = data[at : at + length]
    changed = {
        "flip": lambda: data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
        "cut": lambda: data[:at],
        "take out": lambda: data[:at] + data[at + length :],
        "double": lambda: data[:at] + here + here + data[at + length :],
        "zeros": lambda: data[:at] + bytes(len(here)) + data[at + length :],
        "noise": lambda: data[:at] + rng.randbytes(len(here)) + data[at + length :],
        "append": lambda: data + rng.randbytes(length % 1000),
        "empty": lambda: b"",
    }
    return changed[rng.choice(list(changed))]()


def mutated_json(text: str, rng: random.Random) -> str:
    """One node of valid JSON exchanged, removed, doubled, renamed or buried in nesting."""
    value = json.loads(text)
    place = rng.choice(list(_places(value)) or [()])
    change = rng.choice(("exchange", "exchange", "exchange", "remove", "double", "rename", "bury", "swap"))
    if not place:
        return as_json(rng.choice(NODES))
    *path, last = place
    parent = value
    for key in path:
        parent = parent[key]
    if change == "bury":
        marker = "paramdiff-buried"
        parent[last] = marker
        deep = "[" * DEEP + "]" * DEEP if rng.random() < 0.5 else '{"a":' * DEEP + "1" + "}" * DEEP
        return as_json(value).replace(f'"{marker}"', deep)
    _change(parent, last, change, value, rng)
    return as_json(value)


def _change(parent: Any, last: Any, change: str, whole: Any, rng: random.Random) -> None:
    if change == "remove":
        del parent[last]
    elif change == "double" and isinstance(parent, list):
        parent.insert(last, deepcopy(parent[last]))
    elif change == "rename" and isinstance(parent, dict):
        parent[rng.choice(("", "x", last + "x", "../x"))] = parent.pop(last)
    elif change == "swap":  # with another node of the same file
        other: Any = whole
        for key in rng.choice(list(_places(whole))):
            other = other[key]
        parent[last] = deepcopy(other)
    else:
        parent[last] = deepcopy(rng.choice(NODES))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node below ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def as_json(value: Any) -> str:
    """JSON as strangers write it: NaN and endless numbers included."""
    return json.dumps(value)


def mutated_lines(text: str, rng: random.Random) -> str:
    """A file of JSON lines with one of them mutated."""
    lines = text.splitlines() or ["{}"]
    at = rng.randrange(len(lines))
    return "\n".join([*lines[:at], mutated_json(lines[at], rng), *lines[at + 1 :], ""])


def mutated_file(path: Path, rng: random.Random) -> bytes:
    """What ``path`` holds, with one mutation that suits it; half of them are blind."""
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.75:
        return mutated_json(data.decode(), rng).encode("utf-8", "surrogatepass")
    if path.suffix == ".jsonl" and rng.random() < 0.75:
        return mutated_lines(data.decode(), rng).encode("utf-8", "surrogatepass")
    if path.suffix == ".safetensors" and rng.random() < 0.75:
        return mutated_header(data, rng)
    return mutated_bytes(data, rng)


def mutated_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with a mutated header that still has the length it says."""
    size = int.from_bytes(data[:8], "little")
    header = mutated_json(data[8 : 8 + size].decode(), rng).encode("utf-8", "surrogatepass")
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


# --- trying ------------------------------------------------------------------------------------------------


class TooSlow(BaseException):
    """Past ``except Exception``."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise :class:`TooSlow` inside when the time is over (main thread only)."""

    def stop(*given: Any) -> None:
        raise TooSlow(f"longer than {seconds} s")

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE * seconds),
    )
    before = [(kind, timer, signal.signal(kind, stop)) for kind, timer, _ in timers]
    for _, timer, most in timers:
        signal.setitimer(timer, most)
    try:
        yield
    finally:
        for kind, timer, handler in before:
            signal.setitimer(timer, 0)
            signal.signal(kind, handler)


def attempt(
    words: Sequence[str],
    capsys: pytest.CaptureFixture[str],
    codes: Sequence[int] = (0, 2),
    limit_s: float = LIMIT_S,
) -> str:
    """Run a command of ``paramdiff``; what is wrong with how it ended, empty if nothing is.

    Right is: one of ``codes``, within the time; with any but 0 exactly one line ``paramdiff: error: ...``, with
    something to do about it; no traceback, and no escape sequence for the terminal.
    """
    capsys.readouterr()
    try:
        with within(limit_s):
            code = main(list(words))
    except BaseException as error:  # what a user would see as a traceback
        return f"{type(error).__name__}: {str(error)[:300]}"
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("paramdiff: error")]
    if code not in codes:
        return f"exit code {code}: {err[-300:]}"
    if code and len(errors) != 1:
        return f"{len(errors)} lines of error: {err[-300:]!r}"
    if "Traceback" in err + out or "\x1b]" in err + out or "\x1b[2J" in err + out:
        return f"a traceback or an escape sequence: {err[-300:]!r}"
    return ""


def refused(do: Callable[[], Any], family: type[Exception], limit_s: float = LIMIT_S) -> str:
    """Call the library; what is wrong with how it ended: it returns, or raises one of our own errors in one line."""
    try:
        with within(limit_s):
            do()
    except family as error:
        return "" if "\n" not in str(error) else f"several lines: {str(error)[:300]!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to see that nothing was lost."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
