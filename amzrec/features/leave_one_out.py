"""The vectors of a batch as sparse matrices, each vector without the review that is to be predicted from it.

The vector of a customer or product is linear in what is learned,

    vector = base + [Σ bag + Σ (residual − own bias) · residual vector] / √(n + 1)          (Koren 2008, SVD++, eq. 15)

where the sums are over its n reviews, `bag` and `residual vector` are those of the review's partner (the row of the
other side), and the own bias is that of the row itself. So all vectors of a batch are one sparse matrix times one
table, and a review is left out by entries that subtract what it adds. For a side with n distinct rows, whose partners
in the batch are m rows, the table stacks

    base [bases] | history sums [n] | levels [n] | bags of the partners [m] | residual vectors of the partners [m]

where a history sum is Σ bag + Σ residual · residual vector, and a level is Σ residual vector over reviews with stars,
which the own bias multiplies. For example, a customer has two reviews, a and b, both without stars, and a is to be
predicted: its row of the matrix stands for 1 · base + (history sum − bag of a) / √(2 − 1 + 1), so it has the entries
1 for the base, 1/√2 for the history sum and −1/√2 for the bag of a.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from amzrec.arrays import Floats, Ints, Lists, Rows, offsets_of
from amzrec.features.columns import HistorySums
from amzrec.features.profiles import Profiles
from amzrec.features.sparse import FRACTIONS, SparseMatrix, drawn_of, dropout_mask, unique_ascending

ALL = slice(None)


@dataclasses.dataclass(frozen=True)
class StepSide:
    """The customers of a step, or its candidates: the distinct rows, which reviews are theirs, what is read of them."""

    profiles: Profiles
    rows: Rows  # [n] distinct
    row_of_review: Ints  # [B] position of each review's row among the distinct ones
    slot: Ints  # [B] where each review stands in the histories of this side
    seed: int | None  # of what this step drops from the histories; None: it drops nothing
    dropout: float  # share of the histories that is dropped
    budget: int | None = None  # most entries of histories that this step reads; None: all
    drawn: Windows | None = None  # the part of each history that this step reads, where that is drawn already
    among: Rows | None = None  # the distinct rows of the whole step, where this is a part of it
    place: slice | None = None  # where `rows` stand among them

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def windows(self) -> Windows:
        """The part of each history that this step reads."""
        return self.drawn or Windows.of(self.profiles.histories.partners, self.rows, self.budget, self.seed)

    def part(self, reviews: Ints | slice, rows: slice = ALL) -> StepSide:
        """Return the side for some of the reviews [b], and for the `rows` of theirs, as the whole step reads it."""
        return dataclasses.replace(
            self,
            rows=self.rows[rows],
            row_of_review=self.row_of_review[reviews] - (rows.start or 0),
            slot=self.slot[reviews],
            drawn=self.windows.part(rows),
            among=self.rows,
            place=rows,
        )

    def weight_in_history(self) -> Floats:
        """Return how often each review [B] stands for one in the histories as this step reads them; 0: it is not read.

        A review of a history of n of which k are read stands for n / k.
        """
        read = dropout_mask(self.slot, self.seed, self.dropout)
        return read if self.windows.whole else read * self.windows.weight_of(self.slot, self.row_of_review)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Which part of the history of each of n rows a step reads: k of its entries on end, the first following the last.

    Histories lie in a random order, so that k of n on end, from a place drawn anew in each step, are a random sample of
    them; no entry that is not read is looked at. Each entry that is read stands for n / k, so that a sum over them is
    in the mean the sum over all (Horvitz & Thompson 1952).
    """

    begin: Ints  # [n] where each history begins in the items of the lists
    length: Ints  # [n] its entries
    first: Ints  # [n] the first that is read, counted from `begin`
    number: Ints  # [n] how many are read
    whole: bool  # whether all of every history is read

    @classmethod
    def of(cls, lists: Lists, rows: Rows, budget: int | None, seed: int | None) -> Windows:
        """Draw the windows of rows [n] from the seed of the step: at most `budget` entries in all, at least 1 of each.

        Short histories are read whole, and what that leaves is shared equally by the others.
        """
        begin, length = lists.offsets[rows], lists.offsets[rows + 1] - lists.offsets[rows]
        if budget is None or seed is None or length.sum() <= budget:
            return cls(begin, length, np.zeros_like(length), length, True)
        number = np.minimum(length, most_of_each(length, budget))
        first = np.minimum((drawn_of(begin, ~seed) / FRACTIONS * length).astype(np.int64), np.maximum(length - 1, 0))
        return cls(begin, length, first, number, False)

    def part(self, rows: slice) -> Windows:
        """Return the windows of some of the rows."""
        return Windows(self.begin[rows], self.length[rows], self.first[rows], self.number[rows], self.whole)

    def entries(self) -> tuple[Ints, Ints]:
        """Return every entry that is read as a pair (owner [E], slot [E]), the owner a position among the rows."""
        owner = np.repeat(np.arange(len(self.number)), self.number)
        place = np.arange(len(owner)) - offsets_of(self.number)[owner]
        if self.whole:
            return owner, place + self.begin[owner]
        place += self.first[owner]
        place -= np.where(place >= self.length[owner], self.length[owner], 0)
        return owner, place + self.begin[owner]

    def weights(self) -> Floats:
        """Return what an entry of each row [n] stands for: n / k."""
        return (self.length / np.maximum(self.number, 1)).astype(np.float32)

    def weight_of(self, slot: Ints, row: Ints) -> Floats:
        """Return what each slot [B] of a history stands for, whose row is at position `row` [B]; 0: it is not read."""
        place = (slot - self.begin[row] - self.first[row]) % np.maximum(self.length[row], 1)
        return np.where(place < self.number[row], self.weights()[row], 0).astype(np.float32)


