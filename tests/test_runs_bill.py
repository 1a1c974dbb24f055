"""A run that compares bills: its rows without a zoo, its curves, and a resumed run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paramdiff import Behaviour, FurtherTrained, Gaussian, GaussianLatents, LinearAutoencoder, Zoo
from paramdiff.errors import ConfigError
from paramdiff.evaluation.results_schema import Results
from paramdiff.files import read_json
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.runs.config import build
from paramdiff.runs.configured import plan_of, without_zoo
from paramdiff.runs.evaluate import _plan
from paramdiff.runs.launch import composed
from paramdiff.runs.pipeline import NUMBERS, Pipeline
from paramdiff.runs.plan import BillConfig, Plan
from paramdiff.runs.rows import generator_rows
from paramdiff.runs.summary_table import summary_text
from paramdiff.seeds import seeded
from paramdiff.validation import typed
from test_runs_evaluate import Sign


def zoo() -> Zoo:
    """Six networks, each of 6 steps of training as its record says."""
    with seeded("bill"):
        base = Sign().model().state_dict()
    spec = ParameterSpec.from_state_dict(base)
    noise = torch.randn(6, spec.dim, generator=torch.Generator().manual_seed(0))
    return Zoo(spec.flatten(base) + 0.3 * noise, spec, base, about={"training": {"updates": 6}})


def planned(folder: Path, **bill: Any) -> Plan:
    behaviour = Behaviour(steps=5, samples=4, batch=8)
    ours = GaussianLatents(autoencoder=LinearAutoencoder(components=3), behaviour=behaviour)
    generators = {
        "ours": ours,
        "gaussian": Gaussian(),
        "on": FurtherTrained(start="samples", steps=3, batch=8),
    }
    plan = _plan(Sign(), zoo(), generators, None, folder, n=4, seed=0, device="cpu", recalibrate=0)
    bills = BillConfig(n=3, batch=8, **bill)
    return replace(plan, generators=[*plan.generators, *without_zoo(ours)], bill=bills)


def done(plan: Plan) -> Results:
    Pipeline(plan).run_groups(NUMBERS)
    found = read_json(plan.folder / "results.json")
    return typed(found, Results, "results.json")


def test_a_run_compares_bills(tmp_path: Path):
    results = done(planned(tmp_path, steps=[0, 2]))
    rows = {row["name"]: row["cost"] for row in results["models"]}
    assert rows["original"] == {"gradient_steps": 6, "with_zoo": 6}
    assert rows["ours"] == {"gradient_steps": 5, "with_zoo": 14}
    assert rows["gaussian"] == {"gradient_steps": 0, "with_zoo": 9}
    assert rows["on"] == {"gradient_steps": 8, "with_zoo": 17}, (
        "it owes what the samples cost that it starts from"
    )
    assert rows["gaussian-latents-from-random"] == {"gradient_steps": 5, "with_zoo": 5}
    assert rows["gaussian-latents-from-member"] == {"gradient_steps": 5, "with_zoo": 6.5}
    bill = results["bill"]
    curves = {(one["name"], one["kind"]): [p["steps"] for p in one["points"]] for one in bill["curves"]}
    assert curves == {
        ("ours", "main"): [0, 2], ("gaussian", "other"): [0, 2, 5],
        ("gaussian-latents-from-random", "twin"): [0, 2, 9], ("gaussian-latents-from-member", "twin"): [0, 2, 8],
        ("from scratch", "scratch"): [0, 2, 5, 14], ("average", "average"): [0, 2, 5],
        ("random original", "member"): [0, 2, 5],
    }  # fmt: skip
    assert bill["n"] == 3 and {one["steps"] for one in bill["comparisons"] if one["with_zoo"]} == {9, 8, 14}
    assert f"bill: {bill['why']}" in " ".join(summary_text(results).split())
    again = done(planned(tmp_path))
    assert "bill" not in again and again["models"] == results["models"]


def plan_for(*words: str) -> Plan:
    return plan_of(build(composed(["name=test", "run_dir=unused", "generator=gaussian_latents", *words])))


def test_rows_without_a_zoo_that_are_there_are_not_added_again():
    words = ["generator.behaviour.steps=2", "bill.steps=[0]", "compare=none"]
    given = ["+generator@compare.own=gaussian_latents", "compare.own.behaviour={steps: 2, start: random}"]
    for more in ([], given):
        rows = [row.name for row in generator_rows(plan_for(*words, *more).generators)]
        assert sorted(rows) == [
            "gaussian-latents", "gaussian-latents-from-member", "gaussian-latents-from-random", "p-diff",
        ]  # fmt: skip


def test_the_recipe_adds_rows_and_steps():
    plan = plan_for("experiment=digits_seeds", "compare=bill")
    assert plan.bill.steps == [0, 10, 30, 100, 300] and plan.settings["bill"]["n"] == 30
    rows = [row.name for row in generator_rows(plan.generators)]
    assert rows == ["gaussian-latents", "average", "low-rank-gaussian", "p-diff"], (
        "nothing trains it without a zoo"
    )
    assert "bill" not in plan_for("compare=none").settings
    with pytest.raises(ConfigError, match="bill.steps: -1 is out of range; expected at least 0"):
        plan_for("bill.steps=[-1]")
