"""Draws timelines in the terminal: one lane per thread and per client, several models on one time scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from labs.harness.lanes import Client, Span, Thread, Timeline
from labs.harness.report.tables import as_json
from labs.harness.store import write
from labs.harness.timeline import Trace, sentences

FILE = "timeline.json"

STYLES = {"waiting": "blue", "asking": "magenta", "in vain": "red", "copying": "bold green", "calling": "cyan",
          "running": "yellow", "there": "dim", "awaiting": "red", "answered": "bold green"}
SIGNS = {"waiting": "─", "asking": "?", "in vain": "x", "copying": "█", "calling": "▪", "running": "▒", "there": "·",
         "awaiting": "━", "answered": "●"}
PLAIN = {**SIGNS, "waiting": "-", "copying": "#", "calling": "+", "running": "=", "there": ".", "awaiting": "~",
         "answered": "A"}
RANK = ("copying", "in vain", "calling", "asking", "running", "waiting")
"""What a cell shows of all that happened in it: the first of these."""

LABEL = 16
MOST_THREADS = 8
LEGEND = (("waiting", "waits in a call"), ("asking", "poller answers at once"), ("copying", "copies"),
          ("in vain", "asks in vain"), ("calling", "other call"), ("running", "between calls"),
          ("there", "client is silent"), ("awaiting", "awaits an answer"), ("answered", "answered"))


def save(trace: Trace, folder: Path) -> Path:
    """Writes folder/<id>/timeline.json and returns its path. Raises MachineError where that cannot be done."""
    return write(folder / trace.id / FILE, as_json(trace) + "\n")


class Drawing:
    """A rich renderable of one or more timelines, as wide as the console; plain ASCII where its encoding is no UTF."""

    def __init__(self, timelines: Sequence[Timeline]) -> None:
        self.timelines = timelines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        signs = PLAIN if options.ascii_only else SIGNS
        width = max(20, options.max_width - LABEL - 1)
        length = max((timeline.length_us for timeline in self.timelines), default=1) or 1
        for timeline in self.timelines:
            yield Text(f"{timeline.model} ({timeline.backend}, {timeline.profile})", style="bold")
            yield Text(" " * LABEL + _scale(length, width), style="dim")
            busy = [thread for thread in timeline.threads if not thread.idle] or list(timeline.threads[:1])
            for thread in busy[:MOST_THREADS]:
                yield _labelled(f"thread {thread.id}", _thread_lane(thread, length, width, signs))
            if hidden := len(timeline.threads) - len(busy[:MOST_THREADS]):
                waited = len(timeline.threads) - len(busy)
                yield Text(f"{'':{LABEL}}{hidden} more, {waited} of which only waited", style="dim")
            for client in timeline.clients:
                yield _labelled(f"client {client.number}", _client_lane(client, length, width, signs))
            for sentence in sentences(timeline):
                yield Text(f"  {sentence}")
            yield Text("")
        legend = Text("  ".join(f"{signs[state]} {words}" for state, words in LEGEND), style="dim")
        yield legend
        if self.timelines:
            yield Text(f"{self.timelines[0].clock}; {self.timelines[0].disturbance}", style="dim")


def _scale(length: int, width: int) -> str:
    """Milliseconds at a round distance."""
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
    step = next((step for step in steps if step * 1000 * width / length >= 10), steps[-1])
    line = [" "] * (width + 8)
    for mark in range(0, length // 1000 + 1, step):
        at = mark * 1000 * width // length
        text = f"|{mark} ms" if not mark else f"|{mark}"
        line[at:at + len(text)] = text
    return "".join(line)[:width].rstrip()


def _labelled(label: str, lane: Text) -> Text:
    return Text(f"{label[:LABEL - 1]:{LABEL}}") + lane


def _cell(at: int, length: int, width: int) -> int:
    return min(max(at * width // length, 0), width - 1)


def _thread_lane(thread: Thread, length: int, width: int, signs: dict[str, str]) -> Text:
    states = [""] * width

    def put(cell: int, state: str) -> None:
        if not states[cell] or RANK.index(state) < RANK.index(states[cell]):
            states[cell] = state

    for span in thread.spans:
        first, last = _cell(span.start_us, length, width), _cell(span.end_us, length, width)
        for cell in range(first, last + 1):
            put(cell, span.state)
        if span.moved:
            put(last, "copying")
    letters = [signs[state] if state else " " for state in states]
    for span in thread.spans:
        if span.state == "waiting":
            _write(letters, states, span, length, width)
    lane = Text()
    for letter, state in zip(letters, states, strict=True):
        lane.append(letter, STYLES.get(state, ""))
    return lane


def _write(letters: list[str], states: list[str], span: Span, length: int, width: int) -> None:
    """The call's name into a long wait, and the client whom it is for."""
    words = f" {span.call}{'' if span.client is None else f' client {span.client}'} "
    first, last = _cell(span.start_us, length, width) + 1, _cell(span.end_us, length, width)
    if last - first >= len(words) + 2 and all(state == "waiting" for state in states[first:last]):
        middle = first + (last - first - len(words)) // 2
        letters[middle:middle + len(words)] = words


def _client_lane(client: Client, length: int, width: int, signs: dict[str, str]) -> Text:
    states = [""] * width
    for cell in range(_cell(client.connected_us, length, width), _cell(client.left_us, length, width) + 1):
        states[cell] = "there"
    for ask in client.asks:
        until = client.left_us if ask.answered_us is None else ask.answered_us
        for cell in range(_cell(ask.asked_us, length, width), _cell(until, length, width) + 1):
            states[cell] = "awaiting"
    for ask in client.asks:
        if ask.answered_us is not None:
            states[_cell(ask.answered_us, length, width)] = "answered"
    lane = Text()
    for state in states:
        lane.append(signs[state] if state else " ", STYLES.get(state, ""))
    return lane
