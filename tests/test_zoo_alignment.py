"""Members that are reordered copies must come back; others must get nearer, and compute what they did."""

import json

import pytest
import torch
from torch import nn
from torch.func import functional_call

from paramdiff.errors import ConfigError, ZooError
from paramdiff.networks.symmetry import Symmetries, find_symmetries, permute
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.activation_matching import standardised
from paramdiff.zoo.alignment import METHODS, AlignmentData, align, align_zoo
from paramdiff.zoo.learnt_matching import learn
from paramdiff.zoo.weight_matching import Matcher
from paramdiff.zoo.zoo import Zoo


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10)
    )


def convnet():
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))


class Residual(nn.Module):
    """One group on both axes of a tensor."""

    def __init__(self):
        super().__init__()
        self.stem, self.mix, self.head = nn.Linear(64, 12), nn.Linear(12, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = self.stem(x.flatten(1))
        return self.head(x + torch.relu(self.mix(x)))


def drawn(network, seed):
    """A state with every float tensor random; running statistics much larger than weights."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        scale = 50 * torch.rand(tensor.shape, generator=random) if "running" in name else 1
        value = torch.randn(tensor.shape, generator=random).abs() if "var" in name else None
        value = torch.randn(tensor.shape, generator=random) if value is None else value
        state[name] = value * scale if tensor.is_floating_point() else tensor
    return state


def shuffled(network, state, seed):
    groups, random = find_symmetries(network), torch.Generator().manual_seed(seed)
    return permute(state, groups, [torch.randperm(g.size, generator=random) for g in groups.groups])


def make_zoo(network, states, select="all", **about):
    spec = ParameterSpec.from_model(network, select)
    return Zoo(torch.stack([spec.flatten(state) for state in states]), spec, states[0], about=about)


def copies(network, k=5, noise=0.0):
    """The same network k times, each in its own order, and how it was."""
    first = drawn(network, 0)
    states = [first, *(shuffled(network, first, seed) for seed in range(1, k))]
    zoo = make_zoo(network, states)
    random = torch.Generator().manual_seed(9)
    zoo.vectors += noise * torch.randn(zoo.vectors.shape, generator=random)
    return zoo


def strangers(network, k=5):
    return make_zoo(network, [drawn(network, member) for member in range(k)])


class Distance:
    """Feedback of a task whose loss is the squared distance to some vector."""

    def __init__(self, wanted):
        self.wanted = wanted

    def __call__(self, vectors):
        return -(vectors - self.wanted).square().sum(1)

    def gradients(self, vectors, batch):
        return 2 * (vectors - self.wanted)


def data(zoo):
    images = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    return AlignmentData([(images,), (2 * images,)], Distance(zoo.vectors[0]), steps=3)


def outputs(network, zoo):
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return torch.stack([functional_call(network.eval(), zoo.state_dict(v), (x,)) for v in zoo.vectors])


def spread(vectors):
    return float(vectors.double().var(0).sum())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [mlp, convnet, Residual])
def test_reordered_copies_come_back(build, method):
    network = build()
    zoo = copies(network)
    assert spread(zoo.vectors) > 1
    aligned, facts = align(zoo, find_symmetries(network), 0, method, network, data(zoo))
    assert torch.equal(aligned.vectors, zoo.vectors[:1].expand_as(zoo.vectors))
    assert facts.groups == facts.of == len(find_symmetries(network).groups)


def test_noisy_copies_come_back():
    zoo = copies(mlp(), noise=0.1)
    aligned, _ = align(zoo, find_symmetries(mlp()))
    assert spread(aligned.vectors) < 1.3 * 0.1**2 * zoo.dim < 0.1 * spread(zoo.vectors)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [mlp, convnet, Residual])
def test_members_compute_what_they_did(build, method):
    network = build()
    zoo = strangers(network)
    aligned, _ = align(zoo, find_symmetries(network), 0, method, network, data(zoo))
    assert not torch.equal(aligned.vectors, zoo.vectors)
    torch.testing.assert_close(outputs(network, aligned), outputs(network, zoo), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("build", [mlp, Residual])
def test_matching_brings_strangers_nearer_and_ends_where_nothing_gains(build):
    groups = find_symmetries(build())
    for seed in range(5):
        zoo = make_zoo(build(), [drawn(build(), 100 + seed), drawn(build(), 200 + seed)])
        once, _ = align(zoo, groups)
        again, _ = align(once, groups, seed=1)
        assert torch.equal(again.vectors, once.vectors) and spread(once.vectors) < spread(zoo.vectors)


def test_running_statistics_have_no_say():
    """The order follows from the weights, although the statistics of the two members say otherwise."""
    network = convnet()
    zoo = copies(network, k=2)
    statistics = zoo.spec.slices["1.running_mean"]
    zoo.vectors[1, statistics] = zoo.vectors[1, statistics].flip(0)
    aligned, _ = align(zoo, find_symmetries(network))
    weights = zoo.spec.slices["0.weight"]
    assert torch.equal(aligned.vectors[1, weights], aligned.vectors[0, weights])


def test_the_zoo_itself_stays_as_it_was():
    zoo = copies(mlp())
    before, about = zoo.vectors.clone(), dict(zoo.about)
    aligned, _ = align(zoo, find_symmetries(mlp()))
    assert torch.equal(zoo.vectors, before) and zoo.about == about
    assert aligned.records == zoo.records


def test_the_same_seed_gives_the_same_bits():
    zoo, groups = strangers(mlp()), find_symmetries(mlp())
    assert torch.equal(align(zoo, groups, seed=1)[0].vectors, align(zoo, groups, seed=1)[0].vectors)


def test_groups_with_frozen_tensors_are_left_alone():
    network = mlp()
    zoo = make_zoo(network, [drawn(network, member) for member in range(4)], select="3,5")
    aligned, facts = align(zoo, find_symmetries(network))
    assert (facts.groups, facts.of) == (1, 2)
    torch.testing.assert_close(outputs(network, aligned), outputs(network, zoo), rtol=1e-4, atol=1e-3)
    rows = zoo.spec.slices["3.weight"]
    before, after = (z.vectors[:, rows].view(4, 8, 12).sort(1).values for z in (zoo, aligned))
    assert torch.equal(before, after) and not torch.equal(zoo.vectors, aligned.vectors)


def test_broken_members_are_left_alone():
    zoo = copies(mlp())
    zoo.vectors[2, 7] = torch.nan
    aligned, _ = align(zoo, find_symmetries(mlp()))
    assert torch.equal(aligned.vectors[4], aligned.vectors[0])
    torch.testing.assert_close(aligned.vectors[2], zoo.vectors[2], equal_nan=True)


def test_equal_units_end():
    """Units that are all alike could be swapped for ever."""
    zoo = copies(mlp())
    zoo.vectors[:] = 0.1
    assert torch.equal(align(zoo, find_symmetries(mlp()))[0].vectors, zoo.vectors)


def test_double_precision_is_kept():
    zoo = copies(mlp().double())
    assert align(zoo, find_symmetries(mlp()))[0].vectors.dtype == torch.float64


# By activations and through the loss


def test_activations_show_what_weights_do_not():
    """Every input comes twice; one network reads the first of each, the other the second, in another order."""
    network, order = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), torch.tensor([2, 0, 3, 1])
    states = [drawn(network, seed) for seed in (0, 1)]
    none = torch.zeros(4, 4)
    states[0]["0.weight"] = torch.cat([torch.eye(4), none], 1)
    states[1]["0.weight"] = torch.cat([none, torch.eye(4)[order]], 1)
    zoo = make_zoo(network, states)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    aligned, _ = align(zoo, find_symmetries(network), 0, "activations", network, AlignmentData([(x,)]))
    read = aligned.vectors[:, zoo.spec.slices["0.weight"]].view(2, 4, 2, 4)
    assert torch.equal(read[0, :, 0], read[1, :, 1])
    read = align(zoo, find_symmetries(network))[0].vectors[:, zoo.spec.slices["0.weight"]].view(2, 4, 2, 4)
    assert not torch.equal(read[0, :, 0], read[1, :, 1])


class Unread(nn.Module):
    """The mean of its hidden units."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(64, 12)

    def forward(self, x):
        return self.stem(x.flatten(1)).relu().mean(1)


def test_units_that_no_layer_reads_keep_their_order():
    zoo = strangers(Unread(), k=2)
    found, facts = align(zoo, find_symmetries(Unread()), 0, "activations", Unread(), data(zoo))
    assert torch.equal(found.vectors, zoo.vectors) and facts.groups == 1


def test_constant_units_correlate_with_nothing():
    x = torch.tensor([[1e3, 0.0, 1.0], [1e3, 0.0, 2.0], [1e3, 0.0, 3.0]])
    found = standardised(x)
    assert torch.equal(found[:, :2], torch.zeros(3, 2))
    torch.testing.assert_close(found[:, 2], torch.tensor([-1.0, 0.0, 1.0]) / 2**0.5)


def test_the_loss_leads_to_the_order_that_weights_miss():
    """The reference says one order, the loss of the midpoint another."""
    network = mlp()
    wanted, reference = copies(network, k=2).vectors
    found, matcher = (
        wanted.clone(),
        Matcher(make_zoo(network, [drawn(network, 0)]).spec, find_symmetries(network).groups),
    )
    feedback = Distance((reference + wanted) / 2)
    order = learn(found, reference, matcher, feedback, torch.Generator().manual_seed(0), steps=60, lr=0.3)
    assert torch.equal(order, wanted)
    assert not torch.equal(learn(found, reference, matcher, feedback, torch.Generator(), steps=0), wanted)


def test_a_loss_that_is_nan_leaves_the_order_of_weights():
    zoo, groups = strangers(mlp(), k=2), find_symmetries(mlp())
    feedback = Distance(torch.full((zoo.dim,), torch.nan))
    found, _ = align(zoo, groups, 0, "loss", data=AlignmentData(feedback=feedback))
    assert torch.equal(found.vectors, align(zoo, groups)[0].vectors)


def test_what_a_method_lacks_is_said():
    zoo = copies(mlp(), k=2)
    with pytest.raises(ConfigError, match="align: activations was asked for without training inputs; expected inputs "
                       "on which .*; give them, or use align=weights, which needs no data"):  # fmt: skip
        align_zoo(zoo, mlp(), method="activations")
    with pytest.raises(
        ConfigError, match="align: loss was asked for without a task; expected the training loss"
    ):
        align_zoo(zoo, mlp(), method="loss", data=AlignmentData([(torch.zeros(2, 1, 8, 8),)]))
    with pytest.raises(
        ConfigError, match="align: 'lost' is not known; expected one of weights, activations, loss"
    ):
        align_zoo(zoo, mlp(), method="lost")
    with pytest.raises(ZooError, match="activations cannot be read: the traced network does not run"):
        align_zoo(zoo, mlp(), method="activations", data=AlignmentData([(torch.zeros(2, 3),)]))


def test_the_note_names_the_method():
    zoo = copies(mlp(), k=2)
    note = align_zoo(zoo, mlp(), method="loss", data=data(zoo)).about["notes"][0]
    assert note == "2 of 2 groups of hidden units were put in a common order by the loss of midpoints"


# Deciding


def nearness(zoo):
    """A score that is 1 for every member and its copies, and falls off the way between them."""
    network = mlp()
    wanted = outputs(network, zoo)[0]

    def score(vectors):
        found = outputs(network, Zoo(vectors, zoo.spec, zoo.base))
        return 1 / (1 + (found - wanted).square().mean((1, 2)))

    return score


def test_auto_aligns_copies_and_keeps_the_barrier():
    zoo = copies(mlp())
    aligned = align_zoo(zoo, mlp(), score=nearness(zoo))
    facts = aligned.about["aligned"]
    assert facts["before"]["midpoints"] < 0.9 < facts["after"]["midpoints"] == pytest.approx(1)
    assert facts["groups"] == 2
    note = aligned.about["notes"][0]
    assert note.startswith(
        "2 of 2 groups of hidden units were put in a common order (midpoints of members score 0."
    )
    assert note.endswith(" before, 1 after)")


def test_about_an_alignment_is_saved(tmp_path):
    zoo = copies(mlp())
    aligned = align_zoo(zoo, mlp(), score=nearness(zoo))
    aligned.save(tmp_path / "zoo")
    again = Zoo.load(tmp_path / "zoo")
    assert again.about == aligned.about == json.loads(json.dumps(aligned.about))


def test_without_a_score_members_are_aligned():
    aligned = align_zoo(copies(mlp()), mlp())
    assert aligned.about["notes"] == ["2 of 2 groups of hidden units were put in a common order"]
    assert aligned.about["aligned"]["before"] is None
    assert spread(aligned.vectors) == pytest.approx(0, abs=1e-9)


def test_a_trajectory_is_aligned_only_if_told():
    zoo = make_zoo(mlp(), [drawn(mlp(), member) for member in range(3)], trajectory=True)
    assert align_zoo(zoo, mlp()) is zoo
    assert "aligned" in align_zoo(zoo, mlp(), auto=False).about


def test_one_basin_is_left_alone():
    zoo = copies(mlp())
    assert align_zoo(zoo, mlp(), score=lambda vectors: torch.ones(len(vectors))) is zoo
    forced = align_zoo(zoo, mlp(), score=lambda vectors: torch.ones(len(vectors)), auto=False)
    assert spread(forced.vectors) == pytest.approx(0, abs=1e-9)


def unchanged(zoo, found):
    assert torch.equal(zoo.vectors, found.vectors) and "aligned" not in found.about
    (note,) = found.about["notes"]
    return note


def test_what_cannot_be_aligned_says_why():
    zoo = copies(mlp())

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    note = unchanged(zoo, align_zoo(zoo, Branching()))
    assert note.startswith("hidden units were not aligned: they cannot be followed through the network, as ")
    head = make_zoo(mlp(), [drawn(mlp(), member) for member in range(3)], select="5")
    assert unchanged(head, align_zoo(head, mlp())) == (
        "hidden units were not aligned: the selection '5' holds none of the 2 groups of them with all of its "
        "tensors"
    )


def test_members_that_score_differently_are_not_reordered():
    zoo = strangers(mlp())
    score = lambda vectors: vectors[:, 0]  # depends on the order
    assert unchanged(zoo, align_zoo(zoo, mlp(), score=score, auto=False)) == (
        "hidden units were not aligned: members score differently when they are reordered, so the traced "
        "graph does not tell all"
    )


def test_auto_drops_what_does_not_help():
    zoo = strangers(mlp())
    norms = zoo.vectors.norm(dim=1)

    def score(vectors):
        """1 for members, whatever their order, and 0 in between."""
        return ((vectors.norm(dim=1)[:, None] - norms).abs().min(1).values < 1e-3).float()

    note = unchanged(zoo, align_zoo(zoo, mlp(), score=score))
    assert (
        note
        == "hidden units were not aligned: it does not help (midpoints of members score 0 before, 0 after)"
    )
    assert "aligned" in align_zoo(zoo, mlp(), score=score, auto=False).about


def test_merged_zoos_have_no_common_order():
    aligned = align_zoo(copies(mlp()), mlp())
    assert "aligned" in Zoo.merge(aligned).about and "aligned" not in Zoo.merge(aligned, aligned).about
    assert "aligned" in aligned[:2].about


# Real trainings


@pytest.fixture(scope="module")
def trained():
    """12 networks for the digits, each from its own seed, trained side by side; and how they score."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.from_numpy(bunch.images).float() / 8 - 1, torch.from_numpy(bunch.target)
    random, network = torch.Generator().manual_seed(0), mlp()
    shapes = {name: tensor.shape for name, tensor in network.named_parameters()}
    state = {
        name: (torch.rand(12, *shape, generator=random) - 0.5).div_(shape[-1] ** 0.5 / 2).requires_grad_()
        for name, shape in shapes.items()
    }
    forward = torch.func.vmap(lambda state, x: functional_call(network, state, (x,)))
    optimiser = torch.optim.Adam(state.values(), lr=1e-2)
    for _ in range(150):
        rows = torch.randint(len(x), (12, 128), generator=random)
        outputs = forward(state, x[rows])
        optimiser.zero_grad()
        (12 * nn.functional.cross_entropy(outputs.flatten(0, 1), y[rows].flatten())).backward()
        optimiser.step()
    spec = ParameterSpec.from_model(network, "all")
    vectors = torch.cat([tensor.detach().flatten(1) for tensor in state.values()], 1)
    zoo = Zoo(vectors, spec, spec.unflatten(vectors[0]))

    def accuracy(vectors):
        with torch.no_grad():
            found = [functional_call(network, spec.unflatten(v), (x,)).argmax(1) for v in vectors]
        return torch.stack([(one == y).double().mean() for one in found])

    return zoo, accuracy


def test_trainings_from_different_seeds_come_into_one_basin(trained):
    zoo, accuracy = trained
    aligned = align_zoo(zoo, mlp(), score=accuracy)
    before, after = (aligned.about["aligned"][when] for when in ("before", "after"))
    assert before["members"] == pytest.approx(after["members"], abs=1e-3) and before["members"] > 0.9
    assert after["midpoints"] > before["midpoints"] + 0.1
    averages = accuracy(torch.stack([zoo.vectors.mean(0), aligned.vectors.mean(0)]))
    assert averages[1] > averages[0] + 0.2


def test_symmetries_of_nothing_change_nothing(trained):
    zoo, _ = trained
    aligned, facts = align(zoo, Symmetries(()))
    assert torch.equal(aligned.vectors, zoo.vectors) and facts.groups == 0
