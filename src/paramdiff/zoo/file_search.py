"""The files that a path, a glob or a folder of checkpoints stands for."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from paramdiff.errors import CheckpointError
from paramdiff.files import why_not
from paramdiff.zoo.records import natural
from paramdiff.zoo.state_dicts import INDEX, SUFFIXES, looks_like_one, shards

Paths = str | Path | Sequence[str | Path]

TRAINERS_OWN = ("optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args")
"""Files that trainers keep beside a network under the same suffixes; passed over when searching."""


def find_checkpoints(paths: Paths) -> list[Path]:
    """The files that ``paths`` stands for; never empty.

    Raises:
        CheckpointError: a path does not exist, a folder or glob holds no checkpoint.
    """
    if not isinstance(paths, str | Path):
        if not paths:
            raise CheckpointError("an empty list of checkpoints", expected="at least one file")
        return [file for path in paths for file in find_checkpoints(path)]
    path = Path(paths).expanduser()
    reason = why_not(path)
    if not reason:
        return [path]
    if path.is_dir():
        from paramdiff.zoo.storage import is_saved_zoo

        if is_saved_zoo(path):
            raise CheckpointError(f"{path} is a saved zoo, not a folder of checkpoints",
                                  remedy="read it with Zoo.load")  # fmt: skip
        return _search(path, f"{path} holds no checkpoint")
    if not glob.has_magic(str(path)):
        raise CheckpointError(f"{path} {reason}", expected="a checkpoint file or a folder of them")
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    return _sorted(matches) or _nothing(f"no checkpoint matches {path}")


def _search(folder: Path, came: str) -> list[Path]:
    below = (file for file in folder.rglob("*") if not _hidden(file.relative_to(folder)))
    return _sorted(folder.iterdir()) or _sorted(below) or _nothing(came)


def _nothing(came: str) -> list[Path]:
    raise CheckpointError(came, expected=f"files that end in {', '.join(SUFFIXES)}")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """Visible checkpoint files among ``paths``, in natural order; an index stands for the files that it names."""
    found = [path for path in paths if looks_like_one(path) and _is_network(path)]
    parts = {path.with_name(part) for path in found if path.name.endswith(INDEX) for part in shards(path)}
    return sorted((path for path in found if path not in parts), key=natural)


def _is_network(path: Path) -> bool:
    trainers_own = path.stem.rstrip("_0123456789") in TRAINERS_OWN
    return not path.name.startswith(".") and not trainers_own
