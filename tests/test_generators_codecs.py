from dataclasses import replace

import pytest
import torch

from paramdiff.devices import size
from paramdiff.errors import ConfigError
from paramdiff.generators import autoencoder
from paramdiff.generators.architectures import NORMS, Network
from paramdiff.generators.autoencoder import (
    ARCHITECTURES,
    Autoencoder,
    DenoisingCodec,
    Unchunked,
    make_autoencoder,
)
from paramdiff.generators.linear_autoencoder import LinearAutoencoder, LinearCodec
from paramdiff.generators.reconstruction_check import explained_variance
from toy_zoos import curve, scattered

SMALL = Autoencoder(latent=8, channels=[8, 8], strides=[4, 1], steps=150)


def normalised(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors - vectors.mean(0)) / vectors.std(0, correction=0)


def fitted(x: torch.Tensor, **settings: object) -> DenoisingCodec:
    codec = DenoisingCodec(replace(SMALL, **settings), device="cpu")  # type: ignore[arg-type]
    codec.fit(x)
    return codec


def test_the_autoencoder_learns_a_trajectory_and_held_out_points_of_it():
    x = normalised(curve(60, 64))
    held, seen = x[::10], x[torch.arange(60) % 10 != 0]
    codec = fitted(seen)
    assert explained_variance(held, codec.decode(codec.encode(held)), seen.mean(0)) > 0.9
    assert codec.losses[-1] < 0.1 * codec.losses[0]


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMS)
def test_every_codec_learns_with_every_norm_and_encodes_a_vector_by_itself(norm: str, kind: str):
    x = normalised(curve(40, 32))
    codec = fitted(x, norm=norm, architecture=kind)
    z = codec.encode(x)
    again = codec.decode(z)
    assert explained_variance(x, again, x.mean(0)) > 0.8
    assert torch.allclose(torch.cat([codec.encode(row) for row in x[:5].split(1)]), z[:5], atol=1e-4)
    assert torch.allclose(torch.cat([codec.decode(row) for row in z[:5].split(1)]), again[:5], atol=1e-4)


@pytest.mark.parametrize("dim", [300, 2048, 100_000])
def test_the_fully_connected_codec_has_as_many_parameters_as_the_convolutional_one(dim: int):
    with torch.device("meta"):
        nets = [make_autoencoder(Autoencoder(architecture=kind), dim, 128) for kind in ARCHITECTURES]
    conv, fc = (size(net) for net in nets)
    assert fc == pytest.approx(conv, rel=0.05)
    assert dim < 100_000 or fc < 60e6


def untrained(dim: int, **settings: object) -> tuple[DenoisingCodec, Network]:
    codec = DenoisingCodec(replace(SMALL, **settings), device="cpu")  # type: ignore[arg-type]
    codec.sequences = Unchunked(dim)
    return codec, codec._build(dim)


def test_noise_of_zero_is_no_noise():
    x, draw = normalised(curve(20, 16)), torch.Generator()
    codec, net = untrained(16, latent_noise=0.0, parameter_noise=0.0)
    clean = (net.decode(net.encode(x)) - x).square().mean()
    assert codec._objective(net, x, draw).item() == pytest.approx(clean.item(), rel=1e-6)


def test_latent_noise_is_relative_to_the_latents():
    """Latents a thousand times larger meet noise a thousand times larger: there is nothing to be gained."""
    x, (codec, net) = normalised(curve(20, 16)), untrained(16, latent_noise=0.5)
    loss = sum(codec._parts(net, x, step=0))
    loss.backward()
    up, down = [net.to_latent.weight, net.to_latent.bias], [net.from_latent.weight]
    gains = [(p.grad * p).sum().item() * sign for ps, sign in ((up, 1), (down, -1)) for p in ps]
    assert abs(sum(gains)) < 1e-5 * sum(abs(gain) for gain in gains) + 1e-6
    for parameters, factor in ((up, 1e3), (down, 1e-3)):
        for parameter in parameters:
            parameter.data.mul_(factor)
    assert sum(codec._parts(net, x, step=0)).item() == pytest.approx(loss.item(), rel=1e-4)


def test_noise_is_added_in_training_only():
    x = normalised(curve(20, 16))
    codec, net = untrained(16, latent_noise=0.5, parameter_noise=0.5)
    clean = (net.decode(net.encode(x)) - x).square().mean().item()
    noisy = [sum(codec._parts(net, x, step)).item() for step in (0, 0, 1)]
    assert noisy[0] == noisy[1] != noisy[2] and noisy[0] > clean
    codec.net = net.eval()
    assert torch.equal(codec.encode(x), codec.encode(x))


