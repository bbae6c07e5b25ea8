"""How often a server receives from a client that never pauses before it gets to a quiet one that is ready as well.

The loud client is a process of its own, which fills its socket faster than the server empties it. Level trigger: one
receive per report. Edge trigger: receive until nothing is left, as the manual asks; or some turns each.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

try:
    select.epoll().close()
except (AttributeError, OSError):
    print(f"{sys.platform} has no select.epoll here", file=sys.stderr)
    raise SystemExit(69) from None

PIECE_BYTES = 256
MOST = 100
"""Receives after which the quiet client counts as forgotten: less than lies in the socket at any time, so that this
figure does not depend on which of the two processes is the faster."""


def receives_before_quiet(trigger: int, turns: int) -> int:
    """Serves both until the quiet one had its turn. turns: receives from a client before it is the next one's turn."""
    loud, shouting = socket.socketpair()
    quiet, whispering = socket.socketpair()
    shouter = os.fork()
    if shouter == 0:
        loud.close()
        try:
            while True:  # until it is killed
                shouting.sendall(bytes(1 << 20))
        finally:
            os._exit(1)
    shouting.close()
    try:
        with loud, quiet, whispering, select.epoll() as poller:
            poller.register(loud, select.EPOLLIN | trigger)
            poller.register(quiet, select.EPOLLIN | trigger)
            select.select([loud], [], [])
            loud.setblocking(False)
            whispering.sendall(b"x")
            received = 0
            while received < MOST:
                for descriptor, _ in poller.poll():
                    if descriptor == quiet.fileno():
                        return received
                    try:
                        for _ in range(turns):
                            loud.recv(PIECE_BYTES)
                            received += 1
                    except BlockingIOError:
                        pass
        return MOST
    finally:
        os.kill(shouter, signal.SIGKILL)
        os.waitpid(shouter, 0)


print(json.dumps({
    "level_receives": receives_before_quiet(0, 1),
    "edge_receives": receives_before_quiet(select.EPOLLET, MOST),
    "edge_in_turns_receives": receives_before_quiet(select.EPOLLET, 4),
}))
