"""One UDP socket of a fleet. Each datagram carries a number, so that nothing that happens to it is hidden.

There is no connection: the socket is bound to its server by connect(), which exchanges nothing. It is *held* once the
server has answered on it, and no longer when a port unreachable (ConnectionRefusedError) came back.

Counted in a window, greetings apart:
  sent        requests
  answered    right answers in time, each to one request
  lost        requests without an answer for `timeout_seconds`; the loop goes on with the next
  reordered   of those answered: the answer came after that of a later request of the same socket
  duplicated  answers to what had been answered already
  late        answers to what had been given up as lost

An open loop sends each request when it is due: no stream makes it wait for the answer before.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

from clients.connection import Connection
from clients.exchanges import RING, Exchange
from clients.pollers import READ, WRITE
from clients.running import RunningLoad
from clients.system import name_of

clock = time.perf_counter_ns
DIGITS = 8  # bytes of a number: letters for hexadecimal digits, small in the request and capital in the answer
NUMBERS = 16 ** DIGITS
SPREAD = 0x9E3779B1  # keeps the first numbers of sockets far apart (2^32 over the golden ratio)
REMEMBERED = 10_000  # lost requests of a socket whose late answers are still told from duplicates
GREETING_NS = 100_000_000  # an unanswered greeting is sent again after so long
_TO_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_TO_DIGITS = bytes.maketrans(b"ABCDEFGHIJKLMNOP", b"0123456789abcdef")


class Asked(NamedTuple):
    place: int
    """How many the socket had asked before."""
    exchange: Exchange
    intended: int
    sent: int
    greeting: bool


class DatagramConnection(Connection):
    __slots__ = ("asked", "base", "given_up", "latest", "waiting")

    def __init__(self, run: RunningLoad, number: int, quota: int) -> None:
        self.base = number * SPREAD  # the first datagram's number
        self.asked = 0
        super().__init__(run, number, quota)

    def reset(self) -> None:
        super().reset()
        self.base, self.asked = self.base + self.asked, 0  # churn: the old socket's numbers are not used again
        self.waiting: dict[bytes, Asked] = {}  # by number as the answer shows it, oldest first
        self.given_up: dict[bytes, None] = {}
        self.latest = -1  # place of the latest request that has an answer

    def prepare(self, sock: socket.socket) -> None:
        pass

    def due(self, intended: int) -> None:
        if not self.up:
            super().due(intended)
        elif self.quota and self.left:
            if self.greeting:
                self.queue.append(intended)
                return
            self.request(intended)
            self.run.window.lag[(clock() - intended) // 1000] += 1

    def proceed(self) -> None:
        while self.run.spacing and self.queue and self.up and self.left:
            self.request(self.queue.popleft())
        super().proceed()

    def request(self, intended: int) -> None:
        place, exchange, window = self.asked, self.exchange, self.run.window
        number = (b"%08x" % ((self.base + place) % NUMBERS)).translate(_TO_LETTERS)
        self.asked, self.exchange = place + 1, exchange.next
        self.waiting[number.upper()] = Asked(place, exchange, intended, clock(), self.greeting)
        self.flight += 1
        if not self.greeting:
            self.left -= self.left > 0
            self.quota -= self.quota > 0
            window.datagrams["sent"] += 1
        datagram = number + bytes(exchange.request[DIGITS:])
        if self.unsent:
            self.unsent.append(memoryview(datagram))
            return
        for _ in range(2):
            try:
                window.sent += self.send(datagram)
            except BlockingIOError:
                self.unsent.append(memoryview(datagram))
                self.watch(READ | WRITE)
            except ConnectionError as error:  # the fate of an earlier datagram: this one was not sent
                self.refused(error)
                if self.up:
                    continue
            except OSError as error:  # ENOBUFS, EMSGSIZE …: this one is lost
                window.errors[name_of(error)] += 1
            return

    def flush(self) -> None:
        try:
            while self.unsent:
                self.run.window.sent += self.send(self.unsent[0])
                self.unsent.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            self.unsent.popleft()
            self.refused(error)
            return
        self.watch(READ)

    def receive(self, most: int = 0) -> int:
        try:
            data = self.recv(self.run.dialogue.receive_bytes)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.refused(error)
            return 0
        self.received(data)
        return len(data)

    def refused(self, error: OSError) -> None:
        """The server's port is closed. A socket that nobody has answered yet is given up; any other goes on trying."""
        if self.greeting:
            self.greeting = False
            self.drop(name_of(error))
        else:
            self.held = False
            self.run.window.errors[name_of(error)] += 1

    def received(self, data: bytes) -> None:
        """A whole datagram."""
        run, window, number = self.run, self.run.window, data[:DIGITS]
        window.received += len(data)
        asked = self.waiting.pop(number, None)
        if not asked:
            self.unexpected(number, data)
            return
        self.flight -= 1
        now = clock()
        wrong = self.fault(asked.exchange, data)
        if wrong:
            run.wrong(self.number, wrong)
        elif not self.held:
            self.held, self.seen = True, now
        if asked.greeting:
            if self.greeting:
                self.greeting = False
                run.greeted(not wrong)
        else:
            if not wrong:
                window.latency[(now - asked.intended) // 1000] += 1
                if run.spacing:
                    window.uncorrected[(now - asked.sent) // 1000] += 1
                window.datagrams["answered"] += 1
                self.answers += 1
                window.datagrams["reordered"] += asked.place < self.latest
                self.latest = max(self.latest, asked.place)
            run.finished()
        self.proceed()

    def unexpected(self, number: bytes, data: bytes) -> None:
        """No request waits for this answer. The number tells whether one did."""
        digits = number.translate(_TO_DIGITS)
        place = -1
        if len(number) == DIGITS and number.isupper() and not digits.strip(b"0123456789abcdef"):
            place = (int(digits, 16) - self.base) % NUMBERS
        if not 0 <= place < self.asked:
            self.run.wrong(self.number, f"a datagram of {len(data)} bytes that nobody asked for, first {number!r}")
            return
        exchange = self.exchange_at(place)
        if wrong := self.fault(exchange, data):
            self.run.wrong(self.number, wrong)
        elif number in self.given_up:
            del self.given_up[number]
            self.run.window.datagrams["late"] += 1
        else:
            self.run.window.datagrams["duplicated"] += 1

    def exchange_at(self, place: int) -> Exchange:
        """Which exchange the request at `place` was: the ring leads back to it."""
        exchange = self.exchange
        for _ in range((place - self.asked) % RING):
            exchange = exchange.next
        return exchange

    def fault(self, exchange: Exchange, data: bytes) -> str | None:
        """What is wrong with an answer behind its number."""
        if len(data) != exchange.size:
            return f"a datagram of {len(data):,} bytes, expected {exchange.size:,}"
        return exchange.wrong(DIGITS, data[DIGITS:])

    def overdue(self, latest: int) -> None:
        """Gives up what was sent before `latest`, and goes on."""
        if not self.up:
            return
        now, lost = clock(), 0
        for number, asked in list(self.waiting.items()):
            if asked.sent >= (max(latest, now - GREETING_NS) if asked.greeting else latest):
                break
            del self.waiting[number]
            self.flight -= 1
            self.given_up[number] = None
            if asked.greeting:
                self.request(now)
                continue
            if len(self.given_up) > REMEMBERED:
                del self.given_up[next(iter(self.given_up))]
            self.run.window.datagrams["lost"] += 1
            self.run.finished()
            lost += 1
        if lost:
            self.proceed()
