"""Encoders of the order: what the last products of a customer say."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.config import Recipe
from amzrec.features.columns import RecentColumns
from amzrec.features.steps import LAST
from amzrec.model.sparse import take
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
        self.gru.build((None, LAST[recipe.history], recipe.dim))
        self.out.build((None, recipe.dim))

    def call(self, columns: RecentColumns, table: Tensor) -> Tensor:
        """[n, D] from the rows of `table` [N + 1, D] of the last products; a customer without any adds nothing."""
        state = self.gru(tf.gather(table, columns.products), mask=columns.there)
        return self.out(state * tf.cast(columns.there[:, :1], tf.float32))


class RecentBag(tf_keras.layers.Layer):  # type: ignore[misc]
    """The last products as a bag in which each weighs by how many came after it: Σ w[age] · vector / √(Σ w² + ½)."""

    FADE = 0.8  # per product that came after, at the start

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="recent")
        start = np.log(self.FADE) * np.arange(LAST[recipe.history])
        self.log_weight = self.add_weight(
            name="log_weight", shape=start.shape, initializer=tf_keras.initializers.Constant(start)
        )

    def call(self, columns: RecentColumns, table: Tensor) -> Tensor:
        """[n, D] from the rows of `table` [N + 1, D] of the last products; a customer without any has zeros."""
        there = tf.cast(columns.there, tf.float32)
        weight = tf.exp(tf.gather(self.log_weight, columns.age)) * there  # [n, L]
        vectors = tf.reshape(
            take(table, tf.reshape(columns.products, [-1])), [-1, columns.products.shape[1], table.shape[1]]
        )
        summed = tf.linalg.matvec(vectors, weight, transpose_a=True)
        return summed * tf.math.rsqrt(tf.reduce_sum(tf.square(weight), 1, keepdims=True) + 0.5)
