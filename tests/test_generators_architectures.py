import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paramdiff.generators.architectures import (
    DENOISERS,
    NORMS,
    SHORTEST,
    ConvAutoencoder,
    fitting_strides,
    make_denoiser,
)
from paramdiff.generators.fully_connected import DenseAutoencoder, matching_width
from paramdiff.seeds import seeded


@settings(max_examples=25, deadline=None)
@given(dim=st.integers(2, 300), latent=st.integers(1, 9), norm=st.sampled_from(NORMS))
def test_the_autoencoder_takes_any_length(dim: int, latent: int, norm: str):
    net = ConvAutoencoder(dim, latent, [4, 6, 6, 8], [8, 2, 1, 2], norm)
    x = torch.randn(3, dim)
    z = net.encode(x)
    assert z.shape == (3, latent) and net.decode(z).shape == x.shape
    assert bool(net.decode(z).isfinite().all())


@settings(deadline=None)
@given(dim=st.integers(2, 5000), strides=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_strides_leave_enough_positions(dim: int, strides: list[int]):
    fitting = fitting_strides(strides, dim)
    assert all(1 <= ours <= wanted for ours, wanted in zip(fitting, strides, strict=True))
    assert math.ceil(dim / math.prod(fitting)) >= min(dim, SHORTEST)
    if dim >= SHORTEST * math.prod(strides):
        assert fitting == strides


@settings(max_examples=15, deadline=None)
@given(dim=st.integers(1, 100), latent=st.integers(1, 9), norm=st.sampled_from(NORMS))
def test_the_fully_connected_autoencoder_takes_any_length(dim: int, latent: int, norm: str):
    net = DenseAutoencoder(dim, latent, 8, 2, norm, code=2 * latent)
    x = torch.randn(3, dim)
    assert net.encode(x).shape == (3, 2 * latent)
    assert net.decode(net.encode(x)[:, :latent]).shape == x.shape


@given(dim=st.integers(100, 10**6), width=st.integers(2, 200), depth=st.integers(1, 5))
def test_the_matching_width_is_that_of_the_network_with_so_many_parameters(dim: int, width: int, depth: int):
    parameters = 2 * depth * (4 * width) ** 2 + (2 * dim + 17) * 4 * width
    assert matching_width(parameters, dim, 17, depth) == 4 * width
    assert matching_width(1, dim, 17, depth) == 4


def test_an_instance_without_channels_is_a_vector():
    h = DenseAutoencoder(6, 2, 8, 1, "instance").encoder[1].body[1](torch.randn(5, 8))
    assert torch.allclose(h.mean(1), torch.zeros(5), atol=1e-5)
    assert torch.allclose(h.var(1, correction=0), torch.ones(5), atol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_in_evaluation_a_vector_does_not_depend_on_its_batch(norm: str):
    net = ConvAutoencoder(50, 5, [4, 4], [4, 1], norm)
    net.train().encode(torch.randn(20, 50))  # running statistics, where there are some
    net.eval()
    x = torch.randn(6, 50)
    alone = torch.cat([net.decode(net.encode(row)) for row in x.split(1)])
    assert torch.allclose(net.decode(net.encode(x)), alone, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("batch", nn.BatchNorm1d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm1d)],
)
def test_every_layer_has_two_convolutions_and_its_norm(norm: str, kind: type[nn.Module]):
    net = ConvAutoencoder(64, 5, [4] * 4, [2] * 4, norm)
    for half, resample in ((net.encoder, nn.Conv1d), (net.decoder, nn.ConvTranspose1d)):
        assert len(half) == 4
        for layer in half:
            kinds = [type(module) for module in layer.modules()]
            assert kinds.count(kind) == 1
            assert kinds.count(nn.Conv1d) + kinds.count(nn.ConvTranspose1d) == 2 and resample in kinds


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("latent", [1, 2, 7, 16])
def test_denoisers_keep_the_shape_start_at_zero_and_see_the_time(kind: str, latent: int):
    with seeded("net"):
        net = make_denoiser(kind, latent, width=16, depth=3)
    z, t = torch.randn(5, latent), torch.tensor([0, 1, 10, 500, 999])
    assert torch.equal(net(z, t), torch.zeros(5, latent))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    assert not torch.allclose(net(z, t), net(z, t.flip(0)))
    assert torch.allclose(net(z, t)[:2], net(z[:2], t[:2]), atol=1e-5)
