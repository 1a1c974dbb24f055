"""Values from files as the types that code expects."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import pytest

from paramdiff.errors import CheckpointError
from paramdiff.validation import Name, lenient, typed


@dataclass
class Inner:
    size: int
    names: list[str] = field(default_factory=list)


class Outer(TypedDict):
    inner: Inner
    share: float | None
    way: NotRequired[Literal["a", "b"]]
    pair: NotRequired[tuple[int, float]]
    by_name: NotRequired[dict[str, bool]]
    free: NotRequired[Any]
    file: NotRequired[Name]


GOOD = {"inner": {"size": 3}, "share": None}


def test_what_fits_becomes_its_type_and_other_keys_stay():
    found = typed(
        GOOD | {"pair": [1, 2.5], "new": "x", "share": 1, "free": [{}], "way": "b"}, Outer, "f.json"
    )
    assert found["inner"] == Inner(3) and found["pair"] == (1, 2.5) and found["share"] == 1
    assert found["new"] == "x" and found["free"] == [{}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": 1}, "f.json: inner is 1; expected names and values; again"),
        ({"inner": {"size": True}}, "inner.size is True; expected a whole number"),
        ({"inner": {"size": 2**63}}, "inner.size is a number of more than 64 bits"),
        ({"inner": {"size": 1.0}}, "inner.size is 1.0; expected a whole number"),
        ({"inner": {}}, "inner.size is missing; expected a value"),
        (
            {"inner": {"size": 1, "_target_": "os.system"}},
            "inner._target_ is 'os.system'; expected no such key",
        ),
        ({"inner": {"size": 1, "names": ["a", None]}}, "inner.names.1 is missing; expected a text"),
        ({"share": math.nan}, "share is nan; expected a finite number"),
        ({"share": 10**400}, "share is a number of more than 64 bits"),
        ({"share": "x" * 99}, r"share is '(x{39})\.\.\.; expected a finite number"),
        ({"way": "c"}, "way is 'c'; expected one of a, b"),
        ({"way": ["a"]}, "way is a list of 1"),
        ({"pair": [1]}, "pair is a list of 1; expected a list of 2"),
        ({"by_name": {"a": 0}}, "by_name.a is 0; expected true or false"),
        ({"file": "../x"}, "file is '../x'; expected a name without slashes"),
        ({"file": "\x1b[2J"}, r"file is '.x1b\[2J'"),
        ({"file": "\ud800"}, r"file is '.ud800'; expected a text"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str):
    with pytest.raises(CheckpointError, match=message):
        typed(GOOD | changes, Outer, "f.json", remedy="again")


def test_classes_of_somebody_else_are_left_to_themselves():
    @dataclass
    class Own:
        value: "NotKnownHere"  # type: ignore[name-defined]
        path: object = None

    assert typed({"value": [1], "path": "x"}, Own, "f.json").value == [1]


class Part(TypedDict):
    name: Required[str]
    score: float


class Whole(TypedDict):
    rows: Required[list[Part]]
    pair: Annotated[list[int], lambda pair: len(pair) == 2, "two"]
    best: NotRequired[Part]


@pytest.mark.parametrize(
    "value",
    [
        {"rows": []},
        {"rows": [{"name": "a", "score": None}], "pair": None},
        {"rows": [{"name": "a"}], "best": None},
    ],
)
def test_a_lenient_type_lets_what_is_not_required_be_missing_or_null(value: Any):
    assert typed(value, lenient(Whole), "x") == value
    with pytest.raises(CheckpointError):
        typed(value, Whole, "x")


@pytest.mark.parametrize(
    "value", [{}, {"rows": None}, {"rows": [{}]}, {"rows": [{"name": None}]}, {"rows": [], "pair": [1]}]
)
def test_a_lenient_type_is_strict_about_the_rest(value: Any):
    with pytest.raises(CheckpointError):
        typed(value, lenient(Whole), "x")
