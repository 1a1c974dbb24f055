"""paramdiff: learn the distribution of trained network parameters and sample new, working networks.

Names are imported when they are first used, so ``import paramdiff`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Generator": "generators.generator",
    "ParameterDiffusion": "generators.pdiff",
    "ParameterSpec": "parameters.spec",
    "Normaliser": "parameters.normaliser",
    "ParamdiffError": "errors",
    "Task": "tasks.task",
    "Zoo": "zoo.zoo",
}
__all__ = ["Generator", "Normaliser", "ParamdiffError", "ParameterDiffusion", "ParameterSpec", "Task", "Zoo"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'paramdiff' has no attribute {name!r}")
    return getattr(import_module(f"paramdiff.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
