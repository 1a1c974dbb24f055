"""The protocol of generators, which fit a zoo and sample new parameter vectors.

A generator is a dataclass of hyper-parameters. It works in the zoo's normalised coordinates
(:mod:`paramdiff.parameters.normaliser`): the base class normalises before ``_fit`` and goes back
after ``_sample``, so that every baseline treats scales, constant coordinates and positive
coordinates in the same way.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import require_memory, suitable_threads
from paramdiff.errors import ConfigError, GeneratorError, ZooError, near
from paramdiff.generators.context import FitContext
from paramdiff.generators.normalised_view import NormalisedView
from paramdiff.generators.settings import described, get, make_parts, put
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.ranges import check_ranges
from paramdiff.registry import Registry
from paramdiff.training import require_finite
from paramdiff.validation import typed
from paramdiff.zoo.zoo import Zoo

if TYPE_CHECKING:
    from paramdiff.generators.saving import Saved
    from paramdiff.parameters.network import Network

CHUNK = 100
"""Samples are always drawn in whole chunks of this many, so that sample i has the same bits for every n."""

ELEMENTS = 1 << 24
"""Chunks of long vectors hold fewer samples, so that a chunk is never larger than this many numbers."""

WITH_ZOO = "load it with the zoo it was fitted to: Generator.load(folder, zoo)"
"""Remedy for a generator that lacks its network."""


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
    """Whether :meth:`sample` needs feedback from a task, as fine-tuned samples do."""

    # Learnt by fit. This class is not a dataclass, so these are no hyper-parameters of subclasses.
    normaliser: Normaliser | None = None
    _network: Any = None  # a Network, or what makes it; a type that OmegaConf can read, without importing it
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

    @property
    def network(self) -> "Network | None":
        """What turns its samples into complete state dicts; None if it was loaded without."""
        return self._network() if isinstance(self._network, partial) else self._network

    def adapted(self, k: int) -> Self:
        """This generator for a zoo of K members: settings that are left open are filled in, those that are given
        stay."""
        return self

    def require(self, k: int, dim: int | None = None) -> None:  # noqa: B027 (no need is common to all)
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
        self._network = partial(_network_around, zoo.spec, zoo.base)
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
        own, network = context.normalised(self._ready(n)), self.network
        if network is None:
            raise GeneratorError(f"this {self.name} was loaded without its network", remedy=WITH_ZOO)
        return (network.state_dict(v) for _, drawn in self._drawn(n, seed, own) for v in drawn)

    def _ready(self, n: int) -> Normaliser:
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
        size = max(1, min(self.drawn_at_once, ELEMENTS // dim))
        for start in range(0, n, size):
            with suitable_threads(dim):
                x = self._sample(range(start, start + size), seed, context)[: n - start]
            require_finite(x, f"sampling {self.label}, samples from {start} on")
            yield start, normaliser.denormalise(x)

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

        saving.write(folder, replace(self._saved(), network=None))

    def save_pretrained(
        self, folder: Path | str, *, results: Mapping[str, Any] | None = None, row: str | None = None,
        license: str | None = None, tags: Sequence[str] = (), place: str | None = None, card: str | None = None,
    ) -> None:  # fmt: skip
        """Write it with its network and a model card: loaded, it needs no originals.

        Args:
            folder: gets ``config.json``, ``model.safetensors`` and ``README.md``, atomically.
            results: of an evaluation (the dictionary of ``results.json``), for the card.
            row: its row in the results; by default that of its name, else the one that the verdict is about.
            license: for the card, as the Hub writes it, e.g. ``apache-2.0``; none by default.
            tags: for the card, beside those of this library.
            place: what the card's example loads; by default the folder's name.
            card: one to take as it is.

        Raises:
            GeneratorError: not fitted, or without its network, or there is anything but a saved generator.
            DiskError: the disk is full or not writable.
        """
        from paramdiff.generators import saving
        from paramdiff.hub.cards import CardOptions, GeneratorInfo, generator_card

        saved, options = self._saved(), CardOptions(place or Path(folder).name, license, tags)
        network = saved.network
        if network is None:
            raise GeneratorError(f"this {self.name} was loaded without its network", remedy=WITH_ZOO)
        facts = GeneratorInfo(
            self.name, self.label, network.spec.dim, network.spec.names, network.size, self.asks, row
        )
        saving.write(folder, saved, card if card is not None else generator_card(facts, options, results))

    def push_to_hub(
        self, id: str, *, results: Mapping[str, Any] | None = None, row: str | None = None,
        license: str | None = None, tags: Sequence[str] = (), card: str | None = None, private: bool | None = None,
        revision: str | None = None, token: str | None = None,
    ) -> str:  # fmt: skip
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub; returns its address there.

        Args:
            id: ``user/name``; the repository is made if there is none.
            results, row, license, tags, card: as for :meth:`save_pretrained`.
            private: whether a new repository is.
            revision: branch to write to.
            token: by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            GeneratorError: not fitted, or without its network.
            HubError: a wrong id, no token, or no right to write.
            HubUnreachableError: the Hub cannot be reached.
        """
        from paramdiff.generators import saving
        from paramdiff.hub.transfer import Repository, push

        def write(folder: Path) -> None:
            self.save_pretrained(
                folder, results=results, row=row, license=license, tags=tags, place=id, card=card
            )

        repository, names = Repository(id, "model", revision), (*saving.NEEDED, *saving.OPTIONAL)
        return push(repository, write, names, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls, source: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """A generator out of a folder that :meth:`save_pretrained` wrote, or from the Hugging Face Hub.

        It is data: nothing in it names code, and nothing of it is executed. Where the Hub cannot be reached, what was
        downloaded before is taken from the Hub's cache.

        Args:
            source: a folder, or ``user/name``.
            revision: branch, tag or commit on the Hub.
            token: for a private repository; by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            GeneratorError: damaged, or of another class than the one asked for.
            HubError: there is no such folder or repository.
            HubUnreachableError: the Hub cannot be reached.
        """
        from paramdiff.generators import saving
        from paramdiff.hub.transfer import located

        generator = cls.load(located(source, "model", saving.NEEDED, revision=revision, token=token))
        if not isinstance(generator, cls):
            raise GeneratorError(f"{source} holds a generator {generator.name!r}", expected=f"{cls.name!r}",
                                 remedy="use Generator.from_pretrained")  # fmt: skip
        return generator

    def _saved(self) -> "Saved":
        """All that is kept of it."""
        from paramdiff.generators.saving import Saved

        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) before save")
        settings = asdict(self)  # type: ignore[call-overload]
        return Saved(
            self.name, settings, self.notes, self.normaliser, self._state(), self.losses, self.network
        )

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

        saved = saving.read(folder)
        with saving.damage_named(folder):
            generator = _restored(saved, Path(folder))
        if zoo is not None and zoo.dim != len(saved.normaliser.mean):
            raise ZooError(
                f"a zoo of D = {zoo.dim} parameters",
                expected=f"{len(saved.normaliser.mean)}, as {folder} has",
            )
        if zoo is not None and saved.network is None:
            generator._network = partial(_network_around, zoo.spec, zoo.base)
        return generator


def _network_around(spec: ParameterSpec, base: Mapping[str, Tensor]) -> "Network":
    from paramdiff.parameters.network import Network

    return Network.around(spec, base)


def _restored(saved: "Saved", folder: Path) -> Generator:
    """The generator that was saved, as it was learnt."""
    name = saved.name
    try:
        kind = GENERATORS[name[:40]]
    except ConfigError:
        known = GENERATORS.all()
        raise GeneratorError(
            f"{folder} holds a generator {name[:40]!r}", remedy=near(name[:40], known)
        ) from None
    settings = kind.upgraded(saved.settings)
    generator = make(name, **settings)
    if is_dataclass(generator):
        typed(settings, type(generator), "settings")
    generator.losses, generator.notes, generator._network = saved.losses, saved.notes, saved.network
    generator._restore(saved.learnt)
    generator.normaliser = saved.normaliser
    return generator


def _describe(kind: type[Generator]) -> None:
    """Let ``help`` show the settings of parts, and inherited ones."""
    if lines := list(described(kind)):
        kind.__doc__ = f"{inspect.cleandoc(kind.__doc__ or '')}\n\nAll settings:\n" + "\n".join(lines)


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
