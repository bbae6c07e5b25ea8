"""The closed loop in its common case: small messages, one in flight, whole answers in, whole requests out.

One clock reading a request. Anything else that happens goes to the connection's own methods, and what is
counted goes where they count it.
"""

from __future__ import annotations

import time
from collections.abc import Sized

from clients.pollers import MOST, READ
from clients.running import RunningLoad

clock = time.perf_counter_ns


def run_fast(run: RunningLoad, orders: Sized, until: int) -> None:
    """Goes on until an order has come, the clock shows `until`, or nothing of this kind happens."""
    wait, sockets, window, now = run.poller.wait, run.sockets, run.window, 0
    most, size = run.dialogue.receive_bytes, run.dialogue.exchange(0).length  # all requests are of one size
    counts = window.latency
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
