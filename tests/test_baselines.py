"""Baselines against values worked by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from amzrec.arrays import Floats
from amzrec.evaluation import baselines
from amzrec.evaluation.baselines import DatedBaseline, DatedPopularity, choose_half_life
from amzrec.evaluation.testset import line_up
from amzrec.store.dataset import Reviews
from amzrec.store.times import DAY, NO_TIME
from fits import dataset_of, reviews_of


def test_biases_are_shrunk_means_products_first_then_customers() -> None:
    # mean 3; product 1: (2 + 2) / (2 + 5) = 4/7, product 2: (-2 - 2) / 7
    # customer 1: what is left is 2 - 4/7 and -2 + 4/7, which cancel: 0. customer 2 likewise
    found = baselines.fit_biases(
        np.array([1, 2, 1, 2]), np.array([1, 1, 2, 2]), np.array([5, 5, 1, 1], np.float32), 3, 3
    )
    assert found.mean == 3
    assert found.product == pytest.approx([0, 4 / 7, -4 / 7])
    assert found.customer == pytest.approx([0, 0, 0])


def test_a_customer_who_gives_more_has_a_shrunk_positive_bias() -> None:
    # mean 3, product 1: (2 - 2) / 7 = 0; customer 1: 2 / (1 + 10)
    found = baselines.fit_biases(np.array([1, 2]), np.array([1, 1]), np.array([5, 1], np.float32), 3, 2)
    assert found.customer == pytest.approx([0, 2 / 11, -2 / 11])


def test_clicks_without_stars_do_not_count_towards_biases() -> None:
    stars = np.array([5, 1, np.nan], np.float32)
    with_click = baselines.fit_biases(np.array([1, 2, 2]), np.array([1, 1, 1]), stars, 3, 2)
    without = baselines.fit_biases(np.array([1, 2]), np.array([1, 1]), stars[:2], 3, 2)
    assert with_click.mean == without.mean
    assert (with_click.product == without.product).all()


def test_no_stars_at_all_leave_no_mean_and_no_bias() -> None:
    found = baselines.fit_biases(np.array([1]), np.array([1]), np.array([np.nan], np.float32), 2, 2)
    assert np.isnan(found.mean)
    assert found.product.tolist() == [0, 0]


def test_popularity_counts_reviews_by_row() -> None:
    assert baselines.popularity(np.array([1, 3, 1]), 5).tolist() == [0, 2, 0, 1, 0]


def test_a_review_is_worth_half_per_half_life_before_the_latest() -> None:
    times = (np.array([0, 10, 20]) * DAY).astype(np.int64)
    found = baselines.recent_popularity(np.array([1, 1, 2]), times, 10, 4)
    assert found == pytest.approx([0, 0.75, 1, 0])


def test_an_endless_half_life_is_plain_popularity() -> None:
    rng = np.random.default_rng(0)
    product, times = rng.integers(1, 9, 100), rng.integers(0, 10**9, 100)
    found = baselines.recent_popularity(product, times, 1e12, 9)
    assert found == pytest.approx(baselines.popularity(product, 9), rel=1e-6)


def test_dated_popularity_halves_per_half_life_and_knows_only_the_days_before() -> None:
    product, times = np.array([1, 0, 0]), (np.array([10.9, 0, 0.5]) * DAY).astype(np.int64)
    days = np.array([0, 1, 10, 11, 21])
    expected = np.array([[0, 0], [2 * 0.5**0.1, 0], [1, 0], [2 * 0.5**1.1, 0.5**0.1], [2 * 0.5**2.1, 0.5**1.1]])
    popular = DatedPopularity(product, times, 10, 2, days)
    assert popular.shape == (5, 2)
    for start, stop in ((0, 5), (0, 1), (2, 4), (3, 5)):
        scores = np.empty((stop - start, 2), np.float32)
        popular.fill(start, stop, scores)
        assert scores == pytest.approx(expected[start:stop], rel=1e-6)


def test_after_the_last_review_every_day_is_the_same_day() -> None:
    train = reviews_of([(1, 1, 5.0), (2, 2, 5.0)], [0.0, 5.1])
    times = np.array([-1, 5 * DAY, 6 * DAY, 900 * DAY, NO_TIME], np.int64)
    held_out = Reviews(np.arange(1, 6, dtype=np.int32), np.ones(5, np.int32), np.ones(5, np.float32), times)
    testset = line_up(dataset_of(train), held_out, train, train, np.array([1, 2]), np.random.default_rng(0))
    assert DatedBaseline("dated_popularity", 30).moments(testset).tolist() == [-1, 5, 6, 6, 6]


def test_the_half_life_of_the_largest_worth_is_chosen() -> None:
    assert choose_half_life([7, 30, 90], {7: 0.1, 30: 0.3, 90: 0.2}.__getitem__) == 30


def test_of_equally_good_half_lives_the_longest_is_chosen_and_all_time_is_longer_than_any() -> None:
    assert choose_half_life([7, 90, 30], lambda days: 1.0) == 90
    assert choose_half_life([None, 30.0, 90.0], lambda days: 1.0) is None


def test_rows_of_dated_popularity_are_the_same_in_whatever_blocks_and_threads_they_are_filled() -> None:
    rng = np.random.default_rng(2)
    column, times, days = (
        rng.integers(0, 7, 300),
        rng.integers(0, 90 * int(DAY), 300),
        np.unique(rng.integers(5, 99, 40)),
    )
    popular = DatedPopularity(column, times, 10, 7, days)
    day = times // DAY
    known = [[0.5 ** ((now - day[(column == c) & (day < now)]) / 10.0) for c in range(7)] for now in days]
    whole = np.zeros((len(days), 7), np.float32)
    popular.fill(0, len(days), whole)
    np.testing.assert_allclose(whole, [[each.sum() for each in row] for row in known], rtol=1e-6)
    blocks = [(start, min(start + 3, len(days))) for start in range(0, len(days), 3)]

    def filled(block: tuple[int, int]) -> Floats:
        out = np.zeros((block[1] - block[0], 7), np.float32)
        popular.fill(*block, out)
        return out

    for order in (blocks, blocks[::-1]):
        with ThreadPoolExecutor(3) as threads:
            rows = dict(zip(order, threads.map(filled, order), strict=True))
        assert np.concatenate([rows[block] for block in blocks]).tobytes() == whole.tobytes()
