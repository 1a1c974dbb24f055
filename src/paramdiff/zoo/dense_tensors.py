"""Whatever kind of tensor a checkpoint holds -> the same numbers as an ordinary dense tensor, or a refusal by name."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from paramdiff.devices import require_memory
from paramdiff.errors import CheckpointError

DTYPES = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
})  # fmt: skip
"""Of which every value is a number of its own; of others, such as packed ones of 4 bits, torch cannot read single
values."""

SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)

ORDINARY = "ordinary tensors"


def plain_state(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Every tensor of a file as an ordinary one; most are as they were.

    Raises:
        CheckpointError: a tensor has no values, or none that can be read one by one; names it.
    """
    return {name: _plain(tensor, f"{path}: {name}") for name, tensor in state.items()}


def _plain(given: Tensor, where: str) -> Tensor:
    tensor = given.detach()
    if type(tensor) is not Tensor:
        raise CheckpointError(f"{where} is a {type(tensor).__name__}", expected=ORDINARY,
                              remedy="save its plain values")  # fmt: skip
    if tensor.is_meta:
        raise CheckpointError(f"{where} has no values (it is on the meta device)", expected=ORDINARY,
                              remedy="save the checkpoint after its weights were loaded")  # fmt: skip
    if tensor.is_quantized:
        raise CheckpointError(f"{where} is quantised ({tensor.dtype})", expected="floating numbers",
                              remedy="undo the quantisation first")  # fmt: skip
    if tensor.dtype not in DTYPES:
        raise CheckpointError(f"{where} is of type {tensor.dtype}", expected="numbers that can be read one by one",
                              remedy="convert it to float32 before saving")  # fmt: skip
    if tensor.layout in SPARSE:
        return _dense(tensor, where)
    if tensor.layout != torch.strided or tensor.is_nested:
        raise CheckpointError(f"{where} is of layout {tensor.layout}", expected="dense tensors",
                              remedy="save tensor.to_dense()")  # fmt: skip
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.nbytes > tensor.untyped_storage().nbytes():  # expanded: several of its numbers are one
        _require_memory(tensor, where)
        tensor = tensor.contiguous()
    return tensor


def _dense(tensor: Tensor, where: str) -> Tensor:
    """The dense tensor of a sparse one, after a check that its indices lie inside: torch itself does not look."""
    _require_memory(tensor, where)
    try:
        if tensor.layout == torch.sparse_coo:
            parts = (tensor._indices(), tensor._values())
            return torch.sparse_coo_tensor(*parts, tensor.shape, check_invariants=True).to_dense()
        by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
        parts = (
            (tensor.crow_indices(), tensor.col_indices())
            if by_row
            else (tensor.ccol_indices(), tensor.row_indices())
        )
        checked = torch.sparse_compressed_tensor(
            *parts, tensor.values(), tensor.shape, layout=tensor.layout, check_invariants=True
        )
        return checked.to_dense()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0][:120]
        raise CheckpointError(f"{where} is sparse and damaged ({reason})", expected=ORDINARY,
                              remedy="save tensor.to_dense()") from None  # fmt: skip


def _require_memory(tensor: Tensor, where: str) -> None:
    """Raise unless the numbers fit into memory: a few bytes in a file can expand to any number of them."""
    what = f"{where}: numbers of shape {list(tensor.shape)}"
    require_memory(what, tensor.numel() * tensor.dtype.itemsize, CheckpointError, share=0.5)
