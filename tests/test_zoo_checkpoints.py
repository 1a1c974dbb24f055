"""Checkpoints on disk become a zoo, or one clear line."""

import json
import re
import sys

import pytest
import torch
from torch import Tensor, nn

from paramdiff import devices
from paramdiff.errors import CheckpointError, ConfigError, SelectionError, ZooError
from paramdiff.files import save_tensors
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.checkpoints import read_checkpoints
from paramdiff.zoo.file_groups import MixedCheckpointsError
from paramdiff.zoo.file_search import find_checkpoints
from paramdiff.zoo.opening import open_zoo
from paramdiff.zoo.state_dicts import read_state
from paramdiff.zoo.zoo import Zoo


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def states(n: int, network: type[nn.Module] = Net) -> list[dict[str, Tensor]]:
    """State dicts that share everything but the normalisation layer."""
    base = network().state_dict()
    return [
        {name: torch.rand_like(t) if name.startswith("bn.w") else t for name, t in base.items()}
        for _ in range(n)
    ]


def write(folder, named):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in named.items():
        if name.endswith(".safetensors"):
            save_tensors(folder / name, value)
        else:
            torch.save(value, folder / name)
    return folder


def fails(message: str, error: type[Exception] = CheckpointError):
    return pytest.raises(error, match=message)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth", "th", "ckpt"])
def test_every_format_gives_the_same_zoo(tmp_path, suffix):
    originals = states(3)
    write(tmp_path, {f"step_{i}.{suffix}": state for i, state in enumerate(originals)})
    zoo = Zoo.from_checkpoints(tmp_path, Net(), "bn.weight")
    assert torch.equal(zoo.vectors, torch.stack([state["bn.weight"] for state in originals]))
    for v, state in zip(zoo.vectors, originals):
        back = zoo.state_dict(v)
        assert list(back) == list(state) and all(torch.equal(back[name], state[name]) for name in state)
        Net().load_state_dict(back)


def test_files_written_before_zip_and_half_precision_are_read(tmp_path):
    torch.save({"w": torch.ones(3).half()}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.zeros(3).half()}, tmp_path / "b.pt")
    zoo = Zoo.from_checkpoints(tmp_path)
    assert zoo.vectors.dtype == torch.float32 and zoo.state_dict(zoo.vectors[0])["w"].dtype == torch.float16


def test_defaults_select_the_last_norms_with_a_model_and_all_without(tmp_path):
    write(tmp_path, {f"{i}.pt": state for i, state in enumerate(states(2))})
    assert Zoo.from_checkpoints(tmp_path).dim == sum(
        t.numel() for t in states(1)[0].values() if t.is_floating_point()
    )
    with fails("asks for more normalisation layers than there are", SelectionError):
        Zoo.from_checkpoints(tmp_path, Net())
    assert Zoo.from_checkpoints(tmp_path, Net(), "last_norms:1").spec.names == ["bn.weight", "bn.bias"]


# --- which files -----------------------------------------------------------------------------------


def test_folders_globs_files_and_lists(tmp_path):
    folder = write(tmp_path, {f"step_{i}.pt": {"w": torch.ones(1)} for i in (10, 9, 1)})
    write(tmp_path / "deep", {"x.pt": {"w": torch.ones(1)}})
    for name in (".hidden.pt", "notes.txt", "optimizer.pt", "rng_state_0.pth"):
        (tmp_path / name).write_bytes(b"no checkpoint")
    names = ["step_1.pt", "step_9.pt", "step_10.pt"]
    assert [path.name for path in find_checkpoints(folder)] == names
    assert [path.name for path in find_checkpoints(str(folder / "*"))] == names
    assert [path.name for path in find_checkpoints(str(folder / "**" / "*.pt"))] == ["x.pt", *names]
    assert [path.name for path in find_checkpoints([folder / "step_9.pt", folder / "step_1.pt"])] == [
        "step_9.pt", "step_1.pt",
    ]  # fmt: skip
    assert [path.name for path in find_checkpoints(folder / "step_9.pt")] == ["step_9.pt"]


