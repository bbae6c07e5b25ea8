"""The commands as a user types them: what goes to stdout, what to stderr, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from labs.harness import session
from labs.harness.catalog import ROOT, lab_folders, server_models
from labs.harness.errors import ClaimFailed
from labs.harness.events import Event, RunEnded, RunStarted

BAD_INPUT = {
    "lab.run selct": "did you mean 'select'?",
    "lab.run select --all": "one lab, or all of them?",
    "lab.run select --on dokcer": "did you mean 'docker'?",
    "lab.run select --profile pol-only": "did you mean 'poll-only'?",
    "lab.run select --fail-on refused": "did you mean 'refuted'?",
    "lab.run select --repeats -3": "--repeats -3 makes no sense",
    "lab.show selct": "did you mean 'select'?",
    "lab.show select --lang de": "there are: en, zh",
    "lab.results --run nowhere": "there is no run 'nowhere'",
    "lab.trace recvfrom": "it speaks udp",
    "lab.trace select --clients missing.json": "missing.json cannot be read",
    "server.run selekt": "did you mean 'select'?",
    "client.run --target nowhere": "a target is host:port",
    "bench.crowd --repeats 0": "--repeats 0 makes no sense",
}


def invoke(line: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "invoke", *line.split(), *more], cwd=ROOT, capture_output=True,
                          text=True, encoding="utf-8", timeout=120, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(("line", "words"), BAD_INPUT.items(), ids=list(BAD_INPUT))
def test_bad_input_is_one_message_and_exit_code_2(line: str, words: str) -> None:
    done = invoke(line)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "", "stdout is for results"


def test_every_task_and_every_option_is_explained() -> None:
    listed = re.findall(r"^  (\S+)(.*)", invoke("--list").stdout, re.MULTILINE)
    names = [name for name, _ in listed]
    assert all(about.strip() for _, about in listed), "every task says what it does"
    assert {"lab.run", "image.build", "server.list", "doctor", "test"} <= set(names)
    for name in names:
        lines = invoke(f"--help {name}").stdout.partition("Options:")[2].split("\n")
        for number, line in enumerate(lines):
            if line.lstrip().startswith("-"):
                explained = len(line.split()) > 1 or lines[number + 1].startswith("    ")
                assert explained, f"{name}: {line.strip()} has no help"


def test_lists_as_json() -> None:
    assert {lab["name"] for lab in json.loads(invoke("lab.list --json").stdout)} == set(lab_folders(ROOT))
    servers = json.loads(invoke("server.list --on native --json").stdout)
    assert {one["model"]["name"] for one in servers} == set(server_models(ROOT))
    assert all(one["available"] or one["why"] for one in servers)


def test_a_run_for_scripts(tmp_path: Path) -> None:
    """JSON alone on stdout, progress on stderr, the verdict as the exit code, and the same again from the file."""
    done = invoke("lab.run descriptors --quick --on native --json --fail-on refuted --results", str(tmp_path))
    run = json.loads(done.stdout)
    outcomes = {verdict["claim"]: verdict["outcome"] for verdict in run["verdicts"]}
    refuted = [claim for claim, outcome in outcomes.items() if outcome == "refuted"]
    assert done.returncode == (1 if refuted else 0)
    assert all(f"{claim} is refuted" in done.stderr for claim in refuted)
    assert f"1/{run['planned']}" in done.stderr and not done.stderr.startswith("\n")

    shown = invoke("lab.results --run last --json --results", str(tmp_path))
    assert json.loads(shown.stdout) == run
    (listed,) = json.loads(invoke("lab.results --json --results", str(tmp_path)).stdout)
    assert listed["id"] == run["id"]


def test_labs_in_one_session_share_the_fleet_and_are_runs_of_their_own(tmp_path: Path) -> None:
    events: list[Event] = []
    wish = session.Wish("native", quick=True, results=tmp_path)
    first, second = session.run(["first-steps", "descriptors"], wish, events.append)
    assert (first.lab, second.lab) == ("first-steps", "descriptors") and first.id != second.id
    with pytest.raises(ClaimFailed) as error:
        session.demand([first, second], "refuted")
    assert all(f"{verdict.claim} is refuted" in str(error.value) for run in (first, second)
               for verdict in run.verdicts if verdict.outcome == "refuted")
    assert first.state == second.state == "done" and first.verdicts and second.verdicts
    assert {path.name for path in tmp_path.iterdir()} == {first.id, second.id}
    assert [type(event) for event in events if isinstance(event, RunStarted | RunEnded)] == [
        RunStarted, RunEnded] * 2
