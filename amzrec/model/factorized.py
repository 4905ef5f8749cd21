"""tfrs.metrics.FactorizedTopK over the vectors of a run: TensorFlow Recommenders' own count of the top k."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.arrays import Array, Floats, Rows
from amzrec.evaluation.metrics import TOP
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.store.dataset import Reviews
from amzrec.store.times import period_of
from amzrec.store.vectors import Vectors

CANDIDATES = 8192  # candidates that are scored at a time
QUERIES = 4096  # reviews that are ranked at a time
VOTERS = 256  # … where each has votes for all products


def factorized_top_k(vectors: Vectors, reviews: Reviews, ks: tuple[int, ...] = TOP) -> dict[str, float]:
    """Measure the share of reviews whose product is among the k best of the unique candidates: {"top_1": …}.

    By ids, since the metric's other way compares scores that differ in their last bits. The metric knows inner products
    alone, so what else a score is made of stands beside the vectors, and the query reads it by a one-hot vector: the
    context of its period, and the votes of its customer's history. Equal to the judge's top_k where no scores are
    equal. Raises ValueError where a candidate is listed twice: it would take two of the k places.
    """
    rows = np.asarray(vectors.candidates)
    if len(np.unique(rows)) < len(rows):
        raise ValueError("candidates must be unique: a product listed twice takes two of the k places")
    hits = dict.fromkeys(ks, 0.0)
    together = QUERIES if vectors.memory is None else VOTERS
    for start in range(0, len(reviews) if len(rows) else 0, together):
        part = reviews.take(np.arange(start, min(start + together, len(reviews))))
        for k, share in shares_of(vectors, rows, part, [k for k in ks if k <= len(rows)]).items():
            hits[k] += share * len(part)
    listed = float(np.isin(reviews.product, rows).sum())  # with k beyond the catalogue every candidate is found
    return {f"top_{k}": (hits[k] if k <= len(rows) else listed) / max(len(reviews), 1) for k in ks}


def shares_of(vectors: Vectors, rows: Rows, reviews: Reviews, ks: list[int]) -> dict[int, float]:
    """Measure a block of reviews among the candidate rows [M], for each k of at most M."""
    tf: Any = import_tensorflow()
    tfrs: Any = import_tfrs()
    if not ks:
        return {}
    customers, customer = np.unique(reviews.customer, return_inverse=True)
    periods, period = periods_of(vectors, reviews)
    votes = votes_of(vectors, customers)  # [U, N + 1]
    known = np.unique(np.concatenate([rows, reviews.product]))
    products = np.concatenate([with_context(vectors, known, periods), votes[:, known].T], axis=1)
    queries = [vectors.retrieval_query[reviews.customer], one_hot(period, len(periods)), one_hot(customer, len(votes))]
    table = tf.data.Dataset.from_tensor_slices((rows, products[np.searchsorted(known, rows)])).batch(CANDIDATES)
    index = tfrs.layers.factorized_top_k.Streaming(k=max(ks)).index_from_dataset(table)
    metric = tfrs.metrics.FactorizedTopK(index, ks)
    metric.update_state(
        tf.constant(np.concatenate(queries, axis=1)),
        tf.constant(products[np.searchsorted(known, reviews.product)]),
        true_candidate_ids=tf.constant(reviews.product),
    )
    return dict(zip(ks, map(float, metric.result()), strict=True))


def votes_of(vectors: Vectors, customers: Rows) -> Floats:
    """Add up what the histories of customers [U] vote for: [U, N + 1]; without a memory [0, N + 1]."""
    recommender = Recommender(vectors)
    votes = recommender.votes([recommender.history(customer) for customer in customers])
    table = np.zeros((0 if votes is None else len(customers), len(vectors.product_ids)), np.float32)
    if votes is not None:
        votes.add(table, np.arange(table.shape[1]))
    return table


def one_hot(places: Array, width: int) -> Floats:
    """Make the rows [n, width] that have a 1 at these places [n]; no columns where the width is 0."""
    rows: Floats = np.eye(width, dtype=np.float32)[places] if width else np.zeros((len(places), 0), np.float32)
    return rows


def periods_of(vectors: Vectors, reviews: Reviews) -> tuple[Rows, Rows]:
    """Return the periods [P] of the reviews, ascending, and which of them each review [T] has; none without context."""
    if vectors.context is None or vectors.context_edges is None:
        return np.zeros(0, np.int32), np.zeros(len(reviews), np.int32)
    periods, period = np.unique(period_of(vectors.context_edges, reviews.timestamp), return_inverse=True)
    return periods, period.astype(np.int32)


def with_context(vectors: Vectors, rows: Rows, periods: Rows) -> Floats:
    """Return the vectors of product rows, and beside them what each period adds to their scores: [n, Dr + 1 + P]."""
    products = vectors.retrieval_candidate[rows]
    if vectors.context is None:
        return products
    return np.concatenate([products, vectors.context[periods][:, rows].T], axis=1)
