"""From calls to states, and to sentences and drawings."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from samples import machine

from labs.harness.lanes import Timeline, build, state_of
from labs.harness.measure.strace import parse
from labs.harness.report.timeline import Drawing, save
from labs.harness.timeline import Trace, sentences

EVENTS = [
    {"event": "start", "at": 100.0}, {"event": "connected", "client": 1, "at": 100.0, "port": 5001},
    {"event": "connected", "client": 2, "at": 100.04, "port": 5002},
    {"event": "asked", "client": 2, "at": 100.04, "number": 1}, {"event": "left", "client": 1, "at": 100.2},
    {"event": "answered", "client": 2, "at": 100.2005, "number": 1}, {"event": "end", "at": 100.25}]
DEAF = """\
9 99.500000 accept4(3,  <unfinished ...>
9 100.000100 <... accept4 resumed>{sa_family=AF_INET, sin_port=htons(5001)}, [16], 0) = 4 <0.500100>
9 100.000200 recvfrom(4, "", 16384, 0, NULL, NULL) = 0 <0.199850>
9 100.200100 close(4) = 0 <0.000010>
9 100.200150 accept4(3, {sa_family=AF_INET, sin_port=htons(5002)}, [16], 0) = 4 <0.000020>
9 100.200200 recvfrom(4, ""..., 16384, 0, NULL, NULL) = 16 <0.000010>
9 100.200250 sendto(4, ""..., 16, 0, NULL, 0) = 16 <0.000030>
9 100.200300 recvfrom(4,  <detached ...>
""".splitlines()


def timeline() -> Timeline:
    calls = sorted(parse(DEAF), key=lambda call: call.at_seconds)
    return build("blocking", "native", calls, {9: 9}, EVENTS, "linux")


def test_each_wait_belongs_to_the_client_of_its_descriptor() -> None:
    (thread,) = timeline().threads
    seen = [(span.state, span.call, span.client) for span in thread.spans if span.state != "running"]
    assert seen == [("waiting", "accept4", 1), ("waiting", "recvfrom", 1), ("calling", "close", 1),
                    ("calling", "accept4", 2), ("copying", "recvfrom", 2), ("copying", "sendto", 2),
                    ("waiting", "recvfrom", 2)]  # descriptor 4 was the one's and is now the other's


def test_spans_follow_each_other_without_gap_or_overlap() -> None:
    found = timeline()
    spans = found.threads[0].spans
    assert spans[0].start_us == 0 and spans[-1].end_us == found.length_us == 250_000
    assert all(one.end_us == following.start_us for one, following in pairwise(spans))


def test_the_sentence_names_who_kept_whom_waiting() -> None:
    first, *_ = sentences(timeline())
    assert first.startswith("client 2 asked at 40.0 ms and was answered after 160.5 ms")
    assert "in recvfrom for client 1 (160.1 ms)" in first


def test_a_request_without_answer_is_said_to_be_so() -> None:
    events = [event for event in EVENTS if event["event"] != "answered"]
    found = build("blocking", "native", list(parse(DEAF)), {9: 9}, events, "linux")
    assert found.clients[1].asks[0].answered_us is None
    assert "was not answered" in sentences(found)[0]


def test_states() -> None:
    def state(line: str) -> str:
        (call,) = parse([f"1 5.000000 {line}"])
        return state_of(call)

    assert state("recvfrom(4, 0x1, 9, 0) = -1 EAGAIN (x) <0.000010>") == "in vain"
    assert state("epoll_wait(4, [], 8, 0) = 0 <0.000010>") == "in vain"
    assert state("epoll_wait(4, [], 8, 0) = 1 <0.000010>") == "asking"
    assert state("epoll_wait(4, [], 8, -1) = 1 <0.040000>") == "waiting"


def test_a_child_process_inherits_its_parents_descriptors() -> None:
    lines = ["9 100.001000 accept4(3, {sin_port=htons(5001)}, [16], 0) = 4 <0.000010>",
             "9 100.002000 clone(child_stack=NULL, flags=SIGCHLD) = 10 <0.000100>",
             "9 100.003000 close(4) = 0 <0.000010>",
             "10 100.004000 recvfrom(4, \"\"..., 9, 0) = 3 <0.000010>"]
    found = build("processes", "native", list(parse(lines)), {9: 9}, EVENTS, "linux")
    child = next(thread for thread in found.threads if thread.id == 10)
    assert (child.process, child.spans[0].client) == (10, 1)


def test_the_drawing_fits_any_width_and_a_plain_console() -> None:
    for width, encoding in ((60, "utf-8"), (140, "ascii")):
        raw = io.BytesIO()
        console = Console(width=width, file=io.TextIOWrapper(raw, encoding=encoding, write_through=True))
        console.print(Drawing([timeline(), timeline()]))
        lines = raw.getvalue().decode(encoding).splitlines()
        assert max(map(len, lines)) <= width
        assert sum(line.startswith("thread 9") for line in lines) == 2
        assert sum("client 1" in line and "recvfrom" in line and line.startswith("thread") for line in lines) == 2


def test_the_data_are_kept_as_json(tmp_path: Path) -> None:
    trace = Trace("one", "", machine(), ((0, 1, "connect"),), (timeline(),))
    kept = json.loads(save(trace, tmp_path).read_text("utf-8"))
    assert kept["timelines"][0]["clients"][1]["asks"] == [{"asked_us": 40_000, "answered_us": 200_500}]
    assert kept["machine"]["os"] and kept["script"] == [[0, 1, "connect"]]
