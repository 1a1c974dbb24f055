"""The console for standard output: what comes from files is printed as text, never interpreted."""

import os
from typing import Any

from rich.console import Console
from rich.text import Text

from paramdiff.errors import plain

WIDE = 120
"""Columns of a file or a pipe, which have no width of their own."""


class SafeConsole(Console):
    """A console that prints strings as they are: no markup, no emoji, no control sequences.

    Where it is no terminal it is ``COLUMNS`` wide, or :data:`WIDE`. For bold text use :func:`bold` or a ``style``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **kwargs})
        if "width" not in kwargs and not self.is_terminal:
            said = os.environ.get("COLUMNS", "")
            self.width = int(said) if said.isdigit() and 0 < int(said) < 10_000 else WIDE

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Called for every string that is printed, alone or in a table."""
        return super().render_str(plain(text), **{**kwargs, "markup": False, "emoji": False})


def bold(text: str, rest: str = "", style: str = "bold") -> Text:
    """Text whose beginning has another style than the rest."""
    return Text.assemble((plain(text), style), plain(rest))
