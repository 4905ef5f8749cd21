"""The one judge: what a system is worth on a test set, whether it is a model, a baseline or a peer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from amzrec.arrays import Bools, Doubles, Ints
from amzrec.evaluation import metrics
from amzrec.evaluation.systems import Ranked, System, rank_system
from amzrec.evaluation.testset import TestSet

Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a system answered for each review of a test set; None where it does not rate, or does not retrieve."""

    stars: Doubles | None = None  # [T] not clipped
    ranked: Ranked | None = None


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the answers are worth; None where a group of metrics does not apply."""

    answers: Answers
    rating: Metrics | None = None
    retrieval: Metrics | None = None
    ranking: Metrics | None = None
    slices: dict[str, Slice | None] = dataclasses.field(default_factory=dict)  # None: no review is in it

    def to_json(self) -> dict[str, Any]:
        """Return the system's part of metrics.json: groups that do not apply are left out, an empty slice is null."""
        slices = {name: part and part.to_json() for name, part in self.slices.items()}
        return groups_of(self) | {"slices": slices}


@dataclasses.dataclass(frozen=True)
class Slice:
    """The figures of some reviews of a test set."""

    rows: int
    rating: Metrics | None = None
    retrieval: Metrics | None = None
    ranking: Metrics | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the groups of metrics that apply, and the number of reviews."""
        return groups_of(self) | {"rows": self.rows}


def groups_of(figures: Figures | Slice) -> dict[str, Metrics]:
    """Return the groups of metrics that apply."""
    groups = {"rating": figures.rating, "retrieval": figures.retrieval, "ranking": figures.ranking}
    return {name: found for name, found in groups.items() if found is not None}


def judge(testset: TestSet, system: System) -> Figures:
    """Measure a system on a test set: all metrics, and the slices of the test set."""
    answers = Answers(system.stars(testset) if testset.scale else None, rank_system(testset, system))
    everything = np.ones(len(testset), np.bool_)
    rating, ranking = rating_of(testset, answers, everything), ranking_of(testset, answers, everything)
    if rating and (ndcg := list_ndcg(testset, answers)) is not None:
        rating[f"ndcg@{metrics.LIST}"] = ndcg
    if ranking and answers.ranked:
        ranking |= list_metrics(testset, answers.ranked)
    return Figures(
        answers=answers,
        rating=rating,
        retrieval=retrieval_of(answers, everything),
        ranking=ranking,
        slices={name: slice_of(testset, answers, mask) for name, mask in testset.slices.items()},
    )


def watch(testset: TestSet, system: System) -> Metrics:
    """Measure what epochs are chosen by, without lists: rmse, ndcg@5, and ndcg, the mean gain of each review's rank.

    A review's product is ranked among the candidates that its customer has not seen, as of its own moment; a product
    that is no candidate gains nothing. What does not apply to the system or the test set is left out.
    """
    answers = Answers(system.stars(testset) if testset.scale else None, rank_system(testset, system, lists=False))
    figures: Metrics = {}
    if rating := rating_of(testset, answers, np.ones(len(testset), np.bool_)):
        figures["rmse"] = rating["rmse"]
    if (ndcg := list_ndcg(testset, answers)) is not None:
        figures[f"ndcg@{metrics.LIST}"] = ndcg
    if answers.ranked is not None and len(testset):
        figures["ndcg"] = float(metrics.rank_gain(answers.ranked.above_unseen).mean())
    return figures


def slice_of(testset: TestSet, answers: Answers, mask: Bools) -> Slice | None:
    """Measure the reviews under a mask [T]; None where there are none."""
    if not mask.any():
        return None
    groups = rating_of(testset, answers, mask), retrieval_of(answers, mask), ranking_of(testset, answers, mask)
    return Slice(int(mask.sum()), *groups)


def rating_of(testset: TestSet, answers: Answers, mask: Bools) -> Metrics | None:
    """Measure the stars, clipped to the scale, of the rated reviews under a mask [T]."""
    rated = mask & ~np.isnan(testset.reviews.stars)
    if answers.stars is None or testset.scale is None or not rated.any():
        return None
    clipped = np.clip(answers.stars[rated], testset.scale.min, testset.scale.max)
    return metrics.rating_errors(testset.reviews.stars[rated], clipped)


def list_ndcg(testset: TestSet, answers: Answers) -> float | None:
    """Measure the order of the test set's lists of one customer's reviews; None where there are no such lists."""
    if answers.stars is None or testset.scale is None or not len(testset.lists):
        return None
    stars, predicted = testset.reviews.stars[testset.lists], answers.stars[testset.lists]
    ndcg = metrics.list_ndcg(stars, predicted, testset.scale.min, testset.scale.max)
    return None if np.isnan(ndcg).all() else float(np.nanmean(ndcg))


def retrieval_of(answers: Answers, mask: Bools) -> Metrics | None:
    """Measure how often the product of a review under a mask [T] is among the k best, nothing removed."""
    return None if answers.ranked is None else metrics.top_k(answers.ranked.above[mask])


def ranking_of(testset: TestSet, answers: Answers, mask: Bools) -> Metrics | None:
    """Measure the lists of the customers of the relevant reviews under a mask [T]; None where there are none."""
    counted = mask & testset.relevant
    if answers.ranked is None or not counted.any():
        return None
    each, customers = per_customer(testset, answers.ranked, counted)
    return {name: float(values.mean()) for name, values in each.items()} | {"customers": len(customers)}


def per_customer(testset: TestSet, ranked: Ranked, counted: Bools) -> tuple[dict[str, Doubles], Ints]:
    """Compute the ranking metrics of each customer with a review under `counted` [T], and which customers these are."""
    customers, owner = np.unique(testset.owner[counted], return_inverse=True)
    return metrics.per_customer(ranked.in_list[counted], owner, len(customers)), customers


def list_metrics(testset: TestSet, ranked: Ranked) -> Metrics:
    """Measure what is recommended to the customers with relevant reviews: coverage and novelty."""
    figures: Metrics = {}
    top = ranked.top[np.unique(testset.owner[testset.relevant])]
    if len(testset.candidates):
        figures[f"coverage@{metrics.CUT}"] = metrics.coverage(top, len(testset.candidates))
    if (top >= 0).any():
        counts = np.bincount(testset.fit.product, minlength=len(testset.column))[testset.candidates]
        figures[f"novelty@{metrics.CUT}"] = metrics.novelty(top, counts)
    return figures
