"""The oracle everywhere: a plain forward pass of a copy of the network that holds the same tensors."""

import re
from collections import namedtuple
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

from paramdiff.errors import CheckpointError, SelectionError
from paramdiff.networks.shared_prefix import SharedPrefix
from paramdiff.parameters.spec import ParameterSpec


def randomised(network):
    """Eval mode, with values at which no normalisation layer is the identity."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point() and tensor.ndim < 2:
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return network.eval()


def states(network, spec, n=3):
    """``n`` different states of the generated tensors."""
    own = spec.flatten(network.state_dict())
    generator = torch.Generator().manual_seed(1)
    return [spec.unflatten(own * (1 + 0.3 * torch.rand(spec.dim, generator=generator))) for _ in range(n)]


def plain(network, state, *inputs):
    copy = deepcopy(network).eval()
    copy.load_state_dict(state, strict=False)
    return copy(*(value.clone() for value in inputs))


def check(network, select, *inputs, whole=False):
    """Same outputs as the plain network, for several states in turn, twice, on several batches."""
    spec = ParameterSpec.from_model(network, select)
    split = SharedPrefix(network, spec.names)
    untouched = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for batch in (inputs, tuple(value.flip(0) + 0.1 for value in inputs)):
            given = tuple(value.clone() for value in batch)
            boundary = split.prefix(*batch)
            for state in 2 * states(network, spec):
                same(split.suffix(boundary, state), plain(network, state, *given))
    assert split.whole is whole
    same(network.state_dict(), untouched)
    return split


def same(a, b):
    a, b = (torch.utils._pytree.tree_leaves(value) for value in (a, b))
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def mlp():
    return randomised(nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.Linear(4, 3)))


X = torch.randn(7, 6, generator=torch.Generator().manual_seed(2))
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


class Module(nn.Module):
    """Three layers of six, for small networks with their own ``forward``."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        randomised(self)


@pytest.mark.parametrize(
    ("select", "shared"), [("last_norms:2", 60), ("layer2.0.bn2", None), ("layer3.0.downsample.1", None)]
)
def test_resnet_with_in_place_relu_and_residuals(select, shared):
    models = pytest.importorskip("torchvision.models")
    split = check(randomised(models.resnet18()), select, IMAGES)
    if shared is not None:
        assert split.why == "60 of 69 operations are computed once per batch, 9 per sample"


@pytest.mark.parametrize("select", ["last_norms:2", "encoder.layers.encoder_layer_0.ln_1", "class_token"])
def test_torchvision_vit(select):
    models = pytest.importorskip("torchvision.models")
    network = models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    nn.init.normal_(network.heads.head.weight)
    check(randomised(network), select, IMAGES)


def test_convnext():
    models = pytest.importorskip("torchvision.models")
    blocks = pytest.importorskip("torchvision.models.convnext").CNBlockConfig
    check(randomised(models.ConvNeXt([blocks(8, 16, 1), blocks(16, None, 2)])), "last_norms:2", IMAGES)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {}), ("vit_tiny_patch16_224", {"img_size": 32}), ("convnext_atto", {})],
)
def test_timm_networks(name, options):
    timm = pytest.importorskip("timm")
    check(randomised(timm.create_model(name, num_classes=5, **options)), "last_norms:2", IMAGES)


def test_mlp():
    split = check(mlp(), "2", X)
    assert split.why == "2 of 4 operations are computed once per batch, 2 per sample"


def test_running_statistics_as_generated_tensors():
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    check(randomised(network), "1", X)


def test_tensors_used_directly():
    class Direct(Module):
        def __init__(self):
            super().__init__()
            self.scale, self.other = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(6))
            self.register_buffer("shift", torch.ones(6))

        def forward(self, x):
            # the buffer goes through an operation without the input: a trace must not bake it in
            return (
                self.a(x) * self.scale + self.shift.exp() + functional.linear(x, self.b.weight) * self.other
            )

    for select in ("scale", "shift", "b.weight", "scale,shift"):
        check(Direct(), select, X)


def test_several_outputs_and_a_module_used_twice():
    class Two(Module):
        def forward(self, x, y):
            h = self.b(torch.relu(self.a(x)) + y)
            return {"frozen": self.a(y), "twice": (self.b(h), h), "shape": h.shape[0]}

    y = X.flip(1)
    for select in ("a", "b", "b.bias"):
        check(Two(), select, X, y, whole=select == "a")


