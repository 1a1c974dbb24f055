"""Verdicts on zoos whose distribution is known; the long table is ``python -m benchmarks.verdicts``."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.verdicts import sets, zoos
from paramdiff.errors import ZooError
from paramdiff.evaluation import behaviour_criteria as behaviour
from paramdiff.evaluation import criteria, criterion, distinct_members, thresholds
from paramdiff.evaluation import verdict as module
from paramdiff.evaluation.distances import Distances
from paramdiff.evaluation.evidence import WORKING, Average, Evidence
from paramdiff.evaluation.reference import Reference
from paramdiff.evaluation.similarity import Behaviour
from paramdiff.evaluation.verdict import judge, verdict
from paramdiff.networks.symmetry import find_symmetries
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.zoo import Zoo
from worlds import World

N = 40


def case(name, seed=0):
    made = zoos.TUNED | zoos.HELD_OUT
    return made[name](torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def known():
    """Zoos and what is known of their members, made once."""
    found = {}

    def get(name):
        if name not in found:
            made = case(name)
            found[name] = made, Reference(made.zoo)
        return found[name]

    return get


def kind(known, zoo, what):
    made, reference = known(zoo)
    drawn = (sets.TUNED | sets.HELD_OUT)[what](made, N)
    return verdict(Evidence(reference.distances(drawn), reference.members))


ZOOS = ("gaussian", "few", "modes", "walk, no flag", "merged runs", "twenty copies", "twice", "manifold")


@pytest.mark.parametrize("zoo", ZOOS)
def test_a_small_truth_table(known, zoo):
    """Each of these was called novel where members are duplicates or steps of one run, or by its median."""
    assert kind(known, zoo, "true draws").kind == "novel"
    for what in ("copies", "copies + 0.1"):
        assert kind(known, zoo, what).kind == "replica", what
    lesser = ("averages of 2", "mean", "half copies", "20% copies", "40% averages of 2", "shrunken members",
              "one network again", "members + 1.0")  # fmt: skip
    for what in lesser:
        assert kind(known, zoo, what).kind != "novel", what
    assert kind(known, zoo, "mean + 10 sigma").kind == "broken"


@pytest.mark.parametrize("zoo", ["gaussian", "walk, no flag", "merged runs", "modes"])
def test_combinations_lie_in_the_span(known, zoo):
    assert kind(known, zoo, "low-rank Gaussian").kind == "interpolation"


def test_shares_are_of_samples(known):
    found = kind(known, "gaussian", "20% copies")
    assert found.shares == {"replica": 0.2, "interpolation": 0, "novel": 0.8, "broken": 0}
    assert found.kind == "replica"
    assert found.why.startswith("8 of 40 samples are copies of single originals (typically ")
    assert found.why.endswith("; in all 20% replica, 80% novel.")
    assert found.to_json() == {"class": "replica", "why": found.why, "shares": found.shares}


@pytest.mark.parametrize(("copied", "expected"), [(3, "novel"), (4, "replica")])
def test_a_tenth_of_copies_decides(known, copied, expected):
    made, reference = known("gaussian")
    drawn = torch.cat([made.zoo.vectors[:copied], made.draw(N - copied)])
    assert verdict(Evidence(reference.distances(drawn), reference.members)).kind == expected


def test_too_few_distinct_members_tell_nothing():
    made = zoos.gaussian(300, 2)(torch.Generator().manual_seed(0))
    zoo = made.zoo.vectors.repeat(10, 1)
    found = judge(made.draw(20), zoo)
    assert found.kind != "novel"
    assert judge(zoo[:2], zoo).kind == "replica"


# Symmetries --------------------------------------------------------------------------------------------


def network(activation):
    return nn.Sequential(nn.Linear(12, 8), activation(), nn.Linear(8, 6), activation(), nn.Linear(6, 3))


def disguise(v, spec, model, g):
    """The same function: other orders, and other scales (ReLU) or signs (tanh)."""
    state = {name: tensor.clone() for name, tensor in spec.unflatten(v).items()}
    for makes, reads in (("0", "2"), ("2", "4")):
        size = len(state[f"{makes}.bias"])
        factor = torch.randn(size, generator=g)
        factor = factor.sign() if "Tanh" in repr(model) else factor.exp()
        order = torch.randperm(size, generator=g)
        state[f"{makes}.weight"] = (state[f"{makes}.weight"] * factor[:, None])[order]
        state[f"{makes}.bias"] = (state[f"{makes}.bias"] * factor)[order]
        state[f"{reads}.weight"] = (state[f"{reads}.weight"] / factor)[:, order]
    return spec.flatten(state)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_disguised_copies_are_replicas(activation):
    model, g = network(activation), torch.Generator().manual_seed(0)
    spec = ParameterSpec.from_model(model, "all")
    vectors = torch.randn(24, spec.dim, generator=g)
    zoo = Zoo(vectors, spec, model.state_dict())
    samples = vectors[:10] + 0.1 * torch.randn(10, spec.dim, generator=g)
    hidden = torch.stack([disguise(v, spec, model, g) for v in samples])
    x = torch.randn(5, 12, generator=g)
    outputs = [torch.func.functional_call(model, spec.unflatten(v[0]), (x,)) for v in (samples, hidden)]
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)
    assert judge(hidden, zoo, model).kind == "replica"
    assert judge(hidden, zoo).kind != "replica"  # without the network nobody can tell
    assert judge(torch.randn(10, spec.dim, generator=g), zoo, model).kind == "novel"


def test_which_units_have_a_scale_or_a_sign():
    def flags(*layers):
        groups = find_symmetries(nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 2))).groups
        return (groups[0].scalable, groups[0].odd)

    assert flags(nn.ReLU()) == (True, False)
    assert flags(nn.Tanh()) == (False, True)
    assert flags(nn.LeakyReLU(), nn.Dropout()) == (True, False)
    assert flags(nn.GELU()) == flags(nn.Tanh(), nn.ReLU()) == flags(nn.BatchNorm1d(6)) == (False, False)
    assert flags(nn.Identity()) == (True, True)


def test_what_cannot_be_matched_is_said():
    made = case("gaussian")
    found = judge(made.draw(20), made.zoo)
    assert found.kind == "novel"
    assert "hidden units were not matched because the network is not known" in found.why


# Scores and answers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return World(300, 60)


def test_behaviour_and_weights_of_true_draws(world):
    found = world.judge(world.draw())
    assert found.kind == "novel", found.why
    assert "in weights (typically 1." in found.why and "and in behaviour (error similarity 0." in found.why


def test_the_answers_of_a_member_are_a_copy_of_it(world):
    """Whatever the weights."""
    drawn, copied = world.evidence(world.draw()), world.evidence(world.replay(0.01))
    found = verdict(replace(copied, samples=drawn.samples))
    assert found.kind == "replica"
    assert "give the answers of single originals (error similarity " in found.why


def test_behaviour_alone_can_show_averaging(world):
    averaged = world.evidence(world.averages(10))
    found = verdict(replace(averaged, samples=world.evidence(world.draw()).samples))
    assert found.kind == "interpolation"
    assert found.why.startswith("The samples behave more alike than the originals do (error similarity 0.")


def test_saturated_originals_leave_it_to_the_weights(world):
    evidence = world.evidence(world.draw())
    same = Behaviour(1.0, torch.ones(60).double(), torch.ones(60).double())
    found = verdict(replace(evidence, members_behaviour=same, behaviour=same))
    assert found.kind == "novel"
    assert "behaviour tells nothing because the originals all make the same mistakes" in found.why
    few = replace(evidence.members_behaviour, differing=behaviour.DIFFERING - 1)
    alike = replace(evidence.behaviour, within=0.99)
    for members, expected in (
        (few, "novel"),
        (replace(few, differing=behaviour.DIFFERING), "interpolation"),
    ):
        assert verdict(replace(evidence, behaviour=alike, members_behaviour=members)).kind == expected


def test_samples_that_do_not_work_are_broken(world):
    v = world.zoo.vectors
    found = world.judge(v.mean(0) + 10 * v.std(0) * world.randn(N, v.shape[1]))
    assert found.kind == "broken"
    assert found.why.startswith("All 40 samples do not work (mean test accuracy 0.1")


@pytest.mark.parametrize(
    ("score", "original", "higher", "chance", "works"),
    [
        (0.51, 0.9, True, 0.1, True), (0.49, 0.9, True, 0.1, False),
        (0.5, 0.9, True, None, True), (0.4, 0.9, True, None, False),
        (1.9, 1.0, False, None, True), (2.1, 1.0, False, None, False),
        (1.4, 1.0, False, 2.0, True), (1.6, 1.0, False, 2.0, False),
        (float("inf"), 1.0, False, None, False), (float("-inf"), 0.9, True, 0.1, False),
        (0.1, 0.1, True, 0.1, True),  # originals at chance: nothing can be told
    ],
)  # fmt: skip
def test_working_is_half_the_lead_over_chance(world, score, original, higher, chance, works):
    assert WORKING == 0.5
    evidence = replace(
        world.evidence(world.draw()), score=score, scores=torch.full((N,), score).double(),
        members_score=original, higher_is_better=higher, chance=chance,
    )  # fmt: skip
    assert (verdict(evidence).kind != "broken") == works


@pytest.mark.parametrize(
    ("average", "lead", "higher", "matched"),
    [
        (0.90, None, True, True), (0.89, None, True, False),
        (0.91, None, False, False), (0.90, None, False, True),
        (0.89, (-0.02, 0.001), True, True), (0.89, (-0.02, -0.001), True, False),
    ],
)  # fmt: skip
def test_the_same_means_not_distinguishable_over_the_items(world, average, lead, higher, matched):
    evidence = replace(
        world.evidence(world.draw()), selected_score=0.90, higher_is_better=higher, chance=None, score=1.0,
        scores=None, members_score=1.0, averages=[Average("the average", average, lead)],
    )  # fmt: skip
    assert ("the average reaches the same accuracy" in verdict(evidence).why) == matched


@pytest.mark.parametrize(("gap", "told"), [(None, False), (1.3, False), (2.5, True), (float("nan"), False)])
def test_the_denoising_gap_supports_and_never_decides(world, gap, told):
    copied, drawn = world.evidence(world.replay(), gap), world.evidence(world.draw(), gap)
    assert ("the denoiser has memorised the originals" in verdict(copied).why) == told
    assert verdict(drawn).kind == "novel" and "memorised" not in verdict(drawn).why


def test_vectors_without_a_zoo():
    g = torch.Generator().manual_seed(0)
    vectors = torch.randn(30, 50, generator=g)
    assert judge(vectors[:5], vectors).kind == "replica"
    assert judge(torch.full((3, 50), float("nan")), vectors).kind == "broken"
    with pytest.raises(ZooError, match=r"samples of shape \[3, 4\]"):
        judge(torch.zeros(3, 4), vectors)


# Thresholds --------------------------------------------------------------------------------------------


def distances(n, **values):
    """Networks that show nothing, but for these numbers."""
    usual = {"nearest": 1.0, "ratio": 0.97, "centre": 1.0, "residual": 0.9, "outside": 0.9, "kept": 0.1,
             "offset": float("nan"), "line": 1.0, "among": 1.0, "spread": 1.4}  # fmt: skip
    made = {name: torch.full((n,), value).double() for name, value in (usual | values).items()}
    return Distances(**made, pairs=torch.full((n * (n - 1) // 2,), 1.4).double(), distinct=n)


NEAR = {"nearest": 0.2, "ratio": 0.2, "kept": 1.0}


@pytest.mark.parametrize(
    ("values", "inside", "outside", "expected"),
    [
        (NEAR, {"nearest": criteria.REPLICA - 0.01}, {"nearest": criteria.REPLICA + 0.01}, "replica"),
        (NEAR, {"ratio": 0.97 * criteria.ALONE - 0.01}, {"ratio": 0.97 * criteria.ALONE + 0.01}, "replica"),
        (NEAR, {"kept": criteria.KEPT}, {"kept": criteria.KEPT - 0.01}, "replica"),
        (NEAR, {"offset": criteria.AT_STEP - 0.01}, {"offset": criteria.AT_STEP + 0.01}, "replica"),
        ({}, {"ratio": 0.97 * criteria.SINGLE - 0.01}, {"ratio": 0.97 * thresholds.EXCESS + 0.01}, "interpolation"),
        ({}, {"nearest": criteria.NEAREST - 0.01}, {"nearest": thresholds.EXCESS + 0.01}, "interpolation"),
        ({}, {"line": criteria.LINE - 0.01}, {"line": thresholds.EXCESS + 0.01}, "interpolation"),
        ({}, {"centre": criteria.CENTRE - 0.01}, {"centre": thresholds.EXCESS + 0.01}, "interpolation"),
        ({}, {"outside": 0.9 * criteria.SPAN - 0.01}, {"outside": 0.9 * criteria.SPAN + 0.01}, "interpolation"),
        ({}, {"spread": 1.4 * criteria.SPREAD - 0.01}, {"spread": 1.4 * criteria.SPREAD + 0.01}, "interpolation"),
        ({}, {"nearest": criteria.UNPROVEN + 0.01}, {"nearest": 1.05 + criteria.UNSURE / N - 0.01}, "broken"),
    ],
)  # fmt: skip
def test_boundaries(values, inside, outside, expected):
    members = distances(N)
    kinds = [verdict(Evidence(distances(N, **(values | side)), members)).kind for side in (inside, outside)]
    assert kinds[0] == expected and kinds[1] != expected


def test_single_samples_have_boundaries_too():
    """One of 40: no set shows anything, so the share says which side it is on."""
    members = distances(N)
    for name, factor in (("ratio", criteria.SINGLE), ("nearest", criteria.NEAREST), ("line", criteria.LINE),
                         ("centre", criteria.CENTRE)):  # fmt: skip
        for by, share in ((-0.01, 1 / N), (0.01, 0)):
            drawn = distances(N)
            getattr(drawn, name)[0] = factor * float(getattr(members, name)[0]) + by
            assert verdict(Evidence(drawn, members)).shares["interpolation"] == pytest.approx(share), name


@pytest.mark.parametrize(("score", "limit"), [(None, criteria.UNPROVEN), (0.9, criteria.BEYOND)])
def test_how_far_out_a_working_network_may_be(score, limit):
    members = distances(N)
    for by, broken in ((-0.01, 0), (0.01, 1 / N)):
        drawn = distances(N)
        drawn.nearest[0] = limit + by
        scores = {} if score is None else {"score": score, "members_score": score}
        found = verdict(Evidence(drawn, members, **scores)).shares["broken"]
        assert found == pytest.approx(broken)


def test_the_constants_are_the_documented_ones():
    """A threshold that moves must be meant: boundaries above follow the names."""
    assert (criteria.REPLICA, criteria.ALONE, criteria.KEPT, criteria.AT_STEP) == (1 / 3, 0.5, 0.85, 0.1)
    assert (criteria.SINGLE, criteria.NEAREST, criteria.LINE, criteria.CENTRE, criteria.SPAN) == (
        0.8,
        0.8,
        0.5,
        0.85,
        0.5,
    )
    assert (criteria.SPREAD, criteria.UNPROVEN, criteria.BEYOND, behaviour.SAME) == (
        0.75,
        1.5,
        2.5,
        1 / 3,
    )
    assert (
        behaviour.ALIKE,
        behaviour.ALIKE_TO_ZOO,
        behaviour.ALIKE_TO_ONE,
        behaviour.DIFFERING,
    ) == (
        0.85,
        0.9,
        0.8,
        5,
    )
    assert (criteria.OUTWARD, criteria.UNSURE, criteria.APART, behaviour.CLEARLY) == (
        0.05,
        3.0,
        4.0,
        2.0,
    )
    assert (thresholds.TAIL, thresholds.EXCESS, thresholds.OUTLYING, thresholds.STANDARD_ERRORS) == (
        8.0,
        0.9,
        1.5,
        5.0,
    )
    assert (
        distinct_members.COINCIDE,
        distinct_members.ISOLATED,
        distinct_members.FEW,
        distinct_members.ORDERED,
    ) == (0.05, 1 / 3, 5, 0.8)
    assert (
        distinct_members.APART,
        distinct_members.RUNS,
        criteria.ROUNDED,
        criteria.COMPUTED,
        thresholds.OUTER,
    ) == (
        4,
        3,
        100,
        1e-6,
        0.98,
    )
    assert (module.TENTH, module.TOLD, module.FARTHER, criterion.GAP) == (0.1, 3, 1.25, 2.0)


def test_limits():
    even = torch.linspace(0.9, 1.1, 101).double()
    assert thresholds.limit(even, 0.8) == pytest.approx(0.95**8, rel=1e-6)  # the quartile is 0.95
    assert thresholds.limit(even, 0.5) == pytest.approx(0.5)
    assert thresholds.limit(torch.zeros(5).double(), 0.5) == 0
    assert thresholds.upper_limit(even, 1.0) == pytest.approx(1.5 * 1.096, rel=1e-3)
    low = torch.full((50,), 0.5).double()
    assert thresholds.excess(low, even) == pytest.approx(1)
    assert thresholds.excess(even[::2], even) == 0
    some = torch.cat([low[:5], torch.full((45,), 1.0).double()])
    assert (
        thresholds.excess(some, even) == 0
    )  # 5 of 50 may be chance for a set; samples are judged one by one
