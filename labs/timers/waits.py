"""How long waits of 0.1 ms really last: in select, in the poller that `selectors` picks, and in asyncio.sleep.

Prints one line of JSON. The figures in _us are medians; `early` counts waits that ended before their time,
in select and in the picked poller; default_over_select_times is the picked poller's median over select's.
"""

import asyncio
import json
import select
import selectors
import socket
import statistics
import time
from collections.abc import Callable

ASKED_SECONDS = 100e-6
ROUNDS = 50


def waits(wait: Callable[[float], object]) -> list[float]:
    """Microseconds that each of ROUNDS waits lasted."""
    lasted = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        wait(ASKED_SECONDS)
        lasted.append((time.perf_counter() - begin) * 1e6)
    return lasted


def sleep_us(loop: asyncio.AbstractEventLoop | None = None) -> float:
    """The median of asyncio.sleep, on asyncio's own choice of loop or on another."""
    with asyncio.Runner(loop_factory=(lambda: loop) if loop else None) as runner:
        return statistics.median(waits(lambda seconds: runner.run(asyncio.sleep(seconds))))


silent, other = socket.socketpair()  # Windows wants something to watch
with silent, other, selectors.DefaultSelector() as selector:
    selector.register(silent, selectors.EVENT_READ)
    on_select = waits(lambda seconds: select.select([silent], [], [], seconds))
    on_default = waits(selector.select)
select_us, default_us = statistics.median(on_select), statistics.median(on_default)
print(json.dumps({
    "select_us": select_us, "default_us": default_us, "default_over_select_times": default_us / select_us,
    "early": sum(lasted < ASKED_SECONDS * 1e6 for lasted in on_select + on_default),
    "asyncio_us": sleep_us(),
    "asyncio_on_select_us": sleep_us(asyncio.SelectorEventLoop(selectors.SelectSelector())),
}))
