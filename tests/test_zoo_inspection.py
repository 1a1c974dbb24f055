"""Numbers about a zoo against oracles, and the advice that follows from them."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo import inspection
from paramdiff.zoo.diagnostics import Basin, Inspection, ScoreDiagnostics, Spectrum, TensorDiagnostics
from paramdiff.zoo.inspection import inspect
from paramdiff.zoo.recommendations import recommend
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo


def make_zoo(vectors: Tensor, trajectory: bool = False, scores: list[float] | None = None, **about) -> Zoo:
    half = vectors.shape[1] // 2
    state = {"a": vectors[0, :half].clone(), "b": vectors[0, half:].clone()}
    spec = ParameterSpec.from_state_dict(state, "all")
    records = None if scores is None else [Record(scores={"test": score}) for score in scores]
    return Zoo(vectors, spec, state, records, {"trajectory": trajectory, **about})


def random(k: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(k, dim, generator=torch.Generator().manual_seed(seed))


def basins(k: int) -> Tensor:
    """Two clusters of members, around +3 and -3 in every coordinate."""
    return 3 * torch.tensor([1.0, -1.0]).repeat(k // 2)[:, None] + 0.1 * random(k, 20)


def likeness(vectors: Tensor) -> Tensor:
    """1 at the centres of both basins, less elsewhere."""
    return 1 - (vectors.abs() - 3).square().mean(1) / 9


# --- numbers ---------------------------------------------------------------------------------------


def test_spectrum_is_that_of_the_standardised_matrix():
    v = random(12, 40) * torch.logspace(-3, 3, 40) + 5 * random(1, 40)
    shares = torch.linalg.svdvals(((v - v.mean(0)) / v.std(0, correction=0)).double())[:11] ** 2
    shares = shares / shares.sum()
    spectrum = inspect(make_zoo(v)).spectrum
    assert spectrum.fractions == pytest.approx(shares.tolist(), abs=1e-5)
    assert spectrum.components_90 == int((shares.cumsum(0) < 0.9).sum()) + 1
    assert spectrum.components_99 == int((shares.cumsum(0) < 0.99).sum()) + 1
    assert spectrum.participation_ratio == pytest.approx(float(1 / (shares**2).sum()), rel=1e-4)


def test_one_direction_and_all_directions():
    line = torch.linspace(-1, 1, 7)[:, None] * random(1, 30)
    assert inspect(make_zoo(line)).spectrum.participation_ratio == pytest.approx(1)
    assert inspect(make_zoo(line)).spectrum.components_99 == 1
    free = inspect(make_zoo(random(7, 20_000))).spectrum
    assert free.participation_ratio == pytest.approx(6, rel=0.01) and len(free.fractions) == 6


def test_blocks_do_not_change_the_numbers(monkeypatch):
    zoo = make_zoo(random(5, 31), trajectory=True)
    whole = inspect(zoo)
    monkeypatch.setattr(inspection, "IN_CACHE", 10)
    blocks = inspect(zoo)
    assert blocks.spectrum.fractions == pytest.approx(whole.spectrum.fractions, abs=1e-6)
    assert [t.relative_std for t in blocks.tensors] == pytest.approx([t.relative_std for t in whole.tensors])


def test_tensors_vary_relative_to_their_own_size():
    v = random(50, 200)
    v[:, 100:] = 1 + 1e-3 * v[:, 100:]
    facts = inspect(make_zoo(v))
    assert [(t.name, t.shape, t.dtype) for t in facts.tensors] == [
        ("a", [100], "float32"),
        ("b", [100], "float32"),
    ]
    assert facts.tensors[0].relative_std == pytest.approx(1, rel=0.05)
    assert facts.tensors[1].relative_std == pytest.approx(1e-3, rel=0.05)


def test_positive_coordinates_are_compared_as_logarithms():
    state = {"bn.running_var": torch.rand(8) + 0.5}
    spec = ParameterSpec.from_state_dict(state)
    v = (torch.linspace(-2, 2, 9)[:, None] * torch.linspace(-1, 2, 8)).exp()  # a line as logarithms
    assert inspect(Zoo(v, spec, state)).spectrum.fractions[0] == pytest.approx(1)


def test_duplicates_constants_and_far_members():
    v = random(10, 20)
    v[7], v[9] = v[2], v[2]
    v[:, :5] = 1.0
    v[4, 5:] = 1000.0
    facts = inspect(make_zoo(v))
    assert facts.duplicates == [7, 9] and facts.constant == 0.25
    assert facts.spectrum.far_members == [4]


def test_neighbours_of_a_trajectory_are_alike():
    walk = random(60, 300).cumsum(0)
    spectrum = inspect(make_zoo(walk, trajectory=True)).spectrum
    x = (walk - walk.mean(0)) / walk.std(0, correction=0)
    cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)
    assert spectrum.successive_cosine == pytest.approx(float(cosines.diagonal(1).mean()), abs=1e-5)
    others = [float(cosines[i, j]) for i in range(60) for j in range(i + 2, 60)]
    assert spectrum.other_cosine == pytest.approx(sum(others) / len(others), abs=1e-5)
    assert inspect(make_zoo(walk)).spectrum.successive_cosine is None


def test_scores_are_summarised_and_outliers_found():
    scores = [0.9, 0.91, 0.92, 0.93, 0.94, 0.1, float("nan")]
    facts = inspect(make_zoo(random(7, 10), scores=scores)).scores["test"]
    assert (facts.known, facts.least, facts.most, facts.outliers) == (6, 0.1, 0.94, [5])
    assert facts.median == pytest.approx(0.915) and facts.mean == pytest.approx(sum(scores[:6]) / 6)
    alike = inspect(make_zoo(random(7, 10), scores=[0.9, 0.9, 0.9, 0.9, 0.9, 0.91, 0.92])).scores["test"]
    assert alike.outliers == []  # though their median deviation is 0


def test_midpoints_between_basins_score_worse():
    basin = inspect(make_zoo(basins(12)), likeness, pairs=20).basin
    for (i, j), members, midpoint in zip(basin.pairs, basin.member_scores, basin.midpoint_scores):
        across = (i - j) % 2 == 1
        assert members == pytest.approx(1, abs=0.01)
        assert (midpoint < 0.1) if across else (midpoint > 0.98)
    assert basin.barrier > 0.3 and basin.one_basin is False
    assert basin.tolerance == pytest.approx(0.02, rel=0.02)
    assert basin.barrier == pytest.approx(basin.members - basin.midpoints)


def test_within_one_basin_midpoints_score_like_members():
    facts = inspect(make_zoo(basins(12))[::2], likeness)
    assert facts.basin.one_basin is True and facts.basin.barrier <= 0


def test_lower_may_be_better():
    zoo, loss = make_zoo(basins(12)), lambda v: 1 - likeness(v)
    assert inspect(zoo, loss, higher_is_better=False).basin.one_basin is False
    assert inspect(zoo, loss, higher_is_better=False).basin.barrier > 0.3
    assert inspect(zoo[::2], loss, higher_is_better=False).basin.barrier <= 0


def test_scores_around_zero_are_judged_by_their_spread():
    v = torch.linspace(-1, 1, 8)[:, None] * torch.ones(10)
    assert inspect(make_zoo(v), lambda v: v.mean(1), pairs=28).basin.one_basin is True


def test_midpoints_without_a_score():
    def nothing(v: Tensor) -> Tensor:
        return torch.full((len(v),), float("nan"))

    basin = inspect(make_zoo(basins(4)), nothing).basin
    assert basin.one_basin is None and basin.barrier is None and basin.member_scores[0] is None

    def only_members(v: Tensor) -> Tensor:
        return torch.where(v.abs().mean(1) > 2, 0.9, float("nan"))

    basin = inspect(make_zoo(basins(12)), only_members).basin
    assert basin.one_basin is False and basin.members == pytest.approx(0.9) and basin.midpoints is None


@given(st.lists(st.integers(0, 99), unique=True, max_size=9), st.integers(-1, 60), st.integers(0, 3))
def test_pairs_are_different_and_of_members(members, count, seed):
    pairs = inspection._pairs(members, count, seed)
    assert len(pairs) == max(0, min(count, len(members) * (len(members) - 1) // 2))
    assert len({tuple(pair) for pair in pairs}) == len(pairs)
    assert all(a in members and b in members and a != b for a, b in pairs)
    assert pairs == inspection._pairs(members, count, seed)
    disjoint = pairs[: len(members) // 2]
    assert len({member for pair in disjoint for member in pair}) == 2 * len(disjoint)


def broken(name: str) -> Zoo:
    v = random(4, 6)
    rows, value = {
        "some nan": (slice(1, 2), float("nan")), "all nan": (slice(4), float("nan")),
        "one finite": (slice(1, 4), float("inf")), "identical": (slice(4), 1.0), "zero": (slice(4), 0.0),
    }.get(name, (slice(0), 0.0))  # fmt: skip
    v[rows] = value
    return make_zoo(v)[: {"empty": 0, "one": 1, "two": 2}.get(name, 4)]


@pytest.mark.parametrize("trajectory", [True, False])
@pytest.mark.parametrize(
    "name", ["empty", "one", "two", "some nan", "all nan", "one finite", "identical", "zero"]
)
def test_broken_zoos_are_reported_and_never_raise(name, trajectory):
    zoo = broken(name)
    zoo.about["trajectory"] = trajectory
    facts = inspect(zoo, lambda v: v.mean(1))
    json.dumps(asdict(facts), allow_nan=False)
    assert facts.recommendations and not facts.recommendations[0].startswith("Likely")
    assert (facts.spectrum is None) == (name not in ("two", "some nan"))


def test_members_with_nan_are_left_out():
    v = random(5, 12)
    v[1, 2], v[3, 8] = float("nan"), float("inf")
    facts = inspect(make_zoo(v), lambda v: v.mean(1), pairs=50)
    assert facts.nonfinite == [(1, "a"), (3, "b")]
    assert {member for pair in facts.basin.pairs for member in pair} == {0, 2, 4}
    clean = inspect(make_zoo(v[[0, 2, 4]]))
    assert facts.spectrum == clean.spectrum and facts.tensors == clean.tensors


# --- advice ----------------------------------------------------------------------------------------

GOOD = Inspection(
    k=200, dim=1000, select="all", trajectory=False, tensors=[TensorDiagnostics("a", [1000], "float32", 0.01)],
    duplicates=[], nonfinite=[], constant=0.0,
    spectrum=Spectrum([0.5, 0.5] + [0.0] * 197, 2.0, 2, 2, []), scores={},
    basin=Basin([[0, 1]], [0.9], [0.9], 0.9, 0.9, 0.0, 0.018, True), notes=[],
)  # fmt: skip
OUTLIER = ScoreDiagnostics(3, 0.6, 0.3, 0.9, 0.1, 0.9, [0.855, 0.945], [2])


def test_a_good_zoo_is_called_good():
    assert recommend(GOOD) == [
        "Likely to work: the K = 200 checkpoints vary in about 2.0 directions and lie in one basin."
    ]
    untested = recommend(replace(GOOD, basin=None))
    assert untested == [
        "Nothing speaks against it in the numbers alone: the K = 200 checkpoints vary in about 2.0 directions.",
        "Without data it cannot be told whether the checkpoints work, nor whether they lie in one basin, so that "
        "what is mixed from them works: give the task they are for (task=NAME).",
    ]
    steps = recommend(replace(GOOD, basin=None, trajectory=True))
    assert steps[0] == untested[0] and "though steps of one training usually do: give the task" in steps[1]


OBSTACLES = [
    ({"k": 1, "spectrum": None, "basin": None},
     "K = 1 checkpoint is too few: at least 2 are needed, the paper takes 200."),
    ({"dim": 1},
     "D = 1 parameter is too few: select more tensors."),
    ({"nonfinite": [(3, "a"), (3, "b"), (4, "a")]},
     "NaN or Inf in members 3, 4 (a, b): remove them, no generator takes them."),
    ({"spectrum": None},
     "All checkpoints are identical in the selected tensors: raise zoo.lr, or select tensors that were "
     "trained."),
    ({"tensors": [TensorDiagnostics("a", [1], "float32", 1e-8)]},
     "The checkpoints differ by little more than rounding errors, so every sample would be their average: "
     "raise zoo.lr."),
    ({"tensors": [TensorDiagnostics("a", [1], "float16", 1e-3), TensorDiagnostics("b", [1], "float32", 1e-3)]},
     "These hardly vary between checkpoints, leave them out of the selection: a."),
    ({"duplicates": [3, 4, 5, 6, 7, 8]},
     "6 of 200 checkpoints are exact copies of others (members 3, 4, 5, 6, 7 and 1 more): the zoo is worth "
     "K = 194; leave the copies out."),
    ({"constant": 0.625},
     "62% of the coordinates are the same in all checkpoints: select only tensors that were trained."),
    ({"spectrum": replace(GOOD.spectrum, far_members=[9])},
     "Far from all others, and dominating mean and scale: member 9; leave out what is not meant to be "
     "there."),
    ({"basin": replace(GOOD.basin, midpoints=0.1, barrier=0.8, one_basin=False)},
     "Midpoints of members score 0.1 where members score 0.9: they lie in several basins, and what is "
     "mixed from them does not work; align their units, or use checkpoints of one training."),
    ({"basin": replace(GOOD.basin, midpoints=0.1, barrier=0.8, one_basin=False), "aligned": {"groups": 2}},
     "Midpoints of members score 0.1 where members score 0.9: they lie in several basins even with aligned "
     "units, and what is mixed from them does not work; use checkpoints of one training."),
    ({"basin": replace(GOOD.basin, members=None, one_basin=None)},
     "The members have no finite scores: check that the task fits the checkpoints."),
    ({"spectrum": replace(GOOD.spectrum, components_90=170)},
     "90% of the variation needs 170 of 199 possible directions, so K is too small to learn how the "
     "checkpoints vary, and samples stay near their average: collect more, or select fewer tensors."),
    ({"spectrum": replace(GOOD.spectrum, participation_ratio=1.1), "trajectory": True},
     "The checkpoints lie almost on a line, so samples would be points on the path of the training: "
     "collect after it has converged, or with more steps in between."),
    ({"scores": {"test": OUTLIER}},
     "Far from the median test of 0.9: member 2; leave failed trainings out, e.g. "
     "zoo.keep('0.855 <= test <= 0.945')."),
    ({"scores": {"test/top-1": OUTLIER}},
     "Far from the median test/top-1 of 0.9: member 2; leave failed trainings out."),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), OBSTACLES)
def test_each_obstacle_has_its_sentence(change, sentence):
    assert recommend(replace(GOOD, **change)) == [sentence]


def test_notes_of_the_zoo_are_part_of_the_advice():
    assert recommend(replace(GOOD, notes=["the rest differs"]))[1:] == ["The rest differs."]
    facts = inspect(make_zoo(random(5, 10), notes=["the rest differs"]))
    assert facts.notes == ["the rest differs"] and "The rest differs." in facts.recommendations


def test_advice_that_is_followed_goes_away():
    zoo = make_zoo(random(30, 4), scores=[0.9 + i / 1000 for i in range(29)] + [0.2])
    advice = next(sentence for sentence in inspect(zoo).recommendations if "zoo.keep" in sentence)
    kept = zoo.keep(advice.split("'")[1])
    assert kept.k == 29 and not any("zoo.keep" in sentence for sentence in inspect(kept).recommendations)


def test_a_random_walk_is_no_obstacle_and_independent_members_are():
    walk = make_zoo(1 + 1e-3 * random(200, 500).cumsum(0), trajectory=True)
    assert inspect(walk).recommendations[0].startswith("Nothing speaks against it")
    assert "K is too small" in inspect(make_zoo(random(40, 500))).recommendations[0]
