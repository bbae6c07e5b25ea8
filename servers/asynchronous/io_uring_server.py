"""Asynchronous I/O: the kernel receives and sends by itself and reports when it is done (io_uring).

The other models ask *when* a call would not wait, then call. Here the call itself is handed over, with
its buffer, and the program learns of it when the bytes are already there or gone. One system call
takes all new requests along and brings all results back: the more clients are active, the fewer calls each
costs.

Its price: every connection that waits lends the kernel a buffer, 16 KiB even if it never says a word.
A client that never reads keeps one send under way and is not received from meanwhile. Linux 6.1 or later.
"""

from __future__ import annotations

import socket

from servers.asynchronous.ring import ACCEPT, RECV, SEND, TIMEOUT, Ring
from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("servers.asynchronous.ring.IO_URING",)


def serve(listener: socket.socket, ring_type: type[Ring] = Ring) -> None:
    clients: dict[int, socket.socket] = {}  # by descriptor; each has one operation under way, never more
    door = listener.fileno()
    ring = ring_type()
    ring.accept(door)
    while True:
        for operation, descriptor, buffer, result, more in ring.wait():
            if operation == TIMEOUT:  # there may be room again
                ring.accept(door)
            elif operation == ACCEPT:
                if result >= 0:
                    clients[result] = socket.socket(listener.family, listener.type, fileno=result)
                    ring.recv(result, bytearray(BUFFER_BYTES))
                if -result in EXHAUSTED:
                    ring.timeout(RETRY_SECONDS)
                elif not more:  # the kernel has stopped accepting: ask it again
                    ring.accept(door)
            elif result <= 0:  # the client has said goodbye or vanished
                clients.pop(descriptor).close()
            elif operation == RECV:
                ring.send(descriptor, bytearray(transform(bytes(buffer[:result]))))
            elif operation == SEND and result < len(buffer):  # the kernel did not take it all
                ring.send(descriptor, buffer[result:])
            else:
                ring.recv(descriptor, bytearray(BUFFER_BYTES))


if __name__ == "__main__":
    run(serve, REQUIRES)
