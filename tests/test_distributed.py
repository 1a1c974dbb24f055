"""Several processes: they meet without waiting for ever, and a run of two is a run of one."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finished_runs import QUICK_FIT, undrawn
from paramdiff import distributed
from paramdiff.cli import main
from paramdiff.collectors.processes import can_fork
from paramdiff.devices import choose_device
from paramdiff.errors import ConfigError, ParamdiffError
from paramdiff.files import load_tensors, read_json
from paramdiff.generators.gaussian import Gaussian
from paramdiff.progress import quiet
from paramdiff.scoring.cache import Cache
from processes import Forked, killed_at

HERE = "127.0.0.1"
KEPT: list[torch.distributed.TCPStore] = []

SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def placed(rank: int, world: int):
    """As on this rank, as far as nothing is exchanged."""
    return distributed._place.set(distributed.ProcessRank(rank, world))


def test_one_process_is_the_whole_world():
    with distributed.all_processes(), distributed.main_process_first():
        assert (
            distributed.world_size() == 1
            and distributed.is_main_process()
            and distributed.is_printing_process()
        )
        assert distributed.all_gather("a") == ["a"] and distributed.broadcast("a") == "a"
        assert distributed.on_main_process(lambda: 3) == 3 and distributed.gather_items([1, 2]) == [1, 2]
        assert list(distributed.local_items(range(3))) == [0, 1, 2] and all(
            distributed.is_local(i) for i in range(3)
        )
        distributed.barrier()
    with pytest.raises(ZeroDivisionError), distributed.all_processes():
        distributed.on_main_process(lambda: 1 // 0)
    distributed.wait_for_everyone()


def test_outside_a_common_scope_nobody_waits_for_others(second_of_two: None):
    """A library call on one rank of somebody's own distributed script must not hang."""
    assert distributed.launched_rank() == distributed.ProcessRank(1, 2, 1)
    assert (
        distributed.world_size() == 1 and distributed.is_main_process() and distributed.all_gather(5) == [5]
    )
    assert not distributed.is_printing_process() and quiet()


