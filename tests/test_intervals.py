"""Differences with intervals: widths that theory says, customers resampled whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amzrec.evaluation.intervals import GROUPS, Pair, differences


def test_a_difference_of_nothing_is_exactly_zero() -> None:
    values = np.random.default_rng(0).random(50)
    (gap,) = differences([Pair(values, values, np.arange(50))], 50, np.random.default_rng(1))
    assert gap == {"difference": 0.0, "low": 0.0, "high": 0.0}


def test_the_interval_of_a_mean_has_the_width_that_theory_says() -> None:
    # paired differences of deviation 1 over 10,000 customers: 1.96 / 100 on either side
    rng = np.random.default_rng(0)
    model = rng.normal(0.5, 1, 10_000)
    (gap,) = differences([Pair(model, np.zeros(10_000), np.arange(10_000))], 10_000, rng)
    assert gap["difference"] == pytest.approx(model.mean())
    assert gap["high"] - gap["low"] == pytest.approx(2 * 1.96 / 100, rel=0.1)


def test_pooling_customers_into_groups_keeps_the_width() -> None:
    rng = np.random.default_rng(0)
    count = 4 * GROUPS
    model = rng.normal(0, 1, count)
    (gap,) = differences([Pair(model, np.zeros(count), np.arange(count))], count, rng)
    assert gap["high"] - gap["low"] == pytest.approx(2 * 1.96 / math.sqrt(count), rel=0.1)


def test_rows_of_one_customer_are_resampled_together() -> None:
    # 100 customers with 100 equal rows each are worth 100 observations, not 10,000
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, 100), 100)
    (gap,) = differences([Pair(values, np.zeros(10_000), np.repeat(np.arange(100), 100))], 100, rng)
    assert gap["high"] - gap["low"] == pytest.approx(2 * 1.96 / 10, rel=0.2)


def test_the_difference_of_an_rmse_is_taken_after_the_root() -> None:
    pair = Pair(np.array([4.0, 4.0]), np.array([9.0, 9.0]), np.array([0, 1]), np.sqrt)
    (gap,) = differences([pair], 2, np.random.default_rng(0))
    assert gap == {"difference": -1.0, "low": -1.0, "high": -1.0}
