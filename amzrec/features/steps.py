"""From the reviews of a step to the columns that the towers and the losses read."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from amzrec.arrays import Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.attributes import Attributes
from amzrec.features.candidates import Candidates, negatives_of
from amzrec.features.columns import (
    HistoryColumns,
    HistorySums,
    IdColumns,
    OwnBias,
    PerQuery,
    RetrievalColumns,
    ReviewColumns,
    RowColumns,
    SharedQueries,
    StepColumns,
)
from amzrec.features.fitted import FittedReviews
from amzrec.features.leave_one_out import ALL, LeaveOneOut, StepSide, Targets, sum_histories
from amzrec.features.profiles import Profiles
from amzrec.features.shares import WHOLE, Part, Share
from amzrec.features.sparse import SparseMatrix, entries_of, unique_in_order

SEED_STRIDE = 1_000_003  # apart lie the seeds of two trainings, so that the seeds of their steps do not meet
NO_CANDIDATE = -1
NOWHERE = np.zeros(0, np.int64)  # no positions


class UniformSource(Protocol):
    """A source of random numbers that are the same whenever and wherever they are drawn."""

    def __call__(self, seed: int, stream: int, number: int) -> Floats:
        """Draw `number` values between 0 and 1; the same seed and stream always give the same values."""


@dataclasses.dataclass(frozen=True)
class Masking:
    """Decides which customers a step treats as unknown, although they are known.

    Of the masked customers half keep their history and half have nothing. So the embedding of the unknown customer is
    trained, which learns what is popular, and the model learns to answer from a history alone.
    """

    share: float  # of the customers that are masked

    def bases(self, drawn: Floats, customer: Ints, customers: int) -> tuple[Ints, Floats]:
        """Choose the rows of the table that the vectors of customers [n] start from, by values drawn from 0 to 1 [n].

        `customer` [n] are positions among the U distinct `customers` of the step. The table begins with a base of each
        that is known, then one of each that has its history alone, then one of nobody: U + U + 1 rows. Returns the
        rows, and 0 for nobody and 1 for all others.
        """
        nobody = drawn < self.share / 2
        by_history = drawn < self.share
        base = np.where(nobody, 2 * customers, customer + np.where(by_history, customers, 0))
        return base, 1 - nobody.astype(np.float32)


class QueryVectors(NamedTuple):
    """The V query vectors of the retrieval loss: whose they are, and which one each review reads."""

    customer: Rows  # [V] customer rows
    of_review: Ints  # [B] position of each review's query vector
    shared: bool  # whether reviews share them; if not, review i reads vector i


class Steps:
    """Makes the columns of a step from the positions of its reviews; this is what all kinds of towers share."""

    def __init__(self, fitted: FittedReviews, recipe: Recipe, uniform: UniformSource) -> None:
        self.fitted, self.recipe, self.uniform = fitted, recipe, uniform
        self.masking, self.negatives = Masking(recipe.mask), negatives_of(fitted, recipe)
        active = np.maximum(fitted.customers.counts, 1).astype(np.float32)
        self.customer_weight = active**-recipe.equal_customers
        self.candidate_of_product = np.full(len(fitted.products), NO_CANDIDATE, np.int64)

    def columns(self, reviews: Ints, step: int, share: Share = WHOLE) -> StepColumns:
        """Make the columns of a step, or of a share of it, whose reviews stand at these positions [B].

        `step` is the number of the step, counted through all epochs from 0: it decides what is masked and dropped.
        """
        raise NotImplementedError

    def part_of(self, reviews: Ints, share: Share) -> Part:
        """Return which part of a step a share of it is."""
        if share.of == 1:
            return Part.whole(len(reviews))
        return Part.of(unique_in_order(self.fitted.customer[reviews])[1], share)

    def shared(self, columns: StepColumns, reviews: Ints, part: Part) -> StepColumns:
        """Return the columns of a part of a step with what its losses weigh; those of a whole step as they are."""
        if isinstance(part.reviews, slice):
            return columns
        weights = part.weights(self.recipe, self.review_columns(reviews), self.retrieval_weight(reviews))
        return columns | {"weights": weights}

    def retrieval_weight(self, reviews: Ints) -> Floats:
        """Return what each review [B] counts in the mean of the retrieval loss."""
        weight: Floats = self.customer_weight[self.fitted.customer[reviews]] * self.fitted.weight[reviews]
        return weight

    def seed(self, step: int) -> int:
        """Return the seed of what a step draws and drops for customers; that of products is one more."""
        return step * 2 + self.recipe.seed * SEED_STRIDE

    def review_columns(self, reviews: Ints) -> ReviewColumns:
        """Look up what is known of reviews [B], whatever the towers are."""
        fitted = self.fitted
        return ReviewColumns(fitted.value[reviews], fitted.rated[reviews], fitted.trend_without_self[reviews])

    def retrieval_columns(self, reviews: Ints, candidates: Candidates, vectors: QueryVectors) -> RetrievalColumns:
        """Make the queries of the retrieval loss: each query vector once for each period of its reviews."""
        fitted, periods = self.fitted, self.fitted.popularity.periods
        key, query = unique_in_order(vectors.of_review * periods + fitted.period[reviews])
        vector_of_query, order = key // periods, np.argsort(query, kind="stable")
        matrix = SparseMatrix.selection(vectors.of_review, len(vectors.customer))
        return RetrievalColumns(
            shared=SharedQueries(matrix, vector_of_query, order) if vectors.shared else (),
            period=(key % periods).astype(np.int32),
            positives=PerQuery.of(query[order], candidates.target[order], len(key)),
            target=candidates.target,
            log_share_without_self=fitted.log_share_without_self[reviews],
            weight=self.retrieval_weight(reviews),
            rows=candidates.rows,
            bias=candidates.bias,
            hidden=self.reviewed_candidates(vectors.customer[vector_of_query], candidates.rows),
            own=OwnBias(fitted.product[reviews], candidates.own.bias) if candidates.own else (),
        )

    def reviewed_candidates(self, customer: Rows, candidates: Rows) -> PerQuery | tuple[()]:
        """List the candidates that each query's customer [Q] reviewed; empty where the recipe masks no positives."""
        if not self.recipe.mask_positives:
            return ()
        partners = self.fitted.customers.histories.partners
        query, slot = entries_of(partners, customer)
        self.candidate_of_product[candidates] = np.arange(len(candidates))
        candidate = self.candidate_of_product[partners.items[slot]]
        self.candidate_of_product[candidates] = NO_CANDIDATE
        listed = candidate != NO_CANDIDATE
        return PerQuery.of(query[listed], candidate[listed], len(customer))


