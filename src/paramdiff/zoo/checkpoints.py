"""Checkpoints on disk -> the parts of a zoo: K files of one network become ``V [K, D]`` and a frozen rest.

Files are read one at a time and only the selected tensors are kept, so memory is ``K x D`` plus one
state dict. One file may also hold all members, stacked along a first axis that the network's tensors do not
have (:mod:`paramdiff.zoo.stacked_files`). The frozen rest comes from the first file. If the files differ outside
the default selection, everything is selected. If they differ outside a selection that the user has made,
``about`` says so, because the members then are not quite the networks in the files
(:mod:`paramdiff.zoo.saved_networks`).
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.devices import require_memory
from paramdiff.errors import CheckpointError, ParamdiffWarning, ZooError, few, near
from paramdiff.networks.structure import tied_keys
from paramdiff.parameters.spec import ParameterSpec, must_be_positive
from paramdiff.progress import bar
from paramdiff.zoo.file_search import Paths, find_checkpoints
from paramdiff.zoo.records import OUTSIDE, Parts, Record, is_trajectory, make_records, signed
from paramdiff.zoo.state_dicts import Member, differing

Select = str | Sequence[str]
State = dict[str, Tensor]

HELD = "held"
"""The selection of all tensors that the checkpoints hold: the whole network or a part of it."""

DEFAULT = "last_norms:2"
"""What is selected of a model by default, unless checkpoints differ in more."""

SORT_THEM = "keep the checkpoints of each network in a folder of their own"


def read_checkpoints(
    paths: Paths, model: nn.Module | None = None, select: Select | None = None, group: int | None = None
) -> Parts:
    """What :class:`paramdiff.zoo.zoo.Zoo` is made of, from state dicts on disk.

    Args:
        paths: a glob, a folder, one file, or a list of files. A folder gives the checkpoints directly
            in it, or all below it if there are none; globs and folders are sorted so that
            ``step_2`` comes before ``step_10``, a list keeps its order. A single file may be a stack
            of members, if a model tells what a member looks like.
        model: the network they belong to; needed for selections by module kind or order.
        select: which tensors are generated; ``held`` for all that the checkpoints hold. Default: ``last_norms:2``
            with a model and checkpoints that differ in nothing else, ``all`` otherwise.
        group: which of several kinds of files to take, from 1 for the largest
            (:mod:`paramdiff.zoo.file_groups`). Default: there may be only one.

    Returns:
        ``V`` [K, D], its spec, a complete state dict (the first member, completed by the model), a
        record per member and the facts for ``Zoo.about``.

    Raises:
        MixedCheckpointsError: the files are of several kinds; lists them.
        CheckpointError: a file is missing, truncated, unsafe, holds NaN, or does not fit the others
            or the model.
        SelectionError: the selection matches nothing.
        ZooError: they do not fit into memory.
    """
    files, notes = find_checkpoints(paths), list[str]()
    own = None if model is None else _tensors(model)
    if group is not None:
        from paramdiff.zoo.file_groups import of_group

        files = of_group(files, own, group, notes)
    try:
        spec, base, read, records = _read_files(files, model, own, select, notes)
    except CheckpointError as error:
        if group is None and len(files) > 1:
            from paramdiff.zoo.file_groups import raise_if_mixed

            raise_if_mixed(error, files, own)
        raise
    about = {
        "collector": "import", "trajectory": is_trajectory(records), "source": _source(paths), "notes": notes,
    }  # fmt: skip
    if read.outside:
        about[OUTSIDE], records = read.outside, signed(records)
    return Parts(read.vectors, spec, base, records, about)


def _read_files(
    files: Sequence[Path], model: nn.Module | None, own: State | None, select: Select | None, notes: list[str]
) -> tuple[ParameterSpec, State, "_Members", list[Record]]:
    members, records = _find_members(files, own)
    first = members[0].read(own)
    by_default = model is not None and select is None
    spec = _spec_of(model, first, DEFAULT if by_default else select)
    whole = first if model is None else _complete(first, model, spec, members[0], notes)
    base = {name: tensor.clone() for name, tensor in whole.items()}  # no longer tied to the file
    read = _read_members(members, first, spec, base, stop=by_default)
    if model is not None and by_default and read.outside:
        notes.append(
            f"the checkpoints differ outside {DEFAULT} (in {few(read.outside)}), so all tensors are generated; "
            f"select={DEFAULT} would give every member the frozen rest of {members[0].name}"
        )
        warnings.warn(notes[-1], ParamdiffWarning, stacklevel=4)
        read = _read_members(members, first, ParameterSpec.from_model(model, "all"), base)
    notes += read.notes(members[0])
    for member, record in zip(members, records, strict=True):
        record.path, record.index = str(member.file.absolute()), member.index
    return read.spec, base, read, records


def _find_members(files: Sequence[Path], own: State | None) -> tuple[list[Member], list[Record]]:
    """A member and a record per file, or per slice of a stack if that is the only file."""
    if own is not None and len(files) == 1:
        from paramdiff.zoo.stacked_files import find_members

        members = find_members(files[0], own)
        if len(members) > 1:
            return members, [Record(source=member.name) for member in members]
    return [Member(file) for file in files], make_records(files)


def _spec_of(model: nn.Module | None, first: State, select: Select | None) -> ParameterSpec:
    """What is generated of a network, or of bare state dicts if the network is not known."""
    if model is None:
        return ParameterSpec.from_state_dict(first, "all" if select in (None, HELD) else select or "all")
    if select is None or select != HELD:
        return ParameterSpec.from_model(model, select or DEFAULT)
    own = model.state_dict(keep_vars=True)
    groups = [keys for keys in tied_keys(own) if own[keys[0]].is_floating_point()]
    held = [keys[0] for keys in groups if not first.keys().isdisjoint(keys)]
    if len(held) in (0, len(groups)):  # none of them: the error says which there are
        return ParameterSpec.from_model(model, "all")
    return replace(ParameterSpec.from_model(model, held), select="all that the checkpoints hold")


def _tensors(model: nn.Module) -> State:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _complete(state: State, model: nn.Module, spec: ParameterSpec, member: Member, notes: list[str]) -> State:
    """The first member in the order of the model's state dict, what it lacks taken from the model.

    Raises:
        CheckpointError: the file does not fit the model, or lacks selected tensors.
    """
    own = _tensors(model)
    strange = [name for name in state if name not in own]
    if strange:
        raise CheckpointError(
            f"{member} holds {len(strange)} tensors that the model does not have ({few(strange)})",
            expected=f"the model's names ({few(list(own))})", remedy=near(strange[0], own),
        )  # fmt: skip
    _check_like(state, own, member, "the model")
    whole = _with_tied(state, model)
    lost = [name for name in spec.names if name not in whole]
    if lost:
        raise CheckpointError(
            f"{member} lacks {len(lost)} selected tensors ({few(lost)})", expected="all that are selected",
            remedy="select tensors that the checkpoints hold",
        )  # fmt: skip
    missing = [name for name in own if name not in whole]
    if missing:
        lacks = f"{member.name} lacks {len(missing)} tensors ({few(missing)})"
        notes.append(f"{lacks}; they are taken from the model")
    return {name: whole[name] if name in whole else own[name].cpu() for name in own}


def _with_tied(state: State, model: nn.Module) -> State:
    """Every one of the model's tied tensors if the state has one of them: safetensors keep only one."""
    whole = dict(state)
    for keys in tied_keys(model.state_dict(keep_vars=True)):
        held = [key for key in keys if key in state]
        for key in keys:
            if held and key not in state:
                whole[key] = state[held[0]]
    return whole


