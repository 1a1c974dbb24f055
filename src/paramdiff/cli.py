"""The command line: ``paramdiff run|collect|fit|sample|score|compare|report|sweep-temperature|inspect``.

Nothing heavy is imported before a command needs it, so ``--help`` answers at once and a run says
what it is about to do while torch is still loading.
"""

import glob
import os
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path
from typing import NoReturn

from paramdiff import __version__, distributed
from paramdiff.errors import ParamdiffError, ParamdiffWarning, line, near

STAGES = {
    "run": "the main job: all of the following stages, in order",
    "collect": "train a network and keep K checkpoints of it: the zoo",
    "fit": "learn the distribution of the zoo's parameters",
    "sample": "draw N new networks",
    "score": "measure originals and samples on train and test data",
    "compare": "the same for the baselines; writes results.json",
    "report": "write report.html",
    "sweep-temperature": "accuracy against diversity: every generator at several values of its knob",
}

USAGE = f"""paramdiff {__version__}: learn the distribution of trained networks, sample new ones.

usage: paramdiff COMMAND [key=value ...] [-m]

{chr(10).join(f"  {name:<19}{text}" for name, text in STAGES.items())}
  compare RUN ...    finished runs in one table and one figure
  inspect            say what a zoo or a folder of checkpoints holds, and whether it is likely to work

examples:
  paramdiff run                                    the digits, in a minute; nothing to download
  paramdiff run experiment=digits_full zoo.k=100   another experiment, another setting
  paramdiff run -m generator.autoencoder.latent_noise=0,0.1,1  a sweep: one run folder each
  paramdiff inspect path/to/checkpoints            before any training

  eval "$(paramdiff -sc install=bash)"             completion of commands and keys; zsh, fish likewise

A run is a folder (runs/<experiment>, or run_dir=PATH). Killed anywhere, the same command goes on.
`paramdiff COMMAND --help` says more.
"""

RUN_HELP = """usage: paramdiff {command} [key=value ...] [-m] [--config-dir DIR] [--cfg job]

{text}.

  experiment=NAME      what to run
  run_dir=PATH         where (default: runs/<experiment>, with the overrides in the name)
  n=100 seed=0         samples to draw; seed of everything
  device=auto          auto, cpu, cuda, cuda:1, mps
  task=NAME            data set, or your own task
  model=NAME           network of an image task; any other with task.model=timm/NAME, torchvision/NAME
  zoo.k=200            checkpoints to collect; zoo=NAME for the way to collect them
  zoo.select=PATTERN   tensors to generate: last_norms:2, all, type:Linear, globs such as layer4.*
  generator.KEY=VALUE  settings of the generator; generator=NAME for another one
  compare=none         no baselines
  ablation=NAME        with -m: a sweep of the paper's; 'paramdiff compare RUN ...' puts its runs together
  sweep.n=25           networks per point of sweep-temperature, at sweep.temperatures=[0,0.5,1]
  recalibrate=2000     measure generated BatchNorm statistics anew, on so many training items, in samples and originals
  force=true           let another zoo, task or fit take the place of those in an existing run folder

  -m                   sweep: comma-separated values, one run each
  --config-dir DIR     a folder with your own experiment/NAME.yaml
  --cfg job            print the whole configuration, with every key, and stop

names:
{names}
"""

INSPECT_HELP = """usage: paramdiff inspect PATH [task=NAME] [select=PATTERN] [group=N] [--json]

Says what a zoo, a run folder or any folder of state dicts holds before anything is trained: K, D,
tensors, duplicates, NaN, how the checkpoints vary, and whether random pairs lie in one basin (the score
at their midpoint).

  task=NAME            the task the checkpoints belong to (digits, or your own with --config-dir): gives the
                       model for select=last_norms:N and the data for the midpoint score. A collected zoo
                       knows its own.
  select=PATTERN       tensors to look at: last_norms:2, type:Linear, globs (default: all that the checkpoints hold)
  group=N              of a folder with several kinds of files, another kind than the largest
  --json               the numbers as JSON
"""


GATHER_HELP = """usage: paramdiff compare RUN [RUN ...] [--row NAME] [--out FOLDER]

Finished runs beside each other: the settings in which they differ, scores, similarity, verdict. Runs that
differ in nothing but their seeds are one line, mean and deviation over them.

  RUN                  a run folder, or a glob in quotes: 'runs/digits,ablation=noise,*'
  --row NAME           original, p-diff, ... or all (default: main, the main generator of each run)
  --out FOLDER         for comparison.html, .md, .csv, .json and the figures (default: runs/comparison-...)

With key=value it is a stage of one run:

"""


