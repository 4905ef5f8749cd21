"""Metric functions on arrays: every figure of metrics.json is one of these, and each says its denominator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.ranks import CUT as CUT
from amzrec.answers.ranks import MISS as MISS

TOP = (1, 5, 10, 50, 100)  # the k of top_k
LIST = 5  # products per list of ndcg@5
LISTS = 20  # lists per customer
RESAMPLES = 1000
GROUPS = 2_000  # customers are pooled into at most so many groups before resampling

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

GROUPS_OF = {"rating": ("rating",), "retrieval": ("retrieval", "ranking")}  # what is measured of each task


def learned(figures: dict[str, Any], untrained: list[str]) -> dict[str, Any]:
    """The figures of a system, slices too, without those of tasks that it was not trained for."""
    hidden = [group for task in untrained for group in GROUPS_OF[task]]
    kept = {name: value for name, value in figures.items() if name not in hidden}
    if "slices" in kept:
        kept["slices"] = {name: part and learned(part, untrained) for name, part in kept["slices"].items()}
    return kept


def top_k(above: Ints, ks: tuple[int, ...] = TOP) -> dict[str, float]:
    """Share of all rows [T] whose product has fewer than k others at or above its score (MISS: never)."""
    return {f"top_{k}": float((above < k).mean()) for k in ks}


def rating_errors(stars: Array, predicted: Array) -> dict[str, float]:
    """Pooled root mean squared and mean absolute error over rows [T], in stars."""
    error = np.asarray(predicted, np.float64) - stars
    return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}


def per_customer(above: Ints, owner: Ints, customers: int, k: int = CUT) -> dict[str, Doubles]:
    """Ranking metrics of each customer, [customers]; every customer must own at least one relevant row.

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


def coverage(top: Array, candidates: int) -> float:
    """Share of the candidates that are recommended to anyone; `top` [G, k] holds their positions, -1 for nothing."""
    return len(np.unique(top[top >= 0])) / candidates


def novelty(top: Array, counts: Array) -> float:
    """Mean of -log2 (share of the fitted reviews) over everything recommended; `counts` [M] by position.

    A product without a review counts as if it had one, which keeps the figure finite.
    """
    share = np.maximum(counts, 1) / max(1, int(np.sum(counts)))
    return float(-np.log2(share[top[top >= 0]]).mean())


def draw_lists(customer: Array, rng: np.random.Generator, size: int = LIST, lists: int = LISTS) -> Ints:
    """Row positions [L, size]: for each customer with at least `size` rows, `lists` random draws without repetition."""
    order = np.argsort(customer, kind="stable")
    starts = np.flatnonzero(np.diff(customer[order], prepend=-1))
    drawn = [
        part[np.argsort(rng.random((lists, len(part))), axis=1)[:, :size]]
        for part in np.split(order, starts[1:])
        if len(part) >= size
    ]
    return np.concatenate(drawn) if drawn else np.zeros((0, size), np.int64)


def list_ndcg(stars: Array, predicted: Array, low: float, high: float) -> Doubles:
    """NDCG of each list [L] for stars and predictions [L, n], gain 2^((stars - low) / (high - low)) - 1.

    Equal predictions keep the order of the list, which is random. NaN where every gain is 0: such a list has no order.
    """
    gain = 2.0 ** ((stars - low) / (high - low)) - 1
    discount = 1 / np.log2(np.arange(stars.shape[1]) + 2.0)
    order = np.argsort(-predicted, axis=1, kind="stable")
    ideal = -np.sort(-gain, axis=1) @ discount
    reached = np.take_along_axis(gain, order, axis=1) @ discount
    found: Doubles = np.divide(reached, ideal, out=np.full(len(gain), np.nan), where=ideal > 0)
    return found


@dataclasses.dataclass(frozen=True)
class Pair:
    """One metric of a model and of a baseline as aligned rows whose mean, then `finish`, is the figure."""

    model: Doubles  # [T]
    baseline: Doubles  # [T]
    owner: Ints  # [T] whose row it is, 0 .. customers - 1
    finish: Callable[[Doubles], Doubles] = np.asarray  # np.sqrt for an RMSE


def differences(pairs: list[Pair], customers: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Model - baseline of each pair with its paired 95 % interval: {"difference", "low", "high"}.

    Percentile bootstrap (Efron 1979) that resamples customers, since the rows of one customer are not independent;
    both sides and all pairs see the same draws. Customers beyond GROUPS are pooled at random, which leaves the
    variance as it is.
    """
    groups = min(customers, GROUPS)
    group = rng.permutation(customers) % groups
    sums = np.zeros((groups, len(pairs), 3))  # of model, baseline, rows
    for column, pair in enumerate(pairs):
        mine = group[pair.owner]
        for part, values in enumerate((pair.model, pair.baseline, None)):
            sums[:, column, part] = np.bincount(mine, values, groups)
    flat = sums.reshape(groups, -1)
    drawn = np.concatenate(
        [
            np.stack([np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(50)]) @ flat
            for _ in range(RESAMPLES // 50)
        ]
    ).reshape(RESAMPLES, len(pairs), 3)

    def gap(total: Doubles, pair: Pair) -> Doubles:
        with np.errstate(invalid="ignore"):  # a draw without any row of a rare kind says nothing
            return pair.finish(total[..., 0] / total[..., 2]) - pair.finish(total[..., 1] / total[..., 2])

    found = []
    for column, pair in enumerate(pairs):
        low, high = np.nanpercentile(gap(drawn[:, column], pair), [2.5, 97.5])
        found.append({"difference": float(gap(sums[:, column].sum(0), pair)), "low": float(low), "high": float(high)})
    return found
