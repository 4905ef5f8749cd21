"""The one judge: reviews lined up by customer and moment, and what a system is worth on them, worked by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from amzrec.answers.ranks import InnerProducts, Scores
from amzrec.arrays import Lists
from amzrec.evaluation.baselines import BiasBaseline, Biases, PopularityBaseline
from amzrec.evaluation.judge import judge, watch
from amzrec.evaluation.systems import Peer, Scored, System, rank_system
from amzrec.evaluation.testset import Context, Masked, Queries, line_up, line_up_test
from amzrec.store.dataset import NO_TIME, Reviews
from fits import dataset_of, random_reviews, reviews_of

TRAIN = [(1, 1, 5.0), (1, 2, 3.0), (2, 1, 4.0), (3, 3, 1.0)]


def lined(held_out: Reviews, candidates: list[int] | None = None, train: Reviews | None = None) -> Any:
    """These reviews against the candidates 1 .. 4, after TRAIN."""
    train = reviews_of(TRAIN) if train is None else train
    rows = np.array([1, 2, 3, 4] if candidates is None else candidates, np.int32)
    return line_up(dataset_of(train), held_out, train, train, rows, np.random.default_rng(0))


def by_row(scores: list[float], moment_of: list[int] | None = None) -> System:
    """A system that gives everyone these scores of the product rows 0, 1, 2 …"""
    return PopularityBaseline("by row", np.array(scores))


@dataclasses.dataclass(frozen=True)
class Seasonal:
    """Scores [moments, product rows] by the moment of each review."""

    moment_of: list[int]
    table: list[list[float]]
    name: str = "seasonal"

    def stars(self, testset: Any) -> None:
        """None."""

    def moments(self, testset: Any) -> Any:
        """As given."""
        return np.array(self.moment_of)

    def scores(self, testset: Any, queries: Queries) -> Scored:
        """One row per moment."""
        table = np.array(self.table, np.float32)[:, testset.candidates]
        return Scored(InnerProducts(np.eye(len(table), dtype=np.float32), table.T), queries.moment)


# --- lining up


def test_reviews_are_lined_up_by_customer_and_time_and_those_without_a_time_come_last() -> None:
    held_out = reviews_of([(2, 4, 1.0), (1, 3, 2.0), (2, 3, 3.0), (2, 2, 4.0)], [5.0, 9.0, 1.0, 0.0])
    held_out.timestamp[3] = NO_TIME
    testset = lined(held_out)
    assert testset.reviews.stars.tolist() == [2, 3, 1, 4]
    assert testset.customers.tolist() == [1, 2]
    assert testset.owner.tolist() == [0, 1, 1, 1]


def test_a_column_is_the_position_among_the_candidates_and_minus_one_for_others() -> None:
    testset = lined(reviews_of([(1, 4, 5.0), (1, 3, 5.0), (2, 9, 5.0)]), [2, 4])
    assert testset.wanted.tolist() == [1, -1, -1]
    assert testset.seen[0].tolist() == [0]  # customer 1 has seen 1 and 2, of which only 2 is a candidate
    assert testset.seen[1].tolist() == []


def test_one_moment_makes_one_query_per_customer() -> None:
    queries = lined(reviews_of([(1, 3, 5.0), (1, 4, 5.0), (2, 2, 5.0)])).queries()
    assert queries.owner.tolist() == [0, 1]
    assert queries.positives.items.tolist() == [2, 3, 1]
    assert (queries.slot == queries.first_slot).all()


@pytest.mark.parametrize("together", [True, False])
def test_a_customer_is_asked_for_at_each_moment_and_the_first_query_holds_all(together: bool) -> None:
    # the example of Queries: customer 0 has a and b in moment 3 and c in moment 5; customer 1 has d
    testset = lined(reviews_of([(1, 1, 5.0), (1, 2, 5.0), (1, 3, 5.0), (2, 4, 5.0)]))
    queries = testset.queries(np.array([3, 3, 5, 5]), together)
    assert (queries.owner.tolist(), queries.moment.tolist()) == ([0, 0, 1], [3, 5, 5])
    lists = [queries.positives[query].tolist() for query in range(3)]
    assert lists == ([[0, 1, 2], [2], [3]] if together else [[0, 1], [2], [3]])
    assert queries.positives.items[queries.slot].tolist() == [0, 1, 2, 3]
    assert queries.slot.tolist() == ([0, 1, 3, 4] if together else [0, 1, 2, 3])
    assert queries.first.tolist() == [0, 2]
    assert queries.first_slot is None if not together else queries.first_slot.tolist() == [0, 1, 2, 4]
    assert queries.seen[0].tolist() == queries.seen[1].tolist() == [0, 1]


def test_nobody_to_test_is_an_empty_test_set() -> None:
    testset = lined(reviews_of([(1, 1, 5.0)]).take(np.zeros(0, np.int64)))
    assert (len(testset), len(testset.queries())) == (0, 0)
    assert watch(testset, by_row([0, 4, 3, 2, 1])) == {}


# --- ranks and figures


def test_a_review_is_ranked_as_of_its_own_moment_and_a_list_as_of_the_first() -> None:
    testset = lined(reviews_of([(4, 1, 5.0), (4, 2, 5.0)]))  # customer 4 has seen nothing
    # at moment 0 the order is 1 2 3 4, at moment 1 it is 4 3 2 1
    ranked = rank_system(testset, Seasonal([0, 1], [[0, 4, 3, 2, 1], [0, 1, 2, 3, 4]]))
    assert ranked is not None
    assert ranked.above.tolist() == ranked.above_unseen.tolist() == [0, 2]
    assert ranked.in_list.tolist() == [0, 1]
    assert ranked.top[0, :4].tolist() == [0, 1, 2, 3]


def test_what_a_customer_has_seen_is_removed_from_lists_alone() -> None:
    ranked = rank_system(lined(reviews_of([(1, 3, 5.0), (9, 3, 5.0)])), by_row([0, 4, 3, 2, 1]))
    assert ranked is not None
    assert ranked.above.tolist() == [2, 2]
    assert ranked.above_unseen.tolist() == [0, 2]


def test_figures_of_a_peer_are_those_worked_by_hand() -> None:
    # customer 1 (columns: one-hot of its order 4 3 2 1) and customer 2 want products 3 and 4; both have seen product 1
    testset = lined(reviews_of([(1, 3, 4.0), (2, 4, 2.0)]))
    customers, candidates = np.array([[1.0], [-1.0]], np.float32), np.array([[1.0], [2], [3], [4]], np.float32)
    figures = judge(testset, Peer("peer", np.array([9.0, 1.0]), customers, candidates))
    assert figures.rating == {"rmse": 1.0, "mae": 1.0}  # 9 is clipped to 5
    assert figures.retrieval is not None
    assert (figures.retrieval["top_1"], figures.retrieval["top_5"]) == (0, 1)
    # customer 1 finds its product behind 4; customer 2 behind 2 and 3
    assert figures.ranking is not None
    assert figures.ranking["mrr"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert figures.ranking["coverage@10"] == 3 / 4  # both have seen product 1


def test_a_system_that_only_rates_has_no_ranks_and_one_that_only_retrieves_no_stars() -> None:
    testset = lined(reviews_of([(1, 3, 4.0)]))
    rates = judge(testset, BiasBaseline("mean", Biases(3.0, np.zeros(10), np.zeros(13)))).to_json()
    assert rates == {"rating": {"rmse": 1.0, "mae": 1.0}, "slices": {}}
    assert set(judge(testset, by_row([0, 1, 2, 3, 4])).to_json()) == {"retrieval", "ranking", "slices"}


def test_without_a_scale_stars_are_not_judged() -> None:
    testset = dataclasses.replace(lined(reviews_of([(1, 3, math.nan)])), scale=None)
    assert judge(testset, Peer("peer", np.array([1.0]))).to_json() == {"slices": {}}


def test_slices_are_judged_like_the_whole_and_an_empty_one_is_null() -> None:
    train = reviews_of(TRAIN)
    dataset = dataset_of(train)
    vars(dataset)["test"] = reviews_of([(1, 3, 4.0), (9, 4, 5.0)])
    testset = line_up_test(dataset, ("train",), np.array([1, 2, 3, 4], np.int32))
    found = judge(testset, by_row([0, 4, 3, 2, 1])).to_json()["slices"]
    assert found["known_customer"]["rows"] == found["new_product"]["rows"] == found["top_rated"]["rows"] == 1
    assert found["known_customer"]["ranking"]["mrr"] == 1.0  # 1 and 2 were seen
    assert found["unknown_customer"]["ranking"]["mrr"] == 1 / 4
    assert found["head_product"] is None


# --- the watch on valid


def test_a_watch_is_the_mean_gain_of_each_review_at_its_own_moment() -> None:
    # ranks from 1 among what is unseen: customer 4 finds product 1 at 1, then product 2 at 3; customer 1 finds 4 at 1
    held_out = reviews_of([(4, 1, 3.0), (4, 2, 3.0), (1, 4, math.nan), (2, 9, 5.0)])
    system = Seasonal([1, 2, 2, 2], [[0, 0, 0, 0, 0], [0, 4, 3, 2, 1], [0, 1, 2, 3, 4]])
    testset = lined(held_out)
    assert testset.reviews.product.tolist() == [4, 9, 1, 2]
    gains = [1, 0, 1, 1 / math.log2(4)]  # a product that is no candidate gains nothing
    found = watch(testset, dataclasses.replace(system, moment_of=[2, 2, 1, 2]))
    assert found == {"ndcg": pytest.approx(sum(gains) / 4)}


def test_a_watch_measures_stars_and_lists_of_stars() -> None:
    held_out = reviews_of([(4, p, float(p % 5 + 1)) for p in range(1, 6)])
    testset = lined(held_out)
    found = watch(testset, Peer("peer", testset.reviews.stars.astype(np.float64)))
    assert found == {"rmse": 0.0, "ndcg@5": 1.0}
    upside_down = watch(testset, Peer("peer", -testset.reviews.stars.astype(np.float64)))
    assert upside_down["ndcg@5"] < 0.7


# --- a context


@pytest.mark.parametrize("step", [1, 2, 5])
def test_masked_scores_are_those_of_the_candidates_with_the_value(step: int) -> None:
    whole: Scores = InnerProducts(np.array([[1.0], [2.0]], np.float32), np.array([[1.0], [2.0], [3.0]], np.float32))
    holds = np.array([[True, False, True], [False, True, False]])
    masked = Masked(whole, np.array([0, 0, 0, 1, 1]), np.array([-1, 0, 1, -1, 1]), holds)
    none = -np.inf
    expected = [[1, 2, 3], [1, none, 3], [none, 2, none], [2, 4, 6], [none, 4, none]]
    assert masked.shape == (5, 3)
    for start in range(0, 5, step):
        out = np.empty((min(step, 5 - start), 3), np.float32)
        masked.fill(start, start + len(out), out)
        assert out.tolist() == expected[start : start + step]


def test_queries_that_ask_for_the_same_share_a_masked_row() -> None:
    context = Context("kind", np.array([0, 1]), np.array([[True, False], [False, True]]))
    scores = InnerProducts(np.ones((1, 1), np.float32), np.ones((2, 1), np.float32))
    masked, row_of = context.mask(scores, np.zeros(4, np.int64), np.array([1, 0, 1, -1]))
    assert masked.shape == (3, 2)
    assert row_of.tolist() == [2, 1, 2, 0]


def test_random_data_give_the_ranks_of_counting() -> None:
    train, other = random_reviews(0), random_reviews(1)
    pairs = set(zip(train.customer.tolist(), train.product.tolist(), strict=True))
    new = [pair not in pairs for pair in zip(other.customer.tolist(), other.product.tolist(), strict=True)]
    held_out = other.take(np.flatnonzero(new))
    testset = lined(held_out, list(range(1, 9)), train)
    score = np.random.default_rng(2).permutation(10).astype(float)
    ranked = rank_system(testset, by_row(score.tolist()))
    assert ranked is not None
    for review in range(len(testset)):
        customer, product = testset.reviews.customer[review], testset.reviews.product[review]
        seen = train.product[train.customer == customer]
        others = [p for p in range(1, 9) if p != product]
        assert ranked.above[review] == sum(score[p] >= score[product] for p in others)
        assert ranked.in_list[review] == sum(score[p] >= score[product] for p in others if p not in seen)
    assert isinstance(testset.seen, Lists)
