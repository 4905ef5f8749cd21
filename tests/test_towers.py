"""Towers: strings and rows give the same vectors, what is learned reaches them, and the order of time is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from amzrec.features.fitted import FittedReviews, fit_reviews
from amzrec.features.recent import RECENT_PRODUCTS, recent_columns
from amzrec.features.sparse import SparseMatrix
from amzrec.features.steps import row_columns
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import multiply, sparse_matmul
from fits import batch_of, dataset_of, model_of, recipe_of, reviews_of, small

tf: Any = import_tensorflow()
EVERY_CUSTOMER, EVERY_PRODUCT = np.arange(13, dtype=np.int32), np.arange(10, dtype=np.int32)


@pytest.mark.parametrize("features", ["full", "ids"])
def test_ids_as_strings_give_the_vectors_of_their_rows(features: str) -> None:
    _, model = small(features=features)
    rows = {"customer": tf.constant([3, 12, 0, 1, 0]), "product": tf.constant([9, 1, 0, 4, 0])}
    names = {"customer": ["c3", "c12", "", "c1", "a stranger"], "product": ["p9", "p1", "", "p4", "[UNK]"]}
    asked = {name: tf.constant(column) for name, column in names.items()}
    for by_row, by_name in zip(model(rows), model(asked), strict=True):
        np.testing.assert_array_equal(by_name, by_row)


def test_with_features_ids_a_vector_is_the_embedding_alone() -> None:
    fitted, model = small(features="ids")
    table = model.encoder.candidate_tower.embedding.numpy()
    known = table[np.where(fitted.products.counts > 0, EVERY_PRODUCT, 0)]
    np.testing.assert_array_equal(model.encoder.candidates(EVERY_PRODUCT), known)


def test_vectors_of_some_rows_are_those_of_all_rows_whatever_their_order() -> None:
    _, model = small()
    some = np.array([3, 0, 7, 9], np.int32)
    for vectors, everything in ((model.encoder.queries, EVERY_CUSTOMER), (model.encoder.candidates, EVERY_PRODUCT)):
        np.testing.assert_allclose(vectors(some), vectors(everything).numpy()[some], atol=1e-6)


def test_the_vectors_of_a_batch_are_those_of_its_sparse_matrices_and_tables() -> None:
    """What tests/test_leave_one_out.py proves of the matrices holds for the model: here the product is dense."""
    _, model = small()
    columns = batch_of(*small(), plain=True)["towers"]
    q, c = model.encoder.query_tower, model.encoder.candidate_tower
    words = q.attribute_vectors(columns.customers).numpy()
    base, nobody = q.embedding.numpy()[columns.customers.vector_row] + words, q.embedding.numpy()[:1]
    partners = columns.products.vector_row.numpy()
    tables = [base, nobody + words, nobody, q.history_sums(columns.customer_sums, c).numpy()]
    table = np.concatenate([*tables, c.bag.numpy()[partners], c.residual.numpy()[partners]])
    dense = np.zeros(columns.reviewers.shape)
    np.add.at(dense, tuple(columns.reviewers.indices.numpy().T), columns.reviewers.values.numpy())
    found = model.encoder.encode(batch_of(*small(), plain=True)).pairs.x
    np.testing.assert_allclose(found, (dense @ table)[:, model.recipe.rating_start :], atol=1e-5)


def test_rows_with_few_reviews_share_the_embedding_of_the_unknown_one() -> None:
    fitted, model = small(own_vector=4)
    tower = model.encoder.query_tower
    few, many = np.flatnonzero(fitted.customers.counts < 4), np.flatnonzero(fitted.customers.counts >= 4)
    assert tower.embedding.shape[0] == len(many) + 1, "they take no rows in the trained tables"
    assert min(len(few), len(many)) > 2
    base = (
        tower.base(EVERY_CUSTOMER).numpy()
        - tower.attribute_vectors(row_columns(fitted.customers, EVERY_CUSTOMER)).numpy()
    )
    np.testing.assert_allclose(base[few], np.repeat(tower.embedding.numpy()[:1], len(few), 0), atol=1e-6)
    np.testing.assert_allclose(base[many], tower.embedding.numpy()[1:], atol=1e-6)
    tower.attribute_offset.assign(tf.zeros_like(tower.attribute_offset))
    np.testing.assert_allclose(tower.learned_offset(few), np.repeat(tower.offset.numpy()[:1], len(few), 0))


def test_what_features_and_words_add_to_the_stars_and_its_ridge_worked_by_hand() -> None:
    fitted, model = small(l2_rare=12.0, l2=0.0, l2_history=0.0, second_head=0)
    tower, attributes = model.encoder.candidate_tower, fitted.products.attributes
    worth = np.arange(1.0, attributes.number + 1, dtype=np.float32)
    tower.attribute_offset.assign(worth[:, None])
    tower.offset.assign(np.full(tower.offset.shape, 0.5, np.float32))
    model.encoder.query_tower.attribute_offset.assign(tf.zeros_like(model.encoder.query_tower.attribute_offset))
    words = [attributes.lists[row] for row in range(10)]
    rows = np.array([3, 0, 8], np.int32)
    known = [0.5 + worth[words[row]].sum() / np.sqrt(len(words[row]) + 1) for row in rows]
    np.testing.assert_allclose(tower.learned_offset(rows)[:, 0], known, rtol=1e-6)
    assert len({len(words[row]) for row in rows}) > 1
    some = np.array([0, 5, 9])
    reviews = [sum(fitted.products.counts[row] for row in range(10) if a in words[row]) for a in range(len(worth))]
    ridge = sum(12.0 * worth[a] ** 2 / reviews[a] for row in fitted.product[some] for a in words[row]) / len(some)
    penalty = model.encoder.encode(batch_of(fitted, model, some)).penalty
    assert float(penalty) == pytest.approx(ridge, rel=1e-5)


# --- sparse products


def test_a_product_with_a_sparse_matrix_and_its_gradient_equal_the_dense_ones() -> None:
    rng = np.random.default_rng(4)
    segment, column = np.array([0, 0, 2, 2, 2, 5]), np.array([3, 1, 0, 3, 3, 2])
    weight, table = rng.normal(size=6).astype(np.float32), tf.constant(rng.normal(size=(4, 3)), tf.float32)
    dense = np.zeros((6, 4), np.float32)
    np.add.at(dense, (segment, column), weight)
    upstream = tf.constant(rng.normal(size=(6, 3)), tf.float32)
    matrix = SparseMatrix(np.stack([segment, column], 1), weight, np.array([6, 4]))
    products: tuple[Callable[[], Any], ...] = (
        lambda: multiply(matrix, table),
        lambda: sparse_matmul(tf.constant(segment), tf.constant(column), tf.constant(weight), table, 6),
    )
    for product in products:
        with tf.GradientTape() as tape:
            tape.watch(table)
            found = product()
        np.testing.assert_allclose(found, dense @ table.numpy(), atol=1e-6)
        gradient = tape.gradient(found, table, output_gradients=upstream)
        np.testing.assert_allclose(gradient, dense.T @ upstream.numpy(), atol=1e-6)


def test_a_sparse_matrix_without_entries_gives_zeros_and_takes_nothing_back() -> None:
    matrix = SparseMatrix(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.array([3, 2]))
    table = tf.ones([2, 4])
    with tf.GradientTape() as tape:
        tape.watch(table)
        found = multiply(matrix, table)
    assert found.numpy().tolist() == np.zeros((3, 4)).tolist()
    assert not tape.gradient(found, table).numpy().any()


# --- the order of time


def in_order(**settings: Any) -> tuple[FittedReviews, Any]:
    """A model that reads the last products in order, on reviews of known days."""
    rows = [(1, 5, 4.0), (2, 3, 2.0), (1, 2, 5.0), (1, 7, 1.0), (2, 5, 3.0), (1, 6, 3.0)]
    reviews = reviews_of(rows, [9, 1, 3, 3, 4, 1])
    dataset = dataset_of(reviews)
    recipe = recipe_of(dataset, **{"history": "recent"} | settings, own_vector=1, mask=0.0, history_dropout=0.0)
    fitted = fit_reviews(dataset, reviews, recipe)
    return fitted, model_of(recipe, fitted, dataset)


def test_neither_the_target_nor_what_comes_later_nor_what_is_long_ago_is_read() -> None:
    fitted, model = in_order(order_dropout=0.0)
    columns = batch_of(fitted, model)["order"].recent
    read = [
        sorted(p[there].tolist()) for p, there in zip(columns.products.numpy(), columns.present.numpy(), strict=True)
    ]
    assert read == [[2, 6, 7], [], [6], [2, 6], [3], []]
    long = reviews_of([(1, 1 + i % 9, 3.0) for i in range(9)], [float(i) for i in range(9)])
    dataset = dataset_of(long)
    fitted = fit_reviews(dataset, long, recipe_of(dataset, history="recent"))
    end = fitted.timeline_slot[-1:]
    assert recent_columns(fitted, fitted.customer[-1:], end, 10).products[0][:8].tolist() == [*range(1, 9)]
    assert RECENT_PRODUCTS >= 8


def test_retrieval_in_order_is_a_weighted_bag_of_the_last_products_without_what_is_dropped() -> None:
    fitted, model = in_order(order_dropout=0.4)
    order, columns = model.encoder.order, batch_of(fitted, model)["order"]
    encoded = model.encoder.encode(batch_of(fitted, model))
    weights = np.exp(order.log_weight.numpy())
    lost = 0
    for row, whole in enumerate([[6, 2, 7], [], [6], [6, 2], [3], []]):  # before each review, in order
        recent = columns.recent
        read = recent.products.numpy()[row][recent.present.numpy()[row]].tolist()
        lost += len(whole) - len(read)
        ages = [len(whole) - 1 - whole.index(product) for product in read]
        known = sum(weights[age] * order.read.numpy()[product] for age, product in zip(ages, read, strict=True))
        known = known / np.sqrt(np.square(weights[ages]).sum() + 0.5) * columns.kept.numpy()[row]
        np.testing.assert_allclose(encoded.queries[row], known, atol=1e-5)
    assert lost > 0
    assert set(np.unique(columns.kept.numpy()).round(4)) == {0.0, np.float32(1 / 0.6).round(4)}
    asked = order.asked.numpy()
    np.testing.assert_allclose(encoded.positives, asked[fitted.product], atol=1e-6)
    np.testing.assert_allclose(encoded.candidates, asked[columns.candidates.numpy()], atol=1e-6)


def test_answers_in_order_read_the_whole_timeline_and_drop_nothing() -> None:
    _, model = in_order(order_dropout=0.4)
    order, weights = model.encoder.order, np.exp(model.encoder.order.log_weight.numpy())
    timeline = [6, 2, 7, 5]  # of customer 1
    known = sum(weights[age] * order.read.numpy()[product] for age, product in enumerate(timeline[::-1]))
    found = model.encoder.retrieval_queries(np.array([1, 9], np.int32)).numpy()
    np.testing.assert_allclose(found[0], known / np.sqrt(np.square(weights[:4]).sum() + 0.5), atol=1e-5)
    assert not found[1].any()  # never reviewed anything


def test_a_masked_customer_has_no_last_products_either() -> None:
    fitted, _ = in_order()
    columns = recent_columns(fitted, fitted.customer, fitted.timeline_slot, 10, np.zeros(len(fitted), np.float32))
    assert not columns.present.any()
