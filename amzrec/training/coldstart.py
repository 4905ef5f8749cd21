"""Vectors of products without reviews: what their features and title words say, learned from products with reviews."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.features.profiles import Profiles
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import sparse_matmul

tf: Any = import_tensorflow()

Array = npt.NDArray[Any]
STEPS, ENOUGH = 100, 1e-5  # of conjugate gradients: most of them, and the relative rest at which they end


def vectors_from_attributes(side: Profiles, vectors: Array, ridge: float) -> npt.NDArray[np.float32]:
    """[R + 1, n] what the attributes of every row say its vector [R + 1, n] is; the mean for a row without any.

    A ridge regression of the rows with reviews on their attributes, each 1 / √(1 + attributes of the row): a row of c
    reviews weighs c · ridge / (c + ridge), so that none counts for more than `ridge` reviews, and `ridge` is what holds
    the attributes down. Gantner et al. 2010, Learning attribute-to-feature mappings for cold-start recommendations.
    """
    ridge = max(ridge, 1.0)
    worth = side.counts * ridge / (side.counts + ridge)
    mean = np.average(vectors, axis=0, weights=worth) if worth.any() else vectors.mean(axis=0)
    if side.attributes.number == 0:
        return np.tile(mean, (len(vectors), 1)).astype(np.float32)
    lengths = np.diff(side.attributes.lists.offsets)
    row, attribute = np.repeat(np.arange(len(lengths)), lengths), side.attributes.lists.items.astype(np.int64)
    weight = (1 / np.sqrt(lengths + 1.0))[row].astype(np.float32)
    order = np.argsort(attribute, kind="stable")
    there = tf.constant(row), tf.constant(attribute), tf.constant(weight)
    back = tf.constant(attribute[order]), tf.constant(row[order]), tf.constant(weight[order])
    times = tf.constant(worth[:, None], tf.float32)

    def said(table: Any) -> Any:
        return sparse_matmul(*there, table, len(vectors))

    def normal(table: Any) -> Any:
        return sparse_matmul(*back, times * said(table), side.attributes.number) + ridge * table

    rest = sparse_matmul(*back, times * tf.constant(vectors - mean, tf.float32), side.attributes.number)
    found, toward = tf.zeros_like(rest), rest
    size = first = tf.reduce_sum(tf.square(rest), axis=0)
    for _ in range(STEPS):
        if float(tf.reduce_max(tf.math.divide_no_nan(size, first))) < ENOUGH**2:
            break
        image = normal(toward)
        step = tf.math.divide_no_nan(size, tf.reduce_sum(toward * image, axis=0))
        found, rest, before = found + step * toward, rest - step * image, size
        size = tf.reduce_sum(tf.square(rest), axis=0)
        toward = rest + tf.math.divide_no_nan(size, before) * toward
    return np.asarray(said(found) + mean, np.float32)
