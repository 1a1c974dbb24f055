"""Maps of latents and paths from noise, against principal components and distances computed directly."""

import pytest
import torch
from torch import Tensor

from paramdiff.devices import evenly_spaced
from paramdiff.evaluation.latent_projection import Paths, latent_map, noised
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.seeds import generator
from toy_zoos import curve, scattered


def clusters(n: int, size: int, apart: float = 50.0) -> dict[str, Tensor]:
    draw = generator("clusters")
    far = torch.randn(2, size, generator=draw) * apart
    return {name: far[i] + torch.randn(n, size, generator=draw) for i, name in enumerate("ab")}


def test_neighbours_on_the_map_are_neighbours_in_truth():
    placed = latent_map(clusters(20, 12))
    points = torch.cat(list(placed.values()))
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert [len(p) for p in placed.values()] == [20, 20]
    assert torch.equal(nearest < 20, torch.arange(40) < 20)


def test_the_same_latents_give_the_same_map():
    groups = clusters(12, 6)
    one, same = latent_map(groups), latent_map(groups)
    assert torch.equal(one["a"], same["a"]) and torch.equal(one["b"], same["b"])


@pytest.mark.parametrize(("n", "size"), [(2, 3), (3, 1), (4, 2)])
def test_few_points_and_single_latents_have_a_map(n: int, size: int):
    placed = latent_map({"a": torch.arange(float(n * size)).view(n, size), "b": torch.ones(1, size)})
    assert {name: tuple(p.shape) for name, p in placed.items()} == {"a": (n, 2), "b": (1, 2)}
    assert all(bool(p.isfinite().all()) for p in placed.values())


def test_noise_has_its_amplitude_and_belongs_to_its_row():
    z = torch.zeros(400, 25)
    shifted = noised(z, 0.1)
    assert float(shifted.std()) == pytest.approx(0.1, rel=0.03)
    assert torch.equal(noised(z[:7], 0.1), shifted[:7])


def test_some_rows_reach_from_end_to_end():
    assert evenly_spaced(5, 200).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(1000, 3).tolist() == [0, 500, 999] and len(evenly_spaced(301, 200).unique()) == 200


def seen(zoo: Tensor, networks: Tensor) -> tuple[Paths, Tensor, Tensor]:
    """Paths, with the normalised members and networks relative to the members' mean."""
    normaliser = Normaliser.fit(zoo)
    z = normaliser.normalise(zoo, torch.float64)
    x = normaliser.normalise(networks.flatten(0, 1), torch.float64)
    return Paths.of(networks, zoo, normaliser), z, x


def test_paths_are_projected_onto_the_principal_components():
    zoo = curve(30, 40)
    networks = zoo[:12].view(4, 3, 40) + 0.05 * scattered(12, 40).view(4, 3, 40)
    found, z, x = seen(zoo, networks)
    _, values, directions = torch.linalg.svd(z, full_matrices=False)
    expected = (x @ directions[:2].T / 40**0.5).view(4, 3, 2)
    sign = (found.originals.double() * (z @ directions[:2].T)).sum(0).sign()
    assert torch.allclose(found.plane.double() * sign, expected, atol=1e-5)
    assert torch.allclose(found.deviation.double(), values[:2] / (30 * 40) ** 0.5, atol=1e-6)
    assert torch.allclose(found.share.double(), values[:2] ** 2 / (values**2).sum(), atol=1e-6)
    assert torch.allclose(found.deviation, found.originals.square().mean(0).sqrt(), atol=1e-5)


def test_distances_of_paths_are_those_between_vectors():
    zoo = scattered(9, 30)
    networks = torch.stack([zoo[:2], zoo[2:4] + 0.3 * scattered(2, 30)])
    found, z, x = seen(zoo, networks)
    assert torch.allclose(
        found.nearest.double(), torch.cdist(x, z).min(1).values.view(2, 2) / 30**0.5, atol=1e-5
    )
    assert torch.allclose(found.centre.double(), x.norm(dim=1).view(2, 2) / 30**0.5, atol=1e-5)
    assert torch.allclose(found.spread.double(), z.norm(dim=1) / 30**0.5, atol=1e-5)
    assert float(found.nearest[0].max()) < 1e-3, "members are their own nearest"


def test_originals_on_a_line_have_no_second_component():
    zoo = torch.linspace(0, 1, 6)[:, None] * torch.ones(8) + 1
    found, _, _ = seen(zoo, zoo[:4].view(2, 2, 8))
    assert float(found.share[0]) == pytest.approx(1.0) and float(found.plane[..., 1].abs().max()) < 1e-3
    assert all(bool(value.isfinite().all()) for value in vars(found).values())
