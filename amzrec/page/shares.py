"""What is recommended beside what is bought: shares by popularity, from the vectors, for a sample of customers."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.answers.listing import named
from amzrec.answers.recommender import Recommender
from amzrec.arrays import Ints, Rows

CUT = 10  # products in a list
PARTS = 10  # parts of the catalogue, the most reviewed first
SHOWN = 10  # products that are recommended most
CUSTOMERS = (50, 1_000)  # least and most customers of the sample …
SCORES = 200_000_000  # … and about how many scores may be computed for it
TOGETHER = 256  # customers answered at once


def shares(model: Recommender, seed: int = 0) -> dict[str, Any] | None:
    """Count what the k best products of a sample of customers are, beside what customers reviewed.

    The candidates are ranked by their fitted reviews (equal ones in the order of their rows) and cut into at most PARTS
    parts of nearly equal size. `recommended` is the share of all recommendations that goes to a part, `bought` the
    share of all fitted reviews of candidates. `coverage` is the share of the candidates that is recommended to anyone
    of the sample, `reviews` the mean reviews of a recommended product and of a bought one. `top` are the products that
    most customers get. None where nobody is known, or there is nothing to recommend.
    """
    known = np.flatnonzero(model.vectors.customer_counts[1:]) + 1
    size = len(model.candidates)
    if not len(known) or not size:
        return None
    most = int(np.clip(SCORES // size, *CUSTOMERS))
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(known, most, replace=False)) if len(known) > most else known
    counts = model.vectors.product_counts[model.candidates]
    times = recommended_times(model, sample.astype(np.int32))
    given, bought = int(times.sum()), int(counts.sum())
    if not given or not bought:
        return None
    part = parts_of(counts)
    return {
        "customers": len(sample),
        "of": len(known),
        "k": CUT,
        "products": size,
        "coverage": float((times > 0).mean()),
        "parts": [
            {
                "products": int((part == number).sum()),
                "recommended": int(times[part == number].sum()) / given,
                "bought": int(counts[part == number].sum()) / bought,
            }
            for number in range(int(part.max()) + 1)
        ],
        "reviews": {
            "recommended": float(times @ counts) / given,
            "bought": float(counts.astype(np.float64) @ counts) / bought,
        },
        "top": [
            named(model, int(model.candidates[column]))
            | {"customers": int(times[column]) / len(sample), "bought": int(counts[column]) / bought}
            for column in np.lexsort((np.arange(size), -times))[:SHOWN]
            if times[column]
        ],
    }


def parts_of(counts: Ints) -> Ints:
    """Tell in which part of the catalogue each product [M] is, 0 the most reviewed; parts differ by one product."""
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return rank * min(PARTS, len(counts)) // len(counts)


def recommended_times(model: Recommender, customers: Rows) -> Ints:
    """Count how often each candidate [M] is among the CUT best of customer rows, without what each has reviewed."""
    vectors, column = model.vectors, np.full(len(model.vectors.product_ids), -1, np.int64)
    column[model.candidates] = np.arange(len(model.candidates))
    times = np.zeros(len(model.candidates), np.int64)
    for start in range(0, len(customers), TOGETHER):
        rows = customers[start : start + TOGETHER]
        histories = None if vectors.memory is None else [model.history(int(row)) for row in rows]
        seen = [model.seen(int(row))[0] for row in rows]
        top, _ = model.retrieve(vectors.retrieval_query[rows], min(CUT, len(model.candidates)), seen, histories)
        times += np.bincount(column[top[top > 0]], minlength=len(times))
    return times
