"""Signal-driven I/O: the kernel sends a signal when something happens to a socket, the program then looks.

O_ASYNC makes a socket send signals to its owner (F_SETOWN); F_SETSIG chooses a real-time signal, which the
kernel queues with the descriptor it is about. The program blocks the signal and takes one after another
with `sigtimedwait`: there is no handler that could interrupt it anywhere.

A signal tells of a *change*, as an edge does, so each client is talked to until a call would wait. The queue
is bounded (RLIMIT_SIGPENDING): what finds no place in it comes as one plain SIGIO without a descriptor,
and then everybody must be asked. Linux only: macOS has neither F_SETSIG nor sigtimedwait.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys

from servers.contract import EXHAUSTED, RETRY_SECONDS, run
from servers.multiplexing.epoll_edge_server import talk  # a signal and an edge ask for the same

REQUIRES = ("signal.sigtimedwait", "fcntl.F_SETSIG")

libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class SignalInfo(ctypes.Structure):
    """siginfo_t as Linux fills it for F_SETSIG (man 2 sigaction); Python's own leaves out si_fd."""

    _fields_ = [("si_signo", ctypes.c_int), ("si_errno", ctypes.c_int), ("si_code", ctypes.c_int),
                ("si_band", ctypes.c_long), ("si_fd", ctypes.c_int), ("rest", ctypes.c_char * 128)]


def serve(listener: socket.socket) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN, signal.SIGIO})  # they queue until they are taken
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    watch(listener)
    unfinished = {door}  # descriptors something has happened to and that are not yet drained
    full = False
    while True:
        info = next_signal(0 if unfinished else RETRY_SECONDS if full else None)
        if info.si_signo == signal.SIGIO:  # the queue was full: it may be about anybody
            unfinished.update(clients, (door,))
        elif info.si_signo:
            unfinished.update({info.si_fd} & clients.keys() | {info.si_fd} & {door})  # it may have left since
        if full:  # there may be room again, and no signal will say so
            unfinished.add(door)
        for descriptor in list(unfinished):
            if descriptor == door:
                unfinished.remove(door)
                try:
                    while True:
                        connection, _ = listener.accept()
                        watch(connection)
                        clients[connection.fileno()] = connection
                        unfinished.add(connection.fileno())  # what came before we watched gave no signal
                except OSError as error:  # nobody else there, or no descriptor left for them
                    full = error.errno in EXHAUSTED
                continue
            left, drained = talk(clients[descriptor], pending.pop(descriptor, b""))
            if left:
                pending[descriptor] = left
            if drained:
                unfinished.remove(descriptor)
            if left is None:
                clients.pop(descriptor).close()


def watch(connection: socket.socket) -> None:
    """Has every change of the socket signalled, with its descriptor, to this process."""
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGRTMIN)
    connection.setblocking(False)
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def next_signal(seconds: float | None) -> SignalInfo:
    """Takes the next signal off the queue; after so many seconds (None: never) one whose si_signo is 0."""
    wanted = (1 << signal.SIGRTMIN - 1 | 1 << signal.SIGIO - 1).to_bytes(128, sys.byteorder)  # a sigset_t
    timeout = None if seconds is None else (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
    info = SignalInfo()
    assert libc
    libc.sigtimedwait(wanted, ctypes.byref(info), timeout)
    return info


if __name__ == "__main__":
    run(serve, REQUIRES)
