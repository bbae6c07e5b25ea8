"""What a run finds: usage, results, verdicts, and the machine they come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from labs.harness.model.lab import Cell, Timing
from labs.harness.model.words import Frozen, Name, Outcome, Profile, Protocol, Text


class ServerModel(Frozen):
    """A file in servers/, as its source tells: nothing of it is imported."""

    name: Name
    """File name without `_server.py`, in kebab case."""
    group: str
    """The I/O model it belongs to: the folder's name."""
    module: str
    """For `python -m`."""
    path: str
    """From the project's root, with forward slashes."""
    summary: str
    """First line of the docstring."""
    requires: tuple[str, ...] = ()
    """What the OS or the Python installation must offer."""
    protocol: Protocol = "tcp"
    folder: str | None = None
    """Where `module` is to be found, if it is not one of the project's: a user's own folder."""

    @property
    def sleeps(self) -> bool:
        """Whether it is known to use no CPU while nobody asks it."""
        return self.group != "nonblocking" and not self.folder


class Usage(Frozen):
    """What a server has used since it started, and what it holds, at one moment. None: cannot be seen from here."""

    at_seconds: float
    """The sampler's monotonic clock."""
    cpu_seconds: float
    """User and system together, from the most precise source there is."""
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    cpu_resolution_seconds: float = 0.01
    """The step in which cpu_seconds advances."""
    memory_bytes: int | None = None
    """Anonymous resident memory of all its processes (a page shared by fork counts once where the OS tells)."""
    processes: int | None = None
    threads: int | None = None
    switches_voluntary: int | None = None
    switches_involuntary: int | None = None
    descriptors: int | None = None
    source: str = ""
    """Where the figures come from: "cgroup v1", "psutil" …"""


class Latency(Frozen):
    """Microseconds. `hdr` is the whole histogram, encoded, and merges with others."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    count: int
    min_us: float
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    hdr: str


class FleetResult(Frozen):
    """The fleet's own account of one window. The shape is the `result` event of clients/fleet.py."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    seconds: float
    connections: dict[str, Any]
    requests: int
    bytes_sent: int
    bytes_received: int
    wrong: int
    first_wrong: str | None = None
    errors: dict[str, int] = {}
    datagrams: dict[str, int] | None = None
    """sent, answered, lost, reordered, duplicated, late; only of a load of datagrams."""
    latency: Latency | None = None
    latency_uncorrected: Latency | None = None
    served_share: dict[str, float] = {}
    offered_rate: float | None = None
    achieved_rate: float = 0
    schedule_lag: dict[str, float] | None = None
    cpu: dict[str, float]
    workers: int
    poller: str
    notes: tuple[str, ...] = ()


class Trial(Frozen):
    """One (server model × load × profile), measured once."""

    number: int
    """Place in the plan, from 1."""
    repeat: int
    """From 1. Trials of the same repeat are neighbours in time, and are compared with each other."""
    cell: Cell
    traced: bool = False
    """Its system calls are counted from outside, which slows the server: no other figure of it is used."""


class Result(Frozen):
    """What one trial found."""

    trial: Trial
    started: str
    """UTC, ISO 8601."""
    overhead_seconds: float = 0
    """Wall time of the trial minus its warm-up and window: what orchestration cost."""
    before: Usage | None = None
    """Server, after start-up, before the load came."""
    begin: Usage | None = None
    """Server, at the beginning of the window."""
    end: Usage | None = None
    """Server, at the end of the window."""
    fleet: FleetResult | None = None
    beside: dict[str, FleetResult] = {}
    figures: dict[str, float] = {}
    """What an experiment printed."""
    calls: dict[str, int] | None = None
    """System calls of the server in the window, by name; only in a traced trial."""
    calls_source: str = ""
    """What counted them, and how far that disturbs."""
    foreign_share: float | None = None
    """Share of the trial's CPUs that neither server nor fleet used, but something else did. None: cannot be seen."""
    limits: tuple[str, ...] = ()
    """What else than the server may have set the pace. Where there is something, rates and latencies are not ranked."""
    failure: str | None = None
    """Why there are no figures."""
    log: tuple[str, ...] = ()
    """Last lines the server wrote on stderr. Shown, never believed."""


class Verdict(Frozen):
    """What the trials say of a claim."""

    claim: str
    """The claim's key in its lab."""
    id: str
    """The claim's id in the lesson."""
    outcome: Outcome
    text: Text
    figures: str
    """The comparison in words: "12.3 times (11.8 to 12.9), needs at least 3"."""
    explanation: Text
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """Ratio or metric with its 95 % confidence interval."""
    threshold: float | None = None
    metric: str | None = None
    unit: str = ""
    of_values: tuple[float, ...] = ()
    against_values: tuple[float, ...] = ()
    """The metric per repeat."""
    said: str = ""
    """What the server wrote on stderr at last, while it was measured. Shown, never believed."""
    platform: str = ""
    emulated: bool = False
    """True where the platform is a profile of Linux with pollers taken away."""


class Machine(Frozen):
    """Where a run took place. Runs of different machines are only ever shown side by side."""

    os: str
    os_release: str
    architecture: str
    python: str
    cpu: str
    cpus: int
    memory_bytes: int
    descriptor_limit: int
    backend: str
    """"docker" or "native"."""
    engine: dict[str, str] = {}
    """Engine version, cgroup version, storage driver, image digest … of the backend."""
    commit: str = ""
    """Of the project's checkout, "+" appended where it had changes."""


class Run(Frozen):
    """results/<run>/result.json."""

    version: Literal[1] = 1
    id: str
    lab: str
    started: str
    profile: Profile
    backend_why: str
    quick: bool = False
    timing: Timing
    machine: Machine
    platforms: dict[Profile, dict[str, Any]] = {}
    """What the probe found, per profile."""
    unavailable: dict[str, str] = {}
    """"<server model> on <profile>" → why it cannot run there and what to do about it."""
    planned: int
    """Trials in the plan."""
    results: tuple[Result, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    state: Literal["running", "done", "interrupted", "failed"] = "running"
