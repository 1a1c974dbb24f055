"""Rule 1: flatten and unflatten are exact and inverse of each other."""

import json
import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paramdiff.errors import CheckpointError, SelectionError
from paramdiff.parameters.spec import ParameterSpec

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
tensors = st.tuples(shapes, st.sampled_from(DTYPES))


def bits(shape, dtype, seed):
    """Any bits at all: subnormals, infinities, zeros of both signs; NaN replaced, its payload may change."""
    size = torch.tensor([], dtype=dtype).element_size()
    raw = torch.randint(
        0, 256, (*shape, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return raw.view(dtype).reshape(shape).nan_to_num(nan=-0.0, posinf=torch.inf, neginf=-torch.inf)


def equal_bits(a, b):
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(integer), b.view(integer))


@settings(max_examples=60, deadline=None)
@given(st.lists(tensors, min_size=1, max_size=5), st.integers(0, 2**32))
def test_round_trip_of_any_tensors_is_exact(kinds, seed):
    state = {f"t{i}": bits(shape, dtype, seed + i) for i, (shape, dtype) in enumerate(kinds)}
    spec = ParameterSpec.from_state_dict(state)
    v = spec.flatten(state)
    assert v.shape == (spec.dim,)
    assert v.dtype == (torch.float64 if any(dtype == torch.float64 for _, dtype in kinds) else torch.float32)
    back = spec.unflatten(v)
    assert list(back) == list(state)
    assert all(equal_bits(back[name], state[name]) for name in state)
    assert torch.equal(spec.flatten(back), v)


class Network(nn.Module):
    """Tied weights, running statistics, a scalar, an empty and a half-precision tensor."""

    def __init__(self):
        super().__init__()
        self.encoder, self.bn, self.decoder = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight
        self.scale, self.empty = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(0, 3))
        self.narrow = nn.Parameter(torch.randn(2, 2).half())

    def forward(self, x):
        return self.decoder(self.bn(self.encoder(x)))


def test_tied_weights_are_counted_once_and_come_back_under_both_keys():
    network = Network()
    spec = ParameterSpec.from_model(network, "all")
    assert spec.dim == 9 + 3 + 4 * 3 + 3 + 1 + 4
    assert "decoder.weight" not in spec.names
    assert "decoder.weight" in spec.keys
    back = spec.unflatten(torch.arange(spec.dim, dtype=torch.float32))
    assert torch.equal(back["decoder.weight"], back["encoder.weight"])
    network.load_state_dict(back, strict=False)
    assert torch.equal(spec.flatten(network.state_dict()), torch.arange(spec.dim, dtype=torch.float32))
    assert ParameterSpec.from_model(network, "decoder.weight").names == ["encoder.weight"]


@pytest.mark.parametrize("kept", ["encoder.weight", "decoder.weight"])
def test_files_often_hold_only_one_of_two_tied_tensors(kept):
    network = Network()
    spec = ParameterSpec.from_model(network, "encoder.weight")
    assert torch.equal(
        spec.flatten({kept: network.encoder.weight}), network.encoder.weight.detach().reshape(-1)
    )


def test_tied_tensors_that_differ_in_a_checkpoint_are_an_error():
    spec = ParameterSpec.from_model(Network(), "encoder.weight")
    one = torch.tensor([[float("nan"), 0.0, 1.0]] * 3)
    assert spec.flatten({"encoder.weight": one, "decoder.weight": one.clone()}).shape == (9,)
    text = "m.pt holds different values for encoder.weight and decoder.weight; expected one tensor"
    with pytest.raises(CheckpointError, match=re.escape(text)):
        spec.flatten({"encoder.weight": one, "decoder.weight": one + 1}, "m.pt")


def test_empty_tensors_and_equal_values_are_not_tied():
    state = {"a": torch.zeros(0), "b": torch.zeros(0), "c": torch.ones(2), "d": torch.ones(2)}
    assert ParameterSpec.from_state_dict(state).names == ["a", "b", "c", "d"]


def test_ties_are_found_in_plain_state_dicts_and_through_shared_memory():
    assert ParameterSpec.from_state_dict(Network().state_dict()).keys.count("decoder.weight") == 1
    memory = torch.arange(6.0)
    state = {"a": memory[:3], "b": memory[3:], "c": memory[:3], "d": memory[::2]}
    assert [(t.name, t.aliases) for t in ParameterSpec.from_state_dict(state).tensors] == [
        ("a", ("c",)), ("b", ()), ("d", ()),
    ]  # fmt: skip


def test_running_statistics_are_generated_and_counters_carried():
    network = Network()
    spec = ParameterSpec.from_model(network, "bn")
    assert spec.names == ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    assert spec.positive.tolist() == [False] * 9 + [True] * 3
    network(torch.randn(8, 3))
    assert torch.equal(
        spec.unflatten(spec.flatten(network.state_dict()))["bn.running_var"], network.bn.running_var
    )


