"""Vectors with measured statistics against a plain loop over plain networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paramdiff.errors import ConfigError
from paramdiff.scoring import recalibration as module
from paramdiff.scoring.batches import evened, random_subset
from paramdiff.scoring.recalibration import Recalibration
from paramdiff.scoring.scorer import Scorer
from test_scoring import Boxes, Digits, Items, make

ITEMS = 300


class Tied(Digits):
    """A network with dropout and the same norm layer in two places."""

    def model(self):
        norm = nn.BatchNorm2d(4)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU(), nn.Dropout(), nn.Conv2d(4, 4, 3), norm, nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2),
        )  # fmt: skip


def plain(task, zoo, v, items, frozen=()):
    """The statistics of one network, by torch's own ``momentum=None``."""
    model = task.model()
    model.load_state_dict(zoo.state_dict(v))
    model.eval()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and name not in frozen:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None
    x = torch.cat([batch[0] for batch in random_subset(task.train_data(), items)])
    with torch.no_grad():
        for part in x.tensor_split(max(1, len(x) // module.BATCH)):
            model(part)
    return {key: value for key, value in model.state_dict().items() if "running" in key}


@pytest.mark.parametrize(("kind", "items"), [(Digits, 270), (Digits, 1000), (Tied, 270)])
def test_statistics_are_those_of_a_plain_loop_and_nothing_else_changes(kind, items):
    task = kind(items=ITEMS)
    zoo, vectors = make(task, "all")
    found = Recalibration(Scorer(task, zoo), items)(vectors)
    for before, after in zip(vectors, found, strict=True):
        state, old = zoo.spec.unflatten(after), zoo.spec.unflatten(before)
        expected = plain(task, zoo, before, items)
        for key, value in state.items():
            if key in expected:
                torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)
                assert not torch.allclose(value, old[key], rtol=1e-2)
            else:
                assert torch.equal(value, old[key]), key
    assert set(expected) <= set(state)


def test_statistics_outside_the_selection_are_used_as_they_are():
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "1.weight,4.*")
    found = Recalibration(Scorer(task, zoo), 200)(vectors)
    expected = plain(task, zoo, vectors[2], 200, frozen=["1"])
    state = zoo.spec.unflatten(found[2])
    torch.testing.assert_close(state["4.running_mean"], expected["4.running_mean"], rtol=1e-4, atol=1e-6)
    assert torch.equal(state["1.weight"], zoo.spec.unflatten(vectors[2])["1.weight"])


def test_a_network_s_statistics_do_not_depend_on_the_others():
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "all")
    together = Recalibration(Scorer(task, zoo), 200)(vectors)
    for row in (3, 0):
        assert torch.equal(Recalibration(Scorer(task, zoo), 200)(vectors[row : row + 1])[0], together[row])


def test_equal_networks_are_measured_once(monkeypatch):
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "all")
    recalibration = Recalibration(Scorer(task, zoo), 200)
    expected = recalibration(vectors)
    runs = []
    recalibrate = module.recalibrate
    monkeypatch.setattr(module, "recalibrate", lambda *given: runs.append(1) or recalibrate(*given))
    task.data.reads = 0
    rows = [0, 1, 0, 1, 4]
    assert torch.equal(recalibration(vectors[rows]), expected[rows])
    assert len(runs) == 3
    assert task.data.reads == 0, "the items are kept"


def test_scoring_goes_on_with_the_network_it_had():
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "all")
    scorer = Scorer(task, zoo)
    before = scorer.score(vectors, "test").outcomes["nll"]
    state = {key: value.clone() for key, value in scorer.shared.model.state_dict().items()}
    Recalibration(scorer, 200)(vectors)
    assert all(torch.equal(value, state[key]) for key, value in scorer.shared.model.state_dict().items())
    assert torch.equal(scorer.score(vectors, "test").outcomes["nll"], before)


def test_a_broken_network_keeps_its_statistics_and_harms_no_other(monkeypatch):
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "all")
    recalibration = Recalibration(Scorer(task, zoo), 200)
    expected = recalibration(vectors)
    vectors[1, zoo.spec.slices["0.weight"]] = 1e38
    expected[1] = vectors[1]
    said = []
    monkeypatch.setattr(module, "say", said.append)
    assert torch.equal(recalibration(vectors), expected)
    assert said == ["  1 of 5 different networks give NaN or Inf and keep their statistics"]


def test_the_variance_of_a_dead_channel_stays_positive():
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "all")
    vectors[0, zoo.spec.slices["0.weight"]] = 0
    vectors[0, zoo.spec.slices["0.bias"]] = 0
    found = Recalibration(Scorer(task, zoo), 200)(vectors)
    assert bool((found[:, zoo.spec.positive] > 0).all())
    assert float(found[0, zoo.spec.slices["1.running_var"]].max()) < 1e-30


def test_what_was_drawn_can_be_restored():
    task = Digits(items=ITEMS)
    zoo, vectors = make(task, "all")
    recalibration = Recalibration(Scorer(task, zoo), 200)
    drawn = recalibration.drawn(vectors)
    assert {name: value.shape for name, value in drawn.items()} == {
        "1.running_mean": (5, 4), "1.running_var": (5, 4), "4.running_mean": (5, 6), "4.running_var": (5, 6),
    }  # fmt: skip
    found = recalibration(vectors)
    assert not torch.equal(found, vectors)
    assert torch.equal(recalibration.restored(found, drawn), vectors)


def test_no_more_items_are_seen_than_there_are():
    task = Digits(items=ITEMS)
    scorer = Scorer(task, make(task, "all")[0])
    assert [Recalibration(scorer, items).seen for items in (200, 1000)] == [200, ITEMS]


def test_a_selection_without_statistics_is_refused():
    task = Digits(items=ITEMS)
    scorer = Scorer(task, make(task, "last_norms:1")[0])
    with pytest.raises(
        ConfigError,
        match=r"^recalibrate: zoo.select=last_norms:1 generates no running statistics of a BatchNorm layer; expected "
        r"a selection with running_mean or running_var; select them too \(zoo.select=all\), or set recalibrate=0$",
    ):
        Recalibration(scorer, 200)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 20), least=st.integers(1, 70))
def test_evened_batches_hold_the_same_items_in_nearly_equal_parts(n, size, least):
    found = evened(Items(torch.arange(n), torch.arange(n) * 2, size=size).batches(), least)
    x, y = (torch.cat(column) for column in zip(*found, strict=True))
    assert torch.equal(x, torch.arange(n)) and torch.equal(y, 2 * x)
    sizes = [len(batch[0]) for batch in found]
    assert (
        max(sizes) - min(sizes) <= 1
        and min(sizes) >= min(n, least)
        and max(sizes) < 2 * max(least, n / 2) + 1
    )


def test_batches_that_cannot_be_cut_or_joined_stay():
    assert len(evened(Boxes(torch.arange(8), size=2).batches(), 4)) == 4
    wide = [{"x": torch.zeros(3, width)} for width in (1, 2)]
    assert [tuple(batch["x"].shape) for batch in evened(wide, 4)] == [(3, 1), (3, 2)]
    assert evened([], 4) == []
