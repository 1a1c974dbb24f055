"""Distances against direct computation; spans and left-out members against least squares."""

import math

import pytest
import torch

from paramdiff.evaluation import gram as module
from paramdiff.evaluation.distances import Distances, Gram, neighbours
from paramdiff.parameters.normaliser import Normaliser


def zoo_of(k=12, dim=40, rank=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    if rank is None:
        vectors = torch.randn(k, dim, generator=g)
    else:
        vectors = torch.randn(k, rank, generator=g) @ torch.randn(rank, dim, generator=g)
    return 3 + 0.1 * vectors * torch.rand(dim, generator=g).add(0.5)


def gram_of(samples, zoo, **kwargs):
    return Gram.of(samples, zoo, Normaliser.fit(zoo), **kwargs)


def outside(x, others):
    """Share of x's squared deviation from the mean of the others that lies outside their affine span."""
    centre = others.mean(0)
    basis, y = (others - centre).T, x - centre
    inside = basis @ torch.linalg.lstsq(basis, y[:, None], driver="gelsd").solution[:, 0]
    return float((y - inside).square().sum() / y.square().sum())


def test_distances_are_those_of_normalised_vectors():
    zoo, samples = zoo_of(), zoo_of(5, seed=1)
    normaliser = Normaliser.fit(zoo)
    x, z = (normaliser.normalise(v, torch.float64) for v in (samples, zoo))
    gram = gram_of(samples, zoo)
    torch.testing.assert_close(gram.distances, torch.cdist(x, z) / math.sqrt(40))
    # cdist's own shortcut loses digits on the diagonal
    torch.testing.assert_close(
        gram.member_distances, torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(40),
        atol=1e-6, rtol=1e-6,
    )  # fmt: skip
    torch.testing.assert_close(Distances.of(gram).centre, x.square().mean(1).sqrt())


def test_independent_members_are_root_two_apart():
    zoo = zoo_of(100, 2000)
    apart = gram_of(zoo[:0], zoo).member_distances[~torch.eye(100, dtype=torch.bool)]
    assert float(apart.mean()) == pytest.approx(math.sqrt(2), rel=0.02)


def test_streaming_over_coordinates_changes_nothing(monkeypatch):
    zoo, samples = zoo_of(), zoo_of(5, seed=1)
    whole = gram_of(samples, zoo)
    monkeypatch.setattr(module, "IN_DOUBLE", 100)
    parts = gram_of(samples, zoo, members=None)
    torch.testing.assert_close(parts.cross, whole.cross)
    torch.testing.assert_close(parts.members, whole.members)
    torch.testing.assert_close(gram_of(samples, zoo, members=whole.members).squares, whole.squares)


def test_constant_coordinates_do_not_count():
    zoo, samples = zoo_of(), zoo_of(5, seed=1)
    padded = [torch.cat([v, torch.full((len(v), 60), 7.0)], 1) for v in (samples, zoo)]
    torch.testing.assert_close(gram_of(*padded).distances, gram_of(samples, zoo).distances)
    assert gram_of(*padded).dim == 40


def test_residuals_are_those_of_least_squares():
    zoo, samples = zoo_of(), zoo_of(5, seed=1)
    normaliser = Normaliser.fit(zoo)
    x, z = (normaliser.normalise(v, torch.float64) for v in (samples, zoo))
    expected = [outside(one, z) for one in x]
    assert gram_of(samples, zoo).residuals.tolist() == pytest.approx(expected, abs=1e-8)


def test_averages_lie_in_the_span():
    zoo = zoo_of()
    weights = torch.rand(4, 12)
    averages = weights / weights.sum(1, keepdim=True) @ zoo
    assert float(gram_of(averages, zoo).residuals.max()) < 1e-6
    assert float(gram_of(zoo.mean(0, keepdim=True), zoo).residuals.max()) < 1e-6
    assert float(gram_of(zoo, zoo).residuals.max()) < 1e-6


@pytest.mark.parametrize("trajectory", [False, True])
def test_left_out_residuals_are_those_of_a_zoo_without_them(trajectory):
    zoo = zoo_of()
    z = Normaliser.fit(zoo).normalise(zoo, torch.float64)
    without = neighbours(12, trajectory)
    expected = [outside(z[k], z[~without[k]]) for k in range(12)]
    residuals = gram_of(zoo[:0], zoo).left_out_residuals(without)
    assert residuals.tolist() == pytest.approx(expected, abs=1e-6)


def test_residuals_of_samples_without_some_members():
    """As if the zoo had never had them: by least squares, for samples outside, inside, and made of them."""
    zoo = zoo_of()
    samples = torch.cat([zoo_of(2, seed=1), zoo[:2], zoo[[0, 6]].mean(0, keepdim=True)])
    normaliser = Normaliser.fit(zoo)
    x, z = (normaliser.normalise(v, torch.float64) for v in (samples, zoo))
    without = neighbours(12, True)[torch.tensor([0, 3, 6, 1, 1])]
    expected = [outside(one, z[~w]) for one, w in zip(x, without)]
    assert gram_of(samples, zoo).residuals_without(without).tolist() == pytest.approx(expected, abs=1e-6)
    low = zoo_of(30, 200, rank=4)
    assert float(gram_of(low, low).residuals_without(neighbours(30, True)).max()) < 1e-4


def test_true_draws_have_the_residual_of_members_left_out():
    """A regression: with as many members as dimensions they span all but what a fifth fewer leave out."""
    g = torch.Generator().manual_seed(0)
    zoo, samples = torch.randn(100, 110, generator=g), torch.randn(50, 110, generator=g)
    gram, apart = gram_of(samples, zoo), neighbours(100, True)
    own, new = Distances.of_members(gram, apart), Distances.of(gram, apart)
    assert float(new.residual.median()) < 0.6 * float(own.residual.median())
    assert float(new.outside.median()) == pytest.approx(float(own.outside.median()), rel=0.15)
    assert torch.equal(own.outside, own.residual)
    independent = Distances.of(gram, neighbours(100))
    assert torch.equal(independent.outside, independent.residual)


def test_members_of_a_low_rank_zoo_lie_in_the_span_of_the_others():
    zoo = zoo_of(30, 200, rank=4)
    distances = Distances.of_members(gram_of(zoo[:0], zoo), neighbours(30))
    assert float(distances.residual.max()) < 1e-4
    assert float(distances.centre.median()) == pytest.approx(1, rel=0.3)


def test_a_copy_is_near_one_member_only():
    zoo = zoo_of()
    distances = Distances.of(gram_of(zoo[:3], zoo))
    assert float(distances.nearest.max()) < 1e-6
    assert float(distances.ratio.max()) < 1e-6
    assert float(Distances.of(gram_of(zoo_of(3, seed=1), zoo)).ratio.min()) > 0.5


def test_the_second_neighbour_is_another_in_time():
    walk = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).cumsum(0)
    gram, apart = gram_of(walk[10:12], walk), neighbours(40, True)
    distances = gram_of(walk[10:12] + 0.1, walk).distances
    found = Distances.of(gram_of(walk[10:12] + 0.1, walk), apart)
    for row, first in enumerate((10, 11)):
        second = float(distances[row][~apart[first]].min())
        assert float(found.ratio[row]) == pytest.approx(float(distances[row, first]) / second)
    own = Distances.of_members(gram, apart)
    nearest = gram.member_distances.masked_fill(apart, torch.inf)[20]
    first = int(nearest.argmin())
    second = float(nearest.masked_fill(apart[first], torch.inf).min())
    assert float(own.ratio[20]) == pytest.approx(float(nearest[first]) / second)


