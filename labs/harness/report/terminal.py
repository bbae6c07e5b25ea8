"""What a person sees in the terminal: progress while a lab runs, the verdicts when it is done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text as Line

from labs.harness.doctor import Finding
from labs.harness.events import Event, Note, RunEnded, RunExtended, RunStarted, TrialEnded, TrialProgress, TrialStarted
from labs.harness.metrics import METRICS
from labs.harness.model import Cell, Language, Outcome, Result, Run, say
from labs.harness.verdicts import EMULATED, number
from labs.harness.verdicts import summary as count

COLOURS: dict[Outcome, str] = {
    "holds": "green", "refuted": "red", "inconclusive": "yellow", "unavailable": "bright_black"}


def cell_name(cell: Cell, run: Run | None = None) -> str:
    """"select × ten", with the profile where it is not the run's own."""
    own = run is not None and cell.profile == run.profile
    return (cell.model_copy(update={"profile": None}) if own else cell).label()


def brief(result: Result) -> str:
    """One trial's figures on one line."""
    if result.failure:
        return f"failed: {result.failure}"
    if result.figures:
        return ", ".join(f"{name} {number(value)}" for name, value in result.figures.items())
    assert result.fleet
    if result.calls is not None:
        return ", ".join(f"{name} {count / max(result.fleet.requests, 1):.2f}" for name, count in
                         list(result.calls.items())[:4]) + " calls a request"
    words = [f"{number(result.fleet.requests / result.fleet.seconds)} requests/s"]
    if (cpu := METRICS["cpu_us_per_request"].of(result)) is not None:
        words.append(f"{number(cpu)} µs CPU a request")
    words.append(f"{result.fleet.connections['held']:,} of {result.fleet.connections['asked']:,} connections held")
    if result.limits:
        words.append("limited by " + ", ".join(limit.partition(":")[0] for limit in result.limits))
    return ", ".join(words)


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Follower:
    """Listens to runs and shows how they go: a live line in a terminal, one plain line per trial elsewhere.

    A context manager. console: where it writes; stderr, so that stdout stays free for results. Between two runs, the
    terminal is free for other output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._run: Run | None = None
        self._first_trial = 0.0
        self._last = ""
        self._progress = Progress(
            BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), console=self.console,
            transient=True)
        self._bar = self._progress.add_task("", visible=False)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._rest()

    def __call__(self, event: Event) -> None:
        match event:
            case Note(text):
                self._print(text)
            case RunStarted(run):
                self._run, self._first_trial, self._last = run, time.monotonic(), ""
                self._print(f"{run.lab}: {run.planned} trials of {run.timing.window_seconds:g} s, "
                            f"each up to {run.timing.repeats} times, {run.machine.backend}, profile {run.profile}")
                self._progress.update(self._bar, total=run.planned, completed=0, visible=True)
                if self.console.is_terminal:
                    self._progress.start()
            case RunExtended(run, undecided):
                self._run = run
                self._print(f"undecided: {', '.join(undecided)}; {run.planned - len(run.results)} more trials")
                self._progress.update(self._bar, total=run.planned)
            case TrialStarted(trial):
                self._describe(f"{cell_name(trial.cell, self._run)}, repeat {trial.repeat}")
            case TrialProgress(trial, progress):
                self._describe(f"{cell_name(trial.cell, self._run)}, repeat {trial.repeat}: {_now(progress)}")
            case TrialEnded(result):
                self._ended(result)
            case RunEnded():
                self._rest()

    def _rest(self) -> None:
        """Takes the live line away; elsewhere rich would print an empty line instead."""
        self._progress.update(self._bar, visible=False)
        if self.console.is_terminal:
            self._progress.stop()

    def _ended(self, result: Result) -> None:
        trial, run = result.trial, self._run
        assert run
        name = cell_name(trial.cell, run)
        self._last = f"last: {name}: {brief(result)}"
        if not self.console.is_terminal:
            self._print(f"{trial.number:>3}/{run.planned}  {name} (repeat {trial.repeat}): {brief(result)}; "
                        f"{self._left(trial.number)} left")
        elif result.failure:
            self._print(f"{name}: {brief(result)}")
        self._progress.update(self._bar, completed=trial.number)

    def _describe(self, doing: str) -> None:
        task = self._progress.tasks[0]
        left = f"{self._left(int(task.completed))} left  " if task.completed else ""
        self._progress.update(self._bar, description=f"{left}{doing}   {self._last}")

    def _left(self, done: int) -> str:
        assert self._run
        elapsed = time.monotonic() - self._first_trial
        return minutes(elapsed / done * (self._run.planned - done))

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _now(progress: dict[str, Any]) -> str:
    return f"{number(progress['per_second'])} requests/s on {progress['connections']:,} connections"


def verdicts(run: Run, language: Language = "en") -> RenderableType:
    """The verdict table: per claim its outcome, the figures, and one line that explains them."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 1, 0))
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim")
    for verdict in run.verdicts:
        about = Line(say(verdict.text, language), "bold")
        about.append(f"\n{verdict.figures}", "not bold cyan")
        if verdict.said:
            about.append(f'\nthe server said: "{verdict.said}"', "not bold italic")
        if explanation := say(verdict.explanation, language):
            about.append(f"\n{explanation}", "not bold")
        label = Line(verdict.outcome, COLOURS[verdict.outcome])
        label.append(f"\n{verdict.claim}", "bright_black")
        if verdict.emulated:
            label.append("\n(emulated)", "bright_black")
        table.add_row(label, about)
    return table


