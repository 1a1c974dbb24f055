"""The one protocol of everything that fits a zoo and samples new parameter vectors.

A generator is a dataclass of hyper-parameters. It works in the zoo's normalised coordinates
(:mod:`paramdiff.parameters.normaliser`): the base class normalises before ``_fit`` and goes back
after ``_sample``, so that every baseline treats scales, constant coordinates and positive
coordinates in the same way.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.artefacts import ArtefactFolder
from paramdiff.atomic import settle
from paramdiff.devices import require_memory, suitable_threads
from paramdiff.errors import CheckpointError, ConfigError, GeneratorError, near
from paramdiff.files import load_metadata, load_state, read_json, save_state, write_json
from paramdiff.generators.context import FitContext
from paramdiff.generators.normalised_view import NormalisedView
from paramdiff.generators.settings import described, get, make_parts, put
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.ranges import check_ranges
from paramdiff.registry import Registry
from paramdiff.training import require_finite
from paramdiff.validation import typed
from paramdiff.zoo.zoo import Zoo

CHUNK = 100
"""Samples are always drawn in whole chunks of this many, so that sample i has the same bits for every n."""

ELEMENTS = 1 << 24
"""Chunks of long vectors hold fewer samples, so that a chunk is never larger than this many numbers."""

FOLDER = ArtefactFolder(
    "saved generator", "generator.json", ("generator", "settings"), ["state.safetensors"], GeneratorError
)  # fmt: skip
"""What :meth:`Generator.save` may replace."""


class Written(TypedDict):
    """``generator.json``."""

    generator: str
    settings: dict[str, Any]
    notes: dict[str, Any]


class State(TypedDict):
    """What ``state.safetensors`` holds; what is learnt, each generator knows itself."""

    normaliser: dict[str, Any]
    learnt: dict[str, Any]
    losses: dict[str, list[float]]


class Generator(ABC):
    """Fits a zoo, samples vectors. Subclasses are dataclasses and give ``_fit``, ``_sample`` and their state.

    Class attributes:
        name: the row name in ``results.json``, set by ``@register``.
        drawn_at_once: samples of one call of :meth:`_sample`; fewer where drawing one is expensive.
    """

    name: ClassVar[str] = ""
    drawn_at_once: ClassVar[int] = CHUNK
    sampling: ClassVar[tuple[str, ...]] = ()
    """Dotted keys of the settings that only :meth:`sample` reads: they may change without fitting again."""
    knob: ClassVar[str | None] = None
    """Name of the setting that trades accuracy against diversity at sampling time, if there is one."""
    matches: ClassVar[bool] = False
    """Whether the fit looks at another generator's samples, to match them."""
    streams: ClassVar[bool] = False
    """Whether ``_fit`` reads members block by block: it is given
    :class:`~paramdiff.generators.normalised_view.NormalisedView`.
    """
    asks: ClassVar[bool] = False
    """Whether :meth:`sample` asks a task, as guided and fine-tuned samples do."""

    # Learnt by fit. This class is not a dataclass, so these are no hyper-parameters of subclasses.
    normaliser: Normaliser | None = None
    losses: dict[str, list[float]]
    notes: dict[str, Any]

    def __post_init__(self) -> None:
        """Check the settings, once they are there; a subclass with a check of its own calls this first."""
        if is_dataclass(self):
            check_ranges(self)

    @property
    def label(self) -> str:
        """The row name with the hyper-parameter that matters, e.g. ``average-of-16``."""
        return self.name

    @property
    def sampling_settings(self) -> dict[str, Any]:
        """The settings that only :meth:`sample` reads, by dotted key."""
        return {key: get(self, key) for key in self.sampling}

    def change(self, settings: Mapping[str, Any]) -> None:
        """Change settings of sampling by dotted key, without fitting again."""
        for key, value in settings.items():
            put(self, key, value)

    def adapted(self, k: int) -> Self:
        """This generator for a zoo of K members: what its settings leave open is decided, what is said stays."""
        return self

    def require(self, k: int, dim: int | None = None) -> None:  # noqa: B027 (no need is common to all)
        """Say what the fit needs, before anything is collected for it; by default nothing.

        Args:
            k: K, at least 2.
            dim: D; None as long as it is not known.

        Raises:
            ConfigError: K members of D parameters are too few for a setting, which it names.
        """

    def fit(self, zoo: Zoo, context: FitContext = FitContext()) -> Self:  # noqa: B008 (it is frozen)
        """Learn the zoo's distribution.

        Args:
            zoo: K members of D parameters.
            context: what it may use beside the zoo, in raw coordinates.

        Raises:
            ZooError: the zoo cannot be learnt (K = 1, no variation, NaN).
            ConfigError: it is too small for a setting.
            NumericalError: NaN or Inf appeared while fitting.
        """
        zoo.require_usable()
        self.losses, self.notes, self.normaliser = {}, {}, None
        self.require(zoo.k, zoo.dim)
        normaliser = Normaliser.fit(zoo.vectors, zoo.spec.positive)
        x = NormalisedView(zoo.vectors, normaliser)
        with suitable_threads(zoo.dim):
            members: Any = x if self.streams else x[:, :]
            self._fit(members, context.normalised(normaliser))
        self.normaliser = normaliser  # last: a fit that failed leaves an unfitted generator
        return self

    def sample(
        self, n: int, seed: int = 0, *, context: FitContext = FitContext()  # noqa: B008
    ) -> Float[Tensor, "n D"]:  # fmt: skip
        """``n`` new raw parameter vectors. Sample i is the same for every ``n``.

        Args:
            context: its feedback is for a generator that ``asks``; others ignore it.

        Raises:
            GeneratorError: not fitted, or ``n`` < 1, or feedback is needed.
            NumericalError: a sample holds NaN or Inf.
        """
        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) first")
        if n < 1:
            raise GeneratorError(f"n = {n} samples", expected="at least 1")
        own = context.normalised(self.normaliser)
        dim = len(self.normaliser.mean)
        size = max(1, min(self.drawn_at_once, ELEMENTS // dim))
        require_memory(
            f"{n:,} samples of {dim:,} parameters", 4 * n * dim, partial(ConfigError, "n"), "lower it"
        )
        v = torch.empty(n, dim)
        for start in range(0, n, size):
            with suitable_threads(dim):
                x = self._sample(range(start, start + size), seed, own)[: n - start]
            require_finite(x, f"sampling {self.label}, samples from {start} on")
            v[start : start + size] = self.normaliser.denormalise(x)
        return v

    @abstractmethod
    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        """Fit normalised members; the context is in normalised coordinates, too."""

    @abstractmethod
    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        """Normalised samples with these indices; each depends only on its index and the seed."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Everything learnt, as nested dicts of tensors and JSON values."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`_state`."""

    def save(self, folder: Path | str) -> None:
        """Write ``generator.json`` (what it is) and ``state.safetensors`` (what it learnt), atomically.

        Raises:
            GeneratorError: not fitted, or there is anything but a saved generator.
            DiskError: the disk is full or not writable.
        """
        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) before save")
        with FOLDER.writing(folder) as partial:
            settings = {"generator": self.name, "settings": asdict(self), "notes": self.notes}  # type: ignore[call-overload]
            write_json(partial / "generator.json", settings)
            learnt = {
                "normaliser": self.normaliser.state_dict(),
                "learnt": self._state(),
                "losses": self.losses,
            }
            save_state(partial / "state.safetensors", learnt, FOLDER.says("what it learnt"))

    @classmethod
    def upgraded(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings that an earlier version saved, as this one knows them: they sample the same."""
        return settings

    @classmethod
    def load(cls, folder: Path | str) -> "Generator":
        """A saved generator, of whatever class it was.

        Raises:
            GeneratorError: unknown generator, or not what ``save`` wrote.
            ConfigError: settings this version does not know.
            CheckpointError: files missing or truncated.
        """
        folder = Path(folder)
        settle(folder.parent)
        written = read_json(folder / "generator.json")
        load_metadata(folder / "state.safetensors")  # complete at least
        try:
            return _loaded(typed(written, Written, "generator.json"), folder)
        except _DAMAGE as error:
            raise GeneratorError(f"{folder} is a damaged generator ({type(error).__name__}: {error})",
                                 remedy="fit it again") from None  # fmt: skip


_DAMAGE = (CheckpointError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)
"""What a state raises that is not the one these settings have: tensors missing, or of other shapes or types."""


def _loaded(written: Written, folder: Path) -> Generator:
    """The generator that ``generator.json`` describes, as it was learnt."""
    name = written["generator"]
    try:
        kind = GENERATORS[name[:40]]
    except ConfigError:
        known = GENERATORS.all()
        raise GeneratorError(
            f"{folder} holds a generator {name[:40]!r}", remedy=near(name[:40], known)
        ) from None
    settings = kind.upgraded(written["settings"])
    generator = make(name, **settings)
    if is_dataclass(generator):
        typed(settings, type(generator), "settings")
    state = typed(load_state(folder / "state.safetensors"), State, "state.safetensors")
    generator.losses, generator.notes = state["losses"], written["notes"]
    generator._restore(state["learnt"])
    generator.normaliser = Normaliser.from_state(state["normaliser"])
    return generator


def _describe(kind: type[Generator]) -> None:
    """Settings of parts, which ``help`` would leave out."""
    if lines := list(described(kind)):
        kind.__doc__ = f"{inspect.cleandoc(kind.__doc__ or '')}\n\nSettings of the parts:\n" + "\n".join(
            lines
        )


GENERATORS: Registry[type[Generator]] = Registry("generator", "generators", finish=_describe)
"""Every known generator by name: the built-in ones, plug-ins (entry points of the group ``paramdiff.generators``),
and those defined by the caller."""

register = GENERATORS.register
"""``@register("mine", "what it does")`` makes a dataclass that is a :class:`Generator` known by that name."""


def make(name: str, **settings: Any) -> Generator:
    """A generator by name, e.g. ``make("gaussian", scale=0.7)`` or ``make("p-diff", diffusion={"steps": 500})``.

    Raises:
        ConfigError: unknown name, unknown setting, or a value out of range.
    """
    kind = GENERATORS[name]
    return kind(**make_parts(kind, settings))
