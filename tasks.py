"""Poller Lab's commands. `invoke --list` is the table of contents, `invoke --help TASK` explains one."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from invoke import Collection, Context

from labs.harness.cli import OneOrAll, collection, command

ROOT = Path(__file__).parent

ON = "where to run: docker, native, or auto (docker if an engine answers)"
PROFILE = "what the servers may use: linux, poll-only, select-only, io-uring (default: all the system has)"
RESULTS = "folder that keeps the results (default: results/)"
JSON = "print JSON on stdout instead of tables"
LANG = "language of titles, claims and explanations: en or zh (default: the locale's)"


def _say(what: object) -> None:
    if isinstance(what, str):
        print(what)
    else:
        from rich.console import Console

        Console().print(what)


# --- lab -------------------------------------------------------------------------------------------------------------


@command(help={"json": JSON, "lang": LANG})
def lab_list(c: Context, json: bool = False, lang: str = "") -> None:
    """List the labs in the order of the course."""
    from labs.harness import listing, session
    from labs.harness.report import tables

    labs = listing.labs()
    _say(tables.as_json(labs) if json else tables.lab_table(labs, session.language(lang)))


@command(help={"name": "a lab, see lab.list", "json": JSON, "lang": LANG})
def lab_show(c: Context, name: str, json: bool = False, lang: str = "") -> None:
    """Show a lab: its handout, claims, servers and loads."""
    from labs.harness import session
    from labs.harness.report import tables

    lab, language = session.get_lab(name), session.language(lang)
    _say(tables.as_json(lab) if json else tables.lab_page(lab, session.handout(lab, language), language))


@command(klass=OneOrAll, help={
    "name": "a lab, see lab.list", "all": "run every lab, in the order of the course", "on": ON, "lang": LANG,
    "profile": PROFILE, "results": RESULTS, "json": JSON,
    "quick": "a first look: shorter windows, fewer repeats, one server process for all of them",
    "repeats": "how often exactly each cell is measured (default: the lab's, counts twice, undecided claims again)",
    "fail-on": "exit 1 on a verdict: refuted, or inconclusive (which includes refuted)",
})
def lab_run(c: Context, name: str, all: bool = False, on: str = "auto", profile: str = "", quick: bool = False,
            repeats: int = 0, json: bool = False, fail_on: str = "", results: str = "", lang: str = "") -> None:
    """Run a lab: bring up its servers and fleets, measure, and judge the lesson's claims."""
    from labs.harness import listing, session
    from labs.harness.report import tables, terminal

    wish = session.Wish(on, profile, quick, repeats, fail_on, session.results_folder(results))
    language, runs = session.language(lang), []
    names = listing.chosen(name, all)
    with terminal.Follower() as follower, closing(session.run(names, wish, follower)) as finished:
        for run in finished:
            runs.append(run)
            if not json:
                _say(terminal.end_of_run(run, wish.results, language))
    if json:
        _say(tables.as_json(runs if all else runs[0]))
    elif all:
        _say(terminal.all_verdicts(runs))
    session.demand(runs, fail_on)


@command(help={
    "name": "a server model, see server.list", "against": "a second one, drawn to the same scale", "on": ON,
    "clients": "JSON file with the clients' script: a list of [milliseconds, client, connect|ask|leave]",
    "profile": PROFILE, "results": RESULTS, "json": JSON,
})
def lab_trace(c: Context, name: str, against: str = "", on: str = "auto", profile: str = "", clients: str = "",
              json: bool = False, results: str = "") -> None:
    """Show when a server waited, copied or ran, and for whom: its system calls under a script of three clients."""
    from labs.harness import session, timeline
    from labs.harness.report import tables, terminal
    from labs.harness.report.timeline import Drawing, save

    script = timeline.read_script(Path(clients)) if clients else timeline.SCRIPT
    with terminal.Follower() as follower:
        found = timeline.trace([name, against] if against else [name], on, follower, script, profile)
    kept = save(found, session.results_folder(results))
    _say(tables.as_json(found) if json else Drawing(found.timelines))
    if not json:
        _say(f"data: {kept}")


