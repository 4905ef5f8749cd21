"""The two kinds of towers: StringLookup and embedding, and one that adds what histories and attributes say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np

from amzrec.arrays import Rows
from amzrec.config import Recipe
from amzrec.features.columns import HistorySums, RowColumns
from amzrec.features.profiles import Profiles
from amzrec.features.steps import row_columns, whole_histories
from amzrec.model.keras2 import Tensor, import_tensorflow
from amzrec.model.sparse import LARGE, multiply, take

tf: Any = import_tensorflow()
tf_keras: Any = tf.keras
SECOND_SEED = 1000  # added to the seed of what a second head reads


class IdTower(tf_keras.layers.Layer):  # type: ignore[misc]
    """The tower of customers, or of products, as the reference systems have it: StringLookup and embedding.

    Row 0 is the unknown id. In training the tower is given rows, since `prepare` did the lookup once for all epochs;
    `lookup` does it for strings.
    """

    def __init__(self, profiles: Profiles, ids: Iterable[object], recipe: Recipe, name: str) -> None:
        """`ids` are the customer or product ids by row, `name` is what the weights are called: query or candidate."""
        super().__init__(name=name)
        self.profiles, self._ids = profiles, ids
        self._seed = recipe.seed + len(name)
        self._uniform = tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=self._seed)
        self._widths = [recipe.dim, *([recipe.second_head] if recipe.second_head else [])]
        self.embedding = self.vector_table("embedding", profiles.vectors, self._uniform)

    def table(self, name: str, rows: int, columns: int, initializer: Callable[..., Tensor]) -> Tensor:
        """Make a trained table [rows, columns]."""
        return self.add_weight(name=f"{self.name}_{name}", shape=(rows, columns), initializer=initializer)

    def vector_table(self, name: str, rows: int, initializer: Any) -> Tensor:
        """Make a trained table of vectors [rows, D], in which what a second head reads changes nothing of the rest."""
        if len(self._widths) == 1:
            return self.table(name, rows, self._widths[0], initializer)
        apart = type(initializer)(**initializer.get_config() | {"seed": self._seed + SECOND_SEED})

        def start(shape: Any, dtype: Any = None, **options: Any) -> Tensor:
            parts = zip(self._widths, (initializer, apart), strict=True)
            return tf.concat([each((rows, width), dtype=dtype) for width, each in parts], axis=1)

        return self.table(name, rows, sum(self._widths), start)

    @cached_property
    def lookup(self) -> Callable[[Tensor], Tensor]:
        """Make the StringLookup of this tower's ids, when strings are given for the first time."""
        layer: Callable[[Tensor], Tensor] = tf_keras.layers.StringLookup(
            vocabulary=[str(name) for name in self._ids][1:], oov_token=""
        )
        return layer

    def rows_of(self, ids_or_rows: Tensor) -> Rows:
        """Turn ids [n] into rows, 0 for an unknown id; rows [n] are returned as they are. Outside of graphs only."""
        ids_or_rows = tf.convert_to_tensor(ids_or_rows)
        rows = self.lookup(ids_or_rows) if ids_or_rows.dtype == tf.string else ids_or_rows
        return np.asarray(rows.numpy(), np.int32)

    def ids(self, vector_row: Tensor) -> Tensor:
        """Return the embeddings [n, D] at these rows [n] of the embedding table."""
        return take(self.embedding, vector_row)

    @property
    def unknown(self) -> Tensor:
        """Return the embedding [1, D] of the unknown row.

        The gradient of a slice is dense: in a small table all embeddings go on moving as those of earlier steps moved
        them. In a LARGE one those of the step alone move, as in all other tables.
        """
        return self.embedding[:1] if self.profiles.vectors <= LARGE else take(self.embedding, tf.constant([0]))

    def vectors(self, rows: Rows, partner: IdTower) -> Tensor:
        """Return the vectors [n, D] of rows [n] from which questions are answered; `partner` is the other tower."""
        return self.base(rows)

    def base(self, rows: Rows) -> Tensor:
        """Return the part of the vectors [n, D] of rows [n] that is not their histories."""
        return self.ids(self.profiles.vector_row[rows])

    def shrunk_bias(self, rows: Rows) -> Tensor:
        """Return the shrunk mean [n] of the stars of rows [n] that the rating head reads, in model units."""
        return tf.zeros([len(rows)])

    def learned_offset(self, rows: Rows) -> Tensor:
        """Return what the tower has learned to add to the stars of rows [n] by each head, in model units, [n, H]."""
        return tf.zeros([len(rows), 1])


