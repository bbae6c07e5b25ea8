"""What a run measures, how often and in which order. Pure: takes claims, gives trials.

Trials are interleaved: every repeat measures each cell once, so that whatever the machine does meanwhile falls on
all cells alike, and a cell is compared with the others of its own repeat. Counts take two repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labs.harness.metrics import Metric, metric_of
from labs.harness.model import Cell, Claim, Lab, Profile, Trial
from labs.harness.verdicts import COUNT_REPEATS


@dataclass(frozen=True)
class Job:
    """What a repeat measures once: a cell, timed or with its system calls counted."""

    cell: Cell
    traced: bool = False


Work = Mapping[Job, Sequence[Claim]]
"""What is to be measured, and which claims need it."""


def jobs(lab: Lab, profile: Profile) -> Work:
    """What the lab's claims need, once each, in order of appearance."""
    found: dict[Job, list[Claim]] = {}
    for claim in lab.claims:
        for cell in claim.cells_on(profile) if claim.measure else ():
            found.setdefault(Job(cell, metric_of(claim.measure or "").traced), []).append(claim)
    return found


def plan(repeats: Mapping[Job, int], after: int = 0, number: int = 0) -> list[Trial]:
    """Every job as often as it says; each repeat begins one job further on, so that none always comes first.

    after, number: the last repeat and the last trial of the plan that this one continues.
    """
    work, trials = list(repeats), list[Trial]()
    for repeat in range(max(repeats.values(), default=0)):
        shift = repeat % len(work)
        for job in (*work[shift:], *work[:shift]):
            if repeat < repeats[job]:
                trials.append(Trial(number=number + len(trials) + 1, repeat=after + repeat + 1, cell=job.cell,
                                    traced=job.traced))
    return trials


def how_often(work: Work, repeats: int) -> dict[Job, int]:
    """Jobs → repeats at first. What is only counted comes out the same every time: twice is enough."""
    return {job: min(repeats, COUNT_REPEATS) if all(metric.count for metric in metrics(claims)) else repeats
            for job, claims in work.items()}


def needs_fresh(work: Work, cell: Cell) -> bool:
    """Whether each trial of the cell needs a server that has served nobody before."""
    return any(metric.fresh for job, claims in work.items() if job.cell == cell for metric in metrics(claims))


def metrics(claims: Iterable[Claim]) -> list[Metric]:
    """What the claims measure."""
    return [metric_of(claim.measure) for claim in claims if claim.measure]
