"""The task itself is killed, interrupted or fails, in containers: what it leaves, what removes that, what survives."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from labs.harness.deploy.native_backend import marked_processes
from labs.harness.images import Image

ROOT = Path(__file__).resolve().parents[2]
PROJECT = {"label": "poller-lab.project=poller-lab"}
DEADLINE = 90.0
CHATTER = ("docker:", "trials of", "1/", "2/", "3/")
"""What the task says as it goes on."""

MOMENTS = [(words, delay) for words in CHATTER for delay in (0.0, 0.07)]
"""Ten moments: right after each of these lines, and a little later, in the middle of what follows it."""


def lab_run(results: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "invoke", "lab.run", "select", "--on", "docker", "--quick", "--results",
               str(results), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def wait_for(task: subprocess.Popen[str], words: str) -> None:
    assert task.stderr
    for line in task.stderr:
        if words in line:
            return
    raise AssertionError(f"the task ended before it said {words!r}: {task.wait(DEADLINE)}")


def left_by(client: docker.APIClient, task: subprocess.Popen[str]) -> list[str]:
    """Every container, network and process that the task made and that is still there."""
    def made(labels: dict[str, str]) -> bool:
        return labels.get("poller-lab.owner", "").startswith(f"{task.pid}:")

    return ([each["Id"] for each in client.containers(all=True, filters=PROJECT) if made(each["Labels"])]
            + [each["Name"] for each in client.networks(filters=PROJECT) if made(each["Labels"])]
            + [str(process) for process, _, owner in marked_processes() if owner.startswith(f"{task.pid}:")])


def clean() -> str:
    done = subprocess.run([sys.executable, "-m", "invoke", "lab.clean"], cwd=ROOT, capture_output=True, text=True,
                          timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def foreign(client: docker.APIClient, image: Image) -> Iterator[list[str]]:
    """A container, a network and an image of somebody else's, with names and labels much like ours."""
    labels = {"poller-lab": "mine", "poller-lab.project": "poller-lab-too", "poller-lab.run": "x"}
    network = client.create_network("poller-lab-19700101-mine", internal=True, labels=labels)["Id"]
    container = client.create_container(image.tag, ["python3", "-c", "input()"], stdin_open=True, labels=labels,
                                        name="poller-lab-19700101-server")["Id"]
    client.start(container)
    client.tag(image.tag, "poller-lab-mine", "latest")
    try:
        yield [container, network]
    finally:
        client.remove_container(container, force=True)
        client.remove_network(network)
        client.remove_image("poller-lab-mine:latest")


def test_what_a_killed_task_leaves_is_removed_and_nothing_else(
        client: docker.APIClient, image: Image, foreign: list[str], tmp_path: Path) -> None:
    found_something = 0
    for words, delay in MOMENTS:
        task = lab_run(tmp_path)
        wait_for(task, words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            task.wait(delay)  # how far it gets in this time is left to chance, on purpose
        task.send_signal(signal.SIGKILL)
        task.communicate(timeout=DEADLINE)

        found_something += bool(left_by(client, task))
        clean()
        assert left_by(client, task) == [], f"left after a kill at {words!r} + {delay} s"

    assert found_something > 3, "hardly a kill came in the middle of a run"
    container, network = foreign
    assert client.inspect_container(container)["State"]["Running"]
    assert client.inspect_network(network)
    assert client.inspect_image("poller-lab-mine:latest")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
@pytest.mark.parametrize("words", ["docker:", "trials of", "2/"])
def test_an_interrupt_leaves_nothing(client: docker.APIClient, image: Image, tmp_path: Path, words: str) -> None:
    task = lab_run(tmp_path)
    wait_for(task, words)
    task.send_signal(signal.SIGINT)
    _, errors = task.communicate(timeout=DEADLINE)
    assert task.returncode == 130, errors
    assert "interrupted" in errors and "Traceback" not in errors
    assert left_by(client, task) == []


def test_results_that_cannot_be_saved_are_one_error_and_leave_nothing(
        client: docker.APIClient, image: Image, tmp_path: Path) -> None:
    blocked = tmp_path / "results"
    blocked.write_text("a file, not a folder")
    task = lab_run(blocked)
    _, errors = task.communicate(timeout=DEADLINE)
    assert task.returncode == 3
    assert "cannot save the results" in errors and "Traceback" not in errors
    assert left_by(client, task) == []
