from dataclasses import replace

import pytest
import torch

from paramdiff.errors import ConfigError
from paramdiff.generators import codec_conv
from paramdiff.generators.codec_conv import ConvCodec, ConvSettings
from paramdiff.generators.codec_linear import LinearCodec, LinearSettings
from paramdiff.generators.gate import explained_variance
from toy_zoos import curve, scattered

SMALL = ConvSettings(latent=8, channels=[8, 8], strides=[4, 1], autoencoder_steps=150, device="cpu")


def normalised(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors - vectors.mean(0)) / vectors.std(0, correction=0)


def fitted(x: torch.Tensor, **settings: object) -> ConvCodec:
    codec = ConvCodec(replace(SMALL, **settings))  # type: ignore[arg-type]
    codec.fit(x)
    return codec


def test_the_autoencoder_learns_a_trajectory_and_held_out_points_of_it():
    x = normalised(curve(60, 64))
    held, seen = x[::10], x[torch.arange(60) % 10 != 0]
    codec = fitted(seen)
    assert explained_variance(held, codec.decode(codec.encode(held)), seen.mean(0)) > 0.9
    assert codec.losses[-1] < 0.1 * codec.losses[0]


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_other_norms_learn_too(norm: str):
    x = normalised(curve(40, 32))
    codec = fitted(x, norm=norm)
    assert explained_variance(x, codec.decode(codec.encode(x)), x.mean(0)) > 0.8


def test_latent_noise_is_relative_to_the_latents():
    """Latents a thousand times larger meet noise a thousand times larger: there is nothing to be gained."""
    x, codec = normalised(curve(20, 16)), ConvCodec(replace(SMALL, latent_noise=0.5))
    net = codec._build(16)
    loss = codec._loss(net, x, step=0)
    loss.backward()
    up, down = [net.to_latent.weight, net.to_latent.bias], [net.from_latent.weight]
    gains = [(p.grad * p).sum().item() * sign for ps, sign in ((up, 1), (down, -1)) for p in ps]
    assert abs(sum(gains)) < 1e-5 * sum(abs(gain) for gain in gains) + 1e-6
    for parameters, factor in ((up, 1e3), (down, 1e-3)):
        for parameter in parameters:
            parameter.data.mul_(factor)
    assert codec._loss(net, x, step=0).item() == pytest.approx(loss.item(), rel=1e-4)


def test_noise_is_added_in_training_only():
    x = normalised(curve(20, 16))
    codec = ConvCodec(replace(SMALL, latent_noise=0.5, parameter_noise=0.5))
    net = codec._build(16)
    clean = (net.decode(net.encode(x)) - x).square().mean().item()
    noisy = [codec._loss(net, x, step).item() for step in (0, 0, 1)]
    assert noisy[0] == noisy[1] != noisy[2] and noisy[0] > clean
    codec.net = net.eval()
    assert torch.equal(codec.encode(x), codec.encode(x))


def test_members_that_are_equal_give_finite_gradients():
    x = torch.ones(4, 16)
    codec = ConvCodec(SMALL)
    net = codec._build(16)
    codec._loss(net, x, step=0).backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters())


def test_long_vectors_are_processed_in_small_batches(monkeypatch: pytest.MonkeyPatch):
    x = normalised(curve(20, 32))
    codec = fitted(x, autoencoder_steps=3)
    whole = codec.decode(codec.encode(x))
    monkeypatch.setattr(codec_conv, "ELEMENTS_AT_ONCE", 96)
    assert codec._rows(32, 100) == 3 and codec._rows(10_000, 100) == 2
    assert torch.allclose(codec.decode(codec.encode(x)), whole, atol=1e-5)


def test_settings_are_checked():
    for wrong, text in [
        ({"strides": [4]}, "strides: 1 strides for 2 channels; expected one stride per layer"),
        ({"channels": []}, "channels: 0 is out of range"),
        ({"norm": "layer"}, "norm: 'layer' is not known"),
        ({"latent": 0}, "latent: 0 is out of range"),
        ({"latent_noise": -1.0}, "latent_noise: -1.0 is out of range"),
        ({"autoencoder_lr": 0.0}, "autoencoder_lr: 0.0 is out of range; expected more than 0"),
    ]:
        with pytest.raises(ConfigError, match=text):
            replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_the_linear_codec_is_exact_within_the_span():
    x = normalised(scattered(9, 40))
    codec = LinearCodec(LinearSettings(components=64))
    codec.fit(x)
    assert codec.encode(x).shape == (9, 8)
    assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-4)
    with pytest.raises(ConfigError, match="components: 0 is out of range"):
        LinearSettings(components=0)
