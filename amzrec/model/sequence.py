"""What the last products of a customer, in their order, add to its vector."""

from __future__ import annotations

import numpy as np

from amzrec.config import Recipe
from amzrec.features.columns import RecentColumns
from amzrec.features.steps import RECENT_PRODUCTS
from amzrec.model.keras2 import Tensor
from amzrec.model.sparse import take
from amzrec.model.towers import tf, tf_keras


class RecentEncoder(tf_keras.layers.Layer):  # type: ignore[misc]
    """A GRU over the vectors of the last products, in the order of time; untrained it adds nothing.

    Cho et al. 2014 (eq. 5 to 8), as Hidasi et al. 2016 (GRU4Rec) use it for sessions.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="recent")
        init = tf_keras.initializers
        kernel, recurrent = init.GlorotUniform(seed=recipe.seed + 20), init.Orthogonal(seed=recipe.seed + 21)
        self.gru = tf_keras.layers.GRU(recipe.dim, kernel_initializer=kernel, recurrent_initializer=recurrent)
        self.out = tf_keras.layers.Dense(recipe.dim, use_bias=False, kernel_initializer=init.Zeros())
        self.gru.build((None, RECENT_PRODUCTS[recipe.history], recipe.dim))
        self.out.build((None, recipe.dim))

    def call(self, columns: RecentColumns, table: Tensor) -> Tensor:
        """Encode the last products of n customers, whose vectors are rows of `table` [N + 1, D]: [n, D].

        A customer without any products adds nothing.
        """
        state = self.gru(tf.gather(table, columns.products), mask=columns.present)
        return self.out(state * tf.cast(columns.present[:, :1], tf.float32))


class RecentBag(tf_keras.layers.Layer):  # type: ignore[misc]
    """The last products as a bag in which each weighs by how many came after it: Σ w[age] · vector / √(Σ w² + ½)."""

    FADE = 0.8  # of the weight per product that came after, before training

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="recent")
        start = np.log(self.FADE) * np.arange(RECENT_PRODUCTS[recipe.history])
        constant = tf_keras.initializers.Constant(start)
        self.log_weight = self.add_weight(name="log_weight", shape=start.shape, initializer=constant)

    def call(self, columns: RecentColumns, table: Tensor) -> Tensor:
        """Add up the last products of n customers, whose vectors are rows of `table` [N + 1, D]: [n, D].

        A customer without any products has zeros.
        """
        weight = tf.exp(tf.gather(self.log_weight, columns.age)) * tf.cast(columns.present, tf.float32)  # [n, L]
        vectors = take(table, tf.reshape(columns.products, [-1]))
        vectors = tf.reshape(vectors, [-1, columns.products.shape[1], table.shape[1]])
        scale = tf.math.rsqrt(tf.reduce_sum(tf.square(weight), 1, keepdims=True) + 0.5)
        return tf.linalg.matvec(vectors, weight, transpose_a=True) * scale
