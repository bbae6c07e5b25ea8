"""System calls of a server: what one is, and what counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Call:
    """One system call."""

    at_seconds: float
    """When it was made, since the epoch, by the server machine's clock."""
    seconds: float | None
    """How long it took; None: it had not returned when the tracer let go, or its thread ended in it."""
    thread: int
    """Thread id, as the tracer sees it."""
    name: str
    arguments: str
    """As strace prints them, without what clients sent."""
    result: str
    """What came back, with strace's comment: "1 (in [4])", "-1 EAGAIN (…)", "?"."""
    error: str = ""
    """Symbol of the error: "EAGAIN", "ERESTARTSYS"; "" for none."""

    @property
    def ended_seconds(self) -> float | None:
        return None if self.seconds is None else self.at_seconds + self.seconds

    @property
    def value(self) -> int | None:
        """The number it returned, None where it returned none."""
        word = self.result.partition(" ")[0].partition("<")[0]
        try:
            return int(word, 0)
        except ValueError:
            return None


@dataclass(frozen=True)
class Counts:
    """System calls by name, over a window."""

    calls: dict[str, int]
    seconds: float
    source: str
    """Which tool counted."""
    disturbance: str
    """What the counting did to the server."""

    @property
    def total(self) -> int:
        return sum(self.calls.values())


class CallCounter(Protocol):
    """Counts what a server calls between `begin` and `end`. A context manager's value: leaving lets the server go."""

    source: str
    disturbance: str

    def begin(self) -> None:
        """Opens the window. What is under way already is not in it unless it ends within (strace)."""

    def end(self) -> Counts:
        """Closes the window. Raises MachineError where the tool failed meanwhile."""


def counted(calls: Iterable[Call], begin: float, end: float) -> dict[str, int]:
    """Calls by name, the most frequent first, that returned after `begin` and not after `end` (epoch seconds)."""
    names = Counter(call.name for call in calls
                    if call.ended_seconds is not None and begin < call.ended_seconds <= end)
    return dict(names.most_common())
