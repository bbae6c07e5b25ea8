"""The truth table's third column: what epoll says of each kind of descriptor. A 1 stands for yes."""

from __future__ import annotations

import errno
import os
import select

from things import closed_number, file_at_its_end, pipe_with_a_byte, report, spoken_to, unavailable

try:
    select.epoll().close()
except (AttributeError, OSError):
    unavailable("select.epoll")


def refusal(poller: select.epoll, descriptor: int) -> int:
    """The error number with which a registration fails; 0 where it is taken."""
    try:
        poller.register(descriptor, select.EPOLLIN)
    except OSError as error:
        return error.errno or -1
    return 0


def reported(poller: select.epoll, number: int) -> bool:
    """Whether `number` is among the ready ones, without waiting."""
    return number in dict(poller.poll(0))


with file_at_its_end() as file, select.epoll() as poller:
    file_refused = refusal(poller, file) == errno.EPERM
with select.epoll() as poller:  # made first, or it would be given the number that has just become free
    closed_refused = refusal(poller, closed_number()) == errno.EBADF
with pipe_with_a_byte() as pipe, select.epoll() as poller:
    poller.register(pipe, select.EPOLLIN)
    pipe_ready = reported(poller, pipe)
with spoken_to() as (ours, _), select.epoll() as poller:
    number = ours.fileno()
    poller.register(number, select.EPOLLIN)
    socket_ready = reported(poller, number)
    ours.close()
    closed_reported = reported(poller, number)
with spoken_to() as (ours, _), select.epoll() as poller:
    number, copy = ours.fileno(), os.dup(ours.fileno())
    poller.register(number, select.EPOLLIN)
    ours.close()  # the number is free, but the open socket behind it lives on in the copy
    ghost_reported = reported(poller, number)
    os.close(copy)

report(socket_ready=int(socket_ready), pipe_ready=int(pipe_ready), file_refused=int(file_refused),
       closed_refused=int(closed_refused), closed_reported=int(closed_reported), ghost_reported=int(ghost_reported))
