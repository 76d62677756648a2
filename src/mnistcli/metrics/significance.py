"""How far a difference between two networks could be chance: intervals, paired tests, spreads.

Pure arithmetic on counts; exact where that is possible.
"""

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
    """What several runs have in common.

    Attributes:
        mean: the arithmetic mean.
        deviation: the sample standard deviation, divided by n - 1.
    """

    mean: float
    deviation: float


def compute_wilson_interval(successes: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the score interval of a share (E. B. Wilson, JASA 22 (1927), 209-212).

    Args:
        successes: 0 to `count`.
        count: at least 1.
        confidence: how often such an interval holds the true share, between 0 and 1.
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    low = 0.0 if successes == 0 else middle - reach
    return Interval(low, 1.0 if successes == count else middle + reach)


def compute_mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's test in its mid-p form, 0 to 1.

    Only the examples tell that one network got right and the other did not: were both equally
    good, each would be a fair coin. The mid-p form keeps its level as the exact test does without
    being as timid, for few such examples and for many (M. W. Fagerland, S. Lydersen, P. Laake,
    BMC Medical Research Methodology 13 (2013), 91), so that there is one rule. Exact integers.

    Args:
        only_first: examples that the first network alone got right.
        only_second: examples that the second one alone got right.
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
    """Return p-values that allow for how many there are (S. Holm, Scand. J. Stat. 6 (1979), 65).

    Of many pairs of equally good networks some look different by chance. Compared with a level,
    the adjusted values are wrong anywhere among all pairs no more often than that.
    """
    adjusted, largest, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)


def summarize_runs(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation of at least two values."""
    return Spread(statistics.fmean(values), statistics.stdev(values))
