"""From the reviews of a step to the columns that the towers and the losses read."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np

from amzrec.arrays import Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.attributes import Attributes
from amzrec.features.candidates import Candidates, negatives_of
from amzrec.features.columns import (
    HistoryColumns,
    HistorySums,
    IdColumns,
    PerQuery,
    RecentColumns,
    RetrievalColumns,
    ReviewColumns,
    RowColumns,
)
from amzrec.features.fitted import Fitted
from amzrec.features.leave_one_out import LeaveOneOut, StepSide, Targets, kept_histories
from amzrec.features.profiles import Profiles
from amzrec.features.sparse import SparseMatrix, first_seen, listed

SEEDS = 1_000_003  # between the seeds of the steps of two trainings with neighbouring seeds
LAST = {"sequence": 10, "recent": 20}  # products that an encoder of the order reads


class Draws(Protocol):
    """A source of random numbers that depend on nothing but what is asked."""

    def __call__(self, seed: int, stream: int, number: int) -> Floats:
        """Draw `number` times between 0 and 1; the same seed and stream give the same draws."""


@dataclasses.dataclass(frozen=True)
class Masking:
    """Which customers a step pretends not to know: half of the masked keep their history, half are nobody.

    So the unknown customer is trained (it learns what is popular), and so must a history alone suffice.
    """

    share: float  # of the customers that are masked

    def base(self, draw: Floats, which: Ints, customers: int) -> tuple[Ints, Floats]:
        """Rows of the bases (known U | by history U | nobody 1) for customers `which` [n] of U, and 1 where known."""
        nobody = draw < self.share / 2
        by_history = draw < self.share
        base = np.where(nobody, 2 * customers, which + np.where(by_history, customers, 0))
        return base, 1 - nobody.astype(np.float32)


class Asked(NamedTuple):
    """Who asks the retrieval loss: V query vectors, and which of them each review reads."""

    customer: Rows  # [V] customer rows
    which: Ints  # [B]


class Steps:
    """Makes the columns of a step from the positions of its reviews; what all kinds of towers share."""

    def __init__(self, fitted: Fitted, recipe: Recipe, draws: Draws) -> None:
        self.fitted, self.recipe, self.draws = fitted, recipe, draws
        self.masking, self.negatives = Masking(recipe.mask), negatives_of(fitted, recipe)
        active = np.maximum(fitted.customers.counts, 1).astype(np.float32)
        self.customer_weight = active**-recipe.equal_customers
        self.candidate_place = np.full(len(fitted.products), -1, np.int64)

    def columns(self, drawn: Ints, number: int) -> dict[str, Any]:
        """The columns of step `number` (counted through all epochs from 0), whose reviews are `drawn` [B]."""
        raise NotImplementedError

    def seed(self, number: int) -> int:
        """The seed of what step `number` draws and drops on the side of the customers; + 1 is that of the products."""
        return number * 2 + self.recipe.seed * SEEDS

    def reviews(self, drawn: Ints) -> ReviewColumns:
        """What is true of the reviews, whatever the towers are."""
        fitted = self.fitted
        return ReviewColumns(fitted.value[drawn], fitted.rated[drawn], fitted.own_trend[drawn])

    def retrieval(self, drawn: Ints, candidates: Candidates, asked: Asked) -> RetrievalColumns:
        """What the retrieval loss asks: each query vector once for each period in which its reviews were written."""
        fitted, periods = self.fitted, self.fitted.popularity.periods
        key, query = first_seen(asked.which * periods + fitted.period[drawn])
        whose, order = key // periods, np.argsort(query, kind="stable")
        return RetrievalColumns(
            own_query=SparseMatrix.selection(asked.which, len(asked.customer)),
            whose=whose,
            period=(key % periods).astype(np.int32),
            order=order,
            positives=PerQuery.of(query[order], candidates.place[order], len(key)),
            place=candidates.place,
            own_log_share=fitted.own_log_share[drawn],
            weight=self.customer_weight[fitted.customer[drawn]],
            rows=candidates.rows,
            bias=candidates.bias,
            hidden=self.hidden(asked.customer[whose], candidates.rows),
        )

    def hidden(self, customer: Rows, candidates: Rows) -> PerQuery:
        """Which of the candidates each customer [Q] reviewed."""
        if not self.recipe.mask_positives:
            return PerQuery.of(np.zeros(0, np.int64), np.zeros(0, np.int64), len(customer))
        partners = self.fitted.customers.histories.partners
        owner, slot = listed(partners, customer)
        self.candidate_place[candidates] = np.arange(len(candidates))
        place = self.candidate_place[partners.items[slot]]
        self.candidate_place[candidates] = -1
        there = place >= 0
        return PerQuery.of(owner[there], place[there], len(customer))


class IdSteps(Steps):
    """For towers of ids alone."""

    def columns(self, drawn: Ints, number: int) -> dict[str, Any]:
        """See Steps.columns."""
        fitted = self.fitted
        customer, product = fitted.customer[drawn], fitted.product[drawn]
        candidates = self.negatives.of(product)
        masked = self.draws(self.seed(number), 1, len(drawn)) < self.recipe.mask
        towers = IdColumns(
            customer=fitted.customers.vector_row[np.where(masked, 0, customer)],
            product=fitted.products.vector_row[product],
            candidates=fitted.products.vector_row[candidates.rows],
        )
        found: dict[str, Any] = {"reviews": self.reviews(drawn), "towers": towers}
        if self.recipe.retrieval_weight > 0:
            found["retrieval"] = self.retrieval(drawn, candidates, Asked(customer, np.arange(len(drawn))))
        return found


class HistorySteps(Steps):
    """For towers with histories."""

    def __init__(self, fitted: Fitted, recipe: Recipe, draws: Draws) -> None:
        super().__init__(fitted, recipe, draws)
        self.sides = fitted.customers, fitted.products
        self.rarity = [(1 + recipe.l2_rare / np.maximum(side.counts, 1)).astype(np.float32) for side in self.sides]
        self.scarcity = [scarcity(side, recipe.l2_rare) for side in self.sides]
        # one query for all reviews of a customer in a batch, without any of them: far fewer rows of logits
        self.one_query = "retrieval" in recipe.tasks and recipe.retrieval_loss == "softmax" and recipe.history == "bag"

    def columns(self, drawn: Ints, number: int) -> dict[str, Any]:
        """See Steps.columns."""
        fitted, recipe, seed = self.fitted, self.recipe, self.seed(number)
        customer, product = fitted.customer[drawn], fitted.product[drawn]
        candidates = self.negatives.of(product)
        rows, which = first_seen(customer)
        slots = fitted.customers.histories.slot[drawn], fitted.products.histories.slot[drawn]
        left = StepSide(fitted.customers, rows, which, slots[0], seed, recipe.history_dropout)
        right = StepSide(fitted.products, candidates.rows, candidates.place, slots[1], seed + 1, recipe.history_dropout)
        towers = self.towers(drawn, left, right)
        found: dict[str, Any] = {"reviews": self.reviews(drawn), "towers": towers}
        if recipe.history != "bag":
            known = self.masking.base(self.draws(seed, 1, len(drawn)), which, len(rows))[1]
            found["recent"] = recent_columns(fitted, customer, fitted.order_slot[drawn], known, LAST[recipe.history])
        if recipe.retrieval_weight > 0:
            asked = Asked(rows, which) if self.one_query else Asked(customer, np.arange(len(drawn)))
            found["retrieval"] = self.retrieval(drawn, candidates, asked)
        return found

    def towers(self, drawn: Ints, left: StepSide, right: StepSide) -> HistoryColumns:
        """The columns of both towers: `left` are the customers of the step, `right` its candidates."""
        targets = Targets(self.fitted.value[drawn], self.fitted.rated[drawn])
        (customer_sums, customer_size), (product_sums, product_size) = kept_histories(left), kept_histories(right)
        u, m = len(left), len(right)
        query = LeaveOneOut(left, right, targets, customer_size, 2 * u + 1)
        candidate = LeaveOneOut(right, left, targets, product_size, m)
        base, known = self.masking.base(self.draws(left.seed or 0, 1, len(drawn)), left.which, u)
        x = query.reviews(base, known)
        queries = x
        if self.recipe.history == "recent":
            by_history = self.masking.base(np.full(len(drawn), 1.0, np.float32), left.which, u)[0] + u
            queries = SparseMatrix.of_rows(by_history[:, None], np.ones((len(drawn), 1), np.float32), query.width)
        elif self.one_query:
            queries = query.rows(*self.masking.base(self.draws(left.seed or 0, 2, u), np.arange(u), u))
        sides = [row_columns(side.profiles, side.rows) for side in (left, right)]
        penalty = [self.row_penalty(side, number) for number, side in enumerate((left, right))]
        return HistoryColumns(
            customers=sides[0],
            products=sides[1],
            customer_sums=customer_sums,
            product_sums=product_sums,
            queries=queries,
            x=x,
            y=candidate.reviews(right.which, np.ones(len(drawn), np.float32)),
            candidates=candidate.whole(),
            customer=left.which,
            product=right.which,
            customer_bias=query.bias * known,
            product_bias=candidate.bias,
            customer_penalty=self.table_penalty(penalty[0], penalty[1], u + 1 + 2 * u),
            product_penalty=self.table_penalty(penalty[1], penalty[0], 2 * m),
            customer_word_penalty=self.word_penalty(left, sides[0], 0),
            product_word_penalty=self.word_penalty(right, sides[1], 1),
        )

    def row_penalty(self, side: StepSide, number: int) -> Floats:
        """Weight [n] of the squared vectors of each row: its share of the batch, and more where it has few reviews."""
        times = np.bincount(side.which, minlength=len(side)).astype(np.float32)
        weight: Floats = times * self.rarity[number][side.rows] / times.sum()
        return weight

    def table_penalty(self, own: Floats, partner: Floats, between: int) -> Floats:
        """Weights of the squared rows of a table: bases, `between` rows without a penalty, bags, residual vectors."""
        recipe = self.recipe
        rest = np.zeros(between, np.float32)
        return np.concatenate([recipe.l2 * own, rest, recipe.l2_history * partner, recipe.l2_history * partner])

    def word_penalty(self, side: StepSide, columns: RowColumns, number: int) -> Floats:
        """Weight [a] of the squared bias of each attribute: a ridge of `l2_rare` on each, per review that has it."""
        if not self.scarcity[number].any() or "rating" not in self.recipe.tasks:
            return np.zeros(len(columns.attributes), np.float32)
        times = np.bincount(side.which, minlength=len(side))
        attribute = columns.words.places[:, 1]
        count = np.bincount(attribute, times[columns.words.places[:, 0]], len(columns.attributes))
        return (self.scarcity[number][columns.attributes] * count / len(side.which)).astype(np.float32)


def row_columns(side: Profiles, rows: Rows) -> RowColumns:
    """What rows [n] of one side are before their histories."""
    return RowColumns(rows, side.vector_row[rows], *words_of(side.attributes, rows))


def words_of(attributes: Attributes, rows: Rows) -> tuple[SparseMatrix, Ints]:
    """The matrix [n, a] that sums the features and title words of rows [n], and which attributes these a are.

    Where there are none, one attribute that no row has stands in.
    """
    if attributes.number == 0:
        nothing = np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
        return SparseMatrix(*nothing, np.array([len(rows), 1], np.int64)), np.zeros(1, np.int64)
    owner, slot = listed(attributes.lists, rows)
    number = attributes.lists.offsets[rows + 1] - attributes.lists.offsets[rows]
    used, column = first_seen(attributes.lists.items[slot])
    weight = (1 / np.sqrt(number + 1)).astype(np.float32)[owner]
    shape = np.array([len(rows), len(used)], np.int64)
    return SparseMatrix(np.stack([owner, column], axis=1), weight, shape), used.astype(np.int64)


def scarcity(side: Profiles, ridge: float) -> Floats:
    """The ridge on the bias of each attribute, divided by the reviews that have it."""
    lists, number = side.attributes.lists, max(side.attributes.number, 1)
    reviews = np.bincount(lists.items, np.repeat(side.counts, lists.lengths), number)
    return (ridge / np.maximum(reviews, 1)).astype(np.float32)


def recent_columns(fitted: Fitted, customer: Rows, end: Ints, known: Floats, last: int) -> RecentColumns:
    """The last products of customers [B] that stand in their order before `end` [B]; none of an unknown customer."""
    place = np.maximum(fitted.order.offsets[customer], end - last)[:, None] + np.arange(last)
    there = (place < end[:, None]) & (known > 0)[:, None]
    items = fitted.order.items
    age = np.where(there, end[:, None] - 1 - place, 0)
    return RecentColumns(items[np.where(there, place, 0)].astype(np.int64), there, age)


def whole_histories(side: Profiles, rows: Rows) -> tuple[HistorySums, SparseMatrix]:
    """The sums over the whole histories of rows [n], and the matrix [n, 3n] from bases, sums and levels to vectors."""
    nowhere, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    step = StepSide(side, rows, nowhere, nowhere, None, 0.0)
    nobody = StepSide(side, rows[:0], nowhere, nowhere, None, 0.0)
    sums, size = kept_histories(step)
    return sums, LeaveOneOut(step, nobody, Targets(nothing, nothing), size, len(rows)).whole()