@pytest.mark.parametrize("given", [{"WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "4"}, {}])
def test_half_a_description_is_one_process(given: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert distributed.launched_rank() == distributed.ProcessRank(0, 1, 0)


def test_a_launcher_that_starts_one_process_of_several_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """accelerate without --multi_gpu names a meeting point and nobody to meet."""
    assert not distributed.launched_in_vain()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert not distributed.launched_in_vain(), "one process was wanted"
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert distributed.launched_in_vain()
    monkeypatch.setenv("RANK", "0")
    assert not distributed.launched_in_vain()


def test_without_accelerate_several_processes_are_refused(second_of_two: None, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ParamdiffError, match=r"2 processes .* not installed; .*paramdiff\[scale\]"):
        distributed.all_processes().__enter__()


@given(pieces=st.lists(st.integers(), max_size=9), world=st.integers(1, 5))
def test_pieces_come_back_in_their_order(pieces: list[int], world: int):
    shares = []
    for rank in range(world):
        token = placed(rank, world)
        shares.append(list(distributed.local_items(pieces)))
        assert shares[-1] == [piece for i, piece in enumerate(pieces) if distributed.is_local(i)]
        distributed._place.reset(token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "all_gather", lambda own: shares)
        assert distributed.gather_items(shares[0]) == pieces


def test_a_rank_keeps_its_own_batches_and_finds_them_again():
    prepared: list[int] = []
    cache, batches = Cache(1 << 20), lambda: [torch.full((300,), i) for i in range(5)]

    def seen() -> list[int]:
        prepared.clear()
        through = cache.through("train", batches, lambda b: prepared.append(int(b[0])) or (b, None))
        return [int(batch[0]) for batch, _ in through]

    token = placed(1, 2)
    assert seen() == prepared == [1, 3]
    with distributed.this_process_only():
        assert seen() == [0, 1, 2, 3, 4] and prepared == [0, 2, 4]
    assert seen() == [1, 3] and prepared == []
    distributed._place.reset(token)


def test_each_process_has_an_accelerator_of_its_own(second_of_two: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:3") == torch.device("cuda:3") and choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda:0")


# Real processes ---------------------------------------------------------------------------------------------


def meeting_point() -> torch.distributed.TCPStore:
    """Where ranks meet, as a launcher has one: on a port that nobody can take before they come."""
    KEPT.append(torch.distributed.TCPStore(HERE, 0, is_master=True, wait_for_workers=False))
    return KEPT[-1]


def pair(work: Callable[[], int], folder: Path) -> list[Forked]:
    """Two ranks without a launcher, so that each has its own exit code and output."""
    import accelerate  # noqa: F401 (once for both)

    place = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": HERE, "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_PORT": str(meeting_point().port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_RUN_ID": folder.name,
    }  # fmt: skip
    return [
        Forked(work, folder, f"rank-{rank}", place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


MEETINGS = """
import os, sys, time
from pathlib import Path
import torch
from paramdiff import distributed
from paramdiff.errors import ConfigError

rank = distributed.launched_rank().rank
sys.stdout.reconfigure(line_buffering=True)  # os._exit does not flush

def fails(work):
    try:
        with distributed.all_processes():
            work()
    except Exception as error:
        print(f"{type(error).__name__}: {error} ({getattr(error, 'exit_code', None)})")

def fail(error):
    raise error

with distributed.all_processes():
    by_main = distributed.on_main_process(lambda: (rank, distributed.world_size()))
    print(distributed.world_size(), distributed.is_main_process(), distributed.broadcast(rank), by_main)
    found = distributed.all_gather({"t": torch.tensor([rank, rank])})
    print([one["t"].tolist() for one in found], distributed.gather_items(["a", "c"] if rank == 0 else ["b"]))
    with distributed.main_process_first():
        print(distributed.world_size(), Path("left").exists())
        time.sleep(0.2 * (rank == 0))
        Path("left").touch()
print(distributed.world_size())
fails(lambda: rank == 1 and fail(ConfigError("k", "too small")))
fails(lambda: distributed.on_main_process(lambda: fail(ValueError("by main"))))
fails(lambda: (rank == 1 and fail(ValueError("bug")), distributed.all_gather(0)))
fails(lambda: fail(ConfigError("both", f"rank {rank}")))
fails(lambda: distributed.barrier() if rank else distributed.all_gather(1))
with distributed.all_processes():
    print(distributed.all_gather(rank))
fails(lambda: os._exit(7) if rank == 1 else distributed.barrier())
distributed.wait_for_everyone()
"""


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
def test_two_processes_meet_and_hear_of_each_others_failures(tmp_path: Path):
    first, second = pair(lambda: exec(MEETINGS, {}) or 0, tmp_path)
    assert (first.wait(), second.wait()) == (0, 7), first.stderr + second.stderr
    assert first.stdout.splitlines() == [
        "2 True 0 (0, 1)", "[[0, 0], [1, 1]] ['a', 'b', 'c']", "1 False", "1",
        "ElsewhereError: k: too small (2)", "ValueError: by main (None)",
        "ElsewhereError: process 1 failed (ValueError: bug) (1)", "ConfigError: both: rank 0 (2)",
        "RuntimeError: ranks out of step: they came to gathered, barrier (None)", "[0, 1]",
        "ElsewhereError: another process of this run has ended; what it said last stands above (1)",
    ], first.stderr  # fmt: skip
    assert second.stdout.splitlines() == [
        "2 False 0 (0, 1)", "[[0, 0], [1, 1]] ['a', 'b', 'c']", "1 True", "1",
        "ConfigError: k: too small (2)", "ElsewhereError: process 0 failed (ValueError: by main) (1)",
        "ValueError: bug (None)", "ConfigError: both: rank 1 (2)",
        "RuntimeError: ranks out of step: they came to gathered, barrier (None)", "[0, 1]",
    ], second.stderr  # fmt: skip


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
@pytest.mark.parametrize("world", [1, 2])
def test_one_of_several_processes_ends_before_the_interpreter_is_torn_down(world: int, tmp_path: Path):
    """Threads of the process group abort it now and then, long after everything has been written."""

    def work() -> int:
        print("written", end="")
        try:
            distributed.exit_process(3)
        except SystemExit:
            return 4

    process = Forked(work, tmp_path, environment={"RANK": "0", "WORLD_SIZE": str(world)})
    assert (process.wait(), process.stdout) == (3 if world > 1 else 4, "written")


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
def test_a_users_mistake_is_one_line_and_the_same_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rank 1 finds it, alone: the second of two baselines is its own to fit."""

    def refuse(*_: object) -> None:
        raise ConfigError("scale", "too much", remedy="lower it")

    monkeypatch.setattr(Gaussian, "_fit", refuse)
    words = [
        "zoo.k=6", "zoo.pretrain.epochs=1", "n=2", "generator.autoencoder.steps=2", "generator.diffusion.steps=2",
        "compare=none",
    ]  # fmt: skip
    for command in ("collect", "fit", "sample", "score"):
        assert main([command, f"run_dir={tmp_path / 'r'}", *words]) == 0
    words += ["run_dir=r", "+generator@compare.one=average", "+generator@compare.two=gaussian"]
    first, second = pair(lambda: main(["compare", *words]), tmp_path)
    assert (first.wait(), second.wait()) == (2, 2)
    complaints = [line for line in first.stderr.splitlines() if "error" in line]
    assert complaints == ["paramdiff: error: compare.two.scale: too much; lower it"]
    assert "Traceback" not in first.stderr and second.stderr == first.stdout == second.stdout == ""


TINY = [
    "experiment=digits_seeds", "zoo.k=4", "zoo.train.epochs=1", "n=3", *QUICK_FIT,
    "compare=none", "+generator@compare.tuned=fine_tuned", "compare.tuned.steps=2",
    "+generator@compare.gaussian=gaussian", "+generator@compare.matched=matched_noise",
]  # fmt: skip

CLOCKS = ("timings_s", "peak_rss_bytes", "command", "machine")


def launched(folder: Path) -> Forked:
    """``--multi_gpu`` is accelerate's word for several processes; there need be no GPU."""
    words = [
        "accelerate launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        "-m", "paramdiff", "run", f"run_dir={folder}", "device=cpu", *TINY,
    ]  # fmt: skip

    def launch() -> int:
        from accelerate.commands import launch

        sys.argv = words
        launch.main()
        return 0

    place = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE), "GLOO_SOCKET_IFNAME": "lo"}
    return Forked(launch, folder.parent, "launcher", place)


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
def test_two_processes_give_the_bits_of_one(tmp_path: Path):
    """Killed between its seeds, and then run to the end."""
    one, two = tmp_path / "one", tmp_path / "two"
    with undrawn():
        assert main(["run", f"run_dir={one}", "device=cpu", *TINY]) == 0
    command = lambda: main(["run", f"run_dir={two}", "device=cpu", *TINY])
    ranks_of_it = pair(killed_at(two, ".state/collect-*/seed-*", command), tmp_path)
    assert ranks_of_it[0].wait() == -signal.SIGKILL, ranks_of_it[0].stderr
    ranks_of_it[1].send_signal(signal.SIGKILL)  # if it has not noticed
    assert ranks_of_it[1].wait() != 0 and not (two / "zoo").exists()
    with undrawn():
        ranks_of_it = pair(command, tmp_path)
        assert [process.wait() for process in ranks_of_it] == [0, 0], ranks_of_it[0].stderr
    process = launched(two)  # everything is there: it only says so
    assert process.wait() == 0, process.stderr
    said = process.stdout + process.stderr
    assert said.count("test accuracy, K = 4") == 1 and said.count("results:") == 1, "one of them speaks"
    files = {path.relative_to(one) for path in one.rglob("*.safetensors")}
    assert files == {path.relative_to(two) for path in two.rglob("*.safetensors")}
    assert {"zoo/vectors.safetensors", "baselines/matched-noise/samples/samples.safetensors"} <= {
        str(path) for path in files
    }
    for path in files:
        mine, theirs = load_tensors(one / path), load_tensors(two / path)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), path
    results = [read_json(folder / "results.json") for folder in (one, two)]
    for key in results[0].keys() - set(CLOCKS):
        assert results[0][key] == results[1][key], key
    stages = [read_json(folder / "manifest.json")["stages"] for folder in (one, two)]
    assert stages[0].keys() == stages[1].keys()
    assert not list(two.glob(".state/*"))
