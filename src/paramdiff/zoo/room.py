"""Whether a matrix of K vectors fits into memory, before any work is done for it."""

from paramdiff.devices import host_bytes
from paramdiff.errors import ZooError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import say

WORTH_SAYING = 1e9
"""Bytes from which on a person is told."""


def zoo_bytes(k: int, spec: ParameterSpec) -> int:
    """Of ``V`` [K, D]. Collecting, importing and scoring hold it once, beside a network."""
    return k * spec.dim * spec.dtype.itemsize


def require_room(k: int, spec: ParameterSpec, what: str = "checkpoints") -> None:
    """Say what a large zoo, or as many samples, will take.

    Raises:
        ZooError: that is more than there is.
    """
    needed, free = zoo_bytes(k, spec), host_bytes()
    text = f"{'K' if what == 'checkpoints' else 'n'} = {k:,} {what} of D = {spec.dim:,} parameters take {_size(needed)} of memory"
    if needed > free:
        fitting = free // max(1, zoo_bytes(1, spec))
        fewer = f"at most {fitting:,} {what}" if fitting > 1 else f"fewer {what}"
        raise ZooError(text, expected=f"at most the {_size(free)} that are free here",
                       remedy=f"take {fewer}, or select fewer tensors")  # fmt: skip
    if needed > WORTH_SAYING:
        say(f"  {text}; {_size(free)} are free")


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
