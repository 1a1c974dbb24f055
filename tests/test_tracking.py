"""Trackers: every loss once, whatever happens to the run; scores and settings; and nothing at all when off."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from finished_runs import QUICK_FIT, undrawn
from paramdiff import tracking
from paramdiff.cli import main
from paramdiff.errors import ConfigError
from paramdiff.files import read_json
from paramdiff.runs.trackers import _kept_curves, tracker_names, trackers
from paramdiff.tracking import Tracking
from paramdiff.training import FOLLOWED, Training

SMALL = ["zoo.k=8", "n=4", "compare=none", "zoo.pretrain.epochs=1", *QUICK_FIT]


class Listed(GeneralTracker):
    """Keeps what it is told."""

    name = "listed"
    requires_logging_directory = False
    heard: list[tuple[int | None, dict[str, Any]]]
    configured: list[dict[str, Any]]

    def __init__(self, project: str) -> None:
        super().__init__()

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict) -> None:
        self.configured.append(values)

    def log(self, values: dict, step: int | None = None, **more: Any) -> None:
        self.heard.append((step, values))


def hand_over(name: str, losses: list[float]) -> None:
    """As the training loop does."""
    if (follow := FOLLOWED.get()) is not None:
        follow(name, losses)


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Listed]]:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "listed", Listed)
    Listed.heard, Listed.configured = [], []
    yield Listed


def curve(tag: str) -> list[tuple[int | None, float]]:
    return [(step, values[tag]) for step, values in Listed.heard if tag in values]


def followed(folder: Path, names: tuple[str, ...] = ("listed",), **settings: Any) -> Tracking:
    return Tracking(trackers(names), folder, settings)


class Killed(BaseException):
    pass


def train(path: Path, killed_at: int | None = None) -> None:
    weight = torch.zeros(1, requires_grad=True)
    training = Training(
        "net", 180, {"optimiser": torch.optim.SGD([weight], 0.1)}, path, save_every_s=killed_at or 1e9
    )
    for step in training:
        training.log(step, torch.tensor(float(step)))
        if step == 60 and killed_at:
            training.save(61)
        if step == killed_at:
            raise Killed


def test_every_loss_is_logged_once_though_the_training_is_killed(tmp_path: Path):
    for killed_at in (130, None):
        try:
            with followed(tmp_path).active(), tracking.stage("fit", "abc"):
                train(tmp_path / "state", killed_at)
        except Killed:
            assert len(curve("loss/fit/net")) == 111, "50 at once, and what a save reads back"
    assert curve("loss/fit/net") == [(i, float(i)) for i in range(180)]


def test_curves_follow_each_other_on_one_axis_and_begin_anew_with_other_inputs(tmp_path: Path):
    with followed(tmp_path).active() as found:
        for inputs, losses in (("a", [1.0, 2.0]), ("a", [1.0, 2.0, 3.0]), ("b", [5.0])):
            with tracking.stage("compare:vae:fit", inputs):
                found.follow("vae", losses)
    with followed(tmp_path).active():
        hand_over("other", [7.0])
    hand_over("outside", [8.0])
    assert curve("loss/compare/vae/fit/vae") == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 5.0)]
    assert curve("loss/other") == [(4, 7.0)] and len(Listed.heard) == 5


def test_a_curve_that_was_there_before_the_tracker_is_logged_once(tmp_path: Path):
    for _ in range(2):
        followed(tmp_path).catch_up("compare/vae/fit/vae", [(0, 3.0), (2, 1.0)])
    with followed(tmp_path).active(), tracking.stage("compare:vae:fit", "abc"):
        hand_over("vae", [5.0])
    assert curve("loss/compare/vae/fit/vae") == [(0, 3.0), (2, 1.0), (3, 5.0)]


def test_a_forked_worker_logs_nothing(tmp_path: Path):
    found = followed(tmp_path)
    found._process += 1
    found.follow("net", [1.0])
    assert Listed.heard == [] and not list(tmp_path.iterdir())


def test_settings_are_given_once_and_again_when_they_change(tmp_path: Path):
    for k in (3, 3, 4):
        followed(tmp_path, zoo={"k": k, "path": None, "list": [1]}, n=2).start()
    assert Listed.configured == [{"zoo.k": k, "zoo.list": "[1]", "n": 2} for k in (3, 4)]


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(tracking, "say", said.append)

    class Broken(Listed):
        def log(self, values: dict, step: int | None = None, **more: Any) -> None:
            raise OSError("no route to host")

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "broken", Broken)
    with followed(tmp_path, ("broken", "listed")).active() as found:
        found.follow("net", [1.0, 2.0])
    assert said == ["  tracker broken has failed and is left out: OSError: no route to host"]
    assert len(curve("loss/net")) == 2


def test_a_run_that_is_stopped_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every curve that ``stats.jsonl`` has, the collecting's too, and the scores once."""
    calls, follow = iter(range(100)), Tracking.follow

    def stopped(self: Tracking, name: str, losses: list[float]) -> None:
        follow(self, name, losses)
        if next(calls) == 2:  # the autoencoder's curve is logged, its stage is not done
            raise KeyboardInterrupt

    monkeypatch.setattr(Tracking, "follow", stopped)
    words = ["run", f"run_dir={tmp_path}", "tracker=listed", *SMALL]
    with undrawn():
        assert [main(words) for _ in range(2)] == [130, 0]
    again = followed(tmp_path)
    for tag, points in _kept_curves(tmp_path / "stats.jsonl").items():
        again.catch_up(tag, points)
    again.results(read_json(tmp_path / "results.json"))
    for line in (tmp_path / "stats.jsonl").read_text().splitlines():
        kept = json.loads(line)
        found = curve(f"loss/{kept['stage']}/{kept['name']}")
        assert found[kept["step"]][1] == kept["loss"] and len(found) == 5
    assert len(curve("loss/collect/pretrain")) > 20 and len(curve("loss/collect/collect")) == 32
    steps = [step for step, _ in Listed.heard]
    assert steps == list(range(len(steps))), "no step twice, none left out"
    rows = {row["name"]: row for row in read_json(tmp_path / "results.json")["models"]}
    mean = rows["p-diff"]["test"]["mean"]
    assert [value for _, value in curve("score/p-diff/test/mean")] == [mean]
    assert (
        len(curve("verdict")) == 1
        and Listed.configured[0]["zoo.k"] == 8
        and "zoo.k" not in Listed.configured[-1]
    )


