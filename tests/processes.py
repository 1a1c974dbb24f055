"""Processes that have everything imported already: forked from the one that tests.

A fresh interpreter spends four seconds on importing what a run needs, which is more than most runs take here. What
these processes must show (they are killed, they meet, they end with their parent) is the same either way.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paramdiff import atomic


@dataclass
class Forked:
    """A process that runs ``work`` and exits with the number it returns, or 1 if it fails.

    Attributes:
        folder: where it works, and where its output is kept.
        environment: variables it has beside those of this process.
    """

    work: Callable[[], int]
    folder: Path
    name: str = "process"
    environment: Mapping[str, str] = field(default_factory=dict)
    returncode: int | None = None

    def __post_init__(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            self._live()

    def _live(self) -> None:
        code = 1
        try:
            signal.signal(
                signal.SIGINT, signal.default_int_handler
            )  # ignored where tests run in the background
            os.environ.update(self.environment)
            os.chdir(self.folder)
            for number, kind in ((1, "out"), (2, "err")):
                stream = self._file(kind).open("w")
                os.dup2(stream.fileno(), number)
                setattr(sys, f"std{kind}", stream)
            code = self.work()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _file(self, kind: str) -> Path:
        return self.folder / f".{self.name}.{kind}"

    @property
    def stdout(self) -> str:
        return self._file("out").read_text()

    @property
    def stderr(self) -> str:
        return self._file("err").read_text()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, seconds: float = 900) -> int:
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise AssertionError(f"{self.name} has not ended after {seconds} s: {self.stderr}")
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def killed_at(folder: Path, pattern: str, work: Callable[[], int]) -> Callable[[], int]:
    """``work`` for a :class:`Forked` that is killed as it writes the first file after something matches ``pattern``.

    It kills itself: whoever watches for a file from outside may come too late on a busy machine.
    """

    def until_then() -> int:
        take_place = atomic._take_place

        def watched(*paths: Path) -> None:
            take_place(*paths)
            if any(folder.glob(pattern)):
                os.kill(os.getpid(), signal.SIGKILL)

        atomic._take_place = watched
        return work()

    return until_then
