"""The doctor's look at what counts system calls: strace and perf, each tried on a process of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

from labs.harness.finding import Finding

PATIENCE_SECONDS = 5.0
COUNTED = "raw_syscalls:sys_enter"


def strace() -> Iterator[Finding]:
    """Attaches from outside, as the labs do, to a process that does nothing."""
    program = shutil.which("strace")
    if not program:
        mend = "sudo apt install strace   (or your distribution's way)" if sys.platform == "linux" else ""
        yield Finding("strace", None, "not here; containers may still be traced", mend)
        return
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as patient:
        tracer = subprocess.Popen([program, "-o", "/dev/null", "-p", str(patient.pid)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert tracer.stderr
            said = tracer.stderr.readline().decode(errors="replace").strip()  # "attached", or why not
        finally:
            tracer.kill()
            tracer.communicate()
            patient.kill()
    ok = said.endswith("attached")
    yield Finding("strace", ok, "attaches to a process of ours" if ok else said or "it ended without a word",
                  "" if ok else "sudo sysctl -w kernel.yama.ptrace_scope=0")


def perf() -> Iterator[Finding]:
    """Counts the system calls of a short process."""
    program = shutil.which("perf")
    if not program:
        yield Finding("perf", None, "not here; strace counts as well, but slows the server down")
        return
    try:
        done = subprocess.run([program, "stat", "-x,", "-e", COUNTED, "--", sys.executable, "-c", "pass"],
                              capture_output=True, text=True, errors="replace", timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        yield Finding("perf", None, f"did not answer in {PATIENCE_SECONDS:g} s")
        return
    counts = [line.split(",")[0] for line in done.stderr.splitlines() if COUNTED in line]
    ok = bool(counts) and counts[0].isdigit()
    saw = f"counted {counts[0]} calls of a short process" if ok else "may not count system calls here; strace does"
    yield Finding("perf", ok or None, saw, "" if ok else "sudo sysctl -w kernel.perf_event_paranoid=-1")
