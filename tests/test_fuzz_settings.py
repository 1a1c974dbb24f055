"""Every numeric key of every configuration, with values that cannot be meant: one line, exit code 2, nothing written.

The classes of settings are found from the registries, so a new one, or a new field, is in this test without being
written down, and red until it states its range. ``python tests/test_fuzz_settings.py`` goes through the command line
with each of them (minutes; not part of ``make test``).
"""

import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from omegaconf import OmegaConf

from paramdiff.cli import main
from paramdiff.collectors import COLLECTORS
from paramdiff.errors import ConfigError, ParamdiffError
from paramdiff.generators import GENERATORS
from paramdiff.runs.config import RunConfig, built, explain
from paramdiff.runs.launch import composed
from paramdiff.runs.recipe_checks import require_recipe
from paramdiff.settings import check_ranges, numeric, range_of
from paramdiff.tasks import TASKS
from paramdiff.tasks.models import NETWORKS
from paramdiff.tasks.models.named import LIBRARIES

ODD = (-1, 0, math.nan, math.inf, -math.inf, 1e308, 10**18, 10**400, "abc", "", [], {}, True, None, 2.5)
ABSURD = (math.nan, math.inf, -math.inf, 1e308, 10**18, 10**400, "abc", "", {}, True)
"""What no numeric setting may take."""
NEEDED: dict[str, Any] = {"name": "test_vit", "path": "somewhere", "data": "digits"}


def settings() -> dict[str, type]:
    """Every class of settings, those inside others included."""
    starts = [
        RunConfig,
        *(made if isinstance(made, type) else type(made) for made in TASKS.all().values()),
        *COLLECTORS.all().values(),
        *GENERATORS.all().values(),
        *NETWORKS.values(),
        *LIBRARIES.values(),
    ]
    own = [kind for kind in starts if kind.__module__.startswith("paramdiff.") and is_dataclass(kind)]
    for kind in own:  # it grows
        inside = [part for item in fields(kind) for part in (item.type, *get_args(item.type))]
        own += [part for part in inside if is_dataclass(part) and part not in own]
    return {kind.__name__: kind for kind in own}


KEYS = [
    (name, item.name)
    for name, kind in settings().items()
    for item in fields(kind)
    if item.init and numeric(item.type)
]


def made(kind: type, **values: Any) -> Any:
    """Settings with a value, as Python gives it: the type checker of these tests, which users have not, looks at
    constructors only."""
    needed = [
        f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING
    ]
    found = kind(**{key: NEEDED[key] for key in needed if key in NEEDED})
    vars(found).update(values)
    if hasattr(found, "__post_init__"):
        found.__post_init__()
    return found


def test_there_are_settings_of_every_kind():
    found = set(settings())
    assert {
        "RunConfig",
        "SweepConfig",
        "Augment",
        "Reading",
        "TrainingConfig",
        "TrajectoryCollector",
        "Mlp",
        "Timm",
    } <= found
    assert len(KEYS) > 100


@pytest.mark.parametrize(("name", "key"), KEYS, ids=".".join)
def test_every_numeric_setting_has_a_range_and_keeps_to_it(name: str, key: str):
    kind = settings()[name]
    limits = range_of(kind, key)
    assert limits, f"{name}.{key} has no range: add it to RANGES beside it"
    ends = [(limits.least, limits.above), (limits.most, limits.below)]
    assert all(any(end is not None and math.isfinite(end) for end in pair) for pair in ends), (
        "two finite ends"
    )
    listed = any(get_origin(part) is list for part in (item_type(kind, key), *get_args(item_type(kind, key))))
    for value in ODD:
        for tried in [value, [value]] if listed else [value]:
            with suppress(ConfigError):
                accepted = getattr(made(kind, **{key: tried}), key)
                assert permitted(kind, key, accepted), f"{name}({key}={tried!r})"
                assert value not in ABSURD or isinstance(value, bool), f"{name}({key}={tried!r})"
            one_line(kind, key, tried)


def item_type(kind: type, key: str) -> Any:
    return next(item.type for item in fields(kind) if item.name == key)


def permitted(kind: type, key: str, value: Any) -> bool:
    """Whether a value that was taken lies in the range, number by number; nothing only where it is optional."""
    if value is None:
        return NoneType in get_args(item_type(kind, key))
    limits = range_of(kind, key)
    assert limits is not None
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, bool):
            return False
        limits.check(key, number)
    return True


def one_line(kind: type, key: str, value: Any) -> None:
    try:
        made(kind, **{key: value})
    except ConfigError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 400 and error.exit_code == 2
        assert key.split(".", maxsplit=1)[0] in text or error.key, text


def test_a_number_without_a_range_has_to_be_finite():
    from dataclasses import dataclass

    @dataclass
    class Own:
        x: float = 0.0

    check_ranges(Own(1e300))
    with pytest.raises(ConfigError, match="x: inf is out of range; expected a finite number"):
        check_ranges(Own(math.inf))


@pytest.fixture(scope="module")
def composition() -> Any:
    return composed(["name=t", "run_dir=r"])


