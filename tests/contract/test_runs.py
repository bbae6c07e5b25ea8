"""Whole runs on real processes: what a lab measures, keeps and says when servers, disks or users misbehave."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.harness import session, store, trial
from labs.harness.catalog import server_models
from labs.harness.deploy.native_backend import NativeBackend, marked_processes
from labs.harness.errors import InputError, MachineError, ServerFailed
from labs.harness.events import Event, RunEnded, RunStarted, TrialEnded, TrialStarted
from labs.harness.model import Cell, Claim, Lab, Load, Run, ServerModel, Timing
from labs.harness.platform import default_profile
from labs.harness.runner import Job, Order, plan, run_lab

FAULTY = Path(__file__).parents[1] / "faulty"
SHORT = Timing(warmup_seconds=0.05, window_seconds=0.1, repeats=2)


def faulty(name: str) -> ServerModel:
    return ServerModel(name=name, group="faulty", module=f"{name.replace('-', '_')}_server", path="", summary="",
                       folder=str(FAULTY))


def lab_of(*servers: str, load: Load | None = None) -> Lab:
    """A lab that holds each server against the select server, by connections served."""
    claims = tuple(Claim(id="many-watched", name=server, claim="it serves", measure="connections_served",
                         of=Cell(server=server, load="some"), at_least=2) for server in servers)
    return Lab(name="probe", title="", summary="", loads={"some": load or Load(connections=3)}, claims=claims)


def run(lab: Lab, folder: Path, listen: list[Event] | None = None) -> Run:
    models = {**server_models(), **{name: faulty(name) for name in (
        "crash-at-start", "crash-later", "wrong-answers", "never-ready")}}
    run_id = store.new_run_id(lab.name)
    with NativeBackend(run_id) as backend:
        order = Order(run_id, lab, models, default_profile("native"), SHORT, folder,
                      listen=(listen if listen is not None else []).append)
        return run_lab(order, backend)


def left_of(run_id: str) -> list[int]:
    return [process.pid for process, run, _ in marked_processes() if run == run_id]


def test_plan_interleaves_and_rotates() -> None:
    a, b, c = (Job(Cell(server=name, load="x")) for name in "abc")
    trials = plan([a, b, c], 2)
    assert [(each.repeat, each.cell.server) for each in trials] == [
        (1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a")]
    assert [each.number for each in trials] == [1, 2, 3, 4, 5, 6]
    assert plan([], 3) == []
    traced = plan([a, Job(a.cell, traced=True)], 5)
    assert sum(each.traced for each in traced) == 2 and len(traced) == 7, "counting calls twice is enough"


def test_a_run_measures_judges_saves_and_leaves_nothing(tmp_path: Path) -> None:
    events: list[Event] = []
    found = run(lab_of("select", "threads"), tmp_path, events)

    assert found.state == "done"
    assert [result.trial.cell.server for result in found.results] == ["select", "threads", "threads", "select"]
    for result in found.results:
        assert result.failure is None
        assert result.fleet and result.fleet.requests > 0 and result.fleet.wrong == 0
        assert result.begin and result.end and result.end.cpu_seconds >= result.begin.cpu_seconds
        assert result.fleet.connections["served"] == 3
    assert [verdict.outcome for verdict in found.verdicts] == ["holds", "holds"]
    assert store.load(tmp_path / found.id) == found
    assert left_of(found.id) == []
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunEnded)
    assert [type(event) for event in events if isinstance(event, TrialStarted | TrialEnded)] == [
        TrialStarted, TrialEnded] * 4


def test_a_fleet_beside_runs_in_the_same_window(tmp_path: Path) -> None:
    lab = lab_of("select").model_copy(update={"loads": {
        "some": Load(connections=3, beside=("stalled",)),
        "stalled": Load(connections=2, message_bytes=1_000_000, read_bytes_per_second=0, greet=False)}})
    for result in run(lab, tmp_path).results:
        assert result.failure is None
        assert result.fleet and result.fleet.requests > 0
        assert result.beside["stalled"].requests == 0


@pytest.mark.parametrize(("name", "what", "line"), [
    ("crash-at-start", "ended before it was ready (exit code 4)", "settings.ini: no such file"),
    ("crash-later", "died while it was measured (exit code 1)", "RuntimeError: the 500th was one too many"),
])
def test_a_server_that_crashes_costs_only_its_own_trials(tmp_path: Path, name: str, what: str, line: str) -> None:
    found = run(lab_of("select", name), tmp_path)

    good = [result for result in found.results if result.trial.cell.server == "select"]
    bad = [result for result in found.results if result.trial.cell.server == name]
    assert len(good) == 2 and all(result.failure is None for result in good)
    assert len(bad) == 1, "a server that failed is not started again"
    assert what in (bad[0].failure or "")
    assert line in bad[0].log
    outcomes = {verdict.claim: verdict.outcome for verdict in found.verdicts}
    assert outcomes == {"select": "holds", name: "inconclusive"}
    assert store.load(tmp_path / found.id).state == "failed"
    with pytest.raises(ServerFailed) as error:
        session.demand(found, "")
    assert error.value.code == 3 and line in str(error.value)
    assert left_of(found.id) == []


def test_a_server_that_answers_wrongly_is_not_timed(tmp_path: Path) -> None:
    (first,) = run(lab_of("wrong-answers"), tmp_path).results
    assert first.fleet is None and "answers wrongly" in (first.failure or "")


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "START_SECONDS", 0.5)
    (first,) = run(lab_of("never-ready"), tmp_path).results
    assert "was not ready within 0.5 s" in (first.failure or "")


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    lab = lab_of("select", "threads")
    run_id = store.new_run_id(lab.name)

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.trial.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), NativeBackend(run_id) as backend:
        run_lab(Order(run_id, lab, server_models(), default_profile("native"), SHORT, tmp_path, listen=interrupt),
                backend)
    kept = store.load(tmp_path / run_id)
    assert kept.state == "interrupted" and len(kept.results) == 2 and len(kept.verdicts) == 2
    assert left_of(run_id) == []


def test_a_full_disk_is_one_clear_error_and_keeps_earlier_trials(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = store.save, []

    def full(found: Run, folder: Path) -> Path:
        calls.append(found)
        if len(found.results) >= 2:
            raise MachineError("cannot save the results", "No space left on device")
        return save(found, folder)

    monkeypatch.setattr(store, "save", full)
    with pytest.raises(MachineError, match="No space left on device"):
        run(lab_of("select"), tmp_path)
    (kept,) = store.runs(tmp_path)
    assert len(kept.results) == 1


def test_a_wish_is_checked_before_anything_starts() -> None:
    for wish, words in ((session.Wish(on="dokcer"), "did you mean 'docker'?"),
                        (session.Wish(profile="pol-only"), "did you mean 'poll-only'?"),
                        (session.Wish(fail_on="refused"), "did you mean 'refuted'?"),
                        (session.Wish(repeats=-1), "makes no sense")):
        with pytest.raises(InputError) as error:
            wish.check()
        assert words in str(error.value)
