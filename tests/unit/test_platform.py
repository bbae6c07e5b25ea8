"""The machine's manifest, and how its CPUs are shared out."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from labs.harness import platform


def test_cpus_are_shared_out() -> None:
    assert platform.cpu_plan([0]) == ((), ())
    assert platform.cpu_plan([0, 1]) == ((1,), (0,))
    assert platform.cpu_plan([2, 5, 7]) == ((7,), (2, 5))
    server, fleet = platform.cpu_plan(platform.available_cpus())
    assert set(server + fleet) <= set(platform.available_cpus())
    assert not set(server) & set(fleet)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is set the Linux way")
def test_affinity_is_respected() -> None:
    code = ("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
            "from labs.harness.platform import cpu_plan, available_cpus as cpus; print(len(cpus()), cpu_plan(cpus()))")
    done = subprocess.run([sys.executable, "-c", code], cwd=platform.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 ((), ())"


def test_the_manifest_is_complete_and_quick() -> None:
    begun = time.process_time()
    machine = platform.describe("native", {"executable": "x"})
    assert time.process_time() - begun < 0.1
    assert machine.os and machine.cpu and machine.architecture and machine.python
    assert machine.cpus >= 1 and machine.memory_bytes > 2**20
    assert machine.backend == "native" and machine.engine == {"executable": "x"}
    assert machine.descriptor_limit > 0 or sys.platform == "win32"


def test_containers_are_linux_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, native in (("linux", "linux"), ("darwin", "macos"), ("win32", "windows")):
        monkeypatch.setattr(sys, "platform", system)
        assert platform.default_profile("docker") == "linux"
        assert platform.default_profile("native") == native


def _git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(not platform.output("git", "--version"), reason="no git here")
def test_the_commit_is_marked_where_files_differ(tmp_path: Path) -> None:
    assert platform.commit(tmp_path) == ""
    _git(tmp_path, "init", "-q")
    assert platform.commit(tmp_path) == ""  # a repository without a commit
    (tmp_path / "file").write_text("one")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "-q", "-m", "first")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert platform.commit(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert platform.commit(tmp_path) == commit + "+"
    below = tmp_path / "unpacked"
    below.mkdir()
    assert platform.commit(below) == ""  # somebody else's repository further up


def test_no_git_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert platform.commit(tmp_path) == ""
