"""Independent pieces of work in several forked processes, to which nothing has to be sent.

Processes are forked: they have the task and its data already, at no cost and without pickling, and start in
milliseconds. A piece of work leaves a file behind, so all that comes back is which pieces are done.
They keep freed memory instead of returning it to the system: with glibc's defaults a small convolutional network
spends half of its time on getting the pages of its activations back from the system, step by step.

Where something goes wrong in a process, this one does that piece of work itself: the error appears here, as it
would have without processes, and what only the process could not do (it was killed for want of memory) is
done here after all.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

Work = Callable[[int], None]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of ``mallopt`` in glibc's ``malloc.h``."""


def can_fork() -> bool:
    """Whether a process can be forked safely: system libraries of other systems do not survive it."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def spread(work: Work, items: Sequence[int], processes: int) -> Iterator[int]:
    """Do ``work(item)`` for every item, each item once; yields them as they are done, in no fixed order.

    Args:
        work: must go on where another process left it, and may use the CPU only.
        items: in the order in which they are begun.
        processes: how many at a time; with 1, everything happens in this process.
    """
    left = list(items)
    if min(processes, len(items)) > 1:
        with _forked(work, items, min(processes, len(items))) as messages:
            for item, done in messages:
                left.remove(item)
                if not done:
                    left.insert(0, item)
                    break
                yield item
    for item in left:
        work(item)
        yield item


@contextmanager
def _forked(work: Work, items: Sequence[int], processes: int) -> Iterator[Iterator[tuple[int, bool]]]:
    """Messages ``(item, done)`` of running processes, which are ended when the caller stops iterating."""
    context = multiprocessing.get_context("fork")
    taken = context.Value("q", 0)
    running: list[BaseProcess] = []
    pipes: list[Connection] = []
    try:
        for _ in range(processes):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(work, items, taken, there), daemon=True)
            with warnings.catch_warnings():  # no other thread of this process holds a lock that work needs
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()  # so that the pipe ends with the process
            running.append(process)
            pipes.append(here)
        yield _messages(pipes)
    finally:
        for child in running:
            child.kill()
        for child in running:
            child.join()
        for pipe in pipes:
            pipe.close()


def _messages(pipes: Sequence[Connection]) -> Iterator[tuple[int, bool]]:
    """What the processes say until each has ended; a piece of work that was cut off is not done."""
    begun: dict[Connection, int | None] = dict.fromkeys(pipes)
    while begun:
        for pipe in wait(list(begun)):
            assert isinstance(pipe, Connection)
            item = begun[pipe]
            try:
                begun[pipe] = pipe.recv()
            except EOFError:
                del begun[pipe]
                if item is not None:
                    yield item, False
            else:
                if item is not None:
                    yield item, True


def _serve(work: Work, items: Sequence[int], taken: Any, pipe: Connection) -> None:
    """Life of a process: take the next item, say so, do it; ``None`` says that the last one is done."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent ends its children
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _keep_freed_memory()
    while True:
        with taken.get_lock():
            index, taken.value = taken.value, taken.value + 1
        pipe.send(items[index] if index < len(items) else None)
        if index >= len(items):
            return
        try:
            work(items[index])
        except BaseException:
            os._exit(1)  # the parent meets the error itself


def _keep_freed_memory() -> None:
    """Take memory from the heap instead of mapping it, and never give it back; where the C library can."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _end_with_parent() -> None:
    """End this process with its parent, which cannot end its children if it is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
