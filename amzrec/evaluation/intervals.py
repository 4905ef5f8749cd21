"""How sure a difference between two systems is: the paired bootstrap over customers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from amzrec.arrays import Doubles, Ints
from amzrec.evaluation import metrics
from amzrec.evaluation.judge import Figures, per_customer
from amzrec.evaluation.testset import TestSet

RESAMPLES = 1000
GROUPS = 2_000  # customers are pooled into at most so many groups before resampling

Gap = dict[str, float]  # {"difference", "low", "high"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """One metric of a model and of a baseline as aligned rows whose mean, then `finish`, is the figure."""

    model: Doubles  # [T]
    baseline: Doubles  # [T]
    owner: Ints  # [T] whose row it is, 0 .. customers - 1
    finish: Callable[[Doubles], Doubles] = np.asarray  # np.sqrt for an RMSE


def gaps(
    testset: TestSet, model: Figures, rivals: dict[str, Figures], rng: np.random.Generator
) -> dict[str, dict[str, dict[str, Gap]]]:
    """Compute model - rival for each metric that both have, with its interval: {rival: {group: {metric: gap}}}."""
    names, pairs = list[tuple[str, str, str]](), list[Pair]()
    for name, rival in rivals.items():
        for group, metric, pair in pairs_of(testset, model, rival):
            names.append((name, group, metric))
            pairs.append(pair)
    gaps_to: dict[str, dict[str, dict[str, Gap]]] = {}
    for (name, group, metric), gap in zip(names, differences(pairs, len(testset.customers), rng), strict=True):
        gaps_to.setdefault(name, {}).setdefault(group, {})[metric] = gap
    return gaps_to


def pairs_of(testset: TestSet, model: Figures, rival: Figures) -> Iterator[tuple[str, str, Pair]]:
    """Yield (group, metric, pair) of each metric that can be computed for both, row by row."""
    rated = ~np.isnan(testset.reviews.stars)
    stars = [figures.answers.stars for figures in (model, rival)]
    if testset.scale and stars[0] is not None and stars[1] is not None and rated.any():
        ends = testset.scale.min, testset.scale.max
        mine, theirs = (np.abs(np.clip(s[rated], *ends) - testset.reviews.stars[rated]) for s in stars if s is not None)
        owner = testset.owner[rated]
        yield "rating", "rmse", Pair(mine**2, theirs**2, owner, np.sqrt)
        yield "rating", "mae", Pair(mine, theirs, owner)
    ranked = [figures.answers.ranked for figures in (model, rival)]
    if ranked[0] is None or ranked[1] is None:
        return
    for k in metrics.TOP:
        hits = [(ranks.above < k).astype(np.float64) for ranks in ranked if ranks is not None]
        yield "retrieval", f"top_{k}", Pair(hits[0], hits[1], testset.owner)
    if testset.relevant.any():
        (mine_each, customers), (their_each, _) = (
            per_customer(testset, ranks, testset.relevant) for ranks in ranked if ranks is not None
        )
        for metric, values in mine_each.items():
            yield "ranking", metric, Pair(values, their_each[metric], customers)


def differences(pairs: list[Pair], customers: int, rng: np.random.Generator) -> list[Gap]:
    """Compute model - baseline of each pair with its paired 95 % interval: {"difference", "low", "high"}.

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
    gaps = []
    for column, pair in enumerate(pairs):
        low, high = np.nanpercentile(gap_of(drawn[:, column], pair), [2.5, 97.5])
        whole = float(gap_of(sums[:, column].sum(0), pair))
        gaps.append({"difference": whole, "low": float(low), "high": float(high)})
    return gaps


def gap_of(sums: Doubles, pair: Pair) -> Doubles:
    """Compute the difference of the two figures from sums [..., 3] of model, baseline and rows."""
    with np.errstate(invalid="ignore"):  # a draw without any row of a rare kind says nothing: NaN
        return pair.finish(sums[..., 0] / sums[..., 2]) - pair.finish(sums[..., 1] / sums[..., 2])
