"""Error-IoU against sets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramdiff import error_iou as module
from paramdiff.error_iou import error_iou


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
