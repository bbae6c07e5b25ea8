"""What send() does when the peer does not read: how much it takes, and whether it would wait for the rest."""

from __future__ import annotations

import json
import socket

MEBIBYTE = 1 << 20
OFFERED = 50 * MEBIBYTE

with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as deaf:
    speaker = door.accept()[0]
    with speaker:
        speaker.setblocking(False)
        message = memoryview(bytes(OFFERED))
        first = taken = speaker.send(message)
        would_block = 0
        while taken < OFFERED and not would_block:
            try:
                taken += speaker.send(message[taken:])
            except BlockingIOError:
                would_block = 1
        speaker.settimeout(0.2)
        waited = 0
        try:
            speaker.sendall(message[taken:])
        except TimeoutError:
            waited = 1
        deaf.close()

print(json.dumps({"offered_bytes": OFFERED, "taken_bytes": taken, "first_send_share": first / OFFERED,
                  "taken_share": taken / OFFERED, "would_block": would_block, "sendall_waited": waited}))
