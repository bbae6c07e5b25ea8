"""Intervals against textbook values."""

import math
import random

import pytest

from labs.harness.stats import interval, paired_ratios, ratio_interval, t_cdf, t_quantile


@pytest.mark.parametrize(("freedom", "expected"), [  # any table of Student's t, two-sided 95 %
    (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (100, 1.984)])
def test_t_quantile_is_the_tables(freedom, expected):
    assert t_quantile(0.975, freedom) == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize(("probability", "freedom", "expected"), [(0.95, 4, 2.132), (0.995, 7, 3.499), (0.9, 1, 3.078)])
def test_t_quantile_at_other_levels(probability, freedom, expected):
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=0.0006)
    assert t_quantile(1 - probability, freedom) == pytest.approx(-expected, abs=0.0006)


def test_t_cdf_is_a_distribution():
    for freedom in range(1, 40):
        assert t_cdf(0, freedom) == pytest.approx(0.5)
        assert t_cdf(-2, freedom) == pytest.approx(1 - t_cdf(2, freedom))
        points = [t_cdf(x / 4, freedom) for x in range(-40, 41)]
        assert points == sorted(points)


def test_interval_of_known_values():
    found = interval([10, 12, 14])  # mean 12, s = 2, half = 4.3027 × 2 / √3
    assert (found.value, found.count) == (12, 3)
    assert found.high - found.value == pytest.approx(4.968, abs=0.001)
    assert found.value - found.low == pytest.approx(4.968, abs=0.001)


def test_interval_covers_the_true_mean_about_95_times_in_100():
    source = random.Random(7)
    covered = 0
    for _ in range(2000):
        found = interval([source.gauss(5, 1) for _ in range(4)])
        covered += found.low <= 5 <= found.high
    assert 0.93 < covered / 2000 < 0.97


def test_one_value_has_no_interval():
    assert interval([3]).low == -math.inf and interval([3]).high == math.inf
    assert (ratio_interval([3]).low, ratio_interval([3]).high) == (0, math.inf)


def test_equal_values_have_a_point():
    found = interval([7, 7])
    assert (found.value, found.low, found.high, found.unstable) == (7, 7, 7, False)


def test_ratios_are_symmetric():
    up, down = ratio_interval([2, 3, 4]), ratio_interval([1 / 2, 1 / 3, 1 / 4])
    assert up.value == pytest.approx(24 ** (1 / 3))
    assert (1 / down.high, 1 / down.low) == (pytest.approx(up.low), pytest.approx(up.high))
    assert ratio_interval([0.5, 2]).value == pytest.approx(1)


def test_ratios_are_paired_by_repeat():
    # the second repeat was twice as slow for both: their ratio does not notice
    assert paired_ratios([10, 20, 10], [5, 10, 5]) == (2, 2, 2)
    with pytest.raises(ValueError, match="shorter"):
        paired_ratios([1, 2], [1])


def test_unstable_is_more_than_ten_percent():
    assert not interval([100, 105, 95]).unstable and interval([100, 130, 70]).unstable
    assert not ratio_interval([2, 2.1, 1.95]).unstable and ratio_interval([2, 3, 1]).unstable


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match="no values"):
        interval([])
    with pytest.raises(ValueError, match="positive"):
        ratio_interval([1, 0])
