"""Activations of hidden units against hooks and closed forms; that order and network are followed."""

import pytest
import torch
from torch import nn

from paramdiff.errors import ZooError
from paramdiff.networks.symmetry import find_symmetries, permute
from paramdiff.networks.unit_activations import UnitActivations


class Residual(nn.Module):
    """A stream of four units that two layers read, with a BatchNorm, behind a convolution; then a flatten."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.mix, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 9, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu_(x + self.mix(x))
        return self.head(x.flatten(1))


def batches(count=2, items=3):
    return [(torch.randn(items, 1, 3, 3, generator=torch.Generator().manual_seed(i)),) for i in range(count)]


def read_by(network, layers, inputs):
    """What goes into these layers, by hooks."""
    found = {name: [] for name in layers}
    hooks = [network.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: found[name].append(x[0]))
             for name in layers]  # fmt: skip
    with torch.no_grad():
        for (x,) in inputs:
            network.eval()(x)
    for hook in hooks:
        hook.remove()
    return [torch.cat(found[name]) for name in layers]


def test_a_stream_is_read_on_every_level():
    torch.manual_seed(0)
    network = Residual()
    (group,) = find_symmetries(network).groups
    ((stem, mixed),) = UnitActivations(network, [group], batches())(network.state_dict())
    into_mix, into_head = read_by(network, ["mix", "head"], batches())
    torch.testing.assert_close(stem, into_mix.movedim(1, -1).flatten(0, 2))
    torch.testing.assert_close(mixed, into_head.view(6, 4, 9).transpose(1, 2).flatten(0, 1))


def test_activations_follow_the_order_of_units():
    torch.manual_seed(0)
    network = Residual()
    symmetries, order = find_symmetries(network), torch.tensor([2, 0, 3, 1])
    read = UnitActivations(network, symmetries.groups, batches())
    state = network.state_dict()
    for x, y in zip(read(state)[0], read(permute(state, symmetries, [order]))[0]):
        torch.testing.assert_close(x[:, order], y)


def test_the_same_rows_of_large_values_are_drawn_for_every_network(monkeypatch):
    monkeypatch.setattr("paramdiff.networks.unit_activations.ROWS", 8)
    network = Residual()
    read = UnitActivations(network, find_symmetries(network).groups, batches())
    ((stem, mixed),) = read(network.state_dict())
    assert len(stem) == 2 * 5 and len(mixed) == 2 * 9
    assert torch.equal(stem, read(network.state_dict())[0][0])


def test_a_network_that_is_called_in_another_way():
    network = Residual()
    groups, call = find_symmetries(network).groups, lambda model, batch: model(batch["image"])
    inputs = [({"image": x},) for (x,) in batches()]
    found = UnitActivations(network, groups, inputs, call)(network.state_dict())
    assert torch.equal(found[0][0], UnitActivations(network, groups, batches())(network.state_dict())[0][0])
    strange = lambda model, batch: model.stem(batch["image"])
    with pytest.raises(ZooError, match="the traced network does not run .*; use zoo.align=weights"):
        UnitActivations(network, groups, inputs, strange)(network.state_dict())
