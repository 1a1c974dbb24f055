import pytest
import torch

from paramdiff.generators import chunking
from paramdiff.generators.chunking import Chunks
from paramdiff.generators.context import NormalisedView
from paramdiff.parameters.normaliser import Normaliser
from toy_zoos import curve, scattered


def centred(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / x.std(0, correction=0)


@pytest.mark.parametrize("dim", [128, 130, 159, 31])
def test_members_come_back_exactly_where_components_suffice(dim: int):
    """Also with a last chunk that is shorter, or shorter than it has components."""
    x = centred(scattered(9, dim))
    cut = Chunks.fit(x, 32, 20)
    assert len(cut.basis) == 8  # nine members span no more
    y = cut.project(x)
    assert y.shape == (9, cut.dim) and cut.dim == 8 * -(-dim // 32)
    assert torch.allclose(cut.expand(y), x, atol=1e-5)


def test_errors_mean_the_same_in_both():
    """A mean square over the sequence is the mean square over the vector that it decodes to."""
    x = centred(scattered(40, 200))
    cut = Chunks.fit(x, 50, 5)
    noise = torch.randn(40, cut.dim, generator=torch.Generator().manual_seed(0))
    moved = cut.expand(cut.project(x) + noise) - cut.expand(cut.project(x))
    assert moved.square().mean().item() == pytest.approx(noise.square().mean().item(), rel=1e-4)
    assert cut.scale == pytest.approx((20 / 200) ** 0.5)


def test_each_chunk_has_components_of_its_own():
    """Two chunks that vary independently: one component each keeps what one for both would not."""
    first, second = centred(curve(30, 64)), centred(curve(30, 64).flip(0))[torch.randperm(30)]
    x = torch.cat([first, second], 1)
    kept = Chunks.fit(x, 64, 2)
    again = kept.expand(kept.project(x))
    alone = torch.cat([Chunks.fit(part, 64, 2).expand(Chunks.fit(part, 64, 2).project(part))
                       for part in (first, second)], 1)  # fmt: skip
    assert torch.allclose(again, alone, atol=1e-5)
    assert (again - x).square().mean() < 0.8 * x.square().mean()


def test_a_chunk_without_variation_is_its_mean():
    x = centred(scattered(6, 96))
    x[:, 32:64] = 3.0
    cut = Chunks.fit(x, 32, 4)
    assert torch.equal(cut.expand(torch.randn(2, cut.dim))[:, 32:64], torch.full((2, 32), 3.0))
    assert bool((cut.basis[:, 32:64] == 0).all())


def test_a_sequence_is_never_longer_than_so_many_numbers(monkeypatch: pytest.MonkeyPatch):
    """So the network behind it does not grow with D."""
    monkeypatch.setattr(chunking, "LONGEST", 22)
    x = centred(scattered(6, 103))
    cut = Chunks.fit(x, 10, 8)
    assert cut.length == 26 and cut.dim == 4 * 5
    assert torch.allclose(cut.expand(cut.project(x)), x, atol=1e-5)


def test_a_view_of_raw_vectors_gives_the_same():
    v = curve(12, 100)
    normaliser = Normaliser.fit(v)
    one, other = (Chunks.fit(x, 40, 3) for x in (normaliser.normalise(v), NormalisedView(v, normaliser)))
    assert torch.equal(one.basis, other.basis)
    assert torch.equal(one.project(normaliser.normalise(v)), other.project(NormalisedView(v, normaliser)))


def test_state_comes_back():
    x = centred(scattered(5, 70))
    given = Chunks.fit(x, 32, 3)
    again = Chunks.from_state(given.state_dict())
    assert again.dim == given.dim
    assert torch.equal(again.expand(again.project(x)), given.expand(given.project(x)))
