"""The truth table's second column: what poll() says of each kind of descriptor. A 1 stands for yes."""

from __future__ import annotations

import select

from things import closed_number, file_at_its_end, pipe_with_a_byte, report, spoken_to, unavailable

if not hasattr(select, "poll"):
    unavailable("select.poll")


def answer(*descriptors: int) -> dict[int, int]:
    """Descriptor → events, without waiting."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return dict(poller.poll(0))


with spoken_to() as (ours, theirs):
    socket_ready = bool(answer(ours.fileno()).get(ours.fileno(), 0) & select.POLLIN)
    closed = closed_number()
    both = answer(ours.fileno(), closed)
    names_the_closed = both.get(closed) == select.POLLNVAL
    serves_the_other = bool(both.get(ours.fileno(), 0) & select.POLLIN)
    ours.recv(1)
    theirs.close()
    hangup_named = bool(answer(ours.fileno()).get(ours.fileno(), 0) & select.POLLHUP)
with pipe_with_a_byte() as pipe:
    pipe_ready = bool(answer(pipe).get(pipe, 0) & select.POLLIN)
with file_at_its_end() as file:
    file_ready = bool(answer(file).get(file, 0) & select.POLLIN)

report(socket_ready=int(socket_ready), pipe_ready=int(pipe_ready), file_ready=int(file_ready),
       hangup_named=int(hangup_named), names_the_closed=int(names_the_closed), serves_the_other=int(serves_the_other))
