"""Every test runs with the shapes in signatures checked, on one thread, without bars and without a network."""

import os

os.environ.setdefault("PARAMDIFF_QUIET", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

install_import_hook("paramdiff", "shape_checker.check")

import torch  # noqa: E402 (after the hook and the environment)
from hypothesis import settings  # noqa: E402

import no_network  # noqa: E402, F401 (from here on, other machines cannot be reached)

torch.set_num_threads(1)
settings.register_profile("any machine", deadline=None)  # how busy it is says nothing about an example
settings.load_profile("any machine")
