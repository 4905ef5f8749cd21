"""Metrics against values worked by hand and against slow, obvious re-implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amzrec.evaluation import metrics
from amzrec.evaluation.metrics import MISS


def test_top_k_counts_all_rows_and_a_product_that_is_no_candidate_is_a_miss() -> None:
    above = np.array([0, 4, 5, 99, 100, MISS])
    found = metrics.top_k(above)
    assert found == {"top_1": 1 / 6, "top_5": 2 / 6, "top_10": 3 / 6, "top_50": 3 / 6, "top_100": 4 / 6}


def test_rmse_is_pooled_over_rows_and_not_a_mean_of_means() -> None:
    # errors 0, 0, 0, 2: sqrt(4 / 4) = 1, mae 2 / 4
    found = metrics.rating_errors(np.array([1, 2, 3, 4.0]), np.array([1, 2, 3, 2.0]))
    assert found == {"rmse": 1.0, "mae": 0.5}


def test_ranking_metrics_of_one_customer_are_those_worked_by_hand() -> None:
    # relevant at ranks 1 and 3 (from 1) and one unknown product: 2 of 3 found
    found = metrics.per_customer(np.array([0, 2, MISS]), np.array([0, 0, 0]), 1)
    assert found["recall@10"][0] == pytest.approx(2 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert found["ndcg@10"][0] == pytest.approx((1 + 1 / 2) / ideal)
    assert found["mrr"][0] == 1.0
    assert found["hit@10"][0] == 1.0


def test_the_ideal_of_ndcg_has_at_most_k_hits() -> None:
    found = metrics.per_customer(np.arange(12), np.zeros(12, np.int64), 1)
    assert found["ndcg@10"][0] == pytest.approx(1.0)
    assert found["recall@10"][0] == pytest.approx(10 / 12)


def test_a_customer_without_a_reachable_product_scores_zero_everywhere() -> None:
    found = metrics.per_customer(np.array([MISS, 10]), np.array([0, 1]), 2)
    assert [found[name][0] for name in found] == [0, 0, 0, 0]
    assert found["mrr"][1] == pytest.approx(1 / 11)
    assert found["hit@10"][1] == 0


def test_ranking_metrics_equal_a_slow_loop() -> None:
    rng = np.random.default_rng(3)
    owner = np.sort(np.concatenate([np.arange(7), rng.integers(0, 7, 40)]))
    above = np.where(rng.random(47) < 0.2, MISS, rng.integers(0, 30, 47))
    found = metrics.per_customer(above, owner, 7)
    for customer in range(7):
        mine = sorted(above[owner == customer])
        hits = [r for r in mine if r < 10]
        ideal = sum(1 / math.log2(i + 2) for i in range(min(10, len(mine))))
        assert found["recall@10"][customer] == pytest.approx(len(hits) / len(mine))
        assert found["ndcg@10"][customer] == pytest.approx(sum(1 / math.log2(r + 2) for r in hits) / ideal)
        assert found["mrr"][customer] == pytest.approx(0 if mine[0] == MISS else 1 / (mine[0] + 1))


def test_coverage_is_the_share_of_candidates_shown_to_anyone() -> None:
    assert metrics.coverage(np.array([[0, 1], [1, -1]]), 8) == 2 / 8


def test_novelty_is_the_mean_surprise_of_what_is_shown() -> None:
    # shares 1/2 and 1/8: surprises of 1 and 3 bits
    assert metrics.novelty(np.array([[0, 1]]), np.array([4, 1, 3])) == pytest.approx(2.0)


def test_novelty_of_a_product_without_reviews_is_finite() -> None:
    assert metrics.novelty(np.array([[0]]), np.array([0, 4])) == 2.0


def test_lists_hold_different_products_of_one_customer() -> None:
    customer = np.array([5, 7, 5, 5, 5, 5, 7, 5])
    lists = metrics.draw_lists(customer, np.random.default_rng(0))
    assert lists.shape == (20, 5)
    assert (customer[lists] == 5).all()
    assert all(len(set(line)) == 5 for line in lists.tolist())


def test_lists_of_nobody_are_empty() -> None:
    assert metrics.draw_lists(np.array([1, 2]), np.random.default_rng(0)).shape == (0, 5)
    assert metrics.draw_lists(np.zeros(0, np.int32), np.random.default_rng(0)).shape == (0, 5)


def test_list_ndcg_is_worked_by_hand_with_the_gain_of_the_scale() -> None:
    # stars 5 and 1 on 1..5: gains 1 and 0. The wrong order earns 1 / log2(3), the right one 1
    stars = np.array([[1.0, 5.0], [1.0, 5.0]])
    found = metrics.list_ndcg(stars, np.array([[2.0, 1.0], [1.0, 2.0]]), 1, 5)
    assert found == pytest.approx([1 / math.log2(3), 1.0])


def test_list_ndcg_of_a_list_without_any_gain_is_nan() -> None:
    assert np.isnan(metrics.list_ndcg(np.ones((1, 3)), np.ones((1, 3)), 1, 5)).all()


def test_the_gain_of_a_rank_is_one_at_the_first_place_and_falls_with_the_logarithm() -> None:
    # 1 / log2(2), 1 / log2(4), 1 / log2(8)
    assert metrics.rank_gain(np.array([0, 2, 6, MISS])).tolist() == [1, 1 / 2, 1 / 3, 0]


def test_figures_of_a_task_that_was_not_trained_are_left_out_with_those_of_the_slices() -> None:
    figures = {"rating": 1, "retrieval": 2, "ranking": 3, "slices": {"head": {"rating": 4, "retrieval": 5}, "no": None}}
    assert metrics.without_untrained(figures, ["retrieval"]) == {
        "rating": 1,
        "slices": {"head": {"rating": 4}, "no": None},
    }
    assert metrics.without_untrained(figures, []) == figures
    assert set(figures) == {"rating", "retrieval", "ranking", "slices"}
