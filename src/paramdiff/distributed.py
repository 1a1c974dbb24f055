"""One process or many: the same code runs in each, and here they are synchronised.

``accelerate launch`` or ``torchrun`` starts several processes, *ranks*. Each goes through the same stages. Where a
stage has independent pieces (seeds to train, batches to score) a rank does those that are :func:`local_items` and all
see the results of all; what only one can do (write the run folder, fit one generator) rank 0 does and the others
wait. No piece is computed in another way than one process alone would, so the bits are the same.

Sharing is a scope: it begins with :func:`all_processes` and pauses in :func:`this_process_only`. Everywhere else,
with one process as with many, the world is one rank, and nothing waits for anybody: a library call inside somebody's
own distributed script does not hang.

All synchronisation is one operation, :func:`_exchange`: each rank contributes a value *or what went wrong with it*.
So a rank that fails anywhere is noticed when the others synchronise next, wherever that is, and none waits for ever.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, NoReturn, TypeVar

from paramdiff.errors import ParamdiffError

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long a rank waits for another: as long as a fit may take. A rank that has ended is noticed at once."""


@dataclass(frozen=True)
class ProcessRank:
    """Rank ``rank`` of ``world``; the ``local``-th on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0


SINGLE_PROCESS = ProcessRank()
_place: ContextVar[ProcessRank] = ContextVar("place", default=SINGLE_PROCESS)


class ElsewhereError(ParamdiffError):
    """Another rank failed; carries its message."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def launched_rank() -> ProcessRank:
    """The place of this process among those that were started, whether or not they work together now."""
    words = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not (words[0].isdigit() and words[1].isdigit()):
        return ProcessRank()
    return ProcessRank(int(words[0]), int(words[1]), int(words[2]) if words[2].isdigit() else 0)


def launched_in_vain() -> bool:
    """Whether ``accelerate launch --num_processes N`` started one process, as it does where it sees no accelerators.

    It then sets the address of a main process, but no other ranks.
    """
    return {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ) and "RANK" not in os.environ


def is_printing_process() -> bool:
    """Whether this process is the one that prints."""
    return launched_rank().rank == 0


def world_size() -> int:
    """Ranks that work together here; 1 outside :func:`all_processes` and inside :func:`this_process_only`."""
    return _place.get().world


def is_main_process() -> bool:
    """Whether this is rank 0 of those that work together here: the one that writes."""
    return _place.get().rank == 0


def is_local(index: int) -> bool:
    """Whether piece number ``index`` is one of this rank's."""
    return index % world_size() == _place.get().rank


def local_items(items: Sequence[T]) -> Sequence[T]:
    """Every ``world``-th of the items, from this rank's first on."""
    return items[_place.get().rank :: world_size()]


# Meetings: every rank of the world must come to each of them, in the same order -----------------------------


def all_gather(value: T) -> list[T]:
    """What each rank has, in their order. Tensors come back on the CPU.

    Raises:
        ElsewhereError: another rank failed.
    """
    return [value] if world_size() == 1 else _exchange("gathered", value)


def broadcast(value: T) -> T:
    """What rank 0 has."""
    return all_gather(value)[0]


def barrier() -> None:
    """Wait until all ranks are here."""
    if world_size() > 1:
        _exchange("barrier")


def gather_items(parts: Sequence[T]) -> list[T]:
    """All pieces in their order, from each rank's results for those that are :func:`local_items`."""
    missing = object()
    rounds = zip_longest(*all_gather(list(parts)), fillvalue=missing)
    return [part for part in chain.from_iterable(rounds) if part is not missing]  # type: ignore[misc]


def on_main_process(work: Callable[[], T]) -> T:
    """What ``work`` gives on rank 0, which does it alone; the others wait for it."""
    if world_size() == 1:
        return work()
    found = None
    if is_main_process():
        with this_process_only():
            found = work()
    return _exchange("by_main", found)[0]


@contextmanager
def main_process_first() -> Iterator[None]:
    """Rank 0 does what is inside alone, then the others do: they find what it has left on disk."""
    if not is_main_process():
        barrier()
    with this_process_only():
        yield
    if is_main_process():
        barrier()


# Scopes -----------------------------------------------------------------------------------------------------


@contextmanager
def all_processes() -> Iterator[None]:
    """Inside, all processes that were started work as one; they leave at the same time.

    What goes wrong on one rank is raised on all: there as it is, elsewhere as :class:`ElsewhereError`.

    Raises:
        ParamdiffError: several processes were started and accelerate is not installed.
    """
    place = launched_rank()
    if place.world == 1:
        yield
        return
    _join(place)
    before = _place.set(place)
    try:
        yield
        barrier()
    except ElsewhereError:
        raise
    except Exception as error:
        with suppress(ElsewhereError):
            _exchange("failed", failure=_told(error))
        raise
    finally:
        _place.reset(before)


@contextmanager
def this_process_only() -> Iterator[None]:
    """Inside, this rank works alone and waits for no other."""
    before = _place.set(SINGLE_PROCESS)
    try:
        yield
    finally:
        _place.reset(before)


def wait_for_everyone() -> None:
    """Wait until every rank has printed its last message, because the first to exit would take the others down."""
    distributed = sys.modules.get("torch.distributed")
    if launched_rank().world > 1 and distributed is not None and distributed.is_initialized():
        with suppress(RuntimeError):  # a rank that has ended without a word is not waited for
            distributed.barrier()


def exit_process(code: int) -> NoReturn:
    """Exit with this code, after :func:`wait_for_everyone`; one of several processes without tearing the interpreter
    down.

    Threads of a process group that outlive the interpreter abort the process now and then ("terminate called without
    an active exception"), and a run that has been written completely would count as failed.
    """
    if launched_rank().world > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _join(place: ProcessRank) -> None:
    """Join the process group. What is exchanged lies on the CPU, so gloo serves accelerators as well."""
    try:
        from accelerate import PartialState
    except ImportError:
        raise ParamdiffError(
            f"{place.world} processes were started, but accelerate is not installed",
            remedy="run `pip install 'paramdiff[scale]'`, or start one process",
        ) from None
    PartialState(cpu=True, backend="gloo", timeout=PATIENCE)


def _told(error: Exception) -> tuple[str, int]:
    """The message of an error for the other ranks, and the code they are to exit with."""
    if isinstance(error, ParamdiffError):
        return str(error), error.exit_code
    return f"process {launched_rank().rank} failed ({type(error).__name__}: {error})", 1


def _exchange(kind: str, value: Any = None, failure: tuple[str, int] | None = None) -> list[Any]:
    """The values of all ranks, in their order.

    Raises:
        ElsewhereError: a rank handed in a failure, or has ended.
        RuntimeError: the ranks are at different points of the program, which is a bug here.
    """
    import torch.distributed as dist
    from torch.utils._pytree import tree_map

    on_cpu = tree_map(lambda leaf: leaf.cpu() if hasattr(leaf, "cpu") else leaf, value)
    messages: list[Any] = [None] * _place.get().world
    try:
        dist.all_gather_object(messages, (failure, kind, on_cpu))
    except RuntimeError as error:
        raise ElsewhereError(
            "another process of this run has ended; what it said last stands above", 1
        ) from error
    failures, kinds, values = zip(*messages, strict=True)
    for failed in filter(None, failures):
        raise ElsewhereError(*failed)
    if len(set(kinds)) > 1:
        raise RuntimeError(f"ranks out of step: they came to {', '.join(kinds)}")
    return list(values)
