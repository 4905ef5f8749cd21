"""Fitted reviews: histories of exactly the reviews, biases and residuals by hand, attributes, the order of time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from amzrec.features.fitted import fit_reviews
from amzrec.features.profiles import NOT_LISTED
from fits import dataset_of, fitted_of, random_reviews, recipe_of, reviews_of, step_of

NAN = float("nan")


def test_values_biases_and_residuals_are_those_worked_by_hand() -> None:
    fitted = fitted_of(reviews_of([(1, 1, 5.0), (1, 2, 2.0), (2, 1, 4.0), (2, 2, NAN), (3, 2, 1.0)]))
    assert fitted.scale.mean == 3.0
    assert fitted.value.tolist() == [2, -1, 1, 0, -2]
    assert fitted.rated.tolist() == [1, 1, 1, 0, 1]
    # customers are shrunk by 10 reviews, products by 5; a click is no rated review
    np.testing.assert_allclose(fitted.customers.biases.all[:4], [0, 1 / 12, 1 / 11, -2 / 11], rtol=1e-6)
    np.testing.assert_allclose(fitted.products.biases.all[:3], [0, 3 / 7, -3 / 7], rtol=1e-6)
    histories = fitted.customers.histories  # value − bias of the product, 0 for the click
    known = [2 - 3 / 7, -1 + 3 / 7, 1 - 3 / 7, 0, -2 + 3 / 7]
    np.testing.assert_allclose(histories.residual[histories.slot], known, rtol=1e-6)
    histories = fitted.products.histories
    known = [2 - 1 / 12, -1 - 1 / 12, 1 - 1 / 11, 0, -2 + 2 / 11]
    np.testing.assert_allclose(histories.residual[histories.slot], known, rtol=1e-6)


def test_a_review_is_left_out_of_the_biases_by_its_value_and_its_one() -> None:
    fitted = fitted_of(reviews_of([(1, 1, 5.0), (1, 2, 2.0), (2, 1, 4.0), (2, 2, NAN), (3, 2, 1.0)]))
    customer, product = fitted.biases_without_self()
    np.testing.assert_allclose(customer, [-1 / 11, 2 / 11, 0, 1 / 11, 0], rtol=1e-6)
    np.testing.assert_allclose(product, [1 / 6, -2 / 6, 2 / 6, -3 / 7, -1 / 6], rtol=1e-6)


def test_histories_hold_exactly_the_reviews_and_every_review_knows_its_slot() -> None:
    fitted = fitted_of(random_reviews())
    sides = (
        (fitted.customers, fitted.customer, fitted.product),
        (fitted.products, fitted.product, fitted.customer),
    )
    for side, own, partner in sides:
        histories = side.histories
        for row in range(len(side)):
            listed = histories.partners[row]
            assert sorted(listed) == sorted(partner[own == row])
            assert side.counts[row] == len(listed)
        assert histories.partners.items[histories.slot].tolist() == partner.tolist()
        assert histories.rated[histories.slot].tolist() == fitted.rated.tolist()
        assert sorted(histories.slot) == list(range(len(fitted)))


def test_a_capped_history_holds_as_many_reviews_as_allowed_drawn_from_the_seed() -> None:
    reviews = random_reviews()
    fitted, again, other = (fitted_of(reviews, history_cap=2, seed=seed) for seed in (1, 1, 2))
    full = fitted_of(reviews)
    for own, side in ((fitted.customer, fitted.customers), (fitted.product, fitted.products)):
        reviewed = np.bincount(own, minlength=len(side))
        assert side.histories.partners.lengths.tolist() == np.minimum(reviewed, 2).tolist()
    slot, partners = fitted.customers.histories.slot, fitted.customers.histories.partners.items
    inside = slot != NOT_LISTED
    assert inside.sum() == np.minimum(fitted.customers.counts, 2).sum()
    assert partners[slot[inside]].tolist() == fitted.product[inside].tolist()
    assert partners.tolist() == again.customers.histories.partners.items.tolist()
    assert partners.tolist() != other.customers.histories.partners.items.tolist()
    assert fitted.customers.biases.total.tolist() == full.customers.biases.total.tolist(), "biases are of all reviews"


def test_only_rows_with_enough_reviews_have_a_vector_of_their_own() -> None:
    reviews = reviews_of([(1, 1, 5.0), (1, 2, 2.0), (2, 1, 4.0)])
    assert fitted_of(reviews, own_vector=2).customers.vector_row.tolist()[:4] == [0, 1, 0, 0]
    for settings in ({"own_vector": 0}, {"own_vector": 9, "features": "ids"}):
        rows = fitted_of(reviews, **settings).customers.vector_row
        assert rows.tolist()[:4] == [0, 1, 2, 0], "a row without reviews has none, the reference's towers have all"


def test_features_and_title_words_become_attributes_unless_only_one_row_has_them() -> None:
    attributes = fitted_of(random_reviews()).products.attributes
    # age=30 and kind=odd on the odd rows, word 100 on all, words 200, 201 and 202 on rows 1..3, 4..7 and 8..9
    assert attributes.number == 2 + 1 + 3
    lists = [attributes.lists[row].tolist() for row in range(10)]
    assert lists[0] == []
    assert [len(entries) for entries in lists[1:]] == [4, 2, 4, 2, 4, 2, 4, 2, 4]
    assert set(lists[1]) == set(lists[3])
    assert set(lists[2]) < set(lists[3])
    assert len(set(lists[8]) & set(lists[4])) == 1
    assert sorted({entry for entries in lists for entry in entries}) == list(range(6))


def test_products_stand_in_the_order_of_time_and_equal_times_by_row() -> None:
    rows = [(1, 5, 4.0), (2, 3, 2.0), (1, 2, 5.0), (1, 7, 1.0), (2, 5, 3.0), (1, 6, 3.0)]
    fitted = fitted_of(reviews_of(rows, [9, 1, 3, 3, 4, 1]), history="sequence")
    assert fitted.timelines[1].tolist() == [6, 2, 7, 5]
    assert fitted.timelines[2].tolist() == [3, 5]
    assert fitted.timelines.items[fitted.timeline_slot].tolist() == [5, 3, 2, 7, 5, 6]
    assert not len(fitted_of(reviews_of(rows)).timelines.items), "nothing is kept where the order is not read"


def test_a_review_weighs_as_its_count_says_and_less_the_more_reviews_its_customer_has() -> None:
    reviews = reviews_of([(1, 1, np.nan), (1, 2, np.nan), (1, 3, np.nan), (1, 4, np.nan), (2, 1, np.nan)])
    recipe = recipe_of(dataset_of(reviews), equal_customers=0.5)
    for weight, expected in ((None, [0.5, 0.5, 0.5, 0.5, 1]), ([2, 0, 1, 1, 3], [1, 0, 0.5, 0.5, 3])):
        counted = dataclasses.replace(reviews, weight=None if weight is None else np.array(weight, np.float32))
        fitted = fit_reviews(dataset_of(counted), counted, recipe)
        assert step_of(fitted, recipe)["retrieval"].weight == pytest.approx(expected)


@pytest.mark.parametrize("half_life", [5.0, 60.0])
def test_the_trend_of_a_kinder_period_is_positive_and_a_single_period_has_none(half_life: float) -> None:
    rows = [(1 + i % 11, 1 + i % 8, 5.0 if i >= 40 else 1.0) for i in range(80)]
    reviews = reviews_of(rows, [float(5 * i) for i in range(80)])
    fitted = fitted_of(reviews)
    assert not fitted.with_trend().trend.any()
    trend = fitted.with_popularity(reviews, half_life).with_trend()
    assert trend.trend[0] < 0 < trend.trend[-1]
    assert trend.trend_without_self[0] < trend.trend_without_self[-1]
