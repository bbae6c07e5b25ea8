"""wrk, the HTTP load generator, as a yardstick for our fleet: the CPU time it needs per request.

wrk speaks HTTP only, so it gets an HTTP server: nginx where that is installed, else our h11 model.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from labs.harness.catalog import ROOT, find_server
from labs.harness.deploy.native_backend import environment, kill_tree
from labs.harness.errors import MachineError
from labs.harness.platform import available_cpus, cpu_plan

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}; proxy_temp_path {folder};
        fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
        server {{ listen 127.0.0.1:{port}; return 200 "{body}"; }} }}
"""


@dataclass(frozen=True)
class WrkSample:
    """One run of wrk."""

    requests: int
    cpu_seconds: float
    """wrk's own, user and system."""

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_seconds * 1e6 / max(self.requests, 1)


class Wrk:
    """wrk beside a running HTTP server."""

    def __init__(self, program: str, port: int, cpus: tuple[int, ...], what: str) -> None:
        self._program, self._port, self._cpus, self.what = program, port, cpus, what

    def sample(self, connections: int, seconds: float) -> WrkSample:
        """One run of about so many seconds, with one thread. Raises MachineError where wrk fails."""
        command = [self._program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
                   f"http://127.0.0.1:{self._port}/"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            _confine(process.pid, self._cpus)
            assert process.stdout
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)  # the exact CPU time of this child alone
            process.returncode = os.waitstatus_to_exitcode(status)
        found = re.search(r"(\d+) requests in", output)
        if process.returncode or not found:
            raise MachineError("wrk failed", output.strip())
        return WrkSample(int(found[1]), usage.ru_utime + usage.ru_stime)


def _confine(pid: int, cpus: tuple[int, ...]) -> None:
    process = psutil.Process(pid)
    if cpus and hasattr(process, "cpu_affinity"):  # not on macOS
        process.cpu_affinity(list(cpus))


@contextmanager
def measure_wrk() -> Iterator[Wrk | None]:
    """wrk with its HTTP server running on this machine, or None where wrk is not installed."""
    server_cpus, others = cpu_plan(available_cpus())
    program = shutil.which("wrk")
    if not program or not hasattr(os, "wait4"):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command, what = _http_server(Path(folder), port)
        server = subprocess.Popen(command, cwd=ROOT, env=environment("linux"), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            _confine(server.pid, server_cpus)
            _wait_for(port, server)
            yield Wrk(program, port, others[-1:], f"wrk against {what}")
        finally:
            kill_tree(server.pid)
            server.wait()


def _http_server(folder: Path, port: int) -> tuple[list[str], str]:
    if nginx := shutil.which("nginx"):
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, port=port, body="X" * 64))
        return [nginx, "-c", str(configuration)], "nginx"
    module = find_server("h11").module
    return [sys.executable, "-m", module, "--port", str(port)], "our h11 server"


def _wait_for(port: int, server: subprocess.Popen[bytes], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise MachineError("the HTTP server for wrk does not answer", f"exit code {server.poll()}")
