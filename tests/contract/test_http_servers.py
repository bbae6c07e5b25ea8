"""The conformance suite of the HTTP models: `POST /` gives the body in capitals, whatever the client does.

The client here is a bare socket, so that a request can be cut, crowded, garbled or left half said. The fixture
`server` and its starter are those of the TCP models.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import select
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import conformance as c
import pytest
import test_servers
from conformance import Model
from test_servers import EIGHT_MEGABYTES, EVERY_BYTE, Start, each, server, start_server  # noqa: F401 (fixtures)

MEGABYTE = EIGHT_MEGABYTES[:1_000_000]


@dataclass(frozen=True)
class Nature:
    """What a model does by its nature instead of what the suite asks of all; the default: nothing."""

    refuses_without_descriptors: bool = False
    """Out of descriptors it accepts the newest clients with one held in reserve, and hangs up on them."""
    half_close_drops_the_unsent: bool = False
    """It takes a client that has finished sending for one that has gone, and drops what is not sent yet."""


NATURE = {
    "sanic": Nature(refuses_without_descriptors=sys.platform != "win32"),  # libuv does, and there is no uvloop
    "tornado_web": Nature(half_close_drops_the_unsent=True),
    "twisted_web": Nature(refuses_without_descriptors=True),
}
MODELS = [model for model in c.ALL_MODELS if model.protocol == "http"]
every_model = each(MODELS)


def nature(model: Model) -> Nature:
    return NATURE.get(model.name, Nature())


def request(body: bytes, *headers: str, line: str = "POST / HTTP/1.1") -> bytes:
    """A request in wire format."""
    return "\r\n".join([line, "Host: lab", *headers, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Client:
    """A connection and what was received on it beyond the last answer."""

    def __init__(self, running: c.Server, receive_buffer: int = 0) -> None:
        self.socket = c.connect(running, receive_buffer)
        self.received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def more(self) -> None:
        if not (piece := self.socket.recv(1 << 20)):
            raise ConnectionError(f"hung up; unfinished: {self.received[:200]!r}")
        self.received += piece

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers by lower-case name, body. Raises OSError when the server hangs up."""
        while b"\r\n\r\n" not in self.received:
            self.more()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        line, *fields = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        version, status, *_ = line.split(" ")
        assert version in ("HTTP/1.0", "HTTP/1.1")
        length = int(headers.get("content-length", "0"))
        pieces = [self.received[:length]]
        self.received = self.received[length:]
        missing = length - len(pieces[0])
        if missing:
            pieces.append(c.receive(self.socket, missing))
            if len(pieces[1]) < missing:
                raise ConnectionError("hung up in mid-answer")
        return int(status), headers, b"".join(pieces)

    def expect(self, body: bytes) -> None:
        """The next answer is the right one to `body`."""
        status, headers, answer = self.answer()
        assert status == 200
        assert headers["content-length"] == str(len(body))
        assert answer == body.upper()

    def ask(self, body: bytes = b"hello") -> None:
        self.socket.sendall(request(body))
        self.expect(body)

    def hung_up(self) -> bool:
        """Whether the server closes now that everything is answered."""
        try:
            return not self.received and not self.socket.recv(1)
        except ConnectionError:
            return True


def lives_on(running: c.Server) -> None:
    with Client(running) as client:
        client.ask()
        client.ask(b"again")


# Bytes and bodies


@every_model
def test_bytes_cut_anywhere(server: Start, model: Model) -> None:  # noqa: F811
    with Client(server(model)) as client:
        for value in request(EVERY_BYTE):
            client.socket.sendall(bytes([value]))
        client.expect(EVERY_BYTE)
        cut = random.Random(1)
        bodies = [EVERY_BYTE * cut.randint(0, 20) for _ in range(20)]
        rest = b"".join(map(request, bodies))
        while rest:
            size = cut.randint(1, 3000)
            client.socket.sendall(rest[:size])
            rest = rest[size:]
        for body in bodies:
            client.expect(body)


@every_model
def test_empty_body(server: Start, model: Model) -> None:  # noqa: F811
    with Client(server(model)) as client:
        client.ask(b"")
        client.ask(b"then one with something in it")


@every_model
def test_a_megabyte_through_a_slow_reader(server: Start, model: Model) -> None:  # noqa: F811
    with Client(server(model), receive_buffer=16384) as client:
        client.socket.sendall(request(MEGABYTE))
        time.sleep(c.QUIET)  # the answer piles up: what follows must come out whole all the same
        client.expect(MEGABYTE)
        client.ask()


