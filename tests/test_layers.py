"""Lower layers know nothing of higher ones: read from the imports themselves, lazy ones included."""

import ast
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "paramdiff"

LAYERS = [
    {"errors"},
    {"distributed", "settings"},
    {"atomic", "validation"},
    {"progress", "seeds", "files", "error_iou", "chance"},
    {"devices", "artefacts", "registry"},
    {"training"},
    {"tracking", "networks", "hub"},
    {"parameters"},
    {"zoo"},
    {"generators", "tasks"},
    {"scoring"},
    {"collectors", "evaluation"},
    {"testing"},
    {"reports"},
    {"runs"},
    {"cli"},
    {"__main__"},
]
MAY_NOT = {
    "generators": {"tasks"}, "tasks": {"generators"},
    "scoring": {"generators"}, "collectors": {"generators"}, "evaluation": {"generators"},
    "reports": {"generators", "tasks", "collectors", "scoring", "networks", "parameters"},
}  # fmt: skip


def top(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += (
                [node.module] if node.module != "paramdiff" else [f"paramdiff.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import")
    return [module for module in found if module.startswith("paramdiff.")]


def rank(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def violations(name: str, targets: list[str]) -> list[str]:
    known = {part for layer in LAYERS for part in layer}
    used = {top(t) for t in targets} & known - {name}
    return sorted(u for u in used if rank(u) >= rank(name) or u in MAY_NOT.get(name, ()))


FILES = sorted(p for p in SOURCE.rglob("*.py") if p.name != "__init__.py" or p.parent != SOURCE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_point_down(path: Path):
    name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if name == "recipes":
        assert imports(path) == []
        return
    bad = violations(name, imports(path))
    assert not bad, f"{name} may not import {bad}: see docs/architecture.md"


def test_the_check_sees_a_violation():
    assert violations("zoo", ["paramdiff.runs.run_folder"]) == ["runs"]
    assert violations("tasks", ["paramdiff.generators.generator"]) == ["generators"]
    assert violations("collectors", ["paramdiff.zoo.zoo", "paramdiff.tasks.task"]) == []


def module(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(paths: list[Path]) -> dict[str, set[str]]:
    """Modules and what each imports, wherever in it, for type checkers included."""
    files = {module(path): path for path in paths}
    return {name: imported(path, files.keys()) - {name} for name, path in files.items()}


def imported(path: Path, known: Collection[str]) -> set[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in known else node.module for name in names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return set(found) & set(known)


def circular(graph: Mapping[str, set[str]]) -> set[str]:
    """Modules that a chain of imports leads back to."""
    return {name for name in graph if name in reached(name, graph)}


def reached(name: str, graph: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    new = set(graph[name])
    while new:
        found |= new
        new = {target for one in new for target in graph[one]} - found
    return found


def test_no_module_imports_itself_by_a_detour():
    assert circular(import_graph(FILES)) == set()


def test_the_check_sees_a_circle():
    assert circular({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


def test_long_functions_are_split():
    """House style: no function over 60 lines."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name} is too long"
