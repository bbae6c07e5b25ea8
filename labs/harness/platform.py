"""What this machine is and offers: the manifest of a run, its default profile, its CPUs and limits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from labs.harness.catalog import ROOT
from labs.harness.model import Machine, Profile

UNLIMITED_DESCRIPTORS = 1_048_576
"""What stands for no hard limit (macOS): more has never been wanted, and Linux's own ceiling is the same."""


def describe(backend: str, engine: Mapping[str, str]) -> Machine:
    """The machine's manifest. engine: what the backend adds (Backend.manifest()). Takes some 10 ms."""
    return Machine(
        os=platform.system(), os_release=platform.release(), architecture=platform.machine(),
        python=platform.python_version(), cpu=cpu_model(), cpus=len(available_cpus()),
        memory_bytes=psutil.virtual_memory().total, descriptor_limit=descriptor_limit(), backend=backend,
        engine=dict(engine), commit=commit(ROOT))


def default_profile(backend: str) -> Profile:
    """What a server may use where nobody says otherwise: all that its system has. Containers are Linux everywhere."""
    if backend == "docker":
        return "linux"
    if sys.platform == "win32":
        return "windows"
    return "macos" if sys.platform == "darwin" else "linux"


def available_cpus() -> tuple[int, ...]:
    """The CPUs that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # Windows, FreeBSD
        return tuple(sorted(process.cpu_affinity()))
    return tuple(range(os.cpu_count() or 1))


def cpu_plan(available: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(server's CPUs, fleet's CPUs): one for the server, the others for the fleet; () and () for nothing to share out.

    available: CPU numbers. The server gets the last one: interrupts prefer the first.
    """
    cpus = tuple(available)
    return (cpus[-1:], cpus[:-1]) if len(cpus) > 1 else ((), ())


def descriptor_limit() -> int:
    """How many descriptors a process may have at most (the hard limit); 0 where there is no such limit (Windows)."""
    if sys.platform == "win32":
        return 0
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard


def cpu_model() -> str:
    """The processor's name as its maker gives it; the architecture where it can not be found out."""
    if sys.platform == "linux":
        try:
            with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    key, _, value = line.partition(":")
                    if key.strip() == "model name":  # ARM has none
                        return value.strip()
        except OSError:
            pass
        return platform.machine()
    if sys.platform == "darwin":
        return output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def commit(root: Path) -> str:
    """The checkout's commit, "+" appended where files differ from it; "" without git or without a commit."""
    if not (root / ".git").exists():  # else git would find a repository further up
        return ""
    # Optional locks off: looking must not get in the way of somebody who commits.
    status = output("git", "--no-optional-locks", "-C", str(root), "status", "--porcelain=v2", "--branch")
    oid, changed = "", ""
    for line in status.splitlines():
        if line.startswith("# branch.oid "):
            oid = line.split()[-1]
        elif not line.startswith("#"):
            changed = "+"
    return oid + changed if oid and oid != "(initial)" else ""


def output(*command: str) -> str:
    """What a command prints, trimmed; "" where it is missing, fails or takes over two seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=2)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