class IdSteps(Steps):
    """Makes the columns for towers of ids alone."""

    def columns(self, reviews: Ints, step: int, share: Share = WHOLE) -> StepColumns:
        """Make the columns of a step, as Steps.columns says."""
        fitted = self.fitted
        part = self.part_of(reviews, share)
        mine = reviews[part.reviews]
        customer, product = fitted.customer[mine], fitted.product[mine]
        candidates = self.negatives.of(fitted.product[reviews]).part(part.reviews)
        masked = self.uniform(self.seed(step), 1, len(reviews))[part.reviews] < self.recipe.mask
        towers = IdColumns(
            customer=fitted.customers.vector_row[np.where(masked, 0, customer)],
            product=fitted.products.vector_row[product],
            candidates=fitted.products.vector_row[candidates.rows],
        )
        columns: StepColumns = {"reviews": self.review_columns(mine), "towers": towers}
        if self.recipe.retrieval_weight > 0:
            vectors = QueryVectors(customer, np.arange(len(mine)), shared=False)
            columns["retrieval"] = self.retrieval_columns(mine, candidates, vectors)
        return self.shared(columns, reviews, part)


class HistorySteps(Steps):
    """Makes the columns for towers with histories."""

    def __init__(self, fitted: FittedReviews, recipe: Recipe, uniform: UniformSource) -> None:
        super().__init__(fitted, recipe, uniform)
        self.sides = fitted.customers, fitted.products
        self.rarity = [(1 + recipe.l2_rare / np.maximum(side.counts, 1)).astype(np.float32) for side in self.sides]
        self.ridges = [attribute_ridge(side, recipe.l2_rare) for side in self.sides]
        # one query vector for all reviews of a customer in a batch, without any of them: far fewer rows of logits
        self.query_per_customer = (
            "retrieval" in recipe.tasks and recipe.retrieval_loss == "softmax" and recipe.history == "bag"
        )

    def sides_of(self, reviews: Ints, candidates: Candidates, seed: int) -> tuple[StepSide, StepSide]:
        """Return the customers and the products of a step, and where its reviews stand in their histories."""
        fitted, dropout = self.fitted, self.recipe.history_dropout
        rows, row_of_review = unique_in_order(fitted.customer[reviews])
        slots = [side.histories.slot[reviews].astype(np.int64) for side in (fitted.customers, fitted.products)]
        budget = self.recipe.history_budget
        customers = StepSide(fitted.customers, rows, row_of_review, slots[0], seed, dropout, budget)
        products = StepSide(fitted.products, candidates.products, candidates.place, slots[1], seed + 1, dropout, budget)
        return customers, products

    def columns(self, reviews: Ints, step: int, share: Share = WHOLE) -> StepColumns:
        """Make the columns of a step, as Steps.columns says."""
        fitted, recipe, seed = self.fitted, self.recipe, self.seed(step)
        candidates = self.negatives.of(fitted.product[reviews])
        customers, products, part = self.parts_of(reviews, candidates, seed, share)
        mine, candidates = reviews[part.reviews], candidates.part(part.reviews)
        customer, rows, row_of_review = fitted.customer[mine], customers.rows, customers.row_of_review
        towers = self.tower_columns(mine, seed, part, customers, products, candidates)
        columns: StepColumns = {"reviews": self.review_columns(mine), "towers": towers}
        if recipe.retrieval_weight > 0:
            vectors = QueryVectors(customer, np.arange(len(mine)), shared=False)
            if self.query_per_customer:
                vectors = QueryVectors(rows, row_of_review, shared=True)
            columns["retrieval"] = self.retrieval_columns(mine, candidates, vectors)
        return self.shared(columns, reviews, part)

    def parts_of(
        self, reviews: Ints, candidates: Candidates, seed: int, share: Share
    ) -> tuple[StepSide, StepSide, Part]:
        """Return the sides of a share of a step, and which part of the step it is: of its customers, all products."""
        customers, products = self.sides_of(reviews, candidates, seed)
        part = Part.of(customers.row_of_review, share)
        if share.of == 1:
            return customers, products, part
        return customers.part(part.reviews, part.customers), products.part(part.reviews), part

    def tower_columns(
        self,
        reviews: Ints,
        seed: int,
        part: Part,
        customers: StepSide,
        products: StepSide,
        candidates: Candidates | None,
    ) -> HistoryColumns:
        """Make the columns of both towers, for the U distinct customers of (a part of) a step and its P products.

        The first of the products are the `candidates` of retrieval; None where only the rating reads the towers.
        """
        targets = Targets(self.fitted.value[reviews], self.fitted.rated[reviews])
        customer_sums, customer_size = sum_histories(customers, products)
        product_sums, product_size = sum_histories(products, customers)
        u, m, retrieve = len(customers), len(products), candidates is not None
        query = LeaveOneOut(customers, products, targets, customer_size, 2 * u + 1)
        candidate = LeaveOneOut(products, customers, targets, product_size, m)
        drawn = self.uniform(seed, 1, part.size)[part.reviews]
        base, known = self.masking.bases(drawn, customers.row_of_review, u)
        reviewers = query.without_own_review(base, known)
        queries: SparseMatrix | tuple[()] = reviewers if retrieve else ()
        if retrieve and self.query_per_customer:
            drawn = self.uniform(seed, 2, part.distinct)[part.customers]
            queries = query.without_any_review(*self.masking.bases(drawn, np.arange(u), u))
        row_parts = [
            row_columns(side.profiles, side.rows if side.among is None else side.among, side.place or ALL)
            for side in (customers, products)
        ]
        penalty = [self.row_penalty(side, number, part.size) for number, side in enumerate((customers, products))]
        return HistoryColumns(
            customers=row_parts[0],
            products=row_parts[1],
            customer_sums=customer_sums,
            product_sums=product_sums,
            queries=queries,
            reviewers=reviewers,
            reviewed=candidate.without_own_review(products.row_of_review, np.ones(len(reviews), np.float32)),
            candidates=candidate_matrix(candidate, candidates) if candidates else (),
            customer_of_review=customers.row_of_review,
            candidate_of_review=products.row_of_review,
            customer_bias=query.bias * known,
            product_bias=candidate.bias,
            customer_penalty=self.table_penalty(penalty[0], penalty[1], u + 1 + 2 * u),
            product_penalty=self.table_penalty(penalty[1], penalty[0], 2 * m),
            customer_attribute_penalty=self.attribute_penalty(customers, row_parts[0], 0, part.size),
            product_attribute_penalty=self.attribute_penalty(products, row_parts[1], 1, part.size),
        )

    def row_penalty(self, side: StepSide, number: int, size: int) -> Floats:
        """Weigh the squared vectors of the n rows of a side: by their share of the batch, and more with few reviews.

        `number` is 0 for customers and 1 for products, `size` how many reviews the batch has.
        """
        times = np.bincount(side.row_of_review, minlength=len(side)).astype(np.float32)
        return (times * self.rarity[number][side.rows] / size).astype(np.float32)

    def table_penalty(self, row_weight: Floats, partner_weight: Floats, between: int) -> Floats:
        """Weigh the squared rows of the table of a side, from the weights of its rows [n] and its partners' [m].

        The table has n bases, then `between` rows without a penalty, then m bags and m residual vectors.
        """
        recipe = self.recipe
        nothing = np.zeros(between, np.float32)
        by_history = recipe.l2_history * partner_weight
        return np.concatenate([recipe.l2 * row_weight, nothing, by_history, by_history])

    def attribute_penalty(self, side: StepSide, columns: RowColumns, number: int, size: int) -> Floats:
        """Weigh the squared offset of each attribute [a]: a ridge of `l2_rare`, spread over the reviews that have it.

        `number` is 0 for customers and 1 for products, `size` how many reviews the batch has. The weight is 0 where no
        rating is learned.
        """
        if not self.ridges[number].any() or "rating" not in self.recipe.tasks:
            return np.zeros(len(columns.attributes), np.float32)
        times = np.bincount(side.row_of_review, minlength=len(side))
        row, attribute = columns.attribute_matrix.indices.T
        count = np.bincount(attribute, times[row], len(columns.attributes))
        return (self.ridges[number][columns.attributes] * count / size).astype(np.float32)


