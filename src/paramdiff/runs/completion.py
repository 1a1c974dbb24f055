"""Completion in the shell: commands and flags from the parsers, keys and options from Hydra.

``eval "$(paramdiff -sc install=bash)"`` registers ``paramdiff``. The shell then asks ``paramdiff -sc query=bash``
with the line so far in ``COMP_LINE``. The first word and all flags are completed here; every other word of a command
that takes settings of a run by Hydra, which is shown the line without the command; paths by the shell.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO

from paramdiff.errors import ConfigError
from paramdiff.runs.arguments import OneOf, Parser
from paramdiff.runs.commands import COMMANDS

ASKED = ("install", "uninstall", "query")
SHELLS = ("bash", "zsh", "fish")


def complete(words: Sequence[str], parsers: Mapping[str, Parser]) -> int:
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
    program, _, rest = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
    command, space, left = rest.lstrip().partition(" ")
    if not space:
        print(" ".join(name for name in parsers if name.startswith(command)))
        return 0
    if command not in parsers:
        return 0
    if (found := flags(parsers[command], left)) is not None:
        print(" ".join(found))
    elif COMMANDS[command].stage:
        kept = " ".join(word for word in left.split(" ") if word not in ("-q", "--quiet"))  # not Hydra's
        os.environ["COMP_LINE"] = f"{program} {kept}"
        with redirect_stderr(StringIO()):  # the line is being typed: nothing about it is wrong yet
            return _by_hydra(words[0])
    return 0


def flags(parser: Parser, line: str) -> list[str] | None:
    """How the last word of a line may go on if it is a flag, or the value of one; None if it is neither."""
    *before, last = line.split(" ")
    action = parser.flags.get(before[-1]) if before else None
    if action is not None and isinstance(action.type, OneOf):
        return [option for option in action.type.options if option.startswith(last)]
    return [flag for flag in parser.flags if flag.startswith(last)] if last.startswith("-") else None


def _by_hydra(word: str) -> int:
    from paramdiff.runs.config import register
    from paramdiff.runs.launch import hydra_main

    register()
    before, sys.argv = sys.argv, ["paramdiff", "-sc", word]
    try:
        hydra_main(_unused)
    except (Exception, SystemExit):
        if not word.startswith("query"):
            raise
    finally:
        sys.argv = before
    return 0


def _unused(config: object) -> None:
    """Completion runs nothing."""
