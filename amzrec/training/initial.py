"""Where the retrieval vectors of products start: directions in which customers' products differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.features.fitted import FittedReviews
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import sparse_matmul

tf: Any = import_tensorflow()

MOST_CUSTOMERS = 100_000  # that the directions are found from: bounds time and memory, the products are few enough
LENGTH = 0.3  # of a started vector
SPARE, ROUNDS = 8, 6  # directions beside those asked for, and passes over the reviews (Halko et al. 2011, alg. 4.4)


def initial_product_vectors(fit: FittedReviews, width: int, least: int, seed: int) -> npt.NDArray[np.float32] | None:
    """[R + 1, width] vectors of length .3 of products with `least` reviews, zeros for others; None: too few reviews.

    The right singular vectors of customers × products, each review weighing 1 / √(reviews of the customer · reviews of
    the product), without the first, which is popularity. Customers with fewer than `least` reviews are left out.
    """
    rng = np.random.default_rng([seed, 4])
    customers = np.flatnonzero(fit.customers.counts >= max(least, 2))
    products = np.flatnonzero(fit.products.counts >= max(least, 2))
    if min(len(customers), len(products)) <= width + 1:
        return None
    if len(customers) > MOST_CUSTOMERS:
        customers = np.sort(rng.choice(customers, MOST_CUSTOMERS, replace=False))
    places = [np.full(len(side.counts), -1) for side in (fit.customers, fit.products)]
    for place, rows in zip(places, (customers, products), strict=True):
        place[rows] = np.arange(len(rows))
    customer, product = places[0][fit.customer], places[1][fit.product]
    kept = (customer >= 0) & (product >= 0)
    customer, product = customer[kept], product[kept]
    counts = [
        np.maximum(np.bincount(*pair), 1) for pair in ((customer, None, len(customers)), (product, None, len(products)))
    ]
    weight = (1 / np.sqrt(counts[0][customer] * counts[1][product])).astype(np.float32)

    def summed(by: npt.NDArray[Any], over: npt.NDArray[Any], rows: int) -> Any:
        order = np.argsort(by, kind="stable")
        parts = tf.constant(by[order], tf.int64), tf.constant(over[order], tf.int64), tf.constant(weight[order])
        return lambda table: sparse_matmul(parts[0], parts[1], parts[2], table, rows)

    per_customer, per_product = summed(customer, product, len(customers)), summed(product, customer, len(products))
    popular = tf.constant(np.sqrt(counts[1] / counts[1].sum())[:, None], tf.float32)  # the first, its value is 1

    def orthonormal(table: Any) -> Any:
        return tf.linalg.qr(table - tf.matmul(popular, tf.matmul(popular, table, transpose_a=True))).q

    columns = min(width + SPARE, len(customers), len(products) - 1)
    basis = orthonormal(tf.constant(rng.normal(size=(len(products), columns)), tf.float32))
    for _ in range(ROUNDS):
        basis = orthonormal(per_product(per_customer(basis)))
    image = per_customer(basis)
    _, turned = tf.linalg.eigh(tf.matmul(image, image, transpose_a=True))  # ascending
    directions = tf.matmul(basis, turned).numpy()[:, ::-1][:, :width]
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    out = np.zeros((len(fit.products.counts), width), np.float32)
    out[products] = LENGTH * directions
    return out
