"""The oracle: a network whose units were reordered gives the same outputs, to rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from paramdiff.networks.symmetry import Symmetries, TensorAxis, find_symmetries, permute


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def prepared(network):
    """Eval mode, double precision, with values at which no layer is the identity or blind to its input."""
    random = torch.Generator().manual_seed(0)
    network = network.double().eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=random) - (0.3 if tensor.ndim > 1 else -0.5))
    return network


def shuffled(network, symmetries, seed=0):
    random = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(group.size, generator=random) for group in symmetries.groups]
    return permute(network.state_dict(), symmetries, orders)


@torch.no_grad()
def check(network, *inputs, sizes):
    """Groups of these sizes, in this order, that leave the outputs as they are; returns them."""
    network = prepared(network)
    symmetries = find_symmetries(network)
    assert isinstance(symmetries, Symmetries), symmetries
    assert [group.size for group in symmetries.groups] == sizes
    before = network(*inputs)
    after = functional_call(network, shuffled(network, symmetries), inputs)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))
    return symmetries


def keys(symmetries):
    return {place.key for group in symmetries.groups for place in group.places}


def why(network):
    found = find_symmetries(network)
    assert isinstance(found, str), found
    return found


def mlp(*between):
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, 3))


def convnet(*between, features=5 * 4 * 4):
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), *between, nn.Flatten(), nn.Linear(features, 3))


class Forward(nn.Module):
    """Some layers and a forward pass: ``Forward(lambda self, x: ..., a=layer, ...)``."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


ROWS, IMAGES = randn(4, 6), randn(2, 3, 4, 4)


def test_places_of_an_mlp():
    found = check(nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh(),
                                nn.Dropout(), nn.Linear(5, 3)), ROWS, sizes=[8, 5])  # fmt: skip
    assert found.groups[0].places == (
        TensorAxis("1.weight", 0),
        TensorAxis("1.bias", 0),
        TensorAxis("3.weight", 1),
    )
    assert found.groups[1].places == (
        TensorAxis("3.weight", 0),
        TensorAxis("3.bias", 0),
        TensorAxis("6.weight", 1),
    )


def test_every_tensor_of_a_group_moves():
    network = prepared(convnet(nn.BatchNorm2d(5), nn.ReLU()))
    found = find_symmetries(network)
    before, after = network.state_dict(), shuffled(network, found)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == keys(found) == set(before) - {"1.num_batches_tracked", "4.bias"}


def test_permute_puts_the_chosen_unit_first():
    network = prepared(mlp(nn.ReLU()))
    order = torch.tensor([3, 0, 1, 2, 4, 5, 6, 7])
    state = permute(network.state_dict(), find_symmetries(network), [order])
    assert torch.equal(state["0.weight"][0], network[0].weight[3])
    assert torch.equal(state["2.weight"][:, 0], network[2].weight[:, 3])


def test_permute_needs_an_order_per_group():
    network = mlp()
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        permute(network.state_dict(), find_symmetries(network), [])


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.flatten(1),
        lambda x: torch.flatten(x, start_dim=1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.view((x.size(0), 80)),
        lambda x: x.view(-1, 80),
        lambda x: x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)),
        lambda x: x.flatten(2).flatten(1),
    ],
    ids=range(8),
)
def test_a_channel_is_a_run_of_features_behind_a_flatten(flatten):
    network = Forward(lambda self, x: self.head(flatten(torch.relu(self.conv(x)))),
                      conv=nn.Conv2d(3, 5, 3, padding=1), head=nn.Linear(80, 3))  # fmt: skip
    found = check(network, IMAGES, sizes=[5])
    assert found.groups[0].places[-1] == TensorAxis("head.weight", 1, block=16)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.BatchNorm2d(5), nn.ReLU()],
        [nn.BatchNorm2d(5, affine=False), nn.MaxPool2d(1), nn.LeakyReLU()],
        [nn.GroupNorm(1, 5), nn.GELU()],
        [nn.GroupNorm(5, 5)],
        [nn.InstanceNorm2d(5, affine=True, track_running_stats=True)],
        [nn.PReLU(5)],
        [nn.PReLU()],
        [nn.Dropout2d(), nn.ZeroPad2d(1), nn.AvgPool2d(3, stride=1)],
        [nn.LayerNorm([5, 4, 4])],
        [nn.LayerNorm([4, 4])],
        [nn.RMSNorm([5, 4, 4])],
        [nn.Identity(), nn.AdaptiveMaxPool2d(4)],
        [nn.Flatten(), nn.BatchNorm1d(80)],
    ],
    ids=lambda layers: "-".join(type(layer).__name__ for layer in layers),
)
def test_layers_between_a_convolution_and_the_head(layers):
    check(convnet(*layers), IMAGES, sizes=[5])


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(8), nn.LayerNorm(8), nn.RMSNorm(8), nn.GroupNorm(1, 8), nn.LayerNorm(8, bias=False)],
    ids=lambda layer: type(layer).__name__,
)
def test_norms_between_linear_layers(layer):
    found = check(mlp(layer, nn.SiLU()), ROWS, sizes=[8])
    assert {name for name, _ in layer.named_parameters()} <= {key[2:] for key in keys(found) if key[0] == "1"}


