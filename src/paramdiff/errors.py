"""Every mistake a user can make, as one family of exceptions.

Each message is one line of three parts: what came, what was expected, what to do. The command line
prints that line and exits with ``exit_code``: 2 for a user's mistake, 1 for anything else.
"""

import difflib
import math
import operator
import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*.?)", re.DOTALL)
"""What begins with ESC: colours and movements, titles and links, and the rest."""

CONTROLS = {
    code: None
    for code in (
        *range(32),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
    )
    if chr(code) not in "\n\t"
} | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
"""Control characters and changes of writing direction are removed; lone surrogates are replaced."""


def plain(text: str) -> str:
    """Text without the control sequences of terminals; line breaks and tabs stay."""
    return text if text.isascii() and text.isprintable() else ESCAPES.sub("", text).translate(CONTROLS)


def line(text: str) -> str:
    """As :func:`plain`, on one line."""
    return " ".join(plain(text).split())


class ParamdiffError(Exception):
    """Base of the family.

    Args:
        came: what was found, naming the file, tensor or key.
        expected: what would have been right; empty if ``came`` already says it.
        remedy: what to do about it, as an imperative sentence without a full stop.
    """

    exit_code = 2

    def __init__(self, came: str, *, expected: str = "", remedy: str = "") -> None:
        self.came, self.expected, self.remedy = came, expected, remedy
        parts = [came]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(map(line, parts)))


class ConfigError(ParamdiffError):
    """A configuration key that does not exist, or whose value has a wrong type or range."""

    def __init__(self, key: str, came: str, *, expected: str = "", remedy: str = "") -> None:
        self.key = key
        super().__init__(f"{key}: {came}", expected=expected, remedy=remedy)
        self.came = came

    def under(self, prefix: str) -> "ConfigError":
        """The same error with the key seen from one level higher, e.g. ``k`` -> ``zoo.k``."""
        return type(self)(f"{prefix}.{self.key}", self.came, expected=self.expected, remedy=self.remedy)


class SelectionError(ParamdiffError):
    """A selection of tensors that matches nothing or cannot be understood."""


class CheckpointError(ParamdiffError):
    """A checkpoint that cannot be read, or that does not fit the others or the model."""


class ZooError(ParamdiffError):
    """A zoo that cannot be used: too few members, no variation, a damaged folder."""


class GeneratorError(ParamdiffError):
    """A generator used before it was fitted, or a saved one that cannot be read."""


class TaskError(ParamdiffError):
    """A task, its data or its model cannot be found or do not fit together."""


class RunFolderError(ParamdiffError):
    """A run folder that belongs to another configuration or lacks an earlier stage."""


class HubError(ParamdiffError):
    """The Hugging Face Hub refuses a request: a wrong id, no token, no right to write."""


class HubMissingError(HubError):
    """The Hub has no such repository that may be read, or it holds nothing of ours."""


class HubUnreachableError(HubError):
    """The Hub cannot be reached, fails, or broke off in the middle."""

    exit_code = 1


class DiskError(ParamdiffError):
    """The disk refused a write; what was there before is still there."""

    exit_code = 1


class NumericalError(ParamdiffError):
    """NaN or Inf appeared: names the stage, the step and the tensor."""

    exit_code = 1


class ParamdiffWarning(UserWarning):
    """Base of the warnings to users of the library; the command line puts the same facts into the notes of a run."""


class FrozenRestWarning(ParamdiffWarning):
    """The members of a zoo are not the networks they came from, because those differ outside the selection too."""


def near(word: str, known: Iterable[str], n: int = 3) -> str:
    """A remedy that lists the closest known names: ``did you mean a, b``; else some of the known ones."""
    known = [str(name) for name in known]
    close = difflib.get_close_matches(word, known, n=n, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(close)}"
    more = f", ... ({len(known)} in all)" if len(known) > 12 else ""
    return f"choose from {', '.join(known[:12])}{more}"


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


GENEROUS = 1000
"""Bounds from here on only catch values that nobody can have meant, so a message about -1 leaves them out."""


def check_range(
    key: str,
    value: float,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raise :class:`ConfigError` naming ``key`` unless ``value`` is finite and lies in the stated range."""
    bounds = [
        (least, "at least", operator.ge),
        (above, "more than", operator.gt),
        (most, "at most", operator.le),
        (below, "less than", operator.lt),
    ]
    finite, wanted = _finite(value), []
    outside = not finite
    for bound, word, holds in bounds:
        if bound is None:
            continue
        missed = not (finite and holds(value, bound))
        outside |= missed
        if missed or abs(bound) < GENEROUS:
            wanted.append(f"{word} {_plain(bound)}")
    if outside:
        expected = " and ".join(wanted) or "a finite number"
        raise ConfigError(key, f"{short(value)} is out of range", expected=expected)


def short(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _finite(value: object) -> bool:
    """Whether it is a number, and not infinite or NaN; an integer may be larger than any float."""
    return isinstance(value, Integral) or (isinstance(value, Real) and math.isfinite(value))


def _plain(bound: float) -> str:
    """``1,000,000`` rather than ``1e+06``."""
    return f"{bound:,.0f}" if float(bound).is_integer() else f"{bound:g}"


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise :class:`ConfigError` naming ``key`` unless ``value`` is one of ``choices``."""
    choices = list(choices)
    if value not in choices:
        close = near(str(value), choices)
        raise ConfigError(
            key, f"{value!r} is not known", expected=f"one of {', '.join(choices)}",
            remedy=close if close.startswith("did you mean") else "",
        )  # fmt: skip
