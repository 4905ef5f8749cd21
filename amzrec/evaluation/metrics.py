"""Metric functions on arrays: every figure of metrics.json is one of these, and each says its denominator."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.answers.ranks import CUT as CUT
from amzrec.answers.ranks import MISS as MISS
from amzrec.arrays import Array, Doubles, Ints

TOP = (1, 5, 10, 50, 100)  # the k of top_k
LIST = 5  # products per list of ndcg@5
LISTS = 20  # lists per customer

GROUPS_OF = {  # what is measured of each task
    "rating": ("rating",),
    "retrieval": ("retrieval", "ranking", "factorized_top_k"),
}


def without_untrained(figures: dict[str, Any], untrained: list[str]) -> dict[str, Any]:
    """Leave out of the figures of a system, slices too, those of tasks that it was not trained for.

    `figures` is a system's part of metrics.json.
    """
    hidden = [group for task in untrained for group in GROUPS_OF[task]]
    kept = {name: value for name, value in figures.items() if name not in hidden}
    if "slices" in kept:
        kept["slices"] = {name: part and without_untrained(part, untrained) for name, part in kept["slices"].items()}
    return kept


def top_k(above: Ints, ks: tuple[int, ...] = TOP) -> dict[str, float]:
    """Compute, for each k, the share of all rows [T] with fewer than k other products at or above (MISS: never)."""
    return {f"top_{k}": float((above < k).mean()) for k in ks}


def rating_errors(stars: Array, predicted: Array) -> dict[str, float]:
    """Compute root mean squared and mean absolute error, pooled over rows [T], in stars."""
    error = np.asarray(predicted, np.float64) - stars
    return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}


def per_customer(above: Ints, owner: Ints, customers: int, k: int = CUT) -> dict[str, Doubles]:
    """Compute the ranking metrics of each customer, [customers]; everyone must own at least one relevant row.

    `above` [T] is the rank from 0 of each relevant product among what the customer has not seen (MISS: no candidate),
    `owner` [T] whose it is. recall: hits in the first k / relevant. ndcg: the ideal has min(k, relevant) hits.
    mrr: 1 / the rank from 1 of the best relevant product, over the whole catalogue. hit: any in the first k.
    """
    relevant = np.bincount(owner, minlength=customers)
    inside = above < k
    hits = np.bincount(owner[inside], minlength=customers)
    gain = np.bincount(owner[inside], 1 / np.log2(above[inside] + 2.0), customers)
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2.0))
    first = np.full(customers, MISS)
    np.minimum.at(first, owner, above)
    return {
        f"recall@{k}": hits / relevant,
        f"ndcg@{k}": gain / ideal[np.minimum(relevant, k) - 1],
        "mrr": np.where(first == MISS, 0.0, 1 / (first.astype(np.float64) + 1)),
        f"hit@{k}": (hits > 0).astype(np.float64),
    }


def rank_gain(above: Ints) -> Doubles:
    """Compute the NDCG of each row [T] alone, 1 / log2(1 + its rank from 1): the ideal puts its product first.

    `above` [T] is the rank from 0; MISS gains 0.
    """
    gains: Doubles = np.where(above == MISS, 0.0, 1.0 / np.log2(np.minimum(above, MISS - 2) + 2.0))
    return gains


def coverage(top: Array, candidates: int) -> float:
    """Compute the share of the candidates that is recommended to anyone; `top` [G, k] are columns, -1 for nothing."""
    return len(np.unique(top[top >= 0])) / candidates


def novelty(top: Array, counts: Array) -> float:
    """Compute the mean of -log2(share of the fitted reviews) over all recommendations; `counts` [M] by column.

    A product without a review counts as if it had one, which keeps the figure finite.
    """
    share = np.maximum(counts, 1) / max(1, int(np.sum(counts)))
    return float(-np.log2(share[top[top >= 0]]).mean())


def draw_lists(customer: Array, rng: np.random.Generator, size: int = LIST, lists: int = LISTS) -> Ints:
    """Draw `lists` times `size` different rows of each customer who has as many: positions of rows, [L, size]."""
    order = np.argsort(customer, kind="stable")
    starts = np.flatnonzero(np.diff(customer[order], prepend=-1))
    drawn = [
        part[np.argsort(rng.random((lists, len(part))), axis=1)[:, :size]]
        for part in np.split(order, starts[1:])
        if len(part) >= size
    ]
    return np.concatenate(drawn) if drawn else np.zeros((0, size), np.int64)


def list_ndcg(stars: Array, predicted: Array, low: float, high: float) -> Doubles:
    """Compute the NDCG of each list [L] of stars and predictions [L, n], gain 2^((stars - low) / (high - low)) - 1.

    Equal predictions keep the order of the list, which is random. NaN where every gain is 0: such a list has no order.
    """
    gain = 2.0 ** ((stars - low) / (high - low)) - 1
    discount = 1 / np.log2(np.arange(stars.shape[1]) + 2.0)
    order = np.argsort(-predicted, axis=1, kind="stable")
    ideal = -np.sort(-gain, axis=1) @ discount
    reached = np.take_along_axis(gain, order, axis=1) @ discount
    ndcg: Doubles = np.divide(reached, ideal, out=np.full(len(gain), np.nan), where=ideal > 0)
    return ndcg
