"""Two coroutines that wait, in one thread: politely, rudely, and with the rude call handed to another thread.

The figures called times_... say how long both took together, in units of one wait: 1 = at the same time, 2 = one
after the other. threads_seen: how many the process had while both waited politely.
"""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable

WAIT_SECONDS = 0.1

threads_seen = 0


async def polite() -> None:
    global threads_seen
    await asyncio.sleep(WAIT_SECONDS)  # gives the thread back until the time is up
    threads_seen = max(threads_seen, threading.active_count())


async def rude() -> None:
    time.sleep(WAIT_SECONDS)  # keeps the thread, so nobody else in it can go on


async def handed_over() -> None:
    await asyncio.to_thread(time.sleep, WAIT_SECONDS)


async def both(wait: Callable[[], Awaitable[None]]) -> float:
    """How long two of them take, in units of one wait."""
    begin = time.perf_counter()
    await asyncio.gather(wait(), wait())
    return (time.perf_counter() - begin) / WAIT_SECONDS


print(json.dumps({
    "asyncio_sleep_times": asyncio.run(both(polite)), "threads_seen": threads_seen,
    "time_sleep_times": asyncio.run(both(rude)),
    "to_thread_times": asyncio.run(both(handed_over)),
}))
