"""The fleet over HTTP and datagrams: servers that behave, and servers that do one thing wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from fleet_agent import Agent, misbehaving, server

H11 = "servers.event_loops.h11_server"
RECVFROM = "servers.multiplexing.recvfrom_select_server"
needs_h11 = pytest.mark.skipif(not importlib.util.find_spec("h11"), reason="h11 is not installed")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()
    assert agent.process.returncode == 0


def measure(fleet: Agent, port: int, seconds: float = 0.4, **load: object) -> dict:
    fleet.load(port, **load)
    result = fleet.measure(seconds)
    fleet.ask("stop", "stopped")
    return result


def requests_of(sock: socket.socket) -> Iterator[bytes]:
    """The bodies of the HTTP requests on a connection."""
    stream = sock.makefile("rb")
    while stream.readline():
        length = 0
        while (line := stream.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        yield stream.read(length)


def plain(body: bytes, extra: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


def chunked(body: bytes) -> bytes:
    parts = [body[at:at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x;note=1\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"


def answering(make: Callable[[bytes], bytes], pieces: int = 0, once: bool = False) -> contextlib.AbstractContextManager:
    def handle(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for body in requests_of(sock):
            answer = make(body.upper())
            for at in range(0, len(answer), pieces or len(answer)):
                sock.sendall(answer[at:at + (pieces or len(answer))])
            if once:
                return
    return misbehaving(handle)


@needs_h11
@pytest.mark.parametrize("load", [
    {}, {"rate": 200}, {"active": 3}, {"requests_per_connection": 3}, {"pipeline": 4}, {"message_bytes": 300_000},
    {"read_bytes_per_second": 20_000}, {"send_bytes_per_second": 5000}, {"message_bytes": 1},
], ids=json.dumps)
def test_every_load_over_http(fleet: Agent, load: dict) -> None:
    with server(H11) as port:
        result = measure(fleet, port, 0.6, protocol="http", connections=8, **load)
    assert (result["wrong"], result["first_wrong"], result["errors"]) == (0, None, {})
    assert result["requests"] > 0 and result["datagrams"] is None
    if "requests_per_connection" in load:
        assert result["connections"]["opened"] > 8
    else:
        assert result["connections"]["held"] == 8


@pytest.mark.parametrize("make, pieces", [(chunked, 0), (chunked, 3), (plain, 5), (plain, 0)],
                         ids=["chunked", "chunked in pieces", "in pieces", "whole"])
def test_right_http_answers_in_any_shape(fleet: Agent, make: Callable, pieces: int) -> None:
    with answering(make, pieces) as port:
        assert fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="http", timeout=20)["ok"]
        result = measure(fleet, port, protocol="http", connections=3)
    assert (result["wrong"], result["errors"]) == (0, {}) and result["requests"] > 0


@pytest.mark.parametrize("make, words", [
    (lambda body: plain(body.lower()), "expected 0x"), (lambda body: chunked(body[:-1] + b"\x01"), "byte 63"),
    (lambda body: plain(body + b"X"), "65 bytes, expected 64"),
    (lambda body: plain(body[:-1]), "63 bytes, expected 64"),
    (lambda body: plain(body) + b"more", "nobody asked for|no status line"),
    (lambda body: b"nonsense\r\n\r\n", "no status line"),
], ids=["not upper-cased", "last byte of a chunk", "too long", "too short", "bytes behind", "not HTTP"])
def test_wrong_http_answers_are_found(fleet: Agent, make: Callable, words: str) -> None:
    with answering(make) as port:
        assert not fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="http", timeout=2)["ok"]
        result = measure(fleet, port, protocol="http", connections=1, greet=False, requests=20)
    assert result["wrong"] > 0 and re.search(words, result["first_wrong"])


def test_an_answer_that_turns_wrong_after_it_was_learned_is_found(fleet: Agent) -> None:
    """What the fast path compares with is what was right before."""
    count = iter(range(10**9))
    with answering(lambda body: plain(body if next(count) < 2000 else body[:-1] + b"\x00")) as port:
        result = measure(fleet, port, 1.5, protocol="http", connections=1)
    assert result["wrong"] > 0 and "byte 63" in result["first_wrong"]


def test_http_status_is_an_error_by_name(fleet: Agent) -> None:
    with answering(lambda body: plain(b"sorry", status=b"500 Internal Server Error")) as port:
        verified = fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="http", timeout=2)
        connected = fleet.load(port, protocol="http", connections=3)
        result = fleet.measure(0.2)
        fleet.ask("stop", "stopped")
    assert "HTTP 500" in verified["why"]
    assert connected["failed"] == {"HTTP 500": 3} and connected["answered"] == 0
    assert (result["requests"], result["wrong"]) == (0, 0) and set(result["errors"]) == {"HTTP 500"}


def test_a_server_that_says_close_is_connected_to_anew(fleet: Agent) -> None:
    with answering(lambda body: plain(body, b"Connection: close\r\n"), once=True) as port:
        verified = fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="http", timeout=2)
        result = measure(fleet, port, protocol="http", connections=2)
    assert not verified["ok"] and "does not keep" in verified["why"]
    assert result["requests"] > 4 and result["wrong"] == 0
    assert abs(result["connections"]["opened"] - result["requests"]) <= 4


@contextlib.contextmanager
def datagrams(answers: Callable[[int, bytes], list[bytes]]) -> Iterator[int]:
    """A server that sends, for the n-th datagram, what `answers` says; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            count = 0
            while not over.is_set():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    data, sender = sock.recvfrom(65_535)
                    count += 1
                    for answer in answers(count, data.upper()):
                        sock.sendto(answer, sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1]
        over.set()
        thread.join(5)