def test_a_folder_of_folders_is_searched_to_the_ground(tmp_path):
    for step in (500, 1000):
        write(tmp_path / f"checkpoint-{step}", {"model.safetensors": {"w": torch.ones(2) * step}})
        torch.save({"state": {}}, tmp_path / f"checkpoint-{step}" / "optimizer.pt")
    write(tmp_path / ".cache", {"model.safetensors": {"w": torch.ones(2)}})
    zoo = Zoo.from_checkpoints(tmp_path)
    assert zoo.vectors[:, 0].tolist() == [500, 1000]
    assert [(r.source, r.step) for r in zoo.records] == [
        ("checkpoint-500/model.safetensors", 500), ("checkpoint-1000/model.safetensors", 1000),
    ]  # fmt: skip
    assert zoo.trajectory


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    write(tmp_path, {"a[1].pt": {"w": torch.ones(2)}})
    assert find_checkpoints(str(tmp_path / "a[1].pt")) == [tmp_path / "a[1].pt"]


def test_nothing_found(tmp_path):
    with fails(r"nowhere does not exist; expected a checkpoint file or a folder of them"):
        find_checkpoints(tmp_path / "nowhere")
    with fails(r"holds no checkpoint; expected files that end in .safetensors, .pt"):
        find_checkpoints(tmp_path)
    with fails(r"no checkpoint matches .*\*.pt"):
        find_checkpoints(str(tmp_path / "*.pt"))
    with fails("an empty list of checkpoints; expected at least one file"):
        find_checkpoints([])


# --- files against each other and against the model -----------------------------------------------


def test_different_shapes_name_the_tensor_and_both_files(tmp_path):
    write(tmp_path, {"a.pt": {"w": torch.ones(2, 3)}, "b.pt": {"w": torch.ones(2, 4)}})
    with fails(r"b.pt holds w of shape \[2, 4\]; expected \[2, 3\] as in \S*a.pt"):
        Zoo.from_checkpoints(tmp_path)


