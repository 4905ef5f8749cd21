"""Sums over lists of rows as sparse matrices, worked out on the host: the device only multiplies them by tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, Rows

# splitmix64, a hash of 64-bit integers (Steele, Lea & Flood 2014), as signed numbers
GOLDEN = -7046029254386353131  # the step between seeds
SPLITMIX = ((30, -4658895280553007687), (27, -7723592293110705685))  # shift and factor of each round
TABLE_ROWS = 4  # rows of a lookup table per value up to which it finds distinct values faster than sorting does
FRACTIONS = 0x1000000  # 2^24: as many different shares as a float32 holds exactly


class SparseMatrix(NamedTuple):
    """A sparse matrix [R, C] of E entries; its product with a table [C, D] sums weighted rows of the table."""

    indices: Ints  # [E, 2] row and column of each entry; the rows ascend
    values: Floats  # [E]
    shape: Ints  # [2] R and C

    @classmethod
    def of_rows(cls, columns: Ints, weights: Floats, width: int) -> SparseMatrix:
        """Build from R rows of k entries each, given as columns and weights [R, k]; `width` is C."""
        rows, k = columns.shape
        indices = np.stack([np.repeat(np.arange(rows), k), columns.ravel()], axis=1)
        return cls(indices, weights.ravel().astype(np.float32), np.array([rows, width], np.int64))

    def with_empty_row(self) -> SparseMatrix:
        """Return the matrix with one more row below, of zeros."""
        return self._replace(shape=self.shape + np.array([1, 0]))

    @classmethod
    def selection(cls, rows: Array, height: int) -> SparseMatrix:
        """Build the matrix [n, height] whose product with a table of so many rows takes these rows [n] of it.

        It does what tf.gather does, but its gradient is a product as well.
        """
        return cls.of_rows(rows.astype(np.int64)[:, None], np.ones((len(rows), 1), np.float32), height)


def unique_in_order(values: Array) -> tuple[Array, Ints]:
    """Return the u distinct values [u] in the order in which they first come, and the position of each value [n] in it.

    unique_in_order([7, 3, 7]) is ([7, 3], [0, 1, 0]).
    """
    ascending, first, position = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return ascending[order], rank[position]


def unique_ascending(rows: Rows) -> tuple[Rows, Ints]:
    """Return the u distinct rows [u], ascending, and the position of each row [n] among them.

    Where the rows are not far apart a lookup table finds them, ten times as fast as sorting.
    """
    width = int(rows.max(initial=-1)) + 1
    if width > TABLE_ROWS * len(rows):
        ascending, position = np.unique(rows, return_inverse=True)
        return ascending, position
    occurs = np.zeros(width, np.bool_)
    occurs[rows] = True
    return np.flatnonzero(occurs).astype(rows.dtype), (np.cumsum(occurs) - 1)[rows]


def dropout_mask(slots: Ints, seed: int | None, dropout: float) -> Floats:
    """Return 1 for each slot [n] of a history that a step keeps, 0 for each one that it drops, and 0 for slot -1.

    A hash of slot and seed decides, so that all parts of a step agree on a review: leaving it out relies on that.
    `dropout` is the share to drop. Without a seed, outside of training, none is dropped.
    """
    in_history = slots >= 0
    if seed is None or dropout == 0:
        return in_history.astype(np.float32)
    return ((drawn_of(slots, seed) >= np.float32(dropout * FRACTIONS)) & in_history).astype(np.float32)


def drawn_of(places: Ints, seed: int) -> Floats:
    """Draw a whole number from 0 up to FRACTIONS for each place [n]: a hash of it and the seed."""
    with np.errstate(over="ignore"):  # the hash is arithmetic modulo 2^64
        start = np.array([seed % (1 << 64)], np.uint64).astype(np.int64)
        mixed = places.astype(np.int64) + start * np.int64(GOLDEN)
        for shift, factor in SPLITMIX:
            mixed = (mixed ^ (mixed >> np.int64(shift))) * np.int64(factor)
    return ((mixed >> np.int64(31)) & (FRACTIONS - 1)).astype(np.float32)


def entries_of(lists: Lists, rows: Rows) -> tuple[Ints, Ints]:
    """Return every item of the lists of rows [n] as a pair (owner [E], slot [E]).

    The owner is a position in `rows`, the slot is the position of the item in `lists.items`.
    """
    begin, length = lists.offsets[rows], lists.offsets[rows + 1] - lists.offsets[rows]
    owner = np.repeat(np.arange(len(rows)), length)
    before = np.cumsum(length) - length
    return owner, np.arange(len(owner)) + (begin - before)[owner]
