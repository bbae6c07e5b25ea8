"""Lab × backend → a Run: plans the trials, measures them in turn, saves each, and judges the claims.

Trials are interleaved: every repeat measures each cell once, so that whatever the machine does meanwhile falls on
all cells alike, and a cell is compared with the others of its own repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from labs.harness import store
from labs.harness.availability import probe, why_unavailable
from labs.harness.deploy.base import Backend, Spec
from labs.harness.errors import InputError, Unavailable
from labs.harness.events import Event, Listener, RunEnded, RunStarted, TrialEnded, TrialProgress, TrialStarted
from labs.harness.experiment import run_experiment
from labs.harness.fleets import start_fleet
from labs.harness.metrics import metric_of
from labs.harness.model import Cell, Lab, Load, Profile, Run, ServerModel, Timing, Trial
from labs.harness.platform import cpu_plan, default_profile, describe
from labs.harness.tracing import run_traced
from labs.harness.trial import Bench, run_trial
from labs.harness.verdicts import TRACED_REPEATS, TRACING, judge_run


@dataclass
class Order:
    """What a user asks of a run."""

    run_id: str
    lab: Lab
    servers: dict[str, ServerModel]
    profile: Profile
    timing: Timing
    results_folder: Path
    backend_why: str = ""
    quick: bool = False
    listen: Listener = field(default=lambda event: None)


@dataclass(frozen=True)
class Job:
    """What a repeat measures once: a cell, timed or with its system calls counted."""

    cell: Cell
    traced: bool = False


def jobs(lab: Lab, profile: Profile) -> tuple[Job, ...]:
    """What the lab's claims need, once each, in order of appearance."""
    return tuple(dict.fromkeys(
        Job(cell, metric_of(claim.measure).traced)
        for claim in lab.claims if claim.measure for cell in lab.claim_cells(claim, profile)))


def plan(work: Sequence[Job], repeats: int) -> list[Trial]:
    """Every job once per repeat; each repeat begins one job further on, so that none always comes first."""
    trials: list[Trial] = []
    for repeat in range(repeats):
        shift = repeat % len(work) if work else 0
        for job in (*work[shift:], *work[:shift]):
            if not job.traced or repeat < TRACED_REPEATS:
                trials.append(Trial(number=len(trials) + 1, repeat=repeat + 1, cell=job.cell, traced=job.traced))
    return trials


def run_lab(order: Order, backend: Backend) -> Run:
    """Carries the order out on `backend`, which must have been entered.

    Every trial is saved as it finishes. A server that fails costs its own trials only: it is not started again, and
    the run's state says so. Ctrl-C saves what there is and goes on upwards. Raises MachineError where the machine
    fails; what was measured until then is kept.
    """
    lab, listen = order.lab, order.listen
    work = jobs(lab, order.profile)
    cells = [job.cell for job in work]
    profiles = dict.fromkeys((order.profile, *lab.profiles, *(cell.profile for cell in cells if cell.profile)))
    models = {cell.server: order.servers[cell.server] for cell in cells if cell.server}
    requires = [name for model in models.values() for name in model.requires]
    platforms, refused = _probe_all(backend, order.profile, profiles, requires)
    unavailable = {key(cell): why for cell in cells if cell.profile
                   if (why := refused.get(cell.profile)
                       or (cell.server and why_unavailable(models[cell.server], platforms[cell.profile])))}
    trials = plan([job for job in work if key(job.cell) not in unavailable], order.timing.repeats)

    run = Run(
        id=order.run_id, lab=lab.name, started=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=order.profile, backend_why=order.backend_why, quick=order.quick, timing=order.timing,
        machine=describe(backend.name, backend.manifest()), platforms=platforms, unavailable=unavailable,
        planned=len(trials))
    store.save(run, order.results_folder)
    listen(RunStarted(run, order.timing.warmup_seconds + order.timing.window_seconds))
    state = "failed"
    try:
        run = _measure(order, backend, run, trials, models)
        state = "failed" if any(result.failure for result in run.results) else "done"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        run = store.load(order.results_folder / run.id)  # as far as it came
        run = run.model_copy(update={"state": state, "verdicts": judge_run(lab, run)})
        store.save(run, order.results_folder)
        listen(RunEnded(run))
    return run


