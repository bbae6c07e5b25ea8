"""The data everything is about: what it refuses, and the schemas that are published of it."""

import json

import pytest
from pydantic import ValidationError
from samples import result, run

from labs.harness.metrics import METRICS
from labs.harness.model import QUICK, Cell, Claim, Lab, Load, Run, Timing, say
from labs.harness.runner import jobs
from labs.harness.schema import published

CELL = Cell(server="select", load="ten")
CLAIM = {"id": "one-watched", "claim": "x", "measure": "threads", "of": CELL, "at_least": 1}


@pytest.mark.parametrize("path", published(), ids=lambda path: path.name)
def test_published_schemas_are_the_models(path):
    assert path.read_text(encoding="utf-8") == published()[path], "run: python -m labs.harness.schema"


def test_the_labs_schema_helps_an_editor():
    schema = next(json.loads(text) for path, text in published().items() if path.name == "lab.schema.json")
    assert "name" not in schema["properties"] and "name" not in schema["required"]
    metrics = {one["const"] for one in schema["$defs"]["Claim"]["properties"]["measure"]["oneOf"]}
    assert metrics == set(METRICS)
    assert schema["additionalProperties"] is False
    assert all("description" in one for one in schema["$defs"]["Load"]["properties"].values())


def test_nothing_changes_and_nothing_unknown_is_taken():
    with pytest.raises(ValidationError):
        Load(conections=3)
    with pytest.raises(ValidationError):
        Load().connections = 3


@pytest.mark.parametrize("change", [
    {"fact": "poll"}, {"measure": None}, {"of": None}, {"at_least": None}, {"at_most": 3}, {"id": "One Watched"},
    {"measure": None, "of": None, "at_least": None, "fact": "poll"}])
def test_a_claim_is_one_thing(change):
    Claim(**CLAIM)
    with pytest.raises(ValidationError):
        Claim(**CLAIM | change)


def test_a_load_orders_only_what_differs():
    assert Load().order() == {} and Load(connections=10, beside=("x",)).order() == {"connections": 10}
    with pytest.raises(ValidationError, match="more than connections"):
        Load(connections=3, active=4)


def test_cells_once_each_with_the_profile_filled_in():
    other = Cell(server="epoll", load="ten", profile="poll-only")
    claims = (Claim(**CLAIM, against=other), Claim(**CLAIM | {"name": "again"}))
    lab = Lab(name="x", title="X", summary="X", loads={"ten": Load()}, claims=claims)
    assert [job.cell.label() for job in jobs(lab, "linux")] == ["select × ten on linux", "epoll × ten on poll-only"]


@pytest.mark.parametrize("cell", [{}, {"server": "select"}, {"load": "ten"},
                                  {"server": "select", "load": "ten", "experiment": "x"}])
def test_a_cell_is_a_server_under_a_load_or_an_experiment(cell):
    with pytest.raises(ValidationError, match="needs either"):
        Cell(**cell)
    assert Cell(experiment="sleepers", profile="linux").label() == "sleepers on linux"


def test_say_falls_back_to_what_there_is():
    assert say("a") == "a" and say({"en": "a", "zh": "b"}, "zh") == "b" and say({"zh": "b"}) == "b"


def test_a_run_survives_json():
    one = run(results=(result(CELL),), timing=QUICK)
    assert Run.model_validate_json(one.model_dump_json()) == one
    assert Timing().repeats > QUICK.repeats >= 3
