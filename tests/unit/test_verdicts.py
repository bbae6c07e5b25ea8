"""What results say of a claim, and above all when they say nothing."""

import random

import pytest
from samples import fleet, result, run, usage

from labs.harness.model import Cell, Claim, Lab, Load
from labs.harness.verdicts import EMULATED, fail_on, judge, judge_run, number, summary

SELECT, BLOCKING = (Cell(server=name, load="one") for name in ("select", "blocking"))
ON_LINUX = {cell: cell.model_copy(update={"profile": "linux"}) for cell in (SELECT, BLOCKING)}


def claim(measure="cpu_us_per_request", against=BLOCKING, **more):
    return Claim(**{"id": "one-watched", "claim": "It costs more.", "measure": measure, "of": SELECT,
                    "against": against, "at_least": 3.0 if "at_most" not in more else None} | more)


def results(select, blocking=(), **more):
    """One result per repeat and cell, with so many seconds of CPU."""
    return [result(ON_LINUX[cell], repeat, cpu, **more) for cell, figures in ((SELECT, select), (BLOCKING, blocking))
            for repeat, cpu in enumerate(figures, 1)]


def verdict(one, found, **more):
    return judge(one, found, profile="linux", **more)


def test_holds_when_the_whole_interval_is_beyond_the_threshold():
    found = verdict(claim(), results([0.50, 0.51, 0.49], [0.05, 0.05, 0.05]))
    assert found.outcome == "holds"
    assert found.value == pytest.approx(10, rel=0.01) and found.low > 9 and found.high < 11
    assert found.figures.startswith("10") and found.figures.endswith("needs at least 3")
    assert found.of_values == pytest.approx((500, 510, 490)) and found.against_values == pytest.approx((50, 50, 50))
    assert (found.unit, found.metric, found.threshold) == ("times", "cpu_us_per_request", 3)


def test_refuted_when_the_whole_interval_is_before_it():
    assert verdict(claim(), results([0.05, 0.051, 0.049], [0.05, 0.05, 0.05])).outcome == "refuted"
    assert verdict(claim(at_most=3), results([0.5, 0.51, 0.49], [0.05] * 3)).outcome == "refuted"
    assert verdict(claim(at_most=3), results([0.05, 0.051, 0.049], [0.05] * 3)).outcome == "holds"


def test_inconclusive_when_the_interval_straddles_it_with_what_to_do():
    found = verdict(claim(), results([0.1, 0.2, 0.16], [0.05] * 3))
    assert found.outcome == "inconclusive"
    assert "--repeats" in found.figures and "quieter machine" in found.figures and "unstable" in found.figures


@pytest.mark.parametrize("repeats", [1, 2])
def test_too_few_repeats_say_nothing(repeats):
    found = verdict(claim(), results([0.5] * repeats, [0.05] * repeats))
    assert found.outcome == "inconclusive" and "of the 3 it takes" in found.figures


def test_only_repeats_that_measured_both_are_paired():
    found = verdict(claim(), results([0.5, 0.5, 0.5, 0.9], [0.05] * 3))
    assert found.of_values == pytest.approx((500, 500, 500)) and found.outcome == "holds"


@pytest.mark.parametrize(("held", "outcome"), [([1009, 1009], "holds"), ([1009], "inconclusive"),
                                               ([1009, 1008], "holds"), ([1030, 1010], "inconclusive"),
                                               ([2000, 2000], "refuted"), ([1009, 1008, 1009], "holds")])
def test_two_counts_suffice(held, outcome):
    one = claim("connections_held", None, at_most=1024)
    found = verdict(one, [result(ON_LINUX[SELECT], repeat, fleet=fleet(connections={"held": count}))
                          for repeat, count in enumerate(held, 1)])
    assert found.outcome == outcome
    if held == [1009, 1009]:
        assert found.figures == "1,009 (1,009 to 1,009), at most 1,024"


def test_a_failed_repeat_leaves_it_open_with_the_reason():
    crashed = result(ON_LINUX[SELECT], 4, failure="the server crashed: exit code 1")
    found = verdict(claim(), [*results([0.5] * 3, [0.05] * 3), crashed])
    assert found.outcome == "inconclusive"
    assert "1 of 4 repeats" in found.figures and "exit code 1" in found.figures


