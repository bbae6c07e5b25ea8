"""What a run tells while it goes on: a stream of events, so that no part of it knows a screen.

Whoever wants to follow a run hands it a listener; the terminal's live display is one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labs.harness.model import Result, Run, Trial


@dataclass(frozen=True)
class Note:
    """Something the user should know: which backend and why, an image that is being built, a clamped limit."""

    text: str


@dataclass(frozen=True)
class RunStarted:
    run: Run


@dataclass(frozen=True)
class RunExtended:
    """The trials planned are done and some claims are undecided: as many repeats again follow for those."""

    run: Run
    undecided: tuple[str, ...]
    """The claims' keys."""


@dataclass(frozen=True)
class TrialStarted:
    trial: Trial


@dataclass(frozen=True)
class TrialProgress:
    """The fleet's `progress` event, about twice a second."""

    trial: Trial
    progress: dict[str, Any]


@dataclass(frozen=True)
class TrialEnded:
    result: Result


@dataclass(frozen=True)
class RunEnded:
    run: Run


Event = Note | RunStarted | RunExtended | TrialStarted | TrialProgress | TrialEnded | RunEnded
Listener = Callable[[Event], None]
