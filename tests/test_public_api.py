"""The public names: for Python when they are first used, for type checkers always; and none of them costs an import."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

import paramdiff

SOURCE = Path(paramdiff.__file__).parent

USER = """
import paramdiff
from paramdiff import Gaussian, ParameterDiffusion, Zoo

zoo = Zoo.from_checkpoints("checkpoints/*.safetensors", select="last_norms:2")
generator = ParameterDiffusion(seed=1).fit(zoo)
report = paramdiff.evaluate("digits", zoo, {"p-diff": generator, "gaussian": Gaussian()}, n=100, seed=0)
print(report.table(), report.verdict["why"], report.results["models"], report.samples.shape)
report.save("out")
run = paramdiff.run("experiment=digits", "n=50")
print(run.folder / "x", run.best["weight"], run.generator.sample(3, seed=1))
print(paramdiff.score("digits", zoo).test.mean(), paramdiff.inspect(zoo).recommendations[0])
print(paramdiff.report("out").name)
members = paramdiff.collect("digits", paramdiff.TrajectoryCollector(k=5))

Zoo.from_checkpoints(modle=3)  # "modle" for "from_checkpoints"
paramdiff.evaluate(3, zoo, {"p-diff": generator})  # incompatible type "int"; expected "Task | str"
paramdiff.evaluate("digits", zoo, [generator])  # expected "Mapping[str, Generator]"
paramdiff.evaluate("digits", zoo, {"p-diff": generator}, samples=3)  # "samples" for "evaluate"
ParameterDiffusion(seed="one")  # "seed" to "ParameterDiffusion" has incompatible type "str"
ParameterDiffusion(sed=1)  # "sed" for "ParameterDiffusion"
generator.sample("three")  # "sample" of "Generator" has incompatible type "str"
report.tabel()  # "Evaluation" has no attribute "tabel"
run.folder.foo  # "Path" has no attribute "foo"
paramdiff.evaluat  # no attribute "evaluat"
"""


def test_a_type_checker_finds_the_mistakes_of_a_user_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without the libraries behind it, which take a minute to read for the first time."""
    file = tmp_path / "user.py"
    file.write_text(USER)
    monkeypatch.setenv("MYPYPATH", str(SOURCE.parent))
    flags = [
        "--no-site-packages",
        "--ignore-missing-imports",
        "--follow-imports=silent",
        "--hide-error-context",
    ]
    found, _, _ = api.run([*flags, "--config-file=", f"--cache-dir={tmp_path}", str(file)])
    errors = {int(m[1]): m[2] for m in re.finditer(r"user\.py:(\d+): error: (.*)", found)}
    expected = {n: line.split("  # ")[1] for n, line in enumerate(USER.splitlines(), 1) if "  # " in line}
    assert errors.keys() == expected.keys(), found
    for number, text in expected.items():
        assert text in errors[number]


def test_what_type_checkers_see_is_what_python_gives():
    (checked,) = (
        node
        for node in ast.walk(ast.parse((SOURCE / "__init__.py").read_text()))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name)
    )
    static = {
        (node.module, alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {(f"paramdiff.{module}", name) for module, names in paramdiff.EXPORTS.items() for name in names}
    assert static == lazy | {("paramdiff", name) for name in paramdiff.MODULES}
    assert (SOURCE / "py.typed").is_file()


def test_every_name_is_there_and_no_other():
    for name in paramdiff.__all__:
        assert getattr(paramdiff, name).__name__.endswith(name)
    with pytest.raises(AttributeError, match="no attribute 'zoos'"):
        _ = paramdiff.zoos


def test_the_package_itself_loads_nothing():
    code = "import sys, paramdiff; assert not {'torch', 'numpy', 'hydra', 'rich'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    )
