"""Scores of an imported zoo's members as complete networks, each with the frozen rest of its own file.

Files are read one at a time, and as many networks are in memory at once as fit into :data:`NETWORKS_AT_ONCE`, at least
one. They share nothing, so a network costs a full pass over the data.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from paramdiff.devices import NETWORKS_AT_ONCE, pieces_within
from paramdiff.errors import TaskError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import bar
from paramdiff.scoring.scorer import Scorer
from paramdiff.scoring.scores import Scores, concatenated
from paramdiff.seeds import seeded
from paramdiff.tasks.task import Task
from paramdiff.zoo.saved_networks import states
from paramdiff.zoo.state_dicts import differing
from paramdiff.zoo.zoo import Zoo

State = Mapping[str, Tensor]


def score_members(scorer: Scorer, zoo: Zoo) -> tuple[Scores, Scores]:
    """Scores on training and test data, in the order of the members; without ensembles.

    Args:
        scorer: of the zoo; its data and settings are used.
        zoo: imported, with records that say where its members lie.

    Raises:
        CheckpointError: a file is no longer there, or no longer what was imported.
    """
    spec = _whole_spec(scorer.task)
    return _scored(scorer, (_completed(state, zoo.base, spec) for state in states(zoo)), spec, zoo.k)


def score_state_dicts(scorer: Scorer, networks: Sequence[State]) -> tuple[Scores, Scores]:
    """Scores of complete networks on training and test data, in their order; without ensembles.

    Args:
        scorer: of any zoo of the task's network.
        networks: state dicts as the plain model has them.

    Raises:
        TaskError: there is none, or one is not of the task's network; says which and where it differs.
    """
    spec, own = _whole_spec(scorer.task), scorer.task.model().state_dict()
    if not networks:
        raise TaskError("there are no networks to score", expected="at least one state dict")
    for index, state in enumerate(networks):
        _require_network(state, own, index)
    return _scored(scorer, ({name: state[name] for name in own} for state in networks), spec, len(networks))


def _whole_spec(task: Task) -> ParameterSpec:
    with seeded("scorer"):  # the task's initialisation must not move anybody's random stream
        return ParameterSpec.from_model(task.model(), "all")


def _require_network(state: State, own: State, index: int) -> None:
    for name in sorted(own.keys() ^ state.keys()):
        held = "has" if name in state else "lacks"
        raise TaskError(f"state dict {index} {held} {name}", expected="the tensors of the task's network")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise TaskError(f"{name} of state dict {index} has the shape {list(state[name].shape)}",
                            expected=f"{list(tensor.shape)} as in the task's network")  # fmt: skip


def _scored(scorer: Scorer, whole: Iterator[State], spec: ParameterSpec, count: int) -> tuple[Scores, Scores]:
    found: list[tuple[Scores, Scores]] = []
    own, rest = scorer, None
    for fixed, vectors in _blocks(whole, spec, count):
        if rest is None or _differ(fixed, rest):
            own, rest = scorer.like(Zoo(vectors[:1], spec, {**fixed, **spec.unflatten(vectors[0])})), fixed
        found.append((own.score(vectors, "train"), own.score(vectors, "test")))
    train, test = zip(*found, strict=True)
    return concatenated(train), concatenated(test)


def _completed(state: State, base: State, spec: ParameterSpec) -> dict[str, Tensor]:
    """A file's tensors, those it lacks from the zoo; of tied ones, one in the file is enough."""
    tied = [(one.name, *one.aliases) for one in spec.tensors if one.aliases]
    same = {key: state[held[0]] for keys in tied if (held := [k for k in keys if k in state]) for key in keys}
    whole = {**base, **same, **state}
    return {name: whole[name] for name in base}


def _blocks(
    whole: Iterator[State], spec: ParameterSpec, k: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Networks as vectors, some at a time, with what vectors cannot hold, such as integers, in which the networks of
    a block agree."""
    generated, most = set(spec.keys), pieces_within(NETWORKS_AT_ONCE, spec.dim)
    rows: list[Tensor] = []
    fixed: dict[str, Tensor] = {}
    for state in bar(whole, "checkpoints as saved", total=k, unit="network"):
        own = {name: tensor for name, tensor in state.items() if name not in generated}
        if rows and (len(rows) == most or _differ(own, fixed)):
            yield fixed, torch.stack(rows)
            rows = []
        fixed = own
        rows.append(spec.flatten(state))
    yield fixed, torch.stack(rows)


def _differ(one: State, other: State) -> bool:
    return bool(differing(one, other, one.keys() | other.keys()))
