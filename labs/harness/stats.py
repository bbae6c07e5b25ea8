"""Means with confidence intervals, for few values. Pure functions.

Plain values: arithmetic mean and Student's t-interval. Ratios: geometric mean and t-interval of the
logarithms, so that 2 and 1/2 are equally far from 1 and the interval never reaches 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

UNSTABLE_SHARE = 0.10
"""Values whose standard deviation is more than this share of their mean are called unstable (pyperf's rule)."""


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that covers the true one with the asked-for confidence; infinitely wide for one value."""

    value: float
    low: float
    high: float
    count: int
    unstable: bool = False
    """The repeats differ by more than UNSTABLE_SHARE (standard deviation)."""


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Arithmetic mean with its t-interval. Raises ValueError for no values."""
    value, half, spread = _mean(values, confidence)
    return Interval(value, value - half, value + half, len(values), spread > UNSTABLE_SHARE * abs(value))


def ratio_interval(ratios: Sequence[float], confidence: float = 0.95) -> Interval:
    """Geometric mean with the t-interval of the logarithms. Raises ValueError for no or non-positive ratios."""
    if any(ratio <= 0 for ratio in ratios):
        raise ValueError("a ratio must be positive")
    value, half, spread = _mean([math.log(ratio) for ratio in ratios], confidence)
    return Interval(math.exp(value), math.exp(value - half), math.exp(value + half), len(ratios),
                    math.expm1(spread) > UNSTABLE_SHARE)


def paired_ratios(of: Sequence[float], against: Sequence[float]) -> tuple[float, ...]:
    """of / against, repeat by repeat: what disturbed both of a pair alike falls out of their ratio."""
    return tuple(one / other for one, other in zip(of, against, strict=True))


def _mean(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Mean, half the width of its interval, standard deviation."""
    if not values:
        raise ValueError("no values")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, math.inf, 0.0
    spread = statistics.stdev(values)
    return mean, t_quantile(0.5 + confidence / 2, len(values) - 1) * spread / math.sqrt(len(values)), spread


def t_cdf(t: float, freedom: int) -> float:
    """Student's t distribution for a whole number of degrees of freedom.

    The finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4, with theta = atan(t / sqrt(freedom)).
    """
    theta = math.atan(abs(t) / math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    within = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return 0.5 + within / 2 if t >= 0 else 0.5 - within / 2


def t_quantile(probability: float, freedom: int) -> float:
    """The t below which the distribution has `probability`, 0 < probability < 1; by bisection of the angle."""
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(math.tan(middle) * math.sqrt(freedom), freedom) < probability \
            else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(freedom)
