"""How a broken rule is reported: by the class under test, what was seen, and the rule."""

from typing import NoReturn


class Rules:
    """Requirements on an object of somebody's class; a base of the cases that contract tests look at."""

    @property
    def subject(self) -> object:
        """The object under test."""
        raise NotImplementedError

    def require(self, holds: bool, rule: str, seen: str) -> None:
        """Raise AssertionError with the rule, and what was seen, unless it holds."""
        if not holds:
            raise AssertionError(f"{type(self.subject).__name__}: {seen}. Rule: {rule}")

    def fail(self, what: str, error: Exception, rule: str) -> NoReturn:
        """Raise AssertionError because ``what`` raised an error that the rule does not allow."""
        raise AssertionError(
            f"{type(self.subject).__name__}: {what} raises {type(error).__name__} ({error}). Rule: {rule}"
        ) from error
