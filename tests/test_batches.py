"""Fitted rows: histories of exactly the reviews, biases and residuals by hand, batches in fresh order every epoch."""

from __future__ import annotations

import numpy as np
import pytest

from amzrec.config import TrainConfig
from amzrec.features.batches import COLUMNS, HELD_OUT, batch_size, fit_rows, held_out, list_order, packed, positions
from amzrec.store.dataset import Scale
from fits import dataset_of, random_reviews, reviews_of

NAN = float("nan")
FULL = TrainConfig(own_vector=1)


def test_values_biases_and_residuals_are_those_worked_by_hand() -> None:
    reviews = reviews_of([(1, 1, 5.0), (1, 2, 2.0), (2, 1, 4.0), (2, 2, NAN), (3, 2, 1.0)])
    fit = fit_rows(dataset_of(reviews), reviews, FULL)
    assert (fit.mean, fit.unit, fit.low, fit.high) == (3.0, 1.0, 1.0, 5.0)
    np.testing.assert_array_equal(fit.value, [2, -1, 1, 0, -2])
    np.testing.assert_array_equal(fit.rated, [1, 1, 1, 0, 1])
    # customers are shrunk by 10 reviews, products by 5; a click is no rated review
    np.testing.assert_allclose(fit.customers.bias[:4], [0, 1 / 12, 1 / 11, -2 / 11], rtol=1e-6)
    np.testing.assert_allclose(fit.products.bias[:3], [0, 3 / 7, -3 / 7], rtol=1e-6)
    residual = fit.customers.residual[fit.customer_edge]  # value − bias of the product, 0 for the click
    np.testing.assert_allclose(residual, [2 - 3 / 7, -1 + 3 / 7, 1 - 3 / 7, 0, -2 + 3 / 7], rtol=1e-6)
    residual = fit.products.residual[fit.product_edge]
    np.testing.assert_allclose(residual, [2 - 1 / 12, -1 - 1 / 12, 1 - 1 / 11, 0, -2 + 2 / 11], rtol=1e-6)


def test_histories_hold_exactly_the_reviews_and_every_review_knows_its_place() -> None:
    reviews = random_reviews()
    fit = fit_rows(dataset_of(reviews), reviews, FULL)
    sides = (
        (fit.customers, fit.customer, fit.product, fit.customer_edge),
        (fit.products, fit.product, fit.customer, fit.product_edge),
    )
    for side, own, partner, edge in sides:
        for row in range(len(side.counts)):
            listed = side.history.items[side.history.offsets[row] : side.history.offsets[row + 1]]
            assert sorted(listed) == sorted(partner[own == row])
            assert side.counts[row] == len(listed)
        np.testing.assert_array_equal(side.history.items[edge], partner)
        np.testing.assert_array_equal(side.rated[edge], fit.rated)
        assert sorted(edge) == list(range(len(fit)))


def test_a_capped_history_holds_as_many_reviews_as_allowed_drawn_from_the_seed() -> None:
    reviews = random_reviews()
    dataset = dataset_of(reviews)
    fit, again, other = (fit_rows(dataset, reviews, FULL.replace(history_cap=2, seed=seed)) for seed in (1, 1, 2))
    full = fit_rows(dataset, reviews, FULL)
    for own, side in ((fit.customer, fit.customers), (fit.product, fit.products)):
        reviewed = np.bincount(own, minlength=len(side.counts))
        np.testing.assert_array_equal(np.diff(side.history.offsets), np.minimum(reviewed, 2))
    inside = fit.customer_edge >= 0
    assert inside.sum() == np.minimum(fit.customers.counts, 2).sum()
    np.testing.assert_array_equal(fit.customers.history.items[fit.customer_edge[inside]], fit.product[inside])
    assert (fit.customer_edge[~inside] == -1).all()
    np.testing.assert_array_equal(fit.customers.history.items, again.customers.history.items)
    assert (fit.customers.history.items != other.customers.history.items).any()
    np.testing.assert_array_equal(fit.customers.total, full.customers.total)  # biases are of all reviews


def test_only_rows_with_enough_reviews_have_a_vector_of_their_own() -> None:
    reviews = reviews_of([(1, 1, 5.0), (1, 2, 2.0), (2, 1, 4.0)])
    own = fit_rows(dataset_of(reviews), reviews, TrainConfig(own_vector=2)).customers.own
    assert own.tolist()[:4] == [0, 1, 0, 0]
    for config in (TrainConfig(own_vector=0), TrainConfig(own_vector=9, features="ids")):
        own = fit_rows(dataset_of(reviews), reviews, config).customers.own
        assert own.tolist()[:4] == [0, 1, 2, 0], "a row without reviews has none, the reference's towers have all"


def test_features_and_title_words_become_attributes_unless_only_one_row_has_them() -> None:
    reviews = random_reviews()
    products = fit_rows(dataset_of(reviews), reviews, FULL).products
    # age=30 and kind=odd on the odd rows, word 100 on all, words 200, 201 and 202 on rows 1..3, 4..7 and 8..9
    assert products.n_attributes == 2 + 1 + 3
    lists = [products.attributes.items[slice(*products.attributes.offsets[[r, r + 1]])].tolist() for r in range(10)]
    assert lists[0] == []
    assert [len(entries) for entries in lists[1:]] == [4, 2, 4, 2, 4, 2, 4, 2, 4]
    assert set(lists[1]) == set(lists[3])
    assert set(lists[2]) < set(lists[3])
    assert len(set(lists[8]) & set(lists[4])) == 1
    assert sorted({entry for entries in lists for entry in entries}) == list(range(6))