@command(help={"run": "a run's id or folder, or last", "results": RESULTS, "json": JSON, "lang": LANG})
def lab_results(c: Context, run: str = "", results: str = "", json: bool = False, lang: str = "") -> None:
    """List the runs so far, or show one again with --run."""
    from labs.harness import session, store
    from labs.harness.report import tables, terminal

    folder = session.results_folder(results)
    if run:
        found = store.load(session.find_run(run, folder))
        _say(tables.as_json(found) if json else terminal.end_of_run(found, folder, session.language(lang)))
    else:
        runs = store.runs(folder)
        _say(tables.as_json(runs) if json else tables.run_table(runs))


@command(help={"all": "also what belongs to runs that are still going on"})
def lab_clean(c: Context, all: bool = False) -> None:
    """Remove what killed runs left: our containers, networks and processes, and nothing else."""
    from labs.harness.deploy.leftovers import clean

    removed = clean(all)
    _say("\n".join(f"removed {each}" for each in removed) or "nothing was left")


# --- image -----------------------------------------------------------------------------------------------------------


@command(help={"force": "build even if nothing changed"})
def image_build(c: Context, force: bool = False) -> None:
    """Build the lab image, unless it is there and its inputs are unchanged."""
    from labs.harness import images

    image = images.build(force, lambda text: print(text, file=sys.stderr))
    _say(f"{image.tag}\n{image.id}")


@command(help={"json": JSON})
def image_list(c: Context, json: bool = False) -> None:
    """List the images built for this project."""
    from labs.harness import images
    from labs.harness.report import tables

    found = images.listing()
    _say(tables.as_json(found) if json else tables.image_table(found))


@command(help={"path": "file to write (a tar archive)"})
def image_save(c: Context, path: str) -> None:
    """Save the lab image to a file, for a room without a network."""
    from labs.harness import images

    _say(images.save(Path(path)))


@command(help={"path": "file that image.save wrote"})
def image_load(c: Context, path: str) -> None:
    """Load the lab image from a file."""
    from labs.harness import images

    _say(images.load(Path(path)))


# --- server, client --------------------------------------------------------------------------------------------------


@command(help={"on": ON, "json": JSON})
def server_list(c: Context, on: str = "auto", json: bool = False) -> None:
    """List the server models by I/O model, and which of them can run here."""
    from labs.harness import listing
    from labs.harness.report import tables, terminal

    with terminal.Follower() as follower:
        models = listing.servers(on, follower)
    _say(tables.as_json(models) if json else tables.server_table(models))


@command(help={
    "name": "a server model, see server.list", "host": "numeric address to listen on", "port": "0: any",
    "profile": "what it may use: linux, poll-only, select-only (default: all the system has)",
    "option": "an option of the model's own, for instance --option=--threads=4; may be repeated",
}, iterable=["option"])
def server_run(c: Context, name: str, host: str = "127.0.0.1", port: int = 9000, profile: str = "",
               option: list[str] | None = None) -> None:
    """Run one server model here, in the foreground, until Ctrl-C."""
    from labs.harness import by_hand

    by_hand.run_server(name, host, port, profile, option or [])


@command(help={
    "target": "host:port, a numeric address", "load": "the load as JSON, for instance '{\"connections\": 500}'",
    "warmup": "seconds before the window", "seconds": "length of the window", "json": JSON,
})
def client_run(c: Context, target: str, load: str = "{}", warmup: float = 1.0, seconds: float = 3.0,
               json: bool = False) -> None:
    """Put a load on a server and show what the fleet saw."""
    from labs.harness import by_hand
    from labs.harness.report import tables

    result = by_hand.run_fleet(target, load, warmup, seconds)
    _say(tables.as_json(result) if json else tables.fleet_page(result))


# --- bench -----------------------------------------------------------------------------------------------------------