def test_nothing_measured():
    found = verdict(claim(), [])
    assert found.outcome == "inconclusive" and "was not measured" in found.figures
    found = verdict(claim(), [result(ON_LINUX[SELECT], n, failure="no route") for n in (1, 2, 3)])
    assert found.outcome == "inconclusive" and "every repeat" in found.figures and "no route" in found.figures


def test_results_of_another_profile_are_not_taken():
    other = [one.model_copy(update={"trial": one.trial.model_copy(update={
        "cell": one.trial.cell.model_copy(update={"profile": "poll-only"})})})
        for one in results([0.5] * 3, [0.05] * 3)]
    assert verdict(claim(), other).outcome == "inconclusive"
    assert judge(claim(), other, profile="poll-only").outcome == "holds"


def test_wrong_answers_are_not_timed():
    found = verdict(claim(), results([0.5] * 3, [0.05] * 3, fleet=fleet(wrong=2)))
    assert found.outcome == "inconclusive" and "wrong answers" in found.figures
    count = verdict(claim("wrong_answers", None, at_most=0), results([0.5] * 3, fleet=fleet(wrong=2)))
    assert count.outcome == "refuted"


def test_rates_are_not_ranked_where_the_fleet_was_the_limit_but_cpu_is():
    limited = results([0.5] * 3, [0.05] * 3, limits=("the fleet used 98 % of its CPU",))
    found = verdict(claim("requests_per_second", at_most=2), limited)
    assert found.outcome == "inconclusive"
    assert "98 %" in found.figures and "more CPUs" in found.figures and "--repeats" in found.figures
    assert verdict(claim(), limited).outcome == "holds"


def test_repeats_with_another_pace_do_not_count_while_enough_others_are_left():
    rate = claim("requests_per_second", None, at_least=1)
    good = results([0.5] * 3)
    odd = result(ON_LINUX[SELECT], 4, 0.5, limits=("foreign work: others used 40 % of the CPUs",))
    assert verdict(rate, [*good, odd]).of_values == verdict(rate, good).of_values
    assert verdict(rate, [*good, odd]).outcome == "holds"
    assert verdict(rate, [*good[:2], odd]).outcome == "inconclusive"


def test_a_second_look_takes_more_to_be_convinced():
    """The 95 % interval of these six reaches down to 3.01, that of 97.5 % to 2.93."""
    six = results([0.18, 0.15, 0.20, 0.16, 0.17, 0.155], [0.05] * 6)
    first, second = verdict(claim(), six, planned_repeats=6), verdict(claim(), six, planned_repeats=3)
    assert first.low > 3 > second.low and first.value == second.value
    assert (first.outcome, second.outcome) == ("holds", "inconclusive")


def coarse(cell, repeat, cpu):
    """CPU time told in steps of 10 ms: 20 % of a CPU at this window of 50 ms."""
    return result(ON_LINUX[cell], repeat, begin=usage(1, 0), end=usage(1.05, cpu))


def test_a_figure_below_its_resolution_bounds_the_ratio_on_one_side_only():
    busy = [coarse(SELECT, n, 0.05) for n in (1, 2, 3)]
    idle = [coarse(BLOCKING, n, 0.0) for n in (1, 2, 3)]
    found = verdict(claim("cpu_share"), busy + idle)  # 100 % against less than 20 %: at least 5 times
    assert found.outcome == "holds" and found.high is None and found.value == pytest.approx(5)
    assert "or more" in found.figures
    assert verdict(claim("cpu_share", at_most=7), busy + idle).outcome == "inconclusive"  # it may be 100 times
    assert verdict(claim("cpu_share", at_most=4), busy + idle).outcome == "refuted"
    both = [coarse(cell, n, 0.0) for cell in (SELECT, BLOCKING) for n in (1, 2, 3)]
    assert verdict(claim("cpu_share", at_most=2), both).outcome == "inconclusive"


def test_equal_readings_of_a_coarse_counter_are_not_exact():
    idle = [coarse(SELECT, n, 0.0) for n in (1, 2, 3)]
    assert verdict(claim("cpu_share", None, at_most=0.05), idle).outcome == "inconclusive"
    found = verdict(claim("cpu_share", None, at_most=0.25), idle)
    assert found.outcome == "holds" and "%" in found.figures and "at most 25" in found.figures