def most_of_each(length: Ints, budget: int) -> int:
    """Return how many entries at most each of n lists may give, so that all of them give at most `budget`; at least 1.

    For example, lists of 1, 2 and 9 entries and a budget of 9 give 1 + 2 + 6.
    """
    ascending = np.sort(length)
    left = budget - (
        np.cumsum(ascending) - ascending
    )  # for each list and all longer ones, where shorter ones are whole
    share = left // np.arange(len(length), 0, -1)
    return max(int(share[np.argmax(share < ascending)]), 1)


@dataclasses.dataclass(frozen=True)
class Targets:
    """The values of the reviews of a batch, which are to be predicted."""

    value: Floats  # [B] in model units
    rated: Floats  # [B] 1 where there are stars, else 0


def sum_histories(side: StepSide, other: StepSide | None = None) -> tuple[HistorySums, Floats]:
    """Sum the histories of the n rows of a side, without what this step drops.

    Returns the sums, and how many reviews of each row they stand for, [n]. A partner is always listed where the `other`
    side is given, as its gradient is wanted: TensorFlow has none of a product with a table without rows.
    """
    histories, windows, n = side.profiles.histories, side.windows, len(side)
    owner, slot = windows.entries()
    kept = dropout_mask(slot, side.seed, side.dropout) > 0
    owner, slot = owner[kept], slot[kept]
    partners, column = unique_ascending(histories.partner_vector[histories.partners.items[slot]])
    if not len(partners) and other is not None:
        partners = other.profiles.vector_row[other.rows[:1]]
    h, residual, rated = len(partners), histories.residual[slot], histories.rated[slot]
    one, size = np.ones_like(residual), np.bincount(owner, minlength=n).astype(np.float32)
    if not windows.whole:
        weight = windows.weights()
        one, size = weight[owner], size * weight
        residual, rated = residual * one, rated * one
    # each review adds a bag and a weighted residual vector to its history sum, and a residual vector to its level
    e = len(owner)
    indices, values = np.empty((3 * e, 2), np.int64), np.empty(3 * e, np.float32)
    level, bag, beside = slice(2 * e, None), slice(0, 2 * e, 2), slice(1, 2 * e, 2)
    indices[bag, 0], indices[beside, 0], indices[level, 0] = owner, owner, owner + n
    indices[bag, 1], indices[beside, 1], indices[level, 1] = column, column + h, column + h
    values[bag], values[beside], values[level] = one, residual, rated
    return HistorySums(partners, SparseMatrix(indices, values, np.array([2 * n, 2 * h], np.int64))), size