def candidate_matrix(products: LeaveOneOut, candidates: Candidates) -> SparseMatrix:
    """Return the matrix [M, table] of the vectors of the candidates, with their whole histories."""
    if candidates.own is None:
        return products.with_all_reviews()
    return products.with_all_reviews(len(candidates.rows) - 1).with_empty_row()


def row_columns(side: Profiles, rows: Rows, part: slice = ALL) -> RowColumns:
    """Look up what is known of rows [n] of one side, or of a part of them, apart from their histories."""
    return RowColumns(rows[part], side.vector_row[rows[part]], *attribute_columns(side.attributes, rows, part))


def attribute_columns(attributes: Attributes, rows: Rows, part: slice = ALL) -> tuple[SparseMatrix, Ints]:
    """Return the matrix [n, a] that sums the attributes of rows [n], and the attributes [a] of its columns.

    Of a part of the rows it has the rows alone, and the columns of all: replicas then move the same attributes. Where
    no row has any, the matrix has one column that is empty.
    """
    height = len(rows[part])
    owner, slot = entries_of(attributes.lists, rows) if attributes.number else (NOWHERE, NOWHERE)
    if len(slot) == 0:
        nothing = np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
        return SparseMatrix(*nothing, np.array([height, 1], np.int64)), np.zeros(1, np.int64)
    number = attributes.lists.offsets[rows + 1] - attributes.lists.offsets[rows]
    used, column = unique_in_order(attributes.lists.items[slot])
    weight = (1 / np.sqrt(number + 1)).astype(np.float32)[owner]
    if part != ALL:
        mine = slice(*np.searchsorted(owner, [part.start, part.stop]))
        owner, column, weight = owner[mine] - part.start, column[mine], weight[mine]
    shape = np.array([height, len(used)], np.int64)
    return SparseMatrix(np.stack([owner, column], axis=1), weight, shape), used.astype(np.int64)


def attribute_ridge(side: Profiles, ridge: float) -> Floats:
    """Divide the ridge on the offset of each attribute by the reviews that have it: one number per attribute."""
    lists, number = side.attributes.lists, max(side.attributes.number, 1)
    reviews = np.bincount(lists.items, np.repeat(side.counts, lists.lengths), number)
    return (ridge / np.maximum(reviews, 1)).astype(np.float32)


def whole_histories(side: Profiles, rows: Rows) -> tuple[HistorySums, SparseMatrix]:
    """Return the sums over the whole histories of rows [n], and the matrix that makes their vectors of them.

    The matrix [n, 3n] is for a table of n bases, n history sums and n levels.
    """
    nowhere, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    step = StepSide(side, rows, nowhere, nowhere, None, 0.0)
    no_partners = StepSide(side, rows[:0], nowhere, nowhere, None, 0.0)
    sums, history_size = sum_histories(step)
    leave_one_out = LeaveOneOut(step, no_partners, Targets(nothing, nothing), history_size, len(rows))
    return sums, leave_one_out.with_all_reviews()
