"""Lab × workbench → a Run: measures the planned trials in turn, saves each, and judges the claims.

Claims that are undecided in the end get as many repeats again as were planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from labs.harness import store
from labs.harness.availability import why_unavailable
from labs.harness.errors import InputError, Unavailable
from labs.harness.events import (
    Event,
    Listener,
    RunEnded,
    RunExtended,
    RunStarted,
    TrialEnded,
    TrialProgress,
    TrialStarted,
)
from labs.harness.experiment import run_experiment
from labs.harness.experiment import wanted as experiment_wanted
from labs.harness.model import Cell, Lab, Load, Profile, Result, Run, ServerModel, Timing, Trial
from labs.harness.planning import how_often, jobs, needs_fresh, plan
from labs.harness.platform import describe
from labs.harness.pool import Wanted
from labs.harness.tracing import run_traced
from labs.harness.trial import run_trial
from labs.harness.verdicts import TRACING, judge_run, undecided
from labs.harness.workbench import Workbench


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
    exactly: bool = False
    """Every cell exactly `timing.repeats` times: counts not less often, undecided claims not more often."""
    listen: Listener = field(default=lambda event: None)


def run_lab(order: Order, bench: Workbench) -> Run:
    """Carries the order out.

    Every trial is saved as it finishes. A server that fails costs its own trials only: it is not started again, and
    the run's state says so. Ctrl-C saves what there is and goes on upwards. Raises MachineError where the machine
    fails; what was measured until then is kept.
    """
    lab, listen, backend = order.lab, order.listen, bench.backend
    work = jobs(lab, order.profile)
    cells = [job.cell for job in work]
    profiles = dict.fromkeys((order.profile, *lab.profiles, *(cell.profile for cell in cells if cell.profile)))
    models = {cell.server: order.servers[cell.server] for cell in cells if cell.server}
    platforms, refused = _facts(bench, order.profile, profiles, [name for model in models.values()
                                                                 for name in model.requires])
    unavailable = {key(cell): why for cell in cells if cell.profile
                   if (why := refused.get(cell.profile)
                       or (cell.server and why_unavailable(models[cell.server], platforms[cell.profile])))}
    asked = order.timing.repeats
    repeats = dict.fromkeys(work, asked) if order.exactly else how_often(work, asked)
    trials = plan({job: often for job, often in repeats.items() if key(job.cell) not in unavailable})

    run = Run(
        id=order.run_id, lab=lab.name, started=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=order.profile, backend_why=order.backend_why, quick=order.quick, timing=order.timing,
        machine=describe(backend.name, backend.manifest()), platforms=platforms, unavailable=unavailable,
        planned=len(trials))
    store.save(run, order.results_folder)
    listen(RunStarted(run))
    state = "failed"
    try:
        run = _measure(order, bench, run, trials)
        claims = [] if order.exactly else undecided(lab, run)
        if claims:
            more = plan({job: asked for job, needed_by in work.items() if any(claim in claims for claim in needed_by)},
                        asked, len(trials))
            run = run.model_copy(update={"planned": len(trials) + len(more)})
            listen(RunExtended(run, tuple(claim.key for claim in claims)))
            run = _measure(order, bench, run, more)
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


def _facts(bench: Workbench, own: Profile, profiles: Iterable[Profile], requires: Sequence[str],
           ) -> tuple[dict[Profile, dict[str, Any]], dict[Profile, str]]:
    """The facts of each profile, and why others cannot be had here. Raises InputError where the run's own cannot."""
    platforms: dict[Profile, dict[str, Any]] = {}
    refused: dict[Profile, str] = {}
    for profile in profiles:
        try:
            platforms[profile] = bench.facts(profile, requires)
        except InputError as error:
            if profile == own:
                raise
            refused[profile] = error.what
    return platforms, refused


def key(cell: Cell) -> str:
    """Names a server (or an experiment) under a profile: what is available is so for every load."""
    return f"{cell.experiment or cell.server} on {cell.profile}"


def _measure(order: Order, bench: Workbench, run: Run, trials: Sequence[Trial]) -> Run:
    """The run with the results of `trials`; those of a server that is unavailable or has failed are passed over."""
    bench.servers.plan(wanted for trial in trials if not given_up(run, trial)
                       if (wanted := _ahead(order, bench, trial.cell)))
    for trial in trials:
        if given_up(run, trial):
            continue
        order.listen(TrialStarted(trial))
        try:
            result = _run_one(order, bench, trial)
        except Unavailable as error:
            where = TRACING if trial.traced else key(trial.cell)
            run = run.model_copy(update={"unavailable": {**run.unavailable, where: error.what}})
            store.save(run, order.results_folder)
            continue
        run = store.append_result(run, result)
        store.save(run, order.results_folder)
        order.listen(TrialEnded(result))
    return run


def given_up(run: Run, trial: Trial) -> bool:
    """Whether the trial cannot be had here, or is of a server that has failed."""
    failed = {key(result.trial.cell) for result in run.results if result.failure}
    return key(trial.cell) in {*run.unavailable, *failed} or (trial.traced and TRACING in run.unavailable)


def _ahead(order: Order, bench: Workbench, cell: Cell) -> Wanted | None:
    """What can be started before the cell's turn: whatever sleeps until then."""
    if cell.experiment:
        return experiment_wanted(order.lab, cell)
    model = order.servers[cell.server]
    assert cell.profile
    return bench.wanted(model, cell.profile, _fresh(order, cell)) if model.sleeps else None


def _fresh(order: Order, cell: Cell) -> bool:
    """Whether each trial of the cell gets a server of its own; in a quick run only where that makes the difference."""
    return not order.quick or needs_fresh(jobs(order.lab, order.profile), cell)


def _run_one(order: Order, bench: Workbench, trial: Trial) -> Result:
    """Raises Unavailable where the platform lacks something."""
    lab, cell = order.lab, trial.cell
    assert cell.profile
    if cell.experiment:
        return run_experiment(bench, trial, lab)
    model = order.servers[cell.server]
    if trial.traced:
        return run_traced(bench, trial, model, cell.profile, lab.loads[cell.load], order.timing,
                          fresh=_fresh(order, cell)).result()
    return run_trial(bench, trial, model, cell.profile, loads(lab, cell), order.timing,
                     partial(_report, order.listen, trial), _fresh(order, cell))


def loads(lab: Lab, cell: Cell) -> list[Load]:
    """The cell's load, and those beside it."""
    own = lab.loads[cell.load]
    return [own, *(lab.loads[name] for name in own.beside)]


def _report(listen: Listener, trial: Trial, progress: dict[str, Any]) -> None:
    event: Event = TrialProgress(trial, progress)
    listen(event)
