"""The curve of a training: right scores, noted once, and the training as if nobody had looked."""

from pathlib import Path

import pytest
import torch
from torch import nn

from paramdiff.collectors.learning_curve import CURVE, POINTS, LearningCurve
from paramdiff.collectors.optimisation import TrainingConfig
from paramdiff.files import read_json
from paramdiff.seeds import seeded
from paramdiff.training import Training
from test_collect import SEEDS, SUBSET, Killed, blobs, doomed, network, task

CONFIG = TrainingConfig(epochs=3, lr=1e-2)


def trained(path: Path, watched: bool = True, lives: int | None = None) -> nn.Module:
    with seeded("watched"):
        model = network()
    own = task() if lives is None else doomed(lives)
    CONFIG.train(model, own, own.train_data(), path=path, name="one", seed=0, show=False, watched=watched)
    return model


def test_a_watched_training_is_the_same_training(tmp_path: Path):
    one, other = trained(tmp_path / "a", watched=True), trained(tmp_path / "b", watched=False)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))
    assert one.training and [p.name for p in tmp_path.glob("*.json")] == [CURVE]


def test_scores_are_those_of_the_network_in_eval_mode(tmp_path: Path):
    model = trained(tmp_path / "state").eval()
    curve = read_json(tmp_path / CURVE)
    data, _ = blobs()
    with torch.no_grad():
        correct = [
            (model(images).argmax(1) == labels).double()
            for images, labels in task().train_data().batches()
        ]  # fmt: skip
    assert curve["items"] == len(data)
    step, seconds, score = curve["points"][-1]
    assert step == CONFIG.epochs * 4 and score == pytest.approx(float(torch.cat(correct).mean()))
    assert seconds > 0


def test_steps_are_spread_on_a_log_scale():
    watch = LearningCurve(network(), task(), task().train_data(), 10_000)
    assert {0, 1, 10_000} <= watch.steps and len(watch.steps) <= POINTS + 1
    assert len([step for step in watch.steps if step <= 100]) >= POINTS // 2 - 2


def test_a_killed_training_notes_every_step_once_and_its_time_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained(tmp_path / "whole/state")
    monkeypatch.setattr(
        "paramdiff.collectors.optimisation.Training", lambda *a, **k: Training(*a, **k, save_every_s=0.0)
    )
    kills = 0
    while not (tmp_path / "broken" / CURVE).exists():
        try:
            trained(tmp_path / "broken/state", lives=5)
        except Killed:
            kills += 1
    whole, broken = (read_json(tmp_path / name / CURVE)["points"] for name in ("whole", "broken"))
    assert kills >= 2
    assert [(step, score) for step, _, score in broken] == [(step, score) for step, _, score in whole]
    times = [seconds for _, seconds, _ in broken]
    assert times == sorted(times)


@pytest.mark.parametrize("collector", [SUBSET, SEEDS], ids=["subset", "seeds"])
def test_collectors_that_train_leave_the_curve_of_one_network(collector, tmp_path: Path):
    collector.collect(task(), tmp_path)
    steps = [step for step, _, _ in read_json(tmp_path / CURVE)["points"]]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 8


def test_a_score_that_is_not_finite_is_written_as_nothing(tmp_path: Path):
    watch = LearningCurve(network(), task(), task().train_data(), 4)
    watch.points = [[0, 0.0, float("nan")], [4, 1.0, 0.5]]
    watch.write(tmp_path / CURVE)
    assert read_json(tmp_path / CURVE)["points"] == [[0, 0.0, None], [4, 1.0, 0.5]]
