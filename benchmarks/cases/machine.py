"""The machine's limits: products of square matrices, and copying more than the caches hold.

Other rows can be explained against them: a product of n x n matrices is 2 n^3 operations, a copy of B bytes moves
2 B (reading and writing).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        n: rows and columns of the matrices.
        copied: bytes that are copied.
        repeats: products or copies in one measurement.
    """

    n: int = 2048
    copied: int = 256 << 20
    repeats: int = 8


QUICK = {"n": 1024, "copied": 64 << 20, "repeats": 3}


def run(sizes: Sizes) -> Iterator[Row]:
    every = torch.get_num_threads()
    for threads in dict.fromkeys([1, every]) if sizes.device == "cpu" else [every]:
        with_threads = f", {threads} thread{'s' * (threads > 1)}" if sizes.device == "cpu" else ""
        torch.set_num_threads(threads)
        for dtype in (torch.float32, torch.bfloat16):
            yield _product(sizes, dtype, with_threads)
        yield _copy(sizes, with_threads)


def _product(sizes: Sizes, dtype: torch.dtype, with_threads: str) -> Row:
    a = torch.randn(sizes.n, sizes.n, device=sizes.device).to(dtype)
    result = torch.empty_like(a)
    operations = 2 * sizes.n**3
    name = f"matrix product {sizes.n} x {sizes.n}, {str(dtype).removeprefix('torch.')}{with_threads}"
    return _rate(name, sizes, lambda: torch.mm(a, a, out=result), operations, "GFLOP/s")


def _copy(sizes: Sizes, with_threads: str) -> Row:
    source = torch.ones(sizes.copied // 4, device=sizes.device)
    target = torch.empty_like(source)
    name = f"copy of {sizes.copied >> 20} MiB{with_threads}"
    return _rate(name, sizes, lambda: target.copy_(source), 2 * source.nbytes, "GB/s")


def _rate(what: str, sizes: Sizes, once: Callable[[], Any], amount: int, unit: str) -> Row:
    def work() -> None:
        for _ in range(sizes.repeats):
            once()

    note = f"{sizes.repeats} times"
    measurements, _ = measured(
        Candidate("ours", work, 1 / sizes.repeats, note), rounds=sizes.rounds, device=sizes.device
    )
    return Row(what, measurements, figures={unit: amount / measurements[0].median / 1e9})
