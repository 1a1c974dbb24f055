"""K trained checkpoints of one network as a matrix ``V [K, D]``, with all that is needed to use them.

On disk a zoo is a folder: ``vectors.safetensors`` (V, memory-mapped when read), ``base.safetensors``
(a complete state dict of the network: the frozen rest, and one member's values in the generated
places) and ``manifest.json`` (the spec, a record per member, where it came from).
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import CheckpointError, FrozenRestWarning, ZooError
from paramdiff.files import (
    ArtefactFolder,
    about,
    load_tensors,
    read_json,
    save_tensors,
    settle,
    sha256,
    write_json,
)
from paramdiff.parameters.spec import ParameterSpec, TensorSpec
from paramdiff.validation import typed
from paramdiff.zoo.score_filter import ScoreFilter

if TYPE_CHECKING:
    from torch import nn

SCHEMA = 1

FILES = ("vectors", "base")
"""Names of a saved zoo's safetensors files."""

FOLDER = ArtefactFolder(
    "saved zoo", "manifest.json", ("schema", "spec", "records"), [f"{name}.safetensors" for name in FILES], ZooError,
    beside=["README.md"],
)  # fmt: skip
"""What :meth:`Zoo.save` may replace."""

AGAIN = "copy the zoo again from where it came from, or collect or import it again"


@dataclass
class Record:
    """Where one member came from and what it scored.

    Attributes:
        seed: seed of its training, if known.
        step: optimiser step at which it was saved, counted within the collecting phase.
        source: file it was imported from, as people know it.
        path, index, size, sha256: where that file lies, the member's place in it if it is a stack, and what the file
            was. The last two are known where checkpoints differ outside the selection
            (:mod:`paramdiff.zoo.saved_networks`).
        scores: recorded scores by name, e.g. ``{"train": 0.98}``; one that is not finite counts as
            unknown and is not saved.
        accuracy_class: which part of the zoo's range it is in, 0 for the worst; ``None`` if it has no score
            (:func:`paramdiff.zoo.score_bins.classify`).
    """

    seed: int | None = None
    step: int | None = None
    source: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    accuracy_class: int | None = None
    path: str | None = None
    index: int | None = None
    size: int | None = None
    sha256: str | None = None


class Facts(TypedDict, total=False):
    """What is in ``Zoo.about`` under names of ours."""

    way: str | None
    trajectory: bool | int | None
    notes: list[str]
    source: str | None
    aligned: "Alignment | None"


class Scores(TypedDict):
    """Scores of midpoints, beside those of the members between which they lie."""

    members: float | None
    midpoints: float | None
    barrier: float | None
    one_basin: bool | None


class Alignment(TypedDict):
    groups: int
    of: int
    before: Scores | None
    after: Scores | None


