import pytest
import torch

from paramdiff.generators.context import NormalisedView
from paramdiff.parameters.normaliser import Normaliser
from toy_zoos import curve, quick, scattered, toy_zoo


def test_a_view_reads_what_normalising_gives():
    v = curve(7, 50)
    normaliser = Normaliser.fit(v)
    x, view = normaliser.normalise(v), NormalisedView(v, normaliser)
    assert view.shape == (7, 50) and len(view) == 7
    assert torch.equal(view[:, :], x)
    rows = torch.tensor([5, 0, 3])
    assert torch.equal(view[rows][:, 10:30], x[rows, 10:30])
    assert torch.equal(view[rows][1:][:, :], x[rows][1:])
    assert torch.equal(view[2:4, 45:60], x[2:4, 45:])
    assert view[:0].shape == (0, 50)


@pytest.mark.parametrize("name", ["p-diff", "p-diff-linear"])
def test_a_long_zoo_is_never_in_memory_as_a_whole(name: str, monkeypatch: pytest.MonkeyPatch):
    """Members are read in blocks of coordinates, or some of them at a time."""
    from paramdiff.generators import latent, principal_components, reconstruction_check

    for module, key in (
        (reconstruction_check, "READ_AT_ONCE"),
        (latent, "HASHED_AT_ONCE"),
        (principal_components, "COLUMNS_AT_ONCE"),
    ):
        monkeypatch.setattr(module, key, 100)
    zoo, largest = toy_zoo(scattered(30, 1000)), []
    normalise = Normaliser.normalise

    def watched(self: Normaliser, v: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        largest.append(v.numel())
        return normalise(self, v, dtype)

    monkeypatch.setattr(Normaliser, "normalise", watched)
    own = {"autoencoder": {"chunk": 64, "components": 4}} if name == "p-diff" else {}
    quick(name, **own).fit(zoo)
    assert max(largest) <= 3000 < zoo.vectors.numel() / 2
