"""Who waited for whom: the same script of clients played to server models that strace watches.

The server's times are strace's, the clients' their own; both run under one kernel (this machine's, or the engine's),
whose clock they share, so nothing has to be aligned. Tracing stretches what the server does between two calls; a wait
for a client is as long as without it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labs.harness.availability import why_unavailable
from labs.harness.catalog import did_you_mean, find_server
from labs.harness.deploy.base import Backend, Deadline, Spec
from labs.harness.errors import InputError, MachineError
from labs.harness.events import Listener, Note
from labs.harness.lanes import Timeline, build
from labs.harness.measure.strace import attach
from labs.harness.model import Machine, Profile, ServerModel
from labs.harness.platform import describe
from labs.harness.pool import server_spec, start_server
from labs.harness.workbench import open_workbench

Step = tuple[float, int, str]

SCRIPT: tuple[Step, ...] = (
    (0, 1, "connect"), (40, 2, "connect"), (40, 2, "ask"), (80, 3, "connect"), (80, 3, "ask"), (120, 3, "ask"),
    (160, 1, "ask"), (200, 1, "leave"), (240, 2, "leave"), (280, 3, "leave"))
"""(milliseconds, client, what): the first connects and says nothing, the second asks, the third asks twice."""

ACTIONS = ("connect", "ask", "leave")
SCRIPT_SECONDS = 90.0


@dataclass(frozen=True)
class Trace:
    """results/<id>/timeline.json: what server models did under one script of clients."""

    id: str
    started: str
    """UTC, ISO 8601."""
    machine: Machine
    script: tuple[Step, ...]
    timelines: tuple[Timeline, ...]
    version: int = 1


def trace(names: Sequence[str], on: str = "auto", listen: Listener = lambda event: None,
          script: Sequence[Step] = SCRIPT, profile: str = "") -> Trace:
    """Plays `script` to each of the server models, one after the other, and returns what each did.

    profile: what the servers may use; "": all the system has. Raises InputError for an unknown model or profile, or a
    model that speaks no plain TCP or is unavailable here; MachineError, with the mend, where strace cannot be had.
    """
    from labs.harness import session

    models = [find_model(name) for name in names]
    session.check_profile(profile)
    started, trace_id = datetime.now(UTC).isoformat(timespec="seconds"), session.new_id("trace")
    requires = [name for model in models for name in model.requires]
    with session.open_backend(on, trace_id, listen) as (backend, _), open_workbench(backend, requires) as bench:
        found = []
        for model in models:
            wanted = session.profile_for(model, profile, backend.name)
            if why := why_unavailable(model, bench.facts(wanted, model.requires)):
                raise InputError(f"{model.name} cannot be traced here", why)
            listen(Note(f"tracing {model.name}"))
            found.append(_trace_one(backend, model, wanted, script))
        return Trace(trace_id, started, describe(backend.name, backend.manifest()), tuple(script), tuple(found))


def read_script(path: Path) -> list[Step]:
    """A script of clients from a JSON file. Raises InputError where it is none."""
    try:
        steps = json.loads(path.read_text("utf-8"))
        script = [(float(at), int(client), str(what)) for at, client, what in steps]
    except OSError as error:
        raise InputError(f"{path} cannot be read", error.strerror or str(error)) from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no script of clients", str(error),
                         'write a list of steps, for instance [[0, 1, "connect"], [40, 1, "ask"], [80, 1, "leave"]]',
                         ) from None
    if wrong := [what for _, _, what in script if what not in ACTIONS]:
        raise InputError(f"{path}: a client cannot '{wrong[0]}'{did_you_mean(wrong[0], ACTIONS)}",
                         f"it can {', '.join(ACTIONS)}")
    return script


def find_model(name: str) -> ServerModel:
    """The server model called `name`, if the script's clients can talk to it. Raises InputError otherwise."""
    model = find_server(name)
    if model.protocol != "tcp":
        raise InputError(f"{name} cannot be traced",
                         f"it speaks {model.protocol}, the script's clients speak plain TCP")
    return model


def _trace_one(backend: Backend, model: ServerModel, profile: Profile, script: Sequence[Step]) -> Timeline:
    server, (host, port) = start_server(backend, server_spec(backend, model, profile))
    try:
        with attach(backend, server) as tracer:
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            events = play(backend, target, script)
            calls = tracer.detach()
        if server.exit_code() is not None:
            raise MachineError(f"{model.name} died while it was traced", "\n".join(server.output.tail()))
        return build(model.name, backend.name, calls, tracer.threads, events, profile)
    finally:
        server.stop()


def play(backend: Backend, target: str, script: Sequence[Step]) -> list[dict[str, Any]]:
    """What the script's clients tell. Raises MachineError where they do not come to an end."""
    process = backend.start(Spec(
        "fleet", ("-m", "clients.script", "--target", target, "--script", json.dumps([list(step) for step in script])),
        "linux"))
    deadline, events = Deadline(SCRIPT_SECONDS), list[dict[str, Any]]()
    try:
        while (line := process.output.readline(deadline.left())) is not None:
            events.append(json.loads(line))
            if events[-1]["event"] == "end":
                return events
        raise MachineError("the script's clients ended before the script", "\n".join(process.output.tail()))
    except TimeoutError:
        raise MachineError(f"the script's clients did not end within {SCRIPT_SECONDS:g} s") from None
    finally:
        process.stop()


# --- in words --------------------------------------------------------------------------------------------------------

SLOW_US = 10_000


def sentences(timeline: Timeline) -> list[str]:
    """What is seen, from the data alone."""
    found = []
    quick = [ask.answered_us - ask.asked_us for client in timeline.clients for ask in client.asks
             if ask.answered_us is not None and ask.answered_us - ask.asked_us < SLOW_US]
    for client in timeline.clients:
        for ask in client.asks:
            until = timeline.length_us if ask.answered_us is None else ask.answered_us
            if until - ask.asked_us < SLOW_US:
                continue
            outcome = "was not answered" if ask.answered_us is None else \
                f"was answered after {(until - ask.asked_us) / 1000:.1f} ms"
            found.append(f"client {client.number} asked at {ask.asked_us / 1000:.1f} ms and {outcome}"
                         f"{_culprit(timeline, client.number, ask.asked_us, until)}")
    if quick:
        every = "every request" if not found else "the others"
        found.append(f"{every}: answered within {max(quick) / 1000:.1f} ms" if not found else
                     f"{every} were answered within {max(quick) / 1000:.1f} ms")
    vain = sum(span.state == "in vain" for thread in timeline.threads for span in thread.spans)
    asks = sum(len(client.asks) for client in timeline.clients)
    total = sum(timeline.calls.values())
    often = ", ".join(f"{count} {name}" for name, count in list(timeline.calls.items())[:3])
    found.append(f"{total} system calls for {asks} requests and {len(timeline.clients)} clients ({often})"
                 + (f"; {vain} of them found nothing" if vain else ""))
    return found


def _culprit(timeline: Timeline, client: int, begin: int, end: int) -> str:
    """With whom the server sat meanwhile, where it did."""
    shares: dict[tuple[str, int], int] = {}
    for span in (span for thread in timeline.threads for span in thread.spans if span.state == "waiting"):
        shared = min(span.end_us, end) - max(span.start_us, begin)
        if span.client is not None and span.client != client and shared > SLOW_US:
            key = (span.call, span.client)
            shares[key] = shares.get(key, 0) + shared
    parts = [f"in {call} for client {other} ({shared / 1000:.1f} ms)" for (call, other), shared in shares.items()]
    return f": the server sat {' and '.join(parts)}" if parts else ""
