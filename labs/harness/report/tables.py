"""Lists and pages for the terminal, and the same data as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text as Line

from labs.harness.images import Listed
from labs.harness.listing import Availability
from labs.harness.metrics import metric_of
from labs.harness.model import Claim, Lab, Language, Run, say
from labs.harness.verdicts import number, summary

GROUPS = {
    "blocking": "Blocking: every call waits", "nonblocking": "Non-blocking: ask again and again",
    "multiplexing": "Multiplexing: one wait for many sockets",
    "signal-driven": "Signal-driven: the kernel interrupts",
    "asynchronous": "Asynchronous: the kernel does the work",
    "event-loops": "Event loops: libraries on top of a poller",
}
"""The I/O models, in the order of the lesson."""


def as_json(data: object) -> str:
    """Models, dataclasses, and lists and dictionaries of them, as indented JSON."""
    return json.dumps(_plain(data), indent=1, ensure_ascii=False)


def _plain(data: Any) -> Any:
    if isinstance(data, BaseModel):
        return data.model_dump(mode="json")
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {field.name: _plain(getattr(data, field.name)) for field in dataclasses.fields(data)}
    if isinstance(data, dict):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return data


def table(*columns: str) -> Table:
    """Our kind of table: no lines, words at the left, columns named RIGHT> at the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
    return made


def lab_table(labs: Iterable[Lab], language: Language = "en") -> Table:
    made = table("lab", "what it shows")
    for lab in labs:
        made.add_row(Line(lab.name, "bold"), Line(say(lab.summary, language)))
    return made


def lab_page(lab: Lab, handout: str, language: Language = "en") -> Group:
    """The handout, then what the lab measures."""
    claims = table("claim", "what it says", "how it is tested")
    for claim in lab.claims:
        claims.add_row(Line(claim.key, "bold"), Line(say(claim.claim, language)), Line(how(claim)))
    parts: list[RenderableType] = [Markdown(handout), Line(), claims]
    if lab.loads:
        loads = table("load", "what the fleet does")
        for name, load in lab.loads.items():
            beside = f", beside {' and '.join(load.beside)}" if load.beside else ""
            words = ", ".join(f"{key} {value}" for key, value in load.order().items())
            loads.add_row(Line(name, "bold"), Line((words or "the defaults") + beside))
        parts += [Line(), loads]
    parts += [Line(), Line(f"run it: invoke lab.run {lab.name}")]
    return Group(*parts)


def how(claim: Claim) -> str:
    """The test of a claim in one line."""
    if claim.fact:
        return f"the platform's {claim.fact} = {claim.equals}"
    assert claim.of and claim.measure
    what = f"{metric_of(claim.measure).describes}, {claim.of.label()}"
    if claim.against:
        what += f" / {claim.against.label()}"
    return what + (f": at least {number(claim.at_least)}" if claim.at_least is not None
                   else f": at most {number(claim.at_most or 0)}")


def server_table(found: Sequence[Availability]) -> Group:
    """The server models under their I/O models; what cannot run here is grey and says why."""
    order = list(GROUPS)
    ranked = sorted(found, key=lambda each: (order.index(each.model.group), each.model.name))
    width = max(len(each.model.name) for each in found)
    parts: list[RenderableType] = []
    for group, members in groupby(ranked, key=lambda each: each.model.group):
        parts.append(Line(f"\n{GROUPS[group]}", "bold underline"))
        made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        made.add_column(no_wrap=True, min_width=width)
        made.add_column()
        for each in members:
            about = Line(each.model.summary, "" if each.available else "bright_black")
            if each.model.protocol != "tcp":
                about.append(f" [{each.model.protocol}]", "cyan")
            if not each.available:
                about.append(f"\nnot here: {each.why}", "yellow")
            made.add_row(Line(each.model.name, "bold" if each.available else "bright_black"), about)
        parts.append(made)
    count = sum(each.available for each in found)
    parts.append(Line(f"\n{count} of {len(found)} can run here. invoke server.run NAME runs one, "
                      "its file in servers/ explains it."))
    return Group(*parts)


def run_table(runs: Sequence[Run]) -> RenderableType:
    if not runs:
        return Line("no runs yet: invoke lab.run select")
    made = table("run", "state", "where", "verdicts")
    for run in runs:
        made.add_row(Line(run.id, "bold"), run.state, f"{run.machine.backend}, {run.profile}", summary(run.verdicts))
    return made


def image_table(images: Sequence[Listed]) -> RenderableType:
    if not images:
        return Line("no images yet: invoke image.build")
    made = table("image", "kind", "size>", "python", "base from", "")
    for image in images:
        made.add_row(Line(image.tag, "bold"), image.kind, f"{image.megabytes:,} MB", image.python, image.provider,
                     "current" if image.current else "")
    return made


def fleet_page(result: dict[str, Any]) -> Table:
    """What the fleet saw in its window, a line each."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    connections, latency, seconds = result["connections"], result["latency"], result["seconds"]
    made.add_row("requests", f"{result['requests']:,} in {seconds:.2f} s, "
                             f"{number(result['requests'] / seconds)} a second")
    made.add_row("connections", f"{connections['held']:,} held of {connections['asked']:,} asked for, "
                                f"{connections['served']:,} served in the window")
    for name, problem in (("failed", connections["failed"]), ("errors", result["errors"])):
        if problem:
            made.add_row(name, Line(", ".join(f"{what}: {count:,}" for what, count in problem.items()), "red"))
    if latency and latency["count"]:
        made.add_row("latency", ", ".join(f"{label} {number(latency[key])} µs" for label, key in (
            ("median", "p50_us"), ("90 %", "p90_us"), ("99 %", "p99_us"), ("longest", "max_us"))))
    made.add_row("wrong answers", Line(f"{result['wrong']:,} {result['first_wrong'] or ''}",
                                       "red" if result["wrong"] else ""))
    cpu = result["cpu"]
    per_request = f", {number(cpu['seconds'] * 1e6 / result['requests'])} µs a request" if result["requests"] else ""
    made.add_row("the fleet itself", f"{cpu['seconds']:.2f} s of CPU{per_request}, {result['workers']} workers, "
                                     f"busiest {cpu['busiest_worker_share']:.0%}, on {result['poller']}")
    for note in result["notes"]:
        made.add_row("note", Line(note, "yellow"))
    return made