def test_named_tuple_output():
    Output = namedtuple("Output", "logits features")

    class Named(Module):
        def forward(self, x):
            h = self.a(x)
            return Output(logits=self.b(h), features=h)

    assert check(Named(), "b", X).suffix((X,), states(Named(), ParameterSpec.from_model(Named(), "b"))[0])


def test_tied_weights_may_come_under_any_of_their_keys():
    class Tied(Module):
        def __init__(self):
            super().__init__()
            self.c.weight = self.b.weight

        def forward(self, x):
            return self.c(torch.relu(self.b(self.a(x))))

    check(Tied(), "b.weight", X)
    network = Tied()
    split = SharedPrefix(network, ["c.weight"])
    boundary = split.prefix(X)
    weight = torch.randn(6, 6)
    expected = plain(network, {"b.weight": weight}, X)
    for state in ({"b.weight": weight}, {"c.weight": weight}, {"c.weight": weight, "b.weight": weight}):
        torch.testing.assert_close(split.suffix(boundary, state), expected)


def in_place_forwards():
    def function(self, x):
        h = self.a(x)
        out = self.b(h)
        return out + functional.relu(h, inplace=True)  # b must see h before relu

    def method(self, x):
        h = self.a(x)
        out = self.b(h)
        h.mul_(2).add_(1)
        return out + h

    def torch_function(self, x):
        h = self.a(x)
        out = self.b(h)
        torch.relu_(h)
        return out * h

    def augmented(self, x):
        h = self.a(x)
        out = self.b(h)
        out += h
        return out

    def of_the_boundary(self, x):
        h = self.a(x)
        h.mul_(self.b(h))
        return h + self.c(h)

    def module(self, x):
        h = self.a(x)
        out = self.b(h)
        self.act(h)
        return out + h

    return [function, method, torch_function, augmented, of_the_boundary, module]


@pytest.mark.parametrize("forward", in_place_forwards(), ids=lambda forward: forward.__name__)
def test_operations_that_write_into_their_input(forward):
    network = type("InPlace", (Module,), {"forward": forward})()
    network.act = nn.ELU(inplace=True)
    split = check(network, "b", X)
    assert split.whole is False
    assert network.act.inplace is True


def test_a_generated_layer_with_an_in_place_activation_of_its_own():
    class NormAct(nn.BatchNorm1d):
        inplace = True

        def forward(self, x):
            return functional.relu(super().forward(x), inplace=self.inplace)

    check(randomised(nn.Sequential(nn.Linear(6, 4), NormAct(4), nn.Linear(4, 2))), "1", X)


def test_in_place_operation_without_replacement():
    class Fill(Module):
        def forward(self, x):
            h = self.a(x)
            return self.b(h.zero_())

    assert "zero_ writes into its input" in check(Fill(), "b", X, whole=True).why


def test_writing_through_a_view_is_noticed():
    class View(Module):
        def forward(self, x):
            h = self.a(x)
            out = self.b(h)
            h[:, :3].mul_(2)
            return out + h

    assert "other outputs than the network itself" in check(View(), "b", X, whole=True).why


def test_an_untraceable_part_that_writes_into_the_boundary():
    class Part(Module):
        def forward(self, x):
            if x.sum() > -1e9:
                x += 1
            return self.a(x)

    class Outer(Module):
        def __init__(self):
            super().__init__()
            self.part = Part()

        def forward(self, x):
            return self.part(self.a(x))

    check(Outer(), "part.a", X)


def test_an_untraceable_network_runs_whole():
    class Branching(Module):
        def forward(self, x):
            h = self.a(x)
            return self.b(h) if h.sum() > 0 else self.c(h)

    split = check(Branching(), "b,c", X, whole=True)
    assert split.why.startswith("the whole network runs for every sample: its forward takes another way")
    assert split.prefix(X)[0] is X


def test_a_whole_network_that_writes_into_its_input():
    class Branching(Module):
        def forward(self, x):
            x.mul_(2)
            return self.a(x) if x.sum() > -1e9 else x

    check(Branching(), "a", X, whole=True)


def test_nothing_to_share():
    split = check(mlp(), "all", X, whole=True)
    assert split.why.endswith("every operation depends on generated tensors")


def test_a_trace_that_hides_a_dependence_is_noticed():
    class Hidden(Module):
        def forward(self, x):
            factor = next(float(p.detach().sum()) for p in self.b.parameters())
            return self.b(self.a(x) * factor)

    split = check(Hidden(), "b", X, whole=True)
    assert split.why.endswith("its traced graph gives other outputs than the network itself")


