"""How large a case is. Full sizes are the defaults of its dataclass; tests and ``--quick`` give smaller ones."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Common:
    """
    Attributes:
        rounds: how often everything is timed, ours and plain in turn.
        device: where networks run.
        data: folder with ``cifar100/``, ``mnist/``, ``cifar10/`` and ``reference/``; None for random networks
            and images of the same sizes.
    """

    rounds: int = 3
    device: str = "cpu"
    data: str | None = None


@dataclass(frozen=True)
class Reference(Common):
    """Sizes of the reference zoo, and of a stand-in for it where there is no data.

    Attributes:
        k: K, members.
        images: test images.
        train: training images; all of them where there is data.
        model, options, shape, classes, select: of the stand-in.
    """

    k: int = 300
    images: int = 10_000
    train: int = 2_000
    model: str = "torchvision/resnet18"
    options: dict[str, Any] = field(default_factory=lambda: {"small_stem": True, "stem_stride": 2})
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 100
    select: str = "last_norms:2"


def sizes_of(case: ModuleType, *, quick: bool = False, large: bool = False, **common: Any) -> Common:
    """The sizes of a case: full ones, with those of its ``QUICK`` or ``LARGE`` in their place.

    Args:
        common: fields of :class:`Common`.
    """
    changed = (case.QUICK if quick else {}) | (getattr(case, "LARGE", {}) if large else {})
    return case.Sizes(**common | changed)
