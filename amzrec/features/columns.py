"""What a training step reads, as numpy arrays: of B reviews, of their U distinct customers, of M candidates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from amzrec.arrays import Bools, Floats, Ints, Rows, offsets_of
from amzrec.features.sparse import SparseMatrix

# The columns of a step by part: "reviews" ReviewColumns, and where they are used "towers" IdColumns or HistoryColumns,
# "order" OrderColumns and "retrieval" RetrievalColumns, and "weights" ShareWeights where replicas share a step. On the
# device each array is a tensor.
StepColumns = dict[str, Any]


class ReviewColumns(NamedTuple):
    """What is known of each review of the step, whatever the towers are."""

    value: Floats  # [B] stars in model units, 0 where there are none
    rated: Floats  # [B] 1 where there are stars, else 0
    trend_without_self: Floats  # [B] how much kinder the period of the review was, worked out without the review


class ShareWeights(NamedTuple):
    """What the losses of a share of a step weigh in those of the whole step: its means are over fewer reviews."""

    rating: Floats  # [1]
    retrieval: Floats  # [1]
    penalty: Floats  # [1] 1, or 0 where the share stands for none


class RowColumns(NamedTuple):
    """What is known of n distinct customers, or of n distinct products, apart from their histories."""

    rows: Rows  # [n] customer or product rows
    vector_row: Rows  # [n] the row of the trained tables that each one reads
    attribute_matrix: SparseMatrix  # [n, a] sums the attributes of each row, each weighing 1 / √(their number + 1)
    attributes: Ints  # [a] the attributes, features and title words, that the columns of the matrix stand for


class HistorySums(NamedTuple):
    """The sums over the histories of n rows of one side, in which h rows of the other side stand (the partners)."""

    partners: Rows  # [h] rows of the trained tables of the other side
    sums: SparseMatrix  # [2n, 2h] n history sums, then n levels, of h bags, then h residual vectors of the partners


class HistoryColumns(NamedTuple):
    """What towers with histories read; `features.leave_one_out` tells the rows of the tables that matrices multiply."""

    customers: RowColumns  # of the U distinct customers
    products: RowColumns  # of the P products whose vectors are needed: the M candidates, or those of the reviews
    customer_sums: HistorySums
    product_sums: HistorySums
    queries: SparseMatrix | tuple[()]  # [V, table] query vectors of retrieval: customers without their reviews in the
    # batch; empty where retrieval does not read these towers
    reviewers: SparseMatrix  # [B, table] the customer of each review, without that review
    reviewed: SparseMatrix  # [B, table] the product of each review, without that review
    candidates: SparseMatrix | tuple[()]  # [M, table] the candidates with all of their reviews; empty as `queries` is
    customer_of_review: Ints  # [B] positions among the distinct customers
    candidate_of_review: Ints  # [B] positions among the products
    customer_bias: Floats  # [B] shrunk bias of the review's customer without the review, in model units
    product_bias: Floats  # [B] shrunk bias of the review's product without the review, in model units
    customer_penalty: Floats  # [table] weight of the squared length of each row of the customers' table
    product_penalty: Floats  # [table] weight of the squared length of each row of the products' table
    customer_attribute_penalty: Floats  # [a] weight of the squared offset of each attribute of the customers
    product_attribute_penalty: Floats  # [a] weight of the squared offset of each attribute of the products


class IdColumns(NamedTuple):
    """What towers of ids alone read: rows of their embedding tables."""

    customer: Rows  # [B] of each review's customer: row 0 where the customer is masked
    product: Rows  # [B] of each review's product
    candidates: Rows  # [M] of the candidates


class RecentColumns(NamedTuple):
    """The last products that each review's customer reviewed before that review, in the order of time."""

    products: Ints  # [B, L] product rows from the left, where `present`
    present: Bools  # [B, L] whether there is a product: a customer may have fewer
    age: Ints  # [B, L] how many products came after each one, before the review


class OrderColumns(NamedTuple):
    """What retrieval reads where it reads the last products alone."""

    recent: RecentColumns  # without what this step drops
    kept: Floats  # [B, Dr] what each number of a query vector is multiplied by: 0 where this step drops it
    candidates: Rows  # [M] product rows
    products: Rows  # [P] distinct product rows, those of the reviews among them
    place: Ints  # [B] position of each review's product among them


class PerQuery(NamedTuple):
    """Candidates that are listed for each of Q queries, E in all; those of query q are splits[q] .. splits[q + 1]."""

    splits: Rows  # [Q + 1] int32, which TensorFlow leaves with the host on a GPU: there slices are cut
    query: Ints  # [E] the query that each one is listed for, ascending
    candidate: Ints  # [E] its position among the candidates

    @classmethod
    def of(cls, query: Ints, candidate: Ints, queries: int) -> PerQuery:
        """List `candidate` [E] for `query` [E], which ascends; `queries` is Q."""
        splits = offsets_of(np.bincount(query, minlength=queries)).astype(np.int32)
        return cls(splits, query.astype(np.int64), candidate.astype(np.int64))


class QueryVotes(NamedTuple):
    """What the histories of Q queries vote for, E votes in all."""

    listed: PerQuery
    weight: Floats  # [E]
    highest: Floats  # [Q] the highest vote of each query, 0 without any
    of_target: Floats  # [B] votes for the product of each review, without what the review itself adds to the memory


class SharedQueries(NamedTuple):
    """How the B reviews of a step share V query vectors, each of which is asked once for each period of its reviews."""

    vector_of_review: SparseMatrix  # [B, V] takes the query vector that each review reads
    vector_of_query: Ints  # [Q] the query vector that is asked
    order: Ints  # [B] the reviews of the step, query by query: the order of `positives`


class OwnBias(NamedTuple):
    """What the softmax adds to the logit of each review's product, where not all of them are candidates."""

    rows: Rows  # [B] product rows
    bias: Floats  # [B] what is added because of how candidates were chosen


class RetrievalColumns(NamedTuple):
    """What the retrieval loss reads: Q queries, each one query vector asked in one period."""

    shared: SharedQueries | tuple[()]  # empty where each review asks with a vector of its own: Q = B, in their order
    period: Rows  # [Q] the period in which each query is asked
    positives: PerQuery  # B in all: the products that a query should find
    target: Ints  # [B] position of each review's product among the candidates
    log_share_without_self: Floats  # [B] log share of the product in its period, worked out without the review
    weight: Floats  # [B] what each review counts in the mean
    rows: Rows  # [M] product rows of the candidates
    bias: Floats  # [M] what is added to the logits of the candidates because of how they were chosen
    hidden: PerQuery | tuple[()]  # candidates that are no negatives of a query, as its customer reviewed them; or empty
    votes: QueryVotes | tuple[()] = ()  # what a memory adds to the scores; empty where none is learned with
    own: OwnBias | tuple[()] = ()  # empty where the product of each review is a candidate
