"""How long asyncio.sleep(0.0001) lasts: on asyncio's own choice of loop, and on a loop that waits in select.

Prints {"default_us": ..., "on_select_us": ...}, medians.
"""

import asyncio
import json
import selectors
import statistics
import time

ASKED_SECONDS = 100e-6
ROUNDS = 50


async def sleep_again_and_again() -> float:
    """The median sleep, in microseconds."""
    slept = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        await asyncio.sleep(ASKED_SECONDS)
        slept.append(time.perf_counter() - begin)
    return statistics.median(slept) * 1e6


def select_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


default = asyncio.run(sleep_again_and_again())
with asyncio.Runner(loop_factory=select_loop) as runner:
    on_select = runner.run(sleep_again_and_again())
print(json.dumps({"default_us": default, "on_select_us": on_select}))
