"""From the results of a run to what they say of each claim. Pure: reads data, gives data.

The rules, so that a verdict does not flip when the machine is busy:
- a claim holds (or is refuted) only if the whole 95 % interval lies on that side of the threshold (97.5 % once it has
  been measured again because it was undecided: looking twice must not make a mistake likelier than 5 %);
- it takes three repeats, or two of a count;
- a rate or a latency of a repeat in which something else than the server set the pace does not count;
- what is smaller than one step of its counter is known to be small, and no more: a ratio built with it is a bound.
Everything else is inconclusive, and the figures say what would decide it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from labs.harness.metrics import Metric, metric_of
from labs.harness.model import Cell, Claim, Lab, Outcome, Profile, Result, Run, Text, Verdict
from labs.harness.stats import Interval, interval, paired_ratios, ratio_interval

ENOUGH = 3
"""Repeats that a verdict takes at the least."""

COUNT_REPEATS = 2
"""The same for counts, which hardly vary, and how often they are taken at first."""

CONFIDENCE, SECOND_CONFIDENCE = 0.95, 0.975
"""Of an interval, and of one that is looked at for the second time."""

TRACING = "system calls"
"""Where `unavailable` says why no system calls can be counted."""

EMULATED: frozenset[str] = frozenset({"poll-only", "select-only"})

MORE = "more repeats (--repeats 10) or a quieter machine would decide it"

DEFAULTS: dict[Outcome, Text] = {
    "holds": {"en": "What was measured agrees with the lesson.", "zh": "测量结果与课程所说一致。"},
    "refuted": {"en": "What was measured contradicts the lesson.", "zh": "测量结果与课程所说相反。"},
    "inconclusive": {"en": "What was measured does not decide it.", "zh": "测量结果不足以下结论。"},
    "unavailable": {"en": "It cannot be tested on this platform.", "zh": "在此平台上无法检验。"},
}


def judge(
    claim: Claim,
    results: Iterable[Result],
    *,
    profile: Profile,
    facts: Mapping[Profile, Mapping[str, Any]] | None = None,
    unavailable: Mapping[str, str] | None = None,
    planned_repeats: int | None = None,
) -> Verdict:
    """What the results of a run say of one claim.

    profile: the run's own, for cells that name none. facts: what the probe found, per profile.
    unavailable: "<server model> on <profile>" → why it could not run at all; TRACING → why no calls can be counted.
    planned_repeats: those beyond them were measured because the claim was undecided.
    """
    if claim.fact is not None:
        return _judge_fact(claim, profile, (facts or {}).get(profile, {}))
    return _judge_measure(claim, tuple(results), profile, unavailable or {}, planned_repeats or sys.maxsize)


def judge_run(lab: Lab, run: Run) -> tuple[Verdict, ...]:
    """A verdict for every claim of the lab, in its order, from what the run has found so far."""
    return tuple(judge(claim, run.results, profile=run.profile, facts=run.platforms, unavailable=run.unavailable,
                       planned_repeats=run.timing.repeats) for claim in lab.claims)


def undecided(lab: Lab, run: Run) -> list[Claim]:
    """The claims that more repeats may decide: inconclusive, though every trial gave a figure."""
    return [claim for claim, verdict in zip(lab.claims, judge_run(lab, run), strict=True)
            if verdict.outcome == "inconclusive" and claim.measure and not any(
                _series(cell, metric_of(claim.measure), run.results).trouble
                for cell in claim.cells_on(run.profile))]


def fail_on(verdicts: Iterable[Verdict], worst: Literal["refuted", "inconclusive"]) -> tuple[Verdict, ...]:
    """The verdicts that count as failures; "inconclusive" includes the refuted ones."""
    bad = {"refuted"} if worst == "refuted" else {"refuted", "inconclusive"}
    return tuple(verdict for verdict in verdicts if verdict.outcome in bad)


def _verdict(claim: Claim, outcome: Outcome, figures: str, platform: Profile, **more: Any) -> Verdict:
    return Verdict(claim=claim.key, id=claim.id, outcome=outcome, text=claim.claim, figures=figures,
                   explanation=claim.explain.get(outcome, DEFAULTS[outcome]), platform=platform,
                   emulated=platform in EMULATED, **more)


# --- facts -----------------------------------------------------------------------------------------------------------


def _judge_fact(claim: Claim, profile: Profile, facts: Mapping[str, Any]) -> Verdict:
    fact, said = claim.fact or "", claim.equals
    if isinstance(said, dict):
        if profile not in said:
            return _verdict(claim, "unavailable", f"{fact}: the lesson says nothing of it on {profile}", profile)
        said = said[profile]
    if fact not in facts:
        return _verdict(claim, "unavailable", f"{fact}: the probe does not know it here", profile)
    found = facts[fact]
    same = found == said and isinstance(found, bool) == isinstance(said, bool)  # in Python 1 == True
    return _verdict(claim, "holds" if same else "refuted", f"{fact}: {_plain(found)}; the lesson says: {_plain(said)}",
                    profile)


def _plain(fact: object) -> str:
    return {True: "yes", False: "no"}[fact] if isinstance(fact, bool) else str(fact)


# --- metrics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Series:
    """The figures of one cell."""

    values: dict[int, float]
    """By repeat."""
    steps: dict[int, float]
    """By repeat, the metric's resolution."""
    trouble: tuple[str, ...]
    """Why repeats have no figure, one reason each."""
    limits: tuple[str, ...]
    """What else than the server set the pace of repeats that therefore do not count."""


