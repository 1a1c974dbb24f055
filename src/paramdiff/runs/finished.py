"""A finished run as an object: what is in its folder, read when it is first asked for."""

from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from paramdiff.errors import RunFolderError, near
from paramdiff.evaluation.results_schema import Model, Results, VerdictInfo
from paramdiff.files import load_tensors
from paramdiff.generators.generator import Generator
from paramdiff.reports.finished_run import read_results
from paramdiff.runs.rows import row_folder
from paramdiff.runs.stages.score import BEST
from paramdiff.runs.summary_table import summary_sheet, summary_text
from paramdiff.runs.text_table import TextTable
from paramdiff.zoo.zoo import Zoo


class Run:
    """A run folder: its numbers, its zoo, its generators and their samples.

    ``paramdiff.run(...)`` gives one, ``Run.load(folder)`` opens one that is there.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """A finished run on disk.

        Raises:
            RunFolderError: there is no ``results.json``, or it is damaged.
        """
        run = cls(folder)
        _ = run.results
        return run

    @cached_property
    def results(self) -> Results:
        """The dictionary of ``results.json``.

        Raises:
            RunFolderError: there is none, or it is damaged.
        """
        return read_results(self.folder, printed=True)

    @property
    def verdict(self) -> VerdictInfo:
        """``class`` (``replica``, ``interpolation``, ``novel`` or ``broken``), ``why`` and ``shares``."""
        return self.results["verdict"]

    @property
    def name(self) -> str:
        """Row of the main generator."""
        return str(self.results.get("generator") or "p-diff")

    @property
    def rows(self) -> dict[str, Model]:
        """The entries of ``results["models"]`` by their names."""
        return {row["name"]: row for row in self.results["models"]}

    @cached_property
    def zoo(self) -> Zoo:
        """The K members; the matrix stays on disk until it is used.

        Raises:
            CheckpointError: the run folder has no zoo, or it is damaged.
        """
        return Zoo.load(self.folder / "zoo")

    @cached_property
    def generator(self) -> Generator:
        """The main generator, fitted.

        Raises:
            CheckpointError: the run folder has none.
        """
        return self.generator_of(self.name)

    @cached_property
    def samples(self) -> Tensor:
        """The main generator's N samples as parameter vectors [N, D], in the order of ``zoo.spec``.

        Raises:
            CheckpointError: the run folder has none.
        """
        return self.samples_of(self.name)

    @property
    def best(self) -> dict[str, Tensor]:
        """A complete state dict: the sample that is best on the training data. It loads into the plain model.

        Raises:
            CheckpointError: the run folder has none.
        """
        return load_tensors(self.folder / BEST)

    @property
    def report(self) -> Path:
        """The page ``report.html``; drawn now, if it is not there.

        Raises:
            ParamdiffError: it is not there, and matplotlib or jinja2 is not installed.
        """
        path = self.folder / "report.html"
        if path.exists():
            return path
        from paramdiff.reports.page import render

        return render(self.folder)

    def generator_of(self, name: str) -> Generator:
        """The fitted generator of a row, with the network of the run's zoo: it samples complete state dicts.

        Raises:
            RunFolderError: the run has no such generator.
        """
        zoo = self.zoo if (self.folder / "zoo").is_dir() else None
        return Generator.load(self._folder_of(name) / "generator", zoo)

    def samples_of(self, name: str) -> Tensor:
        """The samples [N, D] of a row.

        Raises:
            RunFolderError: the run has no such generator.
        """
        return load_tensors(self._folder_of(name) / "samples" / "samples.safetensors")["samples"]

    def _folder_of(self, name: str) -> Path:
        folder = self.folder / row_folder(name, main=name == self.name)
        if name in self.rows and (folder / "generator").is_dir():
            return folder
        known = [row for row in self.rows if not row.startswith("original")]
        raise RunFolderError(f"{self.folder} has no generator {name!r}", remedy=near(name, known))

    def table(self) -> "Table":
        """One row a model: test scores, the sample selected on the training data, similarity; and the verdict."""
        return Table(summary_text(self.results))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        return as_html(summary_sheet(self.results), self.verdict)


class Table(str):
    """A text that is shown as it is where Python shows values: at a prompt and in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def as_html(sheet: TextTable, verdict: VerdictInfo) -> str:
    """A table and the verdict for a notebook; every text is escaped."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in sheet.headings)
    body = "".join(_html_row(row, bold=number in sheet.bold) for number, row in enumerate(sheet.rows))
    why = f"<p><b>{escape(str(verdict.get('class')))}</b>: {escape(str(verdict.get('why')))}</p>"
    caption = f"<caption>{escape(sheet.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{why}"


def _html_row(cells: Any, bold: bool) -> str:
    style = ' style="font-weight: bold"' if bold else ""
    return f"<tr{style}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
