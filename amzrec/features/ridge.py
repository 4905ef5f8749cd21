"""What attributes say of the rows that have them: a ridge regression of a table on its attributes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from amzrec.answers.folding import sums
from amzrec.arrays import Array, Floats, Lists
from amzrec.features.attributes import Attributes

STEPS, ENOUGH = 100, 1e-5  # of conjugate gradients: most of them, and the relative rest at which they end
RARE = 30.0  # reviews above which a row says little more, and what holds the attributes down
TINY = np.finfo(np.float32).tiny

Sum = Callable[[Floats], Floats]


def mean_of(table: Floats, worth: Array) -> Floats:
    """Return the mean row [d] of a table [R, d], each row weighing its worth [R]; all the same where none has any."""
    return np.average(table, axis=0, weights=worth if worth.any() else None).astype(np.float32)


def worth_of(counts: Array, ridge: float) -> Floats:
    """Return what rows of c reviews [R] weigh: c · ridge / (c + ridge), so that none counts for more than `ridge`."""
    return np.asarray(counts * ridge / (counts + ridge), np.float32)


def said_by_attributes(said: Sum, back: Sum, table: Floats, worth: Floats, ridge: float) -> Floats:
    """Return what the attributes of each of R rows say its row of `table` [R, d] is; the mean for a row without any.

    `said` adds up a table of the attributes [A, d] for each row, [R, d], each attribute weighing 1 / √(1 + attributes
    of the row), and `back`, its transpose, a table of the rows [R, d] for each attribute, [A, d]. A row weighs its
    `worth` [R]; `ridge` is what holds the attributes down. Gantner et al. 2010, Learning attribute-to-feature mappings
    for cold-start recommendations; solved by conjugate gradients, a column of the table at a time, all together.
    """
    mean, times = mean_of(table, worth), worth[:, None]
    rest = back(times * (table - mean))
    found, toward = np.zeros_like(rest), rest
    size = first = np.square(rest).sum(axis=0)
    for _ in range(STEPS):
        if np.max(size / np.maximum(first, TINY), initial=0) < ENOUGH**2:
            break
        image = back(times * said(toward)) + ridge * toward
        step = size / np.maximum((toward * image).sum(axis=0), TINY)
        found, rest, before = found + step * toward, rest - step * image, size
        size = np.square(rest).sum(axis=0)
        toward = rest + size / np.maximum(before, TINY) * toward
    return np.asarray(said(found) + mean, np.float32)


def by_attributes(attributes: Attributes, counts: Array, table: Floats, ridge: float) -> Floats:
    """Return what the attributes of each of R rows say its row of the table [R, d] is; the mean without any.

    See `said_by_attributes`, here without TensorFlow; `counts` [R] are reviews, and rows without reviews say nothing.
    """
    worth = worth_of(counts, ridge)
    lists, number = attributes.lists, attributes.number
    if not number or not len(table):
        return np.tile(mean_of(table, worth), (len(table), 1))
    weight = (1 / np.sqrt(lists.lengths + 1.0)).astype(np.float32)[:, None]
    back = Lists.of(lists.items, lists.owners, number)
    return said_by_attributes(
        lambda of_attributes: weight * summed(of_attributes, lists),
        lambda of_rows: summed(weight * of_rows, back),
        table,
        worth,
        ridge,
    )


def summed(table: Array, lists: Lists) -> Floats:
    """Add up the rows of a table that each of n lists names, [n, d]; 0 for an empty list."""
    return sums(table[lists.items], lists).astype(np.float32)
