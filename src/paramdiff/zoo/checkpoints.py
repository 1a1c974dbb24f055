"""Anybody's checkpoints on disk -> a zoo: K files of one network become ``V [K, D]`` and a frozen rest.

Files are read one at a time and only the selected tensors are kept, so memory is ``K x D`` plus one
state dict. One file may also hold all members, stacked along a first axis that the network's tensors do not
have (:mod:`paramdiff.zoo.stacked_files`). The frozen rest comes from the first file. Where the files differ outside
the default selection, everything is selected; where they differ outside a selection that somebody named, the zoo says
so in ``about``, because its members then are not quite the networks they came from
(:mod:`paramdiff.zoo.saved_networks`).
"""

import glob
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.errors import CheckpointError, ParamdiffWarning, ZooError, near
from paramdiff.files import read_json
from paramdiff.memory import require_memory
from paramdiff.networks.tied_weights import tied_keys
from paramdiff.parameters.spec import ParameterSpec, must_be_positive
from paramdiff.progress import bar
from paramdiff.regular_files import why_not
from paramdiff.zoo.file_groups import MixedCheckpointsError, choose, group_files
from paramdiff.zoo.records import is_trajectory, make_records, natural
from paramdiff.zoo.saved_networks import OUTSIDE, located, signed
from paramdiff.zoo.stacked_files import Member, few, find_members
from paramdiff.zoo.state_dicts import INDEX, SUFFIXES, looks_like_one, shards
from paramdiff.zoo.zoo import FOLDER, Record, Zoo, differing

Paths = str | Path | Sequence[str | Path]
Select = str | Sequence[str]
State = dict[str, Tensor]
Parts = tuple[Float[Tensor, "K D"], ParameterSpec, State, list[Record], dict[str, Any]]

HELD = "held"
"""The selection of all tensors that the checkpoints hold, be they the whole network or a part of it."""

TRAINERS_OWN = ("optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args")
"""Files that trainers keep beside a network under the same suffixes; passed over when searching."""

DEFAULT = "last_norms:2"
"""What is selected of a model where nobody says what, unless checkpoints differ in more."""

SORT_THEM = "keep the checkpoints of each network in a folder of their own"


def open_zoo(
    path: str | Path, model: nn.Module | None = None, select: Select | None = None, group: int | None = None,
    otherwise: Select | None = None,
) -> Zoo:  # fmt: skip
    """A zoo from whatever ``path`` is: a saved zoo, a run folder that has one, or checkpoints.

    Args:
        path: of what is there.
        model: the network, for checkpoints.
        select: which tensors are generated; a saved zoo has a selection of its own.
        group: which of several kinds of checkpoints.
        otherwise: the selection from checkpoints if ``select`` is not given; see :func:`read_checkpoints`.

    Raises:
        CheckpointError: nothing there can be read (see :func:`read_checkpoints`), or a saved zoo is damaged.
        ZooError: a saved zoo holds another selection than ``select``.
    """
    path = Path(path).expanduser()
    folder = next((place for place in (path, path / "zoo") if _is_zoo(place)), None)
    if folder is None:
        return Zoo.from_checkpoints(path, model, otherwise if select is None else select, group)
    zoo = Zoo.load(folder)
    Zoo.verify(folder)
    wanted = select if select is None or isinstance(select, str) else ",".join(select)
    if wanted not in (None, zoo.spec.select):
        raise ZooError(
            f"{folder} is a saved zoo of the selection {zoo.spec.select!r}", expected=f"{wanted!r}",
            remedy="leave select out, or import the checkpoints it was made from",
        )  # fmt: skip
    return zoo


def _is_zoo(folder: Path) -> bool:
    """Whether it is a saved zoo, be it one whose manifest is gone or damaged: loading it says what to do."""
    if all((folder / part).is_file() for part in FOLDER.parts):
        return True
    with suppress(CheckpointError):
        manifest = folder / FOLDER.marker
        facts = read_json(manifest) if manifest.is_file() else None
        return isinstance(facts, dict) and "spec" in facts
    return any((folder / part).is_file() for part in FOLDER.parts)


