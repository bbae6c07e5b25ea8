"""What every server model shares."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from servers import contract


def test_transform_changes_ascii_lower_case_and_nothing_else() -> None:
    every = bytes(range(256))
    pairs = zip(every, contract.transform(every), strict=True)
    changed = [(before, after) for before, after in pairs if before != after]
    assert changed == [(ord(low), ord(low) - 32) for low in "abcdefghijklmnopqrstuvwxyz"]


def test_missing_names_modules_and_attributes_in_order() -> None:
    assert contract.missing(("select.select", "socket", "no_such_module", "select.crystal_ball", "no_such.thing")) == [
        "no_such_module", "select.crystal_ball", "no_such.thing"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listen_hands_no_delay_on_to_accepted_sockets(host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    try:
        listener = contract.listen(host, 0, 5)
    except OSError as error:
        if ":" in host:
            pytest.skip(f"no IPv6 loopback: {error}")
        raise
    with listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_listen_binds_datagram_sockets_without_listening() -> None:
    with contract.listen("127.0.0.1", 0, 5, socket.SOCK_DGRAM) as receiver:
        receiver.sendto(b"x", receiver.getsockname())
        assert receiver.recv(9) == b"x"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on descriptors")
def test_the_soft_descriptor_limit_rises_to_the_hard_one() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        assert contract.raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, 10_240)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_tells_parent_and_child_apart() -> None:
    child = contract.fork()
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child ask to die with its parent")
def test_a_forked_child_dies_with_its_parent() -> None:
    reader, writer = os.pipe()  # its end comes when the last process that holds the writing end is dead
    parent = os.fork()
    if parent == 0:
        os.close(reader)
        if contract.fork() == 0:
            os.write(writer, b"ready")
            signal.pause()
        signal.pause()
    os.close(writer)
    assert os.read(reader, 5) == b"ready"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reader, 1) == b""
    os.close(reader)
