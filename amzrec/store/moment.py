"""The moment: what a customer gave near the time of a query, beyond what the model expects, moves the stars."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Doubles, Ints, Lists, offsets_of, ranges

AT_ONCE = 1 << 21  # pairs of a query and a review that are weighed at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """How residuals near a query's time are weighed: Σ_s share_s · Σ_i k_s(i) · residual_i / (Σ_i k_s(i) + shrinkage).

    k_s(i) = exp(−|t − t_i| / s) for each span s in seconds, over the reviews i of the customer (RECIPE of issue 16; the
    day effects b_u,t of Koren 2009, "Collaborative filtering with temporal dynamics", section 3, without their bins).
    """

    seconds: tuple[float, ...]  # S spans
    shares: tuple[float, ...]  # of each span
    shrinkage: float  # reviews' worth of belief that nothing is different now
    past_only: bool  # whether reviews after the query's time are left out


def nearby(reviews: Lists, residuals: Doubles, times: Array, moments: Array, moment: Moment) -> Doubles:
    """Average the residuals of reviews near Q moments: [Q, S], in the unit of the residuals.

    `reviews` lists for each query the positions among `residuals` and `times` [n] that may be weighed; `moments` [Q]
    and `times` are in seconds. 0 where there is none.
    """
    found = np.zeros((len(reviews), len(moment.seconds)))
    for start, stop in blocks(reviews.offsets):
        span = slice(int(reviews.offsets[start]), int(reviews.offsets[stop]))
        query = np.repeat(np.arange(stop - start), reviews.lengths[start:stop])
        item = reviews.items[span]
        apart = moments[start:stop][query].astype(np.float64) - times[item]
        for column, seconds in enumerate(moment.seconds):
            kernel = np.exp(-np.abs(apart) / seconds)
            if moment.past_only:
                kernel *= apart >= 0
            total = np.bincount(query, kernel * residuals[item], stop - start)
            found[start:stop, column] = total / (np.bincount(query, kernel, stop - start) + moment.shrinkage)
    return found


def blocks(offsets: Ints) -> list[tuple[int, int]]:
    """Cut consecutive lists into blocks of at most AT_ONCE items, or of one list: begin and end of each."""
    cuts, start = [], 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), len(offsets) - 1)
        cuts.append((start, stop))
        start = stop
    return cuts


def spans(lists: Lists, rows: Array) -> Lists:
    """List for each of Q rows the positions of its items: the lists that `nearby` reads."""
    begin, end = lists.offsets[rows], lists.offsets[rows + 1]
    return Lists(offsets_of(end - begin), ranges(begin, end))
