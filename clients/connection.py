"""One connection of a fleet: its socket, where it stands in its dialogue, and what happens next.

This is the general path: answers and requests in pieces, several in flight, pauses, churn.
`fast.run_fast` does the common case without it and shares its counters.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable

from clients.exchanges import Exchange
from clients.pollers import READ, WRITE
from clients.protocols import Reader
from clients.running import RunningLoad
from clients.system import RESET_ON_CLOSE, name_of

clock = time.perf_counter_ns
NEVER = -1  # of a countdown: none
RETRY_SECONDS = 0.1  # churn: the pause after a connection that could not be opened


class Connection:
    __slots__ = ("active", "answers", "connecting", "exchange", "expect", "fd", "flight", "greeting", "held",
                 "interest", "later", "left", "number", "opened", "queue", "quota", "reader", "recv", "run", "seen",
                 "send", "sent", "sock", "spoilt", "started", "timed_out", "unsent", "up")

    def __init__(self, run: RunningLoad, number: int, quota: int) -> None:
        self.run, self.number, self.quota = run, number, quota
        self.exchange: Exchange = run.dialogue.exchange(number)
        self.active = self.opened = False
        self.answers = 0  # right ones, in this window
        self.seen = 0  # when the latest greeting was answered, by the clock
        self.queue: deque[int] = deque()  # open loop: intended times of requests that wait for their turn
        self.sock: socket.socket | None = None
        self.reset()

    def reset(self) -> None:
        """As before any byte: what belongs to one TCP connection only."""
        self.connecting = self.up = self.greeting = self.held = self.timed_out = self.spoilt = False
        self.flight = self.started = self.sent = self.interest = 0
        self.later: deque[tuple[Exchange, int, int]] = deque()  # in flight behind the oldest: intended, sent
        self.unsent: deque[memoryview] = deque()
        self.expect: bytes | None = None  # what run_fast may take as the whole answer
        self.left = self.run.load.requests_per_connection or NEVER
        self.reader: Reader = self.run.dialogue.reader()

    def open(self) -> None:
        run = self.run
        self.reset()
        try:
            sock = self.sock = socket.socket(run.family, run.dialogue.kind)
        except OSError as error:
            return self.drop(name_of(error))
        sock.setblocking(False)
        self.prepare(sock)
        self.fd, self.recv, self.send = sock.fileno(), sock.recv, sock.send
        self.connecting, self.interest = True, WRITE
        run.sockets[self.fd] = self
        run.poller.add(self.fd, WRITE)
        try:
            sock.connect(run.target)
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(name_of(error))

    def prepare(self, sock: socket.socket) -> None:
        """Sets the options of a new socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def established(self) -> None:
        assert self.sock
        if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self.drop(name_of(OSError(code, "")))
        self.connecting, self.up = False, True
        self.watch(READ)
        self.run.established(first := not self.opened)
        self.opened = True
        if first and self.run.load.greet:
            self.greeting = True
            self.request(clock())
        else:
            self.proceed()

    def close(self, *, abort: bool = False) -> None:
        """Closes without counting anything. abort: with a reset, which leaves no port in TIME_WAIT."""
        if sock := self.sock:
            self.sock, self.up, self.connecting, self.expect = None, False, False, None
            self.run.poller.remove(self.fd)
            del self.run.sockets[self.fd]
            if abort and sock.type == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            sock.close()

    def drop(self, why: str) -> None:
        """The connection is gone, and not by our will. Churn opens it anew."""
        run, held = self.run, self.held
        self.close()
        anew = run.started and run.churning
        if held:
            run.lose(why)
            if anew and self.active:
                self.open()
        elif anew and self.opened:
            run.window.errors[why] += 1
            run.after(RETRY_SECONDS, self.open)
        else:
            run.failed(why, self.opened)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Does something later, if this socket is still the one in use then."""
        sock = self.sock
        self.run.after(seconds, lambda: action() if self.up and self.sock is sock else None)

    def watch(self, events: int) -> None:
        if events != self.interest:
            self.interest = events
            self.run.poller.change(self.fd, events)

    def proceed(self) -> None:
        """Does what comes next, after coming up and after each answer."""
        run = self.run
        if not self.up or not self.active or not run.started:
            return
        if not self.left:
            if not self.flight:
                self.close(abort=True)
                self.open()
        elif run.spacing:
            while self.queue and self.flight < run.load.pipeline and self.left:
                self.request(self.queue.popleft())
        elif run.load.think_seconds and self.answers:
            self.after(run.load.think_seconds, self.fill)
        else:
            self.fill()

    def fill(self) -> None:
        """Closed loop: as many requests in flight as the load wants."""
        run = self.run
        while (self.up and self.active and run.started and not run.spacing and not self.greeting
               and self.flight < run.load.pipeline and self.left and self.quota):
            self.request(clock())

    def due(self, intended: int) -> None:
        """Open loop: a request is due on this connection."""
        if not self.up and not self.run.churning:
            self.run.window.errors["not connected"] += 1
        elif not self.quota:
            return
        elif self.up and not self.greeting and not self.queue and self.flight < self.run.load.pipeline and self.left:
            self.request(intended)
            self.run.window.lag[(clock() - intended) // 1000] += 1
        else:
            self.queue.append(intended)

    def request(self, intended: int) -> None:
        now = clock()
        if self.flight:
            exchange = (self.later[-1][0] if self.later else self.exchange).next
            self.later.append((exchange, intended, now))
        else:
            exchange = self.exchange
            self.started, self.sent, self.timed_out = intended, now, False
        self.flight += 1
        if not self.greeting:
            self.left -= self.left > 0
            self.quota -= self.quota > 0
        self.transmit(exchange)

    def transmit(self, exchange: Exchange) -> None:
        """Sends a request, or lets it queue behind what is not sent yet."""
        if self.unsent:
            self.unsent.append(memoryview(exchange.request))
            return
        self.expect = exchange.whole if self.run.fast and not self.greeting else None
        try:
            count = self.send(exchange.request)
        except OSError as error:
            return self.send_failed(error, exchange)
        self.run.window.sent += count
        if count < len(exchange.request):
            self.short(count, exchange)

    def short(self, count: int, exchange: Exchange) -> None:
        """Only `count` bytes of a request went out: the rest follows when the socket takes more."""
        self.expect = None
        self.unsent.append(memoryview(exchange.request)[count:])
        self.watch(self.interest | WRITE)

    def send_failed(self, error: OSError, exchange: Exchange) -> None:
        if isinstance(error, BlockingIOError):
            self.short(0, exchange)
        else:
            self.drop(name_of(error))

    def flush(self) -> None:
        """The socket takes more."""
        try:
            while self.unsent:
                count = self.send(self.unsent[0])
                self.run.window.sent += count
                if count < len(self.unsent[0]):
                    self.unsent[0] = self.unsent[0][count:]
                    return
                self.unsent.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            return self.drop(name_of(error))
        self.watch(self.interest & ~WRITE)

    def overdue(self, latest: int) -> None:
        """Counts a request that has waited since before `latest`; the answer may still come."""
        if self.flight and self.started < latest and self.up and not self.timed_out:
            self.timed_out = True
            self.run.window.errors["timeout"] += 1

    def ready(self, event: int) -> None:
        """The poller says that something can be done."""
        if self.connecting:
            return self.established()
        if event & WRITE and self.unsent:
            self.flush()
        if event != WRITE and self.sock:
            self.receive()

    def receive(self, most: int = 0) -> int:
        """Takes what has come, `most` bytes of it (0: what the protocol likes). Returns how many."""
        try:
            data = self.recv(most or self.run.dialogue.receive_bytes)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.drop(name_of(error))
            return 0
        self.received(data)
        return len(data)

    def received(self, data: bytes) -> None:
        """Checks bytes as they come; no answer is ever collected."""
        self.expect = None
        if not data:
            return self.drop("closed")
        run = self.run
        run.window.received += len(data)
        while data:
            if not self.flight:
                return run.wrong(self.number, f"{len(data)} bytes that nobody asked for, first 0x{data[0]:02x}")
            try:
                used, complete, wrong = self.reader.check(self.exchange, data)
            except ValueError as error:  # where the next answer begins cannot be told
                run.wrong(self.number, str(error))
                return self.drop("garbled")
            if wrong and not self.spoilt:
                self.spoilt = True
                run.wrong(self.number, wrong)
            if not complete:
                return
            data = data[used:]
            self.answered(clock(), data)
            if not self.up:
                return

    def answered(self, now: int, more: bytes) -> None:
        """An answer is complete. The next request waits while `more` of what arrived is unread."""
        run, greeting, refusal = self.run, self.greeting, self.reader.refusal
        right = not self.spoilt and not refusal
        intended, sent = self.started, self.sent
        self.flight -= 1
        self.spoilt, self.timed_out = False, False
        if self.later:
            self.exchange, self.started, self.sent = self.later.popleft()
        else:
            self.exchange = self.exchange.next
        if right and not self.held:
            self.held, self.seen = True, now
        if refusal:
            (run.failures if greeting else run.window.errors)[refusal] += 1
        if greeting:
            self.greeting = False
            run.greeted(right)
        elif right:
            run.window.latency[(now - intended) // 1000] += 1
            if run.spacing:
                run.window.uncorrected[(now - sent) // 1000] += 1
            self.answers += 1
        if not greeting:
            run.finished()
        if self.reader.closing:  # by the server's own word: open anew
            if self.flight:
                self.drop("closed")
            else:
                self.close()
                self.open()
        elif not more:
            self.proceed()
