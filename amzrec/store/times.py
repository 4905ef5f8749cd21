"""When reviews were: unix seconds, days of 86,400 seconds, and periods between edges."""

from __future__ import annotations

import numpy as np

from amzrec.arrays import Array, Rows

DAY = 86_400.0  # seconds
NO_TIME = int(np.iinfo(np.int64).min)  # stands for a null timestamp in arrays
LEAST_DATED = 50  # reviews among which a few may have no time


def few(reviews: int) -> int:
    """Return how many of so many reviews may have no time without all of them being read as if they had none: 1 %."""
    return max(2, reviews // 100) if reviews >= LEAST_DATED else 0


def period_of(edges: Array, timestamp: Array) -> Rows:
    """Return the period [n] of unix seconds [n]: period t lasts from edges[t - 1] until before edges[t].

    `edges` [T - 1] ascend. NO_TIME means now, which is the last period, T - 1.
    """
    period = np.searchsorted(edges, timestamp, side="right")
    return np.where(timestamp == NO_TIME, len(edges), period).astype(np.int32)