@pytest.mark.parametrize("load", [{}, {"rate": 300}, {"active": 3}, {"pipeline": 5}, {"message_bytes": 8000},
                                  {"requests_per_connection": 3}], ids=json.dumps)
def test_every_load_of_datagrams(fleet: Agent, load: dict) -> None:
    with server(RECVFROM) as port:
        assert fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="udp")["ok"]
        result = measure(fleet, port, protocol="udp", connections=8, **load)
    counts = result["datagrams"]
    assert (result["wrong"], result["first_wrong"], result["errors"]) == (0, None, {})
    assert result["requests"] == counts["answered"] > 0
    assert abs(counts["sent"] - counts["answered"] - counts["lost"]) <= 8 * 5
    assert (counts["duplicated"], counts["late"]) == (0, 0)
    assert result["connections"]["held"] == 8 or "requests_per_connection" in load


def test_lost_datagrams_are_counted_exactly_and_the_loop_goes_on(fleet: Agent) -> None:
    with datagrams(lambda n, data: [data] if n % 3 else []) as port:
        fleet.load(port, protocol="udp", connections=1, requests=60, greet=False, timeout_seconds=0.05)
        fleet.ask("begin", "begun")
        fleet.wait_for("done")
        result = fleet.ask("end", "result")
        fleet.ask("stop", "stopped")
        assert fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="udp", timeout=20)["ok"]
    assert result["datagrams"] == {"sent": 60, "answered": 40, "lost": 20, "reordered": 0, "duplicated": 0, "late": 0}
    assert result["requests"] == 40 and result["wrong"] == 0


def exactly(fleet: Agent, answers: Callable, requests: int, **load: object) -> dict:
    with datagrams(answers) as port:
        fleet.load(port, protocol="udp", connections=1, requests=requests, greet=False, **load)
        fleet.ask("begin", "begun")
        fleet.wait_for("done")
        fleet.wait_for("progress")  # what comes behind the last right answer is counted by then
        result = fleet.ask("end", "result")
        fleet.ask("stop", "stopped")
    assert result["wrong"] == 0, result["first_wrong"]
    return result["datagrams"]


def test_swapped_datagrams_are_counted_as_reordered(fleet: Agent) -> None:
    kept: list[bytes] = []

    def swap(n: int, data: bytes) -> list[bytes]:
        kept.append(data)
        return [kept.pop(), kept.pop()] if len(kept) == 2 else []

    counts = exactly(fleet, swap, 40, pipeline=2)
    assert counts["answered"] + counts["lost"] == 40 and counts["reordered"] >= 10
    assert counts["duplicated"] == 0


def test_duplicated_datagrams_are_counted(fleet: Agent) -> None:
    counts = exactly(fleet, lambda n, data: [data, data] if n % 2 else [data], 40)
    assert (counts["answered"], counts["duplicated"], counts["lost"], counts["reordered"]) == (40, 20, 0, 0)


def test_late_datagrams_are_lost_and_late(fleet: Agent) -> None:
    kept: list[bytes] = []

    def next_time(n: int, data: bytes) -> list[bytes]:
        """Every answer comes only when the next request does, and so after it was given up."""
        kept.append(data)
        return [kept.pop(0)] if len(kept) == 2 else []

    counts = exactly(fleet, next_time, 10, timeout_seconds=0.05)
    assert (counts["sent"], counts["answered"], counts["lost"], counts["late"]) == (10, 0, 10, 9)


def test_wrong_datagrams_are_found(fleet: Agent) -> None:
    for answer, words in ((bytes.lower, "nobody asked"), (lambda data: data[:-1] + b"\x01", "byte 63"),
                          (lambda data: data + b"X", "65 bytes")):
        with datagrams(lambda n, data, answer=answer: [answer(data)]) as port:
            assert not fleet.ask("verify", "verified", target=["127.0.0.1", port], protocol="udp", timeout=1)["ok"]
            result = measure(fleet, port, 0.3, protocol="udp", connections=1, greet=False, requests=20)
        assert result["wrong"] > 0 and words in result["first_wrong"] and result["requests"] == 0


def test_a_closed_port_is_refused_and_sizes_are_clamped(fleet: Agent) -> None:
    with datagrams(lambda n, data: [data]) as port:
        assert "65,507" in fleet.load(port, protocol="udp", connections=1, message_bytes=100_000)["notes"][0]
        assert fleet.load(port, protocol="udp", connections=2, message_bytes=1, timeout_seconds=0.05)["answered"] == 2
    fleet.ask("begin", "begun")
    for _ in range(3):
        fleet.wait_for("progress")
    result = fleet.ask("end", "result")
    assert result["errors"].get("ConnectionRefusedError", 0) > 0 and result["connections"]["held"] == 0
    assert fleet.load(port, protocol="udp", connections=3)["failed"] == {"ConnectionRefusedError": 3}
    fleet.ask("stop", "stopped")
