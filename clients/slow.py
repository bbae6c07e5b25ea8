"""Connections that read their answers slowly, or trickle their requests."""

from __future__ import annotations

import socket

from clients.connection import Connection
from clients.exchanges import Exchange
from clients.pollers import READ
from clients.system import name_of

PACE = 0.05  # seconds between two pieces
SLOW_BUFFER = 64 * 1024  # a slow reader's receive buffer; the kernel's own would swallow megabytes


class SlowConnection(Connection):
    __slots__ = ("paused",)

    def reset(self) -> None:
        super().reset()
        self.paused = False  # the next piece of a request has its time

    def prepare(self, sock: socket.socket) -> None:
        super().prepare(sock)
        if self.run.load.read_bytes_per_second is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)

    def transmit(self, exchange: Exchange) -> None:
        if not self.run.load.send_bytes_per_second:
            super().transmit(exchange)
            return
        self.unsent.append(memoryview(exchange.request))
        if not self.paused:
            self.trickle()

    def flush(self) -> None:
        if not self.run.load.send_bytes_per_second:
            super().flush()

    def trickle(self) -> None:
        """The next piece of what is to be sent."""
        rate = self.run.load.send_bytes_per_second
        self.paused = False
        if not (self.unsent and rate):
            return
        count = 0
        try:
            count = self.send(self.unsent[0][:max(1, int(rate * PACE))])
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(name_of(error))
            return
        self.run.window.sent += count
        self.unsent[0] = self.unsent[0][count:]
        if not self.unsent[0]:
            self.unsent.popleft()
        self.paused = True
        self.after(max(count, 1) / rate, self.trickle)

    def receive(self, most: int = 0) -> int:
        rate = self.run.load.read_bytes_per_second
        if rate and self.held:
            most = max(1, min(self.run.dialogue.receive_bytes, int(rate * PACE)))
        count = super().receive(most)
        if rate is not None and self.held and self.up:
            self.watch(self.interest & ~READ)
            if rate:
                self.after(count / rate, lambda: self.watch(self.interest | READ))
        return count
