"""io_uring by hand: two rings in memory shared with the kernel, and the one system call that moves both.

The program writes *submissions* ("receive into this buffer") into one ring, the kernel writes
*completions* ("received 64 bytes") into the other. `io_uring_enter` hands over any number of submissions
and waits for completions: one system call for all that happened since the last one.

Whoever submits lends the buffer to the kernel, which reads or writes it at a time of its own. So the
ring keeps every buffer until its completion gives it back: freed earlier, its memory would belong to
something else while the kernel still uses it.

Memory order: no barriers are needed here. With SINGLE_ISSUER and DEFER_TASKRUN the kernel touches the
rings only within our own `io_uring_enter`, on our own thread, never while we look at them; a ring with
a kernel thread of its own (SQPOLL) would need acquire and release on heads and tails.

Layouts and numbers: <linux/io_uring.h>, man 7 io_uring, man 2 io_uring_enter; the system calls have the
same numbers on x86-64 and aarch64. Needs Linux 6.1 for DEFER_TASKRUN (multishot accept came with 5.19).
IO_URING is defined where all this works, so that REQUIRES can name it; a container engine's seccomp profile or the
sysctl kernel.io_uring_disabled may forbid it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from itertools import count
from typing import NamedTuple

SETUP, ENTER = 425, 426  # the system calls
SINGLE_ISSUER, DEFER_TASKRUN = 1 << 12, 1 << 13  # IORING_SETUP_*
GET_EVENTS = 1 << 0  # IORING_ENTER_GETEVENTS
TIMEOUT, ACCEPT, SEND, RECV = 11, 13, 26, 27  # IORING_OP_*
MULTISHOT = 1 << 0  # IORING_ACCEPT_MULTISHOT
MORE = 1 << 1  # IORING_CQE_F_MORE
SUBMISSIONS_OFFSET = 0x10000000  # IORING_OFF_SQES

SUBMISSION = struct.Struct("=BBHiQQIIQ24x")  # opcode flags ioprio fd off addr len op_flags user_data
COMPLETION = struct.Struct("=QiI")  # user_data res flags
TIMESPEC = struct.Struct("=qq")  # seconds, nanoseconds


class Completion(NamedTuple):
    """One operation the kernel reports on.

    result: what the system call would have returned, or the negative errno; for ACCEPT the new descriptor.
    more: True if the operation goes on and will report again (multishot).
    """

    operation: int
    descriptor: int
    buffer: bytearray
    result: int
    more: bool


def system_call(*arguments: int | ctypes.Array | None) -> int:
    """Any system call by its number; raises OSError where it fails."""
    result = _libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Ring:
    """The pair of rings. Raises OSError where the kernel does not grant it."""

    def __init__(self, entries: int = 1024) -> None:
        parameters = (ctypes.c_uint32 * 30)()  # struct io_uring_params
        parameters[2] = SINGLE_ISSUER | DEFER_TASKRUN
        self.descriptor = system_call(SETUP, entries, parameters)
        self.entries, self.completions = parameters[0:2]  # granted: powers of two
        head, tail, _, _, _, _, array = parameters[10:17]  # struct io_sqring_offsets, in bytes
        self.submission_head, self.submission_tail = head // 4, tail // 4
        head, tail, _, _, _, self.completions_offset = parameters[20:26]  # struct io_cqring_offsets
        self.completion_head, self.completion_tail = head // 4, tail // 4

        size = max(array + 4 * self.entries, self.completions_offset + COMPLETION.size * self.completions)
        self.shared = mmap.mmap(self.descriptor, size)  # both rings (IORING_FEAT_SINGLE_MMAP)
        self.submissions = mmap.mmap(self.descriptor, self.entries * SUBMISSION.size, offset=SUBMISSIONS_OFFSET)
        self.words = memoryview(self.shared).cast("I")
        for index in range(self.entries):  # slot i of the ring is submission i, for ever
            self.words[array // 4 + index] = index

        self.numbers = count()
        self.lent: dict[int, tuple[int, int, bytearray]] = {}  # what the kernel works on: operation, descriptor, buffer

    def accept(self, listener: int) -> None:
        """Accepts connections on and on: one completion each, as long as it says `more`."""
        self.submit(ACCEPT, listener, bytearray(), priority=MULTISHOT)

    def recv(self, descriptor: int, buffer: bytearray) -> None:
        """Receives into `buffer`, once."""
        self.submit(RECV, descriptor, buffer, len(buffer))

    def send(self, descriptor: int, buffer: bytearray) -> None:
        """Sends `buffer` or, as send does, the beginning of it."""
        self.submit(SEND, descriptor, buffer, len(buffer))

    def timeout(self, seconds: float) -> None:
        """Completes after a time, with the result -ETIME."""
        self.submit(TIMEOUT, -1, bytearray(TIMESPEC.pack(int(seconds), int(seconds % 1 * 1e9))), 1)

    def submit(self, operation: int, descriptor: int, buffer: bytearray, length: int = 0, priority: int = 0) -> None:
        """Writes one submission into the ring; the kernel learns of it at the next enter()."""
        tail = self.words[self.submission_tail]
        while tail - self.words[self.submission_head] & 0xFFFFFFFF == self.entries:
            self.enter(0)
        number = next(self.numbers)
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if length else 0
        SUBMISSION.pack_into(self.submissions, tail % self.entries * SUBMISSION.size,
                             operation, 0, priority, descriptor, 0, address, length, 0, number)
        self.keep(number, operation, descriptor, buffer)
        self.words[self.submission_tail] = tail + 1 & 0xFFFFFFFF

    def keep(self, number: int, operation: int, descriptor: int, buffer: bytearray) -> None:
        """Holds the buffer until the operation completes."""
        self.lent[number] = operation, descriptor, buffer

    def enter(self, wanted: int) -> None:
        """Hands all submissions to the kernel and waits until `wanted` completions are there."""
        waiting = self.words[self.submission_tail] - self.words[self.submission_head] & 0xFFFFFFFF
        try:
            system_call(ENTER, self.descriptor, waiting, wanted, GET_EVENTS, None, 0)
        except OSError as error:  # a signal came, or completions must be taken before there is room for more
            if error.errno not in (errno.EINTR, errno.EAGAIN, errno.EBUSY):
                raise

    def wait(self) -> list[Completion]:
        """Submits what was written, waits for at least one completion, and takes all there are."""
        self.enter(1)
        head, tail = self.words[self.completion_head], self.words[self.completion_tail]
        completions = []
        while head != tail:
            offset = self.completions_offset + head % self.completions * COMPLETION.size
            number, result, flags = COMPLETION.unpack_from(self.shared, offset)
            more = bool(flags & MORE)
            operation, descriptor, buffer = self.lent[number] if more else self.lent.pop(number)
            completions.append(Completion(operation, descriptor, buffer, result, more))
            head = head + 1 & 0xFFFFFFFF
        self.words[self.completion_head] = head
        return completions

    def close(self) -> None:
        """Gives everything back to the system; operations under way are cancelled."""
        self.words.release()
        self.shared.close()
        self.submissions.close()
        os.close(self.descriptor)


if sys.platform == "linux":
    _libc = ctypes.CDLL(None, use_errno=True)
    try:
        Ring(1).close()
        IO_URING = True
    except OSError:
        pass
