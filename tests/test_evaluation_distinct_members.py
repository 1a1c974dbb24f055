"""Which members count as one: duplicates, near-copies, steps of one run; and which do not."""

import pytest
import torch

from paramdiff.evaluation.distinct_members import alike, clumps, count, in_order, representatives, same_run
from paramdiff.zoo.records import Record


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def apart(vectors):
    return torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")


@pytest.mark.parametrize("dim", [6, 10, 300])
def test_independent_members_are_all_distinct(dim):
    assert count(alike(apart(random(60, dim)))) >= 59


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_duplicates_are_one(noise):
    v = torch.cat([random(30, 100), random(30, 100)[:20] + noise * random(20, 100, seed=1)])
    found = alike(apart(v))
    assert count(found) == 30
    assert len(representatives(apart(v))) == 30
    assert bool(found[0, 30]) and not bool(found[0, 31])
    assert count(clumps(apart(v[[0] * 20 + list(range(1, 30))]))) == 30


def test_modes_are_not_clumps():
    v = random(4, 50).repeat(15, 1) + 0.25 * random(60, 50, seed=1)
    assert count(alike(apart(v))) == 60
    assert count(alike(apart(v[torch.arange(60).argsort(stable=True)]))) == 60


def test_a_trajectory_shows_without_its_flag():
    steps = torch.arange(60).double()
    factor = torch.linalg.cholesky(torch.exp(-(steps[:, None] - steps).abs() / 5))
    walk = factor @ random(60, 200)
    assert bool(in_order(apart(walk))[10, 14])
    assert torch.equal(alike(apart(walk)), alike(apart(walk), trajectory=True))
    assert torch.equal(in_order(apart(random(60, 200))), torch.eye(60, dtype=torch.bool))


def test_merged_runs_are_left_out_whole():
    runs = [random(1, 200, seed=i) + 0.1 * random(15, 200, seed=i + 50).cumsum(0) for i in range(8)]
    found = alike(apart(torch.cat(runs)))
    assert count(found) == 8
    assert bool(found[0, 14]) and not bool(found[14, 15])


def test_runs_by_their_records():
    records = [Record(seed=i // 5, step=i) for i in range(20)]
    found = same_run(records, 20)
    assert bool(found[0, 4]) and not bool(found[4, 5])
    folders = [Record(source=f"run{i // 5}/step{i}.pt") for i in range(20)]
    assert torch.equal(same_run(folders, 20), found)
    one_each = [Record(seed=i) for i in range(20)]
    assert torch.equal(same_run(one_each, 20), torch.eye(20, dtype=torch.bool))
    two_runs = [Record(seed=i // 10) for i in range(20)]
    assert torch.equal(same_run(two_runs, 20), torch.eye(20, dtype=torch.bool))
