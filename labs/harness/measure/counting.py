"""Counts of a server's system calls, from the best source there is.

perf counts inside the kernel and slows the server a little; strace stops the server twice at every call, yet needs no
more than a container. Both are for trials of their own, never for those that are timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from labs.harness.deploy.base import Backend, Process
from labs.harness.errors import MachineError, Unavailable
from labs.harness.measure import perf, strace
from labs.harness.measure.calls import CallCounter

Source = Literal["auto", "perf", "strace"]


@contextmanager
def count_calls(backend: Backend, server: Process, source: Source = "auto") -> Iterator[CallCounter]:
    """A counter attached to `server`; "auto" takes perf where it works, else strace.

    Raises MachineError, with the mend, where neither can be had, or not the one asked for.
    """
    refusal: MachineError | None = None
    with ExitStack() as stack:
        counter: CallCounter | None = None
        if source != "strace":
            try:
                counter = stack.enter_context(perf.attach(server))
            except MachineError as error:
                if source == "perf":
                    raise
                refusal = error
        if counter is None:
            try:
                counter = stack.enter_context(strace.count(backend, server))
            except MachineError as error:
                if refusal is None:
                    raise
                raise Unavailable(error.what, f"{error.why}; {refusal.what}: {refusal.why}", error.try_this) from error
        yield counter