LONELY = (
    "accelerate has started one process only: without --multi_gpu, which serves CPUs as well, --num_processes "
    "has no effect on this machine"
)


COMPLETION = {"-sc", "--shell-completion"}

TRACEBACK = "PARAMDIFF_TRACEBACK"
"""Set in the environment, it shows where an unexpected error came from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 2 a user's mistake, 130 stopped by Ctrl-C, 1 anything else."""
    _open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    with ExitStack() as muted:
        muted.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", ParamdiffWarning)  # runs say it in their notes
        if not distributed.is_printing_process():
            muted.enter_context(redirect_stdout(muted.enter_context(Path(os.devnull).open("w"))))
        code = _answer(command, rest)
    distributed.wait_for_everyone()
    return code


def command() -> NoReturn:
    """What a shell calls: :func:`main`, and the end of the process."""
    distributed.exit_process(main())


def _answer(command: str, rest: list[str]) -> int:
    """Do what was asked, or say in one line why not; returns the exit code."""
    try:
        code = _dispatch(command, rest)
        sys.stdout.flush()  # here, where a reader that has gone is expected
        return code
    except ParamdiffError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _complain("stopped; the same command goes on from here")
        return 130
    except BrokenPipeError:
        return _unheard()
    except SystemExit as error:  # Hydra's parser, or somebody's own task
        return _exit_code(error)
    except BaseException as error:
        _complain(f"error: {_unexpected(error)}")
        return 1


def _unexpected(error: BaseException) -> str:
    """What nobody thought of, in one line; the whole traceback for those who ask for it."""
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


def _unheard() -> int:
    """The reader of our output has gone, as in `paramdiff inspect zoo | head -1`: nobody is told anything any more.

    That is no failure where the output was the result. Who stopped listening to messages has stopped a run.
    """
    listening = select.poll()
    listening.register(sys.stderr.fileno(), 0)  # no events: only whether its reader has gone
    code = 1 if listening.poll(0) else 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _open_streams() -> None:
    """Streams that were closed by the caller swallow what is written, and no character is too odd for the others."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for good)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str) -> None:
    if distributed.is_printing_process():
        print(f"paramdiff: {line(text)}", file=sys.stderr, flush=True)


def _dispatch(command: str, rest: list[str]) -> int:
    if command in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if command in ("-V", "--version"):
        print(f"paramdiff {__version__}")
        return 0
    if command in COMPLETION:
        from paramdiff.runs.completion import complete

        return complete(rest, [*STAGES, "inspect"])
    commands: dict[str, Callable[[], int]] = {name: lambda: _run(command, rest) for name in STAGES}
    commands["inspect"] = lambda: _inspect(rest)
    if command not in commands:
        raise ParamdiffError(f"there is no command {command!r}", remedy=near(command, commands))
    if {"-h", "--help"} & set(rest):
        print(_help(command))
        return 0
    if COMPLETION & set(rest):  # Hydra's own way to write it
        return _dispatch("-sc", [word for word in rest if word not in COMPLETION])
    return commands[command]()


def _help(command: str) -> str:
    if command == "inspect":
        return INSPECT_HELP
    from paramdiff.runs.recipe_names import describe_options

    gathering = GATHER_HELP if command == "compare" else ""
    return gathering + RUN_HELP.format(
        command=command, text=STAGES[command].capitalize(), names=describe_options()
    )


def _means_runs(rest: list[str]) -> bool:
    """Whether the words of ``compare`` are run folders (whose names may hold =) and not settings of one run."""
    first = rest[0] if rest else ""
    if first.startswith("-"):
        return first.partition("=")[0] in ("--row", "--out")
    return bool(first) and ("=" not in first or bool(glob.glob(first)))  # noqa: PTH207 (an absolute pattern)


def _run(command: str, rest: list[str]) -> int:
    if distributed.is_printing_process():
        print(f"paramdiff {__version__}: loading ...", file=sys.stderr, flush=True)
    if command == "compare" and _means_runs(rest):
        if not distributed.is_printing_process():
            return 0
        from paramdiff.runs.compare_command import gather_command

        return gather_command(rest)
    from paramdiff.runs.launch import launch

    if distributed.launched_in_vain():
        _complain(LONELY)
    with distributed.all_processes():
        return launch(command, rest)


def _inspect(rest: list[str]) -> int:
    if not distributed.is_printing_process():
        return 0
    from paramdiff.runs.inspect_command import inspect_command

    return inspect_command(rest)


if __name__ == "__main__":
    sys.exit(main())
