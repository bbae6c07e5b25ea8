"""The metrics a claim can name: how each is computed from one result, and how finely it can be told.

`of` gives the figure of one result, or None where it cannot be had; `why_none` then says why.
`resolution` is the smallest difference the figure can show: what is smaller than one step of the
counter behind it has not been measured, and nothing may be divided by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labs.harness.model import Latency, Result, Usage

Figure = Callable[[Result], "float | None"]

PAGE_BYTES = 4096
"""Memory is counted in pages of so many bytes, or more."""


@dataclass(frozen=True)
class Metric:
    """One figure of a result."""

    name: str
    unit: str
    """"us", "bytes", "share" (0..1), "per second", or "" for a plain count."""
    describes: str
    of: Figure
    resolution: Callable[[Result], float]
    rate: bool = False
    """Worthless where something else than the server set the pace (result.limits)."""
    exact: bool = False
    """A count that comes out the same every time: two equal values suffice for a verdict."""
    traced: bool = False
    """Needs trials of its own, in which the server's system calls are counted."""
    fresh: bool = False
    """Says something only of a server that has served nobody before."""
    unseen: str = "the server's figures cannot be seen from here"
    """Why there is no figure where nothing simpler explains it."""

    @property
    def count(self) -> bool:
        """Whether it hardly varies from one repeat to the next."""
        return self.exact or self.traced

    def why_none(self, result: Result) -> str:
        """Why `of(result)` is None, as a clause for the reader."""
        if result.failure:
            return result.failure
        if result.trial.cell.experiment:
            return self.unseen
        if result.fleet is None:
            return "the fleet reported nothing"
        if result.fleet.requests == 0 and (self.name.endswith("_per_request") or self.name.startswith("latency")):
            return "no request was answered in the window"
        if not _connected(result) and self.name.endswith("_per_connection"):
            return "no connection came up"
        return self.unseen


def _used(result: Result, field: str) -> float | None:
    """By how much a counter of the server advanced in the window."""
    if result.begin is None or result.end is None:
        return None
    begin, end = getattr(result.begin, field), getattr(result.end, field)
    return None if begin is None or end is None else end - begin


def _elapsed(result: Result) -> float:
    """Seconds between the two samples of the server; 0 where one is lacking."""
    return result.end.at_seconds - result.begin.at_seconds if result.begin and result.end else 0.0


def _requests(result: Result) -> int:
    return result.fleet.requests if result.fleet else 0


def _connected(result: Result) -> int:
    return int(result.fleet.connections.get("connected", 0)) if result.fleet else 0


def _per_request(field: str, scale: float = 1.0) -> Figure:
    def figure(result: Result) -> float | None:
        used, requests = _used(result, field), _requests(result)
        return None if used is None or not requests else used * scale / requests
    return figure


def _cpu_step(result: Result) -> float:
    """Seconds: the step in which the server's CPU time advances."""
    return max((usage.cpu_resolution_seconds for usage in (result.begin, result.end) if usage), default=0.0)


def _cpu_step_per_request(result: Result) -> float:
    return _cpu_step(result) * 1e6 / max(_requests(result), 1)


def _cpu_share(result: Result) -> float | None:
    used, elapsed = _used(result, "cpu_seconds"), _elapsed(result)
    return None if used is None or elapsed <= 0 else used / elapsed


def _cpu_share_step(result: Result) -> float:
    elapsed = _elapsed(result)
    return _cpu_step(result) / elapsed if elapsed > 0 else 0.0


def _switches(result: Result) -> float | None:
    voluntary, involuntary = _used(result, "switches_voluntary"), _used(result, "switches_involuntary")
    requests = _requests(result)
    return None if voluntary is None or involuntary is None or not requests else (voluntary + involuntary) / requests


def _memory_per_connection(result: Result) -> float | None:
    connected = _connected(result)
    if result.before is None or result.begin is None or not connected:
        return None
    empty, full = result.before.memory_bytes, result.begin.memory_bytes
    return None if empty is None or full is None else (full - empty) / connected


def _gauge(field: str) -> Figure:
    """What the server held at the end of the window."""
    def figure(result: Result) -> float | None:
        usage: Usage | None = result.end
        value = getattr(usage, field) if usage else None
        return None if value is None else float(value)
    return figure


def _connections(key: str) -> Figure:
    """One of the fleet's counts of connections; those that failed are counted by error, and are added up."""
    def figure(result: Result) -> float | None:
        count = result.fleet.connections.get(key) if result.fleet else None
        return None if count is None else float(sum(count.values()) if isinstance(count, dict) else count)
    return figure


def _fleet(field: str) -> Figure:
    def figure(result: Result) -> float | None:
        return float(getattr(result.fleet, field)) if result.fleet else None
    return figure


def _per_second(figure: Figure) -> Figure:
    def rate(result: Result) -> float | None:
        value = figure(result)
        seconds = result.fleet.seconds if result.fleet else 0
        return None if value is None or seconds <= 0 else value / seconds
    return rate


def _once_per_window(result: Result) -> float:
    return 1 / result.fleet.seconds if result.fleet and result.fleet.seconds > 0 else 0.0


def _latency(field: str) -> Figure:
    def figure(result: Result) -> float | None:
        latency: Latency | None = result.fleet.latency if result.fleet else None
        return getattr(latency, field) if latency and latency.count else None
    return figure


def _fairness(result: Result) -> float | None:
    share = result.fleet.served_share if result.fleet else {}
    return share["min"] / share["max"] if share.get("max") and "min" in share else None