class NormAct(nn.BatchNorm2d):
    """A norm that is more than it inherits, as those of timm are."""

    def __init__(self, channels, activation):
        super().__init__(channels)
        self.activation = activation

    def forward(self, x):
        return self.activation(super().forward(x)) if x.shape[0] else x


class ScaleNorm(nn.Module):
    """Somebody's own norm over the last axis, written such that it cannot be traced."""

    def __init__(self, units):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))

    def forward(self, x):
        return x / (x.norm(dim=-1, keepdim=True) if x.sum() < 1e9 else 1) * self.weight


def test_layers_of_unknown_kind_are_tried():
    found = check(convnet(NormAct(5, nn.ReLU())), IMAGES, sizes=[5])
    assert {"1.weight", "1.running_mean", "1.running_var"} <= keys(found)
    assert "1.weight" in keys(check(mlp(ScaleNorm(8)), ROWS, sizes=[8]))
    assert why(convnet(NormAct(5, lambda x: x.cumsum(1))))
    assert why(mlp(ScaleNorm(1)))
    with torch.device("meta"):
        assert why(mlp(ScaleNorm(8)))


class InPlaceNorm(ScaleNorm):
    def forward(self, x):
        return x.mul_(self.weight)


def test_a_layer_that_writes_into_its_input_is_tried():
    assert "1.weight" in keys(check(mlp(InPlaceNorm(8)), ROWS, sizes=[8]))


def test_trying_a_layer_leaves_it_as_it_was():
    layer = NormAct(5, nn.ReLU(inplace=True)).train()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    assert isinstance(find_symmetries(convnet(layer)), Symmetries)
    assert layer.training and all(torch.equal(before[name], t) for name, t in layer.state_dict().items())


def test_weights_that_are_used_by_functions():
    network = Forward(
        lambda self, x: self.b((functional.linear(x, self.a.weight) * self.c.weight + self.a.bias).relu()),
        a=nn.Linear(6, 8), b=nn.Linear(8, 3), c=nn.LayerNorm(8),
    )  # fmt: skip
    found = check(network, ROWS, sizes=[8])
    assert {"a.weight", "a.bias", "b.weight", "c.weight"} == keys(found)
    bias = Forward(lambda self, x: self.b(functional.linear(x, self.a.weight, bias=self.a.bias)),
                   a=nn.Linear(6, 8), b=nn.Linear(8, 3))  # fmt: skip
    check(bias, ROWS, sizes=[8])


def test_running_statistics_are_not_learnt():
    places = {place.key: place for place in find_symmetries(mlp(nn.BatchNorm1d(8))).groups[0].places}
    assert places["1.running_mean"].learnt is places["1.running_var"].learnt is False
    assert places["1.weight"].learnt is True


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_of_any_dimension(dims):
    conv, up = getattr(nn, f"Conv{dims}d"), getattr(nn, f"ConvTranspose{dims}d")
    network = nn.Sequential(conv(2, 4, 3, bias=False), nn.ReLU(), up(4, 6, 3), nn.ReLU(), conv(6, 2, 1))
    check(network, randn(2, 2, *[5] * dims), sizes=[4, 6])


