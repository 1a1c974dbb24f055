"""``paramdiff compare RUN RUN ...``: finished runs in one table and one figure."""

import glob
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paramdiff.errors import ConfigError, RunFolderError, near
from paramdiff.progress import say
from paramdiff.reports.comparison_files import subtitle, table, title, write_comparison
from paramdiff.reports.run_comparison import MAIN, Gathered, gather
from paramdiff.runs.console import SafeConsole
from paramdiff.runs.text_table import TextTable

IMPORTANT = ("runs", "originals", "mean", "selected", "within", "verdict")
"""Columns that come first where not all fit beside each other."""

FLAGS = ("--row", "--out")


@dataclass(frozen=True)
class Request:
    """The words of the command.

    Attributes:
        folders: of the runs, each once.
        row: which rows of them.
        out: where the files go; None for a folder in ``runs`` that is named after what differs.
    """

    folders: list[Path]
    row: str = MAIN
    out: Path | None = None


def gather_command(words: Sequence[str]) -> int:
    """Compare finished runs; returns the exit code."""
    request = parse(words)
    gathered = gather(request.folders, request.row)
    show(gathered)
    out = request.out or default_folder(gathered)
    page = write_comparison(gathered, out, shlex.join(["paramdiff", "compare", *words]))
    console = SafeConsole()
    for name, file in (("page", page.name), ("table", "comparison.md"), ("numbers", "comparison.json")):
        console.print(f"{name + ':':<9}{out / file}", soft_wrap=True)
    return 0


def parse(words: Sequence[str]) -> Request:
    """Folders and flags; ``--row NAME`` and ``--row=NAME`` mean the same.

    Raises:
        ConfigError: a flag that does not exist or has no value.
        RunFolderError: a path does not exist, a glob matches no run.
    """
    left, paths, given = list(words), [], {}
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", "")
        if not flag:
            paths.append(word)
        elif flag not in FLAGS:
            raise ConfigError(flag, "not a flag of compare", remedy=near(flag, FLAGS))
        elif not equals and not left:
            raise ConfigError(
                flag, "no value", remedy=f"give {flag} {'NAME' if flag == '--row' else 'FOLDER'}"
            )
        else:
            given[flag] = value if equals else left.pop(0)
    folders = list(dict.fromkeys(folder for path in paths for folder in find_runs(path)))
    if not folders:
        raise RunFolderError("no run to compare", expected="paths of finished run folders")
    return Request(folders, given.get("--row", MAIN), Path(given["--out"]) if "--out" in given else None)


def find_runs(word: str) -> list[Path]:
    """The run folders that a path or a glob means. A glob passes over what is no run, and over unfinished ones.

    Raises:
        RunFolderError: a glob without a match.
    """
    path = Path(word).expanduser()
    if path.exists() or not glob.has_magic(word):
        return [path]
    found = [Path(match) for match in sorted(glob.glob(str(path)))]  # noqa: PTH207 (an absolute pattern)
    runs = [match for match in found if (match / "manifest.json").is_file()]
    finished = [match for match in runs if (match / "results.json").is_file()]
    for unfinished in [match for match in runs if match not in finished]:
        say(f"  {unfinished} is not finished and left out")
    if not finished:
        raise RunFolderError(f"no finished run matches {word}", expected="paths of finished run folders")
    return finished


def default_folder(gathered: Gathered) -> Path:
    """``runs/comparison-digits-latent_noise``; the row too, if it is not the main one."""
    name = f"comparison {title(gathered).replace(' by ', ' ').replace(', ', ',')}"
    name += "" if gathered.row == MAIN else f" {gathered.row}"
    return Path("runs") / "".join(c if c.isalnum() or c in ".,_-" else "-" for c in name)[:200]


def show(gathered: Gathered) -> None:
    """Print the table to standard output, in full where that is a file."""
    headings, rows = table(gathered)
    sheet = TextTable(
        title=f"{title(gathered)} ({subtitle(gathered)})",
        headings=[heading.replace("_", " ") for heading in headings],
        rows=rows, named=len(gathered.columns), first=IMPORTANT,
    )  # fmt: skip
    console = SafeConsole()
    if not console.is_terminal:
        console.width = max(console.width, sheet.width())
    sheet.print(console)