@dataclass
class _Members:
    """The selected tensors of the members.

    Attributes:
        vectors: [K, D], one row per member.
        spec: in dtypes that hold all of them exactly.
        outside: names of other tensors in which members differ.
        widened: dtypes of tensors that members hold in several, by name.
    """

    vectors: Float[Tensor, "K D"]
    spec: ParameterSpec
    outside: list[str]
    widened: dict[str, torch.dtype]

    def notes(self, first: Member) -> list[str]:
        """Notes for users on dtypes and the frozen rest."""
        found = []
        if self.widened:
            name, dtype = next(iter(self.widened.items()))
            found.append(
                f"{len(self.widened)} tensors are held in several types, such as {name}; the zoo keeps them in the "
                f"widest ({str(dtype).removeprefix('torch.')})"
            )
        if self.outside:
            found.append(
                f"the checkpoints differ outside the selection in {few(self.outside)}; "
                f"the frozen rest is taken from {first.name}"
            )
        return found


def _read_members(
    members: Sequence[Member], first: State, spec: ParameterSpec, base: State, stop: bool = False
) -> _Members:
    """Read every member.

    Args:
        members: where they lie.
        first: the state dict of the first, already read.
        spec: which tensors are kept.
        base: the complete state dict, with which names, shapes and frozen tensors are compared.
        stop: at the first member that differs outside the selection; then rows are missing.
    """
    k = len(members)
    require_memory(
        f"{k:,} checkpoints of {spec.dim:,} parameters", k * spec.dim * spec.dtype.itemsize, ZooError,
        "take fewer checkpoints, or select fewer tensors",
    )  # fmt: skip
    read = _Members(torch.empty(k, spec.dim, dtype=spec.dtype), spec, [], {})
    generated = set(spec.keys)
    frozen = [name for name in base if name not in generated]
    different: set[str] = set()
    for i, member in enumerate(bar(members, "reading checkpoints", unit="network")):
        state = member.read(base) if i else first
        _check_like(state, base, member, str(members[0]))
        _keep(read, i, state, member)
        _check_values(read.vectors[i], read.spec, state, frozen, member)
        held = [name for name in frozen if name in state and name not in different]
        different |= set(differing(state, base, held))
        if stop and different:
            break
    read.outside = [name for name in frozen if name in different]
    return read