def test_depthwise_convolutions_keep_the_group():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1, groups=4),
                            nn.ReLU(), nn.Conv2d(8, 5, 1), nn.Flatten(), nn.Linear(20, 3))  # fmt: skip
    found = check(network, IMAGES, sizes=[4, 5])
    assert TensorAxis("2.weight", 0, block=2) in found.groups[0].places
    assert TensorAxis("4.weight", 1, block=2) in found.groups[0].places
    up = nn.ConvTranspose2d(4, 8, 2, groups=4)
    check(nn.Sequential(nn.Conv2d(3, 4, 1), up, nn.ReLU(), nn.Conv2d(8, 2, 1)), IMAGES, sizes=[4])


def test_other_grouped_convolutions_keep_their_order():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 5, 1), nn.ReLU(),
                            nn.Conv2d(5, 3, 1))  # fmt: skip
    check(network, IMAGES, sizes=[5])
    assert why(convnet(nn.GroupNorm(2, 6))[1:]) == "none of its hidden units can be reordered"
    check(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 3, 1)),
          IMAGES, sizes=[5])  # fmt: skip


def test_residual_sums_join_groups():
    network = Forward(
        lambda self, x: self.head(self.join((h := self.stem(x)) + self.two(torch.relu(self.one(h))))),
        stem=nn.Linear(6, 8), one=nn.Linear(8, 5), two=nn.Linear(5, 8), join=nn.LayerNorm(8),
        head=nn.Linear(8, 3),
    )  # fmt: skip
    found = check(network, ROWS, sizes=[8, 5])
    stream = {(place.key, place.axis) for place in found.groups[0].places}
    assert {("stem.weight", 0), ("one.weight", 1), ("two.weight", 0), ("head.weight", 1)} <= stream


def test_a_tensor_may_have_one_group_on_both_axes():
    network = Forward(lambda self, x: self.head((h := self.stem(x)) + torch.relu(self.mix(h))),
                      stem=nn.Linear(6, 8), mix=nn.Linear(8, 8), head=nn.Linear(8, 3))  # fmt: skip
    found = check(network, ROWS, sizes=[8])
    assert {(p.key, p.axis) for p in found.groups[0].places} >= {("mix.weight", 0), ("mix.weight", 1)}


def test_a_module_called_twice_obeys_both_calls():
    network = Forward(lambda self, x: self.c(self.b(torch.relu(self.b(torch.relu(self.a(x)))))),
                      a=nn.Linear(6, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 3))  # fmt: skip
    check(network, ROWS, sizes=[8])


def test_gates_and_scales_are_followed():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 3, 1)
            self.down, self.up, self.spatial = nn.Conv2d(5, 2, 1), nn.Conv2d(2, 5, 1), nn.Conv2d(5, 1, 1)
            self.gamma, self.scale = nn.Parameter(torch.ones(5, 1, 1)), nn.Parameter(torch.ones(1))
            self.position = nn.Parameter(torch.ones(1, 4, 4))

        def forward(self, x):
            x = self.stem(x) * self.position / (x.size(1) // 2)
            x = x * torch.sigmoid(self.up(functional.relu(self.down(x.mean((2, 3), keepdim=True)))))
            x = x * torch.sigmoid(self.spatial(x))
            return self.head(x * self.gamma * self.scale.exp())

    found = check(Block(), IMAGES, sizes=[5, 2])
    assert "gamma" in keys(found) and "position" not in keys(found)


def test_reordered_axes_are_followed():
    """A block of ConvNeXt: linear layers over the channels, which are last in between."""
    network = Forward(
        lambda self, x: self.b((h := self.a(x)) + self.block(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        a=nn.Conv2d(3, 5, 1), b=nn.Conv2d(5, 3, 1),
        block=nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 5)),
    )  # fmt: skip
    check(network, IMAGES, sizes=[5, 7])
    swap = Forward(lambda self, x: self.b(self.a(x).transpose(1, 3)), a=nn.Conv2d(3, 5, 1), b=nn.Linear(5, 2))
    check(swap, IMAGES, sizes=[5])


@pytest.mark.parametrize(
    "reduce",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean([-1, -2]),
        lambda x: x.sum(3).amax(dim=-1),
        lambda x: torch.mean(x, dim=2).mean(axis=2),
        lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: functional.max_pool2d(x, 4).view(-1, 5),
    ],
    ids=range(6),
)
def test_means_over_space_are_followed(reduce):
    check(Forward(lambda self, x: self.b(reduce(self.a(x))), a=nn.Conv2d(3, 5, 1), b=nn.Linear(5, 2)), IMAGES,
          sizes=[5])  # fmt: skip


