"""Saving and loading runs, also when the disk refuses."""

import errno
import json
import os
import re
import sys
from pathlib import Path

import pytest
from samples import machine, result, run

from labs.harness import store
from labs.harness.errors import InputError, MachineError
from labs.harness.model import Cell

CELL = Cell(server="select", load="ten", profile="linux")


def test_a_run_comes_back_as_it_was(tmp_path):
    one = store.append_result(run(), result(CELL))
    path = store.save(one, tmp_path / "results")
    assert path == tmp_path / "results" / one.id / "result.json"
    assert store.load(path) == store.load(path.parent) == one
    assert [child.name for child in path.parent.iterdir()] == ["result.json"]


def test_ids_sort_by_time_and_do_not_collide():
    ids = {store.new_run_id("select") for _ in range(50)}
    assert len(ids) == 50 and all(re.fullmatch(r"\d{8}T\d{6}-select-[0-9a-f]{8}", one) for one in ids)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_what_was_saved(tmp_path, monkeypatch, code, at):
    before = run()
    path = store.save(before, tmp_path)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((store.os, "fsync") if at == "fsync" else (Path, "replace")), refuse)
    with pytest.raises(MachineError) as caught:
        store.save(store.append_result(before, result(CELL)), tmp_path)
    assert os.strerror(code) in caught.value.why and caught.value.try_this and "intact" in caught.value.what
    assert store.load(path) == before
    assert [child.name for child in path.parent.iterdir()] == ["result.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, a disk that is always full")
def test_a_full_disk_for_real(tmp_path, monkeypatch):
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **kw: real(
        Path("/dev/full") if mode == "x" else self, "w" if mode == "x" else mode, **kw))
    with pytest.raises(MachineError) as caught:
        store.save(run(), tmp_path)
    assert "No space left" in caught.value.why


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "results").write_text("a file is in the way")
    with pytest.raises(MachineError):
        store.save(run(), tmp_path / "results")


def test_a_half_written_file_is_passed_over(tmp_path):
    path = store.save(run(), tmp_path)
    path.with_name(".result.json.0123.tmp").write_text('{"version": 1, "id')
    assert store.load(path.parent) == run()
    assert store.runs(tmp_path) == [run()]


def test_runs_come_newest_first_and_foreign_folders_are_passed_over(tmp_path):
    for hour in (10, 12, 11):
        store.save(run(f"20260131T{hour}0000-select-1a2b", started=f"2026-01-31T{hour}:00:00Z"), tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text("{")
    assert [one.id[9:11] for one in store.runs(tmp_path)] == ["12", "11", "10"]
    assert store.runs(tmp_path / "none") == []


@pytest.mark.parametrize(("text", "words"), [
    ('{"version": 1,\n  oops}', ":2:3: is not JSON"), ('{"version": 2}', "newer version"), ("[]", "no results of ours"),
    ('{"version": 1, "idd": 3}', "idd")])
def test_what_cannot_be_loaded_says_where_and_why(tmp_path, text, words):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError) as caught:
        store.load(tmp_path)
    assert words in str(caught.value)


def test_no_such_run(tmp_path):
    with pytest.raises(InputError) as caught:
        store.load(tmp_path / "nothing")
    assert caught.value.try_this


def test_unknown_results_are_plain_json(tmp_path):
    one = store.append_result(run(), result(CELL))
    data = json.loads(store.save(one, tmp_path).read_text(encoding="utf-8"))
    assert data["version"] == 1 and data["results"][0]["trial"]["cell"]["server"] == "select"


def test_machines_differ_by_key():
    one, other = machine(engine={"cgroup": "v1"}), machine(cpus=4, engine={"cgroup": "v2", "version": "29"})
    assert store.compare_machines(one, one) == ()
    assert store.compare_machines(one, other) == ("cpus", "engine.cgroup", "engine.version")


def test_runs_of_different_machines_are_not_mixed():
    store.refuse_mixing([])
    store.refuse_mixing([run(), run("b")])
    with pytest.raises(InputError) as caught:
        store.refuse_mixing([run("a"), run("b"), run("c", machine=machine(python="3.13.0"))])
    assert caught.value.why == "python: 3.11.4 / 3.13.0" and "a and c were" in caught.value.what


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="root and Windows write into read-only folders")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError):
        store.save(run(), tmp_path)
    tmp_path.chmod(0o700)
