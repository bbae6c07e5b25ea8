"""Gives orders to a fleet and takes its answers. The protocol is described in clients/fleet.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from labs.harness.deploy.base import Backend, Deadline, Process, Spec
from labs.harness.errors import InputError, MachineError
from labs.harness.model import FleetResult, Load, Profile

Address = tuple[str, int]
Progress = Callable[[dict[str, Any]], None]

ANSWER_SECONDS = 20.0
"""An order that is not answered for so long means that the fleet is stuck."""


class Fleet:
    """A fleet process that has reported for duty. It lives through many loads."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.ready = self._await("ready", Deadline(ANSWER_SECONDS))

    def verify(self, target: Address, protocol: str, timeout: float = 5) -> str | None:
        """None if the server at `target` answers rightly, else what it did wrong."""
        event = self._ask({"order": "verify", "target": target, "protocol": protocol, "timeout": timeout}, "verified")
        return None if event["ok"] else str(event["why"])

    def load(self, target: Address, load: Load) -> dict[str, Any]:
        """Opens the load's connections and sets them to work; returns the `connected` event."""
        wait = load.connect_seconds + load.settle_seconds + ANSWER_SECONDS
        return self._ask({"order": "load", "target": target, "load": load.order()}, "connected", wait)

    def change(self, **knobs: Any) -> None:
        """Changes the running load: rate, active, think_seconds."""
        self._ask({"order": "set", "load": knobs}, "set")

    def begin(self) -> None:
        """Zeroes the counters: a window opens."""
        self._ask({"order": "begin"}, "begun")

    def end(self) -> FleetResult:
        """The window closes. Raises MachineError where the fleet could not account for it."""
        return FleetResult.model_validate(self._ask({"order": "end"}, "result"))

    def stop(self) -> None:
        """Closes all connections."""
        self._ask({"order": "stop"}, "stopped")

    def watch(self, seconds: float, progress: Progress | None = None) -> None:
        """Lets the load run for `seconds`, handing on what the fleet reports meanwhile."""
        deadline = Deadline(seconds)
        while (left := deadline.left()) > 0:
            try:
                event = self._read(left)
            except TimeoutError:
                return
            if event["event"] == "progress" and progress:
                progress(event)

    def _ask(self, order: dict[str, Any], expected: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        self.process.write(json.dumps(order))
        return self._await(expected, Deadline(seconds))

    def _await(self, expected: str, deadline: Deadline) -> dict[str, Any]:
        while True:
            try:
                event = self._read(deadline.left())
            except TimeoutError:
                raise MachineError(f"the fleet did not answer within {deadline.seconds:g} s (awaited: {expected})",
                                   "\n".join(self.process.output.tail()),
                                   "see whether the machine is overloaded, or open fewer connections") from None
            if event["event"] == expected:
                return event
            if event["event"] == "error":
                raise InputError(f"the fleet refused: {event['what']}", str(event.get("why", "")))

    def _read(self, timeout: float) -> dict[str, Any]:
        line = self.process.output.readline(timeout)
        if line is None:
            raise MachineError("the fleet ended unexpectedly" + exit_words(self.process),
                               "\n".join(self.process.output.tail()))
        event: dict[str, Any] = json.loads(line)
        return event


def start_fleet(backend: Backend, profile: Profile, cpus: tuple[int, ...]) -> Fleet:
    """A fleet on `backend`, confined to `cpus`. It always has every poller the OS offers."""
    return Fleet(backend.start(Spec("fleet", ("-m", "clients.fleet", "--orders"), profile, cpus)))


def exit_words(process: Process, patience: float = 1.0) -> str:
    """ " (exit code 1)" once a process that closed its output has ended, "" if it does not end in time."""
    deadline = Deadline(patience)
    while (code := process.exit_code()) is None and deadline.left():
        time.sleep(0.01)
    return "" if code is None else f" (exit code {code})"