@every_model
def test_a_chunked_body(server: Start, model: Model) -> None:  # noqa: F811
    head = b"POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Client(server(model)) as client:
        for body in b"", EVERY_BYTE, MEGABYTE[:100_000]:
            chunks = [body[start : start + 700] for start in range(0, len(body), 700)]
            coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
            client.socket.sendall(head)
            for start in range(0, len(coded), 997):
                client.socket.sendall(coded[start : start + 997])
            client.expect(body)


@every_model
def test_a_client_that_waits_to_be_told_to_continue(server: Start, model: Model) -> None:  # noqa: F811
    with Client(server(model)) as client:
        head, body = request(MEGABYTE, "Expect: 100-continue")[: -len(MEGABYTE)], MEGABYTE
        client.socket.sendall(head)
        assert client.answer()[0] == 100
        client.socket.sendall(body)
        client.expect(body)
        client.ask()


# Connections


@every_model
def test_a_hundred_requests_on_one_connection(server: Start, model: Model) -> None:  # noqa: F811
    connection = http.client.HTTPConnection(*server(model).address, timeout=c.DEADLINE)
    connection.connect()
    first = connection.sock
    for number in range(100):
        body = f"request {number}".encode()
        connection.request("POST", "/", body)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, body.upper())
        assert connection.sock is first, f"the connection was closed after request {number}"
    connection.close()


@every_model
def test_pipelined_requests_are_answered_in_order(server: Start, model: Model) -> None:  # noqa: F811
    bodies = [f"number {number} ".encode() * number for number in range(50)]
    with Client(server(model)) as client:
        client.socket.sendall(b"".join(map(request, bodies)))
        for body in bodies:
            client.expect(body)


