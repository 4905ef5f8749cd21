"""Answers as the documents that people and programs get: products with ids, titles, ranks, scores and stars."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.recommender import Query, Recommender
from amzrec.arrays import Floats, Rows

SORTS = ("retrieval", "stars", "blend")

Document = dict[str, Any]


def named(recommender: Recommender, row: int) -> Document:
    """Return a product's id, and its title where it has one."""
    title = recommender.vectors.titles[row]
    return {"product_id": recommender.vectors.product_ids[row]} | ({"title": title} if title else {})


def listed(recommender: Recommender, rows: Rows, scores: Floats | None, stars: Floats | None) -> list[Document]:
    """Return one entry per product row, ranked from 1; keys without a value are left out."""
    entries = []
    for place, row in enumerate(rows):
        entry: Document = {"rank": place + 1} | named(recommender, int(row))
        if scores is not None:
            entry["score"] = round(float(scores[place]), 6)
        if stars is not None:
            entry["stars"] = round(float(stars[place]), 6)
        entries.append(entry)
    return entries


def stars_of(recommender: Recommender, query: Query, rows: Rows) -> Floats | None:
    """Predict the stars [n] of one query for product rows [n]; None where the run knows no stars."""
    if not recommender.has_stars:
        return None
    return recommender.rate(np.broadcast_to(query.rating, (len(rows), len(query.rating))), rows)


def resort(scores: Floats, stars: Floats | None, sort: str) -> npt.NDArray[np.intp]:
    """Order retrieved products [n] by one of SORTS: positions, best first; equal values keep the order of retrieval.

    "blend" adds scores and stars, each standardised.
    """
    if sort == "retrieval" or stars is None:
        return np.arange(len(scores))
    value = stars if sort == "stars" else standardised(scores) + standardised(stars)
    return np.argsort(-value, kind="stable")


def standardised(values: Floats) -> Floats:
    """Shift and scale to mean 0 and deviation 1, so that scores and stars may be added; all 0 where all are equal."""
    deviation = values.std() if len(values) else 0.0
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)
