"""One trial, from a server to its figures: verify, connect, warm up, measure.

The order of looks matters: the server's counters are read *before* the fleet is told to begin and before it is
told to end, so that the two edges of the window carry the same delay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from labs.harness.deploy.base import Process
from labs.harness.errors import MachineError, ServerFailed
from labs.harness.fleets import Address, exit_words
from labs.harness.measure.foreign import CpuWatch
from labs.harness.model import FleetResult, Load, Profile, Result, ServerModel, Timing, Trial
from labs.harness.workbench import Workbench

BUSY_SHARE = 0.85
"""A fleet worker that used this much of its CPU may have set the pace."""
FOREIGN_SHARE = 0.15
"""More than this much of the trial's CPUs used by others may have set the pace."""
LAG_SHARE = 0.2
"""Open loop: a 99th percentile of schedule lag beyond this share of the median latency (and 1 ms) spoils it."""
ACHIEVED_SHARE = 0.95
"""Open loop: less than this share of the offered rate was not the load that was asked for."""


def run_trial(
    bench: Workbench, trial: Trial, model: ServerModel, profile: Profile, loads: list[Load], timing: Timing,
    progress: Callable[[dict[str, Any]], None] | None = None, fresh: bool = True,
) -> Result:
    """Measures `model` once. loads: the trial's own first, then those beside it; one fleet each. fresh: whether the
    server must have served nobody before.

    A server that crashes or answers wrongly gives a Result with `failure` and its last lines; only what is not the
    server's fault is raised (MachineError).
    """
    clock = time.perf_counter()
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    result = Result(trial=trial, started=started)
    try:
        with bench.servers.lend(bench.wanted(model, profile, fresh)) as (server, address):
            figures = _measure(bench, server, address, model, loads, timing, progress)
            result = result.model_copy(update={**figures, "log": server.output.tail()})
    except ServerFailed as failure:
        result = result.model_copy(update={"failure": failure.what, "log": failure.log})
    overhead = time.perf_counter() - clock - timing.warmup_seconds - timing.window_seconds
    return result.model_copy(update={"overhead_seconds": overhead})


def _measure(
    bench: Workbench, server: Process, address: Address, model: ServerModel, loads: list[Load], timing: Timing,
    progress: Callable[[dict[str, Any]], None] | None,
) -> dict[str, Any]:
    fleets = bench.fleets(len(loads))
    with _server_faults(server, model):
        if wrong := fleets[0].verify(address, model.protocol):
            raise ServerFailed(f"{model.name} answers wrongly and is not measured: {wrong}", log=server.output.tail())
        collector = server.collector()
        before = collector.sample()
        try:
            for fleet, load in reversed(list(zip(fleets, loads, strict=True))):  # the crowd beside it comes first
                fleet.load(address, load)
            fleets[0].watch(timing.warmup_seconds, progress)

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