@every_model
def test_closes_where_asked_to(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    for last in (request(b"bye", "Connection: close"), request(b"bye", line="POST / HTTP/1.0")):
        with Client(running) as client:
            client.socket.sendall(last)
            client.expect(b"bye")
            assert client.hung_up()


@every_model
def test_half_close_is_answered_to_the_end(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    for body in b"last words", EIGHT_MEGABYTES:  # the second is more than the kernel takes from the server at once
        with Client(running, receive_buffer=16384) as client:
            client.socket.sendall(request(body))
            client.socket.shutdown(socket.SHUT_WR)
            time.sleep(c.QUIET)  # so the goodbye is there while the rest of the answer is not sent yet
            if nature(model).half_close_drops_the_unsent and body is EIGHT_MEGABYTES:
                with pytest.raises(ConnectionError):
                    client.expect(body)
            else:
                client.expect(body)
                assert client.hung_up()
    with Client(running) as client:  # a goodbye with nothing left to answer
        client.socket.shutdown(socket.SHUT_WR)
        assert client.hung_up()
    lives_on(running)


@every_model
def test_resets_in_the_midst_of_a_body_end_only_their_own(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    with Client(running) as bystander:
        bystander.ask()
        for said in b"", b"POST", request(MEGABYTE)[:30], request(MEGABYTE)[:500_000], request(MEGABYTE):
            for _ in range(3):
                client = Client(running)
                client.socket.sendall(said)
                test_servers.reset(client.socket)
        bystander.ask()
    lives_on(running)


@every_model
def test_fifty_connections_kept_alive_at_once(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    clients = [Client(running) for _ in range(50)]
    for turn in range(10):
        bodies = [f"client {number} turn {turn} ".encode() * (number + 1) for number in range(50)]
        for client, body in zip(clients, bodies, strict=True):
            client.socket.sendall(request(body)[:-5])
        for client, body in zip(clients, bodies, strict=True):
            client.socket.sendall(body[-5:])
        for client, body in reversed(list(zip(clients, bodies, strict=True))):
            client.expect(body)
    for client in clients:
        client.socket.close()


@every_model
def test_two_hundred_clients_come_and_go(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    lives_on(running)
    time.sleep(0.1)
    settled = running.descriptors()
    for _ in range(10):
        clients = [Client(running) for _ in range(20)]
        for client in clients:
            client.socket.sendall(request(b"hello"))
        for client in clients:
            client.expect(b"hello")
            client.socket.close()
    c.eventually(lambda: running.descriptors() <= settled, "all descriptors are given back")


# Wrong requests


@every_model
def test_unknown_paths_and_methods_are_refused(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    for line, expected in (
        ("POST /nowhere HTTP/1.1", {404}),
        ("GET / HTTP/1.1", {405}),
        ("GET /nowhere HTTP/1.1", {404, 405}),
        ("PUT / HTTP/1.1", {405, 501}),  # RFC 9110: 405 for a method known and not allowed here, 501 for an unknown one
        ("BREW / HTTP/1.1", {405, 501, 400}),
    ):
        with Client(running) as client:
            client.socket.sendall(request(b"some body", line=line))
            status, headers, _ = client.answer()
            assert status in expected, line
            if status in (404, 405) and headers.get("connection", "").lower() != "close":
                client.ask()  # what it refused to do it has read to the end
        lives_on(running)


MALFORMED = {
    "noise": b"\x00\xff\x16\x03\x01 noise\r\n\r\n",
    "no version, no target": b"POST\r\n\r\n",
    "header without a colon": b"POST / HTTP/1.1\r\nHost: lab\r\nno colon here\r\nContent-Length: 0\r\n\r\n",
    "length that is no number": b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: many\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "chunk size that is no number": b"POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
    "endless header": b"POST / HTTP/1.1\r\nHost: lab\r\nX: " + b"x" * 200_000,
}


@pytest.mark.parametrize("name", MALFORMED)
@every_model
def test_a_malformed_request_gets_400_or_a_hang_up(server: Start, model: Model, name: str) -> None:  # noqa: F811
    running = server(model)
    with Client(running) as bystander, Client(running) as client:
        bystander.ask()
        try:
            client.socket.sendall(MALFORMED[name])
            status = client.answer()[0]
            assert 400 <= status < 500
        except ConnectionError:
            pass
        bystander.ask()
    lives_on(running)


# Scarcity


@every_model
def test_a_client_that_never_reads_stalls_only_itself(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    with Client(running, receive_buffer=16384) as deaf, Client(running) as other:
        deaf.ask(MEGABYTE[:20_000])
        other.ask()
        before = running.memory()
        crowd = request(MEGABYTE[:20_000]) * 1000
        assert c.flood(deaf.socket, crowd) < len(crowd), "the server never stopped reading"
        assert running.memory() - before < 4_000_000
        for _ in range(3):
            other.ask()
        spent = running.cpu()
        time.sleep(0.5)
        assert running.cpu() - spent < 0.1, "the server spins on the stalled client"


@every_model
def test_descriptors_that_run_out_are_survived(server: Start, model: Model) -> None:  # noqa: F811
    limit = 48
    running = server(model, descriptors=limit)
    clients = [Client(running) for _ in range(70)]
    for client in clients:
        client.socket.sendall(request(b"hello"))
    assert len(c.answered([client.socket for client in clients], limit // 2)) >= limit // 2
    before = running.cpu()
    time.sleep(0.5)
    assert running.cpu() - before < 0.1, "it spins while it waits for a descriptor"
    served = waiting = refused = 0
    for client in clients:
        if not select.select([client.socket], [], [], 0)[0]:
            waiting += 1
            continue
        try:
            client.expect(b"hello")
            served += 1
        except ConnectionError:
            refused += 1
    assert limit // 2 <= served < limit
    if nature(model).refuses_without_descriptors:
        assert refused > 0 and waiting == 0
    else:
        assert refused == 0 and waiting > 0
    late = clients[served:] if waiting else []
    for client in clients[:served]:
        client.socket.close()
    for client in late:
        client.expect(b"hello")
        client.socket.close()
    c.eventually(lambda: running.descriptors() < limit // 2, "descriptors are given back")
    lives_on(running)


@every_model
def test_idle_costs_nothing(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    clients = [Client(running) for _ in range(20)]
    for client in clients[:10]:
        client.ask()
    before = running.cpu()
    time.sleep(0.6)
    assert running.cpu() - before < 0.06
    for client in clients:
        client.socket.close()


# Reactors by name, and the source


REACTORS = {"select": "select.select", "poll": "select.poll", "epoll": "select.epoll", "asyncio": "asyncio"}


@pytest.mark.parametrize("reactor", REACTORS)
@each([model for model in c.ALL_MODELS if model.requires == ("twisted",)])
def test_twisted_takes_its_reactor_from_the_command_line(server: Start, model: Model, reactor: str) -> None:  # noqa: F811
    name = REACTORS[reactor]
    if not hasattr(select, name.partition(".")[2] or "select"):
        pytest.skip(f"{sys.platform} has no {name}")
    running = server(model, "--reactor", reactor)
    if model.protocol == "http":
        lives_on(running)
    else:
        with c.connect(running) as client:
            assert c.pump(client, MEGABYTE, half_close=True) == MEGABYTE.upper()
    if sys.platform == "linux" and isinstance(running, c.NativeServer):
        opened = []
        for entry in Path(f"/proc/{running.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the client's, closed just now
                opened.append(str(entry.readlink()))
        assert ("anon_inode:[eventpoll]" in opened) == (reactor in ("epoll", "asyncio"))
