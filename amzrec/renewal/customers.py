"""The vectors of customers whose reviews changed, computed as fold-in computes them, many at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Ints, Lists, Rows, offsets_of
from amzrec.parallel import ahead
from amzrec.renewal.ledger import Ledger
from amzrec.store.vectors import Vectors

AT_ONCE = 1 << 16  # reviews whose vectors are added up at a time


class Pasts(NamedTuple):
    """The fitted reviews of some customers, one list each, the latest last."""

    customers: Rows  # [n]
    products: Lists  # [n] lists
    stars: Floats  # [h] beside their items


def grown_rows(table: Array, rows: int) -> Array:
    """Return a copy of a table with so many rows; the rows behind its last one are copies of row 0, the unknown one."""
    more = np.repeat(table[:1], rows - len(table), axis=0)
    return np.concatenate([table, more])


def customer_tables(vectors: Vectors, ledger: Ledger) -> dict[str, Floats]:
    """Return query_base, retrieval_query and rating_query with the reviews of the ledger folded in.

    Rows of customers whose reviews did not change stay as they are; a new customer begins as the unknown one. What a
    product adds to a history (`history_bag`, `history_residual`, `product_bias`) is as it was learned; a new product
    adds nothing. See Recommender.fold_in, which gives the same for one customer.
    """
    rows = len(ledger.products)
    names = ("query_base", "retrieval_query", "rating_query")
    tables = {name: grown_rows(getattr(vectors, name), rows) for name in names}
    for customers, (retrieval, rating) in ahead(
        lambda past: (past.customers, folded(vectors, past)), pasts_of(vectors, ledger)
    ):
        tables["retrieval_query"][customers] = retrieval
        tables["rating_query"][customers] = rating
    return tables


def pasts_of(vectors: Vectors, ledger: Ledger) -> Iterator[Pasts]:
    """Yield the customers that changed, in blocks of AT_ONCE reviews, or of one customer."""
    slots = ledger.products.slots(ledger.touched)
    owner = np.repeat(np.arange(len(ledger.touched)), ledger.products.lengths[ledger.touched])
    fitted = np.isin(ledger.entries.part[slots], vectors.head.fit_tags)
    slots, offsets = slots[fitted], offsets_of(np.bincount(owner[fitted], minlength=len(ledger.touched)))
    start = 0
    while start < len(ledger.touched):
        stop = max(int(np.searchsorted(offsets, offsets[start] + AT_ONCE, side="right")) - 1, start + 1)
        part = slots[offsets[start] : offsets[stop]]
        lists = Lists(offsets[start : stop + 1] - offsets[start], ledger.entries.product[part])
        yield Pasts(ledger.touched[start:stop], lists, ledger.entries.stars[part])
        start = stop


def folded(vectors: Vectors, past: Pasts) -> tuple[Floats, Floats]:
    """Return the retrieval queries [n, Dr + 1] and rating queries [n, K + 2] of customers with these histories."""
    head, before = vectors.head, base_rows(past.customers, len(vectors.query_base))
    owner, lengths, dims = past.products.owners, past.products.lengths, head.retrieval_dims
    new = past.products.items >= len(vectors.history_bag)
    product = np.where(new, 0, past.products.items)
    rated = ~np.isnan(past.stars)
    beyond = np.where(rated, past.stars.astype(np.float64) - (head.mean or 0.0), 0.0)
    bias = np.bincount(owner, beyond, len(lengths)) / (np.bincount(owner, rated, len(lengths)) + head.bias_shrinkage)
    residual = np.where(rated, beyond - vectors.product_bias[product] - bias[owner], 0.0)
    residual[new] = 0
    bags, said = vectors.history_bag[product], vectors.history_residual[product]
    bags[new] = 0
    said *= residual[:, None].astype(np.float32)
    said += bags
    x = vectors.query_base[before] + sums(said, past.products) / np.sqrt(lengths + 1)[:, None]
    if vectors.recent_weights is not None:
        weight = weight_by_age(vectors.recent_weights, past.products)
        norm = np.sqrt(np.bincount(owner, np.square(weight), len(lengths)) + 0.5)
        recent = sums(bags[:, :dims] * weight[:, None].astype(np.float32), past.products) / norm[:, None]
        x[:, :dims] = vectors.query_base[before, :dims] + recent
    stored = vectors.rating_query[before].astype(np.float64)
    additive = stored[:, -1] + head.bias_weight * (bias - stored[:, -2])
    retrieval = np.column_stack([x[:, :dims] / head.temperature, np.ones(len(x))])
    rating = np.column_stack([x[:, head.rating_start :], bias, additive])
    return retrieval.astype(np.float32), rating.astype(np.float32)


def base_rows(customers: Rows, known: int) -> Ints:
    """Return the rows that customers [n] start from: their own, or 0, the unknown one, for new ones."""
    return np.where(customers < known, customers, 0).astype(np.int64)


def sums(values: Floats, lists: Lists) -> Doubles:
    """Add up values [h, d], which lie beside the items of n lists, by list: [n, d]; 0 for an empty list."""
    total = np.zeros((len(lists), values.shape[1]))
    filled = np.flatnonzero(lists.lengths)
    if len(filled):
        total[filled] = np.add.reduceat(values, lists.offsets[filled], axis=0)
    return total


def weight_by_age(weights: Floats, lists: Lists) -> Doubles:
    """Weigh the items [h] of lists by how many come after them in their list; 0 beyond the last weight."""
    age = np.repeat(lists.offsets[1:], lists.lengths) - 1 - np.arange(len(lists.items))
    known = age < len(weights)
    weighed: Doubles = np.where(known, np.asarray(weights)[np.where(known, age, 0)], 0.0).astype(np.float64)
    return weighed
