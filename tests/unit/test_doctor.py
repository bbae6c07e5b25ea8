"""The doctor: what it finds on a real machine, and what it says where something is wrong."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.harness import doctor, doctor_docker, platform
from labs.harness.errors import MachineError
from labs.harness.finding import Finding, guarded

SOUND: dict[str, Any] = {"answer": "PING", "capabilities": 0, "user": 10001, "root": "Read-only file system",
                         "no-new-privileges": True, "descriptors": 20_000}


def test_this_machine_passes_what_every_machine_must() -> None:
    for check in (doctor.python, doctor.packages, doctor.loopback, doctor.clock):
        assert [finding.ok for finding in check()] == [True]


def test_native_platforms_are_tried_for_real() -> None:
    found = {finding.name: finding for finding in doctor.pollers()}
    own = found[f"native, profile {platform.default_profile('native')}"]
    assert own.ok and "Selector" in own.saw
    assert "SelectSelector" in found["native, profile select-only"].saw


def test_a_check_that_breaks_is_a_finding_and_not_the_end() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("first", True, "")
        raise OSError("no such\nthing")

    first, second = guarded("it", breaks)
    assert first.ok
    assert (second.name, second.ok, second.saw) == ("it", False, "could not be tried: OSError: no such thing")


@pytest.mark.parametrize(("wrong", "name", "word"), [
    ({"answer": "ping"}, "container", "'ping'"),
    ({"capabilities": 1}, "container's confinement", "capabilities"),
    ({"no-new-privileges": False}, "container's confinement", "new privileges"),
    ({"root": "writable"}, "container's confinement", "writable root"),
    ({"descriptors": 1024}, "container's descriptors", "1,024"),
])
def test_a_container_that_is_not_as_it_should_be(wrong: dict[str, Any], name: str, word: str) -> None:
    assert all(finding.ok for finding in doctor_docker.judge_container(SOUND))
    failed = [finding for finding in doctor_docker.judge_container({**SOUND, **wrong}) if not finding.ok]
    assert [finding.name for finding in failed] == [name]
    assert word in failed[0].saw and failed[0].mend


def test_one_cpu_and_a_folder_that_is_none_have_their_mends(tmp_path: Path) -> None:
    (cpus,) = doctor.judge_cpus([0])
    assert cpus.ok is False and cpus.mend
    file = tmp_path / "results"
    (fine,) = doctor.judge_folder(file)
    assert fine.ok and not file.exists()  # it has not been made by looking
    file.write_text("")
    (folder,) = doctor.judge_folder(file)
    assert folder.ok is False and folder.mend


def test_a_dead_engine_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    (finding,) = doctor_docker.examine()
    assert (finding.name, finding.ok) == ("container engine", False)
    assert finding.mend


def test_the_conclusion_fails_where_something_did() -> None:
    doctor.conclude([Finding("one", True, ""), Finding("two", None, "")])
    with pytest.raises(MachineError, match="1 of the doctor's trials failed: three"):
        doctor.conclude([Finding("one", True, ""), Finding("three", False, "", "mend")])
