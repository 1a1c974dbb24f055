"""What a network costs in gradient steps: of zoos whose training is known, of samples, and where it is shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finished_runs import model, results, write_run
from paramdiff.evaluation.cost import ZooCost, cost_of_members, cost_of_samples
from paramdiff.generators import make
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.page import view
from paramdiff.runs.summary_table import summary_sheet
from paramdiff.zoo.records import Record
from toy_zoos import curve, toy_zoo


def zoo_of(k: int, updates: Any, **about: Any):
    zoo = toy_zoo(curve(k, 6))
    zoo.about |= {"training": {"updates": updates}} | about
    return zoo


def test_seeds_pay_for_every_training():
    zoo = ZooCost.of(zoo_of(4, 100, trajectory=False))
    assert zoo == ZooCost(4, 100, 400)
    assert cost_of_members(zoo) == {"gradient_steps": 100, "with_zoo": 100}
    assert cost_of_samples(zoo, 10, 800, 3) == {"gradient_steps": 83, "with_zoo": 123}
    assert cost_of_samples(zoo, 10, 800, 3, members=1) == {"gradient_steps": 83, "with_zoo": 93}
    assert cost_of_samples(zoo, 10, 800, 3, members=0) == {"gradient_steps": 83, "with_zoo": 83}


def test_members_of_a_trajectory_share_the_steps_before_them():
    zoo = zoo_of(4, 100, trajectory=True)
    zoo.records = [Record(step=step) for step in (2, 4, 6, 8)]
    assert cost_of_members(ZooCost.of(zoo)) == {"gradient_steps": 105, "with_zoo": 27}
    assert cost_of_samples(ZooCost.of(zoo), 2, 0, 0) == {"gradient_steps": 0, "with_zoo": 54}


@pytest.mark.parametrize("about", [{}, {"training": None}, {"training": {"updates": "many"}}])
def test_what_is_not_known_is_null(about: dict[str, Any]):
    zoo = toy_zoo(curve(4, 6))
    zoo.about = about
    assert ZooCost.of(zoo) is None
    assert cost_of_members(None) == {"gradient_steps": None, "with_zoo": None}
    assert cost_of_samples(None, 5, 10, 1) == {"gradient_steps": 3, "with_zoo": None}
    assert cost_of_samples(None, 5, 10, 1, members=0)["with_zoo"] == 3
    stepless = zoo_of(4, 100, trajectory=True)
    stepless.records = [Record() for _ in range(4)]
    assert ZooCost.of(stepless) is None


@dataclass
class Shown:
    sheet: list[str]
    page: list[str]


def shown(folder: Path, **costs: Any) -> dict[str, Shown]:
    rows = [
        model(name, 0.97) | ({"cost": dict(zip(("gradient_steps", "with_zoo"), costs[key]))} if key in costs else {})
        for key, name in (("original", "original"), ("main", "p-diff"))
    ]  # fmt: skip
    found = results(*rows, generator="p-diff")
    sheet = summary_sheet(found)
    page = view(FinishedRun.read(write_run(folder, found, curves=False)))
    cells = {row[0]: row[-2:] for row in sheet.rows} if "steps" in sheet.headings else {}
    assert page["has_cost"] == bool(cells)
    return {row["label"]: Shown(cells.get(row["label"], []), row["cost"]) for row in page["rows"]}


def test_tables_have_a_column_where_a_generator_took_steps(tmp_path: Path):
    found = shown(tmp_path / "a", original=(1200, 1200), main=(160.25, 760))
    assert found["p-diff"].sheet == found["p-diff"].page == ["160", "760"]
    assert found["original"].sheet == ["1,200", "1,200"]
    assert shown(tmp_path / "b", main=(0.25, None))["original"].page == ["-", "-"]


def test_tables_have_none_where_all_are_free_or_nothing_is_known(tmp_path: Path):
    assert shown(tmp_path / "a", original=(1200, 1200), main=(0, 600))["p-diff"].sheet == []
    assert shown(tmp_path / "b")["p-diff"].sheet == []


def test_a_generator_says_what_it_took():
    mean = make("average").fit(toy_zoo(curve(4, 6)))
    assert (mean.gradient_steps_fitting, mean.gradient_steps_sampling, mean.members_needed) == (0, 0, None)
    assert make("fine-tuned", steps=7).gradient_steps_sampling == 7
    mean.notes = {"behaviour": {"gradient_steps": 640, "loss_last": 0.1}, "why": "text"}
    assert mean.gradient_steps_fitting == 640
    needed = {"zoo": None, "member": 1, "random": 0}
    for start, members in needed.items():
        told = make("gaussian-latents", behaviour={"steps": 5, "start": start})
        assert told.members_needed == members
    assert make("gaussian-latents", behaviour={"start": "random"}).members_needed is None
