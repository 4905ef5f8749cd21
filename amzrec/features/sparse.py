"""Sums over lists of rows as sparse matrices, worked out on the host; the device only multiplies them by tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from amzrec.arrays import Array, Floats, Ints, Lists, Rows

SPLITMIX = ((30, -4658895280553007687), (27, -7723592293110705685))  # shifts and factors of splitmix64
GOLDEN = -7046029254386353131  # its step
TABLE = 4  # rows of a table per entry up to which it beats sorting
MANTISSA = 0x1000000  # 24 bits, what a float32 holds exactly


class SparseMatrix(NamedTuple):
    """A sparse matrix [R, C]: its product with a table [C, D] sums weighted rows of the table."""

    places: Ints  # [E, 2] row and column of each entry; rows ascending
    values: Floats  # [E]
    shape: Ints  # [2]

    @classmethod
    def of_rows(cls, columns: Ints, weights: Floats, width: int) -> SparseMatrix:
        """Build from rows of k entries each: columns and weights [R, k]; `width` is C."""
        rows, k = columns.shape
        places = np.stack([np.repeat(np.arange(rows), k), columns.ravel()], axis=1)
        return cls(places, weights.ravel().astype(np.float32), np.array([rows, width], np.int64))

    @classmethod
    def selection(cls, columns: Array, width: int) -> SparseMatrix:
        """Build the matrix that takes these rows [n] of a table: gather, with a product for its gradient."""
        return cls.of_rows(columns.astype(np.int64)[:, None], np.ones((len(columns), 1), np.float32), width)


def first_seen(values: Array) -> tuple[Array, Ints]:
    """The distinct values in the order in which they first come, and which of them each one is: [u], [n].

    first_seen([7, 3, 7]) is ([7, 3], [0, 1, 0]).
    """
    distinct, first, which = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[which]


def distinct(rows: Rows) -> tuple[Rows, Ints]:
    """The distinct rows, ascending, and which of them each one [E] is.

    Where the rows are not far apart a table finds them, ten times as fast as sorting.
    """
    width = int(rows.max(initial=-1)) + 1
    if width > TABLE * len(rows):
        found, which = np.unique(rows, return_inverse=True)
        return found, which
    there = np.zeros(width, np.bool_)
    there[rows] = True
    return np.flatnonzero(there).astype(rows.dtype), (np.cumsum(there) - 1)[rows]


def kept(slots: Ints, seed: int | None, dropout: float) -> Floats:
    """1 for the reviews at these slots that a step keeps in its histories, 0 for those it drops and for slot -1.

    A hash of slot and seed decides, so that a review gets one answer wherever it is asked for in a step: leaving it out
    relies on that. Without a seed, outside training, none is dropped.
    """
    listed = slots >= 0
    if seed is None or dropout == 0:
        return listed.astype(np.float32)
    with np.errstate(over="ignore"):  # the hash is arithmetic modulo 2^64
        start = np.array([seed % (1 << 64)], np.uint64).astype(np.int64)
        mixed = slots.astype(np.int64) + start * np.int64(GOLDEN)
        for shift, factor in SPLITMIX:
            mixed = (mixed ^ (mixed >> np.int64(shift))) * np.int64(factor)
    share = ((mixed >> np.int64(31)) & 0xFFFFFF).astype(np.float32)
    return ((share >= np.float32(dropout * MANTISSA)) & listed).astype(np.float32)


def listed(lists: Lists, rows: Rows) -> tuple[Ints, Ints]:
    """(owner [E], slot [E]) of every item of the lists of rows [n]: which of the rows has it, and where it stands."""
    begin, length = lists.offsets[rows], lists.offsets[rows + 1] - lists.offsets[rows]
    owner = np.repeat(np.arange(len(rows)), length)
    before = np.cumsum(length) - length
    return owner, np.arange(len(owner)) + (begin - before)[owner]