@command(help={"on": ON, "trials": "how many trials are measured", "json": JSON})
def bench_overhead(c: Context, on: str = "auto", trials: int = 20, json: bool = False) -> None:
    """Measure what orchestration costs: wall time of a trial beyond its warm-up and window."""
    from labs.harness import bench
    from labs.harness.report import tables, terminal

    with terminal.Follower() as follower:
        found = bench.overhead(on, trials, follower)
    _say(tables.as_json(found) if json else bench.overhead_table(found))


@command(help={"on": ON, "repeats": "how often each load is measured", "json": JSON})
def bench_fleet(c: Context, on: str = "native", repeats: int = 5, json: bool = False) -> None:
    """Measure the fleet's own cost per request, beside the server's, and beside wrk's where that is installed."""
    from labs.harness import bench
    from labs.harness.report import tables, terminal

    with terminal.Follower() as follower:
        found = bench.fleet(on, repeats, follower)
    _say(tables.as_json(found) if json else bench.fleet_table(found))


GRID = {"on": ON, "repeats": "how often each cell is measured", "name": "only this server model; may be repeated",
        "readme": "write the table into README.md", "json": JSON}


@command(help=GRID, iterable=["name"])
def bench_models(c: Context, on: str = "auto", repeats: int = 3, name: list[str] | None = None, readme: bool = False,
                 json: bool = False) -> None:
    """Compare all server models: CPU and system calls per request, memory per connection, the idle crowd held."""
    _measure_grid("models", on, name or [], repeats, readme, json)


@command(help=GRID, iterable=["name"])
def bench_crowd(c: Context, on: str = "auto", repeats: int = 3, name: list[str] | None = None, readme: bool = False,
                json: bool = False) -> None:
    """Draw the c10k curve: CPU per request against a growing idle crowd, poller by poller."""
    _measure_grid("crowd", on, name or [], repeats, readme, json)


def _measure_grid(table: str, on: str, names: list[str], repeats: int, readme: bool, json: bool) -> None:
    from labs.harness import grid
    from labs.harness.report import tables, terminal

    with terminal.Follower() as follower:
        models, columns = grid.TABLES[table]
        found = grid.measure(on, names or models, columns, repeats, follower)
    if readme:
        grid.write_into(ROOT / "README.md", found, table)
    _say(tables.as_json(found) if json else grid.as_table(found))


# --- doctor, test ----------------------------------------------------------------------------------------------------


@command(help={"json": JSON})
def doctor(c: Context, json: bool = False) -> None:
    """Try what a lab needs on this machine, and say how to mend what fails."""
    from labs.harness import doctor as examination
    from labs.harness.report import tables, terminal

    findings = terminal.follow_findings(examination.examine())
    if json:
        _say(tables.as_json(findings))
    examination.conclude(findings)


@command(help={"k": "only tests whose names match", "lint": "also ruff and mypy"})
def test(c: Context, k: str = "", lint: bool = False) -> None:
    """Run the project's tests (pytest)."""
    python = f'"{sys.executable}" -m'
    with c.cd(str(ROOT)):
        if lint:
            c.run(f"{python} ruff check .", in_stream=False)
            c.run(f"{python} mypy", in_stream=False)
        c.run(f"{python} pytest" + (f' -k "{k}"' if k else ""), in_stream=False)


namespace = Collection(doctor, test)
namespace.add_collection(collection("lab", "labs", list=lab_list, show=lab_show, run=lab_run, trace=lab_trace,
                                    results=lab_results, clean=lab_clean))
namespace.add_collection(collection("image", "the lab image", build=image_build, list=image_list, save=image_save,
                                    load=image_load))
namespace.add_collection(collection("server", "server models", list=server_list, run=server_run))
namespace.add_collection(collection("client", "the client fleet", run=client_run))
namespace.add_collection(collection("bench", "benchmarks", overhead=bench_overhead, fleet=bench_fleet,
                                    models=bench_models, crowd=bench_crowd))
