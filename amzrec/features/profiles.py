"""What the fitted reviews say about each customer, or about each product: biases, histories, attributes."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, Rows, compact, offsets_of, positions
from amzrec.features.attributes import Attributes

CUSTOMER_BIAS_SHRINKAGE = 10.0  # reviews' worth of belief that a customer's stars are like all others
PRODUCT_BIAS_SHRINKAGE = 5.0  # reviews' worth of belief that a product's stars are like all others
NOT_LISTED = -1  # the slot of a review that the cap left out of a history


@dataclasses.dataclass(frozen=True)
class Biases:
    """Shrunk means of the values of each row: sum / (number of reviews with stars + shrinkage).

    The mean of all stars does not change when a review is left out, so a single review can be left out of a bias
    exactly: take its value off the sum and 1 off the number. Row 0 is the unknown one.
    """

    total: Floats  # [R + 1] sum of the values of the reviews with stars
    rated_count: Floats  # [R + 1] how many reviews have stars
    shrinkage: float  # in reviews

    @classmethod
    def of(cls, rows: Rows, value: Floats, rated: Floats, size: int, shrinkage: float) -> Biases:
        """Add up the values [n] of the reviews of rows [n]; `rated` [n] is 1 where there are stars, `size` is R + 1."""
        total, number = (np.bincount(rows, weights, size).astype(np.float32) for weights in (value, rated))
        return cls(total, number, shrinkage)

    @property
    def all(self) -> Floats:
        """Return the bias of every row, [R + 1]."""
        return (self.total / (self.rated_count + self.shrinkage)).astype(np.float32)

    def without(self, rows: Rows, value: Floats, rated: Floats) -> Floats:
        """Return the biases of rows [n] as they are without some of their reviews.

        `value` [n] is the sum of the values of the reviews that are left out, `rated` [n] how many of them have stars.
        """
        return (self.total[rows] - value) / (self.rated_count[rows] - rated + self.shrinkage)


@dataclasses.dataclass(frozen=True)
class Histories:
    """The reviews of each row as a list: which rows of the other side (the partners), and what the stars said.

    The residual is what the stars say beyond the bias of the partner. The bias of the row itself is subtracted only
    where a history is read, so that the review to be predicted can be left out of it exactly.
    """

    partners: Lists  # [R + 1] lists, one per row, of partner rows: S entries in all
    partner_vector: Rows  # [P + 1] the row of the trained tables that each partner reads
    residual: Floats  # [S] value − bias of the partner, 0 where there are no stars
    rated: Floats  # [S] 1 where there are stars, else 0
    slot: Array  # [n] the entry that each fitted review is; NOT_LISTED where the cap left it out

    @classmethod
    def of(cls, grouping: Grouping, partners: Rows, partner_vector: Rows, residual: Floats, rated: Floats) -> Histories:
        """Arrange reviews, given by aligned arrays [n], as a grouping of them says."""
        order = grouping.order
        lists = Lists(grouping.offsets, partners[order].astype(np.int32))
        return cls(lists, partner_vector, residual[order], compact(rated[order]), grouping.slot)


@dataclasses.dataclass(frozen=True)
class Grouping:
    """n reviews grouped by row, with a most number of reviews of each row."""

    offsets: Ints  # [R + 2] where the group of each row begins in `order`
    order: Ints  # [S] the reviews, row by row
    slot: Array  # [n] where each review stands in `order`; NOT_LISTED where it was left out

    @classmethod
    def capped(cls, rows: Rows, size: int, cap: int, rng: np.random.Generator) -> Grouping:
        """Draw at most `cap` reviews of each row at random; `rows` [n] are those of the reviews, `size` is R + 1."""
        shuffled = rng.permutation(len(rows))
        order = shuffled[np.argsort(rows[shuffled], kind="stable")]
        counts = np.bincount(rows, minlength=size)
        rank = np.arange(len(rows)) - offsets_of(counts)[rows[order]]
        order = order[rank < cap]
        slot = np.full(len(rows), NOT_LISTED, positions(len(rows)))
        slot[order] = np.arange(len(order))
        return cls(offsets_of(np.minimum(counts, cap)), order, slot)


@dataclasses.dataclass(frozen=True)
class Profiles:
    """All customers, or all products, as the fitted reviews show them; R of them, and row 0, the unknown one."""

    counts: Ints  # [R + 1] reviews of each
    vector_row: Rows  # [R + 1] the row of the trained tables that each reads: its own, or 0 with too few reviews
    biases: Biases
    histories: Histories
    attributes: Attributes

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def vectors(self) -> int:
        """Return how many rows the trained tables have: one for each with a vector of its own, and row 0."""
        return int(self.vector_row.max(initial=0)) + 1
