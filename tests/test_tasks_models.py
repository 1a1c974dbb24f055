"""Networks by name: their sizes, what their options change, and what a misfit says."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from paramdiff.errors import CheckpointError, ConfigError, TaskError
from paramdiff.files import save_tensors
from paramdiff.networks.shared_prefix import SharedPrefix
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.tasks.models import NETWORKS, library, make_network
from paramdiff.tasks.models.stem import small_stem

DIGITS = (1, 8, 8)
GREY, COLOUR = (1, 28, 28), (3, 32, 32)
TINY = "timm/test_vit"  # 0.4 M parameters, images of 160 x 160
TINY_IMAGES = (3, 160, 160)


def narrow(width: int = 10) -> nn.Module:
    """A user's own network."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width))


def not_a_module() -> str:
    return "hello"


class NoLogits(nn.Module):
    def forward(self, x: object) -> dict[str, object]:
        return {"logits": x}


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_meta(name: str, options: dict | None = None, shape: tuple = COLOUR, classes: int = 10) -> nn.Module:
    with torch.device("meta"):
        return make_network(name, options or {}, shape, classes)


@pytest.mark.parametrize(
    ("name", "options", "shape", "classes", "count"),
    [
        ("convnet3", {}, COLOUR, 10, 24_714),  # the paper's Tables 2 and 10
        ("convnet3", {}, COLOUR, 100, 70_884),
        ("mlp", {"first_bias": False}, COLOUR, 10, 155_135),
        ("mlp", {"hidden": [50]}, GREY, 10, 39_760),
        ("mlp", {}, COLOUR, 10, 3072 * 50 + 50 + 50 * 25 + 25 + 25 * 10 + 10),
        ("hyper_cnn", {}, GREY, 10, 2_464),  # Schürholt et al.
        ("hyper_cnn", {"activation": "gelu"}, (3, 28, 28), 10, 2_864),
        ("cifar_resnet20", {}, COLOUR, 10, 269_722),  # He et al.: 0.27 M, 0.85 M, 1.7 M
        ("cifar_resnet56", {}, COLOUR, 10, 853_018),
        ("cifar_resnet110", {}, COLOUR, 10, 1_727_962),
        ("torchvision/resnet18", {}, (3, 224, 224), 1000, 11_689_512),
        ("timm/resnet18", {}, (3, 224, 224), 1000, 11_689_512),
    ],
)
def test_networks_have_the_published_sizes(name: str, options: dict, shape: tuple, classes: int, count: int):
    assert size(on_meta(name, options, shape, classes)) == count


@pytest.mark.parametrize("name", [*NETWORKS, "torchvision/resnet18", "timm/test_resnet"])
def test_every_network_learns_from_its_images(name: str):
    images = torch.randn(2, *COLOUR)
    network = make_network(name, {"channels": [4, 4]} if name == "convnet3" else {}, COLOUR, 10)
    logits = network(images)
    logits.square().sum().backward()
    assert logits.shape == (2, 10)
    assert all(p.grad is not None for p in network.parameters())


def test_mlp_names_its_layers():
    assert [name for name, _ in make_network("mlp", {}, GREY, 10).named_children()] == [
        "flatten", "linear1", "relu1", "linear2", "relu2", "linear3",
    ]  # fmt: skip


def test_convnet_has_256_parameters_in_its_last_two_norms():
    network = make_network("convnet", {}, DIGITS, 10)
    spec = ParameterSpec.from_model(network, "last_norms:2")
    assert spec.dim == 256
    assert spec.names == ["norm2.weight", "norm2.bias", "norm3.weight", "norm3.bias"]


def test_convnet3_has_no_running_statistics_so_all_is_the_papers_count():
    assert ParameterSpec.from_model(on_meta("convnet3"), "all").dim == 24_714


def test_cifar_resnets_carry_the_names_of_the_shared_files():
    state = on_meta("cifar_resnet20").state_dict()
    assert {"conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer3.2.bn2.running_var"} <= set(state)
    assert list(state)[-2:] == ["linear.weight", "linear.bias"]