def leaves(node: Any, before: str = "") -> Iterator[str]:
    for key in node:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if OmegaConf.is_dict(node[key]):
            yield from leaves(node[key], f"{before}{key}.")
        elif isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
            yield f"{before}{key}"


def test_every_key_of_a_composed_run_refuses_the_absurd_by_its_full_name(composition: Any):
    keys = list(leaves(composition))
    assert len(keys) > 50 and {"zoo.pretrain.lr", "compare.gaussian.scale", "sweep.n"} <= set(keys)
    for number, key in enumerate(keys):
        value = (math.nan, math.inf, 1e308, "abc", 10**18)[number % 5]
        with pytest.raises(ConfigError) as caught:
            override(composition, key, value)
        assert str(caught.value).startswith(key) and "\n" not in str(caught.value)


def override(composition: Any, key: str, value: Any) -> Any:
    config = composition.copy()
    try:
        OmegaConf.update(config, key, value)
        OmegaConf.resolve(config)
    except Exception as error:
        raise explain(error) from None
    return built(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task.model_options", {"x": [1.0, math.nan]}, r"task.model_options.x\[1\]: nan is out of range"),
        ("task.model_options", {"a": {"b": math.inf}}, "task.model_options.a.b: inf is out of range"),
        ("task.model_options", {"channels": [10**9]}, "task.model_options.channels: 1000000000 is out of"),
        ("task.mean", [math.nan], "task.mean: nan is out of range; expected at least 0 and at most 1"),
        ("compare.gaussian", 3, "compare.gaussian: not an option by name; expected one of the generators"),
        ("task.data", "", "task.data: empty"),
        ("n", 10**9, "n: 1000000000 is out of range; expected at least 1 and at most 1,000,000"),
        ("zoo.k", 10**12, "zoo.k: 1000000000000 is out of range"),
    ],
)
def test_what_is_inside_of_lists_and_dictionaries_is_looked_at(
    key: str, value: Any, message: str, composition: Any
):
    with pytest.raises(ConfigError, match=message):
        override(composition, key, value)


@pytest.mark.parametrize(
    "word",
    [
        "n=1000000000", "task.mean=[nan]", "zoo.k=[", "zoo.k=${zoo.k}", "--k=10", "compare=3", "\x00=\n",
        "zoo.k=" + "[" * 2000 + "]" * 2000,
    ],
)  # fmt: skip
def test_the_command_line_says_one_line_and_writes_nothing(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["run", word]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("paramdiff: error: ") and lines[0].isprintable()
    assert not list(tmp_path.iterdir())


RECIPES = {
    "tabs": (b"zoo:\n\tk: 3\n", "line 2: found character '\\\\t'"),
    "twice": (b"zoo: {k: 3}\nzoo: {k: 4}\n", "the key 'zoo' is there twice"),
    "binary": (b"\xff\xfe\x00\x01" * 10, "not text"),
    "null": (b"zoo: \x00\n", "special characters|not allowed"),
    "deep": (b"a: " + b"[" * 300 + b"]" * 300, "nested more than 50 deep"),
    "very_deep": (b"a: " + b"[" * 20_000 + b"]" * 20_000, "nested more than 50 deep"),
    "itself": (b"a: &a [*a]\n", "nested more than 50 deep, or in itself"),
    "laughs": (
        b"a: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"b%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 10)),
        "more than 100,000 values",
    ),
    "list": (b"- 1\n- 2\n", "no keys"),
    "number": (b"3\n", "no keys"),
    "huge": (b"a: " + b"x" * 1_000_001, "1,000,00. bytes"),
    "two": (b"a: 1\n---\nb: 2\n", "expected a single document|another document"),
    "anchor": (b"a: *nothing\n", "undefined alias"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_cannot_be_read_are_one_line(name: str, tmp_path: Path):
    content, message = RECIPES[name]
    path = tmp_path / "experiment" / f"{name}.yaml"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        require_recipe(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_folder_of_recipes_is_looked_at_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_bytes(RECIPES["itself"][0])
    assert main(["run", "--config-dir", "mine", "experiment=bad"]) == 2
    assert "nested more than 50 deep" in capsys.readouterr().err
    assert main(["run", "--config-dir", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def every_key_through_the_command_line() -> int:
    """The long way: each key with each odd value as somebody would type it; returns how many went wrong."""
    from paramdiff.runs.launch import _rehearse

    wrong = 0
    for key in leaves(composed(["name=t", "run_dir=r"])):
        for value in (-1, 0, "nan", "inf", "-inf", 1e308, 10**18, "abc", "", "[]", "{}", "true", "null"):
            try:
                _rehearse([f"{key}={value}"])
            except ParamdiffError as error:
                ok = error.exit_code == 2 and "\n" not in str(error)
            except BaseException as error:
                ok = False
                print(key, value, repr(error)[:200])
            else:
                ok = value in (-1, 0, "", "[]", "{}", "null")
            wrong += not ok
            if not ok:
                print("WRONG", key, value)
    return wrong


if __name__ == "__main__":
    from paramdiff.runs.config import register

    register()
    sys.exit(every_key_through_the_command_line() > 0)
