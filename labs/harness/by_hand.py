"""One server, or one fleet, started by hand: what server.run and client.run do."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

from labs.harness.availability import PROBE_SECONDS
from labs.harness.catalog import ROOT, find_server
from labs.harness.deploy.base import EXIT_UNAVAILABLE
from labs.harness.deploy.native_backend import environment
from labs.harness.errors import InputError, MachineError
from labs.harness.session import check_profile

BUSY = "choose another port with --port, or end the program that has it"


def run_server(name: str, host: str, port: int, profile: str, options: list[str]) -> None:
    """Runs a server model in the foreground, with its output on ours, until it ends or Ctrl-C.

    Raises InputError for an unknown name or profile, MachineError where the server ends by itself.
    """
    model = find_server(name)
    command = [sys.executable, "-m", model.module, "--host", host, "--port", str(port), *options]
    try:
        code = subprocess.call(command, cwd=ROOT, env=environment(check_profile(profile)))
    except KeyboardInterrupt:
        return
    if code == EXIT_UNAVAILABLE:
        raise MachineError(f"{name} cannot run here", "the platform lacks what it requires", "invoke server.list")
    if code == 2:
        raise InputError(f"{name} does not take these options", "", f"python -m {model.module} --help")
    if code:
        raise MachineError(f"{name} ended with exit code {code}", "its message stands above", BUSY)


def run_fleet(target: str, load: str, warmup: float, seconds: float) -> dict[str, Any]:
    """Puts `load` (JSON) on `target` ("host:port") and returns the fleet's `result` event; progress goes to stderr.

    Raises InputError for a bad target or load, MachineError where the server cannot be reached.
    """
    command = [sys.executable, "-m", "clients.fleet", "--target", target, "--load", load, "--warmup", str(warmup),
               "--seconds", str(seconds)]
    result: dict[str, Any] = {}
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=environment(check_profile(""))) as fleet:
        assert fleet.stdout and fleet.stderr
        try:
            for line in fleet.stdout:
                event = json.loads(line)
                if event["event"] == "progress" and sys.stderr.isatty():
                    print(f"\r{event['requests']:,} requests, {event['per_second']:,.0f} a second ", end="",
                          file=sys.stderr, flush=True)
                elif event["event"] == "result":
                    result = event
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                fleet.wait(PROBE_SECONDS)
            raise
        complaint = fleet.stderr.read().strip().removeprefix("clients.fleet: ")
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if fleet.returncode == 2:
        raise InputError("the fleet does not take this", complaint, "invoke --help client.run")
    if fleet.returncode or not result:
        raise MachineError("the fleet could not put its load on the server", complaint,
                           "see that a server listens there: invoke server.run epoll --port 9000")
    return result
