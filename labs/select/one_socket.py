"""What it costs to ask select before every recv, when there is only one socket and its data is there.

Both ways are taken in turn, thousands of times, within one process, so that nobody has to be woken up. Prints the
time of the one way over that of the other.
"""

import json
import select
import socket
import time

ROUNDS, TIMES = 8, 1000
MESSAGE = b"x" * 64


def straight(sender: socket.socket, receiver: socket.socket) -> None:
    sender.send(MESSAGE)
    receiver.recv(64)


def watched(sender: socket.socket, receiver: socket.socket) -> None:
    sender.send(MESSAGE)
    select.select([receiver], [], [])
    receiver.recv(64)


sender, receiver = socket.socketpair()
spent = {straight: 0.0, watched: 0.0}
for _ in range(ROUNDS):
    for way in spent:
        before = time.perf_counter()
        for _ in range(TIMES):
            way(sender, receiver)
        spent[way] += time.perf_counter() - before
print(json.dumps({"select_over_blocking_times": spent[watched] / spent[straight]}))
