"""The bounds that other tests rely on hold for any order of a sum and refuse what is a mistake."""

from __future__ import annotations

import numpy as np
import pytest

from bounds import EPSILON, assert_no_near_ties, assert_within, product_bound, sum_bound


def test_sums_of_any_order_are_within_the_bound_and_a_lost_term_is_not() -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=300).astype(np.float32) for _ in range(2))
    known, bound = float(left.astype(float) @ right.astype(float)), product_bound(left[None], right[:, None])
    for _ in range(50):
        order, total = rng.permutation(300), np.float32(0)
        for a, b in zip(left[order], right[order], strict=True):
            total += a * b
        assert_within(total, known, bound)
    lost = np.argmax(np.abs(left * right))
    with pytest.raises(AssertionError, match="1 of 1 elements"):
        assert_within(known - left[lost] * right[lost], known, bound)


def test_the_bound_of_a_product_worked_by_hand() -> None:
    # |1|·|−3| + |−2|·|4| = 11, of two terms, each worth ε
    found = product_bound([[1.0, -2.0]], [[-3.0], [4.0]])
    assert found == pytest.approx(np.array([[22 * EPSILON]]), rel=1e-6)
    assert sum_bound(2, 11.0) == found


def test_equal_infinities_are_equal_and_a_nan_is_never_within() -> None:
    assert_within([np.inf, -np.inf, 1.0], [np.inf, -np.inf, 1.0], 0.0)
    for found, known in ((np.inf, -np.inf), (np.nan, np.nan), (1.0, np.inf)):
        with pytest.raises(AssertionError):
            assert_within(found, known, 1.0)


def test_scores_that_rounding_could_swap_are_told() -> None:
    assert_no_near_ties([[3.0, 1.0, 2.0]], 0.4)
    with pytest.raises(AssertionError, match="too near"):
        assert_no_near_ties([[3.0, 1.0, 2.0]], 0.5)
