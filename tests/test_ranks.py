"""Exact ranks against sorting everything, with ties, histories, shared queries and small blocks."""

from __future__ import annotations

import numpy as np
import pytest

from amzrec.answers import ranks
from amzrec.answers.ranks import CUT, InnerProducts, Ranks, best, rank_scores
from amzrec.arrays import Array, Floats, Lists
from amzrec.evaluation.metrics import MISS


def rank(queries: Floats, candidates: Floats, query_of: Array, positives: Lists, seen: Lists, k: int = CUT) -> Ranks:
    """The ranks by the inner products of queries [U, d] and candidates [M, d]."""
    return rank_scores(InnerProducts(queries, candidates), query_of, positives, seen, k)


def pairs(*owned: tuple[int, int], owners: int) -> Lists:
    owner, item = (np.array(side, np.int64) for side in zip(*owned, strict=True)) if owned else np.zeros((2, 0), int)
    return Lists.of(owner, item, owners)


def test_the_best_product_has_nobody_above_it() -> None:
    found = rank(
        np.array([[1.0]], np.float32),
        np.array([[3.0], [1.0], [2.0]], np.float32),
        np.array([0]),
        pairs((0, 0), (0, 1), owners=1),
        pairs(owners=1),
        k=2,
    )
    assert found.above.tolist() == [0, 2]
    assert found.top.tolist() == [[0, 2]]


def test_ties_count_against_the_model() -> None:
    scores = np.array([[5.0], [5.0], [5.0], [1.0]], np.float32)
    found = rank(np.ones((1, 1), np.float32), scores, np.array([0]), pairs((0, 0), owners=1), pairs(owners=1))
    assert found.above.tolist() == [2]


def test_a_product_that_is_no_candidate_is_a_miss_in_both_ranks() -> None:
    found = rank(
        np.ones((1, 1), np.float32),
        np.ones((3, 1), np.float32),
        np.array([0]),
        pairs((0, -1), owners=1),
        pairs(owners=1),
    )
    assert found.above.tolist() == found.above_unseen.tolist() == [MISS]


def test_what_was_seen_is_neither_counted_nor_shown() -> None:
    found = rank(
        np.ones((1, 1), np.float32),
        np.array([[4.0], [3.0], [2.0], [1.0]], np.float32),
        np.array([0]),
        pairs((0, 2), owners=1),
        pairs((0, 0), owners=1),
        k=4,
    )
    assert found.above.tolist() == [2]
    assert found.above_unseen.tolist() == [1]
    assert found.top.tolist() == [[1, 2, 3, -1]]


@pytest.mark.parametrize("customers_per_query", [1, 3, 40])
@pytest.mark.parametrize("block_bytes", [1, 4000, 1 << 20])
def test_ranks_equal_counting_over_the_whole_matrix(
    customers_per_query: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(customers_per_query)
    asked, products, customers, k = 12, 150, 40, 10
    # small whole numbers: many ties, and every sum is exact
    queries = rng.integers(-3, 4, (asked, 4)).astype(np.float32)
    candidates = rng.integers(-3, 4, (products, 4)).astype(np.float32)
    query_of = rng.permutation(np.arange(customers) // customers_per_query % asked)
    wanted = np.unique(np.stack([rng.integers(0, customers, 200), rng.integers(-1, products, 200)]), axis=1)
    history = np.stack([rng.integers(0, customers // 2, 300), rng.integers(0, products, 300)])
    taken = set(zip(*wanted.tolist(), strict=True))
    history = np.array(sorted(set(zip(*history.tolist(), strict=True)) - taken)).T
    positives, seen = (Lists.of(pairs[0], pairs[1], customers) for pairs in (wanted, history))
    found = rank(queries, candidates, query_of, positives, seen, k)
    slot = 0
    for customer in range(customers):
        scores = queries[query_of[customer]] @ candidates.T
        open_scores = scores.copy()
        open_scores[seen[customer]] = -np.inf
        for item in positives[customer]:
            above = MISS if item < 0 else int((scores >= scores[item]).sum()) - 1
            unseen = MISS if item < 0 else int((open_scores >= scores[item]).sum()) - 1
            assert (found.above[slot], found.above_unseen[slot]) == (above, unseen)
            slot += 1
        order = np.argsort(-open_scores, kind="stable")[:k]
        assert found.top[customer].tolist() == order.tolist()


@pytest.mark.parametrize("width", [0, 1, 3, 100, 9000])
def test_the_best_equal_a_stable_sort(width: int) -> None:
    rng = np.random.default_rng(width)
    scores = rng.integers(0, 50, (5, width)).astype(np.float32) + rng.integers(0, 2, (5, width)) * rng.random(
        (5, width)
    )
    found = best(scores.astype(np.float32), 10)
    order = np.argsort(-scores.astype(np.float32), axis=1, kind="stable")[:, :10]
    assert found[:, : min(10, width)].tolist() == order.tolist()
    assert (found[:, width:] == -1).all()


def test_the_best_of_a_wide_row_with_two_finite_scores_are_those_two() -> None:
    scores = np.full((1, 9000), -np.inf, np.float32)
    scores[0, [17, 8000]] = [1, 2]
    assert best(scores, 3).tolist() == [[8000, 17, -1]]


def test_the_best_of_a_constant_row_are_its_first_columns() -> None:
    assert best(np.ones((1, 9000), np.float32), 3).tolist() == [[0, 1, 2]]


def test_a_score_that_is_no_number_is_never_recommended_and_stands_last() -> None:
    scores = np.full((1, 9000), np.nan, np.float32)
    scores[0, [17, 8000]] = [1, 2]
    assert best(scores, 3).tolist() == [[8000, 17, -1]]
    assert best(scores[:, :20], 3).tolist() == [[17, -1, -1]]
    candidates = np.array([[3], [np.nan], [1]], np.float32)
    found = rank(np.ones((1, 1), np.float32), candidates, np.array([0]), pairs((0, 1), owners=1), pairs(owners=1), k=3)
    assert (found.above.tolist(), found.top.tolist()) == ([2], [[0, 2, -1]])


def test_the_table_of_the_period_of_a_query_is_added_to_its_scores() -> None:
    queries, candidates = np.array([[1.0], [1.0]], np.float32), np.array([[3.0], [2.0], [1.0]], np.float32)
    table = np.array([[0, 0, 5], [0, 0, 0]], np.float32)
    scores = InnerProducts(queries, candidates, table, np.array([0, 1]))
    found = rank_scores(scores, np.array([0, 1]), pairs((0, 2), (1, 2), owners=2), pairs(owners=2), 3)
    assert found.above.tolist() == [0, 2]
    assert found.top.tolist() == [[2, 0, 1], [0, 1, 2]]