def test_models_on_the_meta_device_give_the_same_spec():
    with torch.device("meta"):
        network = Network()
    assert ParameterSpec.from_model(network, "all") == ParameterSpec.from_model(Network(), "all")
    assert ParameterSpec.from_model(network, "last_norms:1").dim == 6


def test_slices_say_where_each_tensor_lies():
    network = Network()
    spec = ParameterSpec.from_model(network, "all")
    v = spec.flatten(network.state_dict())
    for tensor in spec.tensors:
        expected = network.state_dict()[tensor.name].reshape(-1).float()
        assert torch.equal(v[spec.slices[tensor.name]], expected)
    assert spec.slices["encoder.weight"] == slice(
        spec.slices["encoder.bias"].start - 9, spec.slices["encoder.bias"].start
    )


def test_stacked_vectors_give_stacked_tensors():
    spec = ParameterSpec.from_model(Network(), "encoder,narrow")
    V = torch.randn(2, 5, spec.dim)
    stacked = spec.unflatten(V)
    assert stacked["encoder.weight"].shape == (2, 5, 3, 3)
    assert stacked["narrow"].dtype == torch.float16
    for name, tensor in spec.unflatten(V[1, 3]).items():
        assert torch.equal(stacked[name][1, 3], tensor)


def test_json_round_trip():
    spec = ParameterSpec.from_model(Network(), ["all", "!bn"])
    assert spec.select == "all,!bn"
    again = ParameterSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.dim == spec.dim


def test_values_of_a_state_dict_that_are_no_tensors_are_left_alone():
    assert ParameterSpec.from_state_dict({"a": torch.ones(2), "_extra_state": {"x": 1}}).names == ["a"]


def test_gradients_are_detached_and_layouts_do_not_matter():
    weight = torch.randn(2, 3, requires_grad=True)
    spec = ParameterSpec.from_state_dict({"w": weight})
    v = spec.flatten({"w": weight.detach().t().contiguous().t()})
    assert torch.equal(v, weight.detach().reshape(-1))
    assert not spec.flatten({"w": weight}).requires_grad


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({}, "seed1.pt has no tensor encoder.weight; expected shape [3, 3]"),
        ({"encoder.weight": torch.ones(3)}, "seed1.pt holds encoder.weight of shape [3]; expected [3, 3]"),
        ({"decoder.weight": torch.ones(3)}, "seed1.pt holds decoder.weight of shape [3]; expected [3, 3]"),
        (
            {"encoder.weight": torch.ones(3, 3, dtype=torch.int8)},
            "seed1.pt holds encoder.weight of type torch.int8; expected floating numbers (float32)",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(state, text):
    with pytest.raises(CheckpointError, match=re.escape(text)):
        ParameterSpec.from_model(Network(), "encoder.weight").flatten(state, "seed1.pt")


def test_vectors_and_selections_that_do_not_fit():
    spec = ParameterSpec.from_model(Network(), "encoder.weight")
    with pytest.raises(CheckpointError, match=r"a vector of length 8; expected length D = 9"):
        spec.unflatten(torch.zeros(8))
    with pytest.raises(SelectionError, match="did you mean encoder"):
        ParameterSpec.from_model(Network(), "encodr")


# --- what a dtype cannot hold ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_numbers_beyond_a_dtype_become_its_ends_and_never_inf(name: str):
    dtype = getattr(torch, name)
    spec = ParameterSpec.from_state_dict({"w": torch.ones(4).to(dtype), "x": torch.ones(2)})
    most = torch.finfo(dtype).max
    large = min(3.4e38, most * 1.5)
    v = torch.tensor([large, -large, 1.0, float("inf"), large, -large])
    found = spec.unflatten(v)
    assert found["w"].float().tolist()[:3] == [most, -most, 1.0] and found["w"].dtype == dtype
    assert found["x"].tolist() == v[4:].tolist()
    assert spec.beyond(v) == ["w"] and spec.beyond(v.clamp(-1, 1)) == []
    assert not spec.beyond(torch.full((6,), float("inf")))  # that was no cast


def test_float64_samples_do_not_overflow_in_float32():
    spec = ParameterSpec.from_state_dict({"w": torch.ones(2), "x": torch.ones(2, dtype=torch.float64)})
    v = torch.full((4,), 1e300, dtype=torch.float64)
    found = spec.unflatten(v)
    assert found["w"].isfinite().all() and torch.equal(found["x"], v[2:]) and spec.beyond(v) == ["w"]


def test_a_spec_of_many_tensors_is_used_in_linear_time():
    state = {f"layer{i}.weight": torch.ones(2) for i in range(4000)}
    began = time.process_time()
    spec = ParameterSpec.from_state_dict(state)
    assert spec.unflatten(spec.flatten(state)).keys() == state.keys()
    assert time.process_time() - began < 2  # it was 9 s: quadratic
