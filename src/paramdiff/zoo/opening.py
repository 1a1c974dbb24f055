"""A zoo from a path, whatever lies there."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from paramdiff.errors import ZooError
from paramdiff.zoo.storage import is_saved_zoo
from paramdiff.zoo.zoo import Zoo

Select = str | Sequence[str]


def open_zoo(
    path: str | Path, model: nn.Module | None = None, select: Select | None = None, group: int | None = None,
    otherwise: Select | None = None,
) -> Zoo:  # fmt: skip
    """A zoo from a path: of a saved zoo, of a run folder that has one, or of checkpoints.

    Args:
        path: a folder, a file or a glob.
        model: the network, for checkpoints.
        select: which tensors are generated; a saved zoo has a selection of its own.
        group: which of several kinds of checkpoints.
        otherwise: the selection from checkpoints if ``select`` is not given.

    Raises:
        CheckpointError: nothing there can be read (:func:`paramdiff.zoo.checkpoints.read_checkpoints`), or a saved
            zoo is damaged.
        ZooError: a saved zoo holds another selection than ``select``.
    """
    path = Path(path).expanduser()
    folder = next((place for place in (path, path / "zoo") if is_saved_zoo(place)), None)
    if folder is None:
        return Zoo.from_checkpoints(path, model, otherwise if select is None else select, group)
    zoo = Zoo.load(folder)
    Zoo.verify(folder)
    wanted = select if select is None or isinstance(select, str) else ",".join(select)
    if wanted not in (None, zoo.spec.select):
        raise ZooError(
            f"{folder} is a saved zoo of the selection {zoo.spec.select!r}", expected=f"{wanted!r}",
            remedy="leave select out, or import the checkpoints it was made from",
        )  # fmt: skip
    return zoo
