"""Recommendations from the numbers of an inspection: is a generator likely to work, and what should be changed."""

from collections.abc import Sequence

import torch

from paramdiff.errors import few
from paramdiff.zoo.diagnostics import Inspection, ScoreDiagnostics, TensorDiagnostics

FLAT_SPECTRUM = 0.5
"""Above this share of the K - 1 possible directions for 90% of the variance, every further checkpoint
would add a direction of its own. Independent members need 0.9; a random walk of 200 steps needs 0.06."""

NEARLY_LINE = 1.5
"""Participation ratio below which a trajectory is a line: a straight drift has 1, a random walk 4."""

ROUNDING = 8
"""Units of a dtype's rounding error; a tensor that varies by less, relative to its RMS, hardly varies."""

MANY_CONSTANT = 0.5
"""Above this share of constant coordinates most of what would be generated was never trained."""

MANY = 5
"""How many members or tensors a sentence lists."""


def recommend(facts: Inspection) -> list[str]:
    """Sentences, the most pressing first; a single one if nothing is wrong."""
    rules = (
        _size,
        _nonfinite,
        _near_chance,
        _variation,
        _duplicates,
        _near,
        _constant,
        _far,
        _basin,
        _spectrum,
        _scores,
    )
    wrong = [sentence for rule in rules for sentence in rule(facts)]
    notes = [f"{note[:1].upper()}{note[1:]}." for note in facts.notes]
    return (wrong or _nothing_wrong(facts)) + notes + _untested(facts)


def _size(facts: Inspection) -> list[str]:
    if facts.k < 2:
        return [f"K = {facts.k} checkpoint is too few: at least 2 are needed, the paper takes 200."]
    if facts.dim < 2:
        return [f"D = {facts.dim} parameter is too few: select more tensors."]
    return []


def _nonfinite(facts: Inspection) -> list[str]:
    if not facts.nonfinite:
        return []
    members, names = (list(dict.fromkeys(column)) for column in zip(*facts.nonfinite))
    return [f"NaN or Inf in {_members(members)} ({few(names, MANY)}): remove them, no generator takes them."]


def _near_chance(facts: Inspection) -> list[str]:
    said = facts.near_chance
    return [f"{said[:1].upper()}{said[1:]}."] if said else []


def _variation(facts: Inspection) -> list[str]:
    finite = facts.k - len({member for member, _ in facts.nonfinite})
    if finite < 2:
        return []
    if facts.spectrum is None:
        return ["All checkpoints are identical in the selected tensors: raise zoo.lr, or select tensors "
                "that were trained."]  # fmt: skip
    still = [tensor.name for tensor in facts.tensors if _is_still(tensor)]
    if len(still) == len(facts.tensors):
        return ["The checkpoints differ by little more than rounding errors, so every sample would be "
                "their average: raise zoo.lr."]  # fmt: skip
    if still:
        return [
            f"These hardly vary between checkpoints, leave them out of the selection: {few(still, MANY)}."
        ]
    return []


def _is_still(tensor: TensorDiagnostics) -> bool:
    return tensor.relative_std < ROUNDING * torch.finfo(getattr(torch, tensor.dtype)).eps


def _duplicates(facts: Inspection) -> list[str]:
    copies = len(facts.duplicates)
    if not copies or facts.spectrum is None:
        return []
    return [f"{copies} of {facts.k} checkpoints are exact copies of others ({_members(facts.duplicates)}): "
            f"the zoo is worth K = {facts.k - copies}; leave the copies out."]  # fmt: skip


def _near(facts: Inspection) -> list[str]:
    near, k = len(facts.near_duplicates), facts.k - len(facts.duplicates)
    if not near or facts.trajectory or facts.spectrum is None:
        return []
    return [f"{near} of {facts.k} checkpoints are nearly copies of others ({_members(facts.near_duplicates)}), as "
            f"steps of one training are: the zoo is worth about K = {k - near}, and what is new is measured against "
            "neighbours; keep fewer of each training."]  # fmt: skip


def _constant(facts: Inspection) -> list[str]:
    if facts.spectrum is None or facts.constant <= MANY_CONSTANT:
        return []
    return [f"{facts.constant:.0%} of the coordinates are the same in all checkpoints: select only tensors "
            "that were trained."]  # fmt: skip


def _far(facts: Inspection) -> list[str]:
    if facts.spectrum is None or not facts.spectrum.far_members:
        return []
    return [f"Far from all others, and dominating mean and scale: {_members(facts.spectrum.far_members)}; "
            "leave out what is not meant to be there."]  # fmt: skip


def _basin(facts: Inspection) -> list[str]:
    basin = facts.basin
    if basin is None or basin.one_basin:
        return []
    if basin.one_basin is None:
        return ["The members have no finite scores: check that the task fits the checkpoints."]
    remedy = "use" if facts.aligned else "align their units, or use"
    return [f"Midpoints of members score {_score(basin.midpoints)} where members score "
            f"{_score(basin.members)}: they lie in several basins{' even with aligned units' * bool(facts.aligned)}, "
            f"and what is mixed from them does not work; {remedy} checkpoints of one training."]  # fmt: skip


def _spectrum(facts: Inspection) -> list[str]:
    if facts.spectrum is None:
        return []
    possible, needed = len(facts.spectrum.fractions), facts.spectrum.components_90
    if needed > FLAT_SPECTRUM * possible:
        return [f"90% of the variation needs {needed} of {possible} possible directions, so K is too small "
                "to learn how the checkpoints vary, and samples stay near their average: collect more, or "
                "select fewer tensors."]  # fmt: skip
    if facts.trajectory and facts.spectrum.participation_ratio < NEARLY_LINE:
        return ["The checkpoints lie almost on a line, so samples would be points on the path of the "
                "training: collect after it has converged, or with more steps in between."]  # fmt: skip
    return []


def _scores(facts: Inspection) -> list[str]:
    return [_outlying(name, score) for name, score in facts.scores.items() if score.outliers]


def _outlying(name: str, score: ScoreDiagnostics) -> str:
    low, high = map(_score, score.usual)
    keep = f", e.g. zoo.keep('{low} <= {name} <= {high}')" if name.isidentifier() else ""
    return (
        f"Far from the median {name} of {_score(score.median)}: {_members(score.outliers)}; "
        f"leave failed trainings out{keep}."
    )


def _nothing_wrong(facts: Inspection) -> list[str]:
    assert facts.spectrum is not None  # else _size, _nonfinite or _variation had spoken
    varied = (
        f"the K = {facts.k} checkpoints vary in about {facts.spectrum.participation_ratio:.1f} directions"
    )
    if facts.basin:
        return [f"Likely to work: {varied} and lie in one basin."]
    return [f"Nothing speaks against it in the numbers alone: {varied}."]


def _untested(facts: Inspection) -> list[str]:
    if facts.basin or facts.spectrum is None:
        return []
    usual = ", though steps of one training usually do" if facts.trajectory else ""
    return ["Without data it cannot be told whether the checkpoints work, nor whether they lie in one basin, so that "
            f"what is mixed from them works{usual}: give the task they are for (task=NAME)."]  # fmt: skip


def _members(indices: Sequence[int]) -> str:
    return f"member{'s' * (len(indices) > 1)} {few([str(index) for index in indices], MANY)}"


def _score(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4g}"
