"""Networks by name."""

import pytest
import torch
from torch import nn

from paramdiff.errors import ConfigError, TaskError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.tasks.models import make_network

DIGITS = (1, 8, 8)


def narrow(width: int = 2) -> nn.Module:
    """A user's own network."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width))


def not_a_module() -> str:
    return "hello"


def test_mlp_is_the_papers():
    network = make_network("mlp", {}, (1, 28, 28), 10)
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 2] == [(50, 784), (25, 50), (10, 25)]
    assert [name for name, _ in network.named_children()] == [
        "flatten", "linear1", "relu1", "linear2", "relu2", "linear3",
    ]  # fmt: skip
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_mlp_of_cifar_has_the_papers_size_and_a_first_bias():
    assert sum(p.numel() for p in make_network("mlp", {}, (3, 32, 32), 10).parameters()) == 155_135 + 50


def test_convnet_has_256_parameters_in_its_last_two_norms():
    network = make_network("convnet", {}, DIGITS, 10)
    spec = ParameterSpec.from_model(network, "last_norms:2")
    assert spec.dim == 256
    assert spec.names == ["norm2.weight", "norm2.bias", "norm3.weight", "norm3.bias"]
    assert network(torch.zeros(3, *DIGITS)).shape == (3, 10)


def test_options_change_the_network():
    assert make_network("mlp", {"hidden": []}, DIGITS, 10).linear1.weight.shape == (10, 64)
    assert make_network("convnet", {"channels": [4, 8]}, DIGITS, 3).head.weight.shape == (3, 8)


def test_a_users_own_network():
    network = make_network(f"{__name__}:narrow", {"width": 5}, DIGITS, 10)
    assert network(torch.zeros(1, *DIGITS)).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("convnt", {}, r"^model: 'convnt' is not known; expected convnet, mlp or .*; did you mean convnet$"),
        ("mlp", {"hiden": [3]}, r"^model_options.hiden: mlp has no such option; did you mean hidden$"),
        ("mlp", {"hidden": [0]}, r"^model_options.hidden: 0 is out of range; expected at least 1$"),
        ("mlp", {"hidden": 3}, r"^model_options: {'hidden': 3} do not fit mlp"),
        ("convnet", {"channels": []}, r"^model_options.channels: 0 is out of range; expected at least 1$"),
    ],
)  # fmt: skip
def test_mistakes_in_the_configuration(name: str, options: dict, text: str):
    with pytest.raises(ConfigError, match=text):
        make_network(name, options, DIGITS, 10)


def test_mistakes_in_a_users_network():
    with pytest.raises(TaskError, match=r"has no 'narow'; did you mean narrow"):
        make_network(f"{__name__}:narow", {}, DIGITS, 10)
    with pytest.raises(TaskError, match=r"called with {'depth': 3} failed \(TypeError: .*depth"):
        make_network(f"{__name__}:narrow", {"depth": 3}, DIGITS, 10)
    with pytest.raises(TaskError, match=r"returned a str; expected a torch.nn.Module"):
        make_network(f"{__name__}:not_a_module", {}, DIGITS, 10)
