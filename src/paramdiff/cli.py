"""The program: ``paramdiff COMMAND ...``, its help, its exit codes, and one line for whatever goes wrong.

The commands are in :mod:`paramdiff.runs.commands`. Nothing heavy is imported before a command needs it, so ``--help``
answers at once and a run says what it is about to do while torch is still loading.
"""

import os
import select
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from paramdiff import __version__, distributed
from paramdiff.errors import ParamdiffError, ParamdiffWarning, line, near
from paramdiff.runs.arguments import Parser
from paramdiff.runs.commands import COMMANDS

EXAMPLES = """examples:
  paramdiff run                                       the digits, in a minute; nothing to download
  paramdiff run experiment=digits_full zoo.k=100      another experiment, another setting
  paramdiff run -m generator.diffusion.steps=100,500  a sweep: one run folder each
  paramdiff inspect path/to/checkpoints               before any training

  eval "$(paramdiff -sc install=bash)"                completion of commands, flags and keys; zsh, fish likewise

A run is a folder (runs/<experiment>, or run_dir=PATH). Killed anywhere, the same command goes on.
`paramdiff COMMAND --help` says more.
"""

COMPLETION = {"-sc", "--shell-completion"}

TRACEBACK = "PARAMDIFF_TRACEBACK"
"""Set in the environment, it shows where an unexpected error came from."""


def program() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the program, and those of its commands."""
    about = f"paramdiff {__version__}: learn the distribution of trained networks, sample new ones."
    parser = Parser(prog="paramdiff", description=about, more=lambda: EXAMPLES)
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"paramdiff {__version__}",
        help="show the version and stop",
    )
    parser.add_argument("-sc", "--shell-completion", metavar="install=SHELL",
                        help="shell code that completes commands, flags and keys")  # fmt: skip
    listed = parser.add_subparsers(title="commands", metavar="COMMAND")
    parsers = {}
    for name, command in COMMANDS.items():
        parsers[name] = listed.add_parser(
            name, help=command.summary, description=command.description or command.summary,
            more=command.more, meant=command.meant,
        )  # fmt: skip
        command.arguments(parsers[name])
    return parser, parsers


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 2 a user's mistake, 130 stopped by Ctrl-C, 1 anything else."""
    _open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with ExitStack() as muted:
        muted.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", ParamdiffWarning)  # runs say it in their notes
        if not distributed.is_printing_process():
            muted.enter_context(redirect_stdout(muted.enter_context(Path(os.devnull).open("w"))))
        code = _answer(words)
    distributed.wait_for_everyone()
    return code


def command() -> NoReturn:
    """What a shell calls: :func:`main`, and the end of the process."""
    distributed.exit_process(main())


def _answer(words: list[str]) -> int:
    """Do what was asked, or say in one line why not; returns the exit code."""
    try:
        try:
            code = _dispatch(words)
        except SystemExit as error:  # help and version; Hydra's parser, or somebody's own task
            code = _exit_code(error)
        sys.stdout.flush()  # here, where a reader that has gone is expected
        return code
    except ParamdiffError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _complain("stopped; the same command goes on from here")
        return 130
    except BrokenPipeError:
        return _reader_gone()
    except BaseException as error:
        _complain(f"error: {_unexpected(error)}")
        return 1


def _unexpected(error: BaseException) -> str:
    """An error that no part of the program foresees, in one line; with :data:`TRACEBACK` set, its traceback as well."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text:
        return f"the memory does not suffice ({text or 'MemoryError'}); lower n, zoo.k or a batch size"
    if isinstance(error, RecursionError):
        return "something is nested too deeply, or in itself, in a file or in the settings"
    if isinstance(error, OSError) and error.strerror:
        remedy = "; check the permissions" if isinstance(error, PermissionError) else ""
        return f"{error.filename or 'input or output'}: {error.strerror}{remedy}"
    return f"{type(error).__name__}: {text}; {TRACEBACK}=1 shows where, please report it"


def _exit_code(error: SystemExit) -> int:
    if isinstance(error.code, str):
        _complain(error.code)
    return error.code if error.code in (0, 2) and error.code is not None else int(error.code is not None)


def _reader_gone() -> int:
    """Standard output has lost its reader, as in ``paramdiff inspect zoo | head -1``: end without a message.

    That is no failure while standard error is still read. If it has lost its reader too, the program was stopped.
    """
    listening = select.poll()
    listening.register(sys.stderr.fileno(), 0)  # no events: only whether its reader has gone
    code = 1 if listening.poll(0) else 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _open_streams() -> None:
    """Standard streams that the caller has closed discard what is written; the others take every character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for good)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str) -> None:
    if distributed.is_printing_process():
        print(f"paramdiff: {line(text)}", file=sys.stderr, flush=True)


def _dispatch(words: list[str]) -> int:
    """Find the command, understand its words, run it."""
    if COMPLETION & set(words[:2]):  # `paramdiff run -sc ...` is Hydra's own way to write it
        from paramdiff.runs.completion import complete

        return complete([word for word in words if word not in {*COMPLETION, *COMMANDS}], program()[1])
    before = list(takewhile(lambda word: word.startswith("-"), words))
    name, *rest = words[len(before) :] or ["help"]
    if name == "help":
        before, name, rest = [*before, *([] if rest else ["--help"])], rest[0] if rest else "run", ["--help"]
    parser, parsers = program()
    muted = parser.parse(before).quiet
    if name not in COMMANDS:
        raise ParamdiffError(f"there is no command {name!r}", remedy=near(name, COMMANDS))
    options = parsers[name].parse(rest)
    if not (COMMANDS[name].distributed or distributed.is_printing_process()):
        return 0
    from paramdiff.progress import silenced

    with silenced(muted or options.quiet):
        return COMMANDS[name].run(options)


if __name__ == "__main__":
    sys.exit(main())
