"""Checkpoints that ``torch.save`` wrote, read without running code that came with the file.

``torch.load(weights_only=True)`` builds tensors and plain containers and refuses everything else; before that,
:mod:`paramdiff.zoo.archives` has checked that the file holds what its pickle promises.
"""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from paramdiff.devices import require_memory
from paramdiff.errors import CheckpointError
from paramdiff.zoo.archives import (
    BrokenArchiveError,
    check_archive,
    check_legacy,
    is_archive,
    packed_bytes,
)

CONVERT = (
    "if you trust its author, convert it once outside paramdiff: torch.load(path, weights_only=False), "
    "then torch.save(model.state_dict(), 'clean.pt')"
)


def load_pickle(path: Path) -> Any:
    """What ``torch.save`` wrote, if it is plain data and the file holds what it promises.

    Args:
        path: an ordinary file that can be read.

    Raises:
        CheckpointError: damaged, or holds anything but tensors and plain containers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; refused below anyway
            return _checked_load(path)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from None
    except CheckpointError:
        raise
    except BrokenArchiveError as error:
        raise CheckpointError(f"{path} is damaged: {error}", remedy="copy it again or remove it") from None
    except (Exception, MemoryError) as error:  # anything comes of garbage: EOFError, KeyError, OSError, ...
        if "TorchScript" in str(error):
            raise _refused(path, str(error)) from None
        raise CheckpointError(
            f"{path} is not a complete checkpoint file ({_first_line(error)})",
            remedy="it is probably truncated: copy it again or remove it",
        ) from None


def _checked_load(path: Path) -> Any:
    archive = is_archive(path)
    try:
        mapped = check_archive(path) if archive else check_legacy(path)
    except BrokenArchiveError:
        raise
    except Exception as error:
        # Nothing of it may be read; torch, which then reads no values, knows best what is wrong.
        torch.load(path, map_location="meta", weights_only=True)
        raise BrokenArchiveError(_first_line(error)) from None
    if not mapped and archive:
        require_memory(f"the unpacked contents of {path}", packed_bytes(path), CheckpointError, share=0.5)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _refused(path: Path, reason: str) -> CheckpointError:
    """The file was not a plain state dict; nothing of it was run."""
    found = re.search(r"GLOBAL\s+(\S+)", reason)
    if found is None:
        held = "a TorchScript archive" if "TorchScript" in reason else "something other than plain tensors"
    elif found[1].startswith("torch.nn.modules."):
        held = f"a whole nn.Module ({found[1]}), and unpickling one can run any code"
    else:
        held = f"the Python object {found[1]}, and unpickling objects can run any code"
    return CheckpointError(
        f"{path} was refused: it holds {held}", expected="a state dict of plain tensors", remedy=CONVERT
    )


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
