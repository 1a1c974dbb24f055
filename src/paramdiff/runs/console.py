"""The console that everything on standard output is printed on: names are shown, never obeyed."""

import os
from typing import Any

from rich.console import Console
from rich.text import Text

from paramdiff.errors import plain

WIDE = 120
"""Columns where nobody says how many there are: a file, a pipe."""


class SafeConsole(Console):
    """A console to which strings are text alone: no markup, no emoji, nothing that a terminal obeys.

    Of a sensible width where it is no terminal and nobody says how wide (``COLUMNS``).

    What is to be bold is a :class:`rich.text.Text` (:func:`bold`), or has a ``style``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **kwargs})
        if "width" not in kwargs and not self.is_terminal:
            said = os.environ.get("COLUMNS", "")
            self.width = int(said) if said.isdigit() and 0 < int(said) < 10_000 else WIDE

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Every string, printed or in a table, comes by here."""
        return super().render_str(plain(text), **{**kwargs, "markup": False, "emoji": False})


def bold(text: str, rest: str = "", style: str = "bold") -> Text:
    """A beginning in another style."""
    return Text.assemble((plain(text), style), plain(rest))