def test_missing_and_additional_tensors_are_named(tmp_path):
    write(tmp_path, {"a.pt": {"v": torch.ones(2), "w": torch.ones(2)}, "b.pt": {"v": torch.ones(2)}})
    with fails(r"b.pt has no tensor w; expected shape \[2\]"):
        Zoo.from_checkpoints(tmp_path)
    with fails(r"a.pt holds w, which \S*b.pt does not have; expected checkpoints of one network"):
        Zoo.from_checkpoints([tmp_path / "b.pt", tmp_path / "a.pt"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_name_file_and_tensor(tmp_path, value):
    write(
        tmp_path,
        {
            "a.pt": {"v": torch.ones(2), "w": torch.ones(2)},
            "b.pt": {"v": torch.ones(2), "w": torch.tensor([0, value])},
        },
    )
    with fails(r"b.pt holds NaN or Inf in w; expected finite numbers; remove that checkpoint"):
        Zoo.from_checkpoints(tmp_path)
    assert Zoo.from_checkpoints(tmp_path, select="v").k == 2


def test_a_model_with_other_names_or_shapes(tmp_path):
    state = states(1)[0]
    write(tmp_path, {"a.pt": {name.replace("fc", "head"): t for name, t in state.items()}})
    with fails(r"a.pt holds 2 tensors that the model does not have \(head.weight, head.bias\); "
               r"expected the model's names \(conv.weight, conv.bias, bn.weight and 6 more\); "):  # fmt: skip
        Zoo.from_checkpoints(tmp_path, Net(), "bn")
    write(tmp_path, {"a.pt": state | {"fc.weight": torch.ones(9, 2)}})
    with fails(r"a.pt holds fc.weight of shape \[9, 2\]; expected \[3, 2\] as in the model"):
        Zoo.from_checkpoints(tmp_path, Net(), "bn")
    write(tmp_path, {"a.pt": {"conv.weight": state["conv.weight"]}})
    with fails(r"a.pt lacks 4 selected tensors \(bn.weight, bn.bias, bn.running_mean and 1 more\)"):
        Zoo.from_checkpoints(tmp_path, Net(), "bn")


def test_what_the_checkpoints_lack_comes_from_the_model(tmp_path):
    model = Net()
    write(tmp_path, {f"{i}.pt": {"bn.weight": torch.rand(2)} for i in range(2)})
    zoo = Zoo.from_checkpoints(tmp_path, model, "bn.weight")
    assert torch.equal(zoo.base["fc.weight"], model.fc.weight) and list(zoo.base) == list(model.state_dict())
    assert zoo.about["notes"] == [
        "0.pt lacks 8 tensors (conv.weight, conv.bias, bn.bias and 5 more); they are taken from the model"
    ]


def test_tied_tensors_of_which_the_file_keeps_one(tmp_path):
    for i in range(2):
        write(tmp_path, {f"{i}.safetensors": {"embed.weight": torch.full((5, 3), float(i))}})
    whole = Zoo.from_checkpoints(tmp_path, Tied(), "all")
    assert whole.dim == 15 and whole.about["notes"] == []
    Tied().load_state_dict(whole.state_dict(whole.vectors[1]))
    assert torch.equal(whole.base["head.weight"], whole.base["embed.weight"])


def test_differences_outside_the_selection_are_noted(tmp_path):
    first, second, third = states(3)
    second = second | {"fc.weight": torch.rand(3, 2), "bn.num_batches_tracked": torch.tensor(9)}
    third = third | {name: torch.rand_like(third[name]) for name in ("conv.weight", "conv.bias", "fc.bias")}
    write(tmp_path, {"a.pt": first, "b.pt": second, "c.safetensors": third})
    zoo = Zoo.from_checkpoints(tmp_path, select="bn.weight")
    assert zoo.about["notes"] == [
        "the checkpoints differ outside the selection in conv.weight, conv.bias, fc.weight and 1 more; "
        "the frozen rest is taken from a.pt"
    ]
    assert torch.equal(zoo.base["conv.weight"], first["conv.weight"])
    assert Zoo.from_checkpoints(tmp_path, select="all").about["notes"] == []


def test_the_zoo_survives_the_files(tmp_path):
    write(tmp_path, {f"{i}.pt": {"v": torch.ones(2) * i, "w": torch.ones(3)} for i in range(2)})
    zoo = Zoo.from_checkpoints(tmp_path, select="v")
    for file in find_checkpoints(tmp_path):
        file.write_bytes(b"")  # the same inode: a memory map would break
    assert zoo.base["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_go_when_that_fits_the_model(tmp_path, prefix):
    write(
        tmp_path,
        {f"{i}.pt": {prefix + name: t for name, t in state.items()} for i, state in enumerate(states(2))},
    )
    assert list(Zoo.from_checkpoints(tmp_path, Net(), "bn.weight").base) == list(Net().state_dict())


def test_files_with_and_without_a_prefix_go_together(tmp_path):
    write(tmp_path, {"a.pt": {"w": torch.ones(2)}, "b.pt": {"module.w": torch.zeros(2)}})
    assert Zoo.from_checkpoints(tmp_path).vectors.tolist() == [[1, 1], [0, 0]]


def test_about_says_where_it_came_from(tmp_path):
    write(tmp_path, {f"step{i}.pt": {"w": torch.rand(2)} for i in (1, 2)})
    assert read_checkpoints(tmp_path)[4] == {
        "collector": "import", "trajectory": True, "source": str(tmp_path), "notes": [],
    }  # fmt: skip
    about = read_checkpoints([tmp_path / "step2.pt", tmp_path / "step1.pt"])[4]
    assert not about["trajectory"] and about["source"] == f"2 files, the first {tmp_path / 'step2.pt'}"


# --- one door for zoos and checkpoints ---------------------------------------------------------------


def test_open_zoo_reads_saved_zoos_run_folders_and_checkpoints(tmp_path):
    write(tmp_path / "files", {f"{name}.pt": {"w": torch.rand(2)} for name in "abc"})
    zoo = Zoo.from_checkpoints(tmp_path / "files")
    zoo.save(tmp_path / "run" / "zoo")
    (tmp_path / "run" / "manifest.json").write_text('{"stages": {}}')
    for path in (tmp_path / "files", tmp_path / "files" / "*.pt", tmp_path / "run" / "zoo", tmp_path / "run"):
        assert torch.equal(open_zoo(str(path)).vectors, zoo.vectors)
    with fails(re.escape("is a saved zoo of the selection 'all'; expected 'w'"), ZooError):
        open_zoo(tmp_path / "run", select="w")
    assert open_zoo(tmp_path / "run", select=["all"]).k == 3
    with fails("is a saved zoo, not a folder of checkpoints; read it with Zoo.load"):
        Zoo.from_checkpoints(tmp_path / "run" / "zoo")


# --- members of different types --------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [("float16", "float32"), ("float32", "float16", "float64"), ("bfloat16", "float16")]
)
@pytest.mark.parametrize("model", [False, True])
def test_members_of_different_types_come_back_bit_by_bit(tmp_path, order, model):
    given = [{name: t.to(getattr(torch, dtype)) if t.is_floating_point() else t for name, t in state.items()}
             for dtype, state in zip(order, states(len(order)))]  # fmt: skip
    write(tmp_path, {f"{i}.pt": state for i, state in enumerate(given)})
    zoo = Zoo.from_checkpoints(tmp_path, Net() if model else None, "bn.weight")
    for v, state in zip(zoo.vectors, given):
        back = zoo.state_dict(v)["bn.weight"]
        assert torch.equal(back.double(), state["bn.weight"].double())
    held = {dtype for dtype in order} | ({"float32"} if model else set())
    widest = "float64" if "float64" in held else "float32"
    assert zoo.spec.tensors[0].dtype == widest
    if order[0] != widest and not model:
        assert f"in several types, such as bn.weight; the zoo keeps them in the widest ({widest})" in str(
            zoo.about
        )


def test_a_value_beyond_float16_is_finite_and_told_once(tmp_path):
    write(tmp_path, {f"{i}.pt": {"w": torch.full((3,), 64000.0 + i).half()} for i in range(2)})
    zoo = Zoo.from_checkpoints(tmp_path)
    with pytest.warns(
        UserWarning, match="values of w are beyond the range of float16 and are set to its ends"
    ):
        assert zoo.state_dict(torch.tensor([7e4, -7e4, 1.0]))["w"].tolist() == [65504, -65504, 1]


@pytest.mark.parametrize("value", [-0.5, float("nan")])
@pytest.mark.parametrize("select", ["bn", "bn.weight", "all"])
@pytest.mark.parametrize("broken", [0, 1])
def test_variances_below_zero_name_member_and_tensor(tmp_path, value, select, broken):
    given = states(2)
    given = [{name: t.clone() for name, t in state.items()} for state in given]
    given[broken]["bn.running_var"][1] = value
    write(tmp_path, {f"{i}.pt": state for i, state in enumerate(given)})
    with fails(rf"{broken}.pt holds (a variance below 0, or NaN,|NaN or Inf) in bn.running_var"):
        Zoo.from_checkpoints(tmp_path, select=select)


def test_a_zoo_with_variances_below_zero_is_not_usable():
    spec = ParameterSpec.from_state_dict({"bn.running_var": torch.ones(2)})
    zoo = Zoo(torch.tensor([[1.0, 2.0], [1.0, -2.0]]), spec, {})
    assert "member 1 holds a variance below 0 in bn.running_var" in str(zoo.unusable)


# --- shards, .bin, and messy folders ---------------------------------------------------------------


def shard(folder, name: str, state: dict[str, Tensor]) -> None:
    keys = list(state)
    halves = {f"{name}-{i}.bin": {key: state[key] for key in keys[i::2]} for i in (0, 1)}
    write(folder, halves)
    named = {key: file for file, half in halves.items() for key in half}
    (folder / f"{name}.bin.index.json").write_text(json.dumps({"weight_map": named}))


def test_a_network_in_several_files_is_one_member(tmp_path):
    given = states(2)
    for i, state in enumerate(given):
        shard(tmp_path / f"checkpoint-{i}", "pytorch_model", state)
    zoo = Zoo.from_checkpoints(tmp_path, Net(), "all")
    assert zoo.k == 2 and all(
        torch.equal(zoo.state_dict(v)["bn.weight"], state["bn.weight"])
        for v, state in zip(zoo.vectors, given)
    )
    (tmp_path / "checkpoint-1/pytorch_model-1.bin").unlink()
    with fails(r"checkpoint-1/pytorch_model-1.bin does not exist"):
        Zoo.from_checkpoints(tmp_path)


@pytest.mark.parametrize("file", ["../a.pt", "/etc/passwd", "", "x.bin.index.json", 3])
def test_an_index_names_files_beside_it_only(tmp_path, file):
    (tmp_path / "a.bin.index.json").write_text(json.dumps({"weight_map": {"w": file}}))
    with fails(r"a.bin.index.json (names the file .*; expected files beside it|holds no weight_map)"):
        Zoo.from_checkpoints([tmp_path / "a.bin.index.json"])


def messy(folder):
    """Seven networks, three of another shape, an optimiser's state, and what is no checkpoint at all."""
    for i, state in enumerate(states(7)):
        write(folder, {f"net{i}{('.pt', '.bin', '.safetensors')[i % 3]}": state})
    write(folder, {f"other{i}.pt": {"w": torch.randn(5)} for i in range(3)})
    write(
        folder, {"sgd.pt": {"state": {}, "param_groups": []}, "module.pth.tar": {"state_dict": states(1)[0]}}
    )
    (folder / "data.bin").write_bytes(b"words")
    (folder / "vocab.tar").write_bytes(b"words")
    return folder


def test_a_messy_folder_is_told_by_groups_and_one_can_be_chosen(tmp_path):
    with pytest.raises(MixedCheckpointsError) as caught:
        Zoo.from_checkpoints(messy(tmp_path))
    text = str(caught.value)
    assert re.search(
        r"the files are of 3 kinds, \(1\) 8 files of 9 tensors and 38 numbers, e.g. \S*module.pth.tar, "
        r"\(2\) 3 files of 1 tensor and 5 numbers, e.g. \S*other0.pt, 1 file without a network, e.g. \S*sgd.pt \(.*\); "
        r"give a glob or a folder of one kind, or choose one with group=1$",
        text,
    ), text
    assert Zoo.from_checkpoints(tmp_path, group=1).k == 8
    small = Zoo.from_checkpoints(tmp_path, group=2)
    assert (small.k, small.dim) == (3, 5) and "taken is group 2 of 3" in small.about["notes"][0]
    with fails("group: there is no group 3; expected", ConfigError):
        Zoo.from_checkpoints(tmp_path, group=3)


def test_with_a_network_its_own_files_come_first(tmp_path):
    write(tmp_path, {f"other{i}.pt": {"w": torch.randn(5)} for i in range(3)})
    write(tmp_path, {f"net{i}.pt": state for i, state in enumerate(states(2))})
    assert Zoo.from_checkpoints(tmp_path, Net(), "bn", group=1).k == 2
    assert Zoo.from_checkpoints(tmp_path, group=1).k == 3


# --- memory and time -------------------------------------------------------------------------------


def test_what_does_not_fit_into_memory_is_said_before_it_is_read(tmp_path, monkeypatch):
    write(tmp_path, {f"{i}.pt": {"w": torch.randn(100)} for i in range(3)})
    monkeypatch.setattr(devices, "host_bytes", lambda: 1000)
    with fails(
        r"3 checkpoints of 100 parameters take 1 kB of memory; expected at most the 1 kB that are free; take fewer "
        r"checkpoints, or select fewer tensors", ZooError,
    ):  # fmt: skip
        Zoo.from_checkpoints(tmp_path)


def test_reading_grows_with_the_number_of_tensors_and_not_with_its_square(tmp_path):
    def calls(tensors: int) -> int:
        folder = tmp_path / str(tensors)
        folder.mkdir()
        save_tensors(folder / "a.safetensors", {f"layer{j}.w": torch.ones(2) for j in range(tensors)})
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            assert Zoo.from_checkpoints(folder).dim == 2 * tensors
        finally:
            sys.setprofile(None)
        return counted

    calls(10)  # imports
    assert calls(800) < 3 * calls(400)  # 10,000 took 59 s, seconds now: benchmarks/cases/reading.py


def test_a_stack_is_read_once(tmp_path, monkeypatch):
    save_tensors(tmp_path / "all.safetensors", {"weight": torch.randn(9, 3, 2), "bias": torch.randn(9, 3)})
    read = []
    monkeypatch.setattr(
        "paramdiff.zoo.stacked_files.read_state", lambda *args: read.append(args) or read_state(*args)
    )
    assert Zoo.from_checkpoints(tmp_path / "all.safetensors", nn.Linear(2, 3), "all").k == 9
    assert len(read) == 1