def read_checkpoints(
    paths: Paths, model: nn.Module | None = None, select: Select | None = None, group: int | None = None
) -> Parts:
    """What :class:`Zoo` is made of, from state dicts on disk.

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
    files = find_checkpoints(paths)
    own = None if model is None else _tensors(model)
    notes: list[str] = []
    if group is not None:
        groups = group_files(files, own)
        files = choose(groups, group).files
        if len(groups) > 1:
            notes.append(f"taken is group {group} of {len(groups)}: {choose(groups, group)}")
    try:
        vectors, spec, base, records, outside = _read_files(files, model, own, select, notes)
    except CheckpointError as error:
        groups = group_files(files, own) if group is None and len(files) > 1 else []
        raise error if len(groups) < 2 else MixedCheckpointsError(error, groups) from None
    about = {"way": "import", "trajectory": is_trajectory(records), "source": _source(paths), "notes": notes}
    if outside:
        about[OUTSIDE] = outside
    return vectors, spec, base, records, about


def _read_files(
    files: list[Path], model: nn.Module | None, own: State | None, select: Select | None, notes: list[str]
) -> tuple[Float[Tensor, "K D"], ParameterSpec, State, list[Record], list[str]]:
    members = find_members(files, own)
    stacked = len(members) > len(files)
    records = [Record(source=m.name) for m in members] if stacked else make_records(files)
    first = members[0].read(own)
    if model is not None:
        spec = _spec_of(model, first, DEFAULT if select is None else select)
        whole = _complete(first, model, spec, members[0], notes)
    else:
        whole, spec = first, ParameterSpec.from_state_dict(first, "all" if select in (None, HELD) else select)
    base = {name: tensor.clone() for name, tensor in whole.items()}  # no longer tied to the file
    vectors, spec, outside = _read_vectors(
        members, first, spec, base, notes, stop=model is not None and select is None
    )
    if model is not None and select is None and outside:
        notes.append(
            f"the checkpoints differ outside {DEFAULT} (in {few(outside)}), so all tensors are generated; "
            f"select={DEFAULT} would give every member the frozen rest of {members[0].name}"
        )
        warnings.warn(notes[-1], ParamdiffWarning, stacklevel=3)
        spec = ParameterSpec.from_model(model, "all")
        vectors, spec, outside = _read_vectors(members, first, spec, base, notes)
    records = [located(member, record) for member, record in zip(members, records, strict=True)]
    return vectors, spec, base, signed(records) if outside else records, outside


def _spec_of(model: nn.Module, first: State, select: Select) -> ParameterSpec:
    if select != HELD:
        return ParameterSpec.from_model(model, select)
    own = model.state_dict(keep_vars=True)
    groups = [keys for keys in tied_keys(own) if own[keys[0]].is_floating_point()]
    held = [keys[0] for keys in groups if not first.keys().isdisjoint(keys)]
    if len(held) in (0, len(groups)):  # none of them: the error says which there are
        return ParameterSpec.from_model(model, "all")
    return replace(ParameterSpec.from_model(model, held), select="all that the checkpoints hold")


def find_checkpoints(paths: Paths) -> list[Path]:
    """The files that ``paths`` means; never empty.

    Raises:
        CheckpointError: a path does not exist, a folder or glob holds no checkpoint.
    """
    if not isinstance(paths, str | Path):
        if not paths:
            raise CheckpointError("an empty list of checkpoints", expected="at least one file")
        return [file for path in paths for file in find_checkpoints(path)]
    path = Path(paths).expanduser()
    reason = why_not(path)
    if not reason:
        return [path]
    if path.is_dir():
        if _is_zoo(path):
            raise CheckpointError(f"{path} is a saved zoo, not a folder of checkpoints",
                                  remedy="read it with Zoo.load")  # fmt: skip
        return _search(path, f"{path} holds no checkpoint")
    if not glob.has_magic(str(path)):
        raise CheckpointError(f"{path} {reason}", expected="a checkpoint file or a folder of them")
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    return _sorted(matches) or _nothing(f"no checkpoint matches {path}")


def _search(folder: Path, came: str) -> list[Path]:
    below = (file for file in folder.rglob("*") if not _hidden(file.relative_to(folder)))
    return _sorted(folder.iterdir()) or _sorted(below) or _nothing(came)


def _nothing(came: str) -> list[Path]:
    raise CheckpointError(came, expected=f"files that end in {', '.join(SUFFIXES)}")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """Visible checkpoint files among ``paths``, in natural order; an index stands for the files that it names."""
    found = [path for path in paths if looks_like_one(path) and _is_network(path)]
    parts = {path.with_name(part) for path in found if path.name.endswith(INDEX) for part in shards(path)}
    return sorted((path for path in found if path not in parts), key=natural)


def _is_network(path: Path) -> bool:
    trainers_own = path.stem.rstrip("_0123456789") in TRAINERS_OWN
    return not path.name.startswith(".") and not trainers_own


def _tensors(model: nn.Module) -> State:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _complete(state: State, model: nn.Module, spec: ParameterSpec, file: Member, notes: list[str]) -> State:
    """The first member in the order of the model's state dict, what it lacks taken from the model.

    Raises:
        CheckpointError: the file does not fit the model, or lacks selected tensors.
    """
    own = _tensors(model)
    strange = [name for name in state if name not in own]
    if strange:
        raise CheckpointError(
            f"{file} holds {len(strange)} tensors that the model does not have ({few(strange)})",
            expected=f"the model's names ({few(list(own))})", remedy=near(strange[0], own),
        )  # fmt: skip
    _check_like(state, own, file, "the model")
    whole = dict(state)
    for keys in tied_keys(model.state_dict(keep_vars=True)):  # of tied tensors, safetensors keep one
        held = [state[key] for key in keys if key in state]
        whole |= {key: held[0] for key in keys if held and key not in state}
    lost = [name for name in spec.names if name not in whole]
    if lost:
        raise CheckpointError(
            f"{file} lacks {len(lost)} selected tensors ({few(lost)})", expected="all that are selected",
            remedy="select tensors that the checkpoints hold",
        )  # fmt: skip
    missing = [name for name in own if name not in whole]
    if missing:
        notes.append(
            f"{file.name} lacks {len(missing)} tensors ({few(missing)}); they are taken from the model"
        )
    return {name: whole.get(name, own[name].cpu()) for name in own}


def _read_vectors(
    members: Sequence[Member],
    first: State,
    spec: ParameterSpec,
    base: State,
    notes: list[str],
    stop: bool = False,
) -> tuple[Float[Tensor, "K D"], ParameterSpec, list[str]]:
    """The selected tensors of every member, one row each; the spec in dtypes that hold all of them exactly; and
    names of other tensors in which members differ.

    Appends a note if dtypes or the rest differ.

    Args:
        stop: at the first member that differs; then rows are missing.
    """
    k = len(members)
    require_memory(
        f"{k:,} checkpoints of {spec.dim:,} parameters", k * spec.dim * spec.dtype.itemsize, ZooError,
        "take fewer checkpoints, or select fewer tensors",
    )  # fmt: skip
    vectors = torch.empty(len(members), spec.dim, dtype=spec.dtype)
    generated = set(spec.keys)
    frozen = [name for name in base if name not in generated]
    different: set[str] = set()
    widened: dict[str, torch.dtype] = {}
    for i, member in enumerate(bar(members, "reading checkpoints", unit="network")):
        state = member.read(base) if i else first
        _check_like(state, base, member, str(members[0]))
        wider = spec.wider(state)
        widened |= wider
        spec = spec.holding(wider) if wider else spec
        vectors = vectors.to(spec.dtype)
        vectors[i] = spec.flatten(state, str(member))
        _check_values(vectors[i], spec, state, frozen, member)
        held = [name for name in frozen if name in state and name not in different]
        different |= set(differing(state, base, held))
        if stop and different:
            break
    if widened:
        name, dtype = next(iter(widened.items()))
        notes.append(
            f"{len(widened)} tensors are held in several types, such as {name}; the zoo keeps them in the widest "
            f"({str(dtype).removeprefix('torch.')})"
        )
    outside = [name for name in frozen if name in different]
    if outside and not stop:
        notes.append(
            f"the checkpoints differ outside the selection in {few(outside)}; "
            f"the frozen rest is taken from {members[0].name}"
        )
    return vectors, spec, outside


def _check_like(state: State, other: State, file: Member, where: str) -> None:
    """Raise unless every tensor of ``file`` is also in ``other``, in the same shape."""
    for name, tensor in state.items():
        if name not in other:
            raise CheckpointError(f"{file} holds {name}, which {where} does not have",
                                  expected="checkpoints of one network", remedy=SORT_THEM)  # fmt: skip
        if tensor.shape != other[name].shape:
            raise CheckpointError(f"{file} holds {name} of shape {list(tensor.shape)}",
                                  expected=f"{list(other[name].shape)} as in {where}",
                                  remedy=SORT_THEM)  # fmt: skip


def _check_values(
    v: Float[Tensor, "D"], spec: ParameterSpec, state: State, frozen: Iterable[str], file: Member
) -> None:
    """Raise for NaN and Inf in what is selected, and for variances below zero anywhere."""
    if not bool(v.isfinite().all()):
        bad = [name for name, part in spec.slices.items() if not bool(v[part].isfinite().all())]
        raise CheckpointError(f"{file} holds NaN or Inf in {few(bad)}", expected="finite numbers",
                              remedy="remove that checkpoint")  # fmt: skip
    rest = {name: state[name] for name in frozen if must_be_positive(name) and name in state}
    variances = {one.name: v[spec.slices[one.name]] for one in spec.tensors if one.positive} | rest
    bad = [name for name, variance in variances.items() if not bool((variance >= 0).all())]
    if bad:
        raise CheckpointError(f"{file} holds a variance below 0, or NaN, in {few(bad)}", expected="0 or more",
                              remedy="remove that checkpoint")  # fmt: skip


def _source(paths: Paths) -> str:
    return str(paths) if isinstance(paths, str | Path) else f"{len(paths)} files, the first {paths[0]}"
