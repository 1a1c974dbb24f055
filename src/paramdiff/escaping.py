"""Text that may go to a terminal: names in files of strangers may hold what a terminal takes for commands."""

import re

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*.?)", re.DOTALL)
"""What begins with ESC: colours and movements, titles and links, and the rest."""

CONTROLS = {
    code: None
    for code in (
        *range(32),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
    )
    if chr(code) not in "\n\t"
} | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
"""Control characters and changes of direction go; halves of characters, which cannot be encoded, are replaced."""


def plain(text: str) -> str:
    """Text without anything that a terminal obeys; lines and tabs stay."""
    return text if text.isascii() and text.isprintable() else ESCAPES.sub("", text).translate(CONTROLS)


def line(text: str) -> str:
    """The same on one line."""
    return " ".join(plain(text).split())
