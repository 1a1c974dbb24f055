"""When originals are called barely trained."""

import pytest
import torch
from torch.utils.data import TensorDataset

from finished_runs import read, results
from paramdiff.chance import Chance, near_chance
from paramdiff.generators.gaussian import Gaussian
from paramdiff.reports.page import template, view
from paramdiff.runs.results import Finding, judge, notes
from paramdiff.scoring.scorer import _majority
from paramdiff.tasks import make_task
from paramdiff.tasks.batches import as_data
from worlds import World


@pytest.mark.parametrize(
    ("level", "items", "higher", "near", "clear"),
    [
        (0.5, 0, True, 0.549, 0.551),  # a tenth of the mistakes
        (0.5, 100, True, 0.599, 0.601),  # two standard errors
        (0.1, 0, True, 0.149, 0.151),  # half of chance
        (0.01, 10_000, True, 0.0149, 0.0151),
        (0.9, 10_000, True, 0.909, 0.911),
        (1.0, 50, True, 1.0, 1.1),  # a single class
        (2.0, 0, False, 1.91, 1.89),
        (-2.0, 0, True, -1.91, -1.89),
        (0.0, 0, True, -0.1, 0.01),
    ],
)
def test_near_chance(level: float, items: int, higher: bool, near: float, clear: float):
    chance = Chance(level, items, higher)
    assert chance.near(near) and chance.near(level) and not chance.near(clear)
    assert not chance.near(float("nan"))


def test_the_sentence():
    said = near_chance(0.5095, Chance(0.5, 245), "the training data", "accuracy", "8 updates")
    assert said == (
        "the originals themselves are near chance on the training data after 8 updates (mean accuracy 0.5095, "
        "chance 0.5), so nothing can be learnt from them: train them longer"
    )
    assert near_chance(0.9, Chance(0.5, 245), "", "") == near_chance(0.5, None, "", "") == ""


def test_the_most_frequent_label_of_a_users_own_data():
    y = torch.tensor([0, 0, 0, 1])
    assert _majority(as_data(TensorDataset(torch.zeros(4, 2), y), 3).batches()) == 0.75
    assert _majority(as_data(TensorDataset(torch.zeros(4, 2), y.float())).batches()) is None
    assert _majority([{"x": y}]) is None and _majority([]) is None


def test_the_verdict_says_it_first_and_the_notes_too():
    """Samples of originals at 50.95% with chance 50% were an interpolation, and no more was said."""
    world = World(10, 30)
    samples = world.draw(5)
    comparison = world.originals.compare(samples, world.scored(samples))
    finding = Finding("gaussian", Gaussian().fit(world.zoo), comparison)
    level = float(world.originals.scored.test.mean())
    near, clear = (
        judge(make_task("digits"), world.originals, finding, [], Chance(c)).why for c in (level, 0.01)
    )
    assert near.startswith("The originals themselves are near chance on the test data (mean accuracy")
    assert "near chance" not in clear and near.partition("longer. ")[2]
    (note,) = notes(world.zoo, world.originals, Chance(level), "accuracy")
    assert note.startswith("the originals themselves") and notes(world.zoo, world.originals, None, "") == []


class Plot:
    """A figure that is not drawn."""

    name = title = caption = ""


@pytest.mark.parametrize("void", [True, False])
def test_a_check_that_says_nothing_is_not_called_passed(void: bool, tmp_path):
    found = results()
    found["reconstruction_check"]["void"] = void
    found["zoo"]["training"] = {"epochs": 8, "updates_per_epoch": 2, "updates": 16, "items": 245}
    page = template("report.html.j2").render(
        view(read(tmp_path, found)), plots=[Plot()] * 3, more={}, drawings={}
    )
    assert ("Reconstruction check passed" in page) != void and (
        "The reconstruction check says nothing" in page
    ) == void
    assert "8 epochs of 2 updates, 16 in all" in page
