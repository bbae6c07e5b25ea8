"""One trial, from a fresh server to its figures: start, verify, connect, warm up, measure, stop.

The order of looks matters: the server's counters are read *before* the fleet is told to begin and before it is
told to end, so that the two edges of the window carry the same delay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labs.harness.deploy.base import EXIT_UNAVAILABLE, Backend, Deadline, Process, Spec
from labs.harness.errors import LabError, MachineError, ServerFailed
from labs.harness.fleets import Address, Fleet, exit_words
from labs.harness.measure.foreign import CpuWatch
from labs.harness.model import FleetResult, Load, Profile, Result, ServerModel, Timing, Trial

START_SECONDS = 20.0
BUSY_SHARE = 0.85
"""A fleet worker that used this much of its CPU may have set the pace."""
FOREIGN_SHARE = 0.15
"""More than this much of the trial's CPUs used by others may have set the pace."""
LAG_SHARE = 0.2
"""Open loop: a 99th percentile of schedule lag beyond this share of the median latency (and 1 ms) spoils it."""
ACHIEVED_SHARE = 0.95
"""Open loop: less than this share of the offered rate was not the load that was asked for."""


@dataclass
class Bench:
    """What the trials of one run share: where they run, on which CPUs, and the fleets that live through them."""

    backend: Backend
    fleets: list[Fleet]
    server_cpus: tuple[int, ...] = ()
    fleet_cpus: tuple[int, ...] = ()
    local: bool = True
    """Whether the trials run on this machine's CPUs, so that other work on them can be seen from here."""
    ahead: Ahead = field(default_factory=lambda: Ahead())

    def server_spec(self, model: ServerModel, profile: Profile) -> Spec:
        command = ("-m", model.module, "--host", self.backend.listen_host, "--port", "0")
        folder = Path(model.folder) if model.folder else None
        return Spec("server", command, profile, self.server_cpus, folder=folder)


class Ahead:
    """Starts the next trial's server while this one's connections come up, so that a trial need not wait for its own.

    By the time a window opens that server must be up and asleep: it may not share the window with the one measured.
    """

    def __init__(self) -> None:
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._spec: Spec | None = None
        self._started: Future[tuple[Process, Address]] | None = None

    def start(self, backend: Backend, spec: Spec | None) -> None:
        """Begins to start a server; None: nothing to start."""
        if spec and not self._started:
            self._spec, self._started = spec, self._hand.submit(start_server, backend, spec)

    def settle(self) -> None:
        """Waits until it is up, or has failed."""
        if self._started:
            wait([self._started])

    def take(self, backend: Backend, spec: Spec) -> tuple[Process, Address]:
        """The server that was started ahead, if it is one of these, else a new one. Raises as start_server does."""
        if self._started and self._spec != spec:
            self.drop()
        if not self._started:
            return start_server(backend, spec)
        try:
            server = self._started.result()  # interrupted here, it is still ours to drop
        except LabError:
            self._started = None
            raise
        self._started = None
        return server

    def drop(self) -> None:
        """Ends what was started and not taken."""
        if self._started:
            with suppress(LabError):
                self._started.result()[0].stop()
        self._started = None


def start_server(backend: Backend, spec: Spec) -> tuple[Process, Address]:
    """A server that has announced itself, and where it listens. Raises ServerFailed where it does not."""
    process = backend.start(spec)
    deadline = Deadline(START_SECONDS)
    try:
        while (line := process.output.readline(deadline.left())) is not None:
            match line.split():
                case ["READY", _, port]:
                    return process, (process.host, int(port))
        code = exit_words(process)
        why = "it says that this platform lacks what it requires" if process.exit_code() == EXIT_UNAVAILABLE else ""
        raise ServerFailed(f"{spec.command[1]} ended before it was ready{code}", why, log=process.output.tail())
    except TimeoutError:
        process.stop()
        raise ServerFailed(f"{spec.command[1]} was not ready within {START_SECONDS:g} s",
                           "it printed no READY line", log=process.output.tail()) from None
    except BaseException:
        process.stop()
        raise


