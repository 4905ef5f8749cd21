"""The table of what followed what, a peer of the benchmarks, on sequences counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy comes with amzrec[bench]")

from amzrec.store.dataset import Reviews
from transitions import Settings, Transitions, transitions

PLAIN = Settings(window=2, decay=0.5, shrink=0, backward=0, power=0)


def test_a_transition_counts_by_its_distance() -> None:
    """Customer 1 took products 1, 2, 3, customer 2 took 1, 3: nothing follows from one customer to the next."""
    customer, product = np.array([1, 1, 1, 2, 2]), np.array([1, 2, 3, 1, 3])
    counted = transitions(customer, product, 4, PLAIN).toarray()
    assert counted.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0.5 + 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_the_other_way_round_counts_in_part() -> None:
    customer, product = np.array([1, 1, 2]), np.array([1, 2, 1])
    backward = dataclasses.replace(PLAIN, backward=0.5)
    assert transitions(customer, product, 3, backward).toarray().tolist() == [[0, 0, 0], [0, 0, 1], [0, 0.5, 0]]


def test_popular_products_are_divided_by_their_reviews() -> None:
    """Product 1 has 2 reviews and product 2 has 1; with 2 more each, the root of 4 · 3 divides."""
    customer, product = np.array([1, 1, 2]), np.array([1, 2, 1])
    divided = dataclasses.replace(PLAIN, shrink=2, power=0.5)
    assert transitions(customer, product, 3, divided)[1, 2] == pytest.approx(1 / np.sqrt(4 * 3))


def test_the_order_is_that_of_the_times() -> None:
    reviews = Reviews(
        np.array([2, 1, 1], np.int32),
        np.array([1, 3, 2], np.int32),
        np.full(3, np.nan, np.float32),
        np.array([9, 5, 4]),
    )
    ordered = Transitions(reviews, PLAIN)
    assert (ordered.customer.tolist(), ordered.product.tolist()) == ([1, 1, 2], [2, 3, 1])
