"""Order of execution and normalisation layers, on networks whose definition hides both."""

import pytest
import torch
from torch import nn

from paramdiff.networks.structure import Untraceable, execution_order, is_norm, norm_layers, trace


class OutOfOrder(nn.Module):
    """Defined c, b, a; executed a, b, c."""

    def __init__(self):
        super().__init__()
        self.c, self.b, self.a = nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        return self.c(self.b(self.a(x)))


class Branching(nn.Module):
    """Cannot be traced: what it does depends on the data."""

    def __init__(self):
        super().__init__()
        self.late, self.early = nn.LayerNorm(4), nn.LayerNorm(4)

    def forward(self, x):
        return self.late(self.early(x)) if x.sum() > 0 else x


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.inner, self.first = nn.LayerNorm(4), Branching(), nn.LayerNorm(4)

    def forward(self, x):
        return self.last(self.inner(self.first(x)))


class HfStyleNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        if x.sum() > 1e9:  # untraceable, but a norm is never traced into
            return x
        return x * self.weight


class PreNorm(nn.Module):
    """Called a norm, but only holds one."""

    def __init__(self):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x):
        return self.fn(self.norm(x))


def test_execution_order_is_not_definition_order():
    assert execution_order(OutOfOrder()) == ["a", "b", "c"]
    assert norm_layers(OutOfOrder()) == ["a", "c"]


def test_an_untraceable_network_says_why_and_falls_back_to_definition_order():
    found = trace(Branching())
    assert isinstance(found, Untraceable)
    assert "takes another way for other inputs" in found.reason
    assert "\n" not in found.reason
    assert execution_order(Branching()) == ["late", "early"]


def test_an_untraceable_part_stays_whole_inside_a_traced_network():
    graph = trace(Holder())
    assert not isinstance(graph, Untraceable)
    assert [n.target for n in graph.graph.nodes if n.op == "call_module"] == ["first", "inner", "last"]
    assert execution_order(Holder()) == ["first", "inner", "inner.late", "inner.early", "last"]


def test_only_the_innermost_untraceable_part_stays_whole():
    graph = trace(nn.Sequential(Holder(), nn.Linear(4, 4)))
    assert not isinstance(graph, Untraceable)
    calls = [n.target for n in graph.graph.nodes if n.op == "call_module"]
    assert calls == ["0.first", "0.inner", "0.last", "1"]


def test_custom_norms_are_single_nodes():
    class Scale(HfStyleNorm):
        def forward(self, x):
            return x * self.weight

    graph = trace(nn.Sequential(Scale()))
    assert not isinstance(graph, Untraceable)
    assert [n.op for n in graph.graph.nodes] == ["placeholder", "call_module", "output"]


def test_modules_that_are_never_executed_are_left_out():
    class Auxiliary(nn.Sequential):
        def __init__(self):
            super().__init__(nn.LayerNorm(4))
            self.aux = nn.LayerNorm(4)

        def forward(self, x):
            return self.aux(self[0](x)) if self.training else self[0](x)

    assert norm_layers(Auxiliary().train()) == ["0"]  # what counts is eval mode


def test_a_module_used_by_its_parameter_counts_as_executed():
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.fc(x)
            return nn.functional.layer_norm(x, (4,), self.norm.weight, self.norm.bias)

    assert execution_order(Direct()) == ["fc", "norm"]


def test_modules_used_twice_are_listed_once():
    class Twice(OutOfOrder):
        def forward(self, x):
            return self.a(self.c(self.a(x)))

    assert execution_order(Twice()) == ["a", "c"]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.BatchNorm1d(4), True),
        (nn.SyncBatchNorm(4), True),
        (nn.GroupNorm(2, 4), True),
        (nn.InstanceNorm2d(4, affine=True), True),
        (nn.RMSNorm(4), True),
        (nn.LayerNorm((4, 4)), True),
        (HfStyleNorm(), True),
        (PreNorm(), False),
        (nn.Linear(4, 4), False),
        (nn.LocalResponseNorm(2), False),
    ],
)
def test_what_is_a_norm(module, expected):
    assert is_norm(module) is expected


def test_norms_without_weights_are_not_counted():
    plain = [nn.LayerNorm(4, elementwise_affine=False), nn.InstanceNorm1d(4), nn.BatchNorm1d(4, affine=False)]
    network = nn.Sequential(nn.BatchNorm1d(4), *plain, HfStyleNorm(), PreNorm(), nn.LayerNorm(4, bias=False))
    assert norm_layers(network) == ["0", "4", "5.norm", "6"]


def test_optional_arguments_keep_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.extra = nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, x, mask=None, *, twice: bool = False):
            x = self.fc(x) if mask is None else self.extra(x * mask)
            return self.fc(x) if twice else x

    assert execution_order(Optional()) == ["fc"]
    graph = trace(Optional(), inputs=2)
    assert not isinstance(graph, Untraceable)
    assert [n.target for n in graph.graph.nodes if n.op == "call_module"] == ["extra"]
    assert [n.name for n in graph.graph.nodes if n.op == "placeholder"] == ["x", "mask"]


def test_arguments_that_are_all_optional_or_variable():
    class AllOptional(OutOfOrder):
        def forward(self, x=None, y=None):
            if x is None:
                raise ValueError("give x")
            return self.a(x)

    class Variable(OutOfOrder):
        def forward(self, *inputs):
            return self.b(inputs[0])

    assert execution_order(AllOptional()) == ["a"]
    assert execution_order(Variable()) == ["b"]


def test_tracing_leaves_the_model_as_it_was():
    network = Holder().train()
    network.inner.early.eval()
    before = {name: (id(module), module.training) for name, module in network.named_modules()}
    state = {name: (id(t), t.clone()) for name, t in network.state_dict(keep_vars=True).items()}
    trace(network)
    assert {name: (id(module), module.training) for name, module in network.named_modules()} == before
    for name, tensor in network.state_dict(keep_vars=True).items():
        assert id(tensor) == state[name][0]
        assert torch.equal(tensor, state[name][1])


def test_non_persistent_buffers_stay_non_persistent():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.ones(4), persistent=False)

        def forward(self, x):
            return x * self.scale

    network = nn.Sequential(Scaled())
    assert not isinstance(trace(network), Untraceable)
    assert list(network.state_dict()) == []


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "convnext_tiny", "densenet121", "swin_t"])
def test_torchvision_networks_are_traced_to_the_bottom(name):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        network = models.get_model(name, weights=None)
    assert not isinstance(trace(network), Untraceable)
    assert len(norm_layers(network)) == sum(is_norm(module) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet18", ["layer4.1.bn1", "layer4.1.bn2"]),
        ("vit_tiny_patch16_224", ["blocks.11.norm2", "norm"]),
        ("convnext_tiny", ["stages.3.blocks.2.norm", "head.norm"]),
        ("mobilevit_xxs", ["stages.4.1.conv_fusion.bn", "final_conv.bn"]),
    ],
)
def test_timm_networks(name, last):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model(name)
    assert not isinstance(trace(network), Untraceable)
    assert norm_layers(network)[-2:] == last
    assert len(norm_layers(network)) == sum(is_norm(module) for module in network.modules())
