"""K trained checkpoints of one network as a matrix ``V [K, D]``, with all that is needed to use them.

A zoo is made from checkpoints (:mod:`paramdiff.zoo.checkpoints`) or by a collector, and saved as a folder
(:mod:`paramdiff.zoo.storage`).
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import FrozenRestWarning, ZooError
from paramdiff.hub.pretrained import PretrainedZoo
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.records import Parts, Record, frozen_differences, frozen_rest_differs

if TYPE_CHECKING:
    from torch import nn

    from paramdiff.hub.cards import CardOptions


class Zoo(PretrainedZoo):
    """K members of D parameters.

    Attributes:
        vectors: ``V`` [K, D], raw parameters in spec order.
        spec: names, shapes and order of the generated tensors.
        base: a complete state dict of the network.
        records: one :class:`Record` per member.
        about: free facts: the ``collector``, ``trajectory`` (members are consecutive steps of
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
        if len(self.records) != len(vectors):
            raise ZooError(f"{len(self.records)} records of {len(vectors)} members", expected="one each")
        self.about = dict(about or {})

    @classmethod
    def from_checkpoints(
        cls, paths: "str | Path | Sequence[str | Path]", model: "nn.Module | None" = None,
        select: str | Sequence[str] | None = None, group: int | None = None,
    ) -> Self:  # fmt: skip
        """A zoo from state dicts on disk; see :func:`paramdiff.zoo.checkpoints.read_checkpoints`.

        Args:
            paths: a glob, a folder, or a list of files (``.safetensors``, ``.pt``, ``.pth``, ``.bin``, ...).
            model: the network they belong to; needed for selections by module kind or order.
            select: which tensors are generated. Default: ``last_norms:2`` with a model and checkpoints that
                differ in nothing else, ``all`` otherwise.
            group: which of several kinds of files to take, from 1 for the largest. Default: there may be only one.

        Raises:
            CheckpointError: a file is missing, truncated, unsafe, or differs in shape from the others; the message
                then lists the groups of files that belong together.
            SelectionError: the selection matches nothing.

        Warns:
            FrozenRestWarning: the checkpoints differ outside the selection, so the members are not these networks.
        """
        from paramdiff.zoo.checkpoints import read_checkpoints

        zoo = cls(*read_checkpoints(paths, model, select, group))
        if zoo.frozen_differences:
            warnings.warn(zoo.frozen_rest_warning, FrozenRestWarning, stacklevel=2)
        return zoo

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
        """Some of the members, as a zoo: a slice, a list of indices, or a boolean mask.

        It is still a trajectory if the order was kept. Neighbours share memory with this zoo.

        Raises:
            IndexError: an index out of range, or a mask of another length.
        """
        if isinstance(index, slice):
            rows = list(range(self.k))[index]  # tensors do not take negative steps
        else:
            wanted = torch.as_tensor(index).reshape(-1)
            rows = torch.arange(self.k)[wanted if len(wanted) else wanted.long()].tolist()
        ordered = all(before < after for before, after in pairwise(rows))
        together = bool(rows) and ordered and rows[-1] - rows[0] == len(rows) - 1
        vectors = self.vectors[rows[0] : rows[-1] + 1] if together else self.vectors[rows]
        about = {**self.about, "trajectory": self.trajectory and ordered}
        return Zoo(vectors, self.spec, self.base, [self.records[i] for i in rows], about)

    def subsample(self, k: int) -> "Zoo":
        """``k`` members: evenly spaced and up to the last step for a trajectory, else the first ``k``.

        Members of a trajectory are alike when they are near in time; others come in no order that
        matters, so that a smaller zoo is contained in a larger one.

        Raises:
            ZooError: ``k`` is not in 1..K.
        """
        if not 1 <= k <= self.k:
            raise ZooError(f"a subsample of {k} checkpoints", expected=f"1 to {self.k}, the size of the zoo")
        return self[[(i + 1) * self.k // k - 1 for i in range(k)]] if self.trajectory else self[:k]

    def keep(self, scores: str) -> "Zoo":
        """The members whose recorded scores pass a filter such as ``test > 0.5 and train >= 0.9``.

        Args:
            scores: comparisons of numbers with names of scores, ``seed`` and ``step``. A member that lacks one of them
                is not kept.

        Raises:
            ZooError: the filter cannot be understood, names an unknown score, or no member passes it.
        """
        from paramdiff.zoo.score_filter import ScoreFilter

        return self[ScoreFilter(scores).rows(self.records)]

    @staticmethod
    def merge(*zoos: "Zoo") -> "Zoo":
        """The members of all zoos, with the frozen rest of the first.

        Raises:
            ZooError: no zoo, or zoos of different tensors.
        """
        from paramdiff.zoo.merging import merge_parts

        parts, found = merge_parts([zoo.parts for zoo in zoos])
        merged = Zoo(*parts)
        if found:
            warnings.warn(merged.frozen_rest_warning, FrozenRestWarning, stacklevel=2)
        return merged

    @property
    def parts(self) -> Parts:
        """What this zoo is made of: ``Zoo(*zoo.parts)`` is the same zoo."""
        return Parts(self.vectors, self.spec, self.base, self.records, self.about)

    @property
    def frozen_differences(self) -> list[str]:
        """Names of the frozen tensors in which the networks of the members differ: these are the first's."""
        return frozen_differences(self.about)

    @property
    def frozen_rest_warning(self) -> str:
        """A warning for those who take members for the networks in their files; empty if they are the same."""
        names = self.frozen_differences
        return frozen_rest_differs(self.spec.select, names) if names else ""

    def state_dict(self, v: Float[Tensor, "D"]) -> dict[str, Tensor]:
        """A complete state dict: the frozen rest joined with one vector; loads into the plain model.

        A finite value that a tensor's dtype cannot hold becomes the nearest that it can, with a warning.
        """
        beyond = self.spec.beyond(v)
        if beyond:
            name = beyond[0]
            dtype = next(one.dtype for one in self.spec.tensors if one.name == name)
            warnings.warn(
                f"values of {name} are beyond the range of {dtype} and are set to its ends", stacklevel=2
            )
        return {**self.base, **self.spec.unflatten(v)}

    @cached_property
    def unusable(self) -> ZooError | None:
        """The error that says why nothing can be learnt from this zoo; None if something can."""
        if self.k < 2:
            return ZooError(f"the zoo holds K = {self.k} checkpoint", expected="at least 2",
                            remedy="collect more (zoo.k=200) or import a folder with more files")  # fmt: skip
        return too_small(self.spec) or self._broken_member() or self._identical()

    def _broken_member(self) -> ZooError | None:
        for what, found in (
            ("NaN or Inf", self.nonfinite()),
            ("a variance below 0", self.negative_variances()),
        ):
            if found:
                row, name = found[0]
                where = self.records[row].source or f"member {row}"
                return ZooError(f"{where} holds {what} in {name}", remedy="remove that checkpoint")
        return None

    def _identical(self) -> ZooError | None:
        if not all(torch.equal(v, self.vectors[0]) for v in self.vectors):
            return None
        return ZooError(f"all {self.k} checkpoints are identical in the selected tensors",
                        expected="checkpoints that differ",
                        remedy="raise zoo.lr, or select tensors that were trained")  # fmt: skip

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

    def negative_variances(self) -> list[tuple[int, str]]:
        """(member, tensor name) wherever a running variance is below 0, for which no network works."""
        parts = {spec.name: self.spec.slices[spec.name] for spec in self.spec.tensors if spec.positive}
        return [
            (row, name)
            for name, part in parts.items()
            for row in (self.vectors[:, part] < 0).any(1).nonzero()[:, 0].tolist()
        ]

    def save(self, folder: Path | str) -> None:
        """Write the zoo as a folder, atomically; an older zoo there is replaced only at the end.

        Raises:
            ZooError: there is anything but a saved zoo.
            DiskError: the disk is full or not writable.
        """
        from paramdiff.zoo.storage import save_zoo

        save_zoo(folder, self.parts)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a saved zoo; the matrix stays on disk until it is used.

        Raises:
            CheckpointError: a file is missing, truncated or not what its name says.
            ZooError: the folder was written by another version, or its parts do not fit together.
        """
        from paramdiff.zoo.storage import load_zoo

        return cls(*load_zoo(folder))

    @classmethod
    def _repository_files(cls) -> tuple[Sequence[str], Sequence[str]]:
        from paramdiff.zoo import sharing

        return sharing.NEEDED, sharing.OPTIONAL

    def _write(self, folder: Path | str, options: "CardOptions", card: str | None) -> None:
        from paramdiff.zoo import sharing

        sharing.write(folder, self.parts, options, card)

    @staticmethod
    def verify(folder: Path | str) -> None:
        """Check that a saved zoo is what was saved, bit by bit, its manifest included; reads all of it.

        Zoos that older versions saved have no hash of their manifest; their tensors are checked.

        Raises:
            CheckpointError: a file is missing, damaged or was exchanged; names it.
        """
        from paramdiff.zoo.storage import verify_zoo

        verify_zoo(folder)

    def __repr__(self) -> str:
        return f"Zoo(K={self.k}, D={self.dim}, select={self.spec.select!r})"


def too_small(spec: ParameterSpec) -> ZooError | None:
    """The error that says why nothing can be learnt from such a selection; None if something can."""
    if spec.dim >= 2:
        return None
    return ZooError(f"the selection {spec.select!r} holds D = {spec.dim} parameter", expected="at least 2",
                    remedy="select more tensors")  # fmt: skip
