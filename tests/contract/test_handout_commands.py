"""Every command line of every handout runs as it stands; natively, which is quicker and what every OS can do."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from handouts import commands, handouts

from labs.harness.catalog import ROOT

NO_ENGINE = "tcp://127.0.0.1:9"
"""Where none answers, so that `--on auto` takes the native backend."""

SECONDS = 180
"""No command takes nearly so long; it is for a machine that is very busy."""


@pytest.mark.parametrize("line", sorted({line for path in handouts() for line in commands(path)}))
def test_a_command_of_a_handout_runs(line: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(line)
    if "lab.trace" in arguments and sys.platform != "linux":
        pytest.skip("tracing is for Linux")
    programs = {"invoke": [sys.executable, "-m", "invoke"], "python": [sys.executable]}
    assert program in programs, "a handout starts nothing but invoke and python"
    if "lab.run" in arguments:
        arguments += ["--results", str(tmp_path)]
    environment = {**os.environ, "DOCKER_HOST": NO_ENGINE, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*programs[program], *arguments], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS,
                          stdin=subprocess.DEVNULL, env=environment, encoding="utf-8")
    assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    assert done.stdout.strip(), f"{line} prints nothing"
    assert "Traceback" not in done.stderr
