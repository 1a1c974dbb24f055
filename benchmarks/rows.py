"""What a case hands back: rows with every round of every measurement, to JSON and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self


@dataclass(frozen=True)
class Measurement:
    """Time and memory of one variant of a piece of work.

    Attributes:
        name: ``ours``, or what the plain way is.
        seconds: of every round, as measured.
        scale: from what was timed to the whole work, which grows linearly; ``note`` says from what.
        note: what a reader must know of the number.
        loaded_bytes: memory before the first call, when the inputs were loaded.
        peak_bytes: largest memory during the first call. On an accelerator both are of its memory.
    """

    name: str
    seconds: list[float]
    scale: float = 1.0
    note: str = ""
    loaded_bytes: int | None = None
    peak_bytes: int | None = None

    @property
    def whole(self) -> list[float]:
        """Seconds of the whole work, of every round."""
        return [seconds * self.scale for seconds in self.seconds]

    @property
    def median(self) -> float:
        return median(self.whole)

    @property
    def above_inputs(self) -> int | None:
        """Bytes needed beyond the inputs."""
        known = self.peak_bytes is not None and self.loaded_bytes is not None
        return max(0, self.peak_bytes - self.loaded_bytes) if known else None  # type: ignore[operator]


@dataclass(frozen=True)
class Curve:
    """Seconds against a size.

    Attributes:
        of: what is timed.
        over: the size: ``D``, ``K`` or ``N``.
        x: its values.
        seconds: medians.
        exponent: of the power of x that fits best (least squares of the logarithms).
        last: the same of the last two points, where fixed costs weigh least.
    """

    of: str
    over: str
    x: list[int]
    seconds: list[float]
    exponent: float
    last: float


@dataclass(frozen=True)
class Row:
    """One line of the table, or several: one for each plain way.

    Attributes:
        what: the work.
        measurements: ours first, then plain ones; empty where nothing is timed.
        target: what the work should reach, in words.
        quality: what came out, beside its time.
        figures: other numbers.
        curve: of the rows before it.
    """

    what: str
    measurements: list[Measurement] = field(default_factory=list)
    target: str = ""
    quality: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    curve: Curve | None = None

    @property
    def ours(self) -> Measurement | None:
        return self.measurements[0] if self.measurements else None

    @property
    def plain(self) -> list[Measurement]:
        return self.measurements[1:]

    @property
    def ratios(self) -> dict[str, list[float]]:
        """How many times faster ours is than each plain way, round by round."""
        if self.ours is None:
            return {}
        return {
            one.name: [theirs / mine for theirs, mine in zip(one.whole, self.ours.whole, strict=True)]
            for one in self.plain
        }

    def to_json(self) -> dict[str, Any]:
        """Everything, with the medians that follow from it for other programs."""
        medians = {name: median(rounds) for name, rounds in self.ratios.items()}
        return asdict(self) | {
            "median_s": {one.name: one.median for one in self.measurements},
            "ratio": medians,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        own = {key: value[key] for key in ("what", "target", "quality", "figures")}
        curve = None if value["curve"] is None else Curve(**value["curve"])
        return cls(**own, measurements=[Measurement(**one) for one in value["measurements"]], curve=curve)