def _timeouts(result: Result) -> float | None:
    return float(result.fleet.errors.get("timeout", 0)) if result.fleet else None


def _lag(result: Result) -> float | None:
    return result.fleet.schedule_lag.get("p99_us") if result.fleet and result.fleet.schedule_lag else None


def _one(_: Result) -> float:
    return 1.0


def _per_window_request(result: Result) -> float:
    return 1 / max(_requests(result), 1)


def _calls(result: Result) -> float | None:
    return None if result.calls is None else float(sum(result.calls.values()))


def _calls_per_request(result: Result) -> float | None:
    calls, requests = _calls(result), _requests(result)
    return None if calls is None or not requests else calls / requests


SPLIT = "user and system time cannot be told apart from here"
NO_MEMORY = "the server's memory cannot be seen from here"

_ALL = (
    Metric("cpu_us_per_request", "us", "CPU time of the server per request",
           _per_request("cpu_seconds", 1e6), _cpu_step_per_request),
    Metric("cpu_user_us_per_request", "us", "the part of it spent in the server's own code",
           _per_request("cpu_user_seconds", 1e6), _cpu_step_per_request, unseen=SPLIT),
    Metric("cpu_system_us_per_request", "us", "the part of it spent in the kernel",
           _per_request("cpu_system_seconds", 1e6), _cpu_step_per_request, unseen=SPLIT),
    Metric("cpu_share", "share", "share of one CPU that the server used in the window (idle CPU, if nobody asks)",
           _cpu_share, _cpu_share_step, rate=True),
    Metric("switches_per_request", "", "context switches of the server per request",
           _switches, _per_window_request, unseen="context switches cannot be seen from here"),
    Metric("memory_bytes_per_connection", "bytes", "memory the server took for the load's connections, per connection",
           _memory_per_connection, lambda result: PAGE_BYTES / max(_connected(result), 1), fresh=True,
           unseen=NO_MEMORY),
    Metric("memory_bytes", "bytes", "anonymous resident memory of the server at the window's end",
           _gauge("memory_bytes"), lambda _: PAGE_BYTES, fresh=True, unseen=NO_MEMORY),
    Metric("threads", "", "threads of the server at the window's end",
           _gauge("threads"), _one, exact=True, unseen="threads cannot be counted from here"),
    Metric("processes", "", "processes of the server at the window's end",
           _gauge("processes"), _one, exact=True, unseen="processes cannot be counted from here"),
    Metric("descriptors", "", "descriptors the server had open at the window's end",
           _gauge("descriptors"), _one, unseen="open descriptors cannot be counted from here"),
    Metric("syscalls_per_request", "", "system calls of the server per request",
           _calls_per_request, _per_window_request, traced=True, unseen="no system calls were counted"),
    Metric("syscalls_per_second", "per second", "system calls of the server per second",
           _per_second(_calls), _once_per_window, traced=True, unseen="no system calls were counted"),
    Metric("connections_asked", "", "connections the load wanted", _connections("asked"), _one, exact=True),
    Metric("connections_served", "", "connections that got a right answer within the window",
           _connections("served"), _one, exact=True),
    Metric("connections_held", "", "connections open at the window's end that the server has answered on",
           _connections("held"), _one, exact=True),
    Metric("connections_failed", "", "connections that could not be opened",
           _connections("failed"), _one, exact=True),
    Metric("connections_lost", "", "connections the server hung up on", _connections("lost"), _one, exact=True),
    Metric("connections_opened_per_second", "per second", "connections opened within the window, per second",
           _per_second(_connections("opened")), _once_per_window, rate=True),
    Metric("requests", "", "right answers in the window", _fleet("requests"), _one, rate=True),
    Metric("requests_per_second", "per second", "right answers per second",
           _per_second(_fleet("requests")), _once_per_window, rate=True),
    Metric("bytes_per_second", "per second", "bytes of answers per second",
           _per_second(_fleet("bytes_received")), _once_per_window, rate=True),
    Metric("wrong_answers", "", "answers with a wrong byte", _fleet("wrong"), _one, exact=True),
    Metric("timeouts", "", "requests that got no answer in time", _timeouts, _one),
    Metric("served_share_min_over_max", "share",
           "requests of the worst-served active connection over the best-served's",
           _fairness, _per_window_request, unseen="no connection was served"),
    Metric("schedule_lag_p99_us", "us", "how late the fleet itself sent, 99th percentile (open loop)",
           _lag, _one, unseen="only an open loop has a schedule"),
    *(Metric(f"latency_{name}_us", "us", f"time from request to answer, {words}", _latency(f"{name}_us"),
             _one, rate=True)
      for name, words in (("p50", "median"), ("p90", "90th percentile"), ("p99", "99th percentile"),
                          ("p999", "99.9th percentile"), ("max", "longest"), ("mean", "mean"))),
)

UNITS = {"us": "us", "seconds": "s", "bytes": "bytes", "share": "share", "times": "times"}
"""The unit of an experiment's figure, by the end of its name; one without a unit is a count."""


def metric_of(name: str) -> Metric:
    """The metric called `name`, or else the figure of that name that an experiment prints."""
    unit = UNITS.get(name.rpartition("_")[2], "")
    return METRICS.get(name) or Metric(name, unit, name.replace("_", " "), lambda result: result.figures.get(name),
                                       lambda _: 0.0, exact=not unit, unseen="the experiment did not print it")


METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