def _probe_all(backend: Backend, own: Profile, profiles: Iterable[Profile], requires: Sequence[str],
               ) -> tuple[dict[Profile, dict[str, Any]], dict[Profile, str]]:
    """The facts of each profile, and why others cannot be had here. Raises InputError where the run's own cannot."""
    platforms: dict[Profile, dict[str, Any]] = {}
    refused: dict[Profile, str] = {}
    for profile in profiles:
        try:
            platforms[profile] = probe(backend, profile, requires)
        except InputError as error:
            if profile == own:
                raise
            refused[profile] = error.what
    return platforms, refused


def key(cell: Cell) -> str:
    """Names a server (or an experiment) under a profile: what is available is so for every load."""
    return f"{cell.experiment or cell.server} on {cell.profile}"


def _measure(order: Order, backend: Backend, run: Run, trials: Sequence[Trial],
             models: dict[str, ServerModel]) -> Run:
    lab, listen = order.lab, order.listen
    given_up = dict(run.unavailable)
    with ExitStack() as stack:
        fleets = max((len(loads(lab, trial.cell)) for trial in trials if trial.cell.server), default=0)
        bench = open_bench(backend, stack, fleets)
        prepared = 0
        for index, trial in enumerate(trials):
            cell = trial.cell
            assert cell.profile
            if trial.repeat > prepared:
                prepared = trial.repeat
                backend.prepare([bench.server_spec(models[each.cell.server], each.cell.profile) for each in trials
                                 if each.repeat == prepared and each.cell.server and each.cell.profile
                                 and key(each.cell) not in given_up])
            if key(cell) in given_up or (trial.traced and TRACING in given_up):
                continue
            listen(TrialStarted(trial))
            following = _following(bench, trials[index + 1:], models, given_up)
            try:
                if cell.experiment:
                    result = run_experiment(bench, trial, lab)
                elif trial.traced:
                    own = loads(lab, cell)[0]
                    result = run_traced(bench, trial, models[cell.server], cell.profile, own, run.timing,
                                        following=following).result()
                else:
                    result = run_trial(bench, trial, models[cell.server], cell.profile, loads(lab, cell), run.timing,
                                       partial(_report, listen, trial), following)
            except Unavailable as error:
                where = TRACING if trial.traced else key(cell)
                given_up[where] = error.what
                run = run.model_copy(update={"unavailable": {**run.unavailable, where: error.what}})
                store.save(run, order.results_folder)
                continue
            if result.failure:
                given_up[key(cell)] = result.failure
            run = store.append_result(run, result)
            store.save(run, order.results_folder)
            listen(TrialEnded(result))
    return run


def _following(bench: Bench, trials: Sequence[Trial], models: dict[str, ServerModel], given_up: dict[str, str],
               ) -> Spec | None:
    """The next server, if it can be started ahead: if it is known to sleep while nobody asks it."""
    for trial in trials:
        cell = trial.cell
        if cell.experiment or key(cell) in given_up or (trial.traced and TRACING in given_up):
            continue
        assert cell.profile
        model = models[cell.server]
        sleeps = model.group != "nonblocking" and not model.folder
        return bench.server_spec(model, cell.profile) if sleeps else None
    return None


def open_bench(backend: Backend, stack: ExitStack, fleets: int) -> Bench:
    """The CPUs divided, and as many fleets as one trial needs, at the ready until `stack` is closed."""
    server_cpus, fleet_cpus = cpu_plan()
    local = backend.manifest().get("local", "True") == "True"  # only an engine may be elsewhere
    bench = Bench(backend, [], server_cpus, fleet_cpus, local)
    stack.callback(bench.ahead.drop)
    for _ in range(fleets):
        fleet = start_fleet(backend, default_profile(backend.name), fleet_cpus)
        stack.callback(fleet.process.stop)
        bench.fleets.append(fleet)
    return bench


def loads(lab: Lab, cell: Cell) -> list[Load]:
    """The cell's load, and those beside it."""
    own = lab.loads[cell.load]
    return [own, *(lab.loads[name] for name in own.beside)]


def _report(listen: Listener, trial: Trial, progress: dict[str, Any]) -> None:
    event: Event = TrialProgress(trial, progress)
    listen(event)
