"""Every test runs with the shapes in signatures checked, on one thread, without bars and without a network.

Nothing depends on which tests ran before: random numbers begin anew for each, those drawn while a module is imported
or a fixture is made included, and what the person at this machine has set in the environment is unknown here.
"""

import gc
import os
import random
from zlib import crc32

OURS = ("PARAMDIFF_FUZZ", "PARAMDIFF_FUZZ_FROM")
SET_ELSEWHERE = (
    "PARAMDIFF_", "HYDRA_", "HF_", "ACCELERATE_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "COLUMNS",
    "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "TTY_",
)  # fmt: skip
"""How variables begin that change what this package or a library of it does."""

for name in [name for name in os.environ if name.startswith(SET_ELSEWHERE) and name not in OURS]:
    del os.environ[name]
os.environ["PARAMDIFF_QUIET"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jaxtyping  # noqa: E402 (here and below: after the environment, and after the hook)

import shape_checker  # noqa: E402

jaxtyping.jaxtyped = shape_checker.jaxtyped
jaxtyping.install_import_hook("paramdiff", "shape_checker.check")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hydra._internal.hydra import Hydra  # noqa: E402
from hypothesis import settings  # noqa: E402

import no_network  # noqa: E402, F401 (from here on, other machines cannot be reached)

torch.set_num_threads(1)
settings.register_profile("any machine", deadline=None, derandomize=True, database=None)
"""How busy it is says nothing about an example, and every machine tries the same ones."""
settings.register_profile("others", deadline=None, derandomize=False)
"""``--hypothesis-profile=others``: new examples every time."""
settings.load_profile("any machine")

Hydra.get_mode = lambda self, *given, **named: None  # type: ignore[method-assign]
"""It composes everything once more, to ask whether ``hydra.mode`` is set, which nothing here does."""


def seed(what: str) -> None:
    """What is drawn without a generator of one's own begins anew, elsewhere for other things."""
    number = crc32(what.encode())
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Before a module is imported."""
    seed(collector.name)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    """Before a fixture is made, whoever asks for it first."""
    seed(fixturedef.argname)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Before a test, whoever has made its fixtures."""
    seed("test")


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not look at it ever again."""
    gc.collect()
    gc.freeze()
