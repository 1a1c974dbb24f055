"""What a run will need, said before it begins, and refused if it cannot be had."""

from pathlib import Path

import pytest
import torch

from paramdiff.cli import main
from paramdiff.collectors import CheckpointCollector, SeedCollector, TrajectoryCollector
from paramdiff.errors import ConfigError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.runs import resource_estimate
from paramdiff.runs.resource_estimate import ResourceEstimate, blank_zoo
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks import make_task
from paramdiff.zoo.zoo import Zoo


def test_sizes_are_those_of_the_network():
    task = make_task("digits")
    network = sum(tensor.nbytes for tensor in task.model().state_dict().values())
    dim = ParameterSpec.from_model(task.model(), "last_norms:2").dim
    subset = ResourceEstimate.of(TrajectoryCollector(k=24), task, n=12, rows=3)
    assert subset == ResourceEstimate(
        24, dim, 60, 24 * dim * 4 + network, 2 * (24 * dim * 4 + 3 * network), 36 * dim * 4 + network
    )
    assert subset.kept == subset.zoo + subset.samples and subset.disk == subset.zoo + subset.state
    seeds = ResourceEstimate.of(SeedCollector(k=24), task, n=12, rows=3)
    assert seeds.state == 30 * network and seeds.dim > dim
    assert ResourceEstimate.of(CheckpointCollector("somewhere"), task, n=12, rows=3) is None, (
        "nobody knows before it is read"
    )


def test_what_is_there_already_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    zoo = Zoo(
        torch.zeros(1000, 250),
        ParameterSpec.from_state_dict({"w": torch.zeros(250)}),
        {"w": torch.zeros(250)},
    )
    needs = ResourceEstimate.of_zoo(zoo, n=100, rows=5)
    assert (needs.zoo, needs.state, needs.samples) == (1_001_000, 0, 501_000)
    monkeypatch.setattr(resource_estimate, "free_disk", lambda path: 1_000_000)
    with pytest.raises(ConfigError) as caught:
        needs.require_room(tmp_path)
    assert str(caught.value) == (
        f"run_dir: {tmp_path} needs 1.5 MB of disk (1,000 members of 250 parameters: 1 MB, state 0 kB, samples "
        "501 kB), 1 MB are free; free some, choose a run_dir on another disk, or lower zoo.k or n"
    )
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/vectors").write_bytes(bytes(600_000))
    needs.require_room(tmp_path)


def test_a_run_that_cannot_fit_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resource_estimate, "free_disk", lambda path: 10**9)
    assert main(["collect", f"run_dir={tmp_path / 'r'}", "zoo.k=1000000"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "needs 3.07 GB of disk (1,000,000 members of 256 parameters" in line and "1 GB are free" in line
    assert not list((tmp_path / "r").glob(".state/*/*"))


def test_the_outlook_is_measured_here():
    task = make_task("digits")
    scorer = Scorer(task, blank_zoo(task, "last_norms:2"))
    needs = ResourceEstimate(200, 256, 900, 10**6, 2 * 10**6, 10**6)
    assert 0 < scorer.seconds_an_item() < 0.1
    text = needs.outlook(scorer)
    assert (
        text.startswith("the whole run: 900 networks to score, about ") and "on 1,297 training items" in text
    )
    assert "2 MB on disk, 3 MB at most; members take 1 MB of memory" in text
