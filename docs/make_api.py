"""``python -m docs.make_api``: ``docs/api.md`` from the signatures and docstrings of what ``paramdiff`` exports."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import paramdiff

PAGE = Path(__file__).with_name("api.md")
HEADER = "# API\n\nEverything that `import paramdiff` offers. Made from the docstrings by `python -m docs.make_api`.\n"
GROUPS = {
    "From start to end": ("runs", "evaluation"),
    "Zoos": ("zoo", "collectors", "parameters"),
    "Generators": ("generators", "registry"),
    "Tasks": ("tasks",),
    "Checks, errors and the rest": (),
}
"""Headings, and the packages whose names stand below each; the last has all others."""
WIDTH = 100
FIELDS = ("Args:", "Attributes:", "Class attributes:", "Raises:", "Returns:", "Yields:")


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The whole page: a list of all names, then each of them."""
    exported = {
        f"paramdiff.{name}": getattr(paramdiff, name) for name in sorted(paramdiff.__all__, key=str.lower)
    }
    exported |= checks()
    own, lists, parts = set(map(id, exported.values())), [HEADER], []
    for heading in GROUPS:
        chosen = {name: thing for name, thing in exported.items() if group_of(thing) == heading}
        lists.append(
            f"**{heading}**: {', '.join(f'[`{name[10:]}`](#{anchor(name, exported)})' for name in chosen)}\n"
        )
        parts += [f"# {heading}\n", *(entry(name, thing, own) for name, thing in chosen.items())]
    return "\n".join([*lists, *parts])


def group_of(thing: Any) -> str:
    package = getattr(thing, "__module__", "paramdiff.").split(".")[1]
    return next((heading for heading, packages in GROUPS.items() if package in packages), [*GROUPS][-1])


def anchor(name: str, exported: Mapping[str, Any]) -> str:
    """As GitHub names a heading: of two that differ in capitals only the second has a number."""
    plain = re.sub(r"[^\w-]", "", name.lower())
    alike = [other for other in exported if other.lower() == name.lower()]
    return plain if alike.index(name) == 0 else f"{plain}-{alike.index(name)}"


def checks() -> dict[str, Any]:
    """The contract tests, which are not imported with the rest."""
    try:
        module = import_module("paramdiff.testing")
    except ModuleNotFoundError:
        return {}
    return {f"paramdiff.testing.{name}": getattr(module, name) for name in sorted(module.__all__)}


def entry(name: str, thing: Any, exported: set[int]) -> str:
    """A class with its methods, or a function."""
    if not inspect.isclass(thing):
        call = [code(name, arguments(tree(thing)))] if inspect.isroutine(thing) else []
        return "\n".join([f"## {name}\n", *call, prose(inspect.getdoc(thing))])
    bases = [base.__name__ for base in thing.__mro__[1:] if id(base) in exported]
    parts = [f"## {name}\n", code(name, settings(thing)), prose(inspect.getdoc(thing))]
    parts += (
        [f"Has all of {', '.join(f'[`{base}`](#paramdiff{base.lower()})' for base in bases)}.\n"]
        if bases
        else []
    )
    short = name.rsplit(".", maxsplit=1)[-1]
    for base in thing.__mro__[::-1]:
        if base is thing or (id(base) not in exported and base.__module__.startswith("paramdiff")):
            parts += [
                method(short, each) for each in methods(base) if not overrides(thing, each.name, exported)
            ]
    return "\n".join(parts)


def overrides(made: type, name: str, exported: set[int]) -> bool:
    """Whether an exported base documents this method already."""
    return any(id(base) in exported and hasattr(base, name) for base in made.__mro__[1:])


def methods(base: type) -> Iterator[ast.FunctionDef]:
    """The public methods and properties in the body of a class that have a docstring."""
    for node in tree(base).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
            yield node


def method(owner: str, node: ast.FunctionDef) -> str:
    name, marks = f"{owner}.{node.name}", {ast.unparse(mark).split(".")[-1] for mark in node.decorator_list}
    if {"property", "cached_property"} & marks:
        shown = f"```python\n{name}: {ast.unparse(node.returns or ast.Name('Any'))}\n```\n"
    else:
        shown = code(name, arguments(node))
    return f"### {name}\n\n{shown}\n{prose(ast.get_docstring(node))}"


def tree(thing: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]


def settings(made: type) -> list[str]:
    """How an instance is made: a dataclass's fields with their defaults, else the arguments of ``__init__``."""
    if is_dataclass(made):
        annotated = {
            node.target.id: ast.unparse(node.annotation)
            for base in made.__mro__[::-1] if base.__module__.startswith("paramdiff")
            for node in tree(base).body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }  # fmt: skip
        return [f"{one.name}: {annotated[one.name]}{default(one)}" for one in fields(made) if one.init]
    init = next((node for node in tree(made).body if getattr(node, "name", "") == "__init__"), None)
    return arguments(init)[:-1] if init else []


def default(one: Any) -> str:
    if one.default is not MISSING:
        return f" = {one.default!r}"
    if one.default_factory is MISSING:
        return ""
    made = one.default_factory()
    return f" = {type(made).__name__}()" if is_dataclass(made) else f" = {made!r}"


def arguments(node: ast.FunctionDef) -> list[str]:
    """Each argument as it is written, without ``self``, and last what is returned."""
    own = node.args
    positional = [*own.posonlyargs, *own.args]
    values = [*[None] * (len(positional) - len(own.defaults)), *own.defaults]
    shown = [
        argument(*pair) for pair in zip(positional, values, strict=True) if pair[0].arg not in ("self", "cls")
    ]
    shown += [f"*{ast.unparse(own.vararg)}"] if own.vararg else ["*"] if own.kwonlyargs else []
    shown += [argument(*pair) for pair in zip(own.kwonlyargs, own.kw_defaults, strict=True)]
    return [*shown, *([f"**{ast.unparse(own.kwarg)}"] if own.kwarg else []), *returns(node)]


def argument(name: ast.arg, value: ast.expr | None) -> str:
    return ast.unparse(name) + (f" = {ast.unparse(value)}" if value else "")


def returns(node: ast.FunctionDef) -> list[str]:
    return [f") -> {ast.unparse(node.returns)}" if node.returns else ")"]


def code(name: str, shown: list[str]) -> str:
    """A call as a block of Python, on one line if it fits."""
    *given, end = shown if shown and shown[-1].startswith(")") else [*shown, ")"]
    line = f"{name}({', '.join(given)}{end}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {one},\n" for one in given) + end
    return f"```python\n{line}\n```\n"


def prose(text: str | None) -> str:
    """A docstring as markdown: roles and double backticks as code, argument lists as bullets."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text or "").replace("``", "`")
    lines, inside = [], False
    for line in text.splitlines():
        if line.strip() in FIELDS:
            inside = True
            lines += ["", f"**{line.strip()}**", ""]
        elif inside and line.startswith("    ") and not line.startswith("     "):
            lines.append("- " + re.sub(r"^([\w*., ]+):(?= |$)", r"`\1`:", line.strip()))
        elif inside and line.startswith("    "):
            lines.append("  " + line.strip())
        else:
            inside = inside and not line.strip()
            lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


if __name__ == "__main__":
    main()