def test_parameter_free_shortcuts_pass_every_second_pixel():
    network = make_network("cifar_resnet20", {}, COLOUR, 10)
    x = torch.randn(2, 16, 32, 32)
    short = network.layer2[0].shortcut(x)
    assert torch.equal(short[:, 8:24], x[:, :, ::2, ::2])
    assert short.shape == (2, 32, 16, 16) and short[:, :8].abs().sum() + short[:, 24:].abs().sum() == 0


def test_cifar_resnets_can_be_traced_so_that_samples_share_most_of_the_network():
    network = make_network("cifar_resnet20", {}, COLOUR, 10)
    shared = SharedPrefix(network, ParameterSpec.from_model(network, "last_norms:2").names)
    shared.prefix(torch.randn(2, *COLOUR))
    assert not shared.whole


def test_options_change_the_network():
    assert make_network("mlp", {"hidden": []}, DIGITS, 10).linear1.weight.shape == (10, 64)
    assert make_network("convnet", {"channels": [4, 8]}, DIGITS, 3).head.weight.shape == (3, 8)
    assert make_network(TINY, {"arguments": {"img_size": 32}}, COLOUR, 7)(torch.zeros(1, *COLOUR)).shape == (
        1,
        7,
    )


def test_a_users_own_network():
    network = make_network(f"{__name__}:narrow", {"width": 12}, DIGITS, 10)
    assert network(torch.zeros(1, *DIGITS)).shape == (1, 12)


# Stems ---------------------------------------------------------------------------------------------------


def test_the_stem_of_the_reference_network():
    network = on_meta("torchvision/resnet18", {"small_stem": True, "stem_stride": 2}, classes=100)
    conv = network.conv1
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((3, 3), (2, 2), (1, 1), None)
    assert isinstance(network.maxpool, nn.Identity)


@pytest.mark.parametrize(
    ("name", "conv", "pool"),
    [
        ("torchvision/resnet50", "conv1", "maxpool"),
        ("timm/resnet18d", "conv1.0", "maxpool"),  # two more convolutions of stride 1 before the maximum
        ("torchvision/densenet121", "features.conv0", "features.pool0"),
        ("torchvision/mobilenet_v2", "features.0.0", None),
    ],
)
def test_stems_are_found_by_structure(name: str, conv: str, pool: str | None):
    small, plain = on_meta(name, {"small_stem": True}), on_meta(name)
    changed = [
        path
        for path, module in plain.named_modules()
        if repr(module) != repr(small.get_submodule(path)) and not list(module.children())
    ]
    assert changed == [conv, *([pool] if pool else [])]
    assert small.get_submodule(conv).stride == (1, 1)


def test_a_maximum_that_comes_later_is_not_part_of_the_stem():
    network = nn.Sequential(nn.Conv2d(3, 4, 7), nn.Conv2d(4, 4, 3, stride=2), nn.MaxPool2d(2))
    assert small_stem(network, 1) == ["0.weight", "0.bias"]
    assert isinstance(network[2], nn.MaxPool2d)


def test_a_network_without_convolution_has_no_stem():
    with pytest.raises(TaskError, match=r"^Linear has no convolution .*; leave out small_stem$"):
        small_stem(nn.Linear(2, 2), 1)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_grey_images(name: str):
    network = on_meta(name, {"small_stem": True}, (1, 28, 28))
    assert network.conv1.weight.shape == (64, 1, 3, 3)


# Weights -------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, make_network(TINY, {}, TINY_IMAGES, 10).state_dict())
    return path


def test_a_state_dict_is_loaded(weights: Path, said: list[str]):
    ours, other = (make_network(TINY, {"weights": str(weights)}, TINY_IMAGES, 10) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True))
    assert said == []


def test_another_number_of_classes_costs_the_head_only(weights: Path, said: list[str]):
    ours, other = (make_network(TINY, {"weights": str(weights)}, TINY_IMAGES, 7) for _ in range(2))
    state = other.state_dict()
    differ = [name for name, tensor in ours.state_dict().items() if not torch.equal(tensor, state[name])]
    assert differ == ["head.weight"]  # timm's heads start with a bias of zero
    assert said[0] == f"  {TINY}: weights kept, but head.weight, head.bias start afresh (7 classes)"