def test_optional_inputs():
    class Optional(Module):
        def forward(self, x, mask=None):
            h = self.a(x)
            return self.b(h if mask is None else h * mask)

    network = Optional()
    check(network, "b", X)
    check(network, "b", X, X.sigmoid())
    split = SharedPrefix(network, ["b.weight"])
    state = {"b.weight": torch.randn(6, 6)}
    for inputs in ((X,), (X, X.sigmoid()), (X,)):
        same(split.suffix(split.prefix(*inputs), state), plain(network, state, *inputs))


def test_eval_mode_whatever_the_mode_of_the_model():
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    randomised(network).train()
    network[1].eval()
    check(network, "3", X)
    assert [module.training for module in network] == [True, False, True, True]
    assert network[1].num_batches_tracked == 0


def test_gradients_reach_the_state_and_nothing_else():
    network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 2))
    randomised(network)
    spec = ParameterSpec.from_model(network, "type:BatchNorm1d")
    split = SharedPrefix(network, spec.names)
    state = {name: t.clone().requires_grad_() for name, t in states(network, spec)[0].items()}
    boundary = split.prefix(X)
    assert not any(value.requires_grad for value in boundary)
    split.suffix(boundary, state).square().sum().backward()
    assert all(parameter.grad is None for parameter in network.parameters())

    network.load_state_dict({name: tensor.detach() for name, tensor in state.items()}, strict=False)
    network(X).square().sum().backward()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor.grad, network.get_parameter(name).grad)


def test_frozen_parameters_in_the_boundary_take_no_gradients():
    class Scaled(Module):
        def forward(self, x):
            return self.b(self.a(x)) * self.c.bias.reshape(1, -1)

    network = Scaled()
    split = SharedPrefix(network, ["b.weight"])
    boundary = split.prefix(X)
    assert not any(value.requires_grad for value in boundary)
    check(network, "b", X)


def test_stacked_states_under_vmap():
    network = mlp()
    spec = ParameterSpec.from_model(network, "2,3")
    split = SharedPrefix(network, spec.names)
    each = states(network, spec)
    stacked = {name: torch.stack([state[name] for state in each]) for name in spec.keys}
    boundary = split.prefix(X)
    outputs = torch.func.vmap(lambda state: split.suffix(boundary, state))(stacked)
    torch.testing.assert_close(outputs, torch.stack([split.suffix(boundary, state) for state in each]))


def test_tied_states_and_residual_additions_under_vmap():
    class Tied(Module):
        def __init__(self):
            super().__init__()
            self.c.weight = self.b.weight

        def forward(self, x):
            h = self.a(x)
            out = self.a(h)
            return out.add_(
                self.c(functional.relu(self.b(h), inplace=True))
            )  # a frozen value takes in a stacked one

    network = Tied()
    spec = ParameterSpec.from_model(network, "b")
    split = SharedPrefix(network, spec.names)
    each = states(network, spec)
    stacked = {name: torch.stack([state[name] for state in each]) for name in spec.keys}
    boundary = split.prefix(X)
    outputs = torch.func.vmap(lambda state: split.suffix(boundary, state))(stacked)
    torch.testing.assert_close(outputs, torch.stack([plain(network, state, X) for state in each]))


def test_complete_states_may_be_given():
    network = mlp()
    split = SharedPrefix(network, ["3.weight"])
    other = {name: torch.randn_like(tensor) for name, tensor in network.state_dict().items()}
    expected = plain(network, {"3.weight": other["3.weight"]}, X)
    torch.testing.assert_close(split.suffix(split.prefix(X), other), expected)


def test_generated_tensors_that_are_never_used():
    class Unused(Module):
        def forward(self, x):
            self.c(x)
            return self.b(self.a(x))

    text = "the generated tensors c.weight are never used in the forward pass; select tensors"
    with pytest.raises(SelectionError, match=re.escape(text)):
        SharedPrefix(Unused(), ["c.weight"])
    check(Unused(), "b,c", X)  # one that is used is enough


def test_unknown_and_missing_tensors():
    with pytest.raises(SelectionError, match=r"the network has no tensor 3.wieght; did you mean 3.weight"):
        SharedPrefix(mlp(), ["3.wieght"])
    split = SharedPrefix(mlp(), ["3.weight", "3.bias"])
    with pytest.raises(CheckpointError, match=r"the state has no tensor 3.bias"):
        split.suffix(split.prefix(X), {"3.weight": torch.zeros(3, 4)})