def test_a_mean_over_units_frees_them():
    network = Forward(lambda self, x: self.b(self.a(x).mean(1).flatten(1)), a=nn.Conv2d(3, 5, 1),
                      b=nn.Linear(16, 2))  # fmt: skip
    check(network, IMAGES, sizes=[5])


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: torch.cat([self.a(x), self.a2(x)], 1)[:, :8],
        lambda self, x: self.a(x).cumsum(1),
        lambda self, x: self.a(x) * torch.arange(8),
        lambda self, x: (h := self.a(x)) * torch.arange(h.size(1)),
        lambda self, x: self.a(x) + torch.nn.functional.pad(x, (0, 2)),
        lambda self, x: self.a(x).view(x.size(0), 2, 4).transpose(1, 2).flatten(1),
        lambda self, x: functional.linear(x, self.a.weight * 2),
        lambda self, x: functional.linear(x, self.a.weight, self.a.weight[:, 0]),
        lambda self, x: self.a(x) * self.a.weight[:, 0],
        lambda self, x: self.a(x) + self.a(x).flip(1),
        lambda self, x: self.a(x)[:, torch.arange(8)],
        lambda self, x: functional.softmax(self.a(x), 1).split(4, 1)[0].repeat(1, 2),
        lambda self, x: self.a(x).unflatten(0, (2, 2)).flatten(1)[:, :8],
        lambda self, x: functional.avg_pool1d(self.a(x), 3, stride=1, padding=1),
        lambda self, x: self.a(x) + functional.relu(self.a2(x)) + self.a(input=x),
        lambda self, x: self.a(x) + x @ self.a2.weight.T,
    ],
    ids=range(16),
)
def test_units_that_meet_anything_else_keep_their_order(function):
    network = Forward(lambda self, x: self.c(torch.relu(self.b(function(self, x)))), a=nn.Linear(6, 8),
                      a2=nn.Linear(6, 8), b=nn.Linear(8, 7), c=nn.Linear(7, 3))  # fmt: skip
    found = check(network, ROWS, sizes=[7])
    assert "a.weight" not in keys(found)


def test_a_tensor_that_is_used_elsewhere_keeps_its_order():
    def network(function):
        return Forward(lambda self, x: self.c(torch.relu(self.b(torch.relu(self.a(x))))) + function(self, x),
                       a=nn.Linear(6, 8), b=nn.Linear(8, 7), c=nn.Linear(7, 3))  # fmt: skip

    check(network(lambda self, x: 0), ROWS, sizes=[8, 7])
    check(network(lambda self, x: self.a.weight[:3, 0]), ROWS, sizes=[7])
    check(network(lambda self, x: self.a(input=x)[:, :3]), ROWS, sizes=[7])


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: self.b(self.a(x)),  # reads the columns of the image, of which there are as many
        lambda self, x: self.c(self.a(x).permute(0, 2, 3, 1).flatten(1)),
        lambda self, x: self.c(
            self.a(x).permute(0, 2, 3, 1).flatten(0, 1).transpose(1, 2).reshape(x.size(0), -1)
        ),
        lambda self, x: self.e(self.wide(self.a(x)) + self.d(x)),  # as many entries of fewer units
    ],
    ids=range(4),
)
def test_axes_that_only_happen_to_fit(function):
    network = Forward(function, a=nn.Conv2d(3, 4, 1), b=nn.Linear(4, 2), c=nn.Linear(64, 2),
                      d=nn.Conv2d(3, 8, 1), e=nn.Conv2d(8, 2, 1), wide=nn.Conv2d(4, 8, 1, groups=4))  # fmt: skip
    assert network(torch.randn(4, 3, 4, 4)) is not None
    assert why(network) == "none of its hidden units can be reordered"


def test_features_of_several_positions_are_not_runs():
    """[N, T, F] flattened has T of each feature, but not in a row."""
    network = nn.Sequential(nn.Linear(6, 8), nn.Flatten(), nn.Linear(40, 3))
    assert why(network)
    with torch.no_grad():
        assert network(torch.randn(2, 5, 6)).shape == (2, 3)


