"""An encoder of the order: what the last products of a customer add to its vector."""

from __future__ import annotations

from typing import Any

from amzrec.config import Recipe
from amzrec.features.columns import RecentColumns
from amzrec.features.steps import LAST
from amzrec.model.towers import Tensor, tf, tf_keras


class RecentEncoder(tf_keras.layers.Layer):  # type: ignore[misc]
    """A GRU over the vectors of the last products, in order; it starts at adding nothing.

    Cho et al. 2014 (eq. 5 to 8), as Hidasi et al. 2016 (GRU4Rec) use it for sessions.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="recent")
        init: Any = tf_keras.initializers
        kernel, recurrent = init.GlorotUniform(seed=recipe.seed + 20), init.Orthogonal(seed=recipe.seed + 21)
        self.gru = tf_keras.layers.GRU(recipe.dim, kernel_initializer=kernel, recurrent_initializer=recurrent)
        self.out = tf_keras.layers.Dense(recipe.dim, use_bias=False, kernel_initializer=init.Zeros())
        self.gru.build((None, LAST, recipe.dim))
        self.out.build((None, recipe.dim))

    def call(self, columns: RecentColumns, table: Tensor) -> Tensor:
        """[n, D] from the rows of `table` [N + 1, D] of the last products; a customer without any adds nothing."""
        state = self.gru(tf.gather(table, columns.products), mask=columns.there)
        return self.out(state * tf.cast(columns.there[:, :1], tf.float32))
