"""What is put before a poller: sockets, pipes, files, and descriptors that are closed. Shared by the three programs."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def spoken_to() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that has a byte to read, and its peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x")
        yield ours, theirs


@contextmanager
def pipe_with_a_byte() -> Iterator[int]:
    """The reading end of a pipe in which a byte waits."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"x")
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def file_at_its_end() -> Iterator[int]:
    """An empty regular file: there will never be anything to read."""
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def closed_number() -> int:
    """The number of a descriptor that has just been closed."""
    with socket.socket() as gone:
        return gone.fileno()


def report(**figures: int) -> None:
    """The experiment's line."""
    print(json.dumps(figures))


def unavailable(what: str) -> NoReturn:
    """Ends the program: this platform has no such poller."""
    print(f"{sys.platform} has no {what} here", file=sys.stderr)
    raise SystemExit(69)
