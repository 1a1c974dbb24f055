"""The commands: what each is called, takes and does. A new one is one :class:`Command` in :data:`COMMANDS`.

Nothing heavy is imported before a command runs, so ``--help`` answers at once.
"""

import glob
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from paramdiff import __version__, distributed
from paramdiff.runs.arguments import WORDS, Parser
from paramdiff.runs.hydra_flags import add_hydra_flags, meant

SETTINGS = """settings:
  experiment=NAME      what to run
  run_dir=PATH         where (default: runs/<experiment>, with the settings given here in the name)
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
  tracker=tensorboard  log losses and scores there as well; wandb and accelerate's others likewise, or a list
  quiet=true           nothing but the result and errors, as -q
  force=true           let another zoo, task or fit take the place of those in an existing run folder

names:
"""

LONELY = (
    "accelerate has started one process only: without --multi_gpu, which serves CPUs as well, --num_processes "
    "has no effect on this machine"
)

GATHERING = """Scores the baselines of one run and writes its results.json; or, given finished runs, puts them beside
each other: the settings in which they differ, scores, similarity, verdict. Runs that differ in nothing but their
seeds are one line, mean and deviation over them."""

INSPECTING = """Says what a zoo, a run folder or any folder of state dicts holds before anything is trained: K, D,
tensors, duplicates, NaN, how the checkpoints vary, and whether random pairs lie in one basin (the score at their
midpoint)."""

INSPECT_SETTINGS = """settings:
  task=NAME            the task the checkpoints belong to (digits, or your own with --config-dir): gives the
                       model for select=last_norms:N and the data for the midpoint score. A collected zoo
                       knows its own.
  select=PATTERN       tensors to look at: last_norms:2, type:Linear, globs (default: all that the checkpoints hold)
  group=N              of a folder with several kinds of files, another kind than the largest
"""


PUSHING = """Uploads the generator of a finished run, with a card that has its results and its verdict; or a saved
generator; or a zoo, as a data set. The token is that of `hf auth login`, or HF_TOKEN."""

