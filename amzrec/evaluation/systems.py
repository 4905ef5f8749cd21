"""What can be judged: anything that predicts stars or scores products, such as the model of a run."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from amzrec.answers.ranks import CUT, InnerProducts, Scores, rank_scores
from amzrec.answers.recommender import Recommender
from amzrec.arrays import Array, Doubles, Floats, Ints
from amzrec.evaluation.testset import Queries, TestSet
from amzrec.store.memory import Votes
from amzrec.store.times import period_of


@dataclasses.dataclass(frozen=True)
class Scored:
    """The scores of all candidates for the queries of a test set; queries that ask the same share a row."""

    scores: Scores  # [U, M]
    row_of: Ints  # [Q] which row answers each query


class System(Protocol):
    """A model, a baseline, a model in training, or a peer in a benchmark."""

    @property
    def name(self) -> str:
        """The key of its figures in metrics.json."""

    def stars(self, testset: TestSet) -> Doubles | None:
        """Predict the stars of each review [T], not clipped to the scale; None where the system does not rate."""

    def moments(self, testset: TestSet) -> Array | None:
        """Number the moments [T] of the reviews that its scores differ by; None where they do not depend on time."""

    def scores(self, testset: TestSet, queries: Queries) -> Scored | None:
        """Score all candidates for each query; None where the system does not retrieve."""


@dataclasses.dataclass(frozen=True)
class Ranked:
    """How a system ranks the product of each review of a test set, and what it recommends to each customer.

    Ranks count the other candidates that score at least as much; MISS where the product is no candidate.
    """

    above: Ints  # [T] among all candidates, at the moment of the review
    above_unseen: Ints  # [T] among those that the customer has not seen, at the moment of the review
    in_list: Ints  # [T] among those unseen ones, at the moment of the customer's first review: one list per customer
    top: Ints  # [G, k] columns of the best unseen candidates at that moment, -1 where there are fewer


def rank_system(testset: TestSet, system: System, lists: bool = True) -> Ranked | None:
    """Rank the products of a test set by the scores of a system; None where the system does not retrieve.

    Without `lists` no list per customer is made: `in_list` is `above_unseen`, and `top` is empty.
    """
    queries = testset.queries(system.moments(testset), together=lists)
    scored = system.scores(testset, queries)
    if scored is None:
        return None
    scores, row_of = scored.scores, scored.row_of
    if testset.context is not None:
        scores, row_of = testset.context.mask(scores, row_of, queries.value)
    ranks = rank_scores(scores, row_of, queries.positives, queries.seen, CUT if lists else 0)
    own = ranks.above_unseen[queries.slot]
    in_list = own if queries.first_slot is None else ranks.above_unseen[queries.first_slot]
    return Ranked(ranks.above[queries.slot], own, in_list, ranks.top[queries.first])


@dataclasses.dataclass(frozen=True)
class RunSystem:
    """The model of a run, asked as of the date of each review, or as of now, which is what `recommend` answers."""

    recommender: Recommender
    name: str = "model"
    now: bool = False
    moment: bool = True  # whether what the customer gave near the time of a review moves its stars

    def stars(self, testset: TestSet) -> Doubles | None:
        """See System.stars."""
        if not testset.scale:
            return None
        recommender, reviews = self.recommender, testset.reviews
        if self.now:
            queries = np.asarray(recommender.vectors.rating_query[reviews.customer])
            return recommender.rate(queries, reviews.product, clip=False).astype(np.float64)
        queries = recommender.dated_queries(reviews.customer, reviews.timestamp)
        stars = recommender.rate(queries, reviews.product, clip=False).astype(np.float64)
        return stars + recommender.moved(reviews.customer, reviews.timestamp) if self.moment else stars

    def moments(self, testset: TestSet) -> Array | None:
        """See System.moments."""
        return None if self.now or self.recommender.vectors.context is None else self.periods(testset)

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """See System.scores; customers without a history share one row for each period."""
        vectors = self.recommender.vectors
        dated = None if self.now else vectors.context
        table = None if dated is None else dated[:, testset.candidates]  # [T, M]
        customers = vectors.retrieval_query[testset.customers]  # [G, Dr + 1]
        return by_vectors(customers, self.recommender.candidate_vectors, queries, table, self.votes(testset))

    def votes(self, testset: TestSet) -> CustomerVotes | None:
        """Add up what the histories of the test set's customers vote for."""
        votes = self.recommender.votes([self.recommender.history(row) for row in testset.customers])
        return None if votes is None else CustomerVotes(votes, testset.column)

    def periods(self, testset: TestSet) -> Array:
        """The period [T] of each review."""
        edges, times = self.recommender.vectors.context_edges, testset.reviews.timestamp
        return np.zeros(len(times), np.int32) if edges is None else period_of(edges, times)


