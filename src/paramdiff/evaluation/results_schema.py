"""The schema of ``results.json``: one type that writers fill and readers check.

As it is written, every key is there unless it is ``NotRequired``, and what does not exist (an interval of a metric that
is no mean over items, the similarity within one network) is None. Readers also take files of other versions and other
programs: :func:`paramdiff.validation.lenient` lets any key be missing or null that is not ``Required``.

The version before wrote ``gate`` for ``reconstruction_check`` and ``zoo.way`` for ``zoo.collector``;
:func:`with_present_names` takes such a file, too. No key that DESIGN.md promises was renamed, so the schema is still 1.

Scores are fractions or values of the task's first metric; distances are in normalised parameters; times in seconds.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, Required, TypedDict

from paramdiff.validation import Name

SCHEMA = 1
"""Version of the file."""

Number = float | None
Pair = Annotated[list[Number], lambda ends: len(ends) == 2, "two numbers"] | None
Count = Annotated[int, lambda n: 0 <= n <= 10**9, "a number of things"]


class Spread(TypedDict):
    """One score over networks."""

    best: Number
    mean: Number
    median: Number
    worst: Number
    std: Number


class Versus(TypedDict):
    """A paired difference to the originals."""

    difference: Number
    ci95: Pair


class Selected(TypedDict):
    """The network that is best on the training data."""

    index: Count
    train: Number
    test: Number
    test_ci95: Pair
    vs_original: Versus | None


class Similarity(TypedDict):
    """Means of error IoU."""

    within: Number
    to_zoo_mean: Number
    to_zoo_max_mean: Number


class Distance(TypedDict):
    """Medians over networks."""

    nearest: Number
    ratio: Number
    residual_to_span: Number
    nearest_ratio: Number
    pairwise_ratio: Number


class Cost(TypedDict):
    """Gradient steps per network (:mod:`paramdiff.evaluation.cost`); None where they are not known."""

    gradient_steps: Number
    with_zoo: Number


class Ensemble(TypedDict):
    """Means over the ensembles of ``m`` networks, and their deviation."""

    m: Required[Count]
    groups: Count
    accuracy: Number
    nll: Number
    ece: Number
    disagreement: Number
    std: dict[str, Number]
    vs_original: dict[str, Versus | None] | None


class Recalibration(TypedDict):
    """On how many items BatchNorm statistics were measured anew, and the test scores before."""

    items: Count
    before: Spread


class Model(TypedDict):
    """One row of the table."""

    name: Required[Name]
    label: str
    n: Count
    best_of: Count
    train: Spread
    test: Spread
    selected: Selected
    similarity: Similarity
    distance: Distance
    cost: NotRequired[Cost]
    ensembles: NotRequired[list[Ensemble]]
    recalibration: NotRequired[Recalibration]


class BilledPoint(TypedDict):
    """Networks of one start after some more steps; ``nll`` is that of the largest ensembles."""

    steps: Count
    gradient_steps: Number
    with_zoo: Number
    mean: Number
    worst: Number
    nll: Number


class BilledCurve(TypedDict):
    name: Required[str]
    kind: str
    points: Required[list[BilledPoint]]


class BillVersus(TypedDict):
    """The generator against networks of another start at the same bill, paired over the same test items."""

    against: str
    steps: Count
    with_zoo: bool
    mean: Number
    nll: Number
    score_difference: Versus
    nll_difference: Versus | None
    outcome: str


class Bill(TypedDict):
    """Scores against gradient steps per network (:mod:`paramdiff.evaluation.bill`)."""

    n: Count
    m: Count | None
    curves: Required[list[BilledCurve]]
    comparisons: list[BillVersus]
    worth: dict[str, bool | None]
    why: str


class TaskInfo(TypedDict):
    name: str
    metric: str
    higher_is_better: bool
    chance: Number


class ZooInfo(TypedDict):
    k: Count
    dim: Count
    select: str | list[str]
    seed: int | None
    collector: str | None
    trajectory: bool
    tensors: list[str]
    training: Any


class Finding(TypedDict, total=False):
    """What a generator noted while fitting: about reconstructions, or about the loss on held-out members."""

    passed: bool | None
    why: str | None
    gap: Number
    members: Number
    held_out: Number
    reconstructed: Number
    loss: Number
    tolerance: Number
    explained_variance: Number
    explained_variance_train: Number


VerdictInfo = TypedDict("VerdictInfo", {"class": str, "why": str, "shares": Any})
"""The verdict on the main generator: a class, a sentence, and the share of samples in each class."""


class Machine(TypedDict):
    cpu: str
    cores: int | None
    threads: int
    torch: str
    device: str


class Results(TypedDict):
    """``results.json``."""

    schema: Required[int]
    experiment: str
    generator: str
    command: str
    seed: int
    task: TaskInfo
    zoo: ZooInfo
    n_items: dict[str, Count | None]
    reference: str
    models: Required[list[Model]]
    verdict: VerdictInfo
    reconstruction_check: Finding | None
    denoising: Finding | None
    bill: NotRequired[Bill]
    notes: list[str]
    timings_s: dict[str, Number]
    peak_rss_bytes: Number
    machine: Machine


def with_present_names(found: Mapping[str, Any]) -> dict[str, Any]:
    """Parsed ``results.json`` of this version or the one before, with the keys of this one."""
    zoo = found.get("zoo")
    renamed = {"reconstruction_check" if key == "gate" else key: value for key, value in found.items()}
    if isinstance(zoo, dict):
        renamed["zoo"] = {"collector" if key == "way" else key: value for key, value in zoo.items()}
    return renamed
