"""A trial of its own, in which a server's system calls are counted and nothing is timed.

The calls counted belong exactly to the requests counted: the fleet is connected and silent when the counter opens its
window, and when it closes it every answer is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labs.harness.deploy.base import Deadline, Process
from labs.harness.errors import MachineError, ServerFailed
from labs.harness.fleets import ANSWER_SECONDS, Address, Fleet
from labs.harness.measure.counting import Source, count_calls
from labs.harness.model import FleetResult, Load, Profile, Result, ServerModel, Timing, Trial
from labs.harness.workbench import Workbench

QUIET_SECONDS = 1.0
"""With lost datagrams or answers of another length than the requests: nothing comes in for so long, so nothing will."""


@dataclass(frozen=True)
class Traced:
    """What a traced trial found. With `failure` there are no counts."""

    trial: Trial
    started: str
    """UTC, ISO 8601."""
    calls: dict[str, int] = field(default_factory=dict)
    """System calls by name, the most frequent first."""
    requests: int = 0
    """Requests answered within the window; every one of them was asked in it."""
    seconds: float = 0
    """Length of the window."""
    source: str = ""
    disturbance: str = ""
    fleet: FleetResult | None = None
    failure: str | None = None
    log: tuple[str, ...] = ()

    @property
    def per_request(self) -> float | None:
        """Calls a request; None where there was no request."""
        return sum(self.calls.values()) / self.requests if self.requests else None

    def result(self) -> Result:
        """The same as any other trial's result."""
        return Result(trial=self.trial, started=self.started, fleet=self.fleet, failure=self.failure, log=self.log,
                      calls=None if self.failure else self.calls, calls_source=f"{self.source}: {self.disturbance}")


def run_traced(bench: Workbench, trial: Trial, model: ServerModel, profile: Profile, load: Load, timing: Timing,
               source: Source = "auto", progress: Callable[[dict[str, Any]], None] | None = None,
               fresh: bool = True) -> Traced:
    """Counts the system calls of `model` under `load`, by perf where it works, else by strace.

    A load with no active connection gives the calls of an idle server. A server that crashes or answers wrongly gives
    a Traced with `failure`; what is not the server's fault is raised (MachineError, where nothing can count for one).
    """
    found = Traced(trial, datetime.now(UTC).isoformat(timespec="milliseconds"))
    try:
        with bench.servers.lend(bench.wanted(model, profile, fresh)) as (server, address):
            try:
                figures = _count(bench, server, address, model, load, timing, source, progress)
            except MachineError as error:
                if server.exit_code() is None:
                    raise
                raise ServerFailed(f"{model.name} died while its calls were counted",
                                   log=server.output.tail()) from error
            return Traced(found.trial, found.started, **figures, log=server.output.tail())
    except ServerFailed as failure:
        return Traced(found.trial, found.started, failure=failure.what, log=failure.log)


def _count(bench: Workbench, server: Process, address: Address, model: ServerModel, load: Load, timing: Timing,
           source: Source, progress: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
    (fleet,) = bench.fleets(1)
    if wrong := fleet.verify(address, model.protocol):
        raise ServerFailed(f"{model.name} answers wrongly and is not traced: {wrong}", log=server.output.tail())
    active = load.connections if load.active is None else load.active
    try:
        fleet.load(address, load.model_copy(update={"active": 0, "requests": None}))
        with count_calls(bench.backend, server, source) as counter:
            counter.begin()
            fleet.begin()
            if active:
                fleet.change(active=active)
            fleet.watch(timing.window_seconds, progress)
            result = _finish(fleet, load) if active else fleet.end()
            counts = counter.end()
    finally:
        fleet.stop()
    if result.wrong:
        raise ServerFailed(f"{model.name} answered wrongly while it was traced: {result.first_wrong}",
                           log=server.output.tail())
    return {"calls": counts.calls, "requests": result.requests, "seconds": counts.seconds, "source": counts.source,
            "disturbance": counts.disturbance, "fleet": result}


def _finish(fleet: Fleet, load: Load) -> FleetResult:
    """Lets every connection fall silent and waits until all answers are in. Raises MachineError if they never are."""
    fleet.change(active=0)
    result = fleet.end()
    quiet, deadline = Deadline(QUIET_SECONDS), Deadline(load.timeout_seconds or ANSWER_SECONDS)
    while result.bytes_received < result.bytes_sent and deadline.left():
        fleet.watch(0.02)
        later = fleet.end()  # an account of the window so far, which goes on until the next begin
        if later.bytes_received != result.bytes_received:
            quiet = Deadline(QUIET_SECONDS)
        elif not quiet.left() and load.protocol != "tcp":
            return later
        result = later
    if result.bytes_received < result.bytes_sent:
        raise MachineError(f"answers were still missing after {load.timeout_seconds:g} s",
                           "the calls made cannot be matched with the requests")
    return result
