"""Statistical significance: confidence intervals, paired tests, mean and standard deviation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Bounds of a share, 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Mean and deviation of several runs.

    Attributes:
        mean: arithmetic mean.
        deviation: sample standard deviation, with n - 1 in the denominator.
    """

    mean: float
    deviation: float


def compute_wilson_interval(successes: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Compute the score interval of a share (E. B. Wilson, JASA 22 (1927), 209-212).

    Args:
        successes: 0 to `count`.
        count: at least 1.
        confidence: probability that such an interval contains the true share, 0 to 1.
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    low = 0.0 if successes == 0 else middle - reach
    return Interval(low, 1.0 if successes == count else middle + reach)


def compute_mcnemar_p(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's test in its mid-p form, 0 to 1.

    The test uses the images that exactly one of two networks classifies correctly. The mid-p form
    keeps the level as the exact test does and is less conservative, for few such images and for
    many (M. W. Fagerland, S. Lydersen, P. Laake, BMC Medical Research Methodology 13 (2013), 91).

    Args:
        only_first: images that only the first network classifies correctly.
        only_second: images that only the second network classifies correctly.
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    if count == 0:
        return 1.0  # nothing speaks against them being equal
    ways = total = 1  # binomial coefficients up to the observed one
    for chosen in range(1, fewer + 1):
        ways = ways * (count - chosen + 1) // chosen
        total += ways
    if only_first == only_second:
        return 1 - ways / (1 << count + 1)
    return (2 * total - ways) / (1 << count)


def adjust_p_values(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for their number (S. Holm, Scand. J. Stat. 6 (1979), 65).

    Comparing the adjusted values with a level bounds the probability of any false rejection
    among all of them by that level.
    """
    adjusted, largest, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)


def summarize_runs(values: Sequence[float]) -> Spread:
    """Compute mean and sample standard deviation of at least two values."""
    return Spread(statistics.fmean(values), statistics.stdev(values))
