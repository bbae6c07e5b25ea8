"""Every metric, computed by hand from one result."""

import pytest
from samples import fleet, result, usage

from labs.harness.metrics import METRICS, metric_of
from labs.harness.model import Cell, Result

CELL = Cell(server="select", load="ten", profile="linux")

EXPECTED = {
    "cpu_us_per_request": 50, "cpu_share": 0.1, "memory_bytes": 11_000_000, "memory_bytes_per_connection": 10_000,
    "threads": 3, "processes": 1, "descriptors": 55, "connections_asked": 50, "connections_served": 50,
    "connections_held": 50, "connections_failed": 0, "connections_lost": 0, "connections_opened_per_second": 0,
    "requests": 1000, "requests_per_second": 2000, "bytes_per_second": 128_000, "wrong_answers": 0, "timeouts": 0,
    "served_share_min_over_max": 0.75, "latency_p50_us": 25, "latency_p90_us": 40, "latency_p99_us": 90,
    "latency_p999_us": 200, "latency_max_us": 900, "latency_mean_us": 30,
    "cpu_user_us_per_request": None, "cpu_system_us_per_request": None, "switches_per_request": None,
    "schedule_lag_p99_us": None, "syscalls_per_request": None, "syscalls_per_second": None}


@pytest.mark.parametrize("name", METRICS)
def test_figure(name):
    assert METRICS[name].of(result(CELL)) == (None if EXPECTED[name] is None else pytest.approx(EXPECTED[name]))


def test_calls_and_the_figures_of_an_experiment():
    traced = result(CELL, calls={"recvfrom": 1000, "sendto": 1000, "select": 1000})
    assert METRICS["syscalls_per_request"].of(traced) == 3
    assert METRICS["syscalls_per_second"].of(traced) == 6000
    found = result(Cell(experiment="sleepers", profile="linux"), fleet=None, figures={"both_seconds": 1.002})
    assert metric_of("both_seconds").of(found) == 1.002 and metric_of("both_seconds").unit == "s"
    assert metric_of("third_seconds").of(found) is None
    assert metric_of("third_seconds").why_none(found) == "the experiment did not print it"


def test_figures_that_need_more_of_the_collector():
    split = {"cpu_user_seconds": 0.1, "cpu_system_seconds": 0.1, "switches_voluntary": 10, "switches_involuntary": 0}
    later = {"cpu_user_seconds": 0.13, "cpu_system_seconds": 0.12, "switches_voluntary": 2010,
             "switches_involuntary": 5}
    one = result(CELL, begin=usage(1, 0.2, **split), end=usage(1.5, 0.25, **later),
                 fleet=fleet(schedule_lag={"p99_us": 12.0}))
    for name, expected in {"cpu_user_us_per_request": 30, "cpu_system_us_per_request": 20,
                           "switches_per_request": 2.005, "schedule_lag_p99_us": 12}.items():
        assert METRICS[name].of(one) == pytest.approx(expected)


def test_failures_to_connect_are_counted_over_all_errors():
    failed = {"failed": {"ConnectionRefusedError": 3, "timeout": 4}, "opened": 100}
    one = result(CELL, fleet=fleet(connections=failed, errors={"timeout": 6}))
    assert METRICS["connections_failed"].of(one) == 7
    assert METRICS["connections_opened_per_second"].of(one) == 200
    assert METRICS["timeouts"].of(one) == 6


@pytest.mark.parametrize("name", METRICS)
def test_a_trial_without_figures_has_none_and_says_why(name):
    failed = Result(trial=result(CELL).trial, started="", failure="the server crashed")
    assert METRICS[name].of(failed) is None
    assert METRICS[name].why_none(failed) == "the server crashed"
    assert METRICS[name].resolution(failed) >= 0
    assert METRICS[name].describes


def test_why_there_is_no_figure():
    assert METRICS["switches_per_request"].why_none(result(CELL)) == "context switches cannot be seen from here"
    silent = result(CELL, fleet=fleet(0, connections={"connected": 0}))
    assert METRICS["cpu_us_per_request"].of(silent) is None
    assert METRICS["cpu_us_per_request"].why_none(silent) == "no request was answered in the window"
    assert METRICS["memory_bytes_per_connection"].why_none(silent) == "no connection came up"


def test_resolution_is_the_counters_step_over_the_requests():
    coarse = result(CELL, begin=usage(1, 0.2), end=usage(1.5, 0.25))  # steps of 10 ms
    assert METRICS["cpu_us_per_request"].resolution(coarse) == pytest.approx(10)
    assert METRICS["cpu_share"].resolution(coarse) == pytest.approx(0.02)
    assert METRICS["memory_bytes_per_connection"].resolution(coarse) == pytest.approx(4096 / 50)


def test_rates_and_latencies_need_the_server_to_set_the_pace_and_counts_do_not():
    rates = {name for name, metric in METRICS.items() if metric.rate}
    assert {"requests_per_second", "latency_p99_us", "bytes_per_second", "cpu_share"} <= rates
    assert not rates & {"cpu_us_per_request", "connections_held", "memory_bytes_per_connection", "wrong_answers"}
    assert not rates & {name for name, metric in METRICS.items() if metric.exact}