POLLERS = ("select", "poll", "epoll", "kqueue", "iocp")


def platforms(run: Run) -> Table:
    """The pollers of every profile of the run, and what the standard library makes of them."""
    table = Table(title="What each platform offers", title_justify="left", box=None, pad_edge=False,
                  padding=(0, 2, 0, 0))
    for column in ("profile", "pollers", "DefaultSelector", "asyncio loop"):
        table.add_column(column)
    for profile, facts in run.platforms.items():
        name = f"{profile} (emulated)" if profile in EMULATED else profile
        table.add_row(name, ", ".join(poller for poller in POLLERS if facts[poller]), str(facts["default-selector"]),
                      str(facts["asyncio-loop"]))
    return table


def end_of_run(run: Run, results: Path, language: Language = "en") -> Group:
    """Everything that is said at the end of a run: verdicts, what was not measured, where it lies, what is next."""
    parts: list[RenderableType] = [Line(f"\n{run.lab}: {count(run.verdicts)}", "bold"), Line()]
    if len(run.platforms) > 1:
        parts += [platforms(run), Line()]
    parts.append(verdicts(run, language))
    parts += [Line(f"not measured: {server}: {why}", "bright_black") for server, why in run.unavailable.items()]
    limited = [result for result in run.results if result.limits]
    if limited:
        parts.append(Line(f"in {len(limited)} of {len(run.results)} trials something else than the server may have set "
                          f"the pace ({limited[0].limits[0]}): their rates and latencies are not compared", "yellow"))
    if run.state != "done":
        parts.append(Line(f"this run is not complete: {run.state} after {len(run.results)} of {run.planned} trials",
                          "yellow"))
    parts.append(Line(f"measured on {run.machine.backend} ({run.backend_why}); {run.machine.os} "
                      f"{run.machine.os_release}, {run.machine.cpus} CPUs, Python {run.machine.python}"))
    parts.append(Line(f"figures: {results / run.id / 'result.json'}"))
    parts.append(Line("next: " + next_step(run)))
    return Group(*parts)


def all_verdicts(runs: Sequence[Run]) -> Group:
    """One line per claim of every run, and how many of each outcome there are."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title="\nAll labs", title_justify="left")
    for column in ("lab", "claim", "verdict", "figures"):
        table.add_column(column, no_wrap=column != "figures")
    for run in runs:
        for verdict in run.verdicts:
            table.add_row(run.lab, verdict.claim, Line(verdict.outcome, COLOURS[verdict.outcome]), verdict.figures)
    found = [verdict for run in runs for verdict in run.verdicts]
    return Group(table, Line(f"\n{len(found)} claims in {len(runs)} labs: {count(found)}", "bold"))


def next_step(run: Run) -> str:
    """The command that helps most after this run."""
    undecided = any(verdict.outcome == "inconclusive" for verdict in run.verdicts)
    if undecided and run.quick:
        return f"invoke lab.run {run.lab}   (longer windows, more repeats)"
    if undecided:
        return f"invoke lab.run {run.lab} --repeats {4 * run.timing.repeats}   (to decide the inconclusive claims)"
    if run.profile == "linux":
        return f"invoke lab.run {run.lab} --profile select-only   (the same on a Linux shaped like Windows)"
    return f"invoke lab.show {run.lab}   (the handout: what to predict, observe and explain)"


def follow_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Prints each finding of the doctor as it comes, on stderr, and returns them all."""
    console, found = Console(stderr=True), []
    for finding in findings:
        found.append(finding)
        mark, colour = {True: ("ok", "green"), False: ("FAILS", "red"), None: ("-", "bright_black")}[finding.ok]
        line = Line(f"{mark:>5}  ", colour)
        line.append(f"{finding.name}: ", "bold").append(finding.saw, "default")
        if finding.ok is False and finding.mend:
            line.append(f"\n       try: {finding.mend}", "yellow")
        console.print(line)
    return found
