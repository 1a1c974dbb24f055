import pytest
import torch

from paramdiff.errors import ConfigError
from paramdiff.generators import make
from paramdiff.generators.averages import usual
from toy_zoos import curve, scattered, toy_zoo


def test_average_is_the_mean_of_the_members():
    vectors = curve(7, 20)
    samples = make("average").fit(toy_zoo(vectors)).sample(3)
    assert torch.allclose(samples, vectors.mean(0).expand(3, -1), atol=1e-6)


def test_average_of_positive_coordinates_is_geometric():
    vectors = torch.tensor([[0.0, 1.0], [2.0, 100.0]])
    sample = make("average").fit(toy_zoo(vectors, positive=1)).sample(1)[0]
    assert sample.tolist() == pytest.approx([1.0, 10.0])


def test_average_of_k_takes_different_members_without_replacement():
    vectors = torch.eye(6)
    generator = make("average-of-k", k=3).fit(toy_zoo(vectors))
    assert generator.label == "average-of-3"
    samples = generator.sample(40)
    weights = (3 * samples).round(decimals=4)  # one third for each chosen member
    assert bool((weights.sum(1) == 3).all()) and set(weights.unique().tolist()) == {0.0, 1.0}
    assert len(weights.unique(dim=0)) > 10


def test_average_of_all_is_the_average():
    zoo = toy_zoo(scattered(5, 9))
    one, other = make("average-of-k", k=5).fit(zoo).sample(2), make("average").fit(zoo).sample(2)
    assert torch.allclose(one, other, atol=1e-6)


def test_k_larger_than_the_zoo_names_k():
    with pytest.raises(
        ConfigError, match="k: a mean of 16 members; expected at most K = 5; lower it, leave it out"
    ):
        make("average-of-k", k=16).fit(toy_zoo(curve(5, 4)))
    with pytest.raises(ConfigError, match="k: 0 is out of range"):
        make("average-of-k", k=0)


@pytest.mark.parametrize(
    ("k", "members"), [(2, 1), (3, 2), (5, 2), (8, 4), (15, 7), (16, 8), (17, 16), (200, 16)]
)
def test_members_in_a_mean_follow_the_zoo_where_nobody_says_how_many(k: int, members: int):
    """Never all of them: that is another baseline."""
    left_open = make("average-of-k")
    assert left_open.adapted(k).label == f"average-of-{members}" and usual(k) < k
    assert left_open.adapted(k).adapted(3).k == members, "what is said stays"
    if k <= 17:
        zoo = toy_zoo(scattered(k, 9))
        assert torch.equal(left_open.fit(zoo).sample(3), left_open.adapted(k).fit(zoo).sample(3))