@pytest.mark.parametrize("weight", [1.0, 0.7, 0.2])
def test_what_is_kept_of_the_nearest_member(weight):
    """Whatever noise is added where the zoo has none."""
    zoo = torch.cat([zoo_of(dim=400), zoo_of(dim=400).flip(0)], 1)
    normaliser = Normaliser.fit(zoo)
    z = normaliser.normalise(zoo, torch.float64)
    noise = torch.randn(12, 800, generator=torch.Generator().manual_seed(1)).double()
    noise -= noise @ torch.linalg.pinv(z) @ z
    samples = normaliser.denormalise(weight * z + 0.3 * weight * noise, torch.float64)
    found = Distances.of(gram_of(samples, zoo))
    assert found.kept.tolist() == pytest.approx([weight] * 12, abs=1e-4)
    assert bool(found.offset.isnan().all())


def test_a_member_at_the_mean_is_kept_whole():
    zoo = torch.cat([zoo_of(6), 6 - zoo_of(6), torch.full((1, 40), 3.0)])
    assert float(Distances.of(gram_of(zoo[12:], zoo)).kept) == 1


def test_where_samples_lie_between_steps():
    zoo = torch.randn(20, 30, generator=torch.Generator().manual_seed(0)).cumsum(0)
    apart, shares = neighbours(20, True), torch.tensor([0.0, 0.1, 0.25, 0.4])[:, None]
    for member, other in ((7, 8), (7, 6), (0, 1), (19, 18)):
        samples = (1 - shares) * zoo[member] + shares * zoo[other]
        found = Distances.of(gram_of(samples, zoo), apart).offset
        assert found.tolist() == pytest.approx(shares[:, 0].tolist(), abs=1e-5)
    assert bool(Distances.of_members(gram_of(zoo, zoo), apart).offset.isnan().all())
    still = zoo[[0] * 20]
    assert Distances.of(gram_of(still[:2], still), apart).offset.tolist() == [0, 0]


