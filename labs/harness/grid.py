"""Server models × loads, interleaved in one run: what the README's table of models and the c10k curve are made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from labs.harness.availability import why_unavailable
from labs.harness.catalog import find_server, server_models
from labs.harness.errors import InputError, Unavailable
from labs.harness.events import Listener, Note
from labs.harness.metrics import METRICS
from labs.harness.model import Cell, Load, Profile, Result, ServerModel, Timing, Trial
from labs.harness.platform import describe
from labs.harness.report.tables import table
from labs.harness.session import new_id, open_backend, profile_for
from labs.harness.tracing import run_traced
from labs.harness.trial import run_trial
from labs.harness.verdicts import number
from labs.harness.workbench import Workbench, open_workbench

TIMING = Timing(warmup_seconds=0.2, window_seconds=0.5)


@dataclass(frozen=True)
class Column:
    """One load, and the figure that is shown of it."""

    title: str
    load: Load
    metric: str
    once: bool = False
    """Measured in the first repeat only."""


@dataclass(frozen=True)
class Row:
    """One server model: its figures per column (medians over the repeats), or why there are none."""

    model: ServerModel
    figures: Mapping[str, float | None]
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """All rows, and where they were measured."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    machine: str
    repeats: int


CROWD = 10_000
MODEL_COLUMNS = (
    *(Column(f"CPU µs, {count:,}", Load(connections=count), "cpu_us_per_request") for count in (1, 100, 1000)),
    Column("memory/connection, kB", Load(connections=1000), "memory_bytes_per_connection"),
    Column("idle crowd held", Load(connections=CROWD, active=1), "connections_held", once=True),
    Column("calls/request, 1", Load(connections=1), "syscalls_per_request", once=True),
    Column("calls/request, 100", Load(connections=100), "syscalls_per_request", once=True),
)

CROWD_MODELS = ("select", "poll", "epoll", "selectors", "asyncio-protocol", "uvloop", "gevent", "io-uring")
CROWD_COLUMNS = tuple(
    Column(f"{idle:,} idle", Load(connections=idle + 10, active=10, connect_seconds=60), "cpu_us_per_request")
    for idle in (10, 100, 1000, 5000, CROWD))

TABLES: dict[str, tuple[Sequence[str], Sequence[Column]]] = {
    "models": ((), MODEL_COLUMNS), "crowd": (CROWD_MODELS, CROWD_COLUMNS)}
"""Of the README: name → server models (all, if empty) and columns."""


def measure(on: str, names: Sequence[str], columns: Sequence[Column], repeats: int, listen: Listener) -> Grid:
    """Every model under every column's load, `repeats` times, one after the other in turn.

    names: server models; all of the catalogue, if empty. A model that is unavailable, or fails, has a note instead of
    figures. Raises InputError for an unknown model.
    """
    models = [find_server(name) for name in names] or list(server_models().values())
    if repeats < 1:
        raise InputError(f"--repeats {repeats} makes no sense", "a cell is measured once or more often")
    found: dict[tuple[str, str], list[float]] = {}
    with open_backend(on, new_id("bench"), listen) as (backend, _), open_workbench(backend) as bench:
        profiles, notes = _availability(bench, models)
        machine = describe(backend.name, backend.manifest())
        runnable = [model for model in models if model.name not in notes]
        for repeat in range(1, repeats + 1):
            work = _trials(columns, repeat)
            bench.servers.plan(bench.wanted(model, profiles[model.name])
                               for _ in work for model in runnable if model.sleeps)
            for load, traced, group in work:
                for model in runnable:
                    if model.name in notes:
                        continue
                    cell = Cell(server=model.name, load="grid", profile=profiles[model.name])
                    trial = Trial(number=repeat, repeat=repeat, cell=cell, traced=traced)
                    result = _measure(bench, trial, model, load.model_copy(update={"protocol": model.protocol}))
                    if result.failure:
                        notes[model.name] = result.failure
                        listen(Note(f"{model.name}: {result.failure}"))
                    for column in group:
                        if (value := _figure(result, column)) is not None:
                            found.setdefault((model.name, column.title), []).append(value)
                listen(Note(f"repeat {repeat} of {repeats}: {', '.join(column.title for column in group)}"))
    rows = []
    for model in models:
        values = {column.title: found.get((model.name, column.title)) for column in columns}
        medians = {title: statistics.median(each) if each else None for title, each in values.items()}
        rows.append(Row(model, medians, notes.get(model.name, "")))
    where = f"{machine.os} {machine.os_release}, {machine.cpus} CPUs, Python {machine.python}, {machine.backend}"
    return Grid(tuple(column.title for column in columns), tuple(rows), where, repeats)


