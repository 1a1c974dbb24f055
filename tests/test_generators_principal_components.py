"""Principal components: the same whichever way they are found, and at what cost."""

import math

import pytest
import torch
from torch import Tensor

from paramdiff.generators import principal_components
from paramdiff.generators.principal_components import PrincipalComponents


def spiked(k: int, dim: int) -> Tensor:
    """Eight directions that stand out of independent noise."""
    draw = torch.Generator().manual_seed(3)
    sizes = torch.linspace(3, 1, 8)[:, None]
    basis = torch.linalg.qr(torch.randn(dim, 8, generator=draw))[0].T
    return torch.randn(k, 8, generator=draw) @ (sizes * basis) + 0.02 * torch.randn(k, dim, generator=draw)


@pytest.mark.parametrize(("k", "dim"), [(60, 200), (200, 60)])
def test_components_are_those_of_the_decomposition_whichever_matrix_is_smaller(k: int, dim: int):
    x = spiked(k, dim)
    found = PrincipalComponents.fit(x, 8)
    _, sizes, rows = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    assert torch.allclose(found.deviations, sizes[:8] / math.sqrt(k), rtol=1e-4)
    assert torch.allclose((found.basis @ rows[:8].T).abs().diagonal(), torch.ones(8), atol=1e-3)


def test_few_components_of_many_members_take_operations_that_grow_with_neither_square(
    monkeypatch: pytest.MonkeyPatch,
):
    """No K x K or D x D matrix is made or decomposed, and the components are the same."""
    from torch.utils.flop_counter import FlopCounterMode

    k, dim, rank = 700, 650, 8
    x, decomposed, eigh = spiked(k, dim), [], torch.linalg.eigh
    exact = PrincipalComponents.fit(x, rank)
    monkeypatch.setattr(principal_components, "LARGE", 256)
    monkeypatch.setattr(
        torch.linalg, "eigh", lambda matrix: (decomposed.append(len(matrix)), eigh(matrix))[1]
    )
    with FlopCounterMode(display=False) as counter:
        found = PrincipalComponents.fit(x, rank)
    assert max(decomposed) == rank + principal_components.MORE
    products = 2 * principal_components.POWERS + 4
    assert counter.get_total_flops() <= 2 * products * k * dim * (rank + principal_components.MORE)
    assert torch.allclose(found.deviations, exact.deviations, rtol=1e-4)
    assert torch.allclose((found.basis @ exact.basis.T).abs(), torch.eye(rank), atol=1e-3)
    assert torch.allclose(found.basis @ found.basis.T, torch.eye(rank), atol=1e-4)
    assert torch.equal(PrincipalComponents.fit(x, rank).basis, found.basis), "the same bits again"
