"""The comparison of ways to align networks, on copies of one network, which any alignment brings back."""

import pytest
import torch

from benchmarks.alignment import main
from paramdiff.files import read_json
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.tasks import make_task
from paramdiff.zoo.zoo import Zoo


def test_copies_in_random_orders_have_no_barrier_once_they_are_aligned(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.alignment.ITEMS", 64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = make_task("digits").model().state_dict()
    spec = ParameterSpec.from_state_dict(state, "all")
    Zoo(spec.flatten(state).repeat(4, 1), spec, state).save(tmp_path / "zoo")
    words = ["--task", "digits", "--methods", "weights", "--members", "2", "--pairs", "1"]
    main([str(tmp_path), *words, "--out", str(tmp_path / "found.json")])
    rows = read_json(tmp_path / "found.json")["rows"]
    assert [(row["method"], row["repair"]) for row in rows] == [
        ("none", "no"), ("none", "yes"), ("weights", "no"), ("weights", "yes")
    ]  # fmt: skip
    assert rows[2]["average_barrier"] == pytest.approx(0, abs=1e-6)
    assert abs(rows[0]["average_barrier"]) > 1e-6
    assert capsys.readouterr().out.count("\n") == 6
