"""What is popular at what time: the log share of each product in each period, which retrieval adds to its scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Ints, Rows
from amzrec.store.times import DAY, NO_TIME, period_of

KERNEL_HALF_LIVES = (30.0, 60.0, 90.0, 180.0, 365.0, 1460.0)  # days to choose from, beside popularity of all time
MOST_PERIODS = 200
MOST_ENTRIES = 20_000_000  # of the table of periods and products: fewer periods where there are many products
BACKOFF = 0.1  # share of all-time popularity that is mixed into each period
AT_ONCE = 1 << 20  # reviews that are counted at a time
PSEUDO_COUNT = 0.1  # reviews that each product counts in addition, so that none has a share of 0


@dataclasses.dataclass(frozen=True)
class Popularity:
    """log P(product | period) of N products in T periods, from n reviews; without times there is one period."""

    edges: Ints  # [T - 1] unix seconds where the periods 1.. begin
    log_share: Floats  # [T, N + 1]
    log_share_without_self: Floats  # [n] the log share of each review's product in its period, without that review
    half_life: float | None  # days after which a review counts half; None: popularity of all time
    log_share_now: Floats  # [N + 1] what answers as of now read: the last period, or all time
    reviewed: Array  # [N + 1] which products have reviews; of the others time says nothing

    @classmethod
    def of(cls, product: Array, timestamp: Array, size: int, half_life: float | None) -> Popularity:
        """Fit by period: each review of a product [n] at a time [n] is spread over time, before it and after it.

        Its weight halves with each `half_life` days; `size` is N + 1. A half-life of None, or a missing time, gives
        popularity of all time. In the last period only the past counts, which is popularity decayed to the end:
        P(p | t) = (1 − BACKOFF) · Σ_i w_it [p_i = p] / Σ_i w_it + BACKOFF · P(p), w_it = 2^(−|t − t_i| / half_life)
        and P(p) is the popularity of all time.
        """
        if half_life is None or len(product) == 0 or (timestamp == NO_TIME).any():
            return cls.of_all_time(product, size)
        count, everything = _counts(product, size)
        edges, width = _periods(timestamp, size)
        periods = len(edges) + 1
        counts = np.zeros((periods, size))
        for part in _parts(len(product)):
            place = period_of(edges, timestamp[part]).astype(np.int64) * size + product[part]
            np.add.at(counts.reshape(-1), place, 1.0)
        spread = time_kernel(periods, width, half_life) @ counts  # [T, N + 1]
        mass = spread.sum(axis=1)
        share = (1 - BACKOFF) * spread / mass[:, None] + BACKOFF * (count + PSEUDO_COUNT) / everything
        without_self = np.empty(len(product), np.float32)
        for part in _parts(len(product)):
            period, of_part = period_of(edges, timestamp[part]), product[part]
            in_period = (1 - BACKOFF) * (spread[period, of_part] - 1) / mass[period]
            of_all_time = BACKOFF * (count[of_part] - 1 + PSEUDO_COUNT) / everything
            without_self[part] = np.log(np.maximum(in_period, 0) + of_all_time)
        log_share = np.log(share).astype(np.float32)
        return cls(edges, log_share, without_self, half_life, log_share[-1], count > 0)

    @classmethod
    def of_all_time(cls, product: Array, size: int) -> Popularity:
        """Fit one period: log((count + PSEUDO_COUNT) / (n + PSEUDO_COUNT · size)), where `size` is N + 1."""
        count, everything = _counts(product, size)
        share = np.log((count + PSEUDO_COUNT) / everything).astype(np.float32)
        without_self = np.log((count - 1 + PSEUDO_COUNT) / everything, where=count > 0, out=np.zeros(size))
        return cls(np.zeros(0, np.int64), share[None], without_self.astype(np.float32)[product], None, share, count > 0)

    @classmethod
    def of_equal_products(cls, reviews: int, size: int) -> Popularity:
        """Treat all products alike, for towers that have nothing but ids: n `reviews`, and `size` is N + 1."""
        equal = np.zeros((1, size), np.float32)
        return cls(np.zeros(0, np.int64), equal, np.zeros(reviews, np.float32), None, equal[0], np.ones(size, np.bool_))

    def period(self, timestamp: Array) -> Rows:
        """Return the period of each time [n]: the last one where there is no time, and after the last fitted review."""
        return period_of(self.edges, timestamp)

    def beyond_now(self, rows: Rows) -> Floats:
        """Return how much more of products [m] there is in each period than as of now, [T, m]; 0 without reviews."""
        return np.where(self.reviewed[rows], self.log_share[:, rows] - self.log_share_now[rows], np.float32(0))

    @property
    def periods(self) -> int:
        """Return how many periods there are, T."""
        return len(self.log_share)

    @property
    def period_days(self) -> float:
        """Return how long a period is, in days."""
        return float(self.edges[1] - self.edges[0]) / DAY if len(self.edges) > 1 else 1.0


def time_kernel(periods: int, days: float, half_life: float) -> Doubles:
    """Return the weight [T, T] that each period has as seen from each other: half with each `half_life` days apart.

    `days` is the length of a period.
    """
    apart = np.abs(np.subtract.outer(np.arange(periods), np.arange(periods)))
    weights: Doubles = 0.5 ** (apart * (days / half_life))
    return weights


def _parts(reviews: int) -> Iterator[slice]:
    """Cut so many reviews into parts, so that what is worked out for each takes little memory."""
    return (slice(start, start + AT_ONCE) for start in range(0, reviews, AT_ONCE))


def _counts(product: Array, size: int) -> tuple[Doubles, float]:
    """Count the reviews of each product, [N + 1], and of all products with PSEUDO_COUNT more for each of them."""
    return np.bincount(product, minlength=size).astype(np.float64), len(product) + PSEUDO_COUNT * size


def _periods(timestamp: Array, size: int) -> tuple[Ints, float]:
    """Cut the time of the reviews into periods of equal length: at most MOST_PERIODS, none shorter than a day.

    Returns the unix seconds where the periods 1.. begin, [T - 1], and the length of a period in days. `size` is N + 1.
    """
    start, end = int(timestamp.min()), int(timestamp.max())
    most = int(np.clip(MOST_ENTRIES // size, 1, MOST_PERIODS))
    width = max((end - start) / most, DAY)
    edges = (start + width * np.arange(1, max(int(np.ceil((end - start) / width)), 1))).astype(np.int64)
    return edges, width / DAY
