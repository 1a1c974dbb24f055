"""The selection language: every kind of term, and the text of every error."""

import re

import pytest
import torch
from torch import nn

from paramdiff.errors import SelectionError
from paramdiff.parameters.selection import select_tensors


class Network(nn.Module):
    """The norms are executed norm1, bn, final; defined final, norm1, bn."""

    def __init__(self):
        super().__init__()
        self.final = nn.LayerNorm(4)
        self.block = nn.ModuleDict({"1": nn.Linear(4, 4), "10": nn.Linear(4, 4, bias=False)})
        self.norm1, self.bn = nn.LayerNorm(4, bias=False), nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("hidden", torch.ones(3), persistent=False)

    def forward(self, x):
        x = self.block["1"](self.norm1(x))
        return self.final(self.block["10"](self.bn(x))) * self.scale


def select(term, source=None):
    return select_tensors(Network() if source is None else source, term)


def test_all_takes_floating_tensors_and_running_statistics_only():
    names = select("all")
    assert names == [name for name in Network().state_dict() if name != "bn.num_batches_tracked"]
    assert {"bn.running_mean", "bn.running_var", "scale"} <= set(names)


def test_last_norms_counts_in_order_of_execution_and_takes_no_buffers():
    assert select("last_norms:1") == ["final.weight", "final.bias"]
    assert select("last_norms:2") == ["final.weight", "final.bias", "bn.weight", "bn.bias"]
    assert select("last_norms:3") == ["final.weight", "final.bias", "norm1.weight", "bn.weight", "bn.bias"]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("type:Linear", ["block.1.weight", "block.1.bias", "block.10.weight"]),
        ("type:linear", ["block.1.weight", "block.1.bias", "block.10.weight"]),
        ("type:BatchNorm1d", ["bn.weight", "bn.bias"]),
        ("type:_NormBase", ["bn.weight", "bn.bias"]),  # a base class
        ("type:network", ["scale"]),
        ("bn", ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]),
        ("bn.weight", ["bn.weight"]),
        ("block.1", ["block.1.weight", "block.1.bias"]),  # and not block.10
        ("block.1*", ["block.1.weight", "block.1.bias", "block.10.weight"]),
        ("block.?", ["block.1.weight", "block.1.bias"]),
        ("*.running_*", ["bn.running_mean", "bn.running_var"]),
        ("bn, block.10", ["block.10.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]),
        (["bn", "!*.running_*"], ["bn.weight", "bn.bias"]),
        (["!*.bias", "bn, !*.running_*"], ["bn.weight"]),
        ("last_norms:2,! final", ["bn.weight", "bn.bias"]),
        ("all,!type:Linear,!last_norms:3,!bn", ["scale"]),
    ],
)
def test_terms(term, expected):
    assert select(term) == expected


def test_state_dict_order_whatever_the_order_of_terms():
    assert select("scale, bn.bias, final.weight") == select("final.weight, scale, bn.bias")
    assert select("scale, bn.bias, final.weight") == ["scale", "final.weight", "bn.bias"]


def test_names_and_all_work_without_a_model():
    state = Network().state_dict()
    assert select("all", state) == select("all")
    assert select("bn, !*.bias", state) == select("bn, !*.bias")


def test_values_of_a_state_dict_that_are_no_tensors_are_left_alone():
    assert select("all", {"a": torch.ones(2), "_extra_state": {"x": 1}}) == ["a"]


def test_derived_classes_and_weightless_norms():
    class MyBatchNorm(nn.BatchNorm1d):
        pass

    network = nn.Sequential(MyBatchNorm(4), nn.LayerNorm(4, elementwise_affine=False))
    assert select("type:BatchNorm1d", network) == ["0.weight", "0.bias"]
    assert select("last_norms:1", network) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("term", ["last_norms:1", "type:Linear", "all,!type:Linear"])
def test_terms_that_need_a_model(term):
    with pytest.raises(SelectionError, match="cannot be found from a state dict alone; expected a model"):
        select(term, Network().state_dict())


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("blok.10", "'blok.10' matches no tensor; did you mean block.10"),
        ("final.wieght", "'final.wieght' matches no tensor; did you mean final.weight"),
        ("all, !blok.10", "'blok.10' matches no tensor; did you mean block.10"),
        ("last_norm:2", "'last_norm:2' matches no tensor; did you mean last_norms:2"),
        ("hidden", "'hidden' matches no tensor"),  # non-persistent buffers are in no state dict
        ("type:Linaer", "'type:Linaer' matches no module with parameters; did you mean Linear"),
        ("type:ModuleDict", "'type:ModuleDict' matches no module with parameters"),
        ("last_norms:4", "more normalisation layers than there are; expected at most 3"),
        ("last_norms:0", "'last_norms:0' is not a number of layers; expected a whole number"),
        ("last_norms:two", "'last_norms:two' is not a number of layers"),
        ("*.num_batches_*", "'*.num_batches_*' matches only integer tensors (bn.num_batches_tracked)"),
        ("", "the selection '' holds no tensor"),
        ("!bn", "the selection '!bn' holds no tensor; expected at least one term without '!'"),
        ("bn, !bn", "the selection 'bn, !bn' holds no tensor"),
    ],
)  # fmt: skip
def test_errors(term, text):
    with pytest.raises(SelectionError, match=re.escape(text)):
        select(term)


def test_a_long_list_of_names_is_cut_short():
    state = {f"layer{i}": torch.ones(1) for i in range(40)}
    with pytest.raises(SelectionError, match=re.escape("... (43 in all)")):
        select("zzzzzz", state)


def test_a_network_without_norms_says_so():
    with pytest.raises(SelectionError, match=r"at most 0 .* select tensors by name or type"):
        select("last_norms:1", nn.Sequential(nn.Linear(2, 2)))


def test_complex_tensors_are_refused_unless_left_out():
    state = {"real": torch.ones(2), "spectrum": torch.ones(2, dtype=torch.complex64)}
    with pytest.raises(SelectionError, match=r"spectrum is complex \(torch.complex64\).*'!spectrum'"):
        select("all", state)
    assert select("all, !spectrum", state) == ["real"]


def test_lazy_tensors_are_refused():
    with pytest.raises(SelectionError, match=r"has no shape yet .* run the model once"):
        select("all", nn.Sequential(nn.LazyLinear(2)))
