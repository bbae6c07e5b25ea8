"""The fleet against servers that do one thing wrong: each fault is found, named and survived."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from fleet_agent import Agent, echo, misbehaving


@pytest.fixture(scope="module")
def fleet() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()
    assert agent.process.returncode == 0


def corrupt(data: bytes) -> bytes:
    """The last byte of what is answered is wrong."""
    return data.upper()[:-1] + bytes([data.upper()[-1] ^ 1])


def stale(sock: socket.socket) -> None:
    """Answers each request with the answer before it."""
    last = None
    while data := sock.recv(65_536):
        sock.sendall(last or data.upper())
        last = data.upper()


class MixedUp:
    """Two connections get each other's answers, each once both have asked."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)
        self.slots = [b"", b""]
        self.places = iter(range(10**6))

    def __call__(self, sock: socket.socket) -> None:
        mine = next(self.places) % 2
        try:
            while data := sock.recv(65_536):
                self.slots[mine] = data.upper()
                self.both.wait(2)
                answer = self.slots[1 - mine]
                self.both.wait(2)
                sock.sendall(answer)
        except threading.BrokenBarrierError:
            self.both.reset()


def twice(sock: socket.socket) -> None:
    while data := sock.recv(65_536):
        sock.sendall(data.upper() * 2)


@pytest.mark.parametrize("handle, connections", [
    (partial(echo, change=bytes), 1), (partial(echo, change=corrupt), 1), (stale, 1), (MixedUp(), 2), (twice, 1),
], ids=["not upper-cased", "one byte wrong", "stale", "mixed up", "twice"])
@pytest.mark.parametrize("extra", [{}, {"requests": 60, "pipeline": 2}, {"requests": 60, "message_bytes": 40_000}],
                         ids=["fast", "pipelined", "big"])
def test_a_wrong_answer_is_found(fleet: Agent, handle: Callable, connections: int, extra: dict) -> None:
    """Ungreeted: with a number of requests, the very first answers fall into the window."""
    with misbehaving(handle) as port:
        fleet.load(port, connections=connections, greet=False, **extra)
        result = fleet.measure(0.3)
        fleet.ask("stop", "stopped")
    assert result["wrong"] > 0
    assert result["first_wrong"].startswith("connection ")


def test_the_first_wrong_byte_is_located(fleet: Agent) -> None:
    with misbehaving(partial(echo, change=bytes)) as port:
        fleet.load(port, connections=3)
        result = fleet.measure(0.2)
        fleet.ask("stop", "stopped")
    assert result["wrong"] > 0 and result["requests"] == 0 and result["connections"]["held"] == 0
    where, byte, what = result["first_wrong"].split(": ")
    assert where.startswith("connection ") and byte.startswith("byte ")
    expected, got = (int(word.split()[-1], 16) for word in what.split(", "))
    assert chr(got).islower() and chr(got).upper() == chr(expected)


def test_a_server_that_resets_loses_connections(fleet: Agent) -> None:
    def resetting(sock: socket.socket) -> None:
        for _ in range(3):
            sock.sendall(sock.recv(65_536).upper())
        sock.recv(65_536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with misbehaving(resetting) as port:
        fleet.load(port, connections=4, requests=40)
        result = fleet.measure(0.3)
        fleet.ask("stop", "stopped")
    assert result["errors"] == {"ConnectionResetError": 4}
    assert (result["connections"]["lost"], result["connections"]["held"]) == (4, 0)
    assert result["requests"] == 8  # the greeting was the first of three answers


def test_a_server_that_closes_at_once_fails_connections(fleet: Agent) -> None:
    with misbehaving(lambda sock: sock.recv(65_536) and None) as port:
        connected = fleet.load(port, connections=6)
        fleet.ask("stop", "stopped")
    assert (connected["answered"], connected["failed"]) == (0, {"closed": 6})


def test_refused_connections_are_counted(fleet: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connected = fleet.load(port, connections=3)
    assert (connected["connected"], connected["failed"]) == (0, {"ConnectionRefusedError": 3})
    assert fleet.measure(0.1)["requests"] == 0
    fleet.ask("stop", "stopped")


def test_a_silent_server_is_a_timeout_and_not_the_end(fleet: Agent) -> None:
    def silent(sock: socket.socket) -> None:
        sock.sendall(sock.recv(65_536).upper())
        while sock.recv(65_536):
            pass

    with misbehaving(silent) as port:
        fleet.load(port, connections=2, timeout_seconds=0.2)
        fleet.ask("begin", "begun")
        for _ in range(4):
            fleet.wait_for("progress")
        result = fleet.ask("end", "result")
        fleet.ask("stop", "stopped")
    assert result["errors"] == {"timeout": 2} and result["connections"]["held"] == 2


@pytest.mark.parametrize("handle, why", [
    (partial(echo, change=bytes), "expected 0x41, got 0x61"),
    (partial(echo, change=corrupt), "expected"),
    (lambda sock: sock.recv(10) and None, "closed"),
    (lambda sock: sock.recv(10) and sock.recv(10) and None, "no answer within"),
], ids=["not upper-cased", "one byte wrong", "closes", "silent"])
def test_verify_names_the_fault(fleet: Agent, handle: Callable, why: str) -> None:
    with misbehaving(handle) as port:
        verified = fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="tcp", timeout=1)
    assert not verified["ok"] and why in verified["why"]


def test_verify_wants_the_end_after_a_half_close(fleet: Agent) -> None:
    def holds_on(sock: socket.socket) -> None:
        echo(sock)
        threading.Event().wait(3)

    with misbehaving(holds_on) as port:
        verified = fleet.ask("verify", "verified", target=["127.0.0.1", port], timeout=1)
    assert not verified["ok"] and "half-close" in verified["why"]