def test_rows_that_change_are_not_a_flatten():
    """Frames of a video as rows, then all frames of a video in one row."""
    network = Forward(lambda self, x: self.b(self.a(x.flatten(0, 1)).view(x.size(0), -1)),
                      a=nn.Conv2d(3, 5, 1), b=nn.Linear(5 * 16 * 2, 3))  # fmt: skip
    assert network(torch.randn(4, 2, 3, 4, 4)).shape == (4, 3)
    assert why(network)


def test_tied_tensors_keep_their_order():
    def network():
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))

    check(network(), ROWS, sizes=[8, 6])
    tied = network()
    tied[4].weight = tied[0].weight
    assert why(tied) == "none of its hidden units can be reordered"


def test_hooks_and_parametrised_layers_are_not_understood():
    hooked, parametrised = (
        mlp(nn.ReLU(), nn.Linear(8, 7), nn.Linear(7, 8)),
        mlp(nn.Linear(8, 7), nn.Linear(7, 8)),
    )
    hooked[0].register_forward_hook(lambda module, inputs, outputs: outputs.cumsum(1))
    nn.utils.parametrizations.weight_norm(parametrised[0])
    check(hooked, ROWS, sizes=[7, 8])
    check(parametrised, ROWS, sizes=[7, 8])


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_says_why():
    assert why(Branching()).startswith("they cannot be followed through the network, as its forward takes")


def test_an_untraceable_part_leaves_the_rest():
    check(
        nn.Sequential(nn.Linear(6, 8), Branching(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)),
        ROWS,
        sizes=[7],
    )


def test_a_network_without_hidden_units_says_so():
    assert why(nn.Linear(6, 3)) == "none of its hidden units can be reordered"
    assert why(nn.Sequential(nn.Linear(6, 1), nn.Linear(1, 3))) == "none of its hidden units can be reordered"


def test_no_tensors_are_needed():
    with torch.device("meta"):
        network = mlp(nn.ReLU())
    assert [group.size for group in find_symmetries(network).groups] == [8]


def test_a_model_is_left_as_it_was():
    network = mlp(nn.Dropout()).train()
    find_symmetries(network)
    assert all(module.training for module in network.modules())


def test_groups_within_some_tensors():
    found = find_symmetries(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3)))
    assert [g.size for g in found.within(["1.weight", "1.bias", "2.weight"]).groups] == [5]
    assert found.within(["1.weight"]).groups == ()


def test_resnet18():
    torchvision = pytest.importorskip("torchvision")
    found = check(torchvision.models.resnet18(num_classes=5), randn(1, 3, 32, 32),
                  sizes=[64, 64, 64, 128, 128, 128, 256, 256, 256, 512, 512, 512])  # fmt: skip
    state = torchvision.models.resnet18(num_classes=5).state_dict()
    assert set(state) - keys(found) == {key for key in state if key.endswith("tracked")} | {"fc.bias"}


LAYERS = {
    "conv": lambda c: nn.Conv2d(c, 4, 3, padding=1),
    "wide": lambda c: nn.Conv2d(c, 6, 1),
    "depthwise": lambda c: nn.Conv2d(c, 2 * c, 3, padding=1, groups=c),
    "batchnorm": nn.BatchNorm2d,
    "groupnorm": lambda c: nn.GroupNorm(2, c),
    "relu": lambda c: nn.ReLU(),
    "pool": lambda c: nn.AvgPool2d(3, stride=1, padding=1),
    "residual": lambda c: Forward(lambda self, x: x + self.inner(x), inner=nn.Conv2d(c, c, 3, padding=1)),
}


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=2, max_size=7), seed=st.integers(0, 99))
@torch.no_grad()
def test_any_stack_of_layers(names, seed):
    layers, channels = [nn.Conv2d(3, 4, 1)], 4
    for name in names:
        layers.append(LAYERS[name](channels))
        channels = getattr(layers[-1], "out_channels", channels)
        if channels > 30:
            layers.append(nn.Conv2d(channels, 4, 1))
            channels = 4
    network = prepared(nn.Sequential(*layers, nn.Conv2d(channels, 4, 1), nn.Flatten(), nn.Linear(64, 3)))
    found = find_symmetries(network)
    after = functional_call(network, shuffled(network, found, seed), (IMAGES,))
    torch.testing.assert_close(after, network(IMAGES), rtol=1e-9, atol=1e-9)
