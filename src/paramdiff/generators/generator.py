"""The protocol of generators, which fit a zoo and sample new parameter vectors.

A generator is a dataclass of hyper-parameters. It works in the zoo's normalised coordinates
(:mod:`paramdiff.parameters.normaliser`): the base class normalises before ``_fit`` and goes back
after ``_sample``, so that every baseline treats scales, constant coordinates and positive
coordinates in the same way.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import require_memory, suitable_threads
from paramdiff.errors import ConfigError, GeneratorError, ZooError
from paramdiff.generators.context import FitContext, NormalisedView
from paramdiff.hub.pretrained import PretrainedGenerator
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.registry import Registry
from paramdiff.settings import check_ranges, describe, get, make_parts, put
from paramdiff.training import require_finite
from paramdiff.zoo.zoo import Zoo

if TYPE_CHECKING:
    from paramdiff.hub.cards import CardOptions
    from paramdiff.parameters.network import Network

CHUNK = 100
"""Samples are always drawn in whole chunks of this many, so that sample i has the same bits for every n."""

ELEMENTS = 1 << 24
"""Chunks of long vectors hold fewer samples, so that a chunk is never larger than this many numbers."""


class Generator(PretrainedGenerator):
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
    :class:`~paramdiff.generators.context.NormalisedView`.
    """

    # Learnt by fit. This class is not a dataclass, so these are no hyper-parameters of subclasses.
    normaliser: Normaliser | None = None
    _network: Any = None  # a Network, or spec and base, of which it is made; OmegaConf has to know the type
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
    def asks(self) -> bool:
        """Whether :meth:`sample` needs feedback from a task, with these settings, as fine-tuned samples do."""
        return self.gradient_steps_sampling > 0

    @property
    def sampling_settings(self) -> dict[str, Any]:
        """The settings that only :meth:`sample` reads, by dotted key."""
        return {key: get(self, key) for key in self.sampling}

    def change(self, settings: Mapping[str, Any]) -> None:
        """Change settings of sampling by dotted key, without fitting again."""
        for key, value in settings.items():
            put(self, key, value)

    @property
    def gradient_steps_fitting(self) -> int:
        """Gradient steps of single networks that the fit took, all together: those that its parts noted."""
        noted = (note.get("gradient_steps") for note in self.notes.values() if isinstance(note, Mapping))
        return sum(steps for steps in noted if isinstance(steps, int))

    @property
    def gradient_steps_sampling(self) -> int:
        """Gradient steps that drawing one sample takes."""
        return 0

    @property
    def members_needed(self) -> int | None:
        """Members whose training it owes its samples to, beside a unit of length; None for all of the zoo."""
        return None

    @property
    def continues(self) -> bool:
        """Whether it goes on from the samples that the fit looked at, and so owes what these cost."""
        return False

    @property
    def network(self) -> "Network | None":
        """What turns its samples into complete state dicts; None if it was loaded without."""
        if isinstance(self._network, tuple):
            from paramdiff.parameters.network import Network

            return Network.around(*self._network)
        return self._network

    def adapted(self, k: int) -> Self:
        """This generator for a zoo of K members: settings that are left open are filled in, those that are given
        stay."""
        return self

    def require(self, k: int, dim: int | None = None) -> None:
        """Raise if the fit would need more, before anything is collected for it; by default nothing is needed.

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
        self._network = zoo.spec, zoo.base
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
        normaliser = self._ready(n)
        dim = len(normaliser.mean)
        require_memory(
            f"{n:,} samples of {dim:,} parameters", 4 * n * dim, partial(ConfigError, "n"), "lower it"
        )
        v = torch.empty(n, dim)
        for start, drawn in self._drawn(n, seed, context.normalised(normaliser)):
            v[start : start + len(drawn)] = drawn
        return v

    def sample_state_dicts(
        self, n: int, seed: int = 0, *, context: FitContext = FitContext()  # noqa: B008
    ) -> Iterator[dict[str, Tensor]]:  # fmt: skip
        """``n`` new networks as complete state dicts: :meth:`sample`, joined with the frozen rest.

        They are drawn lazily, a chunk at a time, so that memory does not grow with ``n``. Names,
        order and dtypes are those of the network's own state dict. They share the frozen tensors, which
        ``load_state_dict`` copies; changing one in place changes it in all of them.

        Args:
            context: its feedback is for a generator that ``asks``; others ignore it.

        Raises:
            GeneratorError: not fitted, or loaded without its network, or ``n`` < 1, or feedback is needed.
            NumericalError: a sample holds NaN or Inf.
        """
        from paramdiff.generators.saving import require_network

        own = context.normalised(self._ready(n))
        network = require_network(self.name, self.network)
        return (network.state_dict(v) for _, drawn in self._drawn(n, seed, own) for v in drawn)

    def _ready(self, n: int = 1) -> Normaliser:
        """Its normaliser; raises :class:`GeneratorError` if it cannot draw ``n`` samples."""
        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) first")
        if n < 1:
            raise GeneratorError(f"n = {n} samples", expected="at least 1")
        return self.normaliser

    def _drawn(self, n: int, seed: int, context: FitContext) -> Iterator[tuple[int, Float[Tensor, "m D"]]]:
        """(index of the first, raw samples) chunk by chunk; the context is in normalised coordinates."""
        normaliser = self._ready(n)
        dim = len(normaliser.mean)
        size = max(1, min(self._at_once(), ELEMENTS // dim))
        for start in range(0, n, size):
            with suitable_threads(dim):
                x = self._sample(range(start, start + size), seed, context)[: n - start]
            require_finite(x, f"sampling {self.label}, samples from {start} on")
            yield start, normaliser.denormalise(x)

    def _at_once(self) -> int:
        """Samples of a chunk with these settings, at most."""
        return self.drawn_at_once

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
        """Write what it is and what it learnt, atomically, without the network: for a folder with the zoo beside it.

        :meth:`save_pretrained` adds the network.

        Raises:
            GeneratorError: not fitted, or there is anything but a saved generator.
            DiskError: the disk is full or not writable.
        """
        from paramdiff.generators import saving

        saving.write(folder, saving.without_network(self))

    @classmethod
    def _repository_files(cls) -> tuple[Sequence[str], Sequence[str]]:
        from paramdiff.generators import saving

        return saving.NEEDED, saving.OPTIONAL

    def _write(
        self, folder: Path | str, options: "CardOptions", card: str | None, results: Mapping[str, Any] | None,
        row: str | None,
    ) -> None:  # fmt: skip
        from paramdiff.generators import saving

        saving.write_with_card(self, folder, options, card, results, row)

    @classmethod
    def upgraded(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings that an earlier version saved, as this one knows them: they sample the same."""
        return settings

    @classmethod
    def load(cls, folder: Path | str, zoo: Zoo | None = None) -> "Generator":
        """A saved generator, of whatever class it was.

        Args:
            folder: with or without its network.
            zoo: it was fitted to, whose network it gets if it was saved without, as in a run folder.

        Raises:
            GeneratorError: unknown generator, or not what ``save`` wrote.
            ConfigError: settings this version does not know.
            CheckpointError: files missing or truncated.
            ZooError: the zoo has another number of parameters.
        """
        from paramdiff.generators import saving

        generator: Generator = saving.load(folder, GENERATORS)
        dim = len(generator._ready().mean)
        if zoo is not None and zoo.dim != dim:
            raise ZooError(f"a zoo of D = {zoo.dim} parameters", expected=f"{dim}, as {folder} has")
        if zoo is not None and generator.network is None:
            generator._network = zoo.spec, zoo.base
        return generator


GENERATORS: Registry[type[Generator]] = Registry("generator", "generators", finish=describe)
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