def test_a_changed_stem_starts_afresh_too(tmp_path: Path, said: list[str]):
    path = tmp_path / "weights.safetensors"
    save_tensors(path, make_network("timm/test_resnet", {}, TINY_IMAGES, 10).state_dict())
    make_network("timm/test_resnet", {"weights": str(path), "small_stem": True}, (1, 32, 32), 10)
    assert said == ["  timm/test_resnet: weights kept, but conv1.0.weight start afresh (10 classes)"]


def test_weights_of_another_network_are_refused(weights: Path):
    with pytest.raises(
        CheckpointError, match=r"weights.safetensors does not fit the task's network \(.*missing"
    ):
        make_network("timm/test_resnet", {"weights": str(weights)}, TINY_IMAGES, 10)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(library, "say", lines.append)
    return lines


def test_pretrained_weights_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]):
    released = make_network(TINY, {}, TINY_IMAGES, 1000)
    torch.save(released.state_dict(), tmp_path / "released.pth")
    monkeypatch.setattr(library, "require_on_hub", lambda repository: None)
    here = {"pretrained_cfg_overlay": {"file": str(tmp_path / "released.pth")}}
    network = make_network(TINY, {"pretrained": True, "arguments": here}, TINY_IMAGES, 10)
    assert torch.equal(network.norm.weight, released.norm.weight)
    assert torch.equal(network.blocks[0].attn.qkv.weight, released.blocks[0].attn.qkv.weight)
    assert said == [f"  {TINY}: weights kept, but head.weight, head.bias start afresh (10 classes)"]


def test_pretrained_weights_of_torchvision(monkeypatch: pytest.MonkeyPatch, said: list[str]):
    released = make_network("torchvision/resnet18", {}, TINY_IMAGES, 1000).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: released)
    options = {"pretrained": True, "small_stem": True}
    network = make_network("torchvision/resnet18", options, COLOUR, 10)
    assert torch.equal(network.layer4[1].conv2.weight, released["layer4.1.conv2.weight"])
    fresh = "fc.weight, fc.bias, conv1.weight start afresh (10 classes)"
    assert said == [f"  torchvision/resnet18: weights kept, but {fresh}"]


@pytest.mark.parametrize("name", [TINY, "torchvision/resnet18"])
def test_weights_that_cannot_be_had(name: str, monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(library, "require_on_hub", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    text = (
        rf"^the pretrained weights of {name} cannot be had \(ConnectionError: no network\); fetch them from "
        r"https://\S+, then set task.model_options.pretrained=false task.model_options.weights=FILE$"
    )
    with pytest.raises(TaskError, match=text):
        make_network(name, {"pretrained": True}, TINY_IMAGES, 10)


# Mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "convnt",
            {},
            r"^model: 'convnt' is not known; expected convnet, .* or package.module:attr; did you",
        ),
        ("mlp", {"hiden": [3]}, r"^model_options.hiden: mlp has no such option; did you mean hidden$"),
        ("mlp", {"hidden": [0]}, r"^model_options.hidden: 0 is out of range; expected at least 1$"),
        ("mlp", {"hidden": 3}, r"^model_options: {'hidden': 3} do not fit mlp"),
        ("convnet", {"channels": []}, r"^model_options.channels: 0 values; expected 1 to 100$"),
        ("hyper_cnn", {"activation": "tan"}, r"^model_options.activation: 'tan' is not known; .* mean tanh$"),
        (
            "cifar_resnet20",
            {"depth": 3},
            r"^model_options.depth: cifar_resnet20 has no such option; leave it",
        ),
        (TINY, {"wieghts": "x"}, rf"^model_options.wieghts: {TINY} has no such option; did you mean weights"),
        (TINY, {"stem_stride": 0}, r"^model_options.stem_stride: 0 is out of range; expected at least 1$"),
        (TINY, {"pretrained": True, "weights": "x"}, r"^model_options.weights: pretrained is set as well"),
    ],
)
def test_mistakes_in_the_configuration(name: str, options: dict, text: str):
    with pytest.raises(ConfigError, match=text):
        make_network(name, options, DIGITS, 10)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("timm/resnet19", {}, r"^timm has no network 'resnet19'; did you mean resnet18"),
        ("torchvision/resnet19", {}, r"^torchvision has no network 'resnet19'; did you mean resnet18"),
        ("timm/botnet50ts_256", {"pretrained": True}, r"^timm has no weights for 'botnet50ts_256'; did you"),
        (
            TINY,
            {"arguments": {"foo": 1}},
            f"^model_options.foo: {TINY} has no such option; ",
        ),
        ("timm/vit_tiny_patch16_224", {}, r"cannot take images of 3x32x32 \(.*224.*\); set task.image_size"),
        ("torchvision/alexnet", {}, r"^torchvision/alexnet cannot take images of 3x32x32 \(RuntimeError: "),
    ],
)
def test_misfits_of_library_networks(name: str, options: dict, text: str):
    with pytest.raises((ConfigError, TaskError), match=text):
        on_meta(name, options)


