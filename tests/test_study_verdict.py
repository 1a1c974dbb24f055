"""Verdicts on zoos whose distribution is known, from D = 10 to 3,000: see :mod:`worlds`."""

from dataclasses import replace

import pytest
import torch

from paramdiff.parameters.normalise import Normaliser
from paramdiff.study.evidence import Average, Evidence
from paramdiff.study.novelty import Distances, Gram, neighbours
from paramdiff.study.similarity import Behaviour
from paramdiff.study.verdict import copies, verdict
from worlds import World

N = 40
INDEPENDENT = {
    "10 dimensions": World(10, 300), "300 dimensions": World(300, 60), "3000 dimensions": World(3000, 30),
    "as many members as dimensions": World(300, 300), "low rank": World(300, 120, rank=6),
    "mixture": World(300, 60, "mixture"), "few": World(300, 12, seed=2),
}  # fmt: skip
TRAJECTORIES = {
    "walk": World(300, 60, "walk"), "long walk": World(300, 300, "walk"),
    "curve": World(3000, 60, "curve"), "low curve": World(10, 60, "curve"),
}  # fmt: skip
WORLDS = INDEPENDENT | TRAJECTORIES


def over(worlds):
    return pytest.mark.parametrize("world", worlds.values(), ids=worlds)


@over(WORLDS)
@pytest.mark.parametrize("amplitude", [0.01, 0.05])
def test_replayed_members_are_replicas(world, amplitude):
    found = world.judge(world.replay(amplitude))
    assert found.kind == "replica", found.why
    assert found.why.startswith("The samples are copies of single originals: typically 0.0")
    assert " away from the nearest, where an original left out of the zoo is " in found.why


@over(WORLDS)
@pytest.mark.parametrize("m", [2, 4, 12])
def test_averages_are_interpolation(world, m):
    found = world.judge(world.averages(m))
    assert found.kind == "interpolation", found.why


@over(WORLDS)
def test_the_average_of_all_is_interpolation(world):
    found = world.judge(world.zoo.vectors.mean(0, keepdim=True))
    assert found.kind == "interpolation"


@over(WORLDS)
@pytest.mark.parametrize("draw", [0, 1])
def test_true_draws_are_novel(world, draw):
    found = world.judge(world.draw())
    assert found.kind == "novel", found.why
    assert "these from one another, in weights (" in found.why
    assert "and in behaviour (error similarity" in found.why


@over(TRAJECTORIES)
def test_another_part_of_the_trajectory_is_novel(world):
    rows = torch.randperm(len(world.later), generator=world.g)[:N]
    found = world.judge(world.later[rows])
    assert found.kind == "novel", found.why


@over(WORLDS)
def test_a_low_temperature_is_interpolation(world):
    found = world.judge(world.shrunk(world.draw(), 0.5))
    assert found.kind == "interpolation", found.why


@over(WORLDS)
@pytest.mark.parametrize("temperature", [0.5, 0.7])
def test_members_pulled_towards_the_average_are_no_copies(world, temperature):
    """What p-diff gives that knows its members by heart and is sampled at a low temperature."""
    pulled = world.shrunk(world.zoo.vectors[world.rows()], temperature)
    assert world.judge(pulled).kind == "interpolation"


def test_it_says_that_members_are_pulled():
    world = WORLDS["300 dimensions"]
    found = world.judge(world.shrunk(world.zoo.vectors[world.rows()], 0.7))
    assert "are single originals pulled towards the average of all, keeping 70% of what sets" in found.why


@over({name: TRAJECTORIES[name] for name in ("long walk", "curve", "low curve")})
def test_points_of_the_path_are_no_copies(world):
    found = world.judge(world.between_steps())
    assert found.kind == "interpolation", found.why
    assert "The samples follow the path of the training without repeating its saved steps" in found.why


@over({name: WORLDS[name] for name in ("300 dimensions", "3000 dimensions", "few", "walk", "curve")})
def test_noise_of_the_zoo_s_own_size_makes_neither_copies_nor_new_networks(world):
    found = world.judge(world.replay(1.0))
    assert found.kind == "interpolation", found.why
    assert "single originals" in found.why or "each come from one original" in found.why


