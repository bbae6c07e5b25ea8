"""How many real-time signals come of a hundred datagrams: with room in the queue, and with room for 32.

F_SETSIG has the kernel send a real-time signal instead of SIGIO and queue one per event, up to the limit
RLIMIT_SIGPENDING. What finds no room is told by one plain SIGIO.
Prints {"queued": ..., "queued_when_short": ..., "overflow_signals": ...}. Linux only.
"""

import json
import os
import signal
import socket
import sys

try:
    import fcntl
    import resource
    from fcntl import F_SETSIG
except ImportError:
    print(f"{sys.platform} has no F_SETSIG", file=sys.stderr)
    raise SystemExit(69) from None

DATAGRAMS = 100
SHORT = 32
WANTED = {signal.SIGRTMIN, signal.SIGIO}


def send_and_count() -> tuple[int, int]:
    """Real-time signals and SIGIOs that are pending after a hundred datagrams. Takes both away."""
    for _ in range(DATAGRAMS):
        sender.sendto(b"hello world", receiver.getsockname())  # over loopback it has arrived when this returns
    numbers = []
    while found := signal.sigtimedwait(WANTED, 0):
        numbers.append(found.si_signo)
    for _ in range(DATAGRAMS):
        receiver.recvfrom(1024)
    return numbers.count(signal.SIGRTMIN), numbers.count(signal.SIGIO)


receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
receiver.bind(("127.0.0.1", 0))
signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
fcntl.fcntl(receiver, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(receiver, F_SETSIG, signal.SIGRTMIN)
fcntl.fcntl(receiver, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

queued, _ = send_and_count()
hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
resource.setrlimit(resource.RLIMIT_SIGPENDING, (SHORT, hard))
queued_when_short, overflow = send_and_count()
print(json.dumps({"queued": queued, "queued_when_short": queued_when_short, "overflow_signals": overflow}))
