"""Losses and scores of a run for experiment trackers: TensorBoard, Weights & Biases, any of accelerate's.

A tracker is one of accelerate's :class:`~accelerate.tracking.GeneralTracker` classes. Inside :meth:`Tracking.active`
the training loop (:mod:`paramdiff.training`) hands over its losses as they are read back; outside, this module is not
even imported. Only the first process logs, and of networks that are trained side by side in
processes of their own no losses are logged.

All values of a run lie on one axis of steps, one curve after the other: a tracker may refuse a step that is smaller
than the last one. How far each curve has been handed over is kept in the run folder, so that a run that was killed goes
on where its curves ended and no value is logged twice.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any

from paramdiff.errors import CheckpointError, ConfigError
from paramdiff.files import read_json, write_json
from paramdiff.progress import say
from paramdiff.training import FOLLOWED

FOLDER = "tracking"
"""In the run folder: what trackers write there, and how far the curves have been handed over."""

PROJECT = "paramdiff"

Maker = Callable[[Path, str], Any]
"""Makes a tracker, given the folder for its files and an identity that stays the same when a run goes on."""

_stage: ContextVar[tuple[str, str]] = ContextVar("stage", default=("", ""))


class Tracking:
    """The trackers of one run. They are started when the first value comes.

    Args:
        makers: makes each tracker, by its name.
        folder: of the run.
        settings: the run's configuration; its leaves are the hyper-parameters, with dotted names.
    """

    def __init__(self, makers: Mapping[str, Maker], folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = Path(folder) / FOLDER, dict(flat(settings))
        self._makers = dict(makers)
        self._trackers: dict[str, Any] | None = None
        self._process = os.getpid()
        self._file = self.folder / "progress.json"
        self._done: dict[str, Any] = {"step": 0, "settings": "", "results": "", "curves": {}}

    @contextmanager
    def active(self) -> Iterator["Tracking"]:
        """Inside, losses are handed over; at the end the trackers are closed."""
        before = FOLLOWED.set(self.follow)
        try:
            yield self
        finally:
            FOLLOWED.reset(before)
            for name in list(self._trackers or ()):
                self._ask(name, lambda tracker: tracker.finish())

    def follow(self, name: str, losses: Sequence[float]) -> None:
        """Log what is new of a curve.

        Args:
            name: of the training, e.g. ``denoiser``.
            losses: of every step from 0 on.
        """
        if os.getpid() != self._process:  # a forked worker
            return
        self.start()
        stage, inputs = _stage.get()
        tag = f"{stage.replace(':', '/')}/{name}".lstrip("/")
        curve = self._curve(tag, inputs)
        first = curve["next"]
        self._hand_over(tag, curve, [*enumerate(losses[first:], start=first)])

    def catch_up(self, tag: str, points: Sequence[tuple[int, float]]) -> None:
        """Log a curve that another process has made, or that was there before the tracker; once."""
        self.start()
        if tag not in self._done["curves"]:
            self._hand_over(tag, self._curve(tag, ""), points)

    def _hand_over(self, tag: str, curve: dict[str, Any], points: Sequence[tuple[int, float]]) -> None:
        for step, loss in points:
            self._log({f"loss/{tag}": loss}, curve["start"] + step)
        curve["next"] = max([curve["next"], *(step + 1 for step, _ in points)])
        self._done["step"] = max(self._done["step"], curve["start"] + curve["next"])
        write_json(self._file, self._done)

    def results(self, found: Mapping[str, Any]) -> None:
        """Log ``results.json``: every number of every row, and the verdict; once, unless they have changed."""
        values: dict[str, Any] = {}
        for row in found["models"]:
            values |= {f"score/{row['name']}/{key.replace('.', '/')}": value for key, value in numbers(row)}
        verdict = found["verdict"]
        values |= {f"verdict/{name}": share for name, share in verdict["shares"].items()}
        values["verdict"] = verdict["class"]
        self.start()
        if self._done["results"] != (digest := _digest(values)):
            self._log(values, self._done["step"])
            self._done["results"] = digest
            write_json(self._file, self._done)

    def start(self) -> None:
        """Start the trackers, if that has not been done, and give them the settings they do not have yet.

        Raises:
            ConfigError: one of them does not start.
        """
        if self._trackers is not None:
            return
        self._trackers = {}
        with suppress(CheckpointError, TypeError):  # damaged: logged anew
            self._done |= read_json(self._file) if self._file.is_file() else {}
        identity = self._done.setdefault("identity", os.urandom(8).hex())
        for name, make in self._makers.items():
            try:
                self._trackers[name] = make(self.folder, identity)
            except Exception as error:  # whatever a tracker's library raises
                text = f"{name} does not start ({type(error).__name__}: {error})"
                raise ConfigError("tracker", text, remedy="set it up, or leave it out") from error
        if self._done["settings"] != (digest := _digest(self.settings)):
            for name in list(self._trackers):
                self._ask(name, lambda tracker: tracker.store_init_configuration(self.settings))
            self._done["settings"] = digest
        write_json(self._file, self._done)

    def _curve(self, tag: str, inputs: str) -> dict[str, Any]:
        """How far a curve is: the step it starts at, and its first loss that is not logged yet."""
        known = self._done["curves"].get(tag)
        if known is None or known["of"] != inputs:
            known = {"of": inputs, "start": self._done["step"], "next": 0}
            self._done["curves"][tag] = known
        return known

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        for name in list(self._trackers or ()):
            self._ask(name, lambda tracker: tracker.log(dict(values), step=step))

    def _ask(self, name: str, work: Callable[[Any], object]) -> None:
        """A tracker that fails is left out from then on: a run of hours does not end because a server is down."""
        assert self._trackers is not None
        try:
            work(self._trackers[name])
        except Exception as error:  # whatever a tracker's library raises
            del self._trackers[name]
            say(f"  tracker {name} has failed and is left out: {type(error).__name__}: {error}")


@contextmanager
def stage(name: str, inputs: str) -> Iterator[None]:
    """Inside, curves belong to a stage of a run.

    Args:
        inputs: fingerprint of what it is made from; with another one its curves begin anew.
    """
    before = _stage.set((name, inputs))
    try:
        yield
    finally:
        _stage.reset(before)


def flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested settings by their dotted keys; what is no number, text or truth value as text."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        elif value is not None:
            yield f"{before}{key}", value if isinstance(value, (bool, int, float, str)) else str(value)


def numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers among nested settings."""
    for key, value in flat(row):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield key, value


def _digest(values: Mapping[str, Any]) -> str:
    return sha256(repr(sorted(values.items())).encode()).hexdigest()[:16]
