"""K trained checkpoints of one network as a matrix ``V [K, D]``, with all that is needed to use them.

On disk a zoo is a folder: ``vectors.safetensors`` (V, memory-mapped when read), ``base.safetensors``
(a complete state dict of the network: the frozen rest, and one member's values in the generated
places) and ``manifest.json`` (the spec, a record per member, where it came from).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import ZooError
from paramdiff.files import load_tensors, read_json, save_tensors, sha256, write_json, writing
from paramdiff.parameters.spec import ParameterSpec

if TYPE_CHECKING:
    from torch import nn

SCHEMA = 1


@dataclass
class Record:
    """Where one member came from and what it scored.

    Attributes:
        seed: seed of its training, if known.
        step: optimiser step at which it was saved, counted within the collecting phase.
        source: file it was imported from.
        scores: recorded scores by name, e.g. ``{"train": 0.98}``.
    """

    seed: int | None = None
    step: int | None = None
    source: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


class Zoo:
    """K members of D parameters.

    Attributes:
        vectors: ``V`` [K, D], raw parameters in spec order.
        spec: names, shapes and order of the generated tensors.
        base: a complete state dict of the network.
        records: one :class:`Record` per member.
        about: free facts: ``way`` of collecting, ``trajectory`` (members are consecutive steps of
            one training), ``task``, ``notes``.
    """

    def __init__(
        self, vectors: Float[Tensor, "K D"], spec: ParameterSpec, base: Mapping[str, Tensor],
        records: Sequence[Record] | None = None, about: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise ZooError(
                f"a matrix of shape {list(vectors.shape)}", expected=f"[K, {spec.dim}], one row a member"
            )
        self.vectors, self.spec, self.base = vectors, spec, dict(base)
        self.records = list(records) if records is not None else [Record() for _ in vectors]
        self.about = dict(about or {})

    @classmethod
    def from_checkpoints(
        cls, paths: "str | Path | Sequence[str | Path]", model: "nn.Module | None" = None,
        select: str | Sequence[str] | None = None,
    ) -> Self:  # fmt: skip
        """A zoo from state dicts on disk; see :func:`paramdiff.zoo.importing.read_checkpoints`.

        Args:
            paths: a glob, a folder, or a list of files (``.safetensors``, ``.pt``, ``.pth``, ``.th``).
            model: the network they belong to; needed for selections by module kind or order.
            select: which tensors are generated. Default: ``last_norms:2`` with a model, ``all`` without.

        Raises:
            CheckpointError: a file is missing, truncated, unsafe, or differs in shape from the others.
            SelectionError: the selection matches nothing.
        """
        from paramdiff.zoo.importing import read_checkpoints  # it builds on this module

        return cls(*read_checkpoints(paths, model, select))

    @property
    def k(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return self.spec.dim

    @property
    def trajectory(self) -> bool:
        """Whether members are consecutive steps of one training."""
        return bool(self.about.get("trajectory", False))

    def __len__(self) -> int:
        return self.k

    def __getitem__(self, index: "slice | Sequence[int] | Tensor") -> "Zoo":
        """Some of the members, as a zoo: a slice, a list of indices, or a boolean mask."""
        rows = torch.arange(self.k)[index if isinstance(index, slice) else torch.as_tensor(index)]
        records = [self.records[i] for i in rows.tolist()]
        return Zoo(self.vectors[rows], self.spec, self.base, records, self.about)

    def state_dict(self, v: Float[Tensor, "D"]) -> dict[str, Tensor]:
        """A complete state dict: the frozen rest joined with one vector; loads into the plain model."""
        return {**self.base, **self.spec.unflatten(v)}

    @cached_property
    def unusable(self) -> ZooError | None:
        """Why nothing can be learnt from this zoo, if so."""
        if self.k < 2:
            return ZooError(f"the zoo holds K = {self.k} checkpoint", expected="at least 2",
                            remedy="collect more (zoo.k=200) or import a folder with more files")  # fmt: skip
        if self.dim < 2:
            return ZooError(f"the selection {self.spec.select!r} holds D = {self.dim} parameter",
                            expected="at least 2", remedy="select more tensors")  # fmt: skip
        bad = self.nonfinite()
        if bad:
            row, name = bad[0]
            where = self.records[row].source or f"member {row}"
            return ZooError(f"{where} holds NaN or Inf in {name}", remedy="remove that checkpoint")
        if bool((self.vectors == self.vectors[0]).all()):
            return ZooError(f"all {self.k} checkpoints are identical in the selected tensors",
                            expected="checkpoints that differ",
                            remedy="raise zoo.lr, or select tensors that were trained")  # fmt: skip
        return None

    def require_usable(self) -> None:
        """Raise :class:`ZooError` if nothing can be learnt from this zoo."""
        if self.unusable is not None:
            raise self.unusable

    def nonfinite(self) -> list[tuple[int, str]]:
        """(member, tensor name) wherever a generated tensor holds NaN or Inf."""
        rows = [i for i, v in enumerate(self.vectors) if not bool(torch.isfinite(v).all())]
        return [
            (row, name)
            for row in rows
            for name, part in self.spec.slices.items()
            if not bool(torch.isfinite(self.vectors[row, part]).all())
        ]

    def save(self, folder: Path | str) -> None:
        """Write the zoo as a folder, atomically; an older zoo there is replaced only at the end."""
        with writing(Path(folder)) as partial:
            partial.mkdir(parents=True)
            save_tensors(partial / "vectors.safetensors", {"vectors": self.vectors})
            save_tensors(partial / "base.safetensors", self.base)
            hashes = {name: sha256(partial / f"{name}.safetensors") for name in ("vectors", "base")}
            manifest = {
                "schema": SCHEMA, "k": self.k, "dim": self.dim, "spec": self.spec.to_json(),
                "about": self.about, "sha256": hashes, "records": [asdict(r) for r in self.records],
            }  # fmt: skip
            write_json(partial / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a saved zoo; the matrix stays on disk until it is used.

        Raises:
            CheckpointError: the folder is not a zoo or a file of it is damaged.
        """
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json")
        if manifest.get("schema") != SCHEMA:
            raise ZooError(f"{folder} has zoo schema {manifest.get('schema')}", expected=f"{SCHEMA}",
                           remedy="read it with the version of paramdiff that wrote it")  # fmt: skip
        vectors = load_tensors(folder / "vectors.safetensors")["vectors"]
        base = load_tensors(folder / "base.safetensors")
        records = [Record(**record) for record in manifest["records"]]
        return cls(vectors, ParameterSpec.from_json(manifest["spec"]), base, records, manifest["about"])

    def __repr__(self) -> str:
        return f"Zoo(K={self.k}, D={self.dim}, select={self.spec.select!r})"
