"""The process contract, which a model keeps as a program and as a text: no backend changes anything about it."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
import textwrap
from typing import Any

import conformance as c
import pytest
from conformance import Model, ask, connect
from test_servers import each


@each(c.ALL_MODELS)
def test_source_is_readable_in_two_minutes(model: Model) -> None:
    text = model.path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    first, second, *rest = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert first.endswith(".") and not second and rest, "one sentence, an empty line, the idea"
    assert "\nREQUIRES" in text


def test_no_file_shadows_the_standard_library() -> None:
    assert not {path.stem for path in c.SERVERS.rglob("*.py")} & sys.stdlib_module_names
    assert c.TCP_MODELS


def run_model(path: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys, runpy; sys.path.insert(0, {str(c.ROOT)!r}); runpy.run_path({str(path)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=c.DEADLINE)


def test_a_model_that_lacks_something_exits_69(tmp_path: Any) -> None:
    path = tmp_path / "wishful_server.py"
    path.write_text(textwrap.dedent('''
        """A model for a machine that nobody has."""
        from servers.contract import run
        def serve(listener):
            raise AssertionError("served without what it requires")
        run(serve, ("select.select", "select.crystal_ball", "no_such_module"))
    '''), encoding="utf-8")
    done = run_model(path)
    assert done.returncode == 69 and not done.stdout
    assert done.stderr == "unavailable: this machine has no select.crystal_ball, no_such_module\n"


def test_a_busy_port_exits_1_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_model(c.SERVERS / "blocking" / "blocking_server.py", "--port", str(port))
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"cannot listen on 127.0.0.1 port {port}: ") and done.stderr.count("\n") == 1


@each([model for model in c.TCP_MODELS if model.requires == ("os.fork",)])
def test_children_die_with_their_parent(model: Model) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux lets a child ask to die with its parent")
    running = c.start_if_offered(model)
    with connect(running) as client:
        ask(client)
        children = running.tree()[1:]
        assert children
        running.process.kill()
        running.process.wait(c.DEADLINE)
        c.eventually(lambda: all(c.gone(child) for child in children), "the children are gone")
