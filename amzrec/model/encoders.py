"""Both towers together: from the columns of a step to the vectors that the losses compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Floats, Rows
from amzrec.config import Recipe
from amzrec.features.columns import HistoryColumns, IdColumns, OrderColumns, StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.recent import RECENT_PRODUCTS, recent_columns
from amzrec.model.head import Pairs
from amzrec.model.keras2 import Tensor
from amzrec.model.sequence import RecentBag
from amzrec.model.sparse import multiply, overlapping_columns, squares, take
from amzrec.model.towers import HistoryTower, IdTower, tf


class Encoded(NamedTuple):
    """The vectors of a step that the losses read; what stands for a review is made without that review."""

    queries: Tensor  # [V, Dr] query vectors of retrieval; SharedQueries says which one a review reads, else V = B
    positives: Tensor  # [B, Dr] the product of each review
    candidates: Tensor  # [M, Dr] the products of the softmax, with all of their histories
    pairs: Pairs  # of B customers and products, for the rating
    penalty: Tensor  # scalar, added to the loss


class Tables(NamedTuple):
    """The tables [rows, ·] of both sides, in the dimensions of each task, and the penalty on them."""

    query_retrieval: Tensor
    query_rating: Tensor
    candidate_retrieval: Tensor
    candidate_rating: Tensor
    penalty: Tensor  # scalar


class IdEncoder(tf.Module):  # type: ignore[misc]
    """Two towers of ids; both tasks read all of their dimensions."""

    def __init__(
        self, fitted: FittedReviews, recipe: Recipe, customer_ids: Iterable[object], product_ids: Iterable[object]
    ) -> None:
        """`customer_ids` and `product_ids` are the vocabularies, one id for each row; row 0 is the unknown one."""
        super().__init__()
        self.split = recipe.retrieval_dims, recipe.rating_start
        self.query_tower = IdTower(fitted.customers, customer_ids, recipe, "query")
        self.candidate_tower = IdTower(fitted.products, product_ids, recipe, "candidate")

    def encode(self, columns: StepColumns) -> Encoded:
        """Look up the embeddings of the reviews' customers and products."""
        towers: IdColumns = columns["towers"]
        x, y = self.query_tower.ids(towers.customer), self.candidate_tower.ids(towers.product)
        nothing = tf.zeros_like(columns["reviews"].value)
        pairs = Pairs(x, y, nothing, nothing, nothing, nothing)
        return Encoded(x, y, self.candidate_tower.ids(towers.candidates), pairs, 0.0)

    def queries(self, rows: Rows) -> Tensor:
        """Return the vectors [n, D] of customer rows [n] from which questions are answered."""
        return self.query_tower.vectors(rows, self.candidate_tower)

    def retrieval_queries(self, rows: Rows) -> Tensor:
        """Return the vectors [n, Dr] of customer rows [n] from which retrieval is answered."""
        return self.queries(rows)[:, : self.split[0]]

    def retrieval_bases(self, rows: Rows) -> Tensor:
        """Return what `retrieval_queries` [n, Dr] of customer rows [n] are before their histories."""
        return self.query_tower.base(rows)[:, : self.split[0]]

    @property
    def recent_weights(self) -> Floats:
        """What a product of a history weighs by how many came after it, [L]; empty where all weigh the same."""
        return np.zeros(0, np.float32)

    def candidates(self, rows: Rows) -> Tensor:
        """Return the vectors [n, D] of product rows [n] from which questions are answered."""
        return self.candidate_tower.vectors(rows, self.query_tower)

    def retrieval_candidates(self, rows: Rows) -> Tensor:
        """Return the vectors [n, Dr] of product rows [n] from which retrieval is answered."""
        return self.candidates(rows)[:, : self.split[0]]

    @property
    def retrieval_bags(self) -> Floats:
        """What a product of a history says to retrieval, [N + 1, Dr]; zeros where there are no histories."""
        return np.zeros((len(self.candidate_tower.profiles), self.split[0]), np.float32)


