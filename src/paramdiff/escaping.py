"""Text that is safe to print: names in other people's files may hold escape sequences that a terminal would obey."""

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
"""Control characters and changes of writing direction are removed; lone surrogates are replaced."""


def plain(text: str) -> str:
    """Text without anything that a terminal obeys; line breaks and tabs stay."""
    return text if text.isascii() and text.isprintable() else ESCAPES.sub("", text).translate(CONTROLS)


def line(text: str) -> str:
    """As :func:`plain`, on one line."""
    return " ".join(plain(text).split())