@over(INDEPENDENT)
def test_copies_among_new_networks_are_told(world):
    mixed = torch.cat([world.zoo.vectors[world.rows()[:12]], world.draw(28)])
    found = world.judge(mixed)
    assert found.kind == "interpolation"
    assert "The samples are copies of single originals in 30% of cases" in found.why


def test_mode_collapse_is_not_copying():
    """Where the zoo is dense in one place, being near a member there is nothing special."""
    g = torch.Generator().manual_seed(0)
    zoo = torch.cat([0.05 * torch.randn(60, 10, generator=g), torch.randn(240, 10, generator=g)])
    gram = Gram.of(0.05 * torch.randn(N, 10, generator=g), zoo, Normaliser.fit(zoo))
    samples, members = Distances.of(gram), Distances.of_members(gram, neighbours(300))
    assert float(samples.nearest.median() / members.nearest.median()) < 1 / 3
    assert copies(samples, members) == 0
    assert verdict(Evidence(samples, members)).kind == "interpolation"


def test_weights_in_the_span_are_not_novel():
    """The covariance of the zoo is right, but every sample is a combination of members."""
    world = WORLDS["300 dimensions"]
    found = world.judge(world.combined())
    assert found.kind == "interpolation"
    assert "are weighted combinations of originals (0.0% of their variation is something else" in found.why


def test_behaviour_alone_can_show_averaging():
    """Weights that pass for novel with the mistakes of averages, e.g. after permuting hidden units."""
    world = WORLDS["300 dimensions"]
    averaged = world.evidence(world.averages(10))
    disguised = replace(averaged, samples=world.evidence(world.draw()).samples)
    found = verdict(disguised)
    assert found.kind == "interpolation"
    assert found.why.startswith("The samples behave more alike than the originals do (error similarity 0.")


def test_likeness_to_the_zoo_and_to_single_members():
    world = WORLDS["300 dimensions"]
    evidence = world.evidence(world.draw())
    mean, most = (torch.full((N,), value).double() for value in (0.9, 0.99))
    like_zoo = replace(evidence, behaviour=Behaviour(None, mean, most))
    assert "behave more like the originals than these like each other" in verdict(like_zoo).why
    mine = evidence.behaviour
    like_one = replace(evidence, behaviour=Behaviour(mine.within, mine.mean, most))
    assert (
        "repeat the mistakes of single originals (error similarity 0.99 to the closest"
        in verdict(like_one).why
    )


def test_likeness_within_the_scatter_is_none():
    """A regression: true draws of a zoo with few mistakes were said to repeat them."""
    evidence = WORLDS["300 dimensions"].evidence(WORLDS["300 dimensions"].draw())
    members, mine = evidence.members_behaviour, evidence.behaviour
    close = 1 - 0.75 * (1 - float(members.max.mean()))
    same = torch.full((N,), close).double()
    scattered = same + torch.linspace(-1, 1, N).double() * (1 - close)
    for most, kind in ((same, "interpolation"), (scattered, "novel")):
        assert verdict(replace(evidence, behaviour=Behaviour(mine.within, mine.mean, most))).kind == kind


@pytest.mark.parametrize(("gap", "told"), [(None, False), (1.3, False), (2.5, True), (float("nan"), False)])
def test_the_denoising_gap_supports_what_the_weights_show(gap, told):
    world = WORLDS["3000 dimensions"]
    for vectors in (world.replay(), world.shrunk(world.replay(), 0.7)):
        found = world.judge(vectors, gap)
        assert (
            "the denoiser knows the originals by heart: on unseen ones its loss is 2.5 times" in found.why
        ) == told


def test_the_denoising_gap_never_decides():
    world = WORLDS["300 dimensions"]
    for vectors in (world.draw(), world.averages(4), world.replay()):
        evidence = world.evidence(vectors)
        assert verdict(replace(evidence, gap=100.0)).kind == verdict(evidence).kind
    assert "by heart" not in world.judge(world.draw(), 100.0).why


