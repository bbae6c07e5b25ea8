"""How many signals come of a hundred datagrams that arrive while the signal is blocked: SIGIO, the plain one.

Prints {"handler_calls": ..., "datagrams": ...}. Needs O_ASYNC (Linux, macOS and other Unix systems).
"""

import json
import os
import select
import signal
import socket
import sys

try:
    import fcntl
    from os import O_ASYNC
except ImportError:
    print(f"{sys.platform} has no O_ASYNC", file=sys.stderr)
    raise SystemExit(69) from None

DATAGRAMS = 100
PATIENCE_SECONDS = 5.0

calls = 0


def on_signal(number: int, frame: object) -> None:
    global calls
    calls += 1


receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
receiver.bind(("127.0.0.1", 0))
signal.signal(signal.SIGIO, on_signal)
fcntl.fcntl(receiver, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(receiver, fcntl.F_SETFL, os.O_NONBLOCK | O_ASYNC)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})  # as while a handler runs
for _ in range(DATAGRAMS):
    sender.sendto(b"hello world", receiver.getsockname())
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})  # what is pending is delivered here

datagrams = 0
while datagrams < DATAGRAMS and select.select([receiver], [], [], PATIENCE_SECONDS)[0]:
    receiver.recvfrom(1024)
    datagrams += 1
print(json.dumps({"handler_calls": calls, "datagrams": datagrams}))
