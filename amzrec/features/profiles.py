"""What the fitted reviews say about each customer, or about each product."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Floats, Ints, Lists, Rows, offsets_of
from amzrec.features.attributes import Attributes

SHRINK_CUSTOMER = 10.0  # reviews' worth of belief in the mean, for a customer's bias
SHRINK_PRODUCT = 5.0  # and for a product's
NOT_LISTED = -1  # the slot of a review that the cap left out of a history


@dataclasses.dataclass(frozen=True)
class Biases:
    """Shrunk means of the values of each row: sum / (number of rated reviews + shrink). Row 0 is the unknown one.

    The mean of all stars is frozen, so that a single review can be left out exactly: take its value off the sum and 1
    off the number.
    """

    total: Floats  # [R + 1] sum of the values of the rated reviews
    rated: Floats  # [R + 1] how many are rated
    shrink: float  # reviews

    @classmethod
    def of(cls, rows: Rows, value: Floats, rated: Floats, size: int, shrink: float) -> Biases:
        """Add up the values [n] of the rated reviews (rated 1, else 0) of rows [n]; `size` is R + 1."""
        total, number = (np.bincount(rows, weights, size).astype(np.float32) for weights in (value, rated))
        return cls(total, number, shrink)

    @property
    def all(self) -> Floats:
        """The bias of every row, [R + 1]."""
        return (self.total / (self.rated + self.shrink)).astype(np.float32)

    def without(self, rows: Rows, value: Floats, rated: Floats) -> Floats:
        """The biases of rows [n] without reviews of these values [n]; `rated` [n] is how many reviews are left out."""
        return (self.total[rows] - value) / (self.rated[rows] - rated + self.shrink)


@dataclasses.dataclass(frozen=True)
class Histories:
    """The reviews of each row: the other side's rows (its partners), and what the stars said beyond their biases.

    The bias of the row itself is subtracted where a history is read, so that the target review can be left out exactly.
    """

    partners: Lists  # [R + 1] lists of partner rows, S entries
    residual: Floats  # [S] value − bias of the partner, 0 where there are no stars
    rated: Floats  # [S] 1 where there are stars, else 0
    slot: Ints  # [n] where each fitted review stands among the entries, NOT_LISTED where the cap left it out

    @classmethod
    def of(cls, grouping: Grouping, partners: Rows, residual: Floats, rated: Floats) -> Histories:
        """Arrange aligned reviews [n] by a grouping of them."""
        order = grouping.order
        lists = Lists(grouping.offsets, partners[order].astype(np.int32))
        return cls(lists, residual[order], rated[order], grouping.slot)


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Reviews grouped by row, at most so many of each."""

    offsets: Ints  # [R + 2]
    order: Ints  # [S] the reviews, row by row
    slot: Ints  # [n] where each review stands in `order`, NOT_LISTED where it was left out

    @classmethod
    def capped(cls, rows: Rows, size: int, cap: int, rng: np.random.Generator) -> Grouping:
        """Draw at most `cap` reviews of each row at random; `rows` [n], `size` is R + 1."""
        shuffled = rng.permutation(len(rows))
        order = shuffled[np.argsort(rows[shuffled], kind="stable")]
        counts = np.bincount(rows, minlength=size)
        rank = np.arange(len(rows)) - offsets_of(counts)[rows[order]]
        order = order[rank < cap]
        slot = np.full(len(rows), NOT_LISTED, np.int64)
        slot[order] = np.arange(len(order))
        return cls(offsets_of(np.minimum(counts, cap)), order, slot)


@dataclasses.dataclass(frozen=True)
class Profiles:
    """All customers, or all products, as the fitted reviews show them."""

    counts: Ints  # [R + 1] reviews
    vector_row: Rows  # [R + 1] whose embedding a row reads: its own, or that of row 0 where it has too few reviews
    biases: Biases
    histories: Histories
    attributes: Attributes

    def __len__(self) -> int:
        return len(self.counts)
