"""Processes do each piece of work once, errors appear here, and nobody is left behind."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paramdiff.collectors.processes import can_fork, spread
from paramdiff.errors import NumericalError
from processes import Forked

LONG = 300.0
"""Seconds that nothing here takes, however busy the machine."""

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")


def writer(folder: Path):
    """Work that writes its process id, whole or not at all; a second time it fails."""

    def work(item: int) -> None:
        whole = folder / f".{item}.{os.getpid()}"
        whole.write_text(str(os.getpid()))
        os.link(whole, folder / str(item))  # fails where the file is there
        whole.unlink()

    return work


def written(folder: Path) -> dict[int, int]:
    return {int(path.name): int(path.read_text()) for path in folder.glob("[0-9]*")}


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_item_is_done_once(count: int, processes: int, tmp_path: Path):
    items = list(range(10, 10 + count))
    assert sorted(spread(writer(tmp_path), items, processes)) == items == sorted(written(tmp_path))


def test_with_processes_nothing_is_done_here(tmp_path: Path):
    both = multiprocessing.get_context("fork").Barrier(2, timeout=LONG)

    def work(item: int) -> None:
        both.wait()  # so that no process does the work of both before the other has begun
        writer(tmp_path)(item)

    list(spread(work, range(6), 2))
    processes = set(written(tmp_path).values())
    assert len(processes) == 2 and os.getpid() not in processes


def test_what_is_yielded_is_done(tmp_path: Path):
    for item in spread(writer(tmp_path), range(5), 2):
        assert (tmp_path / str(item)).read_text()


def test_an_error_in_a_process_is_raised_here(tmp_path: Path):
    def work(item: int) -> None:
        if item == 3:
            raise NumericalError(f"seed {item}: the loss is nan", remedy="lower the learning rate")
        if item > 4:
            time.sleep(2 * LONG)
        writer(tmp_path)(item)

    started = time.monotonic()
    with pytest.raises(NumericalError, match=r"^seed 3: the loss is nan; lower the learning rate$"):
        list(spread(work, range(8), 2))
    assert time.monotonic() - started < LONG  # the others were not waited for


def test_what_a_killed_process_left_is_done_here(tmp_path: Path):
    """Work whose process ended before its answer was read is done again: it is written whole or not at all."""
    here = os.getpid()

    def work(item: int) -> None:
        if item == 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        (tmp_path / str(item)).write_text(str(os.getpid()))

    assert sorted(spread(work, range(4), 2)) == [0, 1, 2, 3]
    assert written(tmp_path)[1] == here


def test_processes_end_when_nobody_listens_any_more(tmp_path: Path):
    def work(item: int) -> None:
        writer(tmp_path)(item)
        time.sleep(2 * LONG if item else 0)

    done = spread(work, range(3), 2)
    assert next(done) == 0
    wait_until(lambda: len(written(tmp_path)) == 3)
    done.close()
    assert not any(alive(process) for process in written(tmp_path).values())


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_their_parent(way: signal.Signals, tmp_path: Path):
    def work(item: int) -> None:
        writer(tmp_path)(item)
        time.sleep(2 * LONG if item else 0)

    def listen() -> int:
        for _ in spread(work, range(3), 2):
            heard.touch()  # all have been started: Python drops an interrupt in the middle of a fork
        return 0

    heard = tmp_path / "heard"
    parent = Forked(listen, tmp_path)
    wait_until(lambda: (heard.exists() and len(written(tmp_path)) == 3) or parent.poll() is not None)
    children = {process for item, process in written(tmp_path).items() if item}
    assert parent.poll() is None and len(children) == 2 and all(map(alive, children)), parent.stderr
    parent.send_signal(way)
    parent.wait()
    wait_until(lambda: not any(map(alive, children)))  # no orphans are left


def wait_until(done: Callable[[], bool]) -> None:
    """Until it is so; a limit only for what would hang."""
    end = time.monotonic() + LONG
    while not done():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.01)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
