"""Runs a lab's experiment: a small program that measures something by itself and prints its figures."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from labs.harness.deploy.base import EXIT_UNAVAILABLE, Deadline, Process, Spec
from labs.harness.errors import ServerFailed, Unavailable
from labs.harness.fleets import exit_words
from labs.harness.model import Cell, Lab, Result, Trial
from labs.harness.pool import Wanted
from labs.harness.workbench import Workbench

EXPERIMENT_SECONDS = 60.0

BEGIN = """
import os, runpy, sys
print("READY - 0", flush=True)
sys.stdin.readline()
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A Python that is up before its turn, and runs the program as if by name once it is told to."""


def wanted(lab: Lab, cell: Cell) -> Wanted:
    """What the pool has to start for a trial of the cell."""
    assert cell.profile
    program = f"labs/{lab.name}/{lab.experiments[cell.experiment].program}"
    return Wanted(Spec("experiment", ("-c", BEGIN, program), cell.profile))


def run_experiment(bench: Workbench, trial: Trial, lab: Lab) -> Result:
    """The experiment of the trial's cell, once; its figures are in the result.

    A program that fails, hangs or prints no figures gives a Result with `failure`. Raises Unavailable where it says
    that the platform lacks something.
    """
    clock = time.perf_counter()
    result = Result(trial=trial, started=datetime.now(UTC).isoformat(timespec="milliseconds"))
    try:
        with bench.servers.lend(wanted(lab, trial.cell)) as (process, _):
            figures = _figures(process, lab.experiments[trial.cell.experiment].program)
            result = result.model_copy(update={"figures": figures, "log": process.output.tail()})
    except ServerFailed as failure:
        result = result.model_copy(update={"failure": failure.what, "log": failure.log})
    return result.model_copy(update={"overhead_seconds": time.perf_counter() - clock})


def _figures(process: Process, program: str) -> dict[str, float]:
    """What the program prints once it is told to begin. Raises ServerFailed, or Unavailable as above."""
    process.write("begin")
    deadline = Deadline(EXPERIMENT_SECONDS)
    figures: dict[str, float] = {}
    try:
        while (line := process.output.readline(deadline.left())) is not None:
            if line.startswith("{"):
                figures = json.loads(line)
    except TimeoutError:
        raise ServerFailed(f"{program} did not end within {EXPERIMENT_SECONDS:g} s",
                           log=process.output.tail()) from None
    code = exit_words(process)
    if process.exit_code() == EXIT_UNAVAILABLE:
        raise Unavailable(" ".join(process.output.tail()) or "it says that this platform lacks something")
    if process.exit_code() or not figures:
        raise ServerFailed(f"{program} ended without figures{code}", log=process.output.tail())
    return figures