def _keep(read: _Members, row: int, state: State, member: Member) -> None:
    """One member's selected tensors as a row of the matrix, in wider dtypes from here on if it needs them."""
    wider = read.spec.wider(state)
    if wider:
        read.widened |= wider
        read.spec = read.spec.holding(wider)
        read.vectors = read.vectors.to(read.spec.dtype)
    read.vectors[row] = read.spec.flatten(state, str(member))


def _check_like(state: State, other: State, member: Member, where: str) -> None:
    """Raise unless every tensor of a member is also in ``other``, in the same shape."""
    for name, tensor in state.items():
        if name not in other:
            raise CheckpointError(f"{member} holds {name}, which {where} does not have",
                                  expected="checkpoints of one network", remedy=SORT_THEM)  # fmt: skip
        if tensor.shape != other[name].shape:
            raise CheckpointError(f"{member} holds {name} of shape {list(tensor.shape)}",
                                  expected=f"{list(other[name].shape)} as in {where}",
                                  remedy=SORT_THEM)  # fmt: skip


def _check_values(
    v: Float[Tensor, "D"], spec: ParameterSpec, state: State, frozen: Iterable[str], member: Member
) -> None:
    """Raise for NaN and Inf in what is selected, and for variances below zero anywhere."""
    if not bool(v.isfinite().all()):
        bad = [name for name, part in spec.slices.items() if not bool(v[part].isfinite().all())]
        raise CheckpointError(f"{member} holds NaN or Inf in {few(bad)}", expected="finite numbers",
                              remedy="remove that checkpoint")  # fmt: skip
    variances = {one.name: v[spec.slices[one.name]] for one in spec.tensors if one.positive}
    for name in frozen:
        if must_be_positive(name) and name in state:
            variances[name] = state[name]
    bad = [name for name, variance in variances.items() if not bool((variance >= 0).all())]
    if bad:
        raise CheckpointError(f"{member} holds a variance below 0, or NaN, in {few(bad)}", expected="0 or more",
                              remedy="remove that checkpoint")  # fmt: skip


def _source(paths: Paths) -> str:
    return str(paths) if isinstance(paths, str | Path) else f"{len(paths)} files, the first {paths[0]}"
