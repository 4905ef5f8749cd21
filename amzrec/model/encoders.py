"""Both towers together: from the columns of a batch to the vectors that the losses compare."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from amzrec.arrays import Floats, Rows
from amzrec.config import Recipe
from amzrec.features.columns import HistoryColumns, IdColumns
from amzrec.features.fitted import Fitted
from amzrec.features.steps import LAST, recent_columns, row_columns
from amzrec.model.head import Pairs
from amzrec.model.sequence import RecentBag, RecentEncoder
from amzrec.model.sparse import multiply, overlapping_columns, squares
from amzrec.model.towers import HistoryTower, IdTower, Tensor, tf


class Encoded(NamedTuple):
    """A batch as the losses see it: no vector of a review knows that review."""

    queries: Tensor  # [V, Dr] query vectors of the retrieval loss, see RetrievalColumns.own_query
    positives: Tensor  # [B, Dr] the reviews' products
    candidates: Tensor  # [M, Dr] the products of the softmax, with all of their histories
    pairs: Pairs  # [B] for the rating
    penalty: Tensor  # scalar


class IdEncoder(tf.Module):  # type: ignore[misc]
    """Two towers of ids; both tasks read all dimensions."""

    def __init__(self, fitted: Fitted, recipe: Recipe, customer_ids: Any, product_ids: Any) -> None:
        super().__init__()
        self.split = recipe.retrieval_dims, recipe.rating_start
        self.query_tower = IdTower(fitted.customers, customer_ids, recipe, "query")
        self.candidate_tower = IdTower(fitted.products, product_ids, recipe, "candidate")

    def encode(self, columns: dict[str, Any]) -> Encoded:
        """Look the ids up."""
        towers: IdColumns = columns["towers"]
        x, y = self.query_tower.ids(towers.customer), self.candidate_tower.ids(towers.product)
        nothing = tf.zeros_like(columns["reviews"].value)
        pairs = Pairs(x, y, nothing, nothing, nothing, nothing)
        return Encoded(x, y, self.candidate_tower.ids(towers.candidates), pairs, 0.0)

    def queries(self, rows: Rows) -> Tensor:
        """Customer vectors [n, D] of rows [n], as they are answered from."""
        return self.query_tower.vectors(rows, self.candidate_tower)

    def retrieval_queries(self, rows: Rows) -> Tensor:
        """Customer vectors [n, Dr] of rows [n] for retrieval, as they are answered from."""
        return self.queries(rows)[:, : self.split[0]]

    def retrieval_bases(self, rows: Rows) -> Tensor:
        """What retrieval_queries [n, Dr] of rows [n] are before their histories."""
        return self.query_tower.base(rows)[:, : self.split[0]]

    @property
    def recent_weights(self) -> Floats:
        """What a product of the history weighs by how many came after it, [L]; empty where all weigh the same."""
        return np.zeros(0, np.float32)

    def candidates(self, rows: Rows) -> Tensor:
        """Product vectors [n, D] of rows [n], as they are answered from."""
        return self.candidate_tower.vectors(rows, self.query_tower)


class HistoryEncoder(IdEncoder):
    """Two towers that read each other's histories; the tasks have dimensions of their own beside shared ones."""

    def __init__(self, fitted: Fitted, recipe: Recipe, customer_ids: Any, product_ids: Any) -> None:
        tf.Module.__init__(self)
        self.query_tower = HistoryTower(fitted.customers, customer_ids, recipe, "query")
        self.candidate_tower = HistoryTower(fitted.products, product_ids, recipe, "candidate")
        self.split = recipe.retrieval_dims, recipe.rating_start

    def encode(self, columns: dict[str, Any]) -> Encoded:
        """Make one table of each side, and take all vectors of the batch from the two by sparse products."""
        towers: HistoryColumns = columns["towers"]
        q, c, customers, products = self.query_tower, self.candidate_tower, towers.customers, towers.products
        words, nobody = q.words(customers), q.embedding[:1]
        bases = [q.ids(customers.vector_row) + words, nobody + words, nobody]  # known, by history alone, not at all
        asking = tf.concat([*bases, q.sums(towers.customer_sums, c), *c.entries(products.rows)], 0)
        catalogue = c.ids(products.vector_row) + c.words(products)
        offered = tf.concat([catalogue, c.sums(towers.product_sums, q), *q.entries(customers.rows)], 0)
        (asking_retrieval, asking_rating), (offered_retrieval, offered_rating) = (
            overlapping_columns(table, *self.split) for table in (asking, offered)
        )
        pairs = Pairs(
            multiply(towers.x, asking_rating),
            multiply(towers.y, offered_rating),
            towers.customer_bias,
            towers.product_bias,
            tf.gather(q.offsets(customers), towers.customer),
            tf.gather(c.offsets(products), towers.product),
        )
        penalty = squares(asking, towers.customer_penalty) + squares(offered, towers.product_penalty)
        penalty += squares(q.word_offsets(customers), towers.customer_word_penalty)
        penalty += squares(c.word_offsets(products), towers.product_word_penalty)
        return Encoded(
            multiply(towers.queries, asking_retrieval),
            multiply(towers.y, offered_retrieval),
            multiply(towers.candidates, offered_retrieval),
            pairs,
            penalty,
        )