def _availability(bench: Workbench, models: Sequence[ServerModel]) -> tuple[dict[str, Profile], dict[str, str]]:
    """The profile each model is given, and why some cannot run."""
    profiles = {model.name: profile_for(model, "", bench.backend.name) for model in models}
    requires = [name for model in models for name in model.requires]
    facts = {profile: bench.facts(profile, requires) for profile in set(profiles.values())}
    reasons = {model.name: why_unavailable(model, facts[profiles[model.name]]) for model in models}
    return profiles, {name: f"unavailable: {why}" for name, why in reasons.items() if why}


def _trials(columns: Sequence[Column], repeat: int) -> list[tuple[Load, bool, list[Column]]]:
    """(load, traced, its columns): what this repeat measures. Columns of one load share its trial."""
    shared: dict[tuple[Load, bool], list[Column]] = {}
    for column in columns:
        if repeat == 1 or not column.once:
            shared.setdefault((column.load, METRICS[column.metric].traced), []).append(column)
    return [(load, traced, group) for (load, traced), group in shared.items()]


def _measure(bench: Workbench, trial: Trial, model: ServerModel, load: Load) -> Result:
    assert trial.cell.profile
    if not trial.traced:
        return run_trial(bench, trial, model, trial.cell.profile, [load], TIMING)
    try:
        return run_traced(bench, trial, model, trial.cell.profile, load, TIMING).result()
    except Unavailable:
        return Result(trial=trial, started="")  # the column stays empty


def _figure(result: Result, column: Column) -> float | None:
    """The column's figure; None where the server did not carry the load, so that it would be that of a smaller one."""
    held = METRICS["connections_held"].of(result)
    if column.metric != "connections_held" and (held is None or held < column.load.connections):
        return None
    return METRICS[column.metric].of(result)


def as_table(grid: Grid) -> Table:
    """For the terminal."""
    made = table("server model", *(f"{column}>" for column in grid.columns))
    made.columns[0].no_wrap = True
    for row in grid.rows:
        made.add_row(row.model.name, *(shown(row.figures[column], column) for column in grid.columns))
    made.caption = caption(grid)
    return made


def as_markdown(grid: Grid) -> str:
    """For the README."""
    lines = ["| server model | " + " | ".join(grid.columns) + " |",
             "|---|" + "---:|" * len(grid.columns)]
    for row in grid.rows:
        figures = [shown(row.figures[column], column) for column in grid.columns]
        lines.append(f"| [{row.model.name}]({row.model.path}) | " + " | ".join(figures) + " |")
    notes = [f"- {row.model.name}: {row.note}" for row in grid.rows if row.note]
    return "\n".join([*lines, "", caption(grid), *(["", *notes] if notes else [])])


def caption(grid: Grid) -> str:
    return (f"Medians of {grid.repeats} interleaved repeats; {grid.machine}. CPU time is the server's own. "
            "A dash: it did not hold all connections of the load, or the figure cannot be had.")


def shown(value: float | None, column: str) -> str:
    if value is None:
        return "-"
    return number(value / 1000 if column.endswith("kB") else value)


def write_into(readme: Path, grid: Grid, name: str) -> None:
    """Replaces what stands between the marks of table `name` in a Markdown file. Raises InputError without marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = readme.read_text("utf-8")
    if begin not in text or end not in text:
        raise InputError(f"{readme} has no place for table {name}", f"it lacks {begin} or {end}")
    head, tail = text.partition(begin)[0], text.partition(end)[2]
    readme.write_text(f"{head}{begin}\n{as_markdown(grid)}\n{end}{tail}", "utf-8")
