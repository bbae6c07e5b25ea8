"""Waiting and copying, timed apart: the two phases of a read.

Waiting: a blocking recv on a connection whose other end keeps silent for a while. Copying: non-blocking recvs of bytes
that already lie in the kernel; only the calls that bring bytes are timed, so no waiting is in the figure.
"""

import json
import select
import socket
import statistics
import threading
import time

WAIT_SECONDS = 0.1
SMALL, MIDDLE, LARGE = 64, 2**20, 16 * 2**20
QUEUE_BYTES = 4 * 2**20  # a wish: the kernel gives what it allows, and a large copy takes the more calls


def connection() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback: ours, theirs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def wait(ours: socket.socket, theirs: socket.socket) -> tuple[float, float]:
    """Seconds that a blocking recv takes, and CPU seconds of them, while the other end is silent for WAIT_SECONDS."""
    later = threading.Timer(WAIT_SECONDS, theirs.sendall, (b"x",))
    later.start()
    clock, cpu = time.perf_counter(), time.thread_time()
    ours.recv(1)
    took = time.perf_counter() - clock, time.thread_time() - cpu
    later.join()
    return took


def copy(ours: socket.socket, theirs: socket.socket, size: int, into: memoryview) -> tuple[float, float]:
    """Seconds and CPU seconds inside the non-blocking recvs that fetch `size` bytes lying ready in the kernel."""
    unsent, unread = memoryview(bytes(size)), size
    seconds = cpu_seconds = 0.0
    while unread:
        try:
            while unsent:
                unsent = unsent[theirs.send(unsent):]
        except BlockingIOError:  # the queues are full
            pass
        select.select([ours], [], [])  # what may still be on its way is waited for here, outside the clock
        clock, cpu = time.perf_counter(), time.thread_time()
        unread -= ours.recv_into(into[:unread])
        seconds += time.perf_counter() - clock
        cpu_seconds += time.thread_time() - cpu
    return seconds, cpu_seconds


def main() -> None:
    ours, theirs = connection()
    waited, worked = wait(ours, theirs)
    ours.setblocking(False)
    theirs.setblocking(False)
    into = memoryview(bytearray(b"x" * LARGE))  # written once, so that the memory is really there

    copies = {size: [copy(ours, theirs, size, into) for _ in range(times)]
              for size, times in ((SMALL, 50), (MIDDLE, 10), (LARGE, 5))}
    small, middle, large = (statistics.median(seconds for seconds, _ in found) for found in copies.values())
    busy = [sum(column) for column in zip(*copies[LARGE], strict=True)]
    print(json.dumps({
        "wait_us": waited * 1e6, "wait_cpu_share": worked / waited,
        "copy_64_us": small * 1e6, "copy_1mib_us": middle * 1e6, "copy_16mib_us": large * 1e6,
        "copy_growth_times": large / small, "copy_cpu_share": busy[1] / busy[0],
    }))


if __name__ == "__main__":
    main()
