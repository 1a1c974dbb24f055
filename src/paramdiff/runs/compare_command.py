"""``paramdiff compare RUN RUN ...``: finished runs in one table and one figure."""

import glob
import shlex
from collections.abc import Sequence
from pathlib import Path

from paramdiff.errors import RunFolderError
from paramdiff.progress import say
from paramdiff.reports.comparison_files import subtitle, table, title, write_comparison
from paramdiff.reports.run_comparison import MAIN, Gathered, gather
from paramdiff.runs.console import SafeConsole
from paramdiff.runs.text_table import TextTable

IMPORTANT = ("runs", "originals", "mean", "selected", "within", "verdict")
"""Columns that are shown before others where a terminal is too narrow for all."""


def gather_command(words: Sequence[str], row: str | None = None, out: str | None = None) -> int:
    """Compare finished runs; returns the exit code.

    Args:
        words: run folders, or globs of them.
        row: which rows of them, by default the main generators'.
        out: where the files go, by default a folder in ``runs`` that is named after what differs.

    Raises:
        RunFolderError: a path does not exist, a glob matches no run, a run is not finished.
        ConfigError: no run has such a row.
    """
    gathered = gather(found_runs(words), row or MAIN)
    show(gathered)
    folder = Path(out) if out else default_folder(gathered)
    flags = [f"{flag}={value}" for flag, value in (("--row", row), ("--out", out)) if value]
    page = write_comparison(gathered, folder, shlex.join(["paramdiff", "compare", *words, *flags]))
    console = SafeConsole()
    for name, file in (("page", page.name), ("table", "comparison.md"), ("numbers", "comparison.json")):
        console.print(f"{name + ':':<9}{folder / file}", soft_wrap=True)
    return 0


def found_runs(words: Sequence[str]) -> list[Path]:
    """The run folders that paths and globs mean, each once.

    Raises:
        RunFolderError: a glob without a match, or no path at all.
    """
    folders = list(dict.fromkeys(folder for word in words for folder in find_runs(word)))
    if not folders:
        raise RunFolderError("no run to compare", expected="paths of finished run folders")
    return folders


def find_runs(word: str) -> list[Path]:
    """The run folders that a path or a glob means. A glob skips folders that are no runs, and unfinished runs.

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
