"""Runs a lab's experiment: a small program that measures something by itself and prints its figures."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from labs.harness.deploy.base import EXIT_UNAVAILABLE, Deadline, Spec
from labs.harness.errors import Unavailable
from labs.harness.fleets import exit_words
from labs.harness.model import Lab, Result, Trial
from labs.harness.trial import Bench

EXPERIMENT_SECONDS = 60.0


def run_experiment(bench: Bench, trial: Trial, lab: Lab) -> Result:
    """The experiment of the trial's cell, once; its figures are in the result.

    A program that fails, hangs or prints no figures gives a Result with `failure`. Raises Unavailable where it says
    that the platform lacks something.
    """
    experiment = lab.experiments[trial.cell.experiment]
    assert trial.cell.profile
    started, clock = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
    command = (f"labs/{lab.name}/{experiment.program}",)
    process = bench.backend.start(Spec("experiment", command, trial.cell.profile))
    deadline = Deadline(EXPERIMENT_SECONDS)
    figures: dict[str, float] = {}
    failure = None
    try:
        while (line := process.output.readline(deadline.left())) is not None:
            if line.startswith("{"):
                figures = json.loads(line)
        code = exit_words(process)
        if process.exit_code() == EXIT_UNAVAILABLE:
            raise Unavailable(" ".join(process.output.tail()) or "it says that this platform lacks something")
        if process.exit_code() or not figures:
            failure = f"{experiment.program} ended without figures{code}"
    except TimeoutError:
        failure = f"{experiment.program} did not end within {EXPERIMENT_SECONDS:g} s"
    finally:
        process.stop()
    return Result(trial=trial, started=started, figures=figures, failure=failure, log=process.output.tail(),
                  overhead_seconds=time.perf_counter() - clock)