@pytest.mark.parametrize("name", ["convnet3", "hyper_cnn"])
def test_images_that_are_too_small(name: str):
    with pytest.raises(TaskError, match=rf"^{name} cannot take images of 3x7x7: nothing is left of them; "):
        make_network(name, {}, (3, 7, 7), 10)


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(TaskError, match=r'^timm is not installed; pip install "paramdiff\[vision\]"$'):
        make_network(TINY, {}, TINY_IMAGES, 10)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("narow", {}, r"has no 'narow'; did you mean narrow"),
        ("narrow", {"depth": 3}, r"called with {'depth': 3} failed \(TypeError: .*depth"),
        ("not_a_module", {}, r"returned a str; expected a torch.nn.Module"),
        ("narrow", {"width": 5}, r"narrow gives outputs of shape \[1, 5\] for one image; expected \[1, 10\]"),
        (
            "NoLogits",
            {},
            r"NoLogits gives a dict for one image; expected \[1, 10\], one number for each class",
        ),
    ],
)
def test_mistakes_in_a_users_network(name: str, options: dict, text: str):
    with pytest.raises(TaskError, match=text):
        make_network(f"{__name__}:{name}", options, DIGITS, 10)


def test_images_that_a_users_network_cannot_take():
    with pytest.raises(TaskError, match=r"narrow cannot take images of 1x28x28 \(RuntimeError: "):
        make_network(f"{__name__}:narrow", {}, GREY, 10)


MIXER = "timm/gmixer_12_224"


def test_what_the_library_takes_is_passed_on():
    """Without a list of its arguments: what it refuses, it refuses itself."""
    grid = on_meta(MIXER, {"img_size": 64}, (3, 64, 64))
    assert grid.state_dict()["blocks.0.mlp_tokens.fc2.weight"].shape[0] == 16, "(64 / 16)^2 patches"
    narrow = on_meta("torchvision/mobilenet_v3_small", {"width_mult": 0.25, "dropout": 0.0}, (3, 64, 64))
    assert size(narrow) < 500_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"img_sise": 64}, f"^model_options.img_sise: {MIXER} has no such option; did you mean img_size"),
        (
            {"pretraned": True},
            f"^model_options.pretraned: {MIXER} has no such option; did you mean pretrained",
        ),
        ({"img_size": "abc"}, rf"^{MIXER} with {{'img_size': 'abc'}} failed \(.*; set task.model_options"),
        ({"img_size": 64, "arguments": {"img_size": 32}}, "img_size: it is among the arguments as well"),
        ({"checkpoint_path": "x.pth"}, "model_options.checkpoint_path: .* give it as weights=FILE"),
    ],
)
def test_what_the_library_refuses_is_one_line(options: dict, text: str):
    with pytest.raises((ConfigError, TaskError), match=text) as caught:
        on_meta(MIXER, options, (3, 64, 64))
    assert "\n" not in str(caught.value)
