"""Does a server answer rightly at all? Asked before anything is measured."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator

from clients.exchanges import Exchange, difference
from clients.http_reader import HttpReader
from clients.protocols import post
from clients.system import name_of

ALL_VALUES = bytes(range(256))
AGAIN_SECONDS = 0.3  # a datagram without an answer for so long is sent again


class WrongError(Exception):
    """What the server did that it should not."""


class Watch:
    """Gives a socket what is left of the time, and knows what is being waited for."""

    def __init__(self, seconds: float) -> None:
        self.deadline, self.what = time.monotonic() + seconds, "connect"

    def set(self, sock: socket.socket, most: float = 3600.0) -> None:
        if (left := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError
        sock.settimeout(min(left, most))


def verify(target: tuple[str, int], timeout: float = 5.0, protocol: str = "tcp") -> str | None:
    """None if the server at `target` answers known messages rightly, else what is wrong.

    tcp: one connection, messages cut at odd places, then a half-close, after which the end of the answers is expected.
    http: one connection kept alive, requests cut at odd places, an empty body among them.
    udp: datagrams of 1 to 8,192 bytes; one without an answer is sent again, since losing some is no fault.
    `timeout` in seconds is for all of it.
    """
    watch = Watch(timeout)
    try:
        CHECKS[protocol](target, watch)
    except WrongError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {timeout:g} s: waited for {watch.what}"
    except OSError as error:
        return f"{name_of(error)} while waiting for {watch.what}"
    return None


def connect(target: tuple[str, int], watch: Watch) -> socket.socket:
    sock = socket.create_connection(target, max(0.001, watch.deadline - time.monotonic()))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def send(sock: socket.socket, watch: Watch, message: bytes) -> None:
    for piece in pieces(message):
        watch.set(sock)
        sock.sendall(piece)


def verify_stream(target: tuple[str, int], watch: Watch) -> None:
    with connect(target, watch) as sock:
        position = 0
        for message in messages():
            watch.what = f"an answer of {len(message):,} bytes"
            send(sock, watch, message)
            answer = message.upper()
            at = 0
            while at < len(answer):
                watch.set(sock)
                if not (data := sock.recv(len(answer) - at)):
                    raise WrongError(f"the server closed after {position + at:,} bytes of answers")
                if not answer.startswith(data, at):
                    raise WrongError(difference(answer, at, data, position + at))
                at += len(data)
            position += at
        watch.what = "the end of the stream after a half-close"
        sock.shutdown(socket.SHUT_WR)
        watch.set(sock)
        if extra := sock.recv(1):
            raise WrongError(f"one byte too many after {position:,}: 0x{extra[0]:02x}")


def verify_http(target: tuple[str, int], watch: Watch) -> None:
    reader = HttpReader()
    with connect(target, watch) as sock:
        for number, body in enumerate([b"", *messages(), b""], 1):
            watch.what = f"the answer to a body of {len(body):,} bytes"
            if reader.closing:
                raise WrongError(f"the server does not keep the connection: it ends with request {number - 1}")
            request = post(len(body)) + body
            send(sock, watch, request)
            exchange = Exchange(request, body.upper(), 0, len(body))
            complete, fault = False, None
            while not complete:
                watch.set(sock)
                if not (data := sock.recv(65_536)):
                    raise WrongError(f"the server closed within request {number} of the connection")
                try:
                    used, complete, wrong = reader.check(exchange, data)
                except ValueError as error:
                    raise WrongError(f"request {number}: {error}") from None
                fault = fault or wrong
                if used < len(data):
                    raise WrongError(f"request {number}: {len(data) - used} bytes behind the answer")
            if fault := reader.refusal or fault:
                raise WrongError(f"request {number}, body of {len(body):,} bytes: {fault}")


def verify_datagrams(target: tuple[str, int], watch: Watch) -> None:
    before: set[bytes] = set()
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(target)
        for message in datagrams():
            watch.what = f"an answer of {len(message):,} bytes"
            answer, data = message.upper(), None
            while data != answer:
                try:
                    if data is None:
                        watch.set(sock)
                        sock.send(message)
                    watch.set(sock, AGAIN_SECONDS)
                    data = sock.recv(65_535)
                except TimeoutError:
                    data = None
                    continue  # the watch ends it
                if data != answer and data not in before:  # what was sent again may be answered twice
                    if len(data) != len(answer):
                        raise WrongError(f"a datagram of {len(data):,} bytes, expected {len(answer):,}")
                    raise WrongError(difference(answer, 0, data, 0))
            before.add(answer)


CHECKS: dict[str, Callable[[tuple[str, int], Watch], None]] = {
    "tcp": verify_stream, "http": verify_http, "udp": verify_datagrams}


def messages() -> Iterator[bytes]:
    """What is asked, in turn; each is sent whole before its answer is read, so none fills both buffers."""
    yield b"a"
    yield ALL_VALUES
    long = random.Random(7).randbytes(40_000)
    yield long
    yield b"z\n"


def datagrams() -> Iterator[bytes]:
    """Different ones, from one byte to eight kilobytes."""
    yield b"a"
    yield b"z\n"
    yield ALL_VALUES
    dice = random.Random(8)
    for size in (3, 64, 511, 1472, 1473, 4096, 8191, 8192):
        yield b"q" + dice.randbytes(size - 1)


def pieces(message: bytes) -> Iterator[bytes]:
    """`message` cut at odd places: 1, 2, 3, 5 … bytes, then ever longer."""
    at, one, two = 0, 1, 2
    while at < len(message):
        yield message[at:at + one]
        at += one
        one, two = two, one + two
