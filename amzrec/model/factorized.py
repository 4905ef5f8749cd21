"""tfrs.metrics.FactorizedTopK over the vectors of a run: TensorFlow Recommenders' own count of the top k."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.arrays import Floats, Rows
from amzrec.evaluation.metrics import TOP
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.store.dataset import Reviews
from amzrec.store.times import period_of
from amzrec.store.vectors import Vectors

CANDIDATES = 8192  # candidates that are scored at a time
QUERIES = 1024  # reviews that are ranked at a time


def factorized_top_k(vectors: Vectors, reviews: Reviews, ks: tuple[int, ...] = TOP) -> dict[str, float]:
    """Measure the share of reviews whose product is among the k best of the unique candidates: {"top_1": …}.

    By ids, since the metric's other way compares scores that differ in their last bits. The query of a review reads the
    context of its date by a one-hot period beside its vector. Equal to the judge's top_k where no scores are equal.
    Raises ValueError where a candidate is listed twice: it would take two of the k places.
    """
    tf: Any = import_tensorflow()
    tfrs: Any = import_tfrs()
    rows = np.asarray(vectors.candidates)
    if len(np.unique(rows)) < len(rows):
        raise ValueError("candidates must be unique: a product listed twice takes two of the k places")
    if not len(rows):
        return {f"top_{k}": 0.0 for k in ks}
    periods, period = periods_of(vectors, reviews)
    table = tf.data.Dataset.from_tensor_slices((rows, with_context(vectors, rows, periods))).batch(CANDIDATES)
    index = tfrs.layers.factorized_top_k.Streaming(k=min(max(ks), len(rows))).index_from_dataset(table)
    metric = tfrs.metrics.FactorizedTopK(index, [k for k in ks if k <= len(rows)])
    for start in range(0, len(reviews), QUERIES):
        part = slice(start, start + QUERIES)
        product = reviews.product[part]
        queries = vectors.retrieval_query[reviews.customer[part]]
        if len(periods):
            queries = np.concatenate([queries, np.eye(len(periods), dtype=np.float32)[period[part]]], axis=1)
        positives = with_context(vectors, product, periods)
        metric.update_state(tf.constant(queries), tf.constant(positives), true_candidate_ids=tf.constant(product))
    shares = dict(zip((k for k in ks if k <= len(rows)), map(float, metric.result()), strict=True))
    listed = float(np.isin(reviews.product, rows).mean())  # with k beyond the catalogue every candidate is shares
    return {f"top_{k}": shares.get(k, listed) for k in ks}


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
