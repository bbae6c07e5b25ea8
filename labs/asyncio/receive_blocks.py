"""What it costs to receive 64 bytes into room for 256 KiB, as asyncio does, instead of 16 KiB.

Prints {"large_over_small_times": ..., "after_a_large_free_times": ..., "faults_large": ..., "faults_small": ...}: the
CPU time of one over the other's, at first and once a block of 1 MiB has been freed, and the page faults per receive of
each. Needs getrusage (not on Windows).
"""

import json
import socket
import sys

try:
    import resource
except ImportError:
    print(f"{sys.platform} has no getrusage", file=sys.stderr)
    raise SystemExit(69) from None

MESSAGES = 5_000
SMALL, LARGE = 16 * 1024, 256 * 1024


def receive(room: int) -> tuple[float, float]:
    """CPU seconds and page faults of sending and receiving MESSAGES times 64 bytes, each into `room` new bytes."""
    message = bytes(64)
    one, other = socket.socketpair()
    with one, other:
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(MESSAGES):
            one.send(message)
            other.recv(room)
        after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, after.ru_minflt - before.ru_minflt


receive(SMALL)  # warms up
small_seconds, small_faults = receive(SMALL)
large_seconds, large_faults = receive(LARGE)
larger = bytearray(1024 * 1024)
del larger  # glibc: from now on blocks up to this size come from the heap
later_seconds, _ = receive(LARGE)
print(json.dumps({
    "large_over_small_times": large_seconds / small_seconds, "after_a_large_free_times": later_seconds / small_seconds,
    "faults_large": large_faults / MESSAGES, "faults_small": small_faults / MESSAGES,
}))
