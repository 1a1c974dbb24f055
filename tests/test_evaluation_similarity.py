"""What is left out where a zoo is compared with itself."""

import pytest
import torch

from paramdiff.error_iou import error_iou
from paramdiff.evaluation.similarity import KEPT, Behaviour, itself, kept_pairs, mean_and_max, within


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


def test_pairs_are_kept_to_be_drawn():
    wrong = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)) < 0.3
    zoo = torch.rand(7, 300, generator=torch.Generator().manual_seed(1)) < 0.3
    pairs = Behaviour.of(wrong, zoo).pairs
    assert list(pairs) == ["iou_within", "iou_between"]
    torch.testing.assert_close(pairs["iou_within"].double(), error_iou(wrong, wrong), atol=5e-4, rtol=0)
    torch.testing.assert_close(pairs["iou_between"].double(), error_iou(wrong, zoo), atol=5e-4, rtol=0)
    own = Behaviour.of_members(zoo, itself(7)).pairs
    assert list(own) == ["iou_within"] and own["iou_within"].dtype == torch.float16


def test_no_more_pairs_than_a_figure_shows():
    iou = torch.arange(301.0).double()[:, None] / 301 + torch.zeros(301, 3).double()
    kept = kept_pairs(iou)
    assert kept.shape == (KEPT, 3)
    assert kept[[0, -1], 0].tolist() == pytest.approx([0, 300 / 301], abs=1e-3)
    assert bool((kept[1:, 0] > kept[:-1, 0]).all())