def test_a_scale_of_ten_points_is_four_model_units_wide() -> None:
    reviews = reviews_of([(1, 1, 10.0), (2, 1, 0.0)])
    dataset = dataset_of(reviews, scale=Scale(0.0, 10.0))
    fit = fit_rows(dataset, reviews, FULL)
    np.testing.assert_allclose(fit.value * fit.unit + fit.mean, [10.0, 0.0])
    assert fit.value.tolist() == [2.0, -2.0]


def test_reviews_that_are_held_out_are_on_the_scale_of_the_fitted_rows_and_leave_nothing_out() -> None:
    reviews = reviews_of([(1, 1, 5.0), (2, 2, 1.0)])
    columns = held_out(fit_rows(dataset_of(reviews), reviews, FULL), reviews_of([(1, 2, 4.0), (3, 9, NAN)]))
    assert columns["value"].tolist() == [1.0, 0.0]
    assert columns["rated"].tolist() == [1.0, 0.0]
    assert (columns["customer_edge"] == HELD_OUT).all()
    assert columns["own_prior"][0] > columns["own_prior"][1]  # product 2 has a review, product 9 none


# --- batches


@pytest.mark.parametrize("rows", [1, 9, 10, 255, 300, 2559, 2560, 2561, 100_000])
@pytest.mark.parametrize("most", [1, 100, 8192])
def test_an_epoch_leaves_out_fewer_reviews_than_it_has_steps_and_none_is_longer_than_asked(
    rows: int, most: int
) -> None:
    size, steps = batch_size(rows, most)
    assert 1 <= size <= most
    assert 0 <= rows - size * steps < steps
    assert steps >= min(10, rows // 256)


@pytest.mark.parametrize(
    ("reviews", "most", "rate"),
    [(100, 8192, 0.005), (204_800, 8192, 0.005), (250_000, 10_000, 0.003), (1_000_000, 40_000, 0.003),
     (10_000_000, 65_536, 0.003)],
)  # fmt: skip
def test_steps_grow_with_the_data_unless_their_size_is_given(reviews: int, most: int, rate: float) -> None:
    assert (TrainConfig().most(reviews), TrainConfig().rate(reviews)) == (most, rate)
    assert TrainConfig(batch_size=512).most(reviews) == 512
    assert TrainConfig(batch_size=512).rate(reviews) == 0.005
    assert TrainConfig(learning_rate=0.02).rate(reviews) == 0.02
    assert TrainConfig(optimizer="adagrad").rate(reviews) == 0.1


def test_every_review_comes_once_per_epoch() -> None:
    fit = fit_rows(dataset_of(random_reviews()), random_reviews(), FULL)
    drawn = np.concatenate(list(positions(fit, 4, len(fit) // 4, [42, 0, 1])))
    assert len(set(drawn.tolist())) == len(drawn) == len(fit) // 4 * 4
    assert set(drawn.tolist()) <= set(range(len(fit)))


@pytest.mark.parametrize("size", [2, 3])
def test_lists_are_of_one_customer_each_and_the_same_review_never_comes_twice(size: int) -> None:
    fit = fit_rows(dataset_of(random_reviews()), random_reviews(), FULL)
    lists = list_order(fit, np.random.default_rng(1), size).reshape(-1, size)
    of = fit.customer[lists]
    assert (of == of[:, :1]).all()
    assert (fit.rated[lists] > 0).all()
    assert len(np.unique(lists)) == lists.size
    counts = np.bincount(fit.customer[fit.rated > 0])
    assert (np.bincount(of[:, 0], minlength=len(counts)) == counts // size).all()


def test_a_packed_review_has_its_own_columns_bit_for_bit() -> None:
    reviews = random_reviews()
    fit = fit_rows(dataset_of(reviews), reviews, FULL)
    table = packed(fit)
    assert table.shape == (len(fit), len(COLUMNS))
    for name, column in zip(COLUMNS, table.T, strict=True):
        dtype = getattr(fit, name).dtype
        found = np.ascontiguousarray(column).view(np.float32) if dtype == np.float32 else column
        np.testing.assert_array_equal(found, getattr(fit, name), err_msg=name)


def test_trap_6_every_epoch_has_other_batches_and_the_same_seed_the_same() -> None:
    reviews = random_reviews()
    fit = fit_rows(dataset_of(reviews), reviews, FULL)

    def epoch(*seed: int) -> list[set[tuple[int, int]]]:
        """The reviews of each batch, whose products are each other's negatives."""
        drawn = positions(fit, 8, len(fit) // 8, list(seed))
        return [set(zip(fit.customer[b].tolist(), fit.product[b].tolist(), strict=True)) for b in drawn]

    assert epoch(42, 0, 1) == epoch(42, 0, 1)
    for other in (epoch(42, 0, 2), epoch(42, 1, 1), epoch(43, 0, 1)):
        assert not any(batch in other for batch in epoch(42, 0, 1))
