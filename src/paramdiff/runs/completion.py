"""Completion in the shell: Hydra's, of keys and options, behind a command name of two words.

``eval "$(paramdiff -sc install=bash)"`` registers ``paramdiff``. The shell then asks ``paramdiff -sc query=bash``
with the line so far in ``COMP_LINE``; the first word is completed here, all after it by Hydra, which is shown the
line without it.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO

import hydra

from paramdiff.errors import ConfigError
from paramdiff.runs.config import register

ASKED = ("install", "uninstall", "query")
SHELLS = ("bash", "zsh", "fish")


def complete(words: Sequence[str], commands: Sequence[str]) -> int:
    """``install=SHELL``, ``uninstall=SHELL`` or ``query=SHELL``; returns the exit code.

    Raises:
        ConfigError: anything else.
    """
    asked, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if asked not in ASKED or shell not in SHELLS:
        raise ConfigError(
            "-sc", f"{' '.join(words) or 'no word'} is not understood",
            expected="install=bash, install=zsh or install=fish",
        )  # fmt: skip
    if asked != "query":
        return _by_hydra(words[0])
    line = os.environ.get("COMP_LINE", "")
    program, _, rest = line.lstrip().partition(" ")
    command, space, left = rest.lstrip().partition(" ")
    if not space:
        print(" ".join(one for one in commands if one.startswith(command)))
    elif command in commands and command != "inspect":  # it takes a path: the shell's business
        os.environ["COMP_LINE"] = f"{program} {left}"
        with redirect_stderr(StringIO()):  # the line is being typed: nothing about it is wrong yet
            return _by_hydra(words[0])
    return 0


def _by_hydra(word: str) -> int:
    register()
    before, sys.argv = sys.argv, ["paramdiff", "-sc", word]
    try:
        hydra.main(version_base="1.3", config_path="pkg://paramdiff.recipes", config_name="config")(_unused)()
    except (Exception, SystemExit):
        if not word.startswith("query"):
            raise
    finally:
        sys.argv = before
    return 0


def _unused(config: object) -> None:
    """Completion runs nothing."""