def _series(cell: Cell, metric: Metric, results: Iterable[Result]) -> _Series:
    values, steps = {}, {}
    trouble: list[str] = []
    limits: list[str] = []
    for result in results:
        if result.trial.cell != cell or result.trial.traced != metric.traced:
            continue
        if metric.rate and result.limits:
            limits.extend(result.limits)
            continue
        value = None if result.failure else metric.of(result)
        wrong = result.fleet.wrong if result.fleet and metric.name != "wrong_answers" else 0
        if value is None:
            trouble.append(metric.why_none(result))
        elif wrong:
            trouble.append(f"wrong answers: {wrong:,}; a server that answers wrongly is not measured")
        else:
            values[result.trial.repeat], steps[result.trial.repeat] = value, metric.resolution(result)
    return _Series(values, steps, tuple(trouble), tuple(dict.fromkeys(limits)))


def _judge_measure(claim: Claim, results: Sequence[Result], profile: Profile, unavailable: Mapping[str, str],
                   planned_repeats: int) -> Verdict:
    assert claim.of is not None and claim.measure is not None  # the model has checked both
    metric = metric_of(claim.measure)
    cells = claim.cells_on(profile)
    platform = cells[0].profile or profile
    for cell in cells:
        what = cell.experiment or cell.server
        why = unavailable.get(f"{what} on {cell.profile}") or (metric.traced and unavailable.get(TRACING))
        if why:
            return _verdict(claim, "unavailable", f"{what}: {why}", platform)
    series = [_series(cell, metric, results) for cell in cells]
    repeats = sorted(set.intersection(*(set(one.values) for one in series)))
    columns = [tuple(one.values[repeat] for repeat in repeats) for one in series]
    doubts = [doubt for cell, one in zip(cells, series, strict=True) for doubt in _doubts(cell, one)]
    threshold = claim.at_least if claim.at_least is not None else claim.at_most
    assert threshold is not None
    known: dict[str, Any] = {
        "threshold": threshold, "metric": metric.name, "unit": "times" if claim.against else metric.unit,
        "said": _said(cells[0], results), "of_values": columns[0],
        "against_values": columns[1] if claim.against else ()}
    if not repeats:
        reason = "; ".join(doubts) or "no repeat measured both"
        return _verdict(claim, "inconclusive", f"{reason}; nothing to compare", platform, **known)

    confidence = CONFIDENCE if max(repeats) <= planned_repeats else SECOND_CONFIDENCE
    if claim.against:
        found = _ratio(series, repeats, confidence)
    else:
        found = interval(columns[0], confidence)
        if not metric.exact:  # repeats that agree to the counter's step do not show more than the step
            step = max(series[0].steps[repeat] for repeat in repeats)
            found = replace(found, low=min(found.low, found.value - step), high=max(found.high, found.value + step),
                            unstable=found.unstable and max(columns[0]) - min(columns[0]) > 2 * step)
    enough = COUNT_REPEATS if metric.count else ENOUGH
    if len(repeats) < enough:
        doubts.append(f"{_count(len(repeats), 'repeat')} of the {enough} it takes: run with --repeats 5 or more")
    outcome = "inconclusive" if doubts else _side(found, claim)
    if outcome == "inconclusive" and not doubts:
        doubts.append(f"either is possible: {MORE}")
    if found.unstable:
        doubts.append("unstable: the repeats differ by more than 10 %")
    figures = "; ".join([compare(found, claim, known["unit"]), *doubts])
    return _verdict(claim, outcome, figures, platform, value=found.value, low=_finite(found.low),
                    high=_finite(found.high), **known)


