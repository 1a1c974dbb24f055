"""A device that is not there, so that code for accelerators can be run and watched without one.

Tensors on :data:`DEVICE` are computed on the CPU. Like an accelerator, the device refuses tensors that lie
elsewhere (but for single numbers), and :class:`Watched` notes what would make the program wait for it: reading a
value, shapes that follow from values, and copies that block.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy")
"""A name that torch knows and that no machine has."""

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}


class There(Tensor):
    """A tensor on :data:`DEVICE`."""

    @staticmethod
    def __new__(cls, here):
        return Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=DEVICE, requires_grad=here.requires_grad,
        )  # fmt: skip

    def __init__(self, here):
        self.here = here

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise RuntimeError(f"{operation} outside of Watched")

    def tolist(self):
        return self.cpu().tolist()


class Watched(TorchDispatchMode):
    """Inside, tensors can be moved to :data:`DEVICE`.

    Attributes:
        waits: operations that would wait for it, in order.
    """

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = operation.overloadpacket.__name__
        target = kwargs.get("device")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, There)]
        result_there = bool(there) if target is None else target == DEVICE
        if result_there and target is not None:
            kwargs["device"] = torch.device("cpu")
        self._note(name, operation, args, kwargs, tensors, there, result_there)
        args, kwargs = tree_map(lambda leaf: leaf.here if isinstance(leaf, There) else leaf, (args, kwargs))
        result = operation(*args, **kwargs)
        if name in ("copy_", "detach") or name.endswith("_"):
            result_there = bool(there) and isinstance(tensors[0], There)
        return tree_map(lambda out: There(out) if isinstance(out, Tensor) and result_there else out, result)

    def _note(self, name, operation, args, kwargs, tensors, there, result_there):
        moves = name == "_to_copy" and tensors and isinstance(tensors[0], There) != result_there
        moves = moves or (name == "copy_" and 0 < len(there) < len(tensors))
        blocks = not (kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,)))
        if moves:
            down = not result_there or (name == "copy_" and not isinstance(tensors[0], There))
            if down or blocks:
                self.waits.append(f"copy {'from' if down else 'to'} the device")
            return
        masks = name.startswith("index") and any(t.dtype == torch.bool for t in there[1:])
        if there and (name in READS or masks):
            self.waits.append(name)
        elif there and any(t.ndim and not isinstance(t, There) for t in tensors):
            raise RuntimeError(f"{operation}: tensors on the CPU and on the device")