class Manifest(TypedDict):
    """``manifest.json`` of a saved zoo."""

    schema: int
    k: NotRequired[int]
    dim: NotRequired[int]
    spec: dict[str, Any]
    about: Facts
    records: list[Record]
    sha256: NotRequired[dict[str, str]]


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
        from paramdiff.zoo.saved_networks import warning  # they build on this module

        zoo = cls(*read_checkpoints(paths, model, select, group))
        if text := warning(zoo):
            warnings.warn(text, FrozenRestWarning, stacklevel=2)
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

    def keep(self, condition: str) -> "Zoo":
        """The members whose recorded scores fulfil a condition such as ``test > 0.5 and train >= 0.9``.

        Names are those of the scores, and ``seed`` and ``step``. A member that lacks one of them is
        not kept.

        Raises:
            ZooError: the condition cannot be understood, names an unknown score, or holds nowhere.
        """
        wanted, values = ScoreFilter(condition), [_values(record) for record in self.records]
        wanted.require_known({name for known in values for name in known} | {"seed", "step"})
        rows = [i for i, known in enumerate(values) if wanted.holds(known)]
        if not rows:
            raise ZooError(f"none of the {self.k} checkpoints fulfils {condition!r}", remedy="loosen it")
        return self[rows]

    @staticmethod
    def merge(*zoos: "Zoo") -> "Zoo":
        """The members of all zoos, with the frozen rest of the first.

        Raises:
            ZooError: no zoo, or zoos of different tensors.
        """
        if not zoos:
            raise ZooError("no zoo to merge", expected="at least one")
        first, *others = zoos
        for i, other in enumerate(others, start=2):
            _require_same(first.spec, other.spec, f"zoo {i} of {len(zoos)}")
        notes = dict.fromkeys(note for zoo in zoos for note in zoo.about.get("notes", ()))
        outside = _outside(first, others)
        if outside:
            notes["the merged zoos differ outside the selection; the frozen rest is the first zoo's"] = None
        about = first.about | {"trajectory": first.trajectory and not others, "notes": list(notes)}
        if others:
            about.pop("aligned", None)  # each to its own order
            about.pop("accuracy_classes", None)  # each by its own bounds
        vectors = torch.cat([zoo.vectors for zoo in zoos])
        records = [record for zoo in zoos for record in zoo.records]
        if others:
            records = [replace(record, accuracy_class=None) for record in records]
        return _told(Zoo(vectors, first.spec, first.base, records, about), zoos, outside)

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
        """Why nothing can be learnt from this zoo, if so."""
        if self.k < 2:
            return ZooError(f"the zoo holds K = {self.k} checkpoint", expected="at least 2",
                            remedy="collect more (zoo.k=200) or import a folder with more files")  # fmt: skip
        small = too_small(self.spec)
        if small is not None:
            return small
        bad = self.nonfinite()
        if bad:
            row, name = bad[0]
            where = self.records[row].source or f"member {row}"
            return ZooError(f"{where} holds NaN or Inf in {name}", remedy="remove that checkpoint")
        negative = self.negative_variances()
        if negative:
            row, name = negative[0]
            where = self.records[row].source or f"member {row}"
            return ZooError(f"{where} holds a variance below 0 in {name}", remedy="remove that checkpoint")
        if all(torch.equal(v, self.vectors[0]) for v in self.vectors):
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
        with FOLDER.writing(folder) as partial:
            rows = about(FOLDER.says("one row a member"), spec=self.spec.to_json())
            save_tensors(partial / "vectors.safetensors", {"vectors": self.vectors}, rows)
            save_tensors(partial / "base.safetensors", self.base, about(FOLDER.says("a complete state dict")))
            hashes = {name: sha256(partial / f"{name}.safetensors") for name in FILES}
            manifest = {
                "schema": SCHEMA, "k": self.k, "dim": self.dim, "spec": self.spec.to_json(),
                "about": _sayable(self.about), "records": [_to_json(r) for r in self.records],
            }  # fmt: skip
            hashes["manifest"] = _digest(manifest)
            write_json(partial / "manifest.json", manifest | {"sha256": hashes})

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a saved zoo; the matrix stays on disk until it is used.

        Raises:
            CheckpointError: a file is missing, truncated or not what its name says.
            ZooError: the folder was written by another version, or its parts do not fit together.
        """
        folder = Path(folder)
        settle(folder.parent)
        manifest = _read_manifest(folder)
        spec = ParameterSpec.from_json(manifest["spec"], f"{folder / 'manifest.json'}: spec")
        tensors, base = (
            load_tensors(folder / "vectors.safetensors"),
            load_tensors(folder / "base.safetensors"),
        )
        vectors = tensors.get("vectors")
        if vectors is None or not vectors.is_floating_point():
            raise _damaged(folder, "vectors.safetensors holds no matrix of parameters")
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise _damaged(folder, f"a matrix of shape {list(vectors.shape)} for D = {spec.dim} parameters")
        if len(manifest["records"]) != len(vectors):
            raise _damaged(folder, f"{len(manifest['records'])} records of {len(vectors)} members")
        for tensor in spec.tensors:
            for key in (tensor.name, *tensor.aliases):
                if key not in base or base[key].shape != tensor.shape:
                    raise _damaged(folder, f"base.safetensors has no {key} of shape {list(tensor.shape)}")
        return cls(vectors, spec, base, manifest["records"], manifest["about"])

    def save_pretrained(
        self, folder: Path | str, *, license: str | None = None, tags: Sequence[str] = (), place: str | None = None,
        card: str | None = None,
    ) -> None:  # fmt: skip
        """Write what :meth:`save` writes, without paths of this machine, and a data-set card, ``README.md``.

        Args:
            folder: new, empty, or of a saved zoo.
            license: for the card, as the Hub writes it; none by default.
            tags: for the card, beside those of this library.
            place: what the card's example loads; by default the folder's name.
            card: one to take as it is.

        Raises:
            ZooError: there is anything but a saved zoo.
            DiskError: the disk is full or not writable.
        """
        from paramdiff.hub.cards import CardOptions
        from paramdiff.zoo import sharing  # it builds on this module

        sharing.write(folder, self, CardOptions(place or Path(folder).name, license, tags), card)

    def push_to_hub(
        self, id: str, *, license: str | None = None, tags: Sequence[str] = (), card: str | None = None,
        private: bool | None = None, revision: str | None = None, token: str | None = None,
    ) -> str:  # fmt: skip
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub, as a data set; returns its address.

        Args:
            id: ``user/name``; the repository is made if there is none.
            license, tags, card: as for :meth:`save_pretrained`.
            private: whether a new repository is.
            revision: branch to write to.
            token: by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            HubError: a wrong id, no token, or no right to write.
            HubUnreachableError: the Hub cannot be reached.
        """
        from paramdiff.hub.transfer import Repository, push
        from paramdiff.zoo import sharing

        def write(folder: Path) -> None:
            self.save_pretrained(folder, license=license, tags=tags, place=id, card=card)

        repository, names = Repository(id, "dataset", revision), (*sharing.NEEDED, *sharing.OPTIONAL)
        return push(repository, write, names, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls, source: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """A zoo out of a folder, or from a data set of the Hugging Face Hub; the matrix stays on disk until it is used.

        Args:
            source: a folder, or ``user/name``.
            revision: branch, tag or commit on the Hub.
            token: for a private data set; by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            CheckpointError, ZooError: as :meth:`load`.
            HubError: there is no such folder or data set.
            HubUnreachableError: the Hub cannot be reached.
        """
        from paramdiff.hub.transfer import located
        from paramdiff.zoo import sharing

        return cls.load(located(source, "dataset", sharing.NEEDED, revision=revision, token=token))

    @staticmethod
    def verify(folder: Path | str) -> None:
        """Check that a saved zoo is what was saved, bit by bit, its manifest included; reads all of it.

        Zoos that older versions saved have no hash of their manifest; their tensors are checked.

        Raises:
            CheckpointError: a file is missing, damaged or was exchanged; names it.
        """
        manifest = read_json(Path(folder) / "manifest.json")
        hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
        hashes = hashes if isinstance(hashes, dict) else {}
        for name in FILES:
            file = Path(folder) / f"{name}.safetensors"
            if not file.is_file():
                raise CheckpointError(f"{file} does not exist", expected="a safetensors file")
            if sha256(file) != hashes.get(name):
                raise _exchanged(file)
        own = {key: value for key, value in manifest.items() if key != "sha256"}
        if "manifest" in hashes and hashes["manifest"] != _digest(own):
            raise _exchanged(Path(folder) / "manifest.json")

    def __repr__(self) -> str:
        return f"Zoo(K={self.k}, D={self.dim}, select={self.spec.select!r})"


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash of what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _exchanged(file: Path) -> CheckpointError:
    return CheckpointError(f"{file} is not the file that was saved", expected="the sha256 in manifest.json",
                           remedy=AGAIN)  # fmt: skip


def _damaged(folder: Path, why: str) -> ZooError:
    return ZooError(f"{folder} is a damaged zoo ({why})", remedy=AGAIN)


def _read_manifest(folder: Path) -> Manifest:
    """``manifest.json`` with the types of :class:`Manifest`; its spec is still a dictionary."""
    path = folder / "manifest.json"
    try:
        manifest = read_json(path)
    except CheckpointError as error:
        there = any((folder / part).exists() for part in FOLDER.parts)
        raise CheckpointError(error.came, expected=error.expected, remedy=AGAIN if there else "") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise ZooError(f"{folder} has zoo schema {str(schema)[:20]}", expected=f"{SCHEMA}",
                       remedy="read it with the version of paramdiff that wrote it")  # fmt: skip
    try:
        return typed(manifest, Manifest, "manifest.json")
    except CheckpointError as error:
        raise _damaged(folder, f"{error.came}, not {error.expected}") from None


def _to_json(record: Record) -> dict[str, Any]:
    """A record with its finite scores: a diverged member must not make the zoo unsaveable."""
    finite = {name: value for name, value in record.scores.items() if math.isfinite(value)}
    return _sayable(asdict(record) | {"scores": finite})


def _sayable(facts: dict[str, Any]) -> dict[str, Any]:
    """With a ``source`` that is text: names of files need not be."""
    source = facts.get("source")
    if not isinstance(source, str):
        return facts
    return facts | {"source": source.encode("utf-8", "replace").decode()}


def _values(record: Record) -> dict[str, float]:
    """What a condition can read of a member."""
    own = {"seed": record.seed, "step": record.step}
    return record.scores | {name: value for name, value in own.items() if value is not None}


def _require_same(spec: ParameterSpec, other: ParameterSpec, source: str) -> None:
    """Raise :class:`ZooError` naming the first tensor in which two specs differ."""
    for ours, theirs in zip_longest(spec.tensors, other.tensors):
        if _describe(ours) != _describe(theirs):
            raise ZooError(f"{source} has {_describe(theirs)}", expected=f"{_describe(ours)} as in the first",
                           remedy="merge zoos of the same network and selection")  # fmt: skip


def _describe(tensor: TensorSpec | None) -> str:
    return f"{tensor.name} {list(tensor.shape)} {tensor.dtype}" if tensor else "no further tensor"


def differing(state: Mapping[str, Tensor], other: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
    """Those of ``names`` whose tensors are not equal, or in one of the states only.

    The batch counter of BatchNorm is passed over: nothing reads it in evaluation.
    """

    def same(name: str) -> bool:
        if name not in state or name not in other:
            return name not in state and name not in other
        ours, theirs = state[name], other[name]
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)

    return [name for name in names if not name.endswith("num_batches_tracked") and not same(name)]


def _told(merged: Zoo, zoos: Sequence[Zoo], differ: Sequence[str]) -> Zoo:
    """The merged zoo; where members are not the networks they came from, with their files' hashes and a warning."""
    from paramdiff.zoo.saved_networks import OUTSIDE, outside, signed, warning  # it builds on this module

    names = dict.fromkeys([*differ, *(name for zoo in zoos for name in outside(zoo))])
    if names:
        merged.about[OUTSIDE], merged.records = list(names), signed(merged.records)
        if differ:
            warnings.warn(warning(merged), FrozenRestWarning, stacklevel=3)
    return merged


def _outside(first: Zoo, others: Sequence[Zoo]) -> list[str]:
    """Frozen tensors in which zoos differ from the first."""
    names = dict.fromkeys(name for zoo in (first, *others) for name in zoo.base)
    frozen = [name for name in names if name not in set(first.spec.keys)]
    return [name for name in frozen if any(differing(first.base, other.base, [name]) for other in others)]


def too_small(spec: ParameterSpec) -> ZooError | None:
    """Why nothing can be learnt from such a selection, if so."""
    if spec.dim >= 2:
        return None
    return ZooError(f"the selection {spec.select!r} holds D = {spec.dim} parameter", expected="at least 2",
                    remedy="select more tensors")  # fmt: skip
