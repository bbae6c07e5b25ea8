"""How many clients are connected before anybody calls accept(), and what becomes of one too many: listen(3)."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys

ASKED = 3
CLIENTS = 12
WAIT_SECONDS = 3.0 if sys.platform == "win32" else 0.4
"""Long for the loopback, and shorter than the second after which a client's kernel tries again; Windows refuses
only after having tried for about two seconds."""

with socket.socket() as door:
    door.bind(("127.0.0.1", 0))
    door.listen(ASKED)
    clients = [socket.socket() for _ in range(CLIENTS)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(door.getsockname())
    waiting, connected, refused = list(clients), 0, 0
    while waiting:
        _, ready, failed = select.select([], waiting, waiting, WAIT_SECONDS)
        if not (ready or failed):
            break
        for client in {*ready, *failed}:
            waiting.remove(client)
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                refused += 1
            else:
                connected += 1
    talked = 0
    for client in clients:
        if client not in waiting:
            with contextlib.suppress(OSError):  # refused
                talked += client.send(b"hello, is anybody there?") > 0
    for client in clients:
        client.close()

print(json.dumps({"asked": ASKED, "connected": connected, "refused": refused, "left_waiting": len(waiting),
                  "sent_unaccepted": talked}))