def test_samples_that_do_not_work_say_so_first():
    world = WORLDS["300 dimensions"]
    v = world.zoo.vectors
    found = world.judge(v.mean(0) + 50 * v.std(0) * world.randn(N, v.shape[1]))
    assert found.kind == "novel"
    assert found.why.startswith("The samples do not work (mean test accuracy 0.1")
    assert "so being new would mean nothing; the samples are farther from the originals than" in found.why
    assert "behaviour" not in found.why


@pytest.mark.parametrize(
    ("score", "original", "higher", "chance", "works"),
    [
        (0.55, 0.9, True, 0.1, True), (0.45, 0.9, True, 0.1, False),
        (0.5, 0.9, True, None, True), (0.4, 0.9, True, None, False),
        (1.9, 1.0, False, None, True), (2.1, 1.0, False, None, False),
        (1.4, 1.0, False, 2.0, True), (1.6, 1.0, False, 2.0, False),
        (float("inf"), 1.0, False, None, False), (float("-inf"), 0.9, True, 0.1, False),
        (0.1, 0.1, True, 0.1, True),  # originals at chance: nothing can be told
    ],
)  # fmt: skip
def test_working_is_half_the_lead_over_chance(score, original, higher, chance, works):
    world = WORLDS["few"]
    evidence = replace(
        world.evidence(world.draw()),
        score=score,
        members_score=original,
        higher_is_better=higher,
        chance=chance,
    )
    assert ("do not work" not in verdict(evidence).why) == works


def test_an_average_that_scores_the_same_is_named():
    world = WORLDS["300 dimensions"]
    evidence = world.evidence(world.averages(2), **{"the average of 10 random members": world.averages(10)})
    assert "; the average of 10 random members reaches the same accuracy (0." in verdict(evidence).why


@pytest.mark.parametrize(
    ("average", "lead", "higher", "matched"),
    [
        (0.90, None, True, True), (0.89, None, True, False),
        (0.91, None, False, False), (0.90, None, False, True),
        (0.89, (-0.02, 0.001), True, True), (0.89, (-0.02, -0.001), True, False),
        (0.91, (0.001, 0.02), False, False), (0.91, (-0.001, 0.02), False, True),
    ],
)  # fmt: skip
def test_the_same_means_not_distinguishable_over_the_items(average, lead, higher, matched):
    world = WORLDS["few"]
    evidence = replace(
        world.evidence(world.draw()), selected_score=0.90, higher_is_better=higher, chance=None,
        score=1.0, members_score=1.0, averages=[Average("the average", average, lead)],
    )  # fmt: skip
    assert ("the average reaches the same accuracy" in verdict(evidence).why) == matched


def test_weights_alone():
    world = WORLDS["300 dimensions"]
    drawn = world.evidence(world.draw())
    found = verdict(Evidence(drawn.samples, drawn.members))
    assert found.kind == "novel"
    assert found.why.endswith(", which is all that was compared.")
    averaged = world.evidence(world.averages(4))
    assert verdict(Evidence(averaged.samples, averaged.members)).kind == "interpolation"


def test_originals_that_all_make_the_same_mistakes():
    world = WORLDS["300 dimensions"]
    evidence = world.evidence(world.draw())
    same = Behaviour(1.0, torch.ones(60).double(), torch.ones(60).double())
    found = verdict(replace(evidence, members_behaviour=same, behaviour=same))
    assert found.kind == "novel"
    assert "behaviour tells nothing because the originals all make the same mistakes" in found.why


def test_two_members():
    world = World(300, 2, seed=4)
    assert world.judge(world.replay()).kind == "replica"
    assert world.judge(world.averages(2)[:1]).kind == "interpolation"


def test_members_that_coincide_set_no_yardstick():
    zero, one, none = (torch.full((3,), value).double() for value in (0, 1, torch.nan))
    same = Distances(zero, one, zero, zero, zero, one, none)
    assert verdict(Evidence(same, same)).kind == "novel"


def test_it_is_written_as_in_the_schema():
    world = WORLDS["few"]
    found = world.judge(world.replay())
    assert found.to_json() == {"class": "replica", "why": found.why}
    assert found.why.endswith(".")
    assert "nan" not in found.why
