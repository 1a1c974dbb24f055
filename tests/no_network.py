"""Importing this cuts the process off from every other machine: connecting and looking up names fail."""

import socket
from typing import Any

HERE = ("127.0.0.1", "::1", "localhost", b"localhost", "", None, socket.gethostname())

_connect, _look_up = socket.socket.connect, socket.getaddrinfo


class NoNetworkError(OSError):
    """A test has reached for another machine."""


def _require_here(host: object) -> None:
    if host not in HERE:
        raise NoNetworkError(f"a test reaches for {host!r}")


def connect(self: socket.socket, address: Any) -> None:
    """Only to this machine."""
    if self.family != socket.AF_UNIX:
        _require_here(address[0])
    _connect(self, address)


def look_up(host: Any, *more: Any, **named: Any) -> Any:
    """Only names of this machine."""
    _require_here(host)
    return _look_up(host, *more, **named)


socket.socket.connect = connect  # type: ignore[method-assign]
socket.getaddrinfo = look_up
