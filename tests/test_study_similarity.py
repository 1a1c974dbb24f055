"""Error-IoU against sets, and what is left out where a zoo is compared with itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramdiff.study import similarity as module
from paramdiff.study.similarity import Behaviour, error_iou, itself, mean_and_max, within


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), m=st.integers(1, 4), items=st.integers(1, 30))
def test_it_is_the_iou_of_sets(seed, n, m, items):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(k, items, generator=g) < 0.3 for k in (n, m))
    iou = error_iou(a, b)
    for i in range(n):
        for j in range(m):
            one, other = ({k for k in range(items) if row[k]} for row in (a[i], b[j]))
            expected = len(one & other) / len(one | other) if one | other else 1.0
            assert iou[i, j] == pytest.approx(expected, abs=1e-12)


def test_two_networks_without_mistakes_are_the_same():
    none, one = torch.zeros(1, 5, dtype=torch.bool), torch.tensor([[True, False, False, False, False]])
    assert error_iou(none, none).item() == 1
    assert error_iou(none, one).item() == 0


def test_items_in_blocks_give_the_same_counts(monkeypatch):
    a, b = torch.rand(3, 100) < 0.4, torch.rand(5, 100) < 0.4
    whole = error_iou(a, b)
    monkeypatch.setattr(module, "ITEMS_AT_ONCE", 7)
    assert torch.equal(error_iou(a, b), whole)


def test_within_leaves_out_the_diagonal():
    iou = torch.tensor([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]]).double()
    assert within(iou) == pytest.approx(0.4)
    assert within(iou[:1, :1]) is None


def test_mean_and_max_leave_out_pairs():
    iou = torch.tensor([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]]).double()
    mean, most = mean_and_max(iou, itself(3))
    assert mean.tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert most.tolist() == pytest.approx([0.4, 0.6, 0.6])
    mean, most = mean_and_max(iou)
    assert mean.tolist() == pytest.approx([1.6 / 3, 0.6, 2 / 3])
    assert most.tolist() == [1, 1, 1]


def test_members_are_compared_with_others():
    wrong = torch.rand(4, 200) < 0.3
    behaviour = Behaviour.of_members(wrong, itself(4))
    assert behaviour.within == pytest.approx(float(behaviour.mean.mean()))
    assert float(behaviour.max.max()) < 1
    assert float(Behaviour.of(wrong[:2], wrong).max.min()) == 1


def test_one_network_and_two_members():
    wrong = torch.tensor([[True, False, True], [True, True, False]])
    one = Behaviour.of(wrong[:1], wrong)
    assert one.within is None
    assert one.max.tolist() == [1]
    two = Behaviour.of_members(wrong, itself(2))
    assert two.max.tolist() == two.mean.tolist() == pytest.approx([1 / 3, 1 / 3])