def run_trial(
    bench: Bench, trial: Trial, model: ServerModel, profile: Profile, loads: list[Load], timing: Timing,
    progress: Callable[[dict[str, Any]], None] | None = None, following: Spec | None = None,
) -> Result:
    """Measures `model` once. loads: the trial's own first, then those beside it; one fleet each. following: the next
    trial's server, which is started ahead.

    A server that crashes or answers wrongly gives a Result with `failure` and its last lines; only what is not the
    server's fault is raised (MachineError).
    """
    clock = time.perf_counter()
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    result = Result(trial=trial, started=started)
    server: Process | None = None
    try:
        server, address = bench.ahead.take(bench.backend, bench.server_spec(model, profile))
        bench.ahead.start(bench.backend, following)
        figures = _measure(bench, server, address, model, loads, timing, progress)
        log = server.output.tail()
        result = result.model_copy(update={**figures, "log": log})
    except ServerFailed as failure:
        result = result.model_copy(update={"failure": failure.what, "log": failure.log})
    finally:
        if server:
            server.stop()
    overhead = time.perf_counter() - clock - timing.warmup_seconds - timing.window_seconds
    return result.model_copy(update={"overhead_seconds": overhead})


def _measure(
    bench: Bench, server: Process, address: Address, model: ServerModel, loads: list[Load], timing: Timing,
    progress: Callable[[dict[str, Any]], None] | None,
) -> dict[str, Any]:
    fleets = bench.fleets[:len(loads)]
    with _server_faults(server, model):
        if wrong := fleets[0].verify(address, model.protocol):
            raise ServerFailed(f"{model.name} answers wrongly and is not measured: {wrong}", log=server.output.tail())
        collector = server.collector()
        before = collector.sample()
        try:
            for fleet, load in reversed(list(zip(fleets, loads, strict=True))):  # the crowd beside it comes first
                fleet.load(address, load)
            fleets[0].watch(timing.warmup_seconds, progress)
            bench.ahead.settle()

            watch = CpuWatch(bench.server_cpus + bench.fleet_cpus)
            busy_before, begin = watch.sample(), collector.sample()
            for fleet in fleets:
                fleet.begin()
            fleets[0].watch(timing.window_seconds, progress)
            busy_after, end = watch.sample(), collector.sample()
            results = [fleet.end() for fleet in fleets]
        finally:
            for fleet in fleets:
                fleet.stop()
        foreign = None
        if bench.local:
            own = end.cpu_seconds - begin.cpu_seconds + sum(each.cpu["seconds"] for each in results)
            foreign = watch.foreign_share(busy_before, busy_after, own)
    return {
        "before": before, "begin": begin, "end": end, "fleet": results[0], "foreign_share": foreign,
        "beside": dict(zip(loads[0].beside, results[1:], strict=True)),
        "limits": tuple(limits(results, loads[0], foreign)),
    }


@contextmanager
def _server_faults(server: Process, model: ServerModel) -> Iterator[None]:
    """Whatever goes wrong while the server lies dead is the server's fault."""
    try:
        yield
    except MachineError as error:
        if isinstance(error, ServerFailed) or not exit_words(server, patience=0.1):
            raise
        raise _crashed(server, model) from error
    if server.exit_code() is not None:
        raise _crashed(server, model)


def _crashed(server: Process, model: ServerModel) -> ServerFailed:
    return ServerFailed(f"{model.name} died while it was measured{exit_words(server)}", log=server.output.tail())


def limits(results: list[FleetResult], load: Load, foreign_share: float | None) -> Iterator[str]:
    """What else than the server may have set the pace of this window, in words."""
    busiest = max(result.cpu["busiest_worker_share"] for result in results)
    if busiest > BUSY_SHARE:
        yield f"the fleet: its busiest worker used {busiest:.0%} of a CPU"
    if foreign_share and foreign_share > FOREIGN_SHARE:
        yield f"foreign work: others used {foreign_share:.0%} of the CPUs"
    own = results[0]
    if load.rate and own.schedule_lag and own.latency_uncorrected:
        lag = own.schedule_lag["p99_us"]
        if lag > max(1000, LAG_SHARE * own.latency_uncorrected.p50_us):
            yield f"the schedule: requests left up to {lag / 1000:.1f} ms late (99 %)"
