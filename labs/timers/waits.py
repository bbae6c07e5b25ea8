"""Times many waits of 0.1 ms and prints how long they really were; the programs beside it say what waits."""

import json
import statistics
import time
from collections.abc import Callable

ASKED_SECONDS = 100e-6
ROUNDS = 50


def report(wait: Callable[[float], object]) -> None:
    """Prints {"waited_us": the median, "early": how many ended before their time}; `wait` is given seconds."""
    waited = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        wait(ASKED_SECONDS)
        waited.append(time.perf_counter() - begin)
    print(json.dumps({"waited_us": statistics.median(waited) * 1e6,
                      "early": sum(seconds < ASKED_SECONDS for seconds in waited)}))
