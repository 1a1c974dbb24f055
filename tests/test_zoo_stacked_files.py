"""All members in one file, stacked along a first axis, or one clear line."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paramdiff.collectors import CheckpointCollector
from paramdiff.errors import CheckpointError
from paramdiff.files import load_tensors, save_tensors
from paramdiff.tasks import TASKS, make_task
from paramdiff.zoo.stacked_files import find_members
from paramdiff.zoo.state_dicts import Member
from paramdiff.zoo.zoo import Zoo

K = 5


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(x))


NORM = ("norm.weight", "norm.bias")


def stack(*names: str, k: int = K) -> dict[str, Tensor]:
    state = Net().state_dict()
    return {name: torch.rand(k, *state[name].shape) for name in names}


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_slices_become_members_on_the_given_network(tmp_path: Path, suffix: str):
    file, held, model = tmp_path / f"all.{suffix}", stack(*NORM), Net()
    save_tensors(file, held) if suffix == "safetensors" else torch.save(held, file)
    zoo = Zoo.from_checkpoints(file, model, "last_norms:1")
    assert torch.equal(zoo.vectors, torch.cat([held[name] for name in NORM], 1)) and not zoo.trajectory
    assert [record.source for record in zoo.records] == [f"all.{suffix}[{i}]" for i in range(K)]
    state = zoo.state_dict(zoo.vectors[2])
    assert torch.equal(state["fc.weight"], model.fc.weight) and torch.equal(
        state["norm.bias"], held["norm.bias"][2]
    )
    (note,) = zoo.about["notes"]
    assert note.startswith(
        f"all.{suffix}[0] lacks 5 tensors (fc.weight, fc.bias, norm.running_mean and 2 more)"
    )


def test_a_whole_network_can_be_stacked_counters_included(tmp_path: Path):
    states = [{name: t + i for name, t in Net().state_dict().items()} for i in range(K)]
    save_tensors(tmp_path / "all.safetensors", {n: torch.stack([s[n] for s in states]) for n in states[0]})
    zoo = Zoo.from_checkpoints(tmp_path / "all.safetensors", Net(), "norm.weight")
    assert torch.equal(zoo.vectors, torch.stack([state["norm.weight"] for state in states]))
    assert zoo.base["norm.num_batches_tracked"].shape == ()
    assert any("differ outside the selection in fc.weight" in note for note in zoo.about["notes"])


def test_what_is_no_stack_stays_a_checkpoint(tmp_path: Path):
    whole, bare = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_tensors(whole, Net().state_dict())
    save_tensors(bare, stack(*NORM))
    own = Net().state_dict()
    assert find_members(whole, own) == [Member(whole)]


def test_a_stack_among_several_files_is_named(tmp_path: Path):
    save_tensors(tmp_path / "a.safetensors", Net().state_dict())
    save_tensors(tmp_path / "b.safetensors", stack(*NORM))
    with pytest.raises(
        CheckpointError, match=r"b.safetensors holds norm\.\w+ of shape \[5, 4\]; expected \[4\] as in"
    ):
        Zoo.from_checkpoints(tmp_path, Net(), "norm.weight")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (
            {**stack("norm.weight"), "fc.bias": torch.zeros(4)},
            r"holds several members of norm.weight but one of fc.bias; expected either a checkpoint or a stack, .*"
            r"give that with zoo.weights",
        ),
        (
            {**stack("norm.weight"), **stack("norm.bias", k=3)},
            r"holds (5|3) members of norm.\w+ and (5|3) of norm.\w+; expected the same members in every tensor",
        ),
        ({**stack("norm.weight"), "head": torch.zeros(5, 4)}, r"tensors that the model does not have \(head\)"),
        (stack("norm.weight", k=1), r"holds norm.weight of shape \[1, 4\]; expected \[4\]"),
        (stack("fc.bias"), r"all.safetensors\[0\] lacks 1 selected tensors \(norm.weight\)"),
        (
            {"norm.weight": torch.tensor([[1.0] * 4, [torch.nan] * 4])},
            r"all.safetensors\[1\] holds NaN or Inf in norm.weight",
        ),
    ],
)  # fmt: skip
def test_stacks_that_cannot_be_read(tmp_path: Path, held: dict[str, Tensor], message: str):
    save_tensors(tmp_path / "all.safetensors", held)
    with pytest.raises(CheckpointError, match=message):
        Zoo.from_checkpoints(tmp_path / "all.safetensors", Net(), "norm.weight")


def test_importing_with_the_rest_from_another_file(tmp_path: Path):
    """As in ``experiment=reference_zoo``: members of two layers, the network beside them, one trajectory."""
    task = make_task(TASKS["digits"]())
    trained = {
        name: t + 0.01 if t.is_floating_point() else t for name, t in task.model().state_dict().items()
    }
    save_tensors(tmp_path / "net.safetensors", trained)
    held = {n: trained[n] + 0.1 * torch.randn(K, *trained[n].shape) for n in ("norm3.weight", "norm3.bias")}
    save_tensors(tmp_path / "all.safetensors", held)
    collector = CheckpointCollector(
        str(tmp_path / "all.safetensors"), select="last_norms:1", weights=str(tmp_path / "net.safetensors"),
        trajectory=True, k=2,
    )  # fmt: skip
    zoo = collector.collect(task, tmp_path / "state")
    assert zoo.k == 2 and zoo.trajectory and all("train" in record.scores for record in zoo.records)
    assert [r.source for r in zoo.records] == ["all.safetensors[1]", "all.safetensors[4]"], "spread over it"
    assert torch.equal(zoo.base["conv1.weight"], load_tensors(tmp_path / "net.safetensors")["conv1.weight"])
    save_tensors(tmp_path / "net.safetensors", {"conv1.weight": trained["conv1.weight"]})
    with pytest.raises(
        CheckpointError, match=r"net.safetensors does not fit the task's network \(norm1.weight is"
    ):
        collector.collect(task, tmp_path / "state")
