"""strace's lines taken apart: the forms that a call can take, and counts over a window."""

from __future__ import annotations

import pytest

from labs.harness.errors import MachineError
from labs.harness.measure import perf
from labs.harness.measure.calls import counted
from labs.harness.measure.strace import parse

LINES = """\
12 100.000100 recvfrom(4, ""..., 16384, 0, NULL, NULL) = 3 <0.000012>
12 100.000200 recvfrom(4, 0x7f, 16384, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.000007>
13 100.000300 accept4(3,  <unfinished ...>
12 100.000400 pselect6(5, [3 4], NULL, NULL, NULL, NULL <unfinished ...>
13 100.500000 <... accept4 resumed>{sa_family=AF_INET, sin_port=htons(45044)}, [16], SOCK_CLOEXEC) = 5 <0.499700>
12 100.600000 <... pselect6 resumed>) = 1 (in [4]) <0.599600>
12 100.700000 poll([{fd=3, events=POLLIN}], 1, 1000) = ? ERESTART_RESTARTBLOCK (Interrupted by signal) <0.100000>
12 100.800000 --- SIGSTOP {si_signo=SIGSTOP} ---
12 100.800100 restart_syscall(<... resuming interrupted poll ...>) = 1 <0.050000>
13 100.810000 futex(0x7f, FUTEX_WAIT, 0, NULL <unfinished ...>
13 100.900000 +++ exited with 0 +++
14 100.910000 restart_syscall(<... resuming interrupted read ...>) = 1 <0.010000>
strace: what strace says on the side
12 101.000000 recvfrom(4,  <detached ...>
""".splitlines()


def test_every_form_of_a_line() -> None:
    calls = list(parse(LINES))
    assert [(call.thread, call.name, call.value, call.error, call.seconds) for call in calls] == [
        (12, "recvfrom", 3, "", 0.000012), (12, "recvfrom", -1, "EAGAIN", 0.000007),
        (13, "accept4", 5, "", 0.4997), (12, "pselect6", 1, "", 0.5996),
        (12, "poll", None, "ERESTART_RESTARTBLOCK", 0.1), (12, "poll", 1, "", 0.05),
        (13, "futex", None, "", None),
        # nothing is known of what this thread did before: strace's "read" is a guess
        (14, "restart_syscall", 1, "", 0.01), (12, "recvfrom", None, "", None)]
    accept, select = calls[2], calls[3]
    assert accept.at_seconds == 100.0003 and "htons(45044)" in accept.arguments
    assert select.result == "1 (in [4])" and select.ended_seconds == pytest.approx(101.0 - 0.4)


def test_a_call_resumed_whose_beginning_nobody_saw() -> None:
    (call,) = parse(["7 5.000000 <... epoll_wait resumed>[], 8, -1) = -1 EINTR (Interrupted system call) <1.000000>"])
    assert (call.name, call.error) == ("epoll_wait", "EINTR")


def test_counts_are_of_calls_that_ended_in_the_window() -> None:
    calls = list(parse(LINES))
    assert counted(calls, 100.0, 100.55) == {"recvfrom": 2, "accept4": 1}
    assert counted(calls, 100.0001, 102)["pselect6"] == 1  # begun before it, ended within
    assert counted(calls, 102, 103) == {}


def test_perf_names_what_it_counted_and_the_rest() -> None:
    said = ("Events disabled\n310,,raw_syscalls:sys_enter,1,100.00,,\n100,,syscalls:sys_enter_recvfrom,1,100.00,,\n"
            "200,,syscalls:sys_enter_sendto,1,100.00,,\n0,,syscalls:sys_enter_close,1,100.00,,\n")
    assert perf.read(said) == {"sendto": 200, "recvfrom": 100, "other": 10}
    with pytest.raises(MachineError, match="perf cannot count"):
        perf.read(said.replace("100,,sys", "<not supported>,,sys"))
    assert perf.read("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n") == {}  # it slept all the while
    with pytest.raises(MachineError):
        perf.read("")