def test_tensorboard_reads_what_a_run_has_logged(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with followed(tmp_path, ("tensorboard",), n=3).active():
        hand_over("net", [0.5, 0.25])
    events = EventAccumulator(str(tmp_path / "tracking/paramdiff")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/net")] == [(0, 0.5), (1, 0.25)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tensorbord", "tracker: there is no tracker 'tensorbord'; did you mean tensorboard"),
        ("wandb", "tracker: wandb is not installed; run `pip install wandb`"),
        (3, "tracker: 3 is no name; expected tensorboard, wandb or a list"),
        ("json:loads", "tracker: json:loads is <function loads"),
    ],
)
def test_what_cannot_track_is_one_line(value: Any, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    with pytest.raises(ConfigError) as caught:
        trackers(tracker_names(value))
    assert str(caught.value).startswith(message)


def test_somebodys_own_tracker_and_lists():
    assert tracker_names(None) == [] and tracker_names(["listed", "listed"]) == ["listed"]
    assert set(trackers(["test_tracking:Listed", "listed"])) == {"test_tracking:Listed", "listed"}


def test_nothing_is_imported_when_off():
    source = Path(tracking.__file__).parent
    for name in ("tracking.py", "training.py", "runs/trackers.py", "runs/launch.py"):
        imports = [n for n in ast.parse((source / name).read_text()).body if isinstance(n, ast.ImportFrom)]
        assert not any(str(node.module).startswith("accelerate") for node in imports), name
