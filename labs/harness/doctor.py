"""Tries the real thing, part by part, and says how to mend what fails.

Nothing is left behind but the lab image, which the first run would build just so.
"""

from __future__ import annotations

import contextlib
import importlib
import platform as python_platform
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from labs.harness import doctor_docker, doctor_tracing, platform
from labs.harness.deploy.leftovers import find_leftovers
from labs.harness.deploy.native_backend import OFFERED, NativeBackend
from labs.harness.doctor_docker import SELECTORS, probe
from labs.harness.errors import MachineError
from labs.harness.finding import Finding, by_system, guarded
from labs.harness.measure.foreign import CpuWatch, foreign_share

PACKAGES = ("docker", "hdrh", "invoke", "psutil", "pydantic", "yaml", "rich")
CROWD = 10_000
"""Connections of the largest crowd in the labs."""
SPARE_DESCRIPTORS = 100
BACKLOG = 1024
"""What the servers ask for."""
FREE_BYTES = 200 * 2**20
BUSY_SHARE = 0.15
LOOK_SECONDS = 0.5
CLOCK_STEP_SECONDS = 1e-4


def examine() -> Iterator[Finding]:
    """Tries everything, each finding as it is made. Takes some 5 s, longer where the image must be built first."""
    for name, check in (
        ("Python", python), ("packages", packages), ("loopback", loopback), ("platform", pollers),
        ("open descriptors", descriptors), ("CPUs", cpus), ("clock", clock), ("results folder", results),
        ("accept queue", accept_queue), ("client ports", ports), ("leftovers", leftovers),
        ("strace", doctor_tracing.strace), ("perf", doctor_tracing.perf), ("containers", doctor_docker.examine),
    ):
        yield from guarded(name, check)


def conclude(findings: Iterable[Finding]) -> None:
    """Raises MachineError if something failed."""
    failed = [finding.name for finding in findings if finding.ok is False]
    if failed:
        raise MachineError(f"{len(failed)} of the doctor's trials failed: {', '.join(failed)}", "",
                           "what stands under each of them")


# --- Python ----------------------------------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    yield Finding("Python", ok, f"{python_platform.python_version()} at {sys.executable}",
                  "" if ok else "install Python 3.11 or newer, and make the virtual environment with it")


def packages() -> Iterator[Finding]:
    lacking = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            lacking.append(name)
    saw = f"missing: {', '.join(lacking)}" if lacking else f"all {len(PACKAGES)} there"
    yield Finding("packages", not lacking, saw, f'"{sys.executable}" -m pip install -e .' if lacking else "")


# --- the network -----------------------------------------------------------------------------------------------------


def loopback() -> Iterator[Finding]:
    """One request over TCP to a thread of this process."""
    def answer() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.sendall(connection.recv(64).upper())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        threading.Thread(target=answer, daemon=True).start()
        begun = time.perf_counter()
        try:
            with socket.create_connection(listener.getsockname(), timeout=5) as client:
                client.sendall(b"ping")
                got = client.recv(64)
        except OSError as error:
            yield Finding("loopback", False, f"no connection to 127.0.0.1: {error}",
                          "let Python accept connections from this machine in its firewall")
            return
    yield Finding("loopback", got == b"PING", f"a request came back in {(time.perf_counter() - begun) * 1e6:.0f} µs")


def pollers() -> Iterator[Finding]:
    """The platform, and every profile that a native process can have here, by a process of its own each."""
    with NativeBackend(f"doctor-{secrets.token_hex(4)}") as backend:
        for profile in OFFERED.get(sys.platform, ("linux",)):
            facts = probe(backend, profile)
            if profile == "io-uring":
                continue  # natively no more than `linux`
            selector = str(facts["default-selector"])
            expected = SELECTORS.get(profile, selector)
            ok = selector == expected
            yield Finding(f"native, profile {profile}", ok, f"selectors.DefaultSelector is {selector}",
                          "" if ok else "this kernel takes no seccomp filter: use --on docker")
            if profile == platform.default_profile("native"):
                yield Finding("native io_uring", True if facts["io-uring"] else None,
                              "works" if facts["io-uring"] else str(facts["io-uring-why"]))


def accept_queue() -> Iterator[Finding]:
    found = _kernel_numbers("/proc/sys/net/core/somaxconn", "kern.ipc.somaxconn")
    if not found:
        yield Finding("accept queue", None, "this system does not tell its limit")
        return
    ok = found[0] >= BACKLOG
    yield Finding("accept queue", ok, f"{found[0]:,} connections, the servers ask for {BACKLOG:,}",
                  "" if ok else by_system("sudo sysctl -w net.core.somaxconn=4096",
                                          "sudo sysctl -w kern.ipc.somaxconn=2048"))