class HistoryTower(IdTower):
    """A tower whose vectors also hold the reviews and the attributes of a customer or product.

    vector = embedding + attributes + [Σ bag + Σ (residual − own bias) · residual vector] / √(n + 1), which is SVD++
    (Koren 2008, eq. 15) on both sides. The tables `bag` and `residual` hold what the rows of this tower add to the
    histories of the *other* tower: `bag` for any review, `residual` times what the stars say beyond the biases. An
    offset is what is added to the predicted stars: of a row (`offset`) and of an attribute (`attribute_offset`).
    """

    def __init__(self, profiles: Profiles, ids: Iterable[object], recipe: Recipe, name: str) -> None:
        super().__init__(profiles, ids, recipe, name)
        size, attributes = profiles.vectors, max(profiles.attributes.number, 1)
        zeros = tf_keras.initializers.Zeros()
        small = tf_keras.initializers.RandomNormal(stddev=0.02, seed=self._seed + 1)
        self.offset = self.table("offset", size, recipe.heads, zeros)
        self.bag = self.vector_table("bag", size, small)
        self.residual = self.vector_table("residual", size, small)
        self.attribute = self.vector_table("attribute", attributes, small)
        self.attribute_offset = self.table("attribute_offset", attributes, recipe.heads, zeros)

    def attribute_vectors(self, columns: RowColumns) -> Tensor:
        """Return what features and title words add to the vectors of n rows, [n, D]."""
        return multiply(columns.attribute_matrix, take(self.attribute, columns.attributes))

    def history_sums(self, columns: HistorySums, partner: HistoryTower) -> Tensor:
        """Return the history sums, then the levels, of n rows: [2n, D]. `features.leave_one_out` says what they are."""
        return multiply(columns.sums, tf.concat(partner.history_entries(columns.partners), 0))

    def history_entries(self, rows: Tensor) -> list[Tensor]:
        """Return what reviews add to histories of the other tower: bags and residual vectors, [m, D] each.

        `rows` [m] are those of the tables, that is vector rows.
        """
        return [take(self.bag, rows), take(self.residual, rows)]

    def offsets(self, columns: RowColumns) -> Tensor:
        """Return the offsets [n, H] of n rows, those of their attributes included."""
        of_attributes = multiply(columns.attribute_matrix, self.attribute_offsets(columns))
        return take(self.offset, columns.vector_row) + of_attributes

    def attribute_offsets(self, columns: RowColumns) -> Tensor:
        """Return the offsets [a, H] of the attributes that n rows have."""
        return take(self.attribute_offset, columns.attributes)

    def offset_of_attributes(self, rows: Rows) -> Tensor:
        """Return the sums [n, H] of the offsets of the attributes of rows [n], without those of the rows themselves."""
        columns = row_columns(self.profiles, rows)
        return multiply(columns.attribute_matrix, self.attribute_offsets(columns))

    def vectors(self, rows: Rows, partner: IdTower) -> Tensor:
        """Return the vectors [n, D] of rows [n] with their whole histories; `partner` is the other tower."""
        sums, matrix = whole_histories(self.profiles, rows)
        return multiply(matrix, tf.concat([self.base(rows), self.history_sums(sums, partner)], 0))

    def base(self, rows: Rows) -> Tensor:
        """Return the embeddings and attributes [n, D] of rows [n]: their vectors without their histories."""
        columns = row_columns(self.profiles, rows)
        return self.ids(columns.vector_row) + self.attribute_vectors(columns)

    def shrunk_bias(self, rows: Rows) -> Tensor:
        """Return the shrunk mean [n] of the stars of rows [n], in model units."""
        return tf.constant(self.profiles.biases.all[rows])

    def learned_offset(self, rows: Rows) -> Tensor:
        """Return the offsets [n, H] of rows [n] and of their attributes, in model units."""
        return self.offsets(row_columns(self.profiles, rows))