PULLING = """Fetches a generator or a zoo into a folder and checks it. Only files with the names that paramdiff writes
are fetched, and nothing of them is executed. Where a generator and a zoo have the same id, datasets/user/name is the
zoo."""


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Attributes:
        summary: what it does, in the list of commands.
        arguments: gives its parser flags and words beside ``--help`` and ``--quiet``.
        run: does it and returns the exit code; imports what it needs when it is called.
        description: more about it, for its own help; by default the summary.
        more: the end of its help, made only when it is asked for.
        meant: see :class:`~paramdiff.runs.arguments.Parser`.
        distributed: whether every process that was started takes part, not only the first.
        stage: whether it takes settings of a run, which the shell can complete.
    """

    summary: str
    arguments: Callable[[Parser], object]
    run: Callable[[Namespace], int]
    description: str = ""
    more: Callable[[], str] | None = None
    meant: Callable[[str, str, Iterable[str]], str] | None = None
    distributed: bool = False
    stage: bool = False


def _stage(name: str, summary: str) -> Command:
    """A command that does one or all stages of runs, whose settings Hydra composes."""
    description = f"{summary[0].upper()}{summary[1:]}."
    return Command(
        summary, _stage_arguments, partial(_run_stage, name), description, _settings_help, meant,
        distributed=True, stage=True,
    )  # fmt: skip


def _stage_arguments(parser: Parser) -> None:
    parser.add_argument(WORDS, nargs="*", default=[], metavar="key=value", help="settings, see below")
    add_hydra_flags(parser)


def _settings_help() -> str:
    from paramdiff.runs.recipe_names import describe_options

    return f"{SETTINGS}{describe_options()}\n"


def _announce(words: Sequence[str]) -> None:
    """Something to read while torch is loading."""
    from paramdiff.progress import quiet

    if not quiet() and "quiet=true" not in words:
        print(f"paramdiff {__version__}: loading ...", file=sys.stderr, flush=True)


def _run_stage(name: str, options: Namespace) -> int:
    _announce(options.words)
    from paramdiff.progress import say
    from paramdiff.runs.launch import launch

    if distributed.launched_in_vain():
        say(f"paramdiff: {LONELY}")
    with distributed.all_processes():
        return launch(name, [*options.hydra, *options.words])


def _compare_arguments(parser: Parser) -> None:
    parser.add_argument(
        WORDS, nargs="*", default=[], metavar="RUN | key=value",
        help="run folders, or globs in quotes: 'runs/digits,ablation=noise,*'; or settings of one run",
    )  # fmt: skip
    parser.add_argument(
        "--row", metavar="NAME",
        help="of runs: original, p-diff, ... or all (default: main, the main generator of each run)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FOLDER",
        help="of runs: for comparison.html, .md, .csv, .json and the figures (default: runs/comparison-...)",
    )  # fmt: skip
    add_hydra_flags(parser)


def _compare(options: Namespace) -> int:
    if not _means_runs(options):
        return _run_stage("compare", options)
    if not distributed.is_printing_process():
        return 0
    _announce(options.words)
    from paramdiff.runs.compare_command import gather_command

    return gather_command(options.words, options.row, options.out)


def _means_runs(options: Namespace) -> bool:
    """Whether the words are run folders (whose names may hold =) and not settings of one run."""
    if options.row is not None or options.out is not None:
        return True
    first = options.words[0] if options.words else ""
    return bool(first) and ("=" not in first or bool(glob.glob(first)))  # noqa: PTH207 (an absolute pattern)


def _inspect_arguments(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="a zoo, a run folder or a folder of checkpoints")
    parser.add_argument(WORDS, nargs="*", default=[], metavar="key=value", help="settings, see below")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with your own recipes, for task=NAME")
    parser.add_argument("--json", action="store_true", help="the numbers as JSON")


def _inspect(options: Namespace) -> int:
    from paramdiff.runs.inspect_command import inspect_command

    return inspect_command(
        [options.path, *options.words], config_dir=options.config_dir, as_json=options.json
    )


def _push_arguments(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="a run folder, a saved generator or a saved zoo")
    parser.add_argument("id", metavar="ID", help="user/name; the repository is made if there is none")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--license", metavar="NAME", help="for the card, e.g. apache-2.0 (default: none)")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to write to (default: main)")


def _push(options: Namespace) -> int:
    _announce([])
    from paramdiff.runs.hub_commands import Options, push_command

    return push_command(options.path, options.id, Options(options.private, options.license, options.revision))


def _pull_arguments(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="user/name, or datasets/user/name")
    parser.add_argument("path", metavar="PATH", help="a new folder, or one that holds the same kind of thing")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit (default: the newest)")


def _pull(options: Namespace) -> int:
    _announce([])
    from paramdiff.runs.hub_commands import pull_command

    return pull_command(options.id, options.path, options.revision)


COMMANDS: Mapping[str, Command] = {
    "run": _stage("run", "the main job: all of the following stages, in order"),
    "collect": _stage("collect", "train a network and keep K checkpoints of it: the zoo"),
    "fit": _stage("fit", "learn the distribution of the zoo's parameters"),
    "sample": _stage("sample", "draw N new networks"),
    "score": _stage("score", "measure originals and samples on train and test data"),
    "compare": Command(
        "the same for the baselines; or: finished runs in one table and figure", _compare_arguments, _compare,
        GATHERING, _settings_help, meant, distributed=True, stage=True,
    ),
    "report": _stage("report", "write report.html"),
    "sweep-temperature": _stage(
        "sweep-temperature", "accuracy against diversity: every generator at several values of its knob"
    ),
    "inspect": Command(
        "what a zoo or a folder of checkpoints holds, and whether it is likely to work", _inspect_arguments,
        _inspect, INSPECTING, lambda: INSPECT_SETTINGS,
    ),
    "push": Command(
        "a generator or a zoo to the Hugging Face Hub", _push_arguments, _push, PUSHING
    ),
    "pull": Command(
        "a generator or a zoo from the Hugging Face Hub", _pull_arguments, _pull, PULLING
    ),
}  # fmt: skip
