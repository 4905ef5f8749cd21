"""What is popular when: log shares of the products by period, which retrieval starts from and adds to."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Rows
from amzrec.store.times import DAY, NO_TIME, period_of

KERNELS = (30.0, 60.0, 90.0, 180.0, 365.0, 1460.0)  # half-lives in days to try on valid, beside popularity of all time
PERIODS = 200  # most periods
ENTRIES = 20_000_000  # most entries of the table: fewer periods where there are many products
BACKOFF = 0.1  # share of all-time popularity mixed into each period
UNSEEN = 0.1  # reviews that a product without any counts as


@dataclasses.dataclass(frozen=True)
class Popularity:
    """log P(product | period), fitted on n reviews; there is one period where there are no times."""

    edges: Ints  # [T - 1] unix seconds where the periods 1.. begin
    log_share: Floats  # [T, N + 1]
    own_log_share: Floats  # [n] the entry of each fitted review, with that review left out
    half_life: float | None  # days; None: popularity of all time

    @classmethod
    def of(cls, product: Array, timestamp: Array, size: int, half_life: float | None) -> Popularity:
        """Fit by period: each review is spread over time with this half-life in days, both ways.

        `size` is N + 1. None, or a missing time, gives one period: popularity of all time. After the last fitted
        review only the past is left, so the last period is decayed popularity as of the end.
        P(p | t) = (1 − BACKOFF) · Σ_i 2^(−|t − t_i| / half_life) [p_i = p] / Σ … + BACKOFF · (count_p + UNSEEN) / Σ …
        """
        if half_life is None or len(product) == 0 or (timestamp == NO_TIME).any():
            return cls.of_all_time(product, size)
        count, everything = _counts(product, size)
        edges, width = _periods(timestamp, size)
        period, periods = period_of(edges, timestamp), len(edges) + 1
        counts = np.zeros((periods, size))
        np.add.at(counts, (period, product), 1.0)
        spread = time_kernel(periods, width, half_life) @ counts  # [T, N + 1]
        mass = spread.sum(axis=1)
        share = (1 - BACKOFF) * spread / mass[:, None] + BACKOFF * (count + UNSEEN) / everything
        without = (1 - BACKOFF) * (spread[period, product] - 1) / mass[period]
        own = np.log(np.maximum(without, 0) + BACKOFF * (count[product] - 1 + UNSEEN) / everything)
        return cls(edges, np.log(share).astype(np.float32), own.astype(np.float32), half_life)

    @classmethod
    def of_all_time(cls, product: Array, size: int) -> Popularity:
        """Fit one period: log((count + UNSEEN) / (n + UNSEEN · size))."""
        count, everything = _counts(product, size)
        share = np.log((count + UNSEEN) / everything)[None, :]
        own = np.log((count[product] - 1 + UNSEEN) / everything)
        return cls(np.zeros(0, np.int64), share.astype(np.float32), own.astype(np.float32), None)

    @classmethod
    def unknown(cls, reviews: int, size: int) -> Popularity:
        """Treat all products alike, for towers that have nothing but ids."""
        return cls(np.zeros(0, np.int64), np.zeros((1, size), np.float32), np.zeros(reviews, np.float32), None)

    def period(self, timestamp: Array) -> Rows:
        """The period of each time [n]; the last one without a time and after the end."""
        return period_of(self.edges, timestamp)

    @property
    def periods(self) -> int:
        """How many periods there are, T."""
        return len(self.log_share)

    @property
    def period_days(self) -> float:
        """How long a period is, in days."""
        return float(self.edges[1] - self.edges[0]) / DAY if len(self.edges) > 1 else 1.0


def time_kernel(periods: int, days: float, half_life: float) -> np.ndarray:
    """Weights [T, T] of what happened in each period as seen from each other one: half per `half_life` days apart."""
    apart = np.abs(np.subtract.outer(np.arange(periods), np.arange(periods)))
    weights: np.ndarray = 0.5 ** (apart * (days / half_life))
    return weights


def _counts(product: Array, size: int) -> tuple[np.ndarray, float]:
    """Reviews of each product [N + 1], and of all with UNSEEN added to each product."""
    return np.bincount(product, minlength=size).astype(np.float64), len(product) + UNSEEN * size


def _periods(timestamp: Array, size: int) -> tuple[Ints, float]:
    """Where periods of equal length begin, and their length in days: a day at least, and at most PERIODS of them."""
    start, end = int(timestamp.min()), int(timestamp.max())
    most = int(np.clip(ENTRIES // size, 1, PERIODS))
    width = max((end - start) / most, DAY)
    edges = (start + width * np.arange(1, max(int(np.ceil((end - start) / width)), 1))).astype(np.int64)
    return edges, width / DAY
