"""The two kinds of towers: StringLookup + embedding, and one that adds what histories and attributes say."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from amzrec.arrays import Rows
from amzrec.config import Recipe
from amzrec.features.columns import HistorySums, RowColumns
from amzrec.features.profiles import Profiles
from amzrec.features.steps import row_columns, whole_histories
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import multiply, take

tf: Any = import_tensorflow()
tf_keras: Any = tf.keras
Tensor = Any


class IdTower(tf_keras.layers.Layer):  # type: ignore[misc]
    """StringLookup + embedding, as the reference systems have it. Row 0 is the unknown id.

    Training gives rows, since the lookup was done once, in `prepare`; `lookup` does it for strings.
    """

    def __init__(self, profiles: Profiles, ids: Any, recipe: Recipe, name: str) -> None:
        super().__init__(name=name)
        self.profiles, self._ids = profiles, ids
        self._seed = recipe.seed + len(name)
        self._uniform = tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=self._seed)
        self.embedding = self.table("embedding", len(profiles), recipe.dim, self._uniform)

    def table(self, name: str, rows: int, columns: int, start: Any) -> Tensor:
        """A trained table [rows, columns]."""
        return self.add_weight(name=f"{self.name}_{name}", shape=(rows, columns), initializer=start)

    @cached_property
    def lookup(self) -> Any:
        """The StringLookup of this side's ids, made when strings are first given."""
        return tf_keras.layers.StringLookup(vocabulary=[str(name) for name in self._ids][1:], oov_token="")

    def rows_of(self, asked: Any) -> Rows:
        """Rows [n] of rows or of ids, 0 for an unknown id; outside of graphs only."""
        asked = tf.convert_to_tensor(asked)
        rows = self.lookup(asked) if asked.dtype == tf.string else asked
        return np.asarray(rows.numpy(), np.int32)

    def ids(self, vector_row: Tensor) -> Tensor:
        """Embeddings [n, D]."""
        return take(self.embedding, vector_row)

    def vectors(self, rows: Rows, partner: IdTower) -> Tensor:
        """Vectors [n, D] of rows [n], as they are answered from; `partner` is the tower of the other side."""
        return self.base(rows)

    def base(self, rows: Rows) -> Tensor:
        """What the vectors [n, D] of rows [n] are before their histories."""
        return self.ids(self.profiles.vector_row[rows])

    def bias(self, rows: Rows) -> Tensor:
        """The shrunk bias [n] that the rating reads, in model units."""
        return tf.zeros([len(rows)])

    def offset_of(self, rows: Rows) -> Tensor:
        """The learned bias [n] of rows and of their attributes, in model units."""
        return tf.zeros([len(rows)])


class HistoryTower(IdTower):
    """vector = embedding + attributes + [Σ bag + Σ (residual − own bias) · residual vector] / √(n + 1).

    Koren 2008 (SVD++, eq. 15), made two-sided. The tower owns what its rows add to the histories of the *other* side:
    `bag`, and `residual`, which is weighed by what the stars said beyond the biases.
    """

    def __init__(self, profiles: Profiles, ids: Any, recipe: Recipe, name: str) -> None:
        super().__init__(profiles, ids, recipe, name)
        size, attributes, width = len(profiles), max(profiles.attributes.number, 1), recipe.dim
        zeros = tf_keras.initializers.Zeros()
        small = tf_keras.initializers.RandomNormal(stddev=0.02, seed=self._seed + 1)
        self.offset = self.table("offset", size, 1, zeros)
        self.bag = self.table("bag", size, width, small)
        self.residual = self.table("residual", size, width, small)
        self.attribute = self.table("attribute", attributes, width, small)
        self.attribute_offset = self.table("attribute_offset", attributes, 1, zeros)

    def words(self, columns: RowColumns) -> Tensor:
        """What features and title words add to vectors, [n, D]."""
        return multiply(columns.words, take(self.attribute, columns.attributes))

    def sums(self, columns: HistorySums, partner: HistoryTower) -> Tensor:
        """History sums, then levels, [2n, D]: see `features.leave_one_out`."""
        return multiply(columns.sums, tf.concat(partner.entries(columns.partners), 0))

    def entries(self, rows: Tensor) -> list[Tensor]:
        """What reviews of these rows [m] add to the histories of the other side: bags and residual vectors [m, D]."""
        return [take(self.bag, rows), take(self.residual, rows)]

    def offsets(self, columns: RowColumns) -> Tensor:
        """Learned biases [n] of the rows and of their attributes, beside the shrunk means."""
        words = multiply(columns.words, self.word_offsets(columns))
        return tf.squeeze(take(self.offset, columns.vector_row) + words, 1)

    def attribute_bias(self, rows: Rows) -> Tensor:
        """Learned bias [n] of the attributes of rows [n] alone, in model units."""
        columns = row_columns(self.profiles, rows)
        return multiply(columns.words, self.word_offsets(columns))[:, 0]

    def word_offsets(self, columns: RowColumns) -> Tensor:
        """Learned biases [a, 1] of the attributes."""
        return take(self.attribute_offset, columns.attributes)

    def vectors(self, rows: Rows, partner: IdTower) -> Tensor:
        """See IdTower.vectors."""
        sums, whole = whole_histories(self.profiles, rows)
        return multiply(whole, tf.concat([self.base(rows), self.sums(sums, partner)], 0))

    def base(self, rows: Rows) -> Tensor:
        """See IdTower.base."""
        columns = row_columns(self.profiles, rows)
        return self.ids(columns.vector_row) + self.words(columns)

    def bias(self, rows: Rows) -> Tensor:
        """See IdTower.bias."""
        return tf.constant(self.profiles.biases.all[rows])

    def offset_of(self, rows: Rows) -> Tensor:
        """See IdTower.offset_of."""
        return self.offsets(row_columns(self.profiles, rows))
