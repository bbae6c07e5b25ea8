"""What a lab.yaml says: loads, cells, claims, timing."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from labs.harness.model.words import Frozen, Name, OptionalName, Outcome, Positive, Profile, Protocol, Seconds, Text


class Load(Frozen):
    """What one fleet does to one server. Keys and defaults are those of clients/load.py, plus `beside`."""

    protocol: Protocol = "tcp"
    """What the requests look like on the wire."""
    connections: Positive = 50
    """Sockets opened."""
    active: Annotated[int, Field(ge=0)] | None = None
    """How many of them work; the others are an idle crowd. All, if left out."""
    message_bytes: Annotated[int, Field(ge=1, le=64 * 2**20)] = 64
    """Length of a request and of its answer."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Open loop: requests per second over all connections, each due at its own time. Closed loop, if left out."""
    think_seconds: Annotated[float, Field(ge=0)] = 0
    """Closed loop: pause between an answer and the next request."""
    requests_per_connection: Positive | None = None
    """Churn: after so many answers a connection is closed and another one opened."""
    read_bytes_per_second: Annotated[int, Field(ge=0)] | None = None
    """Slow reader: how fast answers are read; 0 = never."""
    send_bytes_per_second: Positive | None = None
    """Slow sender: how fast requests trickle out."""
    requests: Positive | None = None
    """Stop after so many requests in all."""
    pipeline: Positive = 1
    """Requests in flight per connection."""
    greet: bool = True
    """Every connection asks once as it comes up, so that it counts as held only once the server has answered on it."""
    workers: Positive | None = None
    """Worker processes of the fleet; chosen by the fleet, if left out."""
    timeout_seconds: Seconds | None = None
    """An answer that takes longer is counted as a timeout; 10 s, if left out, and 1 s for a datagram."""
    connect_seconds: Seconds = 10
    """How long the connections may take to come up."""
    settle_seconds: Seconds = 0.3
    """Coming up ends when no connection or greeting has moved for so long."""
    beside: tuple[Name, ...] = ()
    """Other loads of the lab that run at the same time, each with a fleet of its own; figures are this load's."""

    @model_validator(mode="after")
    def _active_within_connections(self) -> Load:
        if self.active is not None and self.active > self.connections:
            raise ValueError(f"active ({self.active}) is more than connections ({self.connections})")
        return self

    def order(self) -> dict[str, Any]:
        """The load as the fleet's JSON takes it: only what differs from the defaults."""
        return self.model_dump(exclude_defaults=True, exclude={"beside"})


class Experiment(Frozen):
    """A small program of the lab's own, for what is not about serving: it measures by itself.

    Run as it is, it prints one line of JSON, {"<figure>": number, ...}; it exits 69 where the platform lacks something,
    with the reason on stderr.
    """

    program: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.py$")]
    """File in the lab's folder."""
    figures: Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ...], Field(min_length=1)]
    """What it prints. A name ends in its unit: _us, _seconds, _bytes, _share, _times; one without a unit is a
    count, of which two equal values suffice for a verdict."""


class Cell(Frozen):
    """What is measured: a server model under a load, or an experiment; on a profile (the run's own, if left out)."""

    server: OptionalName = ""
    load: OptionalName = ""
    experiment: OptionalName = ""
    profile: Profile | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Cell:
        if bool(self.experiment) == bool(self.server and self.load) or bool(self.server) != bool(self.load):
            raise ValueError("needs either `server` and `load`, or `experiment`")
        return self

    def label(self) -> str:
        what = self.experiment or f"{self.server} × {self.load}"
        return what + (f" on {self.profile}" if self.profile else "")


Fact = bool | int | str


class Claim(Frozen):
    """One sentence of the lesson, tied either to a metric and a threshold, or to a fact about the platform.

    measure/of/against: the metric of cell `of`, divided by that of cell `against` where there is one, compared with
    at_least or at_most. fact/equals: what the platform's probe answers, compared with what the lesson says of it.
    """

    id: Name
    """The claim's id in the lesson."""
    name: Name | None = None
    """Tells apart several tests of one claim in one lab; the id, if left out."""
    claim: Text
    """The sentence that is tested, in this lab's words."""
    measure: str | None = None
    """The metric, or a figure of the experiment in `of`."""
    of: Cell | None = None
    """The cell that the claim is about."""
    against: Cell | None = None
    """The cell it is compared with; without one the metric itself is compared."""
    at_least: float | None = None
    """The claim holds if the ratio (or the metric) is no less."""
    at_most: float | None = None
    """The claim holds if the ratio (or the metric) is no more."""
    fact: Name | None = None
    """A fact from the platform's probe, instead of a metric."""
    equals: Fact | dict[Profile, Fact] | None = None
    """What the lesson says the fact is: one value, or one per platform."""
    explain: dict[Outcome, Text] = {}
    """One line for the reader per outcome: why it came out so."""

    @property
    def key(self) -> str:
        return self.name or self.id

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in (self.of, self.against) if cell)

    def cells_on(self, profile: Profile) -> tuple[Cell, ...]:
        """The cells it needs, on a run's profile where they name none."""
        return tuple(cell if cell.profile else cell.model_copy(update={"profile": profile}) for cell in self.cells)

    @model_validator(mode="after")
    def _one_kind(self) -> Claim:
        if (self.measure is None) == (self.fact is None):
            raise ValueError("a claim needs either `measure` (with `of`) or `fact` (with `equals`)")
        if self.measure is not None:
            if self.of is None:
                raise ValueError("`measure` needs `of`: the server and load that are measured")
            if (self.at_least is None) == (self.at_most is None):
                raise ValueError("`measure` needs one threshold: `at_least` or `at_most`")
        elif self.equals is None:
            raise ValueError("`fact` needs `equals`: what the lesson says it is")
        return self


class Timing(Frozen):
    """How long and how often a cell is measured."""

    warmup_seconds: Seconds = 0.2
    window_seconds: Seconds = 0.6
    repeats: Annotated[int, Field(ge=1, le=100)] = 5


QUICK = Timing(warmup_seconds=0.1, window_seconds=0.25, repeats=3)


class Lab(Frozen):
    """One lab.yaml. `name` is its folder's."""

    name: Name
    title: Text
    summary: Text
    """One sentence for `lab.list`."""
    order: int = 100
    """Place in the list; the course goes through the labs in this order."""
    timing: Timing = Timing()
    quick: Timing = QUICK
    profiles: tuple[Profile, ...] = ()
    """Platforms whose facts the lab lays side by side."""
    loads: dict[Name, Load] = {}
    experiments: dict[Name, Experiment] = {}
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]
