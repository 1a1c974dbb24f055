"""Verdicts on zoos whose distribution is known: linear classifiers drawn around a teacher."""

from dataclasses import replace

import pytest
import torch

from paramdiff.parameters.spec import ParameterSpec
from paramdiff.study.comparison import Originals, Scored
from paramdiff.study.novelty import Distances
from paramdiff.study.similarity import Behaviour
from paramdiff.study.verdict import Average, Evidence, verdict
from paramdiff.zoo.zoo import Zoo

FEATURES, CLASSES, ITEMS, N = 48, 8, 800, 40


class World:
    """K weight matrices from a Gaussian of a given rank (None: all D = 384), scored on noisy labels."""

    def __init__(self, k, rank=None, seed=0, trajectory=False):
        self.g = torch.Generator().manual_seed(seed)
        self.teacher = self.randn(FEATURES, CLASSES)
        self.x = self.randn(ITEMS, FEATURES)
        self.y = (self.x @ self.teacher + 2 * self.randn(ITEMS, CLASSES)).argmax(1)
        dim = FEATURES * CLASSES
        self.basis = torch.eye(dim) if rank is None else self.randn(rank, dim) / rank**0.5
        vectors = self.walk(k) if trajectory else self.draw(k)
        spec = ParameterSpec.from_state_dict({"w": torch.zeros(dim)})
        self.zoo = Zoo(vectors, spec, {"w": vectors[0]}, about={"trajectory": trajectory})
        self.originals = Originals(self.zoo, self.scored(vectors))

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.g)

    def around(self, noise):
        return self.teacher.flatten() + 0.3 * noise @ self.basis

    def draw(self, n):
        return self.around(self.randn(n, len(self.basis)))

    def walk(self, k, memory=0.9):
        steps = [self.randn(len(self.basis))]
        for _ in range(k - 1):
            steps.append(memory * steps[-1] + (1 - memory**2) ** 0.5 * self.randn(len(self.basis)))
        return self.around(torch.stack(steps))

    def scored(self, vectors):
        logits = torch.einsum("if,nfc->nic", self.x, vectors.reshape(-1, FEATURES, CLASSES))
        correct = logits.argmax(-1) == self.y
        accuracy = correct.double().mean(1)
        return Scored(accuracy, accuracy, None, ~correct)

    def replay(self, noise=0.02):
        """Members with a little noise."""
        v = self.zoo.vectors
        rows = torch.randint(len(v), (N,), generator=self.g)
        return v[rows] + noise * v.std(0) * self.randn(N, v.shape[1])

    def averages(self, m, n=N):
        v = self.zoo.vectors
        return torch.stack([v[torch.randperm(len(v), generator=self.g)[:m]].mean(0) for _ in range(n)])

    def evidence(self, vectors, **averages):
        compared = {what: self.originals.compare(v, self.scored(v)) for what, v in averages.items()}
        comparison = self.originals.compare(vectors, self.scored(vectors))
        return Evidence.of(comparison, self.originals, compared, "accuracy", 1 / CLASSES)

    def judge(self, vectors):
        return verdict(self.evidence(vectors))


WORLDS = {
    "full rank": World(60), "low rank": World(120, rank=6), "few": World(12, seed=2),
    "trajectory": World(60, trajectory=True, seed=3),
}  # fmt: skip
everywhere = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


@everywhere
def test_replayed_members_are_replicas(world):
    found = world.judge(world.replay())
    assert found.kind == "replica"
    assert found.why.startswith("The samples are copies: ")
    assert "from the nearest original, a held-out original" in found.why


@everywhere
@pytest.mark.parametrize("m", [2, 4, 10])
def test_averages_are_interpolation(world, m):
    assert world.judge(world.averages(m)).kind == "interpolation"


@everywhere
def test_the_average_of_all_is_interpolation(world):
    found = world.judge(world.zoo.vectors.mean(0, keepdim=True))
    assert found.kind == "interpolation"


@everywhere
@pytest.mark.parametrize("draw", [0, 1])
def test_true_draws_are_novel(world, draw):
    found = world.judge(world.draw(N))
    assert found.kind == "novel", found.why
    assert "a held-out original, in weights (" in found.why
    assert "and in behaviour (error similarity" in found.why


