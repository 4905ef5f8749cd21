"""Both towers together: from the columns of a step to the vectors that the losses compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Floats, Rows
from amzrec.config import Recipe
from amzrec.features.columns import HistoryColumns, IdColumns, StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.steps import RECENT_PRODUCTS, recent_columns, row_columns
from amzrec.model.head import Pairs
from amzrec.model.keras2 import Tensor
from amzrec.model.sequence import RecentBag, RecentEncoder
from amzrec.model.sparse import multiply, overlapping_columns, squares
from amzrec.model.towers import HistoryTower, IdTower, tf


class Encoded(NamedTuple):
    """The vectors of a step that the losses read; what stands for a review is made without that review."""

    queries: Tensor  # [V, Dr] query vectors of retrieval; SharedQueries says which one a review reads, else V = B
    positives: Tensor  # [B, Dr] the product of each review
    candidates: Tensor  # [M, Dr] the products of the softmax, with all of their histories
    pairs: Pairs  # of B customers and products, for the rating
    penalty: Tensor  # scalar, added to the loss


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
        """Make one table for the customers and one for the products; all vectors are sparse matrices times these two.

        `features.leave_one_out` lists the rows of the tables.
        """
        towers: HistoryColumns = columns["towers"]
        q, c, customers, products = self.query_tower, self.candidate_tower, towers.customers, towers.products
        attributes, nobody = q.attribute_vectors(customers), q.embedding[:1]
        bases = [q.ids(customers.vector_row) + attributes, nobody + attributes, nobody]  # known, by history, not at all
        query_table = tf.concat([*bases, q.history_sums(towers.customer_sums, c), *c.history_entries(products.rows)], 0)
        base = c.ids(products.vector_row) + c.attribute_vectors(products)
        product_sums = c.history_sums(towers.product_sums, q)
        candidate_table = tf.concat([base, product_sums, *q.history_entries(customers.rows)], 0)
        (query_retrieval, query_rating), (candidate_retrieval, candidate_rating) = (
            overlapping_columns(table, *self.split) for table in (query_table, candidate_table)
        )
        pairs = Pairs(
            multiply(towers.reviewers, query_rating),
            multiply(towers.reviewed, candidate_rating),
            towers.customer_bias,
            towers.product_bias,
            tf.gather(q.offsets(customers), towers.customer_of_review),
            tf.gather(c.offsets(products), towers.candidate_of_review),
        )
        penalty = squares(query_table, towers.customer_penalty) + squares(candidate_table, towers.product_penalty)
        penalty += squares(q.attribute_offsets(customers), towers.customer_attribute_penalty)
        penalty += squares(c.attribute_offsets(products), towers.product_attribute_penalty)
        return Encoded(
            multiply(towers.queries, query_retrieval),
            multiply(towers.reviewed, candidate_retrieval),
            multiply(towers.candidates, candidate_retrieval),
            pairs,
            penalty,
        )


class SequenceEncoder(HistoryEncoder):
    """Towers with histories whose customer vectors also read the last products in their order."""

    def __init__(
        self, fitted: FittedReviews, recipe: Recipe, customer_ids: Iterable[object], product_ids: Iterable[object]
    ) -> None:
        super().__init__(fitted, recipe, customer_ids, product_ids)
        self.fitted, self.recent, self.last = fitted, RecentEncoder(recipe), RECENT_PRODUCTS[recipe.history]

    def encode(self, columns: StepColumns) -> Encoded:
        """Add to the customer of each review what the last products before that review say."""
        encoded = super().encode(columns)
        retrieval, rating = overlapping_columns(self.recent(columns["recent"], self.candidate_tower.bag), *self.split)
        pairs = encoded.pairs._replace(x=encoded.pairs.x + rating)
        return encoded._replace(queries=encoded.queries + retrieval, pairs=pairs)

    def queries(self, rows: Rows) -> Tensor:
        """Return the vectors [n, D] of customer rows [n] after the last product that each of them reviewed."""
        return super().queries(rows) + self.latest(rows)

    def latest(self, rows: Rows) -> Tensor:
        """Return what the last products say of customer rows [n], [n, D]."""
        end, known = self.fitted.timelines.offsets[rows + 1], np.ones(len(rows), np.float32)
        columns = recent_columns(self.fitted, rows, end, known, self.last)
        return self.recent(columns, self.candidate_tower.bag)


class RecentBagEncoder(SequenceEncoder):
    """Towers whose retrieval reads the last products of a customer alone, and whose rating reads all of them."""

    def __init__(
        self, fitted: FittedReviews, recipe: Recipe, customer_ids: Iterable[object], product_ids: Iterable[object]
    ) -> None:
        super().__init__(fitted, recipe, customer_ids, product_ids)
        self.recent = RecentBag(recipe)

    def encode(self, columns: StepColumns) -> Encoded:
        """Let the last products before each review ask for its product."""
        encoded = HistoryEncoder.encode(self, columns)
        recent = self.recent(columns["recent"], self.candidate_tower.bag)
        return encoded._replace(queries=encoded.queries + recent[:, : self.split[0]])

    def queries(self, rows: Rows) -> Tensor:
        """Return the vectors [n, D] of customer rows [n] from which stars are answered."""
        return HistoryEncoder.queries(self, rows)

    def retrieval_queries(self, rows: Rows) -> Tensor:
        """Return the vectors [n, Dr] of customer rows [n]: their attributes and their last products."""
        return self.retrieval_bases(rows) + self.latest(rows)[:, : self.split[0]]

    def retrieval_bases(self, rows: Rows) -> Tensor:
        """Return the attributes [n, Dr] of customer rows [n]; no customer has an embedding of its own."""
        tower = self.query_tower
        return (tower.attribute_vectors(row_columns(tower.profiles, rows)) + tower.embedding[:1])[:, : self.split[0]]

    @property
    def recent_weights(self) -> Floats:
        """What a product of a history weighs by how many came after it, [L]."""
        weights: Floats = np.exp(self.recent.log_weight.numpy())
        return weights
