"""What is popular when: shares of all time, a kernel of two periods by hand, and the review left out of its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from amzrec.features.popularity import BACKOFF, PSEUDO_COUNT, Popularity
from amzrec.store.dataset import NO_TIME
from amzrec.store.times import period_of
from fits import DAY


def times(*days: float) -> np.ndarray:
    """Unix seconds of days."""
    return np.array([day * DAY for day in days], np.int64)


def test_one_period_holds_the_log_shares_of_all_time() -> None:
    popularity = Popularity.of(np.array([1, 1, 1, 2]), times(0, 9, 99, 999), 4, None)
    everything = 4 + 4 * PSEUDO_COUNT  # rows 0 and 3 have no review, and count as PSEUDO_COUNT
    np.testing.assert_allclose(np.exp(popularity.log_share[0]), np.array([0.1, 3.1, 1.1, 0.1]) / everything, rtol=1e-6)
    assert np.exp(popularity.log_share[0]).sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        np.exp(popularity.log_share_without_self), np.array([2.1, 2.1, 2.1, 0.1]) / everything, rtol=1e-6
    )
    assert popularity.period(times(-5, 5000)).tolist() == [0, 0]


def test_without_dates_there_is_one_period_whatever_the_half_life() -> None:
    popularity = Popularity.of(np.array([1, 2]), np.array([NO_TIME, 5 * DAY]), 3, 30.0)
    assert popularity.log_share.shape == (1, 3)
    assert popularity.half_life is None


def test_two_periods_worked_by_hand() -> None:
    # days 0, 0 and 2 with a half-life of one day: two periods of a day each, whose middles are a day apart
    product = np.array([1, 2, 1])
    popularity = Popularity.of(product, times(0, 0, 2), 3, 1.0)
    assert popularity.edges.tolist() == [DAY]
    assert popularity.period(times(0, 0.5, 1, 2)).tolist() == [0, 0, 1, 1]
    # period 0: products 1 and 2 once each, and half of the review of period 1; period 1: the other way round
    weights = np.array([[0, 1 + 0.5, 1], [0, 0.5 + 1, 0.5]])
    all_time = np.array([0.1, 2.1, 1.1]) / 3.3
    known = (1 - BACKOFF) * weights / weights.sum(1, keepdims=True) + BACKOFF * all_time
    np.testing.assert_allclose(np.exp(popularity.log_share), known, rtol=1e-5)
    # each review weighs 1 in its own period and is left out there, and of the counts
    without = [(1 - BACKOFF) * 0.5 / 2.5, 0.0, (1 - BACKOFF) * 0.5 / 2.0]
    count = BACKOFF * np.array([1.1, 0.1, 1.1]) / 3.3
    np.testing.assert_allclose(np.exp(popularity.log_share_without_self), without + count, rtol=1e-5)


def test_time_says_nothing_of_a_product_without_reviews() -> None:
    popularity = Popularity.of(np.array([1, 2, 1]), times(0, 0, 2), 4, 1.0)
    beyond = popularity.beyond_now(np.array([3, 1, 2, 0]))
    np.testing.assert_array_equal(beyond[:, [0, 3]], 0)  # else it would be the rarest of each period
    np.testing.assert_allclose(beyond[:, 1:3], (popularity.log_share - popularity.log_share_now)[:, 1:3])
    assert (beyond[0, 1:3] != 0).all()
    all_time = dataclasses.replace(
        popularity, log_share_now=Popularity.of_all_time(np.array([1, 2, 1]), 4).log_share_now
    )
    assert (all_time.beyond_now(np.array([3, 0])) == 0).all()


def test_what_was_popular_lately_leads_in_the_last_period_and_what_was_before_in_the_first() -> None:
    product, day = np.repeat([1, 2], 30), np.arange(60.0)
    popularity = Popularity.of(product, times(*day), 3, 5.0)
    assert popularity.log_share[0, 1] > popularity.log_share[0, 2]
    assert popularity.log_share[-1, 2] > popularity.log_share[-1, 1]
    assert len(popularity.log_share) == len(popularity.edges) + 1
    np.testing.assert_allclose(np.exp(popularity.log_share).sum(1), 1, rtol=1e-5)


def test_after_the_end_and_without_a_date_the_last_period_counts() -> None:
    edges = times(10, 20)
    asked = np.append(times(-99, 9.9, 10, 19.9, 20, 9999), NO_TIME)
    assert period_of(edges, asked).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_reviews_of_a_single_day_are_one_period() -> None:
    popularity = Popularity.of(np.array([1, 2, 2]), times(7, 7, 7), 3, 30.0)
    assert popularity.log_share.shape == (1, 3)
    assert np.isfinite(popularity.log_share).all()
    assert np.isfinite(popularity.log_share_without_self).all()


def test_many_products_get_fewer_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amzrec.features.popularity.MOST_ENTRIES", 40)
    popularity = Popularity.of(np.array([1, 2, 2]), times(0, 300, 600), 10, 30.0)
    assert popularity.log_share.shape == (4, 10)
