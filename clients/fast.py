"""The closed loop in its common case: small messages, one in flight, whole answers in, whole requests out.

One clock reading a request. Anything else that happens goes to the connection's own methods, and what is
counted goes where they count it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clients.pollers import MOST, READ

if TYPE_CHECKING:
    from clients.engine import Engine

clock = time.perf_counter_ns


def run_fast(engine: Engine) -> None:
    """Goes on until an order has come, the engine's next tick is due, or nothing of this kind happens."""
    wait, sockets, orders, until = engine.poller.wait, engine.sockets, engine.orders, engine.tick_at
    most, window, now = engine.dialogue.receive_bytes, engine.window, 0
    counts = window.latency
    size = engine.connections[0].exchange.length if engine.connections else 0
    while now < until and not orders:
        count = received = 0
        for descriptor, event in wait(0.1, MOST):
            connection = sockets[descriptor]
            if event != READ:
                connection.ready(event)
                continue
            try:
                data = connection.recv(most)
            except OSError:
                connection.ready(READ)  # meets the same error, and knows what to do
                continue
            if data != connection.expect:
                connection.received(data)
                continue
            now = clock()
            counts[(now - connection.started) // 1000] += 1
            connection.started = now
            connection.answers += 1
            connection.exchange = exchange = connection.exchange.next
            connection.expect = exchange.whole
            count += 1
            received += len(data)
            try:
                if (sent := connection.send(exchange.request)) != size:
                    window.sent += sent - size
                    connection.short(sent, exchange)
            except OSError as error:
                window.sent -= size
                connection.send_failed(error, exchange)
        window.sent += count * size
        window.received += received
        if not count:
            break
