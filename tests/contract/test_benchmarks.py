"""The benchmarks' way from real servers to a table, with little to measure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labs.harness import bench, grid
from labs.harness.errors import InputError
from labs.harness.events import Event
from labs.harness.model import Load

COLUMNS = (grid.Column("CPU µs, 2", Load(connections=2), "cpu_us_per_request"),
           grid.Column("idle crowd held", Load(connections=50, active=1), "connections_held", once=True),
           grid.Column("memory/connection, kB", Load(connections=2), "memory_bytes_per_connection"))


def test_a_grid_measures_each_model_under_each_load_and_goes_into_a_readme(tmp_path: Path) -> None:
    events: list[Event] = []
    found = grid.measure("native", ["select", "blocking"], COLUMNS, 2, events.append)
    select, blocking = found.rows
    assert (select.model.name, blocking.model.name) == ("select", "blocking") and not select.note
    assert (select.figures["CPU µs, 2"] or 0) > 0 and select.figures["idle crowd held"] == 50
    assert blocking.figures["CPU µs, 2"] is None, "it held one of two: the figure of a smaller load is not shown"
    assert blocking.figures["idle crowd held"] == 1

    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- models: begin -->\nan earlier table\n<!-- models: end -->\nafter\n", "utf-8")
    grid.write_into(readme, found, "models")
    text = readme.read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "earlier" not in text
    assert "| [blocking](servers/blocking/blocking_server.py) | - | 1 | - |" in text
    with pytest.raises(InputError, match="has no place for table crowd"):
        grid.write_into(readme, found, "crowd")


def test_a_model_that_cannot_run_here_has_the_reason_instead_of_figures() -> None:
    elsewhere = "poll" if sys.platform == "win32" else "proactor"
    (row,) = grid.measure("native", [elsewhere], COLUMNS, 1, lambda event: None).rows
    assert row.note.startswith("unavailable: ") and set(row.figures.values()) == {None}


def test_overhead_is_what_a_trial_takes_beyond_its_window() -> None:
    found = bench.overhead("native", 4, lambda event: None)
    assert len(found.per_trial) == 4 and 0 < min(found.per_trial) <= found.mean <= max(found.per_trial)
    assert found.spread > found.mean
