"""The one protocol of everything that fits a zoo and samples new parameter vectors.

A generator is a dataclass of hyper-parameters. It works in the zoo's normalised coordinates
(:mod:`paramdiff.parameters.normalise`): the base class normalises before ``_fit`` and goes back
after ``_sample``, so that every baseline treats scales, constant coordinates and positive
coordinates in the same way.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import GeneratorError, near
from paramdiff.files import load_state, read_json, save_state, write_json, writing
from paramdiff.parameters.normalise import Normaliser
from paramdiff.training import require_finite
from paramdiff.zoo.zoo import Zoo

Probe = Callable[[Tensor], Tensor]
"""Scores raw parameter vectors ``[n, D] -> [n]``; how a generator looks at a task without knowing it."""

CHUNK = 100
"""Samples are always drawn in chunks of this many, so that sample i has the same bits for every n."""

REGISTRY: dict[str, type["Generator"]] = {}


class Generator(ABC):
    """Fits a zoo, samples vectors. Subclasses are dataclasses and give ``_fit``, ``_sample`` and their state.

    Class attributes:
        name: the row name in ``results.json``, and the key under which it is registered.
    """

    name: ClassVar[str] = ""
    # Learnt by fit. This class is not a dataclass, so these are no hyper-parameters of subclasses.
    normaliser: Normaliser | None = None
    losses: dict[str, list[float]]
    notes: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            REGISTRY[cls.name] = cls

    @property
    def label(self) -> str:
        """The row name with the hyper-parameter that matters, e.g. ``average-of-16``."""
        return self.name

    def fit(self, zoo: Zoo, *, probe: Probe | None = None, folder: Path | None = None) -> Self:
        """Learn the zoo's distribution.

        Args:
            zoo: K members of D parameters.
            probe: scores vectors on the task's training data; generators with a reconstruction
                gate use it, others ignore it.
            folder: where a resumable fit keeps its state; ``None`` keeps none.

        Raises:
            ZooError: the zoo cannot be learnt (K = 1, no variation, NaN).
            NumericalError: NaN or Inf appeared while fitting.
        """
        zoo.require_usable()
        self.normaliser = Normaliser.fit(zoo.vectors, zoo.spec.positive)
        self.losses, self.notes = {}, {}
        raw_probe = probe and (lambda x: probe(self._denormalise(x)))
        self._fit(self.normaliser.normalise(zoo.vectors), raw_probe, folder)
        return self

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` new raw parameter vectors. Sample i is the same for every ``n``.

        Raises:
            GeneratorError: not fitted, or ``n`` < 1.
            NumericalError: a sample holds NaN or Inf.
        """
        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) first")
        if n < 1:
            raise GeneratorError(f"n = {n} samples", expected="at least 1")
        chunks = [self._sample(range(i, i + CHUNK), seed) for i in range(0, n, CHUNK)]
        x = torch.cat(chunks)[:n]
        require_finite(x, f"sampling from {self.label}")
        return self._denormalise(x)

    def _denormalise(self, x: Tensor) -> Tensor:
        assert self.normaliser is not None
        return self.normaliser.denormalise(x)

    @abstractmethod
    def _fit(self, x: Float[Tensor, "K D"], probe: Probe | None, folder: Path | None) -> None:
        """Fit normalised members; ``probe`` takes normalised vectors here."""

    @abstractmethod
    def _sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n D"]:
        """Normalised samples with these indices; each depends only on its index and the seed."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Everything learnt, as nested dicts of tensors and JSON values."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`_state`."""

    def save(self, folder: Path | str) -> None:
        """Write ``generator.json`` (what it is) and ``state.safetensors`` (what it learnt), atomically."""
        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) before save")
        with writing(Path(folder)) as partial:
            partial.mkdir(parents=True)
            settings = {"generator": self.name, "settings": asdict(self), "notes": self.notes}  # type: ignore[call-overload]
            write_json(partial / "generator.json", settings)
            learnt = {"learnt": self._state(), "losses": self.losses}
            save_state(partial / "state.safetensors", {"normaliser": self.normaliser.state_dict(), **learnt})

    @classmethod
    def load(cls, folder: Path | str) -> "Generator":
        """A saved generator, of whatever class it was.

        Raises:
            GeneratorError: unknown generator or settings.
            CheckpointError: files missing or truncated.
        """
        about = read_json(Path(folder) / "generator.json")
        kind = REGISTRY.get(about["generator"])
        if kind is None:
            raise GeneratorError(
                f"{folder} holds a generator {about['generator']!r}",
                remedy=near(about["generator"], REGISTRY),
            )
        known = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
        generator = kind(**{key: value for key, value in about["settings"].items() if key in known})
        state = load_state(Path(folder) / "state.safetensors")
        generator.normaliser = Normaliser.from_state(state["normaliser"])
        generator.losses, generator.notes = state["losses"], about["notes"]
        generator._restore(state["learnt"])
        return generator

    def __repr__(self) -> str:
        settings = asdict(self) if is_dataclass(self) else {}
        return f"{type(self).__name__}({json.dumps(settings)[1:-1]})"
