"""How long a poll really lasts that was to last 0.1 ms. Prints {"poll_us": the median}. Not on Windows."""

import json
import select
import socket
import statistics
import sys
import time

ASKED_MILLISECONDS = 0.1
ROUNDS = 50

if not hasattr(select, "poll"):
    print(f"{sys.platform} has no select.poll, or the profile takes it away", file=sys.stderr)
    raise SystemExit(69)

lasted = []
silent, other = socket.socketpair()
with silent, other:
    poller = select.poll()
    poller.register(silent, select.POLLIN)
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        poller.poll(ASKED_MILLISECONDS)
        lasted.append((time.perf_counter() - begin) * 1e6)
print(json.dumps({"poll_us": statistics.median(lasted)}))
