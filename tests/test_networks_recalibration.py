"""Running statistics against means and variances computed by hand; that the network stays as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from paramdiff.networks.recalibration import recalibrate, tracking_layers


def random(*shape, seed=0):
    return 3 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def two_norms():
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3))
    for norm in (network[0], network[4]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
    return network


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(3), (7, 3)), (nn.BatchNorm1d(3), (7, 3, 5)), (nn.BatchNorm2d(3), (7, 3, 2, 5)),
        (nn.BatchNorm3d(3), (7, 3, 2, 2, 2)), (nn.SyncBatchNorm(3), (7, 3, 2, 5)),
        (nn.BatchNorm2d(3, momentum=None), (7, 3, 2, 5)), (nn.BatchNorm1d(3, affine=False), (7, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_one_batch_gives_its_mean_and_unbiased_variance(layer, shape):
    x = random(*shape)
    found = recalibrate(layer, [(x,)])
    channels = x.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(found[".running_mean"].double(), channels.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[".running_var"].double(), channels.var(1), rtol=1e-5, atol=1e-5)


def test_instance_norm_averages_over_items_and_batches():
    """Its ``momentum=None`` would measure nothing at all."""
    layer, batches = nn.InstanceNorm1d(3, track_running_stats=True), [random(4, 3, 9, seed=s) for s in (0, 1)]
    found = recalibrate(layer, [(x,) for x in batches])
    x = torch.cat(batches)
    torch.testing.assert_close(found[".running_mean"], x.mean((0, 2)))
    torch.testing.assert_close(found[".running_var"], x.var(2).mean(0))


def test_timm_s_norms_with_an_activation_are_measured():
    timm = pytest.importorskip("timm.layers")
    network = nn.Sequential(timm.BatchNormAct2d(3))
    x = random(6, 3, 4, 4)
    found = recalibrate(network, [(x,)])
    torch.testing.assert_close(found["0.running_mean"], x.mean((0, 2, 3)))
    assert not network.eval()[0].training


def test_batches_of_equal_size_count_the_same():
    batches = [random(8, 3, seed=s) for s in range(3)]
    found = recalibrate(nn.BatchNorm1d(3), [(x,) for x in batches])
    torch.testing.assert_close(found[".running_mean"], torch.cat(batches).mean(0))
    torch.testing.assert_close(found[".running_var"], torch.stack([x.var(0) for x in batches]).mean(0))


def test_a_later_norm_sees_what_an_earlier_one_makes_of_the_batch_without_dropout():
    network, x = two_norms(), random(32, 4)
    found = recalibrate(network, [(x,)])
    first = functional.batch_norm(x, None, None, network[0].weight, network[0].bias, training=True)
    second = network[2](first).relu()
    torch.testing.assert_close(found["4.running_mean"], second.mean(0))
    torch.testing.assert_close(found["4.running_var"], second.var(0))
    torch.testing.assert_close(found["0.running_mean"], x.mean(0))


def test_a_measured_network_agrees_with_train_mode():
    """Its first layer's answers in eval mode are those of train mode, but for the biased variance there."""
    layer, x = nn.BatchNorm1d(4), random(1000, 4)
    found = recalibrate(layer, [(x,)])
    expected = layer.train()(x)
    layer.load_state_dict({key.lstrip("."): value for key, value in found.items()}, strict=False)
    torch.testing.assert_close(layer.eval()(x), expected, rtol=1e-2, atol=1e-2)


def test_only_chosen_layers_are_measured_and_others_use_what_they_have():
    network, x = two_norms(), random(32, 4)
    found = recalibrate(network, [(x,)], ["4"])
    assert sorted(found) == ["4.running_mean", "4.running_var"]
    expected = network[2](network[0].eval()(x)).relu()
    torch.testing.assert_close(found["4.running_mean"], expected.mean(0))


def test_a_layer_that_runs_twice_counts_each_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x, y):
            return self.norm(x) + self.norm(y)

    x, y = random(9, 2), random(9, 2, seed=1)
    found = recalibrate(Twice(), [(x, y)])
    torch.testing.assert_close(found["norm.running_mean"], (x.mean(0) + y.mean(0)) / 2)


def test_a_layer_that_never_runs_keeps_its_statistics():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, x):
            return self.used(x)

    assert sorted(recalibrate(Unused(), [(random(9, 2),)])) == ["used.running_mean", "used.running_var"]


@pytest.mark.parametrize("broken", [False, True])
def test_the_network_stays_as_it_was(broken):
    """Also where it fails on the way."""
    network = two_norms().train()
    network[0].eval()
    network[4].momentum = None
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    buffers = [buffer.data_ptr() for buffer in network.buffers()]
    if broken:
        with pytest.raises(RuntimeError):
            recalibrate(network, [(random(8, 4),), (random(8, 5),)])
    else:
        recalibrate(network, [(random(8, 4),)])
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert [buffer.data_ptr() for buffer in network.buffers()] == buffers
    assert [module.training for module in network.modules()] == modes
    assert (network[0].momentum, network[4].momentum) == (0.1, None)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_old_statistics_leave_no_trace():
    network, x = two_norms(), random(8, 4)
    expected = recalibrate(network, [(x,)])
    network[0].running_mean.fill_(torch.nan)
    network[0].running_var.fill_(torch.inf)
    assert all(torch.equal(value, expected[key]) for key, value in recalibrate(network, [(x,)]).items())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_network_has_no_statistics(value):
    network = two_norms()
    with torch.no_grad():
        network[2].weight[0, 0] = value
    assert recalibrate(network, [(random(8, 4),)]) is None


def test_which_layers_track():
    network = nn.ModuleDict({
        "batch": nn.BatchNorm1d(2), "sync": nn.SyncBatchNorm(2), "instance": nn.InstanceNorm2d(2),
        "tracking": nn.InstanceNorm2d(2, track_running_stats=True), "layer": nn.LayerNorm(2),
        "untracked": nn.BatchNorm1d(2, track_running_stats=False), "group": nn.GroupNorm(1, 2),
    })  # fmt: skip
    assert list(tracking_layers(network)) == ["batch", "sync", "tracking"]
