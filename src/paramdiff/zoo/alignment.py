r"""Independently trained members in one basin: their hidden units in a common order.

Trainings from different seeds agree only up to the order of hidden units, so a mixture of two members mixes
units that have nothing to do with each other. Three methods find a common order; each member computes the same
function before and after:

* ``weights``: units whose weights are alike (:mod:`paramdiff.zoo.weight_matching`). Needs no data.
* ``activations``: units that do the same on the same inputs (:mod:`paramdiff.zoo.activation_matching`).
* ``loss``: the order with the lowest training loss of the midpoint (:mod:`paramdiff.zoo.learnt_matching`).

Each member is matched to the sum (or mean) of those before it. Weight matching on networks for the digits (test
accuracy in %, means over three seeds of the order; 200 MLPs 64-50-25-10, 60 networks of two convolutions and two
linear layers without and with BatchNorm):

    reference            midpoint of two members    average of all members
    not aligned          65   55   58               10   10   10
    first member         91   89   90               91   75   71
    growing sum          92   89   93               90   79   89

Further rounds, in which each member is matched to the sum of all others, gain nothing. The methods are compared in
docs/decisions.md and by ``python -m benchmarks.alignment``.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paramdiff.devices import suitable_threads
from paramdiff.errors import ConfigError, check_choice
from paramdiff.networks.symmetry import Symmetries, find_symmetries
from paramdiff.networks.unit_activations import UnitActivations
from paramdiff.zoo.activation_matching import match_activations_in_turn
from paramdiff.zoo.diagnostics import Basin
from paramdiff.zoo.inspection import measure_basin
from paramdiff.zoo.learnt_matching import STEPS, MidpointFeedback, learn_in_turn
from paramdiff.zoo.weight_matching import Matcher, match_in_turn
from paramdiff.zoo.zoo import Zoo

METHODS = ("weights", "activations", "loss")

_BY = {"weights": "", "activations": " by their activations", "loss": " by the loss of midpoints"}


@dataclass(frozen=True)
class AlignmentData:
    """What the methods that need training data use of it.

    Attributes:
        batches: positional inputs of the network, for ``activations``.
        feedback: scores and gradients of raw vectors, for ``loss``.
        call: ``call(network, *inputs)`` runs the network, where that is not ``network(*inputs)``.
        device: where the inputs are.
        steps: gradient steps for each member, for ``loss``.
    """

    batches: Sequence[tuple[Any, ...]] = ()
    feedback: MidpointFeedback | None = None
    call: Callable[..., Any] | None = None
    device: torch.device | str = "cpu"
    steps: int = STEPS


@dataclass
class Alignment:
    """What was aligned, as kept in ``Zoo.about["aligned"]``.

    Attributes:
        groups: groups of hidden units that were put in a common order.
        of: groups that the network has; a group is left alone unless all of its tensors are generated.
        seed: of the order in which groups are visited.
        method: one of :data:`METHODS`.
        before, after: scores of members and midpoints of pairs; ``None`` if nothing was scored.
    """

    groups: int
    of: int
    seed: int
    method: str = "weights"
    before: Basin | None = None
    after: Basin | None = None


def align(
    zoo: Zoo, symmetries: Symmetries, seed: int = 0, method: str = "weights", model: nn.Module | None = None,
    data: AlignmentData | None = None,
) -> tuple[Zoo, Alignment]:  # fmt: skip
    """The same members with their units in a common order, and what was done.

    Members that hold NaN or Inf stay as they are.

    Args:
        zoo: K members of D parameters.
        symmetries: of their network (:func:`paramdiff.networks.symmetry.find_symmetries`).
        seed: of the order in which groups are visited.
        method: one of :data:`METHODS`.
        model: the network, for ``activations``.
        data: for ``activations`` and ``loss``.

    Raises:
        ConfigError: an unknown method, or what it needs is missing.
        ZooError: activations cannot be read from this network.
    """
    check_choice("align", method, METHODS)
    within = symmetries.within(zoo.spec.names)
    broken = {row for row, _ in zoo.nonfinite()}
    rows = [row for row in range(zoo.k) if row not in broken]
    vectors, matcher = zoo.vectors.clone(), Matcher(zoo.spec, within.groups)
    if method == "activations":
        read = _activations(model, within, data)
        match_activations_in_turn(vectors, rows, matcher, zoo, read)
    elif method == "loss":
        learn_in_turn(vectors, rows, matcher, *_feedback(data), seed)
    else:
        match_in_turn(vectors, rows, matcher, seed)
    facts = Alignment(len(within.groups), len(symmetries.groups), seed, method)
    return Zoo(vectors, zoo.spec, zoo.base, zoo.records, zoo.about | {"aligned": asdict(facts)}), facts


def _activations(model: nn.Module | None, within: Symmetries, data: AlignmentData | None) -> UnitActivations:
    if model is None or data is None or not data.batches:
        missing = "the network" if model is None else "training inputs"
        raise _missing("activations", missing, "inputs on which activations can be compared")
    return UnitActivations(model, within.groups, data.batches, data.call, data.device)


def _feedback(data: AlignmentData | None) -> tuple[MidpointFeedback, int]:
    if data is None or data.feedback is None:
        raise _missing("loss", "a task", "the training loss, which a task gives, and its gradients")
    return data.feedback, data.steps


def _missing(method: str, missing: str, expected: str) -> ConfigError:
    return ConfigError("align", f"{method} was asked for without {missing}", expected=expected,
                       remedy="give them, or use align=weights, which needs no data")  # fmt: skip


def align_zoo(
    zoo: Zoo, model: nn.Module, auto: bool = True, score: Callable[[Tensor], Tensor] | None = None,
    higher_is_better: bool = True, seed: int = 0, method: str = "weights", data: AlignmentData | None = None,
) -> Zoo:  # fmt: skip
    """The zoo with its units in a common order where that can be done and helps; else as it was.

    ``about["notes"]`` says what was done or why not. With a score, members must score as before (else the
    network has operations that its graph does not show) and the barrier is kept for the report.

    Args:
        zoo: K members of D parameters.
        model: the network they belong to.
        auto: leave alone what needs no alignment (one trajectory, members in one basin), and what gets no
            better by it.
        score: scores raw vectors ``[n, D] -> [n]``.
        higher_is_better: direction of the score.
        seed: of the order in which groups are visited, and of the pairs that are scored.
        method: one of :data:`METHODS`.
        data: for ``activations`` and ``loss``.

    Raises:
        ConfigError: an unknown method, or what it needs is missing.
        ZooError: activations cannot be read from this network.
    """
    if auto and zoo.trajectory:
        return zoo
    symmetries = find_symmetries(model)
    if isinstance(symmetries, str):
        return _noted(zoo, f"hidden units were not aligned: {symmetries}")
    if not symmetries.within(zoo.spec.names).groups:
        return _noted(zoo, f"hidden units were not aligned: the selection {zoo.spec.select!r} holds none of "
                      f"the {len(symmetries.groups)} groups of them with all of its tensors")  # fmt: skip
    basin = lambda zoo: score and measure_basin(zoo, score, seed=seed, higher_is_better=higher_is_better)
    before = basin(zoo)
    if auto and before and before.one_basin:
        return zoo
    with suitable_threads(zoo.dim):
        aligned, facts = align(zoo, symmetries, seed, method, model, data)
    facts.before, facts.after = before, basin(aligned)
    objection = _objection(facts, auto)
    if objection:
        return _noted(zoo, f"hidden units were not aligned: {objection}")
    aligned.about["aligned"] = asdict(facts)
    return _noted(aligned, f"{facts.groups} of {facts.of} groups of hidden units were put in a common order"
                  + _BY[method] + _midpoints(facts))  # fmt: skip


def _objection(facts: Alignment, auto: bool) -> str | None:
    """Why an alignment should not be used, judged by the scores before and after; empty if it should."""
    before, after = facts.before, facts.after
    if before is None or after is None or before.tolerance is None:
        return None
    pairs = zip(before.member_scores, after.member_scores)
    if any(a is not None and (b is None or abs(a - b) > before.tolerance) for a, b in pairs):
        return "members score differently when they are reordered, so the traced graph does not tell all"
    worse = before.barrier is not None and (after.barrier is None or after.barrier >= before.barrier)
    return f"it does not help{_midpoints(facts)}" if auto and worse else None


def _midpoints(facts: Alignment) -> str:
    if facts.before is None or facts.after is None:
        return ""
    before, after = (
        "NaN" if basin.midpoints is None else f"{basin.midpoints:.4g}"
        for basin in (facts.before, facts.after)
    )
    return f" (midpoints of members score {before} before, {after} after)"


def _noted(zoo: Zoo, note: str) -> Zoo:
    about = zoo.about | {"notes": [*zoo.about.get("notes", ()), note]}
    return Zoo(zoo.vectors, zoo.spec, zoo.base, zoo.records, about)
