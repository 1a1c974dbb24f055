"""Names in files of strangers are shown, never obeyed: no markup, no commands to the terminal, no HTML."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.table import Table

from paramdiff import progress
from paramdiff.cli import main
from paramdiff.errors import CheckpointError, ParamdiffError, plain
from paramdiff.reports import comparison_files
from paramdiff.reports.run_comparison import Gathered
from paramdiff.runs.console import SafeConsole, bold
from paramdiff.zoo.state_dicts import read_state

HOSTILE = [
    ("[/bold]x", "[/bold]x"), ("[red]x[/red]", "[red]x[/red]"), ("\x1b[2J\x1b[31mx", "x"),
    ("\x1b]0;title\x07x", "x"), ("\x1b]8;;http://a\x1b\\x\x1b]8;;\x1b\\", "x"), ("\x9b2Jx", "2Jx"),
    ("a\rb\x08\x00c", "abc"),
    ("\u202ex", "x"), ("\u2066x\u2069", "x"), ("\ud800x", "\ufffdx"), (":smile:", ":smile:"), ("\x1bPq#0\x1b\\x", "x"),
    ("\x1b", ""), ("\x1b[", ""), ("ü – 漢字", "ü – 漢字"), ("a\nb\tc", "a\nb\tc"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_nothing_that_a_terminal_obeys_is_left(text: str, shown: str):
    assert plain(text) == shown


@pytest.mark.parametrize(("text", "shown"), [pair for pair in HOSTILE if "\n" not in pair[0]])
def test_every_way_to_print_shows_it_as_text(text: str, shown: str, monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=200)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text, style="bold")
    console.print(text, soft_wrap=True)
    console.print(table)
    console.print(bold(text, text), soft_wrap=True)
    lines = " ".join(stream.getvalue().split())
    words = " ".join(shown.split())
    assert lines.count(words) >= 6 or not words
    assert not set(stream.getvalue()) & set("\x1b\x9b\x00\x07\x08\u202e")
    said = ParamdiffError(text, expected=text)
    assert str(said).startswith(words) and "\n" not in str(said)
    monkeypatch.delenv("PARAMDIFF_QUIET", raising=False)
    monkeypatch.setattr("sys.stderr", stream)
    progress.say(text)
    list(progress.bar([1], text))
    assert "\x1b[2J" not in stream.getvalue() and "\x1b]" not in stream.getvalue()


NAMES = ("[/bold]x", "\x1b[2Jy", "[link=http://a]z", "<script>alert(1)</script>")


def test_inspect_shows_hostile_tensors_and_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "[/red]zoo\x1b[31m"
    folder.mkdir(parents=True)
    for i in range(3):
        torch.save({name: torch.randn(3) for name in NAMES}, folder / f"{i}.pt")
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[/bold]x" in out and "[link=http://a]z" in out and "[/red]zoo" in out
    assert main(["inspect", str(folder), "select=\x1b[2J[/bold]nothing"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error and "[/bold]nothing" in error
    assert main(["inspect", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"][0]["name"] == "[/bold]x"


def test_a_message_of_a_library_is_cleaned_too(tmp_path: Path):
    torch.save({"\x1b[2J\nw": torch.empty(2, device="meta")}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path / "a.pt")
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_markdown_shows_html_links_and_bars_as_text(monkeypatch: pytest.MonkeyPatch):
    cells = [
        "<script>alert(1)</script>",
        "a|b",
        "[x](javascript:y)",
        "`c`",
        "two\nlines",
        "\x1b[2Jd",
        "a & b",
    ]
    monkeypatch.setattr(comparison_files, "table", lambda gathered: (["h"] * len(cells), [cells]))
    text = comparison_files.to_markdown(object.__new__(Gathered))
    assert text.splitlines()[2] == (
        r"| &lt;script&gt;alert(1)&lt;/script&gt; | a\|b | [x\](javascript:y) | \`c\` | two lines | d | a &amp; b |"
    )
    assert len(text.splitlines()) == 3
