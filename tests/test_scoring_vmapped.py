"""Networks whose suffixes run at once, against the same networks one by one."""

import re

import pytest
import torch
from torch import nn

from paramdiff.errors import ConfigError
from paramdiff.scoring import vmapped
from paramdiff.scoring.scorer import Scorer
from paramdiff.scoring.vmapped import MOST, Allocated, Stack
from pretend_device import DEVICE, Watched
from test_scoring import Digits, make

CPU = torch.device("cpu")


class Together(Digits):
    def ensemble(self, outputs):
        return torch.stack(list(outputs)).mean(0)


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bfloat16", 2**-8)])
@pytest.mark.parametrize("select", ["last_norms:1", "all", "8.*"])
def test_stacked_scores_are_those_of_the_loop(
    select: str, precision: str, rounding: float, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    monkeypatch.setattr(vmapped, "say", pytest.fail)
    task = Together()
    zoo, vectors = make(task, select, n=7)  # a stack of four and one of three
    groups = [[0, 5], [1, 2, 6], [3, 3, 4]]
    alone, stacked = (
        Scorer(task, zoo, precision=precision, stack=n).score(vectors, "test", groups) for n in (1, 4)
    )
    for one, other in ((stacked, alone), (stacked.ensembles, alone.ensembles)):
        torch.testing.assert_close(one.outcomes["nll"], other.outcomes["nll"], rtol=rounding, atol=0)
        if precision == "float32":
            assert torch.equal(one.outcomes["correct"], other.outcomes["correct"])


def test_as_few_calls_as_stacks_in_the_given_order():
    sizes = []

    def suffix(boundary, v):
        sizes.append(v)
        return {"out": boundary * v.sum(), "same": boundary}

    vectors = torch.arange(12.0).reshape(6, 2)
    found = dict(Stack(suffix, CPU, 4).outputs(torch.ones(3), vectors, [5, 0, 1, 2, 4]))
    assert list(found) == [5, 0, 1, 2, 4] and len(sizes) == 2
    assert torch.equal(found[4]["out"], torch.full((3,), 17.0)) and torch.equal(
        found[4]["same"], torch.ones(3)
    )


class Looking(nn.Module):
    def forward(self, boundary, v):
        return boundary * v if v.sum() > 0 else boundary


@pytest.mark.parametrize("suffix", [Looking(), lambda boundary, v: (boundary * v, 3)])
def test_what_cannot_be_stacked_runs_one_by_one_and_says_so_once(suffix, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(vmapped, "say", said.append)
    stack, vectors = Stack(suffix, CPU, 2), torch.randn(5, 3)
    for _ in range(2):
        found = dict(stack.outputs(torch.ones(3), vectors, range(5)))
        for row, outputs in found.items():
            torch.testing.assert_close(outputs, suffix(torch.ones(3), vectors[row]))
    assert len(found) == 5 and len(said) == 1
    assert re.match(r"  networks are scored one after another: they cannot be stacked \(.+\)$", said[0])


def test_a_cpu_takes_one_at_a_time_and_an_accelerator_what_fits(monkeypatch: pytest.MonkeyPatch):
    assert Stack(lambda boundary, v: boundary, CPU).size == 1
    vectors, sizes = torch.ones(100, 2), []
    for free in (float("inf"), 4 * 10 * 4000, 4000):
        monkeypatch.setattr(vmapped, "free_bytes", lambda device, free=free: free)
        stack = Stack(lambda boundary, v: boundary * v.sum(), DEVICE)
        with Watched():
            list(stack.outputs(torch.ones(999), vectors, range(100)))
        sizes.append(stack.size)
    assert sizes == [MOST, 10, 1]  # a product of 999 numbers and a sum: 4,000 bytes


def test_views_count_as_memory():
    with Allocated() as seen:
        torch.ones(10).view(2, 5) + 1
    assert seen.bytes == 3 * 40


def test_a_stack_of_none():
    task = Digits()
    zoo, _ = make(task)
    with pytest.raises(ConfigError, match="stack: 0 is out of range"):
        Scorer(task, zoo, stack=0)
