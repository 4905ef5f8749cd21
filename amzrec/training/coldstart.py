"""Vectors of products without reviews: what their features and title words say, learned from products with reviews."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.features.profiles import Profiles
from amzrec.features.ridge import Sum, mean_of, said_by_attributes, worth_of
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import sparse_matmul

tf: Any = import_tensorflow()

Array = npt.NDArray[Any]


def vectors_from_attributes(side: Profiles, vectors: Array, ridge: float) -> npt.NDArray[np.float32]:
    """[R + 1, n] what the attributes of every row say its vector [R + 1, n] is; the mean for a row without any.

    See `features.ridge`; the sums are TensorFlow's sparse products, which keep no row for each attribute of each row.
    """
    ridge = max(ridge, 1.0)
    worth = worth_of(side.counts, ridge)
    if side.attributes.number == 0:
        return np.tile(mean_of(vectors, worth), (len(vectors), 1))
    lengths = side.attributes.lists.lengths
    row, attribute = side.attributes.lists.owners, side.attributes.lists.items.astype(np.int64)
    weight = (1 / np.sqrt(lengths + 1.0))[row].astype(np.float32)
    order = np.argsort(attribute, kind="stable")
    there = tf.constant(row), tf.constant(attribute), tf.constant(weight)
    back = tf.constant(attribute[order]), tf.constant(row[order]), tf.constant(weight[order])

    def summed(entries: tuple[Any, Any, Any], rows: int) -> Sum:
        def product(table: Array) -> Array:
            found: Array = sparse_matmul(*entries, tf.constant(table, tf.float32), rows).numpy()
            return found

        return product

    return said_by_attributes(summed(there, len(vectors)), summed(back, side.attributes.number), vectors, worth, ridge)
