"""Randomness by name: every draw has its own key, so nothing depends on what was drawn before.

A key is any sequence of integers and strings, e.g. ``("fit", seed, step)``. Because a step's noise
follows from its key alone, a run that was killed resumes with the same numbers, and sample ``i``
of ``n`` is the same for every ``n`` and every batch size.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


def mix(*key: int | str) -> int:
    """A 63-bit seed from a key; equal keys give equal seeds on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A fresh CPU generator for a key. Draw on the CPU, then move: devices differ in their streams."""
    return torch.Generator().manual_seed(mix(*key))


def sample_generators(indices: Iterable[int], *key: int | str) -> list[torch.Generator]:
    """One generator per sample index: the seed-per-sample rule."""
    return [generator(*key, index) for index in indices]


def sample_normal(indices: Iterable[int], size: int, *key: int | str) -> Float[Tensor, "n size"]:
    """Standard normal rows, row ``i`` drawn from sample ``i``'s own generator."""
    generators = sample_generators(indices, *key)
    return torch.stack([torch.randn(size, generator=g) for g in generators])


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Torch's global CPU generator is seeded with the key inside, and restored after.

    For code that draws from the global generator and cannot be given one: layer initialisation,
    dropout, a user's own model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(*key))
        yield