class HistoryEncoder(IdEncoder):
    """Two towers that read each other's histories; each task has dimensions of its own beside those that both read."""

    def __init__(
        self, fitted: FittedReviews, recipe: Recipe, customer_ids: Iterable[object], product_ids: Iterable[object]
    ) -> None:
        tf.Module.__init__(self)
        self.query_tower = HistoryTower(fitted.customers, customer_ids, recipe, "query")
        self.candidate_tower = HistoryTower(fitted.products, product_ids, recipe, "candidate")
        self.split = recipe.retrieval_dims, recipe.rating_start

    def encode(self, columns: StepColumns) -> Encoded:
        """Make the vectors of a step from one table for the customers and one for the products."""
        towers: HistoryColumns = columns["towers"]
        assert towers.queries
        assert towers.candidates
        tables = self.tables(towers)
        return Encoded(
            multiply(towers.queries, tables.query_retrieval),
            multiply(towers.reviewed, tables.candidate_retrieval),
            multiply(towers.candidates, tables.candidate_retrieval),
            self.pairs(towers, tables),
            tables.penalty,
        )

    @property
    def retrieval_bags(self) -> Floats:
        """What a product of a history says to retrieval, [N + 1, Dr]."""
        tower = self.candidate_tower
        bags: Floats = tower.bag.numpy()[tower.profiles.vector_row, : self.split[0]]
        return bags

    def tables(self, towers: HistoryColumns) -> Tables:
        """Make the tables of both sides; all vectors of a step are sparse matrices times these two.

        `features.leave_one_out` lists their rows.
        """
        q, c, customers, products = self.query_tower, self.candidate_tower, towers.customers, towers.products
        attributes, nobody = q.attribute_vectors(customers), q.unknown
        bases = [q.ids(customers.vector_row) + attributes, nobody + attributes, nobody]  # known, by history, not at all
        query_table = tf.concat(
            [*bases, q.history_sums(towers.customer_sums, c), *c.history_entries(products.vector_row)], 0
        )
        base = c.ids(products.vector_row) + c.attribute_vectors(products)
        product_sums = c.history_sums(towers.product_sums, q)
        candidate_table = tf.concat([base, product_sums, *q.history_entries(customers.vector_row)], 0)
        penalty = squares(query_table, towers.customer_penalty) + squares(candidate_table, towers.product_penalty)
        penalty += squares(q.attribute_offsets(customers), towers.customer_attribute_penalty)
        penalty += squares(c.attribute_offsets(products), towers.product_attribute_penalty)
        return Tables(
            *overlapping_columns(query_table, *self.split), *overlapping_columns(candidate_table, *self.split), penalty
        )

    def pairs(self, towers: HistoryColumns, tables: Tables) -> Pairs:
        """Make what the rating reads of each review's customer and product, both without that review."""
        q, c = self.query_tower, self.candidate_tower
        return Pairs(
            multiply(towers.reviewers, tables.query_rating),
            multiply(towers.reviewed, tables.candidate_rating),
            towers.customer_bias,
            towers.product_bias,
            tf.gather(q.offsets(towers.customers), towers.customer_of_review),
            tf.gather(c.offsets(towers.products), towers.candidate_of_review),
        )


class OrderEncoder(HistoryEncoder):
    """Towers whose retrieval reads the last products of a customer alone, and whose rating reads whole histories.

    Retrieval has two tables of its own, what a product says when it is read and what it is when it is asked for, in
    the Dr retrieval dimensions.
    """

    def __init__(
        self, fitted: FittedReviews, recipe: Recipe, customer_ids: Iterable[object], product_ids: Iterable[object]
    ) -> None:
        super().__init__(fitted, recipe, customer_ids, product_ids)
        self.fitted, self.dims, self.rates = fitted, recipe.retrieval_dims, "rating" in recipe.tasks
        self.apart = recipe.negatives != "full"  # whether products may not be among the candidates
        self.order = RecentBag(recipe, len(fitted.products))

    def encode(self, columns: StepColumns) -> Encoded:
        """Let the last products before each review ask for its product."""
        nothing = tf.zeros_like(columns["reviews"].value)
        pairs, penalty = Pairs(*[nothing] * 6), tf.constant(0.0)
        if self.rates:
            tables = self.tables(columns["towers"])
            pairs, penalty = self.pairs(columns["towers"], tables), tables.penalty
        if "order" not in columns:
            return Encoded(nothing, nothing, nothing, pairs, penalty)
        asked: OrderColumns = columns["order"]
        queries, candidates = self.order(asked.recent) * asked.kept, take(self.order.asked, asked.candidates)
        products = take(self.order.asked, asked.products) if self.apart else candidates
        return Encoded(queries, tf.gather(products, asked.place), candidates, pairs, penalty)

    def retrieval_queries(self, rows: Rows) -> Tensor:
        """Return the vectors [n, Dr] of customer rows [n] after the last product that each of them reviewed."""
        end = self.fitted.timelines.offsets[rows + 1]
        return self.order(recent_columns(self.fitted, rows, end, RECENT_PRODUCTS))

    def retrieval_bases(self, rows: Rows) -> Tensor:
        """Return zeros [n, Dr]: to retrieval a customer is its last products."""
        return tf.zeros([len(rows), self.dims])

    def retrieval_candidates(self, rows: Rows) -> Tensor:
        """Return the vectors [n, Dr] of product rows [n] that retrieval asks for."""
        return take(self.order.asked, rows)

    @property
    def retrieval_bags(self) -> Floats:
        """What a product of a history says to retrieval, [N + 1, Dr]."""
        bags: Floats = self.order.read.numpy()
        return bags

    @property
    def recent_weights(self) -> Floats:
        """What a product of a history weighs by how many came after it, [L]."""
        weights: Floats = np.exp(self.order.log_weight.numpy())
        return weights
