"""Rounded products: which operations round, that everything else stays exact, and the rule of ``auto``."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from paramdiff.errors import ConfigError
from paramdiff.networks.precision import LARGE, RoundedProducts, is_fast, products

CPU = torch.device("cpu")


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


def test_convolutions_take_rounded_factors_and_give_float32():
    torch.manual_seed(0)
    x, conv = torch.randn(2, 3, 8, 8), nn.Conv2d(3, 4, 3)
    with RoundedProducts():
        out = conv(x)
    exact = functional.conv2d(rounded(x), rounded(conv.weight), rounded(conv.bias))  # type: ignore[arg-type]
    assert out.dtype == torch.float32
    assert not torch.equal(out, conv(x))
    assert torch.allclose(out, exact, rtol=2**-7, atol=1e-6)


def test_attention_and_linear_layers_over_tokens_round():
    torch.manual_seed(0)
    x, layer = torch.randn(2, 5, 16), nn.Linear(16, 16)
    with RoundedProducts():
        inside = [layer(x), x @ x.mT, torch.matmul(x, x.mT), functional.scaled_dot_product_attention(x, x, x)]
    outside = [layer(x), x @ x.mT, torch.matmul(x, x.mT), functional.scaled_dot_product_attention(x, x, x)]
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32
        assert not torch.equal(a, b)
        assert torch.allclose(a, b, rtol=0.05, atol=0.1)


def test_logits_normalisation_and_everything_else_stay_exact():
    torch.manual_seed(0)
    features, head, norm = torch.randn(4, 16), nn.Linear(16, 10), nn.BatchNorm2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    expected = head(features), norm(x).relu().mean((2, 3))
    with RoundedProducts():
        found = head(features), norm(x).relu().mean((2, 3))
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_gradients_pass():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with RoundedProducts():
        nn.Conv2d(3, 4, 3)(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_auto_rounds_large_networks_where_the_hardware_is_fast():
    assert isinstance(products("bfloat16", 10, CPU), RoundedProducts)
    assert not isinstance(products("float32", LARGE, CPU), RoundedProducts)
    assert not isinstance(products("auto", LARGE - 1, CPU), RoundedProducts)
    assert isinstance(products("auto", LARGE, CPU), RoundedProducts) == is_fast(CPU)
    assert not is_fast(torch.device("mps"))


def test_unknown_words_are_refused():
    with pytest.raises(ConfigError, match=r"precision: .*half"):
        products("half", 10, CPU)
