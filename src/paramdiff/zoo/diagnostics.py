"""The numbers an inspection of a zoo gives: plain dataclasses, JSON-able by ``dataclasses.asdict``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TensorDiagnostics:
    """One generated tensor.

    Attributes:
        name, shape, dtype: as in the spec.
        relative_std: mean over its coordinates of the standard deviation between checkpoints, divided
            by the root mean square of its values; 0 if all values are 0.
    """

    name: str
    shape: list[int]
    dtype: str
    relative_std: float


@dataclass
class Spectrum:
    """Between-checkpoint variation, from the Gram matrix of the normalised finite members.

    Attributes:
        fractions: the K - 1 eigenvalues as shares of the variance, largest first.
        participation_ratio: in how many directions the members effectively vary.
        components_90, components_99: number of components that hold that share of the variance.
        far_members: indices of members that lie very much further from the mean than the median member.
        successive_cosine: mean cosine between the deviations of successive members from the mean, and
            ``other_cosine`` that of all other pairs; for a trajectory of 3 or more only.
    """

    fractions: list[float]
    participation_ratio: float
    components_90: int
    components_99: int
    far_members: list[int]
    successive_cosine: float | None = None
    other_cosine: float | None = None


@dataclass
class ScoreDiagnostics:
    """One recorded score over the members that have it.

    Attributes:
        known: number of members that have it.
        usual: bounds, outside of which a score is an outlier.
        outliers: indices of the members outside ``usual``.
    """

    known: int
    mean: float
    std: float
    median: float
    least: float
    most: float
    usual: list[float]
    outliers: list[int]


@dataclass
class Basin:
    """Scores of random pairs of members and of their midpoints; ``None`` stands for NaN or Inf.

    Attributes:
        pairs: the pairs, as member indices.
        member_scores, midpoint_scores: the mean score of each pair's two members, and its midpoint's.
        members, midpoints: their means.
        barrier: how much worse midpoints score than members; negative where they are better.
        tolerance: the largest barrier that counts as one basin.
        one_basin: whether midpoints score like members; ``None`` if members have no finite score.
    """

    pairs: list[list[int]]
    member_scores: list[float | None]
    midpoint_scores: list[float | None]
    members: float | None
    midpoints: float | None
    barrier: float | None
    tolerance: float | None
    one_basin: bool | None


@dataclass
class Inspection:
    """A zoo in numbers, and ``recommendations`` on what to change.

    Attributes:
        k, dim, select: K, D and the selection.
        trajectory: members are consecutive steps of one training.
        tensors: a line per generated tensor.
        duplicates: indices of members that equal an earlier one exactly.
        near_duplicates: indices of further members that lie very much nearer to an earlier one than members usually do.
        nonfinite: member and tensor wherever there is NaN or Inf; ``tensors``, ``duplicates``,
            ``constant``, ``spectrum`` and ``basin`` are about the other members.
        constant: share of coordinates that are the same in all members.
        spectrum: of the variation between checkpoints; ``None`` if there is none.
        scores: the recorded scores by name.
        basin: ``None`` if no midpoint was scored.
        notes: what was noted when the zoo was made.
        recommendations: plain sentences, the most pressing first.
        aligned: :class:`paramdiff.zoo.alignment.Alignment` as a dictionary, with the midpoints' scores before
            and after: of this zoo, or of an attempt on a copy of it; ``None`` if there was neither.
        near_chance: says that the members are hardly better than chance; empty if not, or not known.
        groups: of several kinds of files, each in words; empty if there is one.
        network: the task's, and whether it was named; empty without a task.
    """

    k: int
    dim: int
    select: str
    trajectory: bool
    tensors: list[TensorDiagnostics]
    duplicates: list[int]
    nonfinite: list[tuple[int, str]]
    constant: float
    spectrum: Spectrum | None
    scores: dict[str, ScoreDiagnostics]
    basin: Basin | None
    notes: list[str]
    recommendations: list[str] = field(default_factory=list)
    aligned: dict[str, Any] | None = None
    near_chance: str = ""
    near_duplicates: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    network: str = ""
