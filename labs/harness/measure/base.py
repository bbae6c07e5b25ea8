"""What a collector is: something that can say, at any moment, what a server has used and holds."""

from __future__ import annotations

from typing import Protocol

from labs.harness.model import Usage


class Collector(Protocol):
    """Looks at one server and its descendants from outside. Must not disturb what it measures."""

    def sample(self) -> Usage:
        """Counters since the server's start and gauges of this moment.

        May block until the source has news (an engine that publishes once a second): the runner samples *before*
        it orders the fleet to begin or end, so that both edges of a window carry the same delay.
        Raises MachineError where the server is gone.
        """
