"""What a training step reads, as numpy arrays: B reviews, U distinct customers among them, M candidates, Q queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from amzrec.arrays import Bools, Floats, Ints, Rows, offsets_of
from amzrec.features.sparse import SparseMatrix


class ReviewColumns(NamedTuple):
    """What is true of each review, whatever the towers are."""

    value: Floats  # [B] stars in model units, 0 where there are none
    rated: Floats  # [B] 1 where there are stars
    own_trend: Floats  # [B] how much kinder its period was, the review left out


class RowColumns(NamedTuple):
    """What one side's n distinct rows are, before their histories."""

    rows: Rows  # [n]
    vector_row: Rows  # [n] whose embedding each one reads
    words: SparseMatrix  # [n, a] features and title words, each weighing 1 / √(attributes of the row + 1)
    attributes: Ints  # [a] which attributes these are


class HistorySums(NamedTuple):
    """What the histories of n rows add up to: h rows of the other side stand in them."""

    partners: Rows  # [h]
    sums: SparseMatrix  # [2n, 2h] history sums, then levels, over bags, then residual vectors of the partners


class HistoryColumns(NamedTuple):
    """What towers with histories need of a batch; a table is that of `leave_one_out`."""

    customers: RowColumns
    products: RowColumns  # the M candidates
    customer_sums: HistorySums
    product_sums: HistorySums
    queries: SparseMatrix  # [U, table] of customers without their reviews; no rows where each review has its own query
    x: SparseMatrix  # [B, table] of the reviews' customers
    y: SparseMatrix  # [B, table] of the reviews' products
    candidates: SparseMatrix  # [M, table] of the candidates with all of their histories
    customer: Ints  # [B] which of the distinct customers
    product: Ints  # [B] which of the candidates
    customer_bias: Floats  # [B] shrunk, in model units, the review left out
    product_bias: Floats  # [B]
    customer_penalty: Floats  # [table] weight of the squared length of each row of the customers' table
    product_penalty: Floats  # [table]
    customer_word_penalty: Floats  # [a] weight of the squared bias of each attribute
    product_word_penalty: Floats  # [a]


class IdColumns(NamedTuple):
    """What towers of ids alone need of a batch."""

    customer: Rows  # [B] whose embedding each review's customer reads: row 0 for one that is masked
    product: Rows  # [B] whose embedding each review's product reads
    candidates: Rows  # [M]


class RecentColumns(NamedTuple):
    """The last products of each review's customer before the review, in order."""

    products: Ints  # [B, L]
    there: Bools  # [B, L] False beyond the last one
    age: Ints  # [B, L] how many came after each product, before the review


class PerQuery(NamedTuple):
    """Candidates that are listed for each query; those of query q stand from splits[q] to splits[q + 1]."""

    splits: Rows  # [Q + 1] int32, which TensorFlow leaves with the host on a GPU: there slices are cut
    query: Ints  # [E] which query each one is listed for, ascending
    place: Ints  # [E] which candidate it is

    @classmethod
    def of(cls, query: Ints, place: Ints, queries: int) -> PerQuery:
        """List candidates `place` [E] for queries `query` [E], ascending; there are so many queries."""
        splits = offsets_of(np.bincount(query, minlength=queries)).astype(np.int32)
        return cls(splits, query.astype(np.int64), place.astype(np.int64))


class RetrievalColumns(NamedTuple):
    """What the retrieval loss asks."""

    own_query: SparseMatrix  # [B, V] takes the query vector of each review, of V
    whose: Ints  # [Q] which of the query vectors is asked
    period: Rows  # [Q] period that it is asked in
    order: Ints  # [B] the reviews, query by query: the order of `positives`
    positives: PerQuery  # [B] in all: the products that a query should find
    place: Ints  # [B] where each review's product stands among the candidates
    own_log_share: Floats  # [B] log share of the product in its period, the review left out
    weight: Floats  # [B] what each review counts in the mean
    rows: Rows  # [M] the candidates
    bias: Floats  # [M] what the draw of the candidates adds to their logits
    hidden: PerQuery  # [E] in all: candidates that are no negatives of a query, such as its other positives
