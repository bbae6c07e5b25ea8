"""Signal-driven I/O over datagrams: the kernel sends a signal when one arrives, the program then fetches it.

O_ASYNC makes the socket send signals to its owner (F_SETOWN); F_SETSIG chooses a real-time signal, of which
the kernel queues one per event. The program blocks the signal and takes it with `sigwaitinfo`: there
is no handler that could interrupt it anywhere.

The queue of signals is bounded (RLIMIT_SIGPENDING). A signal that finds no place comes as one plain SIGIO
instead, so a signal says "there is something", never how much: each time the socket is drained. Datagrams that find no
room in the socket's buffer are lost, as ever. Linux only: macOS has neither F_SETSIG nor sigwaitinfo.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket

from servers.contract import run, transform

REQUIRES = ("signal.sigwaitinfo", "fcntl.F_SETSIG")
PROTOCOL = "udp"

DATAGRAM_BYTES = 65_535
"""No datagram is longer: the length field of UDP has 16 bits (RFC 768)."""


def serve(listener: socket.socket) -> None:
    signals = {signal.SIGRTMIN, signal.SIGIO}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # they wait in a queue until they are asked for
    listener.setblocking(False)
    fcntl.fcntl(listener, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(listener, fcntl.F_SETSIG, signal.SIGRTMIN)
    fcntl.fcntl(listener, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    while True:
        drain(listener)  # first what came before the signals were switched on
        signal.sigwaitinfo(signals)


def drain(listener: socket.socket) -> None:
    """Answers every datagram that is there. Never waits."""
    while True:
        try:
            data, sender = listener.recvfrom(DATAGRAM_BYTES)
            listener.sendto(transform(data), sender)
        except BlockingIOError:  # nothing is left, or no room to send: then the answer is lost
            return
        except OSError:  # an earlier answer did not reach its client, or this one cannot be sent
            pass


if __name__ == "__main__":
    run(serve, REQUIRES, kind=socket.SOCK_DGRAM)
