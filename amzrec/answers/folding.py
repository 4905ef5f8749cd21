"""Fold-in: the vectors of customers from the reviews that they have, as the towers compute them, without training."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Ints, Lists, Rows
from amzrec.store.vectors import Vectors


@dataclasses.dataclass(frozen=True)
class Pasts:
    """The h reviews that the queries of n customers are computed from, one list each, the latest last."""

    products: Lists  # [n] lists of product rows
    stars: Floats | Doubles  # [h] beside their items, NaN where none were given
    weight: Floats | Doubles  # [h] what each counts; a review counts 1

    @property
    def product(self) -> Rows:
        """The products [h] of all."""
        return self.products.items

    @cached_property
    def owner(self) -> Ints:
        """The customer [h] of each, a position among the n."""
        return self.products.owners

    def added_up(self, values: Array) -> Doubles:
        """Add up values [h] by customer, [n]."""
        total: Doubles = np.bincount(self.owner, values, len(self.products)).astype(np.float64, copy=False)
        return total


def sums(values: Array, lists: Lists) -> Doubles:
    """Add up values [h, d], which lie beside the items of n lists, by list: [n, d]; 0 for an empty list."""
    total = np.zeros((len(lists), values.shape[1]))
    filled = np.flatnonzero(lists.lengths)
    if len(filled):
        total[filled] = np.add.reduceat(values, lists.offsets[filled], axis=0)
    return total


def biases(vectors: Vectors, pasts: Pasts) -> Doubles:
    """Compute by how many stars each of n customers gives more than the mean, shrunk."""
    head, rated = vectors.head, ~np.isnan(pasts.stars)
    weight = np.where(rated, pasts.weight, 0.0)
    beyond = np.where(rated, pasts.stars - (head.mean or 0.0), 0.0)
    return pasts.added_up(weight * beyond) / (pasts.added_up(weight) + head.bias_shrinkage)


def said(vectors: Vectors, pasts: Pasts, bias: Doubles) -> Doubles:
    """Compute what each review adds to the vector of its customer, [h, D]; `bias` [n] is that of the customers.

    (bag + residual · residual vector) · weight / √(Σ weights + 1), and in a run that reads the last products alone, for
    retrieval, w[age] · bag / √(Σ w² + ½). A product that the vectors do not have adds nothing, and nothing is added in
    the dimensions of attention, which reads products together: see `attended`.
    """
    v, owner, lists = vectors, pasts.owner, pasts.products
    there = lists.items < len(v.history_bag)
    product = lists.items if there.all() else np.where(there, lists.items, 0)
    expected = (v.head.mean or 0.0) + v.product_bias[product] + bias[owner]
    residual = np.where(there & ~np.isnan(pasts.stars), pasts.stars - expected, 0.0)
    bags = v.history_bag[product].astype(np.float64)
    bags[~there] = 0
    found = bags + residual[:, None] * v.history_residual[product]
    found *= (pasts.weight / np.sqrt(pasts.added_up(pasts.weight) + 1)[owner])[:, None]
    if v.recent_weights is not None:
        dims, by_age = v.head.retrieval_dims, weight_by_age(v.recent_weights, lists) * pasts.weight
        norm = np.sqrt(pasts.added_up(np.square(by_age)) + 0.5)
        found[:, :dims] = bags[:, :dims] * (by_age / norm[owner])[:, None]
    found[:, attention_dims(v)] = 0
    return found


def attention_dims(vectors: Vectors) -> slice:
    """Return the dimensions of a customer's vector that attention reads: the last of those that retrieve, or none."""
    width = vectors.attention.width if vectors.attention else 0
    return slice(vectors.head.retrieval_dims - width, vectors.head.retrieval_dims)


def attended(vectors: Vectors, products: Lists) -> Floats:
    """Read the last products of n customers, in the order of their lists, through the attention of a run: [n, d]."""
    if vectors.attention is None:
        return np.zeros((len(products), 0), np.float32)
    return vectors.attention.read(vectors.history_bag[:, attention_dims(vectors)], products)


def weight_by_age(weights: Array, lists: Lists) -> Doubles:
    """Weigh the items [h] of lists by how many come after them in their list; 0 beyond the last weight."""
    age = np.repeat(lists.offsets[1:], lists.lengths) - 1 - np.arange(len(lists.items))
    known = age < len(weights)
    weighed: Doubles = np.where(known, np.asarray(weights)[np.where(known, age, 0)], 0.0).astype(np.float64)
    return weighed


def folded(vectors: Vectors, customers: Ints | Rows, pasts: Pasts) -> tuple[Floats, Floats]:
    """Compute the retrieval queries [n, Dr + 1] and rating queries [n, K + 2] of customers with these pasts.

    x = base + (Σ bags + Σ residual · residual vectors) / √(n + 1) over the n reviews of a customer (Koren 2008, SVD++,
    eq. 15, with residuals beside the clicks): what the towers compute, beside what attention reads. `customers` [n] are
    rows; one that the vectors do not have begins as row 0, the unknown one. Attention reads a product as a whole,
    whatever it weighs.
    """
    head, row = vectors.head, np.where(np.less(customers, len(vectors.query_base)), customers, 0)
    bias = biases(vectors, pasts)
    x = vectors.query_base[row] + sums(said(vectors, pasts, bias), pasts.products)
    x[:, attention_dims(vectors)] += attended(vectors, pasts.products)
    before = vectors.rating_query[row].astype(np.float64)  # with the bias of the fitted reviews alone
    additive = before[:, -1] + head.bias_weight * (bias - before[:, -2])
    retrieval = np.column_stack([x[:, : head.retrieval_dims] / head.temperature, np.ones(len(x))])
    rating = np.column_stack([x[:, head.rating_start :], bias, additive])
    return retrieval.astype(np.float32), rating.astype(np.float32)