def test_noise_never_flips_a_verdict():
    """Both servers' CPU figures disturbed by up to 60 %, true ratio twice the threshold or half of it."""
    source = random.Random(11)
    for true, forbidden in ((6, "refuted"), (1.5, "holds")):
        decided = 0
        for _ in range(500):
            noisy = [[base * source.uniform(1, 1.6) for _ in range(5)] for base in (0.05 * true, 0.05)]
            outcome = verdict(claim(), results(*noisy)).outcome
            assert outcome != forbidden
            decided += outcome != "inconclusive"
        assert decided > 400


def test_unavailable_by_server_and_profile():
    found = verdict(claim(), results([0.5] * 3), unavailable={"blocking on linux": "needs Windows"})
    assert found.outcome == "unavailable" and "needs Windows" in found.figures
    for other in ("epoll on linux", "blocking on select-only"):
        assert verdict(claim(), results([0.5] * 3, [0.05] * 3), unavailable={other: "?"}).outcome == "holds"


FACT = {"id": "poll-linux-only", "claim": "Only Linux has poll.", "fact": "poll"}


@pytest.mark.parametrize(("equals", "found", "outcome"), [
    (False, False, "holds"), (False, True, "refuted"), ({"linux": True}, True, "holds"), (1, True, "refuted"),
    ({"macos": False}, True, "unavailable"), ("PollSelector", "PollSelector", "holds"), (512, 512, "holds")])
def test_facts(equals, found, outcome):
    one = judge(Claim(**FACT, equals=equals), [], profile="linux", facts={"linux": {"poll": found}})
    assert one.outcome == outcome


def test_facts_in_words():
    one = Claim(**FACT, equals={"macos": False})
    assert judge(one, [], profile="macos", facts={"macos": {"poll": True}}).figures == "poll: yes; the lesson says: no"
    assert "lesson says nothing" in judge(one, [], profile="linux", facts={"linux": {"poll": True}}).figures
    unknown = judge(one, [], profile="macos", facts={})
    assert unknown.outcome == "unavailable" and "probe" in unknown.figures


def test_explanation_is_the_claims_own_or_a_default():
    own = claim(explain={"holds": {"en": "Three calls.", "zh": "三次。"}})
    assert verdict(own, results([0.5] * 3, [0.05] * 3)).explanation == {"en": "Three calls.", "zh": "三次。"}
    assert verdict(own, results([0.05] * 3, [0.05] * 3)).explanation["en"].startswith("What was measured contradicts")


def test_emulated_says_so():
    for profile in ("linux", "poll-only", "select-only", "macos"):
        found = judge(Claim(**FACT, equals=True), [], profile=profile, facts={profile: {"poll": True}})
        assert (found.platform, found.emulated) == (profile, profile in EMULATED)
    assert set(EMULATED) == {"poll-only", "select-only"}


def test_a_run_is_judged_claim_by_claim_and_fail_on_counts():
    lab = Lab(name="x", title="X", summary="X.", loads={"one": Load()}, claims=(
        claim(), claim(name="cheap", at_most=2), claim("threads", name="rate", at_least=2), Claim(**FACT, equals=True)))
    found = judge_run(lab, run(results=tuple(results([0.5] * 3, [0.05] * 3)), platforms={"linux": {"poll": True}}))
    assert [one.outcome for one in found] == ["holds", "refuted", "refuted", "holds"]
    assert [one.claim for one in found] == ["one-watched", "cheap", "rate", "poll-linux-only"]
    assert len(fail_on(found, "refuted")) == 2
    unclear = judge_run(lab, run())
    assert not fail_on(unclear, "refuted") and len(fail_on(unclear, "inconclusive")) == 3
    assert summary(found) == "2 hold, 2 refuted" and summary(unclear) == "3 inconclusive, 1 unavailable"


@pytest.mark.parametrize(("value", "unit", "text"), [
    (1009, "", "1,009"), (12.34, "", "12.3"), (1.5, "", "1.5"), (0.034, "", "0.034"), (0.5, "share", "50"),
    (3.0, "", "3"), (123456.7, "bytes", "123,457"), (0, "", "0")])
def test_numbers(value, unit, text):
    assert number(value, unit) == text


def test_the_last_line_of_the_server_is_shown_with_the_claim():
    said = [one.model_copy(update={"log": ("first", "filedescriptor out of range in select()")})
            for one in results([0.5] * 3, [0.05] * 3)]
    assert verdict(claim(), said).said == "filedescriptor out of range in select()"
    assert verdict(claim(), results([0.5] * 3, [0.05] * 3)).said == ""