def test_members_that_are_equal_give_finite_gradients():
    x = torch.ones(4, 16)
    codec, net = untrained(16)
    sum(codec._parts(net, x, step=0)).backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters())


def test_long_vectors_are_processed_in_small_batches(monkeypatch: pytest.MonkeyPatch):
    x = normalised(curve(20, 32))
    codec = fitted(x, steps=3)
    whole = codec.decode(codec.encode(x))
    monkeypatch.setattr(autoencoder, "ELEMENTS_AT_ONCE", 96)
    assert codec._rows(32, 100) == 3 and codec._rows(10_000, 100) == 2
    assert torch.allclose(codec.decode(codec.encode(x)), whole, atol=1e-5)


def test_the_gradient_of_a_batch_is_accumulated_over_parts(monkeypatch: pytest.MonkeyPatch):
    x = normalised(curve(20, 32))
    codec, net = untrained(32, latent_noise=0.0, parameter_noise=0.0, batch=10)

    def gradient() -> tuple[int, torch.Tensor]:
        net.zero_grad()
        parts = list(codec._parts(net, x, step=3))
        sum(parts).backward()
        return len(parts), torch.cat([p.grad.flatten() for p in net.parameters()])

    count, whole = gradient()
    monkeypatch.setattr(autoencoder, "ELEMENTS_AT_ONCE", 3 * 32)
    more, accumulated = gradient()
    assert (count, more) == (1, 4)  # 3, 3, 2 and 2 members
    assert torch.allclose(accumulated, whole, atol=1e-6) and whole.abs().max() > 1e-3


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_long_vectors_are_cut_and_learnt(kind: str):
    x = normalised(curve(60, 500))
    held, seen = x[::10], x[torch.arange(60) % 10 != 0]
    codec = fitted(seen, chunk=64, components=8, architecture=kind)
    assert codec.net.dim == 8 * 8
    assert explained_variance(held, codec.decode(codec.encode(held)), seen.mean(0)) > 0.9
    again = DenoisingCodec(codec.settings)
    again.load_state_dict(codec.state_dict())
    assert torch.equal(again.decode(again.encode(x)), codec.decode(codec.encode(x)))
    assert isinstance(fitted(seen, chunk=500, steps=1).sequences, Unchunked)
    assert isinstance(fitted(seen, chunk=0, steps=1).sequences, Unchunked)


def test_settings_are_checked():
    for wrong, text in [
        ({"strides": [4]}, "strides: 1 strides for 2 channels; expected one stride per layer"),
        ({"channels": []}, "channels: 0 values; expected 1 to 32"),
        ({"architecture": "linear"}, "architecture: 'linear' is not known; expected one of conv, fc"),
        ({"norm": "layer"}, "norm: 'layer' is not known"),
        ({"chunk": -1}, "chunk: -1 is out of range"),
        ({"components": 0}, "components: 0 is out of range"),
        ({"latent": 0}, "latent: 0 is out of range"),
        ({"latent_noise": -1.0}, "latent_noise: -1.0 is out of range"),
        ({"lr": 0.0}, "lr: 0.0 is out of range; expected more than 0"),
    ]:
        with pytest.raises(ConfigError, match=text):
            replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_the_linear_codec_is_exact_within_the_span():
    x = normalised(scattered(9, 40))
    codec = LinearCodec(LinearAutoencoder(components=64))
    codec.fit(x)
    assert codec.encode(x).shape == (9, 8)
    assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-4)
    with pytest.raises(ConfigError, match="components: 0 is out of range"):
        LinearAutoencoder(components=0)


def test_an_unknown_member_is_rebuilt_near_the_mean_where_members_share_nothing():
    """In the components of the others it is small, and must stay so: a norm for each vector would make it large."""
    x = normalised(scattered(40, 600))
    seen, held = x[:36], x[36:]
    lost = {}
    for norm in ("auto", "group"):
        codec = fitted(seen, chunk=100, components=64, norm=norm, steps=300)
        assert explained_variance(seen, codec.decode(codec.encode(seen)), seen.mean(0)) > 0.5
        lost[norm] = (codec.decode(codec.encode(held)) - seen.mean(0)).square().mean().item()
    assert lost["auto"] < 0.5 * lost["group"]