class LeaveOneOut:
    """Builds the sparse matrices whose products with the table of a side are vectors without their targets.

    The rows of the table are those that the docstring of this module lists.
    """

    def __init__(self, side: StepSide, partner: StepSide, targets: Targets, history_size: Floats, bases: int) -> None:
        """Lay out the table of a side.

        `history_size` [n] is how many reviews the history sums stand for, `bases` how many rows of the table come
        before the history sums.
        """
        self.side, self.targets, self.history_size = side, targets, history_size
        n, m = len(side), len(partner)
        self.sums, self.levels, self.bags, self.residuals = bases, bases + n, bases + 2 * n, bases + 2 * n + m
        self.width = bases + 2 * n + 2 * m
        self.partner_of_review = partner.row_of_review
        self.partner_bias = partner.profiles.biases.all[partner.rows][partner.row_of_review]  # [B]
        self.in_history = side.weight_in_history()  # [B]
        rows = side.rows[side.row_of_review]
        self.bias = side.profiles.biases.without(rows, targets.value * targets.rated, targets.rated)  # [B]

    def without_own_review(self, base: Ints, known: Floats) -> SparseMatrix:
        """Return the matrix [B, width] of the vector of each review's row without that review.

        `base` [B] is the row of the table that the vector starts from; where `known` [B] is 0 it has no history.
        """
        row = self.side.row_of_review
        scale = known / np.sqrt(self.history_size[row] - self.in_history + 1)
        history = self._history(base, row, scale, self.bias)
        target = self._targets(-scale * self.in_history, self.bias)
        columns = np.concatenate([history[0], target[0]], axis=1)
        weights = np.concatenate([history[1], target[1]], axis=1)
        return SparseMatrix.of_rows(columns, weights, self.width)

    def without_any_review(self, base: Ints, known: Floats) -> SparseMatrix:
        """Return the matrix [n, width] of the vector of each distinct row without any of its reviews in the batch.

        `base` [n] is the row of the table that the vector starts from; where `known` [n] is 0 it has no history.
        """
        n, row, targets = len(self.side), self.side.row_of_review, self.targets
        in_history, value, rated = (
            np.bincount(row, part, n).astype(np.float32)
            for part in (self.in_history, targets.value * targets.rated, targets.rated)
        )
        scale = known / np.sqrt(self.history_size - in_history + 1)
        bias = self.side.profiles.biases.without(self.side.rows, value, rated)
        history = self._history(base, np.arange(n), scale, bias)
        target = self._targets(-scale[row] * self.in_history, bias[row])
        owner = np.concatenate([np.repeat(np.arange(n), 3), np.repeat(row, 2)])
        column = np.concatenate([history[0].ravel(), target[0].ravel()])
        weight = np.concatenate([history[1].ravel(), target[1].ravel()])
        indices, values = sorted_by_row(np.stack([owner, column], axis=1), weight)
        return SparseMatrix(indices, values, np.array([n, self.width], np.int64))

    def with_all_reviews(self, first: int | None = None) -> SparseMatrix:
        """Return the matrix [n, width] of the vector of each distinct row with its whole history.

        The vector of row i starts from row i of the table. Only the `first` ones are made, if a number is given.
        """
        rows = np.arange(len(self.side) if first is None else first)
        bias = self.side.profiles.biases.all[self.side.rows[rows]]
        scale = (1 / np.sqrt(self.history_size[rows] + 1)).astype(np.float32)
        return SparseMatrix.of_rows(*self._history(rows, rows, scale, bias), self.width)

    def _history(self, base: Ints, row: Ints, scale: Floats, bias: Floats) -> tuple[Ints, Floats]:
        """Return columns and weights [·, 3] of base + (history sum − bias · level) · scale."""
        columns = np.stack([base, row + self.sums, row + self.levels], axis=1)
        return columns, np.stack([np.ones_like(scale), scale, -scale * bias], axis=1)

    def _targets(self, weight: Floats, bias: Floats) -> tuple[Ints, Floats]:
        """Return columns and weights [B, 2] of `weight` times what each review adds to a history.

        `bias` [B] is that of the row whose history it is.
        """
        columns = np.stack([self.partner_of_review + self.bags, self.partner_of_review + self.residuals], axis=1)
        residual = self.targets.rated * (self.targets.value - self.partner_bias - bias)
        return columns, np.stack([weight, weight * residual], axis=1)


def sorted_by_row(indices: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Sort the entries of a sparse matrix by row; those of one row stay in the order given."""
    order = np.argsort(indices[:, 0], kind="stable")
    return indices[order], values[order].astype(np.float32)
