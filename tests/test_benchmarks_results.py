"""The pages of results are drawn from their data files, and only from them."""

import re

import pytest

from benchmarks import results
from benchmarks.results import BLOCK, DOCS, FOLDER, PAGE, all_tables, described, digest, filled, rows_of

REMEDY = "run `python -m benchmarks.results`"


def test_pages_and_figure_are_up_to_date():
    assert (FOLDER / "README.md").read_text() == all_tables(), REMEDY
    assert filled(PAGE.read_text()) == PAGE.read_text(), REMEDY
    assert digest() in (FOLDER / "reference_zoo_front.svg").read_text(), REMEDY


def test_every_table_of_the_conclusions_comes_from_a_data_file():
    assert "\n|" not in BLOCK.sub("", PAGE.read_text())


def test_every_data_file_says_how_it_was_measured():
    experiments = described()["experiments"]
    assert set(experiments) == {path.stem for path in FOLDER.glob("*.csv")}
    for name, about in experiments.items():
        assert about["command"] and "seed" in about and about["notes"], name
        assert all(None not in row and None not in row.values() for row in rows_of(name)), (
            f"{name}: ragged rows"
        )


def test_pages_are_no_diary():
    for path in (PAGE, FOLDER / "README.md"):
        assert not re.search(r"\b(asked|given|that day|session|\*new\*)\b", path.read_text()), path


def test_rows_and_columns_are_chosen():
    chosen = results.queried("digits_full; columns: seed, mean; rows: model=p-diff, seed=0|2")
    assert chosen == "| seed | mean |\n| --- | --- |\n| 0 | 96.91 |\n| 2 | 96.58 |\n"


def test_the_figure_is_drawn_from_the_data(tmp_path):
    pytest.importorskip("matplotlib")
    results.draw_front(tmp_path / "reference_zoo_front.svg")
    drawn = (tmp_path / "reference_zoo_front.svg").read_text()
    assert digest() in drawn and "low-rank-gaussian" in drawn
    assert DOCS.name == "docs"
