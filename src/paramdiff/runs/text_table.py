"""Tables of text that fit the width of the terminal: no number and no name is ever cut.

Where all columns fit they are one table. Else they are several tables one below the other, each with the columns that
name a row, and the most important others first. Where not even a single one fits beside the names, each row is a
paragraph of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paramdiff.errors import line


@dataclass(frozen=True)
class TextTable:
    """
    Attributes:
        title: above it.
        headings: of the columns.
        rows: a text for each column.
        named: how many of the columns, from the left, say what a row is of.
        first: headings of the other columns, the most important first; those left out come after them.
        bold: numbers of rows that stand out.
        grouped: leave out a first name that is the same as in the row above, and draw a line where it changes.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    named: int = 1
    first: Sequence[str] = ()
    bold: Sequence[int] = ()
    grouped: bool = False

    def print(self, console: Console) -> None:
        """Write it, in the width of the console."""
        if self.title:
            console.print(Text(line(self.title), style="italic"))
        blocks = self.blocks(console.width)
        for block in blocks:
            console.print(self._table(block))
        if not blocks:
            console.print(Text("\n").join(self._paragraphs()), soft_wrap=True)

    def blocks(self, width: int) -> list[list[int]]:
        """Columns of each of the tables that fit into a width; none if no table does."""
        names = list(range(self.named))
        found: list[list[int]] = []
        for column in self._by_importance():
            if found and self.width([*found[-1], column]) <= width:
                found[-1].append(column)
            elif self.width([*names, column]) <= width:
                found.append([*names, column])
            else:
                return []
        return [sorted(block) for block in found]

    def width(self, columns: Sequence[int] | None = None) -> int:
        """Of a table of some of the columns, by default all: with a space on both sides of each, and lines between."""
        columns = range(len(self.headings)) if columns is None else columns
        return 1 + sum(3 + max(cell_len(row[i]) for row in self._shown()) for i in columns)

    def _shown(self) -> list[list[str]]:
        return [[line(cell) for cell in row] for row in (self.headings, *self.rows)]

    def _by_importance(self) -> list[int]:
        others = range(self.named, len(self.headings))
        rank = {heading: place for place, heading in enumerate(self.first)}
        return sorted(others, key=lambda i: rank.get(self.headings[i], len(rank)))

    def _table(self, columns: Sequence[int]) -> Table:
        table = Table(header_style="bold")
        headings, *rows = self._shown()
        for i in columns:
            table.add_column(Text(headings[i]), justify="left" if i < self.named else "right", no_wrap=True)
        before = [[""], *rows]
        ends = [self.grouped and row[0] != after[0] for row, after in pairwise([*rows, [""]])]
        for number, (row, above) in enumerate(zip(rows, before)):
            repeated = self.grouped and row[0] == above[0]
            cells = ["" if repeated and i == 0 else row[i] for i in columns]
            style = "bold" if number in self.bold else None
            table.add_row(*map(Text, cells), style=style, end_section=ends[number])
        return table

    def _paragraphs(self) -> Iterator[Text]:
        headings, *rows = self._shown()
        for number, row in enumerate(rows):
            name = ", ".join(cell for cell in row[: self.named] if cell)
            lines = [f"  {headings[i]}: {row[i]}" for i in range(self.named, len(row)) if row[i]]
            paragraph = Text(name, style="bold" if number in self.bold else "")
            yield paragraph.append("".join(f"\n{line}" for line in lines), style="not bold")
