"""Statistics after REPAIR against those of the endpoints; the network and frozen tensors stay as they were."""

import pytest
import torch
from torch import nn

from paramdiff.networks.recalibration import recalibrate
from paramdiff.networks.repair import repair


def plain(bias=True):
    return nn.Sequential(nn.Conv2d(1, 6, 3, bias=bias), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 5, bias=bias),
                         nn.ReLU(), nn.Linear(5, 3))  # fmt: skip


def transposed():
    return nn.Sequential(nn.ConvTranspose2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3))


def normed():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def states(build, count=2):
    torch.manual_seed(0)
    return [build().state_dict() for _ in range(count)]


def mean(ends, weights=(0.5, 0.5)):
    return {
        key: sum(w * end[key].double() for w, end in zip(weights, ends)).to(ends[0][key]) for key in ends[0]
    }


BATCHES = [(torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(i)),) for i in range(2)]


def statistics(network, state, depth):
    """Of the units behind the first ``depth`` layers."""
    network.load_state_dict(state)
    with torch.no_grad():
        y = network.eval()[:depth](torch.cat([x for (x,) in BATCHES]))
    rows = y.transpose(0, 1).flatten(1)
    return torch.stack([rows.mean(1), rows.std(1)])


@pytest.mark.parametrize(("build", "depths"), [(plain, (1, 4)), (transposed, (1,))])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.8, 0.2)])
def test_hidden_units_have_the_mean_statistics_of_the_endpoints(build, depths, weights):
    ends, network = states(build), build()
    middle = mean(ends, weights)
    found = repair(network, middle, ends, BATCHES, weights)
    for depth in depths:
        a, b = (statistics(network, end, depth) for end in ends)
        torch.testing.assert_close(
            statistics(network, found, depth), weights[0] * a + weights[1] * b, atol=5e-3, rtol=1e-2
        )
        assert statistics(network, middle, depth)[1].sum() < 0.95 * (weights[0] * a + weights[1] * b)[1].sum()
    last = list(middle)[-2:]
    assert all(torch.equal(found[key], middle[key]) for key in last)


def test_without_a_bias_units_are_only_scaled():
    build = lambda: plain(bias=False)
    ends, network = states(build), build()
    found, middle = repair(network, mean(ends), ends, BATCHES), mean(ends)
    factor = found["0.weight"] / middle["0.weight"]
    assert (
        list(found) == list(middle) and torch.allclose(factor, factor[:, :1, :1, :1]) and (factor > 1).all()
    )
    a, b = (statistics(network, end, 1) for end in ends)
    torch.testing.assert_close(statistics(network, found, 1)[1], (a[1] + b[1]) / 2, atol=5e-3, rtol=1e-2)


def test_behind_batchnorm_it_is_a_recalibration():
    ends, network = states(normed), normed()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    middle = mean(ends)
    found = repair(network, middle, ends, BATCHES)
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in before.items())
    network.load_state_dict(middle)
    measured = recalibrate(network, BATCHES)
    assert all(torch.equal(found[key], measured.get(key, middle[key])) for key in middle)


def test_only_the_tensors_that_may_change_do():
    ends, network = states(plain), plain()
    found, middle = (
        repair(network, mean(ends), ends, BATCHES, only=["3.weight", "3.bias", "0.weight"]),
        mean(ends),
    )
    assert {key for key in middle if not torch.equal(found[key], middle[key])} == {"3.weight", "3.bias"}


def test_dead_units_are_not_scaled_and_broken_networks_not_repaired():
    ends, network = states(plain), plain()
    middle = mean(ends)
    middle["0.weight"][2] = 0
    assert not repair(network, middle, ends, BATCHES)["0.weight"][2].any()
    middle["0.weight"][0] = torch.nan
    assert repair(network, middle, ends, BATCHES) is None
