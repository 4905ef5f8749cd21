"""What is popular when: log shares of the products by period, which retrieval starts from and adds to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.evaluation.baselines import DAY
from amzrec.store.dataset import NO_TIME

HALF_LIVES = (30.0, 60.0, 90.0, 180.0, 365.0, 1460.0)  # days that are tried on valid, beside popularity of all time
PERIODS = 200  # most periods
ENTRIES = 20_000_000  # most entries of the table: fewer periods where there are many products
BACKOFF = 0.1  # share of all-time popularity mixed into each period
UNSEEN = 0.1  # reviews that a product without any counts as

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Prior:
    """log P(product | period), fitted on n reviews; one period without dates."""

    edges: npt.NDArray[np.int64]  # [T - 1] unix seconds where the periods 1.. begin
    table: Floats  # [T, N + 1]
    own: Floats  # [n] the entry of each fitted review, that review left out
    half_life: float | None  # days; None: all time

    def period(self, timestamp: Array) -> npt.NDArray[np.int32]:
        """The period of each time [n]; without one, and after the end, the last."""
        return period_of(self.edges, timestamp)


def period_of(edges: Array, timestamp: Array) -> npt.NDArray[np.int32]:
    """Periods [n] of unix seconds [n]: edges[t - 1] <= time < edges[t]; NO_TIME means now, the last period."""
    found = np.searchsorted(edges, timestamp, side="right")
    return np.where(timestamp == NO_TIME, len(edges), found).astype(np.int32)


def fit_prior(product: Array, timestamp: Array, size: int, half_life: float | None) -> Prior:
    """Popularity of products by period, each review spread over time with this half-life in days, both ways.

    `size` is N + 1. After the last fitted review only the past is left, so the last period is decayed popularity as
    of the end. None, or a missing time, gives one period: popularity of all time.
    P(p | t) = (1 − BACKOFF) · Σ_i 2^(−|t − t_i| / half_life) [p_i = p] / Σ … + BACKOFF · (count_p + UNSEEN) / Σ …
    """
    count = np.bincount(product, minlength=size).astype(np.float64)
    everything = len(product) + UNSEEN * size
    if half_life is None or len(product) == 0 or (timestamp == NO_TIME).any():
        table = np.log((count + UNSEEN) / everything)[None, :]
        own = np.log((count[product] - 1 + UNSEEN) / everything)
        return Prior(np.zeros(0, np.int64), table.astype(np.float32), own.astype(np.float32), None)
    start, end = int(timestamp.min()), int(timestamp.max())
    most = int(np.clip(ENTRIES // size, 1, PERIODS))
    width = max((end - start) / most, DAY)
    edges = (start + width * np.arange(1, max(int(np.ceil((end - start) / width)), 1))).astype(np.int64)
    period = period_of(edges, timestamp)
    periods = len(edges) + 1
    counts = np.zeros((periods, size))
    np.add.at(counts, (period, product), 1.0)
    days = np.abs(np.subtract.outer(np.arange(periods), np.arange(periods))) * (width / DAY)
    kernel = 0.5 ** (days / half_life) @ counts  # [T, N + 1]
    mass = kernel.sum(axis=1)
    share = (1 - BACKOFF) * kernel / mass[:, None] + BACKOFF * (count + UNSEEN) / everything
    without = (1 - BACKOFF) * (kernel[period, product] - 1) / mass[period]
    own = np.log(np.maximum(without, 0) + BACKOFF * (count[product] - 1 + UNSEEN) / everything)
    return Prior(edges, np.log(share).astype(np.float32), own.astype(np.float32), half_life)
