"""How long a poll lasts that was to last 0.1 ms, on a socket that stays silent."""

import select
import socket
import sys

from waits import report

if not hasattr(select, "poll"):
    print(f"{sys.platform} has no select.poll, or the profile takes it away", file=sys.stderr)
    raise SystemExit(69)

silent, _other = socket.socketpair()
poller = select.poll()
poller.register(silent, select.POLLIN)
report(lambda seconds: poller.poll(seconds * 1000))  # milliseconds: fractions are rounded up to whole ones
