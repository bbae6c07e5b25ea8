"""The engine's statistics in both shapes, and control groups of both versions from files in the documented formats."""

from pathlib import Path

import pytest

from labs.harness.measure import cgroup
from labs.harness.measure.engine import usage

CPU = {"total_usage": 1_500_000_000, "usage_in_kernelmode": 500_000_000, "usage_in_usermode": 1_000_000_000}
ID = "5f" * 32


def test_v1_and_v2_have_memory_in_different_places() -> None:
    v1 = usage({"cpu_stats": {"cpu_usage": CPU}, "pids_stats": {"current": 3},
                "memory_stats": {"usage": 9, "stats": {"rss": 1, "total_rss": 4096, "cache": 5}}}, 7.0)
    v2 = usage({"cpu_stats": {"cpu_usage": CPU}, "pids_stats": {"current": 3},
                "memory_stats": {"usage": 9, "stats": {"anon": 8192, "file": 5}}}, 7.0)
    assert v1 and v2
    assert (v1.memory_bytes, v2.memory_bytes) == (4096, 8192)
    assert (v1.source, v2.source) == ("engine API, cgroup v1", "engine API, cgroup v2")
    for found in (v1, v2):
        assert (found.cpu_seconds, found.cpu_user_seconds, found.cpu_system_seconds) == (1.5, 1.0, 0.5)
        assert (found.at_seconds, found.threads, found.descriptors) == (7.0, 3, None)


def test_a_stopped_container_has_no_usage() -> None:
    # What engine 20.10 answers for one: everything there, and empty.
    assert usage({"read": "0001-01-01T00:00:00Z", "pids_stats": {}, "memory_stats": {},
                  "cpu_stats": {"cpu_usage": {"total_usage": 0}}}, 0) is None


def _proc(proc: Path, memberships: str, mountinfo: str) -> None:
    for folder in ("42", "self"):
        (proc / folder).mkdir(parents=True)
    (proc / "42/cgroup").write_text(memberships)
    (proc / "self/mountinfo").write_text(mountinfo)


def _files(folder: Path, contents: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)


V2 = {"cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\nnr_throttled 0\n",
      "memory.stat": "anon 8192\nfile 4096\nkernel 100\nanon_thp 0\n", "pids.current": "3\n",
      "cgroup.procs": "42\n43\n"}
V2_MOUNT = "30 23 0:26 / {} rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_v2(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup with blank"
    path = f"/system.slice/docker-{ID}.scope"
    _proc(tmp_path / "proc", f"0::{path}\n", V2_MOUNT.format(str(mount).replace(" ", r"\040")))
    _files(mount / path[1:], V2)
    group = cgroup.locate(42, ID, tmp_path / "proc")
    assert group and group.version == "cgroup v2"
    assert group.cpu() == cgroup.Cpu(1.5, 1.0, 0.5)
    assert (group.memory_bytes(), group.threads(), group.processes()) == (8192, 3, [42, 43])


def test_v1_and_hybrid(tmp_path: Path) -> None:
    """Controllers mounted together, as most systems did it, and an empty v2 hierarchy beside them."""
    mounts = tmp_path / "cgroup"
    mountinfo = "".join(
        f"3{number} 25 0:2{number} / {mounts}/{folder} rw,relatime shared:1 - cgroup cgroup rw,{options}\n"
        for number, (folder, options) in enumerate((("cpu,cpuacct", "cpu,cpuacct"), ("memory", "memory"),
                                                    ("pids", "pids"), ("systemd", "xattr,name=systemd"))))
    _proc(tmp_path / "proc", f"5:cpu,cpuacct:/docker/{ID}\n4:memory:/docker/{ID}\n3:pids:/docker/{ID}\n"
          f"1:name=systemd:/docker/{ID}\n0::/docker/{ID}\n", mountinfo + V2_MOUNT.format(mounts / "unified"))
    _files(mounts / "cpu,cpuacct/docker" / ID, {"cpuacct.usage": "1500000000\n", "cpuacct.usage_user": "1000000000\n",
                                                "cpuacct.usage_sys": "500000000\n"})
    _files(mounts / "memory/docker" / ID, {"memory.stat": "cache 0\nrss 1\ntotal_cache 0\ntotal_rss 4096\n"})
    _files(mounts / "pids/docker" / ID, {"pids.current": "3\n", "cgroup.procs": "42\n43\n"})
    group = cgroup.locate(42, ID, tmp_path / "proc")
    assert group and group.version == "cgroup v1"
    assert group.cpu() == cgroup.Cpu(1.5, 1.0, 0.5)
    assert (group.memory_bytes(), group.threads(), group.processes()) == (4096, 3, [42, 43])


@pytest.mark.parametrize("path", ["/user.slice/session-1.scope", f"/system.slice/docker-{'ab' * 32}.scope"])
def test_somebody_elses_process_of_that_number_is_not_the_container(tmp_path: Path, path: str) -> None:
    mount = tmp_path / "cgroup"
    _proc(tmp_path / "proc", f"0::{path}\n", V2_MOUNT.format(mount))
    _files(mount / path[1:], V2)
    assert cgroup.locate(42, ID, tmp_path / "proc") is None


def test_what_is_not_there_or_not_to_be_read_is_not_local(tmp_path: Path) -> None:
    path = f"/docker/{ID}"
    _proc(tmp_path / "proc", f"0::{path}\n", V2_MOUNT.format(tmp_path / "cgroup"))
    assert cgroup.locate(42, ID, tmp_path / "proc") is None  # the path is there, the files are not
    assert cgroup.locate(43, ID, tmp_path / "proc") is None  # no such process
    _files(tmp_path / "cgroup" / path[1:], {**V2, "memory.stat": "file 4096\n"})
    assert cgroup.locate(42, ID, tmp_path / "proc") is None  # a kernel that tells less
