"""Whole runs on real processes: what a lab measures, keeps and says when servers, disks or users misbehave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labs.harness import experiment, pool, session, store
from labs.harness.catalog import server_models
from labs.harness.deploy.base import Spec
from labs.harness.deploy.native_backend import NativeBackend, marked_processes
from labs.harness.errors import InputError, MachineError, ServerFailed
from labs.harness.events import Event, RunEnded, RunExtended, RunStarted, TrialEnded, TrialStarted
from labs.harness.model import Cell, Claim, Experiment, Lab, Load, Run, ServerModel, Timing, Trial
from labs.harness.planning import Job, how_often, jobs, needs_fresh, plan
from labs.harness.platform import default_profile
from labs.harness.pool import BATCH, ServerPool, Wanted
from labs.harness.runner import Order, run_lab
from labs.harness.workbench import open_workbench

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
    with NativeBackend(run_id) as backend, open_workbench(backend) as bench:
        order = Order(run_id, lab, models, default_profile("native"), SHORT, folder,
                      listen=(listen if listen is not None else []).append)
        return run_lab(order, bench)


def left_of(run_id: str) -> list[int]:
    return [process.pid for process, run, _ in marked_processes() if run == run_id]


def test_plan_interleaves_and_rotates() -> None:
    a, b, c = (Job(Cell(server=name, load="x")) for name in "abc")
    trials = plan({a: 2, b: 2, c: 2})
    assert [(each.repeat, each.cell.server) for each in trials] == [
        (1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a")]
    assert [each.number for each in trials] == [1, 2, 3, 4, 5, 6]
    assert plan({}) == []
    more = plan({a: 1, c: 2}, after=2, number=6)
    assert [(each.number, each.repeat, each.cell.server) for each in more] == [(7, 3, "a"), (8, 3, "c"), (9, 4, "c")]


def claim(measure: str, server: str = "select", **threshold: float) -> Claim:
    return Claim(id="many-watched", name=measure.replace("_", "-"), claim="so it is", measure=measure,
                 of=Cell(server=server, load="some"), **threshold)  # type: ignore[arg-type]


def test_counts_take_two_repeats_and_everything_else_those_of_the_lab() -> None:
    served, calls, cost = (claim(measure, at_least=1) for measure in (
        "connections_served", "syscalls_per_request", "cpu_us_per_request"))
    for claims, expected in (((served, calls), [2, 2]), ((served, calls, cost), [5, 2])):
        work = jobs(lab_of("select").model_copy(update={"claims": claims}), "linux")
        assert list(how_often(work, 5).values()) == expected
        assert list(how_often(work, 1).values()) == [1, 1]


def test_only_memory_needs_a_server_that_has_served_nobody() -> None:
    for measure, expected in (("memory_bytes_per_connection", True), ("cpu_us_per_request", False)):
        lab = lab_of("select").model_copy(update={"claims": (claim(measure, at_least=1),)})
        (job,) = work = jobs(lab, "linux")
        assert needs_fresh(work, job.cell) is expected


def test_an_undecided_claim_is_measured_again_and_a_decided_one_is_not(tmp_path: Path) -> None:
    """Two repeats never decide a cost, four may; here no number of them can, so that it is looked at twice."""
    lab = lab_of("threads").model_copy(update={"claims": (
        lab_of("threads").claims[0], claim("cpu_us_per_request", at_least=1e-9))})
    events: list[Event] = []
    found = run(lab, tmp_path, events)
    (extended,) = (event for event in events if isinstance(event, RunExtended))
    assert extended.undecided == ("cpu-us-per-request",)
    assert found.planned == len(found.results) == 6 and extended.run.planned == 6
    assert [(result.trial.number, result.trial.repeat, result.trial.cell.server) for result in found.results[4:]] == [
        (5, 3, "select"), (6, 4, "select")]
    assert [verdict.outcome for verdict in found.verdicts] == ["holds", "holds"]


def test_the_pool_starts_in_batches_and_ends_what_nobody_needs(tmp_path: Path) -> None:
    run_id = store.new_run_id("pool")
    fresh = [Wanted(Spec("server", ("-m", "servers.multiplexing.select_server"), default_profile("native"),
                         environment=(("NUMBER", str(number)),))) for number in range(2 * BATCH + 1)]
    other = Wanted(Spec("server", ("-m", "servers.blocking.blocking_server"), default_profile("native")))
    with NativeBackend(run_id) as backend:
        servers = ServerPool(backend)
        servers.plan(fresh)
        first, _ = servers.take(fresh[0])
        assert first.spec == fresh[0].spec and len(left_of(run_id)) == BATCH
        servers.release(first)
        assert first.exit_code() is None, "it is ended later, not in somebody's window"

        unplanned, _ = servers.take(other)
        assert unplanned.spec == other.spec and len(left_of(run_id)) == BATCH + 1
        servers.release(unplanned)
        assert len(left_of(run_id)) == BATCH

        later, _ = servers.take(fresh[BATCH + 1])  # the rest of the batch, and one more, are passed over
        assert later.spec == fresh[BATCH + 1].spec and len(left_of(run_id)) == BATCH

        keep = replace(other, fresh=False)
        servers.plan([keep, fresh[0], keep, fresh[0]])
        assert left_of(run_id) == []
        taken = [servers.take(one)[0] for one in (keep, fresh[0], keep, fresh[0])]
        assert taken[0] is taken[2] and taken[1] is not taken[3] and len(left_of(run_id)) == 3
        servers.clear()
        assert left_of(run_id) == []


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
        session.demand([found], "")
    assert error.value.code == 3 and line in str(error.value)
    assert left_of(found.id) == []


def test_a_server_that_answers_wrongly_is_not_timed(tmp_path: Path) -> None:
    (first,) = run(lab_of("wrong-answers"), tmp_path).results
    assert first.fleet is None and "answers wrongly" in (first.failure or "")


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "START_SECONDS", 0.5)
    (first,) = run(lab_of("never-ready"), tmp_path).results
    assert "was not ready within 0.5 s" in (first.failure or "")


@pytest.mark.parametrize(("program", "failure", "figures"), [
    ("print('{\"kinds\": 3}')", None, {"kinds": 3}),
    ("import sys; sys.exit('no such thing')", "ended without figures (exit code 1)", {}),
    ("print('nothing to tell')", "ended without figures (exit code 0)", {}),
    ("import time; time.sleep(600)", "did not end within 1 s", {}),
])
def test_an_experiment_gives_its_figures_or_says_what_went_wrong(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, failure: str | None,
        figures: dict[str, float]) -> None:
    (tmp_path / "program.py").write_text(program)
    spec = Spec("experiment", ("-c", experiment.BEGIN, str(tmp_path / "program.py")), default_profile("native"))
    monkeypatch.setattr(experiment, "wanted", lambda lab, cell: Wanted(spec))
    monkeypatch.setattr(experiment, "EXPERIMENT_SECONDS", 1.0)
    lab = lab_of("select").model_copy(update={"experiments": {"one": Experiment(
        program="program.py", figures=("kinds",))}})
    with NativeBackend("test-experiment") as backend, open_workbench(backend) as bench:
        found = experiment.run_experiment(bench, Trial(number=1, repeat=1, cell=Cell(experiment="one")), lab)
        assert left_of("test-experiment") == []
    assert found.figures == figures
    assert found.failure is None if failure is None else failure in (found.failure or "")
    assert "no such thing" not in program or found.log == ("no such thing",)


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    lab = lab_of("select", "threads")
    run_id = store.new_run_id(lab.name)

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.trial.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), NativeBackend(run_id) as backend, open_workbench(backend) as bench:
        run_lab(Order(run_id, lab, server_models(), default_profile("native"), SHORT, tmp_path, listen=interrupt),
                bench)
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


def test_a_model_gets_the_profile_that_lets_it_work() -> None:
    models = server_models()
    assert session.profile_for(models["io-uring"], "", "docker") == "io-uring"
    assert session.profile_for(models["io-uring"], "", "native") == default_profile("native")
    assert session.profile_for(models["epoll"], "", "docker") == "linux"
    assert session.profile_for(models["io-uring"], "select-only", "docker") == "select-only"