def test_members_leave_themselves_out():
    zoo = zoo_of()
    own = Distances.of_members(gram_of(zoo[:0], zoo), neighbours(12))
    x = Normaliser.fit(zoo).normalise(zoo, torch.float64)
    for k in (0, 5):
        others = torch.cat([x[:k], x[k + 1 :]])
        nearest, second = (x[k] - others).square().mean(1).sqrt().sort().values[:2]
        assert float(own.nearest[k]) == pytest.approx(float(nearest))
        assert float(own.ratio[k]) == pytest.approx(float(nearest / second))
        assert float(own.centre[k]) == pytest.approx(float((x[k] - others.mean(0)).square().mean().sqrt()))


@pytest.mark.parametrize(("k", "window"), [(2, 0), (3, 0), (4, 1), (10, 1), (19, 1), (20, 2), (200, 20)])
def test_temporal_neighbours(k, window):
    left_out = neighbours(k, trajectory=True)
    assert int(left_out[0].sum()) == window + 1
    assert int(left_out[k // 2].sum()) == 2 * window + 1
    assert bool((~left_out).any(1).all())
    assert torch.equal(neighbours(k), torch.eye(k, dtype=torch.bool))


def test_two_members():
    zoo = zoo_of(2)
    own = Distances.of_members(gram_of(zoo[:0], zoo), neighbours(2, trajectory=True))
    assert own.nearest.tolist() == pytest.approx([2, 2])
    assert own.centre.tolist() == pytest.approx([2, 2])
    assert own.residual.tolist() == pytest.approx([1, 1])
    assert bool(own.ratio.isnan().all())
    average = Distances.of(gram_of(zoo.mean(0, keepdim=True), zoo))
    assert float(average.residual) < 1e-5
    assert average.nearest.tolist() == pytest.approx([1], rel=1e-4)


def test_members_that_coincide():
    zoo = zoo_of(3)[[0, 0, 1, 1, 2, 2]]
    own = Distances.of_members(gram_of(zoo[:0], zoo), neighbours(6))
    assert float(own.nearest.max()) == pytest.approx(0, abs=1e-7)
    assert float(own.residual.max()) < 1e-6