class SequenceEncoder(HistoryEncoder):
    """Towers with histories, and the order of a customer's last products."""

    def __init__(self, fitted: Fitted, recipe: Recipe, customer_ids: Any, product_ids: Any) -> None:
        super().__init__(fitted, recipe, customer_ids, product_ids)
        self.fitted, self.recent, self.last = fitted, RecentEncoder(recipe), LAST[recipe.history]

    def encode(self, columns: dict[str, Any]) -> Encoded:
        """Add what the last products before each review say."""
        encoded = super().encode(columns)
        retrieval, rating = overlapping_columns(self.recent(columns["recent"], self.candidate_tower.bag), *self.split)
        pairs = encoded.pairs._replace(x=encoded.pairs.x + rating)
        return encoded._replace(queries=encoded.queries + retrieval, pairs=pairs)

    def latest(self, rows: Rows) -> Tensor:
        """What the last products of all say of customers [n], [n, D]."""
        end, known = self.fitted.order.offsets[rows + 1], np.ones(len(rows), np.float32)
        columns = recent_columns(self.fitted, rows, end, known, self.last)
        return self.recent(columns, self.candidate_tower.bag)

    def queries(self, rows: Rows) -> Tensor:
        """See IdEncoder.queries: the last products of all."""
        return super().queries(rows) + self.latest(rows)


class RecentBagEncoder(SequenceEncoder):
    """Towers whose retrieval reads the last products of a customer alone, and whose rating reads all of them."""

    def __init__(self, fitted: Fitted, recipe: Recipe, customer_ids: Any, product_ids: Any) -> None:
        super().__init__(fitted, recipe, customer_ids, product_ids)
        self.recent = RecentBag(recipe)

    def encode(self, columns: dict[str, Any]) -> Encoded:
        """Let the last products before each review ask for it."""
        encoded = HistoryEncoder.encode(self, columns)
        recent = self.recent(columns["recent"], self.candidate_tower.bag)
        return encoded._replace(queries=encoded.queries + recent[:, : self.split[0]])

    def queries(self, rows: Rows) -> Tensor:
        """See IdEncoder.queries; the rating reads whole histories."""
        return HistoryEncoder.queries(self, rows)

    def retrieval_queries(self, rows: Rows) -> Tensor:
        """See IdEncoder.retrieval_queries; retrieval reads attributes and the last products."""
        return self.retrieval_bases(rows) + self.latest(rows)[:, : self.split[0]]

    def retrieval_bases(self, rows: Rows) -> Tensor:
        """See IdEncoder.retrieval_bases; no customer has an embedding of its own."""
        tower = self.query_tower
        return (tower.words(row_columns(tower.profiles, rows)) + tower.embedding[:1])[:, : self.split[0]]

    @property
    def recent_weights(self) -> Floats:
        """See IdEncoder.recent_weights."""
        weights: Floats = np.exp(self.recent.log_weight.numpy())
        return weights
