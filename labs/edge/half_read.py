"""What a poller says after half the data was read, and after one of two clients was accepted: level against edge.

The sockets are of the local kind, where a byte sent is there at once: so nothing has to be waited for, and a silent
poller is silent because it has nothing to say.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys

try:
    select.epoll().close()
except (AttributeError, OSError):
    print(f"{sys.platform} has no select.epoll here", file=sys.stderr)
    raise SystemExit(69) from None


def wakeups(trigger: int) -> dict[str, int]:
    """How often the poller speaks (0 or 1 each) with EPOLLIN | trigger."""
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll() as poller:
        poller.register(ours, select.EPOLLIN | trigger)
        theirs.sendall(bytes(100))
        counted = {"first": len(poller.poll(0))}
        ours.recv(50)
        counted["half_read"] = len(poller.poll(0))
        theirs.sendall(b"x")
        counted["more_arrived"] = len(poller.poll(0))
        ours.recv(10)
        poller.modify(ours, select.EPOLLIN | trigger)
        counted["rearmed"] = len(poller.poll(0))
    return counted


def second_client(trigger: int) -> int:
    """Two clients knock at once and one is accepted: whether the poller speaks of the other."""
    with socket.socket(socket.AF_UNIX) as door, select.epoll() as poller:
        door.bind(f"\0half-read-{os.getpid()}-{trigger}")  # a name without a file, Linux only
        door.listen(8)
        poller.register(door, select.EPOLLIN | trigger)
        with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
            one.connect(door.getsockname())
            other.connect(door.getsockname())
            poller.poll(0)
            door.accept()[0].close()
            return len(poller.poll(0))


level, edge = wakeups(0), wakeups(select.EPOLLET)
figures = {f"level_{what}": count for what, count in level.items()}
figures |= {f"edge_{what}": count for what, count in edge.items()}
figures |= {"level_second_client": second_client(0), "edge_second_client": second_client(select.EPOLLET)}
print(json.dumps(figures))
