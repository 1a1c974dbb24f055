"""Train and eval mode of a network whose parts are partly frozen.

A layer that owns buffers, e.g. the running statistics of BatchNorm, changes them in train mode. Where they belong to
the frozen part, that layer stays in eval mode while the rest is trained. Modules with children keep the mode of the
whole: their buffers are constants (position indices), and they may look at their mode to decide what they return.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from paramdiff.networks.structure import is_norm


def train_selected(model: nn.Module, selected: Collection[str] = ()) -> None:
    """Train mode, except for layers that own buffers of which none is selected.

    Args:
        selected: keys of the tensors that may change; without any, no buffer does.
    """
    model.train()
    for name, module in model.named_modules():
        if is_norm(module) or not any(True for _ in module.children()):
            buffers = [f"{name}.{own}".lstrip(".") for own, _ in module.named_buffers(recurse=False)]
            module.training = not buffers or any(key in selected for key in buffers)


@contextmanager
def own_modes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Modules may change their modes inside; each is back in its own after."""
    before = [(module, module.training) for module in modules]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
