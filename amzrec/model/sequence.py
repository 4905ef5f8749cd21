"""The last products of a customer as a bag that fades."""

from __future__ import annotations

import numpy as np

from amzrec.config import Recipe
from amzrec.features.columns import RecentColumns
from amzrec.features.recent import RECENT_PRODUCTS
from amzrec.model.keras2 import Tensor
from amzrec.model.sparse import take
from amzrec.model.towers import tf, tf_keras


class RecentBag(tf_keras.layers.Layer):  # type: ignore[misc]
    """The last products as a bag in which each weighs by how many came after it: Σ w[age] · vector / √(Σ w² + ½)."""

    FADE = 0.8  # of the weight per product that came after, before training

    def __init__(self, recipe: Recipe, size: int) -> None:
        """`size` is N + 1, the number of product rows."""
        super().__init__(name="recent")
        start, init = np.log(self.FADE) * np.arange(RECENT_PRODUCTS), tf_keras.initializers
        self.log_weight = self.add_weight(name="log_weight", shape=start.shape, initializer=init.Constant(start))
        shape = size, recipe.retrieval_dims
        self.read, self.asked = (
            self.add_weight(name=name, shape=shape, initializer=init.RandomNormal(stddev=0.05, seed=recipe.seed + seed))
            for seed, name in enumerate(("read", "asked"), 30)
        )

    def call(self, columns: RecentColumns) -> Tensor:
        """Add up what the last products of n customers say, [n, Dr]; a customer without any products has zeros."""
        weight = tf.exp(tf.gather(self.log_weight, columns.age)) * tf.cast(columns.present, tf.float32)  # [n, L]
        vectors = take(self.read, tf.reshape(columns.products, [-1]))
        vectors = tf.reshape(vectors, [-1, columns.products.shape[1], self.read.shape[1]])
        scale = tf.math.rsqrt(tf.reduce_sum(tf.square(weight), 1, keepdims=True) + 0.5)
        return tf.linalg.matvec(vectors, weight, transpose_a=True) * scale