def test_noise_of_the_zoo_s_own_size_is_not_novel():
    world = WORLDS["full rank"]
    assert world.judge(world.replay(noise=0.7)).kind == "interpolation"


def test_weights_in_the_span_are_not_novel():
    """The covariance of the zoo is right, but every sample is a combination of members."""
    world = WORLDS["full rank"]
    v = world.zoo.vectors
    combined = v.mean(0) + world.randn(N, len(v)) / len(v) ** 0.5 @ (v - v.mean(0))
    found = world.judge(combined)
    assert found.kind == "interpolation"
    assert "lie in the span of the originals (0.0% of their deviation is outside it" in found.why


def test_behaviour_alone_can_show_averaging():
    """Weights that pass for novel with the mistakes of averages, e.g. after permuting hidden units."""
    world = WORLDS["full rank"]
    averaged = world.evidence(world.averages(10))
    disguised = replace(averaged, samples=world.evidence(world.draw(N)).samples)
    found = verdict(disguised)
    assert found.kind == "interpolation"
    assert found.why.startswith("The samples behave more alike than the originals do (error similarity 0.")


def test_likeness_to_the_zoo_and_to_single_members():
    evidence = WORLDS["full rank"].evidence(WORLDS["full rank"].draw(N))
    mean, most = (torch.full((N,), value).double() for value in (0.9, 0.99))
    like_zoo = replace(evidence, behaviour=Behaviour(None, mean, most))
    assert "behave more like the originals than these like each other" in verdict(like_zoo).why
    mine = evidence.behaviour
    like_one = replace(evidence, behaviour=Behaviour(mine.within, mine.mean, most))
    assert (
        "repeat the mistakes of single originals (error similarity 0.99 to the closest"
        in verdict(like_one).why
    )


def test_samples_that_do_not_work_say_so_first():
    world = WORLDS["full rank"]
    v = world.zoo.vectors
    found = world.judge(v.mean(0) + 50 * v.std(0) * world.randn(N, v.shape[1]))
    assert found.kind == "novel"
    assert found.why.startswith("The samples do not work (mean test accuracy 0.1")
    assert "so being new would mean nothing; the samples lie farther from the zoo than" in found.why
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
        world.evidence(world.draw(N)),
        score=score,
        members_score=original,
        higher_is_better=higher,
        chance=chance,
    )
    assert ("do not work" not in verdict(evidence).why) == works


def test_an_average_that_scores_the_same_is_named():
    world = WORLDS["full rank"]
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
        world.evidence(world.draw(N)), selected_score=0.90, higher_is_better=higher, chance=None,
        score=1.0, members_score=1.0, averages=[Average("the average", average, lead)],
    )  # fmt: skip
    assert ("the average reaches the same accuracy" in verdict(evidence).why) == matched


def test_weights_alone():
    world = WORLDS["full rank"]
    drawn = world.evidence(world.draw(N))
    found = verdict(Evidence(drawn.samples, drawn.members))
    assert found.kind == "novel"
    assert found.why.endswith(", which is all that was compared.")
    averaged = world.evidence(world.averages(4))
    assert verdict(Evidence(averaged.samples, averaged.members)).kind == "interpolation"


def test_originals_that_all_make_the_same_mistakes():
    world = WORLDS["full rank"]
    evidence = world.evidence(world.draw(N))
    same = Behaviour(1.0, torch.ones(60).double(), torch.ones(60).double())
    found = verdict(replace(evidence, members_behaviour=same, behaviour=same))
    assert found.kind == "novel"
    assert "behaviour tells nothing because the originals all make the same mistakes" in found.why


def test_two_members():
    world = World(2, seed=4)
    assert world.judge(world.replay()).kind == "replica"
    assert world.judge(world.averages(2, n=1)).kind == "interpolation"


def test_members_that_coincide_set_no_yardstick():
    zero = torch.zeros(3).double()
    same = Distances(zero, zero, zero, zero)
    assert verdict(Evidence(same, same)).kind == "novel"


def test_it_is_written_as_in_the_schema():
    world = WORLDS["few"]
    found = world.judge(world.replay())
    assert found.to_json() == {"class": "replica", "why": found.why}
    assert found.why.endswith(".")
    assert "nan" not in found.why
