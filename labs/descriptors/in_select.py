"""The truth table's first column: what select() says of each kind of descriptor. A 1 stands for yes."""

from __future__ import annotations

import select

from things import closed_number, file_at_its_end, pipe_with_a_byte, report, spoken_to


def answer(*descriptors: int) -> list[int] | None:
    """Who is readable, at once or within a second; None where the call fails."""
    try:
        return select.select(descriptors, [], [], 1.0)[0]
    except (OSError, ValueError):
        return None


with spoken_to() as (ours, theirs):
    socket_ready = answer(ours.fileno()) == [ours.fileno()]
    whole_call_fails = answer(ours.fileno(), closed_number()) is None
    ours.recv(1)
    theirs.close()
    hangup_readable = answer(ours.fileno()) == [ours.fileno()]
with pipe_with_a_byte() as pipe:
    pipe_ready = answer(pipe) == [pipe]
with file_at_its_end() as file:
    file_ready = answer(file) == [file]

report(socket_ready=int(socket_ready), pipe_ready=int(pipe_ready), file_ready=int(file_ready),
       hangup_readable=int(hangup_readable), whole_call_fails=int(whole_call_fails))
