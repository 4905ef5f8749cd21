"""Vectors of a batch as sparse matrices: the documented formula, and nothing of the target in its own example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.features.columns import HistoryColumns, HistorySums, RowColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.sparse import SparseMatrix
from amzrec.features.steps import row_columns, whole_histories
from amzrec.store.dataset import Reviews
from fits import dataset_of, fitted_of, random_reviews, recipe_of, reviews_of, step_of

WIDTH = 3


def dense(matrix: SparseMatrix) -> np.ndarray:
    """The matrix as it would be written out; entries of one place add up."""
    found = np.zeros(matrix.shape)
    np.add.at(found, tuple(matrix.indices.T), matrix.values)
    return found


class Tables:
    """Random numbers in place of what is learned: the same for the same seed, whatever the reviews are."""

    def __init__(self, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        shapes = {"embedding": 13, "bag": 13, "residual": 13, "attribute": 20}
        self.sides = [{name: rng.normal(size=(rows, WIDTH)) for name, rows in shapes.items()} for _ in range(2)]

    def base(self, side: int, rows: RowColumns) -> np.ndarray:
        """Embeddings and attributes [n, WIDTH]."""
        own = self.sides[side]
        return own["embedding"][rows.vector_row] + dense(rows.attribute_matrix) @ own["attribute"][rows.attributes]

    def sums(self, side: int, histories: HistorySums) -> np.ndarray:
        """History sums, then levels [2n, WIDTH]."""
        other = self.sides[1 - side]
        table = np.concatenate([other["bag"][histories.partners], other["residual"][histories.partners]])
        summed: np.ndarray = dense(histories.sums) @ table
        return summed

    def whole(self, fitted: FittedReviews, side: int) -> np.ndarray:
        """Vectors of all rows of a side with their whole histories."""
        profiles = (fitted.customers, fitted.products)[side]
        rows = np.arange(len(profiles), dtype=np.int32)
        histories, matrix = whole_histories(profiles, rows)
        columns = row_columns(profiles, rows)
        vectors: np.ndarray = dense(matrix) @ np.concatenate([self.base(side, columns), self.sums(side, histories)])
        return vectors

    def batch(self, columns: HistoryColumns) -> dict[str, np.ndarray]:
        """The vectors of a batch, as the encoder makes them."""
        sides = []
        for side, rows, histories, partners in (
            (0, columns.customers, columns.customer_sums, columns.products.vector_row),
            (1, columns.products, columns.product_sums, columns.customers.vector_row),
        ):
            base, own = self.base(side, rows), self.sides[side]["embedding"]
            words = base - own[rows.vector_row]
            bases = [base, own[:1] + words, own[:1]] if side == 0 else [base]
            other = self.sides[1 - side]
            parts = [*bases, self.sums(side, histories), other["bag"][partners], other["residual"][partners]]
            sides.append(np.concatenate(parts))
        matrices = {"reviewers": 0, "queries": 0, "reviewed": 1, "candidates": 1}
        return {name: dense(getattr(columns, name)) @ sides[side] for name, side in matrices.items()}


def slow_vectors(fitted: FittedReviews, tables: Tables, side: int, left_out: Any = ()) -> np.ndarray:
    """The documented formula, one row and one review at a time, from the reviews themselves without some of them."""
    profiles = (fitted.customers, fitted.products)
    rows = (fitted.customer, fitted.product)
    own, other = tables.sides[side], tables.sides[1 - side]
    there = ~np.isin(np.arange(len(fitted)), left_out)

    def bias(of: int, row: int, everything: bool) -> float:
        rated = (rows[of] == row) & (fitted.rated > 0) & (everything | there)
        return float(fitted.value[rated].sum() / (rated.sum() + profiles[of].biases.shrinkage))

    out = []
    for row in range(len(profiles[side])):
        reviews = np.flatnonzero((rows[side] == row) & there)
        history = np.zeros(WIDTH)
        for review in reviews:
            partner = rows[1 - side][review]
            entry = profiles[1 - side].vector_row[partner]  # partners with few reviews add what the unknown one adds
            history += other["bag"][entry]
            if fitted.rated[review]:
                rest = fitted.value[review] - bias(1 - side, partner, True)
                history += (rest - bias(side, row, False)) * other["residual"][entry]
        words = profiles[side].attributes.lists[row]
        vector = own["embedding"][profiles[side].vector_row[row]] + history / np.sqrt(len(reviews) + 1)
        out.append(vector + own["attribute"][words].sum(0) / np.sqrt(len(words) + 1))
    return np.array(out)


@pytest.mark.parametrize("side", [0, 1])
def test_whole_vectors_are_those_of_the_documented_formula(side: int) -> None:
    fitted, tables = fitted_of(random_reviews(), own_vector=3), Tables()
    np.testing.assert_allclose(tables.whole(fitted, side), slow_vectors(fitted, tables, side), atol=1e-5)


@pytest.mark.parametrize("negatives", ["full", "batch"])
def test_the_vectors_of_a_batch_leave_out_what_they_must(negatives: str) -> None:
    """A review is left out of its own vectors, all of a customer in the batch out of a query, none of a candidate."""
    fitted, tables = fitted_of(random_reviews()), Tables()
    recipe = recipe_of(dataset_of(random_reviews()), own_vector=1, mask=0.0, history_dropout=0.0, negatives=negatives)
    some = np.arange(0, len(fitted), 2)
    columns = step_of(fitted, recipe, some)["towers"]
    found = tables.batch(columns)
    for place, review in enumerate(some):
        for name, side, row in (("reviewers", 0, fitted.customer[review]), ("reviewed", 1, fitted.product[review])):
            known = slow_vectors(fitted, tables, side, [review])[row]
            np.testing.assert_allclose(found[name][place], known, atol=1e-5, err_msg=name)
    known = slow_vectors(fitted, tables, 0, some)[columns.customers.rows]
    np.testing.assert_allclose(found["queries"], known, atol=1e-5)
    np.testing.assert_allclose(found["candidates"], slow_vectors(fitted, tables, 1)[columns.products.rows], atol=1e-5)


def parity_reviews() -> Reviews:
    """Odd customers review odd products, even ones even products: two worlds that share nothing but the mean."""
    rng = np.random.default_rng(7)
    pairs = [(c, p) for c in range(1, 12) for p in range(1, 9) if (c + p) % 2 == 0 and rng.random() < 0.8]
    return reviews_of([(c, p, float(rng.integers(1, 6))) for c, p in pairs])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("target", [0, 7])
def test_a_planted_target_does_not_change_its_own_example(target: int, dropout: float) -> None:
    reviews, tables = parity_reviews(), Tables()
    stars = reviews.stars.copy()
    stars[target] += 4.0
    other_world = np.flatnonzero(reviews.customer % 2 != reviews.customer[target] % 2)
    stars[other_world[0]] -= 4.0  # so that the mean stays
    plants = Reviews(reviews.customer, reviews.product, stars, reviews.timestamp)
    recipe = recipe_of(dataset_of(reviews), own_vector=1, history_dropout=dropout, mask=0.3)
    examples, whole = [], []
    for each in (reviews, plants):
        fitted = fitted_of(each)
        columns = step_of(fitted, recipe)["towers"]
        vectors = tables.batch(columns)
        biases = columns.customer_bias[target], columns.product_bias[target], fitted.log_share_without_self[target]
        query = vectors["queries"][columns.customer_of_review[target]]
        examples.append([vectors["reviewers"][target], vectors["reviewed"][target], query, *biases])
        rows = reviews.customer[target], reviews.product[target]
        whole.append([tables.whole(fitted, side)[rows[side]] for side in (0, 1)])
    for before, after in zip(*examples, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)
    for before, after in zip(*whole, strict=True):
        assert np.abs(before - after).max() > 1e-2, "with full histories it must change"


def test_what_the_cap_left_out_of_a_history_is_not_taken_out_of_it_again() -> None:
    fitted, tables = fitted_of(random_reviews(), history_cap=1), Tables()
    recipe = recipe_of(dataset_of(random_reviews()), own_vector=1, mask=0.0, history_dropout=0.0, history_cap=1)
    columns = step_of(fitted, recipe)["towers"]
    capped = (fitted.customers.histories.slot < 0) & (fitted.rated == 0)  # clicks: the bias does not change either
    assert capped.any()
    whole = tables.whole(fitted, 0)[fitted.customer[capped]]
    np.testing.assert_allclose(tables.batch(columns)["reviewers"][capped], whole, atol=1e-5)
    rated = (fitted.customers.histories.slot < 0) & (fitted.rated > 0) & (fitted.value != 0)
    changed = columns.customer_bias[rated] - fitted.customers.biases.all[fitted.customer[rated]]
    assert (np.abs(changed) > 0).all(), "the bias is of all reviews"


def test_half_of_the_masked_customers_are_known_by_their_history_and_half_by_nothing() -> None:
    fitted, tables = fitted_of(random_reviews()), Tables()
    recipe = recipe_of(dataset_of(random_reviews()), own_vector=1, history_dropout=0.0, mask=0.8)
    found = tables.batch(step_of(fitted, recipe)["towers"])["reviewers"]
    plain = tables.batch(step_of(fitted, recipe.replace(mask=0.0))["towers"])["reviewers"]
    embedding = tables.sides[0]["embedding"]
    unknown = np.abs(found - embedding[0]).max(1) < 1e-6
    by_history = np.abs(found - (plain - embedding[fitted.customer] + embedding[0])).max(1) < 1e-5
    known = np.abs(found - plain).max(1) < 1e-6
    assert ((unknown * 1 + by_history + known) == 1).all()
    assert min(unknown.sum(), by_history.sum(), known.sum()) > 2


def test_row_0_the_unknown_one_is_its_embedding_alone() -> None:
    fitted, tables = fitted_of(random_reviews()), Tables()
    for side in (0, 1):
        np.testing.assert_allclose(tables.whole(fitted, side)[0], tables.sides[side]["embedding"][0])


def test_penalties_weigh_rows_by_their_share_of_the_batch_and_by_how_rare_they_are() -> None:
    reviews = reviews_of([(1, 1, 5.0), (1, 2, 2.0), (2, 1, 4.0), (3, 2, 1.0)])
    settings = {"own_vector": 1, "l2": 2.0, "l2_history": 3.0, "l2_rare": 6.0}
    columns = step_of(fitted_of(reviews, **settings), recipe_of(dataset_of(reviews), **settings))["towers"]
    # customer 1 has two of four reviews and weighs 1 + 6/2, the others one and 1 + 6/1; products have two each
    customers, products = np.array([2 * 4, 7, 7]) / 4, np.array([2 * 4, 2 * 4]) / 4
    bases, sums = 3 + 3 + 1, 2 * 3  # known, by history alone, nobody
    np.testing.assert_allclose(columns.customer_penalty[:3], 2 * customers)
    assert not columns.customer_penalty[3 : bases + sums].any()
    np.testing.assert_allclose(columns.customer_penalty[bases + sums :], 3 * np.tile(products, 2))
    np.testing.assert_allclose(columns.product_penalty[:2], 2 * products)
    np.testing.assert_allclose(columns.product_penalty[2 + 4 :], 3 * np.tile(customers, 2))