@dataclasses.dataclass(frozen=True)
class CustomerVotes:
    """What the histories of G customers vote for, and in which column each product row stands (-1: in none)."""

    votes: Votes
    columns: Ints  # [N + 1]

    @property
    def voter(self) -> Ints:
        """A number for each customer [G]: -1 for those whose history votes for nothing, who are all alike."""
        return np.where(self.votes.products.lengths > 0, np.arange(len(self.votes)), -1)


@dataclasses.dataclass(frozen=True)
class WithVotes:
    """Scores to which votes are added: see Scores of answers/ranks.py."""

    scores: Scores
    votes: CustomerVotes
    customer: Ints  # [U] whose votes each row has

    @property
    def shape(self) -> tuple[int, int]:
        """(U, M)."""
        return self.scores.shape

    def fill(self, start: int, stop: int, out: Floats) -> None:
        """See Scores.fill."""
        self.scores.fill(start, stop, out)
        self.votes.votes.take(self.customer[start:stop]).add(out, self.votes.columns)


def by_vectors(
    customers: Floats,
    candidates: Floats,
    queries: Queries,
    table: Floats | None = None,
    votes: CustomerVotes | None = None,
) -> Scored:
    """Score by inner product: vectors [G, d] of the test set's customers, [M, d] of its candidates.

    table[moment] [M] is added where there is a table, and the votes of the customers where there are votes. Customers
    with the same vector at the same moment, and without votes, share a row.
    """
    vectors = np.ascontiguousarray(customers, np.float32)
    if len(queries) > len(vectors):  # with one query each they are in order
        vectors = vectors[queries.owner]  # [Q, d]
    voter = np.full(len(customers), -1) if votes is None else votes.voter
    others = np.stack([queries.moment, voter[queries.owner]], axis=1).astype(np.int32)
    key = np.concatenate([vectors.view(np.int32), others], axis=1)
    whole = key.view(np.dtype((np.void, key.shape[1] * key.itemsize)))[:, 0]
    _, unique, row_of = np.unique(whole, return_index=True, return_inverse=True)
    scores: Scores = InnerProducts(vectors[unique], candidates, table, queries.moment[unique])
    if votes is not None:
        scores = WithVotes(scores, votes, queries.owner[unique])
    return Scored(scores, row_of)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A system of another library, given by what it answered for one test set."""

    name: str
    rated: Doubles | None = None  # [T] stars of the reviews, not clipped
    customers: Floats | None = None  # [G, d] vectors of the test set's customers
    candidates: Floats | None = None  # [M, d] vectors of its candidates

    def stars(self, testset: TestSet) -> Doubles | None:
        """See System.stars."""
        return self.rated

    def moments(self, testset: TestSet) -> Array | None:
        """See System.moments."""
        return None

    def scores(self, testset: TestSet, queries: Queries) -> Scored | None:
        """See System.scores."""
        if self.customers is None or self.candidates is None:
            return None
        return by_vectors(self.customers, self.candidates, queries)
