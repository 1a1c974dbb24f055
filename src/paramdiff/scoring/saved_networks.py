"""Scores of an imported zoo's members as complete networks, each with the frozen rest of its own file.

Files are read one at a time, and as many networks are in memory at once as fit into :data:`NETWORKS_AT_ONCE`, at least
one. They share nothing, so a network costs a full pass over the data.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import bar
from paramdiff.scoring.scorer import Scorer
from paramdiff.scoring.scores import Scores, concatenated
from paramdiff.seeds import seeded
from paramdiff.subsampling import NETWORKS_AT_ONCE, pieces_within
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
    with seeded("scorer"):  # the task's initialisation must not move anybody's random stream
        spec = ParameterSpec.from_model(scorer.task.model(), "all")
    whole = (_completed(state, zoo.base, spec) for state in states(zoo))
    found: list[tuple[Scores, Scores]] = []
    own, rest = scorer, None
    for fixed, vectors in _blocks(whole, spec, zoo.k):
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
    """Networks as vectors, some at a time, with what no vector holds, such as integers; in that they agree."""
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
