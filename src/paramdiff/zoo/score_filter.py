"""Filters of recorded scores, such as ``test > 0.5 and train >= 0.9``.

The text is parsed to a syntax tree, and names, numbers, comparisons, ``and``, ``or`` and ``not`` are
turned into functions; anything else is refused, and nothing is ever evaluated as code.
"""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from paramdiff.errors import ZooError, near
from paramdiff.zoo.records import Record

Values = Mapping[str, float]

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


class ScoreFilter:
    """A parsed filter: called with scores by name, it says whether they pass.

    Attributes:
        names: the scores it reads.

    Raises:
        ZooError: the text is anything but comparisons of scores and numbers.
    """

    def __init__(self, text: str) -> None:
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            raise _unclear(text) from None
        self.text = text
        self.names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self._truth = _truth(tree)

    def require_known(self, known: Iterable[str]) -> None:
        """Raise :class:`ZooError` unless every score that is read is one of ``known``."""
        known = sorted(known)
        for name in sorted(self.names.difference(known)):
            raise ZooError(f"no member has a score {name!r}", expected=f"one of {', '.join(known)}",
                           remedy=near(name, known))  # fmt: skip

    def __call__(self, values: Values) -> bool:
        """Whether these scores pass; they do not where one that the filter names is missing."""
        return self.names <= values.keys() and self._truth(values)

    def rows(self, records: Sequence[Record]) -> list[int]:
        """Indices of the members that pass, by recorded scores, ``seed`` and ``step``.

        Raises:
            ZooError: it names an unknown score, or no member passes.
        """
        values = [_values(record) for record in records]
        self.require_known({name for known in values for name in known} | {"seed", "step"})
        rows = [i for i, known in enumerate(values) if self(known)]
        if not rows:
            raise ZooError(f"none of the {len(records)} checkpoints passes {self.text!r}", remedy="loosen it")
        return rows


def _values(record: Record) -> dict[str, float]:
    """Numbers of a member by name."""
    own = {"seed": record.seed, "step": record.step}
    return record.scores | {name: value for name, value in own.items() if value is not None}


def _truth(node: ast.expr) -> Callable[[Values], bool]:
    match node:
        case ast.BoolOp(op=joint, values=parts):
            join, tests = all if isinstance(joint, ast.And) else any, [_truth(part) for part in parts]
            return lambda values: join(test(values) for test in tests)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            test = _truth(inner)
            return lambda values: not test(values)
        case ast.Compare(ops=ops) if all(type(op) in COMPARISONS for op in ops):
            sides = [_number(side) for side in (node.left, *node.comparators)]
            holds = [COMPARISONS[type(op)] for op in ops]
            return lambda values: all(
                hold(a(values), b(values)) for hold, (a, b) in zip(holds, pairwise(sides))
            )
    raise _unclear(ast.unparse(node))


def _number(node: ast.expr) -> Callable[[Values], float]:
    match node:
        case ast.Name(id=name):
            return lambda values: values[name]
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return lambda values: value
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            number = _number(inner)
            return lambda values: -number(values)
    raise _unclear(ast.unparse(node))


def _unclear(text: str) -> ZooError:
    return ZooError(f"cannot understand the score filter {text!r}",
                    expected="comparisons of scores with numbers, joined by and, or, not",
                    remedy="write for example 'test > 0.5 and train >= 0.9'")  # fmt: skip
