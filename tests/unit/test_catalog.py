"""Server models and labs are found by reading, never by importing."""

import sys

import pytest

from labs.harness.catalog import ROOT, did_you_mean, find_lab, find_server, lab_folders, nearest, server_models
from labs.harness.errors import InputError

MODEL = '"""One sentence.\n\nMore of it."""\nREQUIRES = ("select.epoll", "os.fork")\nraise SystemExit("imported")\n'


@pytest.fixture
def project(tmp_path):
    def write(path, text=MODEL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
        return tmp_path
    return write


def test_a_model_as_its_source_tells(project):
    root = project("servers/signal_driven/epoll_edge_server.py")
    project("servers/contract.py"), project("servers/probe.py")
    (model,) = server_models(root).values()
    assert (model.name, model.group, model.summary) == ("epoll-edge", "signal-driven", "One sentence.")
    assert model.module == "servers.signal_driven.epoll_edge_server"
    assert model.path == "servers/signal_driven/epoll_edge_server.py"
    assert (model.requires, model.protocol) == (("select.epoll", "os.fork"), "tcp")


def test_protocol_and_requirements_per_platform(project):
    root = project("servers/event_loops/x_server.py", '"""X."""\nPROTOCOL: str = "http"\n'
                   f'REQUIRES = ("here",) if sys.platform == "{sys.platform}" else ("elsewhere",)\n')
    assert (server_models(root)["x"].protocol, server_models(root)["x"].requires) == ("http", ("here",))
    project("servers/event_loops/x_server.py",
            'REQUIRES = ("a",) if sys.platform == "plan9" else ("b",) if sys.platform == "vms" else ("c",)\n')
    assert server_models(root)["x"].requires == ("c",)


@pytest.mark.parametrize(("text", "words"), [
    ("def serve(:\n", "servers/a/x_server.py:1:"), ("REQUIRES = tuple(sys.argv)\n", "no proper server model"),
    ('REQUIRES = ("select.epoll")\n', "tuple"), ('PROTOCOL = "smtp"\n', "udp"), ("\0", "servers/a/x_server.py")])
def test_a_file_that_is_no_model_is_named(project, text, words):
    root = project("servers/a/x_server.py", text)
    with pytest.raises(InputError) as caught:
        server_models(root)
    assert words in str(caught.value)


def test_two_models_of_one_name_are_refused(project):
    project("servers/a/x_server.py")
    root = project("servers/b/x_server.py")
    with pytest.raises(InputError, match="two server models"):
        server_models(root)


def test_labs_are_folders_with_a_lab_yaml(project):
    project("labs/harness/errors.py")
    root = project("labs/select/lab.yaml", "title: x")
    assert lab_folders(root) == {"select": root / "labs" / "select"}
    assert find_lab(root, "select") == root / "labs" / "select"


def test_unknown_names_suggest_the_nearest(project):
    project("servers/a/select_server.py")
    root = project("labs/select/lab.yaml", "title: x")
    for found in (lambda: find_lab(root, "selct"), lambda: find_server("selct", root)):
        with pytest.raises(InputError) as caught:
            found()
        assert "'selct'" in caught.value.what and "select" in caught.value.why and "'select'" in caught.value.try_this
    with pytest.raises(InputError) as caught:
        find_lab(root, "zzz")
    assert caught.value.try_this == "invoke lab.list"


def test_nearest():
    assert nearest("conections", ["connections", "active"]) == "connections" and nearest("x", ["connections"]) is None
    assert did_you_mean("selct", ["select"]) == "; did you mean 'select'?" and did_you_mean("q", []) == ""


def test_the_projects_own_models():
    models = server_models()
    assert (ROOT / "pyproject.toml").exists()
    assert {"blocking", "select", "epoll"} <= set(models)
    assert find_server("select").group == "multiplexing"
    for model in models.values():
        assert model.summary, f"{model.path} has no docstring"