def ports() -> Iterator[Finding]:
    found = _kernel_numbers("/proc/sys/net/ipv4/ip_local_port_range", "net.inet.ip.portrange.first",
                            "net.inet.ip.portrange.last")
    if len(found) != 2:
        yield Finding("client ports", None, "this system does not tell their range")
        return
    count = found[1] - found[0] + 1
    ok = count > CROWD
    yield Finding("client ports", ok, f"{count:,} ({found[0]} to {found[1]}), a crowd takes {CROWD:,}",
                  "" if ok else by_system('sudo sysctl -w net.ipv4.ip_local_port_range="32768 60999"',
                                          "sudo sysctl -w net.inet.ip.portrange.first=32768"))


def _kernel_numbers(file: str, *names: str) -> list[int]:
    """The numbers in a file of Linux's /proc, or those that sysctl has under `names` on macOS; [] elsewhere."""
    if sys.platform == "linux":
        return [int(word) for word in Path(file).read_text().split()]
    if sys.platform == "darwin":
        return [int(word) for word in platform.output("sysctl", "-n", *names).split()]
    return []


# --- the machine -----------------------------------------------------------------------------------------------------


def descriptors() -> Iterator[Finding]:
    hard = platform.descriptor_limit()
    if not hard:
        yield Finding("open descriptors", None, "this system sets no limit on sockets")
        return
    ok = hard >= CROWD + SPARE_DESCRIPTORS
    yield Finding("open descriptors", ok, f"at most {hard:,} (soft limit {_soft_limit():,}), a crowd takes {CROWD:,}",
                  "" if ok else by_system("sudo prlimit --pid $$ --nofile=1048576   (for this shell)",
                                          "sudo launchctl limit maxfiles 65536 200000   (then a new terminal)"))


def _soft_limit() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cpus() -> Iterator[Finding]:
    yield from judge_cpus(platform.available_cpus())
    watch = CpuWatch(platform.available_cpus())
    own, before = time.process_time(), watch.sample()
    time.sleep(LOOK_SECONDS)
    share = foreign_share(before, watch.sample(), time.process_time() - own)
    ok = share < BUSY_SHARE
    yield Finding("other work", ok, f"uses {share:.0%} of the CPUs", "" if ok else
                  "end what else is running, or expect inconclusive verdicts; to see it: "
                  + by_system("top", "top -o cpu", "Task Manager"))


def judge_cpus(available: Sequence[int]) -> Iterator[Finding]:
    ok = len(available) >= 2
    yield Finding("CPUs", ok, f"{len(available)} for this process", "" if ok else
                  "two or more keep server and fleet apart: give this (virtual) machine another; the labs run, "
                  "but rates and latencies are not ranked")


def clock() -> Iterator[Finding]:
    """Whether the clock goes on, never back, and in small steps."""
    readings = [time.perf_counter() for _ in range(10_000)]
    steps = [after - before for before, after in pairwise(readings)]
    step = min((each for each in steps if each > 0), default=float("inf"))
    ok = min(steps) >= 0 and step <= CLOCK_STEP_SECONDS
    yield Finding("clock", ok, f"steps of {step * 1e6:.2f} µs, never back" if min(steps) >= 0 else "it ran backwards",
                  "" if ok else "choose another clock source for this (virtual) machine")


def results() -> Iterator[Finding]:
    yield from judge_folder(platform.ROOT / "results")


def judge_folder(folder: Path) -> Iterator[Finding]:
    """Whether a file can be written there, or where the folder would be made, with room for more."""
    place = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(2**16))
    except OSError as error:
        yield Finding("results folder", False, f"cannot write in {place}: {error.strerror or error}",
                      "make it writable, or name another with --results")
        return
    free = shutil.disk_usage(place).free
    ok = free >= FREE_BYTES
    yield Finding("results folder", ok, f"writable, {free / 2**30:.1f} GiB free",
                  "" if ok else "make room on that disk")


def leftovers() -> Iterator[Finding]:
    found = [leftover.text for leftover in find_leftovers()]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    yield Finding("leftovers", not found, ", ".join(found[:3]) + more if found else "none of killed runs",
                  "invoke lab.clean" if found else "")