def _said(cell: Cell, results: Iterable[Result]) -> str:
    """The last line that the cell's server wrote on stderr."""
    return next((result.log[-1] for result in results if result.trial.cell == cell and result.log), "")


def _doubts(cell: Cell, series: _Series) -> list[str]:
    """Why nothing may be concluded from a cell's figures, whatever they are."""
    measured, failed = len(series.values), len(series.trouble)
    if series.trouble:
        some = "every repeat" if not measured else f"{failed} of {measured + failed} repeats"
        return [f"{cell.label()} has no figure in {some} ({series.trouble[0]})"]
    if series.limits and measured < ENOUGH:
        return [f"not the server alone set the pace of {cell.label()} ({'; '.join(series.limits)}): "
                "more CPUs, or --repeats on a quieter machine"]
    return [] if measured else [f"{cell.label()} was not measured"]


def _ratio(series: Sequence[_Series], repeats: Sequence[int], confidence: float) -> Interval:
    """The paired ratio of two cells. A value below its resolution is raised to it, and the ratio is then a bound."""
    raised = [{repeat: max(one.values[repeat], one.steps[repeat]) for repeat in repeats} for one in series]
    floors = [any(one.values[repeat] < one.steps[repeat] for repeat in repeats) for one in series]
    pairs = [[max(column[repeat], 1e-12) for repeat in repeats] for column in raised]
    found = ratio_interval(paired_ratios(*pairs), confidence)
    return replace(found, low=0.0 if floors[0] else found.low, high=math.inf if floors[1] else found.high)


def _side(found: Interval, claim: Claim) -> Outcome:
    if claim.at_least is not None:
        return "holds" if found.low >= claim.at_least else "refuted" if found.high < claim.at_least else "inconclusive"
    assert claim.at_most is not None
    return "holds" if found.high <= claim.at_most else "refuted" if found.low > claim.at_most else "inconclusive"


# --- words -----------------------------------------------------------------------------------------------------------


def compare(found: Interval, claim: Claim, unit: str) -> str:
    """"12.3 times (11.8 to 12.9), needs at least 3"."""
    bound = f"needs at least {number(claim.at_least, unit)}" if claim.at_least is not None \
        else f"at most {number(claim.at_most or 0.0, unit)}"
    word = {"share": " %", "us": " µs", "": ""}.get(unit, f" {unit}")
    if math.isinf(found.low) or (found.low == 0 and math.isinf(found.high)):
        span = ""
    elif math.isinf(found.high):
        span = f" ({number(found.low, unit)} or more)"
    else:
        span = f" ({number(found.low, unit)} to {number(found.high, unit)})"
    return f"{number(found.value, unit)}{word}{span}, {bound}"


def number(value: float, unit: str = "") -> str:
    """About three digits, whole numbers in full, thousands separated; a share in percent."""
    if unit == "share":
        value *= 100
    size = abs(value)
    if size >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}".rstrip("0").rstrip(".") if size >= 0.1 else f"{value:.2g}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def summary(verdicts: Collection[Verdict]) -> str:
    """"3 hold, 1 refuted, 1 inconclusive"; what did not occur is left out."""
    words = {"holds": "hold", "refuted": "refuted", "inconclusive": "inconclusive", "unavailable": "unavailable"}
    counts = {word: sum(verdict.outcome == outcome for verdict in verdicts) for outcome, word in words.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
