"""Commands, flags and help by :mod:`argparse`; a mistake in them is one line, as every other mistake is.

Settings are not flags: ``key=value`` words go on to Hydra as they are, wherever they stand between the flags.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from paramdiff.errors import ConfigError, ParamdiffError, check_choice, near

WORDS = "words"
"""Where a parser keeps what is no flag, in the order in which it was typed."""


class Parser(argparse.ArgumentParser):
    """A parser that raises where argparse would print its usage and exit.

    Args:
        more: the end of the help, made only when help is asked for.
        meant: remedy for a flag that does not exist, from the flag, the word after it and the flags that exist; by
            default the nearest of them.
    """

    def __init__(
        self, prog: str, description: str = "", more: Callable[[], str] | None = None,
        meant: Callable[[str, str, Iterable[str]], str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            prog, description=description, formatter_class=_Layout, add_help=False, allow_abbrev=False,
            exit_on_error=False,
        )  # fmt: skip
        self.add_argument("-h", "--help", action="help", help="show this help and stop")
        self.add_argument("-q", "--quiet", action="store_true", help="nothing but the result and errors")
        self.more, self.meant = more, meant

    def format_help(self) -> str:
        """The help that argparse makes of the arguments, with ``more`` below it."""
        return super().format_help() + (f"\n{self.more()}" if self.more else "")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options that the words mean; what is no flag is in ``options.words``, if the parser takes such words.

        Raises:
            ConfigError: a flag that does not exist, or whose value is missing or wrong.
            ParamdiffError: a word is missing or one too many.
        """
        try:
            options, left = self.parse_known_args(list(words))
        except argparse.ArgumentError as error:
            raise self._mistake(error) from None
        plain = [*getattr(options, WORDS, []), *left]
        unknown = next((word for word in plain if word.startswith("-")), None)
        if unknown is not None:
            raise self._unknown(unknown, words)
        if left and not hasattr(options, WORDS):
            self.error(f"{left[0]!r} is one word too many")
        setattr(options, WORDS, plain)
        return options

    def error(self, message: str) -> NoReturn:
        raise ParamdiffError(message, remedy=f"see `{self.prog} --help`")

    @property
    def flags(self) -> dict[str, argparse.Action]:
        """Every flag by its spelling, hidden ones left out."""
        known = self._option_string_actions
        return {flag: action for flag, action in known.items() if action.help != argparse.SUPPRESS}

    def _mistake(self, error: argparse.ArgumentError) -> ParamdiffError:
        name = (error.argument_name or self.prog).partition("/")[0]
        action = self._option_string_actions.get(name)
        if action is not None and error.message.startswith("expected"):
            return ConfigError(name, "no value", remedy=f"give {name} {action.metavar}")
        return ConfigError(name, error.message, remedy=f"see `{self.prog} --help`")

    def _unknown(self, word: str, words: Sequence[str]) -> ConfigError:
        flag, equals, value = word.partition("=")
        if not equals and word in words:
            following = words[list(words).index(word) + 1 :][:1]
            value = next((w for w in following if "=" not in w and not w.startswith("-")), "")
        remedy = self.meant(flag, value, self.flags) if self.meant else near(flag, self.flags)
        came = f"not a flag of {self.prog.rpartition(' ')[2]}"
        return ConfigError(flag, came, expected="key=value" if self.meant else "", remedy=remedy)


class _Layout(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=25)


class OneOf:
    """The type of a flag that takes one of a few words."""

    def __init__(self, flag: str, *options: str) -> None:
        self.flag, self.options = flag, options

    def __call__(self, word: str) -> str:
        check_choice(self.flag, word, self.options)
        return word


class PassedOn(argparse.Action):
    """A flag for Hydra: kept in ``options.hydra`` as one word, with its value behind an equals sign."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option_string: str | None = None,
    ) -> None:  # fmt: skip
        word = f"{option_string}={values}" if isinstance(values, str) else str(option_string)
        namespace.hydra = [*getattr(namespace, "hydra", []), word]
