"""How much is shared in networks people use, counted in operations; the outputs are those of the plain network."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from paramdiff.networks.shared_prefix import SharedPrefix
from paramdiff.parameters.spec import ParameterSpec
from test_networks_shared_prefix import plain, randomised, states

ROUNDING = 64 * torch.finfo(torch.float32).eps
"""Of the largest output. Both ways do the same operations on numbers of the same kind, so that all they may differ
in is the order of sums inside an operation."""


def operations(act) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        act()
    return counted.get_total_flops()


def own_share(network: nn.Module, select: str, x: torch.Tensor) -> float:
    """Operations of the suffix over those of the network, after a comparison of their outputs."""
    network.requires_grad_(False)  # the counter wants to differentiate what goes into a module
    spec = ParameterSpec.from_model(network, select)
    split = SharedPrefix(network, spec.keys)
    boundary = split.prefix(x)
    assert not split.whole
    for state in states(network, spec, 2):
        with torch.no_grad():
            outputs, expected = (
                tree_leaves(y) for y in (split.suffix(boundary, state), plain(network, state, x))
            )
        for a, b in zip(outputs, expected, strict=True):
            assert float((a - b).abs().max()) <= ROUNDING * float(b.abs().max())
    whole, prefix = operations(lambda: network(x)), operations(lambda: split.prefix(x))
    suffix = operations(lambda: split.suffix(boundary, state))
    assert prefix + suffix == whole  # nothing is computed twice
    return suffix / whole


@pytest.mark.parametrize(
    ("name", "options", "size", "share"),
    [
        (
            "vit_tiny_patch16_224",
            {"img_size": 64},
            64,
            0.053,
        ),  # the last block's MLP of 12 blocks, and the head
        ("convnext_tiny", {}, 32, 0.052),  # the last block's MLP of 18 blocks, and the head
    ],
)
def test_tiny_transformers_and_convnexts_of_timm(name: str, options: dict[str, int], size: int, share: float):
    timm = pytest.importorskip("timm")
    network = randomised(timm.create_model(name, pretrained=False, num_classes=10, **options))
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert own_share(network, "last_norms:2", x) == pytest.approx(share, abs=0.001)


class Own(nn.Module):
    """A residual connection around a generated layer, a layer that is used before and after it, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head, self.side = nn.BatchNorm2d(8), nn.Linear(8, 4), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.twice(self.stem(x).relu_())
        again = self.twice(self.norm(h).relu_()) + h
        return {"logits": self.head(again.mean((2, 3))), "side": self.side(h.mean((2, 3)))}


def test_an_own_module_with_a_residual_two_outputs_and_a_layer_used_twice():
    network, pixels = randomised(Own()), 16 * 16
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    convolution, stem, head, side = 8 * 8 * 9 * pixels, 3 * 8 * 9 * pixels, 8 * 4, 8 * 2
    total = 2 * convolution + stem + head + side
    assert own_share(network, "norm", x) == pytest.approx((convolution + head) / total)
    assert own_share(network, "side", x) == pytest.approx(side / total)
    assert own_share(network, "twice", x) == pytest.approx((2 * convolution + head + side) / total)
