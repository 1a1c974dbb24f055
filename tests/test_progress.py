"""Lines that say how long work will take: measured, only when it is long, and few of them in a log file."""

import io
from contextlib import redirect_stderr
from itertools import count

import pytest

from paramdiff import progress
from paramdiff.progress import LINES, Forecast, bar, lasting, moving, outlook, room, silenced


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that is set by hand."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def work(forecast: Forecast, clock, *took: float) -> None:
    for seconds in took:
        clock.now += seconds
        forecast.done()


def test_the_median_of_the_first_pieces_says_how_long_all_take(said, clock):
    forecast = Forecast("collect", 203, "network")
    work(forecast, clock, 9.0, 0.5)
    assert said == [], "two pieces are too few, unless they take long"
    work(forecast, clock, 0.5, 0.5)
    assert said == ["  collect: about 2 min to go, 500 ms per network"]
    work(forecast, clock, *[5.0] * 20)
    assert len(said) == 1, "once"


def test_a_single_piece_has_to_do_where_it_takes_long(said, clock):
    work(Forecast("collect", 200, "network"), clock, 28.0)
    assert said == ["  collect: about 93 min to go, 28 s per network"]


@pytest.mark.parametrize(("total", "took"), [(70, [1.0] * 70), (None, [9.0] * 30), (0, [9.0])])
def test_short_work_and_work_of_unknown_length_stay_quiet(total, took, said, clock):
    work(Forecast("fit", total), clock, *([0.1] * 50 if total == 70 else took))
    assert said == []


def test_pieces_that_come_many_at_once_count_each(said, clock):
    forecast = Forecast("scoring", 100_000, "item")
    for _ in range(3):
        clock.now += 1.0
        forecast.done(1000)
    assert said == ["  scoring: about 97 s to go, 1 ms per item"]


def test_the_first_long_work_is_followed_by_what_is_to_come(said, clock):
    asked = count()
    with outlook(lambda: f"the whole run {next(asked)}"):
        work(Forecast("pretrain", 3), clock, 0.1, 0.1, 0.1)
        work(Forecast("pretrain", 100), clock, 10.0)
        work(Forecast("collect", 100), clock, 10.0)
    work(Forecast("fit", 100), clock, 10.0)
    assert [line for line in said if "whole" in line] == ["  the whole run 0"] and len(said) == 4


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, clock):
    """What work writes into a log file."""

    def of(work) -> str:
        monkeypatch.delenv("PARAMDIFF_QUIET")
        with redirect_stderr(io.StringIO()) as log:
            work()
        return log.getvalue()

    return of


def test_a_log_file_gets_few_lines(logged, monkeypatch: pytest.MonkeyPatch):
    """A line every tenth of the work, not one over the other."""
    now = count(0.0, 1.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(now))
    text = logged(lambda: list(bar(range(2000), "long")))
    lines = text.splitlines()
    assert LINES / 2 <= len(lines) <= LINES + 2 and all("long" in line for line in lines)
    assert "\r" not in text and "100%" in lines[-1] and "<" in lines[2]


def test_work_of_unknown_length_writes_a_line_a_minute(logged, monkeypatch: pytest.MonkeyPatch):
    now = count(0.0, 1.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(now))
    lines = logged(lambda: list(bar(iter(range(600)), "endless"))).splitlines()
    assert 8 <= len(lines) <= 12 and all(line.startswith("  endless") for line in lines)


def test_nothing_is_shown_where_that_is_asked(logged, monkeypatch: pytest.MonkeyPatch):
    now = count(0.0, 100.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(now))

    def work(wanted: bool) -> None:
        with silenced(wanted), silenced(False):
            progress.say("said")
            list(bar(range(3), "long"))

    assert logged(lambda: work(True)) == ""
    monkeypatch.setenv("PARAMDIFF_QUIET", "")
    assert logged(lambda: work(False)).startswith("said\n  long")


def test_a_log_file_is_no_place_for_moving_bars(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PARAMDIFF_QUIET")
    with redirect_stderr(io.StringIO()) as log:
        assert not moving()
        log.isatty = lambda: True  # type: ignore[method-assign]
        assert moving()
        with silenced():
            assert not moving()


def test_short_work_leaves_nothing_in_a_log_file(logged):
    def work() -> None:
        assert list(bar(range(50), "short")) == list(range(50))
        with bar((), "counted", total=5) as counted:
            counted.update(5)

    assert logged(work) == ""


def test_updates_by_hand_are_foretold_too(logged, clock):
    def work() -> None:
        with bar((), "scoring", total=1000, unit="item") as counted:
            clock.now += 20
            counted.update(10)

    assert logged(work) == "  scoring: about 33 min to go, 2 s per item\n"


def test_words():
    assert [lasting(s) for s in (0.0071, 0.25, 2.54, 97, 100, 840, 5 * 3600 + 60)] == [
        "7.1 ms", "250 ms", "2.5 s", "97 s", "2 min", "14 min", "5 h 1 min",
    ]  # fmt: skip
    assert [room(b) for b in (900, 5.12e8, 2.1e9, 9.9996e8, 8e15)] == [
        "1 kB", "512 MB", "2.1 GB", "1 GB", "8,000 TB",
    ]  # fmt: skip
