"""One way to find classes by name: ``@register("gaussian", "an independent Gaussian per coordinate")``; or values, with
``register("mnist", "handwritten digits")(value)``.

What a package of paramdiff registers is read from its sources, so that names and summaries are known, for help and
for the configuration, before anything is imported, and that looking up one name imports one module. What others
register is known once their module is imported; a module announced as an entry point is imported with the rest.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from paramdiff.errors import check_choice
from paramdiff.progress import say

T = TypeVar("T")
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Entry:
    """A registered class, as it is written in the source.

    Attributes:
        name: under which it is registered.
        module: that registers it when it is imported.
        summary: what it is, in a sentence without a capital or a full stop.
    """

    name: str
    module: str
    summary: str


@cache
def registered_in(package: str) -> dict[str, Entry]:
    """What the modules of a package of paramdiff register, by name, without importing them.

    Args:
        package: its name inside paramdiff, e.g. ``generators``.
    """
    folder = Path(__file__).parent / package
    found = (entry for path in sorted(folder.glob("*.py")) for entry in _entries(path, package))
    return {entry.name: entry for entry in found}


def _entries(path: Path, package: str) -> Iterator[Entry]:
    text = path.read_text(encoding="utf-8")
    if "\n@register(" not in text and "\nregister(" not in text:
        return
    for node in ast.parse(text).body:
        for call in _applied(node):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register":
                name, *more = (ast.literal_eval(word) for word in call.args)
                yield Entry(name, f"paramdiff.{package}.{path.stem}", "".join(more))


def _applied(node: ast.stmt) -> list[ast.expr]:
    """The decorators of a class, or what is called with a value in a statement of its own."""
    if isinstance(node, ast.ClassDef):
        return node.decorator_list
    return [node.value.func] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else []


class Registry(Generic[Kind]):
    """Classes, or values, by name.

    Args:
        what: what they are, for messages: ``generator``.
        package: inside paramdiff, where the built-in ones are: ``generators``.
        attribute: of a class, that is set to its name; empty for none.
        finish: called with each class when it is registered.
        plug_ins: whether what other packages announce is of the same kind.
    """

    def __init__(
        self,
        what: str,
        package: str,
        attribute: str = "name",
        finish: Callable[[Kind], None] = lambda kind: None,
        plug_ins: bool = True,
    ) -> None:
        self.plug_ins = plug_ins
        self.what, self.package, self.attribute, self.finish = what, package, attribute, finish
        self.known: dict[str, Kind] = {}

    @property
    def group(self) -> str:
        """Entry points under which other packages announce theirs."""
        return f"paramdiff.{self.package}"

    def register(self, name: str, summary: str = "") -> Callable[[T], T]:
        """Decorator of a class, which gets this name; it replaces another class of that name.

        Args:
            summary: what it is, for lists.
        """

        def decorate(kind: T) -> T:
            if self.attribute:
                setattr(kind, self.attribute, name)
            self.finish(kind)  # type: ignore[arg-type]
            self.known[name] = kind  # type: ignore[assignment]
            return kind

        return decorate

    def __getitem__(self, name: str) -> Kind:
        """The class of a name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.known and name in (own := registered_in(self.package)):
            import_module(own[name].module)
        if name not in self.known:
            check_choice(self.what, name, self.all())
        return self.known[name]

    def all(self) -> dict[str, Kind]:
        """Everything by name: the built-in, what plug-ins bring, and the caller's own.

        A plug-in that cannot be imported is reported and left out.
        """
        for entry in registered_in(self.package).values():
            import_module(entry.module)
        for plugin in entry_points(group=self.group) if self.plug_ins else ():
            try:
                found = plugin.load()
            except Exception as error:  # whatever somebody else's module raises must not stop ours
                say(f"the {self.what} plug-in {plugin.name} ({plugin.value}) cannot be imported: {error}")
                continue
            if found not in self.known.values():
                self.register(plugin.name)(found)
        return dict(self.known)
